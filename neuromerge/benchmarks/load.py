"""The running app under many simulated users: sliders, tabs, clicks, evaluations, abrupt departures.

Speaks the page's own protocol (configuration, queue, event stream) over HTTP, as a browser does, without drawing
anything. Each user keeps moving a slider to values of their own and checks that what comes back is the answer to
their own question. Only ever talks to this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import re
import threading
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from neuromerge.benchmarks.browser import free_port, percentile, running_app

ORTHOGONAL = "neuromerging-lambda-orthogonal"
TABS = ("merge", "interference", "neuron", "zero-shot", "export")
PATIENCE_S = 60
MAX_USERS, MAX_MINUTES = 256, 240


@dataclass
class Record:
    """What all users saw, together. Thread-safe."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)
    crossed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def took(self, what: str, seconds: float) -> None:
        """Note one latency."""
        with self.lock:
            self.seconds[what].append(seconds)

    def failed(self, what: str) -> None:
        """Note one error."""
        with self.lock:
            self.errors.append(what[:300])


class Client:
    """One page: its components' values, and events sent as a browser sends them."""

    def __init__(self, address: str) -> None:
        import httpx

        self.http = httpx.Client(base_url=address, timeout=PATIENCE_S)
        self.config = self.http.get("/config").raise_for_status().json()
        self.page = uuid.uuid4().hex[:11]
        self.values = {entry["id"]: entry["props"].get("value") for entry in self.config["components"]}
        self.ids = {
            entry["props"]["elem_id"]: entry["id"]
            for entry in self.config["components"]
            if entry["props"].get("elem_id")
        }
        self.events = self.config["dependencies"]
        self.first_answer = 0.0  # seconds until what an event asks for at once was there

    def load(self) -> list[str]:
        """Open the page: what a browser asks for at once."""
        root = [event for event in self.events if any(name == "load" for _, name in event["targets"])]
        return self._run(root, None, None)

    def fire(self, element: str, name: str, data: Any = None) -> list[str]:
        """Send an event of the component with that element id, and all that follow from it; their messages."""
        target = self.ids[element]
        return self._run([e for e in self.events if [target, name] in [list(t) for t in e["targets"]]], target, data)

    def fire_and_leave(self, element: str, name: str) -> None:
        """Send an event and go without waiting for its answer, as a closed lid does."""
        target = self.ids[element]
        for event in self.events:
            if [target, name] in [list(t) for t in event["targets"]] and event["backend_fn"]:
                self._join(event, target, None)
                break
        self.http.close()

    def value(self, element: str) -> Any:
        """What a component shows."""
        return self.values[self.ids[element]]

    def _run(self, events: list[dict[str, Any]], target: int | None, data: Any) -> list[str]:
        problems: list[str] = []
        begun = time.perf_counter()
        waiting = {self._join(event, target, data): event for event in events if event["backend_fn"]}
        self.first_answer = 0.0
        while waiting:
            done = self._listen(waiting, problems)
            self.first_answer = self.first_answer or time.perf_counter() - begun
            after = [e for e in self.events if e.get("trigger_after") in done and e["backend_fn"]]
            waiting = {self._join(event, target, data): event for event in after}
        return problems

    def _join(self, event: dict[str, Any], target: int | None, data: Any) -> str:
        body = {
            "data": [self.values.get(place) for place in event["inputs"]],
            "fn_index": event["id"],
            "session_hash": self.page,
            "trigger_id": target,
            "event_data": data,
        }
        answer = self.http.post("/gradio_api/queue/join", json=body)
        if answer.status_code != 200:
            raise RuntimeError(f"queue/join answered {answer.status_code}: {answer.text[:200]}")
        return str(answer.json()["event_id"])

    def _listen(self, waiting: dict[str, dict[str, Any]], problems: list[str]) -> set[int]:
        left = dict(waiting)
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.page}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                event = left.get(message.get("event_id", ""))
                if message["msg"] == "log" and message.get("level") == "warning":
                    problems.append(message["log"])
                if event is None:
                    continue
                if message["msg"] == "process_completed":
                    del left[message["event_id"]]
                    if message.get("success"):
                        self._take(event, message["output"]["data"])
                    else:
                        problems.append(str(message["output"].get("error") or "a handler failed"))
                if not left:
                    break
        return {event["id"] for event in waiting.values()}

    def _take(self, event: dict[str, Any], data: list[Any]) -> None:
        for place, value in zip(event["outputs"], data, strict=False):
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "value" in value:
                    self.values[place] = value["value"]
            else:
                self.values[place] = value


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
    client = Client(address)
    with contextlib.closing(client.http):
        clock(record, "open the page", client.load)
        client.values[client.ids[f"{ORTHOGONAL}-auto"]] = False
        for _ in range(20):
            if time.monotonic() > until:
                return
            value = round(dice.uniform(0.05, 4.95), 2)
            client.values[client.ids[ORTHOGONAL]] = value
            clock(record, "move lambda: whole split", lambda: client.fire(ORTHOGONAL, "input"))
            record.took("move lambda: quick answer", client.first_answer)
            told = re.search(r"lambda_orthogonal ([\d.]+)", str(client.value("readout")))
            if told is None or abs(float(told.group(1)) - value) > 0.006:
                with record.lock:
                    record.crossed += 1
            if dice.random() < 0.3:
                tab = dice.choice(TABS)
                clock(record, f"open {tab}", lambda tab=tab: client.fire(f"tab-{tab}", "select"))
            if dice.random() < 0.1:
                cell = {"source": "orthogonal", "row": dice.randrange(1, 5), "column": dice.randrange(6)}
                clock(record, "open a cell", lambda cell=cell: client.fire("interference", "cell", cell))
            if dice.random() < 0.02:
                clock(record, "export", lambda: client.fire("make-checkpoint", "click"))
            time.sleep(dice.uniform(0.1, 0.5))
        if leaves_abruptly:
            client.fire_and_leave(ORTHOGONAL, "input")


