"""The running app under many simulated users: sliders, tabs, clicks, evaluations, abrupt departures.

Speaks the page's own protocol (configuration, queue, event stream) over HTTP, as a browser does, without drawing
anything. Each user has an address of their own, keeps moving a slider to values of their own, and checks that what
comes back is the answer to their own question. Abusers take what they can get meanwhile (see `abuser`). Only ever talks
to this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import random
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from neuromerge.benchmarks.abuser import Abuser
from neuromerge.benchmarks.browser import free_port, percentile, running_app
from neuromerge.benchmarks.clients import PATIENCE_S, Client, Record, forwarded

ORTHOGONAL = "neuromerging-lambda-orthogonal"
MAX_USERS, MAX_MINUTES, EVERY_S = 256, 240, 15


def user(address: str, number: int, until: float, record: Record) -> None:
    """One visitor after another at the same place: each opens the page, works, and goes."""
    dice = random.Random(number)
    for visit in itertools.count():
        if time.monotonic() > until:
            return
        try:
            visit_once(address, dice, until, record, leaves_abruptly=visit % 3 == 2)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong for a visitor is what this command reports
            record.failed(f"{type(error).__name__}: {error}")
            time.sleep(1)


def visit_once(address: str, dice: random.Random, until: float, record: Record, *, leaves_abruptly: bool) -> None:
    """Open the page, move a slider some twenty times, look at the tabs, and leave."""
    client = Client(address, forwarded(f"user {dice.random()}"))
    with contextlib.closing(client):
        clock(record, "open the page: all that follows", client.load)
        record.took("open the page: score", client.seconds_until("readout") or 0.0)
        for _ in range(20):
            if time.monotonic() > until:
                return
            value = round(dice.uniform(0.05, 4.95), 2)
            clock(record, "move lambda: all that follows", functools.partial(client.move, ORTHOGONAL, value))
            quick, last = client.seconds_until("readout"), client.seconds_until_last("readout")
            told = re.search(r"λ₂ \(orthogonal\) ([\d.]+)", str(client.value("readout")))
            if told is None or abs(float(told.group(1)) - value) > 0.006:
                with record.lock:
                    record.crossed += 1
            elif quick is not None:
                record.took("move lambda: quick answer", quick)
                record.took("move lambda: last answer", last or quick)
            if dice.random() < 0.3:
                tab = dice.choice(client.tabs)
                note(record, f"open {tab}", client.fire(tab, "select"))
                record.took(f"open {tab}", client.seconds_of(tab, "select"))
            if dice.random() < 0.1:
                cell = {"source": "orthogonal", "row": dice.randrange(1, 5), "column": dice.randrange(6)}
                clock(record, "open a cell", functools.partial(client.fire, "interference", "cell", cell))
            if dice.random() < 0.02:
                clock(record, "export", functools.partial(client.fire, "make-checkpoint", "click"))
            time.sleep(dice.uniform(0.1, 0.5))
        if leaves_abruptly:
            client.move_and_leave(ORTHOGONAL, round(dice.uniform(0.05, 4.95), 2))


def clock(record: Record, what: str, act: Callable[[], list[str]]) -> None:
    """Run one action and note how long it took and what went wrong."""
    begun = time.perf_counter()
    note(record, what, act())
    record.took(what, time.perf_counter() - begun)


def note(record: Record, what: str, problems: list[str]) -> None:
    """Note what went wrong in an action."""
    for problem in problems:
        record.failed(f"{what}: {problem}")


def memory_of(process_id: int) -> float:
    """Resident memory of a process and its children, in MB."""
    import psutil

    process = psutil.Process(process_id)
    return float(sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 2**20)


def files_of(process_id: int) -> int:
    """Bytes of the temporary files that a server keeps: uploads and exports."""
    import psutil

    folder = Path(psutil.Process(process_id).environ().get("NEUROMERGE_TEMPORARY") or tempfile.gettempdir())
    return sum(file.stat().st_size for file in folder.glob("neuromerge-*/**/*") if file.is_file())


def around(sizes: list[float], place: int) -> float:
    """The median of the two minutes around a measurement (before it, at the end): single ones vary by some percent."""
    reach = 60 // EVERY_S
    place = min(place, len(sizes) - 1 - reach)
    return statistics.median(sizes[max(0, place - reach) : place + reach + 1])


def main(argv: list[str]) -> int:
    """Drive the app with simulated users and print latencies, errors and memory."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks load", description=__doc__)
    parser.add_argument("--users", type=int, default=8, metavar="N", help=f"at the same time (1 to {MAX_USERS}; 8)")
    parser.add_argument("--abusers", type=int, default=0, metavar="N", help="clients that attack meanwhile (0)")
    parser.add_argument("--minutes", type=float, default=2, metavar="M", help=f"how long (up to {MAX_MINUTES}; 2)")
    options = parser.parse_args(argv)
    if not 1 <= options.users <= MAX_USERS or not 0 < options.minutes <= MAX_MINUTES:
        parser.error(f"--users must be 1 to {MAX_USERS}, --minutes above 0 and up to {MAX_MINUTES}")
    record = Record()
    with running_app(free_port()) as (address, seconds, process):
        print(
            f"server up after {seconds:.1f} s; {options.users} users and {options.abusers} abusers for "
            f"{options.minutes:g} minutes",
            flush=True,
        )
        until = time.monotonic() + 60 * options.minutes
        crowd = [
            threading.Thread(target=user, args=(address, number, until, record), daemon=True)
            for number in range(options.users)
        ]
        abusers = [Abuser(address, number, record) for number in range(options.abusers)]
        crowd += [threading.Thread(target=abuser.run, args=(until,), daemon=True) for abuser in abusers]
        for thread in crowd:
            thread.start()
        sizes: list[float] = []
        while time.monotonic() < until:
            time.sleep(min(EVERY_S, max(0.1, until - time.monotonic())))
            sizes.append(memory_of(process.pid))
            files = files_of(process.pid) / 2**20
            print(f"  memory {sizes[-1]:7.0f} MB, files {files:6.0f} MB, errors {len(record.errors)}", flush=True)
        for thread in crowd:
            thread.join(PATIENCE_S)
    early, late = around(sizes, 300 // EVERY_S), around(sizes, len(sizes) - 1)
    print(f"\nmemory at the end {late:.0f} MB, {100 * (late / early - 1):+.1f} % against minute 5 (or the end)")
    print(f"{'':42s}{'median':>9s}{'p95':>9s}{'p99':>9s}{'max':>9s}    n")
    for what, values in sorted(record.seconds.items()):
        print(
            f"{what:42s}{percentile(values, 0.5):8.2f}s{percentile(values, 0.95):8.2f}s{percentile(values, 0.99):8.2f}s"
            f"{max(values):8.2f}s"
            f"{len(values):5d}"
        )
    for number, abuser in enumerate(abusers):
        told = ", ".join(f"{count} x {status}" for status, count in sorted(abuser.answers.items()))
        print(f"abuser {number} was answered {told}")
    print(f"\nerrors: {len(record.errors)}; answers to another setting than one's own: {record.crossed}")
    for text in dict.fromkeys(record.errors):
        print(f"  {record.errors.count(text)} x {text}")
    return 1 if record.errors or record.crossed else 0
