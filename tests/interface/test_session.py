from __future__ import annotations

import time

import pytest

from neuromerge.interface.session import MAX_PINS, MAX_TRIALS, Pulse, Session
from neuromerge.settings.choices import change, make_setting
from neuromerge.settings.setting import Setting
from tests.interface.fakes import family

FAMILY = family()
SETTING = make_setting(FAMILY)


@pytest.fixture
def settings() -> list[Setting]:
    first = make_setting(FAMILY)
    return [first, *(change(first, FAMILY, lambda_orthogonal=value / 100) for value in range(1, 300))]


def test_the_previous_setting_is_where_the_page_rested_before(settings: list[Setting]) -> None:
    a, b, c = settings[:3]
    session = Session()
    assert session.previous(a) is None
    session = session.visit(a)
    assert session.previous(a) is None
    assert session.previous(b) == a
    session = session.visit(b)
    assert session.previous(b) == a
    assert session.previous(c) == b


def test_pins_are_kept_once_and_bounded(settings: list[Setting]) -> None:
    session = Session()
    for setting in settings[:20]:
        session = session.pin(setting).pin(setting)
    assert len(session.pins) == MAX_PINS
    assert session.pins[-1] == settings[19]


def test_visited_settings_become_rows_once_and_bounded(settings: list[Setting]) -> None:
    session = Session()
    for setting in settings:
        session = session.score(setting, {"digits": 0.5, "flags": 1.0}, 0.2).score(setting, {"digits": 0.1}, 0.2)
    assert len(session.trials) == MAX_TRIALS
    assert session.trials[-1].value == 0.75
    assert len({trial.number for trial in session.trials}) == MAX_TRIALS


def test_a_page_settles_once_for_each_change_and_only_at_rest() -> None:
    pulse = Pulse()
    assert not pulse.settle("a", 0)
    pulse.beat("a")
    assert not pulse.settle("a", 0)
    pulse.answered("a", SETTING)
    assert not pulse.settle("a", 60)
    time.sleep(0.02)
    assert pulse.settle("a", 0.01)
    assert not pulse.settle("a", 0.01)
    assert pulse.beat("a") == 2
    assert pulse.number("b") == 0
    assert pulse.last_answer("a") == SETTING, "while the next is on its way"
    assert pulse.last_answer("b") is None


def test_the_pulse_is_bounded_and_forgets() -> None:
    pulse = Pulse(capacity=3)
    for page in "abcd":
        pulse.beat(page)
    assert pulse.number("a") == 0
    assert pulse.number("d") == 1
    pulse.forget("d")
    assert pulse.number("d") == 0


def test_a_move_is_overtaken_by_its_name_and_no_other_is() -> None:
    pulse = Pulse()
    pulse.beat("a")
    pulse.name("a", 1.0)
    pulse.overtake("a", 7.0)
    pulse.overtake("b", 1.0)
    assert pulse.number("a") == 1
    pulse.overtake("a", 1.0)
    assert pulse.number("a") == 2
    pulse.overtake("a", 1.0)  # told twice
    pulse.overtake("a", None)
    assert pulse.number("a") == 2
    assert not pulse.settle("a", 0)


def test_settings_that_differ_in_their_profile_or_weights_are_rows_of_their_own(settings: list[Setting]) -> None:
    shaped = make_setting(FAMILY, profile={"fc1": 0.5})
    weighted = make_setting(FAMILY, task_weights={"digits": 0.5})
    session = Session()
    for setting in (settings[0], shaped, weighted, shaped):
        session = session.score(setting, {"digits": 0.5}, 0.1)
    assert [trial.setting for trial in session.trials] == [settings[0], shaped, weighted]