def clock(record: Record, what: str, act: Any) -> None:
    """Run one action and note how long it took and what went wrong."""
    begun = time.perf_counter()
    problems = act()
    record.took(what, time.perf_counter() - begun)
    for problem in problems:
        record.failed(f"{what}: {problem}")


def memory_of(process_id: int) -> float:
    """Resident memory of a process and its children, in MB."""
    import psutil

    process = psutil.Process(process_id)
    return float(sum(p.memory_info().rss for p in (process, *process.children(recursive=True))) / 2**20)


def main(argv: list[str]) -> int:
    """Drive the app with simulated users and print latencies, errors and memory."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks load", description=__doc__)
    parser.add_argument("--users", type=int, default=8, metavar="N", help=f"at the same time (1 to {MAX_USERS}; 8)")
    parser.add_argument("--minutes", type=float, default=2, metavar="M", help=f"how long (up to {MAX_MINUTES}; 2)")
    options = parser.parse_args(argv)
    if not 1 <= options.users <= MAX_USERS or not 0 < options.minutes <= MAX_MINUTES:
        parser.error(f"--users must be 1 to {MAX_USERS}, --minutes above 0 and up to {MAX_MINUTES}")
    record = Record()
    with running_app(free_port()) as (address, seconds, process):
        print(f"server up after {seconds:.1f} s; {options.users} users for {options.minutes:g} minutes", flush=True)
        until = time.monotonic() + 60 * options.minutes
        crowd = [
            threading.Thread(target=user, args=(address, number, until, record), daemon=True)
            for number in range(options.users)
        ]
        for thread in crowd:
            thread.start()
        sizes: list[float] = []
        while time.monotonic() < until:
            time.sleep(min(15, max(0.1, until - time.monotonic())))
            sizes.append(memory_of(process.pid))
            print(f"  memory {sizes[-1]:7.0f} MB, errors {len(record.errors)}", flush=True)
        for thread in crowd:
            thread.join(PATIENCE_S)
    print(f"\n{'':42s}{'median':>9s}{'p95':>9s}{'max':>9s}    n")
    for what, values in sorted(record.seconds.items()):
        print(
            f"{what:42s}{percentile(values, 0.5):8.2f}s{percentile(values, 0.95):8.2f}s{max(values):8.2f}s"
            f"{len(values):5d}"
        )
    print(f"\nerrors: {len(record.errors)}; answers to another setting than one's own: {record.crossed}")
    for text in dict.fromkeys(record.errors):
        print(f"  {record.errors.count(text)} x {text}")
    return 1 if record.errors or record.crossed else 0
