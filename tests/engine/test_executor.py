"""Turns: urgent work first, nothing waits for ever, what nobody wants any more never begins."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from neuromerge.engine.executor import Executor
from neuromerge.errors import Cancelled
from neuromerge.progress import Job, Urgency


class Line:
    """An executor whose only thread is held, so that turns line up behind it; then they run in their order."""

    def __init__(self) -> None:
        self.executor, self.ran = Executor(1), []
        self._go, self._held = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(32)
        self._first = self._pool.submit(self.executor.run, self._hold)
        self._held.wait(10)
        self._others = []

    def _hold(self) -> None:
        self._held.set()
        self._go.wait(10)

    def join(self, name: str, urgency: Urgency) -> None:
        """Let a piece of work line up."""
        arrived = threading.Event()
        job = Job(check=arrived.set, urgency=urgency)
        self._others.append(self._pool.submit(self.executor.run, lambda: self.ran.append(name), job))
        arrived.wait(10)
        deadline = threading.Event()
        while self.executor.waiting < len(self._others):  # the check comes just before it lines up
            deadline.wait(0.001)

    def run(self) -> list[str]:
        """The names, in the order in which their work ran."""
        self._go.set()
        for future in (self._first, *self._others):
            future.result(10)
        return self.ran


def test_whoever_holds_a_slider_comes_first() -> None:
    line = Line()
    line.join("split", Urgency.SOON)
    line.join("slider", Urgency.NOW)
    assert line.run() == ["slider", "split"]


def test_equals_in_order_of_arrival() -> None:
    line = Line()
    for name in "abc":
        line.join(name, Urgency.SOON)
    assert line.run() == ["a", "b", "c"]


def test_what_waits_longest_gets_a_turn_among_urgent_ones() -> None:
    line = Line()
    line.join("search", Urgency.WHENEVER)
    for number in range(8):
        line.join(f"slider {number}", Urgency.NOW)
    ran = line.run()
    assert ran.index("search") < 4, "eight sliders kept it waiting"
    assert ran[0] == "slider 0"


def test_errors_belong_to_who_waits() -> None:
    executor = Executor(1)
    with pytest.raises(ZeroDivisionError):
        executor.run(lambda: 1 // 0)
    assert executor.run(lambda: 3) == 3


def test_work_that_nobody_wants_never_begins() -> None:
    line, wanted = Line(), threading.Event()

    def check() -> None:
        if wanted.is_set():
            raise Cancelled("Nobody waits.")

    with ThreadPoolExecutor(1) as pool:
        given_up = pool.submit(line.executor.run, lambda: line.ran.append("given up"), Job(check=check))
        while not line.executor.waiting:
            pass
        wanted.set()
        with pytest.raises(Cancelled):
            given_up.result(10)
    assert line.run() == []


def test_work_inside_work_gets_its_turn_at_once() -> None:
    executor = Executor(1)
    assert executor.run(lambda: executor.run(lambda: 5)) == 5
