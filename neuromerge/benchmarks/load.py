"""The running app under many simulated users: sliders, tabs, clicks, evaluations, abrupt departures.

Speaks the page's own protocol (configuration, queue, event stream) over HTTP, as a browser does, without drawing
anything. Each user keeps moving a slider to values of their own and checks that what comes back is the answer to
their own question. Only ever talks to this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import random
import re
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from neuromerge.benchmarks.browser import free_port, percentile, running_app

ORTHOGONAL = "neuromerging-lambda-orthogonal"
# The two small scripts that the page runs in the browser and this client in its stead.
GATHER, SWITCH_OFF = "(...values) => [values]", "() => false"
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
        # By this connection the server knows that the page is open; it forgets the page where it breaks.
        alive = self.http.build_request("GET", f"/gradio_api/heartbeat/{self.page}")
        self._alive = self.http.send(alive, stream=True)
        self.values = {entry["id"]: entry["props"].get("value") for entry in self.config["components"]}
        self.ids = {
            entry["props"]["elem_id"]: entry["id"]
            for entry in self.config["components"]
            if entry["props"].get("elem_id")
        }
        self.events = self.config["dependencies"]
        # All but the tab whose maps and searches take minutes by design.
        self.tabs = sorted(name for name in self.ids if name.startswith("tab-") and name != "tab-tune")
        self.begun = time.perf_counter()
        # Of what was done last: seconds until a component first changed, and until an event had run.
        self.arrived: dict[int, float] = {}
        self.finished: dict[int, float] = {}

    def load(self) -> list[str]:
        """Open the page: what a browser asks for at once."""
        return self._run([event for event in self.events if any(name == "load" for _, name in event["targets"])])

    def fire(self, element: str, name: str, data: Any = None) -> list[str]:
        """Send an event of the component with that element id, and all that follow from it; their messages."""
        target = self.ids[element]
        return self._run(self._listening(target, name), target, data)

    def move(self, element: str, value: Any) -> list[str]:
        """Move a control to `value` by hand, and see all that follows."""
        self.values[self.ids[element]] = value
        return self.fire(element, "input")

    def move_on(self, element: str, value: Any) -> None:
        """Move a control to `value` by hand, without waiting for the answer."""
        self.values[self.ids[element]] = value
        asked, _ = self._in_browser(self._listening(self.ids[element], "input"))
        for event in asked:
            self._join(event, None, None)

    def move_and_leave(self, element: str, value: Any) -> None:
        """Move a control and go, as a closed lid does."""
        self.move_on(element, value)
        self.close()

    def close(self) -> None:
        """Leave the page."""
        self._alive.close()
        self.http.close()

    def value(self, element: str) -> Any:
        """What a component shows."""
        return self.values[self.ids[element]]

    def seconds_until(self, element: str) -> float | None:
        """How long after the last action the component first showed something new; None if it never did."""
        return self.arrived.get(self.ids[element])

    def seconds_of(self, element: str, name: str) -> float:
        """How long after the last action that event of the component had been answered."""
        return max(self.finished.get(event["id"], 0.0) for event in self._listening(self.ids[element], name))

    def _listening(self, target: int, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if [target, name] in [list(pair) for pair in event["targets"]]]

    def _run(self, events: list[dict[str, Any]], target: int | None = None, data: Any = None) -> list[str]:
        problems: list[str] = []
        self.begun, self.arrived, self.finished = time.perf_counter(), {}, {}
        asked, _ = self._in_browser(events)
        while asked:
            waiting = {self._join(event, target, data): event for event in asked}
            target = data = None
            changed = self._listen(waiting, problems)
            done = {event["id"] for event in waiting.values()}
            after = [event for event in self.events if event.get("trigger_after") in done]
            after += [event for place in changed for event in self._listening(place, "change")]
            asked, _ = self._in_browser(after)
        return problems

    def _in_browser(self, events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], set[int]]:
        """Run what the browser does by itself; the events that ask the server, and the components that changed."""
        asked, changed = [event for event in events if event["backend_fn"]], set()
        for event in events:
            if event["backend_fn"] or not event["outputs"]:
                continue
            held: list[Any]
            if event["js"] == GATHER:
                held = [[self.values.get(place) for place in event["inputs"]]]
            elif event["js"] == SWITCH_OFF:
                held = [False]
            else:
                continue
            changed |= self._take(event, held)
        for place in sorted(changed):
            more, further = self._in_browser(self._listening(place, "change"))
            asked += more
            changed |= further
        return asked, changed

    def ask(self, event: dict[str, Any], values: list[Any], said: Any = None) -> list[str]:
        """Send one event with values of the caller's, wait for its answer and keep none; returns what was complained.

        Raises RuntimeError where the server does not take the event.
        """
        target = event["targets"][0][0] if event["targets"] else None
        held = dict(self.values)
        problems: list[str] = []
        self._listen({self._join(event, target, said, values): event}, problems)
        self.values = held
        return problems

    def _join(self, event: dict[str, Any], target: int | None, data: Any, values: list[Any] | None = None) -> str:
        body = {
            "data": [self.values.get(place) for place in event["inputs"]] if values is None else values,
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
        """Wait for the answers to these events; the components that they changed."""
        from gradio_client.utils import apply_diff

        left, changed = dict(waiting), set()
        told: dict[str, list[Any]] = {}  # what each event has yielded so far: later yields are differences to it
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.page}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                number = message.get("event_id", "")
                event = left.get(number)
                if message["msg"] == "log" and message.get("level") == "warning":
                    problems.append(message["log"])
                if event is None:
                    continue
                if message["msg"] in ("process_generating", "process_completed") and message.get("success"):
                    output = message["output"]["data"]
                    if message["msg"] == "process_generating":
                        if number in told:
                            output = [apply_diff(*pair) for pair in zip(told[number], output, strict=True)]
                        told[number] = output
                    changed |= self._take(event, output) | set(message["output"].get("changed_state_ids") or ())
                if message["msg"] == "process_completed":
                    self.finished.setdefault(event["id"], time.perf_counter() - self.begun)
                    del left[number]
                    if not message.get("success"):
                        problems.append(str(message["output"].get("error") or "a handler failed"))
                if not left:
                    break
        return changed

    def _take(self, event: dict[str, Any], data: list[Any]) -> set[int]:
        """Put an answer where it belongs; the components whose value is another now."""
        changed = set()
        for place, value in zip(event["outputs"], data, strict=False):
            if isinstance(value, dict) and value.get("__type__") == "update":
                if "value" not in value:
                    continue
                value = value["value"]
            if value != self.values.get(place):
                self.values[place] = value
                self.arrived.setdefault(place, time.perf_counter() - self.begun)
                changed.add(place)
        return changed


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
    with contextlib.closing(client):
        clock(record, "open the page: whole split", client.load)
        record.took("open the page: score", client.seconds_until("readout") or 0.0)
        for _ in range(20):
            if time.monotonic() > until:
                return
            value = round(dice.uniform(0.05, 4.95), 2)
            clock(record, "move lambda: whole split", functools.partial(client.move, ORTHOGONAL, value))
            quick = client.seconds_until("readout")
            told = re.search(r"lambda_orthogonal ([\d.]+)", str(client.value("readout")))
            if told is None or abs(float(told.group(1)) - value) > 0.006:
                with record.lock:
                    record.crossed += 1
            elif quick is not None:
                record.took("move lambda: quick answer", quick)
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
