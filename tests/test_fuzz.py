"""A short run of the fuzz command over every target, and that it would notice a defect."""

from __future__ import annotations

import random

import pytest

from neuromerge.benchmarks.fuzz import attack, main, spoilt, targets
from neuromerge.errors import SettingError

pytest.importorskip("gradio")
TARGETS = targets()


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_the_librarys_own_errors(name: str) -> None:
    good, target = TARGETS[name]
    target(good, random.Random(0))  # what is not spoilt is accepted
    accepted, refused, defects = attack(name, good, target, 0, 400)
    assert defects == []
    assert accepted + refused == 400
    assert accepted


def test_defects_are_told_from_refusals() -> None:
    def target(text: str, dice: random.Random) -> None:
        if "nan" in text:
            raise ValueError("could not convert")
        if text != "good":
            raise SettingError("No.")

    accepted, refused, defects = attack("it", "good", target, 0, 500)
    assert defects
    assert all("ValueError: could not convert" in defect for defect in defects)
    assert accepted + refused + len(defects) == 500
    assert attack("it", "good", target, 0, 500)[2] == defects  # an input's number repeats it


def test_inputs_are_spoilt_in_many_ways() -> None:
    made = {spoilt("0123456789", random.Random(n)) for n in range(500)}
    assert len(made) > 400
    assert {len(text) < 10 for text in made} == {True, False}


def test_an_unknown_target_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "tables"])
    assert "tables" in capsys.readouterr().err
