"""A page of the app without a browser: its components' values, and events sent and followed as a browser does."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The two small scripts that the page runs in the browser and this client in its stead.
GATHER, SWITCH_OFF = "(...values) => [values]", "() => false"
GATHER_PART = re.compile(r"^\s*\(held, \.\.\.values\) => \{\s*const places = (\[[\d, ]*\])")
PATIENCE_S = 60


def forwarded(visitor: str) -> dict[str, str]:
    """Headers as a proxy sets them for a visitor from an address of their own."""
    a, b, c = hashlib.sha256(visitor.encode()).digest()[:3]
    return {"x-forwarded-for": f"8.{a}.{b}.{c}"}


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

    def __init__(self, address: str, headers: Mapping[str, str] | None = None) -> None:
        import httpx

        self.http = httpx.Client(base_url=address, timeout=PATIENCE_S, headers=dict(headers or {}))
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
        # Of what was done last: seconds until a component first changed, until it changed last, until an event had run.
        self.arrived: dict[int, float] = {}
        self.rested: dict[int, float] = {}
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

    def seconds_until_last(self, element: str) -> float | None:
        """How long after the last action the component showed its last word; None if it never changed."""
        return self.rested.get(self.ids[element])

    def seconds_of(self, element: str, name: str) -> float:
        """How long after the last action that event of the component had been answered."""
        return max(self.finished.get(event["id"], 0.0) for event in self._listening(self.ids[element], name))

    def _listening(self, target: int, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if [target, name] in [list(pair) for pair in event["targets"]]]

    def _run(self, events: list[dict[str, Any]], target: int | None = None, data: Any = None) -> list[str]:
        problems: list[str] = []
        self.begun, self.arrived, self.rested, self.finished = time.perf_counter(), {}, {}, {}
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
            elif part := GATHER_PART.search(event["js"] or ""):
                before, *values = (self.values.get(place) for place in event["inputs"])
                held = [list(before or [])]
                for place, value in zip(json.loads(part[1]), values, strict=True):
                    held[0][place] = value
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
                self.rested[place] = time.perf_counter() - self.begun
                self.arrived.setdefault(place, self.rested[place])
                changed.add(place)
        return changed
