"""Turns: urgent work first, nothing waits for ever, what nobody wants any more never begins."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from neuromerge.engine.executor import Executor
from neuromerge.engine.regions import Tasks
from neuromerge.errors import Cancelled
from neuromerge.merging import registry
from neuromerge.merging.passes import components
from neuromerge.progress import Job, Urgency
from neuromerge.threads import between_steps, letting_through


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

    def join(self, name: str, urgency: Urgency, owner: str = "") -> None:
        """Let a piece of work line up."""
        arrived = threading.Event()
        job = Job(check=arrived.set, urgency=urgency, owner=owner)
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


def test_whoever_asks_for_much_waits_for_himself() -> None:
    line = Line()
    for number in range(6):
        line.join(f"greedy {number}", Urgency.NOW, "greedy")
    for owner in ("one", "two"):
        line.join(owner, Urgency.NOW, owner)
    ran = line.run()
    assert max(ran.index("one"), ran.index("two")) <= 3, ran  # one fourth turn among these goes to what came first
    assert [name for name in ran if name.startswith("greedy")] == [f"greedy {number}" for number in range(6)]


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


def test_long_work_lets_others_through_between_its_steps() -> None:
    """No piece of work keeps the others waiting for longer than one of its steps."""
    executor, ran, lined_up = Executor(1, turn_seconds=0.0), [], threading.Event()

    def long() -> str:
        ran.append("begun")
        lined_up.wait(10)
        for step in range(3):
            between_steps()
            ran.append(f"step {step}")
        return "whole"

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(executor.run, long)
        while not ran:
            pass
        second = pool.submit(executor.run, lambda: ran.append("other"))
        while not executor.waiting:
            pass
        lined_up.set()
        assert first.result(10) == "whole"
        second.result(10)
    assert ran == ["begun", "other", "step 0", "step 1", "step 2"]


def test_paused_work_that_fails_keeps_nobody_waiting() -> None:
    executor = Executor(1, turn_seconds=0.0)

    def failing() -> None:
        for _ in range(20):
            between_steps()
        raise ZeroDivisionError

    with ThreadPoolExecutor(8) as pool:
        failures = [pool.submit(executor.run, failing) for _ in range(8)]
        for failure in failures:
            with pytest.raises(ZeroDivisionError):
                failure.result(10)
    assert executor.waiting == 0
    assert executor.run(lambda: 3) == 3


def test_no_step_is_called_where_nobody_lent_the_thread() -> None:
    ran: list[str] = []
    with letting_through(lambda: ran.append("step")):
        between_steps()
    between_steps()
    assert ran == ["step"]


@pytest.mark.parametrize("name", sorted(registry.methods()))
def test_passes_over_weights_are_cut_into_steps(tiny, workspace, name) -> None:
    """Passes of every method let others through while they run, once a parameter at least."""
    vectors = workspace.engine.of(tiny.name).stages.vectors(Tasks(tuple(tiny.experts)))
    method, steps = registry.get_method(name), []
    values = {spec.name: spec.default for spec in method.hyperparameters}
    run = method.begin(vectors, values, 0)
    with letting_through(partial(steps.append, name)):
        found = list(components(vectors, method, run))
    assert len(found) == len(vectors.parameters)
    assert len(steps) >= 2
