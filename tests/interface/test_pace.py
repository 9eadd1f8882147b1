"""An address that asks too fast waits, then is refused; others do not notice."""

from __future__ import annotations

import pytest

from neuromerge.interface.pace import BURST_SECONDS, PATIENCE_SECONDS, Pace


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_free_then_events_wait_then_they_are_refused() -> None:
    pace = Pace(10, clock=Clock())
    free, waiting = int(10 * BURST_SECONDS), int(10 * PATIENCE_SECONDS)
    assert [pace.wait("a") for _ in range(free)] == [0.0] * free
    waits = [pace.wait("a") for _ in range(waiting)]
    assert waits == pytest.approx([(place + 1) / 10 for place in range(waiting)])
    assert [pace.wait("a") for _ in range(100)] == [None] * 100
    assert pace.wait("b") == 0.0


def test_whoever_rests_may_go_on_and_refused_events_do_not_count() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock)
    while pace.wait("a") is not None:
        pass
    clock.now = 1.0
    assert [pace.wait("a") is None for _ in range(11)] == [False] * 10 + [True]
    clock.now = 100.0
    assert pace.wait("a") == 0.0


def test_a_steady_visitor_never_waits() -> None:
    clock = Clock()
    pace = Pace(10, clock=clock)
    for number in range(1000):
        clock.now = number / 10
        assert pace.wait("a") == 0.0


def test_few_addresses_are_remembered() -> None:
    pace = Pace(1, capacity=2, clock=Clock())
    while pace.wait("a") is not None:
        pass
    for other in ("b", "c"):
        pace.wait(other)
    assert pace.wait("a") == 0.0, "forgotten"
