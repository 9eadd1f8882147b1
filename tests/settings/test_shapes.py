"""Edits of profiles: whatever is edited, what comes out is a profile that says what was asked for, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.merging.profile import as_mapping, make_profile
from neuromerge.settings.shapes import (
    CURVES,
    added,
    checked,
    factor_of,
    over_depth,
    read_curve,
    scaled,
    split,
    with_factor,
)

NAMES = ("lambda_parallel", "lambda_orthogonal", "lambda_pointwise")
PARTS = ("fc1", "block 0", "block 1/q", "rest")

numbers = st.floats(0, 2) | st.sampled_from([0.0, 1.0])
curves = numbers | st.lists(numbers, min_size=1, max_size=4)
shapes = st.dictionaries(
    st.sampled_from(PARTS), curves | st.dictionaries(st.sampled_from(NAMES), curves, min_size=1), max_size=4
).map(checked)
coefficients = st.sampled_from(["", *NAMES])


@given(shape=shapes, part=st.sampled_from(PARTS), coefficient=coefficients, value=numbers)
def test_a_factor_is_what_it_was_set_to_and_nothing_else_moves(
    shape: Any, part: str, coefficient: str, value: float
) -> None:
    after = with_factor(shape, part, coefficient, value, NAMES)
    assert as_mapping(make_profile(after)) == after
    assert factor_of(after, part, coefficient) == value
    for other in PARTS:
        for name in NAMES:
            if other != part or coefficient not in ("", name):
                assert factor_of(after, other, name) == factor_of(shape, other, name)


@given(shape=shapes, part=st.sampled_from(PARTS[:3]), value=numbers)
def test_back_to_1_leaves_nothing_behind(shape: Any, part: str, value: float) -> None:
    shape = {name: held for name, held in shape.items() if name not in (part, "rest")}
    moved = shape
    for name in NAMES:
        moved = with_factor(moved, part, name, value, NAMES)
    assert moved == with_factor(shape, part, "", value, NAMES)
    for name in NAMES:
        moved = with_factor(moved, part, name, 1.0, NAMES)
    assert moved == shape


def test_a_part_that_is_named_keeps_rest_away_even_with_a_1() -> None:
    assert with_factor({"rest": 0.5, "fc1": 2.0}, "fc1", "", 1.0, NAMES) == {"rest": 0.5, "fc1": 1.0}


@given(shape=shapes, part=st.sampled_from(PARTS), by=st.sampled_from([0.5, 2.0]))
def test_scaling_multiplies_each_coefficient(shape: Any, part: str, by: float) -> None:
    after = scaled(shape, part, by, NAMES)
    for name in NAMES:
        assert factor_of(after, part, name) == pytest.approx(by * factor_of(shape, part, name))


def test_curves_over_the_blocks_are_read_off_between_their_numbers() -> None:
    blocks = [f"block {i}" for i in range(5)]
    rising = {"block 0": 0.5, "block 1": 0.75, "block 3": 1.25, "block 4": 1.5}
    assert over_depth({}, blocks, CURVES["rising"]) == rising
    assert over_depth({"fc1": 0.0}, blocks, CURVES["middle"])["block 2"] == 1.5
    assert over_depth({"fc1": 0.0, "block 2": 0.3}, blocks, CURVES["even"]) == {"fc1": 0.0}
    assert over_depth({}, ["block 0"], (0.25, 1.0)) == {"block 0": 0.25}


@pytest.mark.parametrize(("text", "curve"), [("0.5, 1, 1.5", (0.5, 1, 1.5)), ("0 1", (0, 1)), (" 2 ", (2,))])
def test_a_curve_can_be_typed(text: str, curve: tuple[float, ...]) -> None:
    assert read_curve(text) == curve


@pytest.mark.parametrize("text", ["", "a, b", "nan", "1e9", None, 5, ", ".join(["1"] * 300)])
def test_what_is_no_curve_is_refused_in_words(text: Any) -> None:
    with pytest.raises(SettingError):
        read_curve(text)


@given(shape=shapes)
def test_a_method_uses_what_it_knows_and_the_rest_waits(shape: Any) -> None:
    assert split(shape, NAMES) == (shape, {})
    usable, waiting = split(shape, ("scale",))
    assert {**usable, **waiting} == shape
    assert not any(isinstance(held, dict) for held in usable.values())


@given(shape=shapes, part=st.sampled_from(PARTS), amount=st.sampled_from([-0.25, 0.25]))
def test_what_is_added_is_added_to_every_coefficient_of_the_part_alone(shape: Any, part: str, amount: float) -> None:
    after = added(shape, part, amount, NAMES)
    for name in NAMES:
        assert factor_of(after, part, name) == pytest.approx(factor_of(shape, part, name) + amount, abs=1e-5)
    for other in set(PARTS) - {part}:
        assert after.get(other) == shape.get(other)
