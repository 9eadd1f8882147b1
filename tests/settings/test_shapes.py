"""Edits of profiles: whatever is edited, what comes out is a profile that says what was asked for, and no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError
from neuromerge.merging.profile import as_mapping, factors, make_profile, spelled_out
from neuromerge.settings.shapes import (
    CURVES,
    added,
    checked,
    factor_of,
    joined,
    over_depth,
    read_curve,
    scaled,
    split,
    with_factor,
)

NAMES = ("lambda_parallel", "lambda_orthogonal", "lambda_pointwise")
PARTS = ("fc1", "block 0", "block 1/q", "stem")
PARAMETERS = tuple(
    Parameter(f"{layer}.{matrix}", f"{layer}.{matrix}", "vision", layer, block, matrix, "neurons", (2, 2), 0, 0, 2)
    for layer, block, matrices in (
        ("stem", None, ("patch",)),
        *((f"block {block}", block, ("q", "fc1", "fc2")) for block in range(3)),
        ("head", None, ("projection",)),
    )
    for matrix in matrices
)

numbers = st.floats(0, 2) | st.sampled_from([0.0, 1.0])
curves = numbers | st.lists(numbers, min_size=1, max_size=4)
held = st.sampled_from(NAMES)


def profiles(parts: tuple[str, ...], amounts: Any) -> Any:
    """Shapes of these parts; no curve where there is no block."""
    apart = amounts | st.dictionaries(held, amounts, min_size=1)
    known = st.dictionaries(st.sampled_from(parts), apart, max_size=4).map(checked)
    return known.filter(lambda shape: not isinstance(shape.get("stem"), list | dict))


shapes = profiles(PARTS, curves)
with_rest = profiles((*PARTS, "rest"), curves)


def merge_of(shape: Any) -> dict[tuple[str, str, str], float]:
    """The factor on every coefficient of every cell: what a shape is there for."""
    cells = factors(make_profile(shape), PARAMETERS, NAMES)
    return {
        (parameter.layer, parameter.matrix, name): cells.get((parameter.layer, parameter.matrix), {}).get(name, 1.0)
        for parameter in PARAMETERS
        for name in NAMES
    }


def spelled(shape: Any) -> Any:
    return as_mapping(spelled_out(make_profile(shape), PARAMETERS, NAMES))


def is_in(part: str, layer: str, matrix: str) -> bool:
    return part in (layer, matrix, f"{layer}/{matrix}")


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


@given(shape=with_rest)
def test_a_shape_that_is_spelled_out_is_the_same_merge_and_has_no_rest(shape: Any) -> None:
    out = spelled(shape)
    assert "rest" not in out
    assert merge_of(out) == pytest.approx(merge_of(shape), rel=1e-12)
    assert spelled(out) == out


def test_what_rest_says_stands_at_layers_where_it_reaches_all_of_them_and_else_at_cells() -> None:
    found = spelled({"rest": [0.5, 1.0, 1.5], "block 1": 2.0, "block 2/q": 0.0})
    assert found == {
        "stem": 0.5,
        "block 0": 0.5,
        "block 1": 2.0,
        "block 2/q": 0.0,
        "block 2/fc1": 1.5,
        "block 2/fc2": 1.5,
        "head": 1.5,
    }


@given(shape=with_rest, part=st.sampled_from(PARTS), by=st.sampled_from([0.0, 0.5, 2.0]))
def test_scaling_multiplies_the_part_and_nothing_else_whatever_reached_it(shape: Any, part: str, by: float) -> None:
    before, after = merge_of(shape), merge_of(scaled(spelled(shape), part, by, NAMES))
    for (layer, matrix, name), factor in before.items():
        wanted = factor * by if is_in(part, layer, matrix) else factor
        assert after[layer, matrix, name] == pytest.approx(wanted, rel=1e-9)


@given(shape=with_rest, part=st.sampled_from(PARTS), coefficient=coefficients, value=numbers)
def test_a_factor_that_is_set_moves_its_part_alone_whatever_reached_it(
    shape: Any, part: str, coefficient: str, value: float
) -> None:
    out = spelled(shape)
    before, after = merge_of(shape), merge_of(with_factor(out, part, coefficient, value, NAMES))
    alone = merge_of(with_factor(out, part, coefficient, 1.0, NAMES))
    for (layer, matrix, name), factor in before.items():
        moves = is_in(part, layer, matrix) and coefficient in ("", name)
        wanted = alone[layer, matrix, name] * value if moves else factor
        assert after[layer, matrix, name] == pytest.approx(wanted, rel=1e-9)


@given(shape=shapes)
def test_an_edit_of_what_a_method_uses_leaves_what_waits(shape: Any) -> None:
    for names in (NAMES, NAMES[:1], ("scale",)):
        usable, waiting = split(shape, names)
        assert joined(usable, waiting, names) == shape
        whole = joined(with_factor(usable, "fc1", "", 0.5, names), waiting, names)
        assert split(whole, names)[1] == waiting


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
