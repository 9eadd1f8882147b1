"""What of the profile is searched, and how groups of parts and weights of tasks are written."""

from __future__ import annotations

import pytest

from neuromerge.errors import SettingError
from neuromerge.merging.profile import as_mapping
from neuromerge.search.axes import axes_of
from neuromerge.search.objective import read_weights, scored_as, scored_as_own
from neuromerge.search.shape import read_groups, shape_axes, split_shape
from neuromerge.search.sweep import sweep

GROUPS = [["block 0/fc1", "block 1/fc1"], ["q"]]


def test_each_group_is_one_axis_and_one_factor_on_all_its_parts():
    first, second = shape_axes("own", GROUPS)
    values, profile = split_shape({first.name: 0.5, second.name: 2.0, "trim_ratio": 0.8})
    assert values == {"trim_ratio": 0.8}
    assert profile == {"block 0/fc1": 0.5, "block 1/fc1": 0.5, "q": 2.0}


@pytest.mark.parametrize(
    ("shape", "groups", "match"),
    [
        ("own", [], "Groups of parts"),
        ("", GROUPS, "Groups of parts"),
        ("depth:3", GROUPS, "Groups of parts"),
        ("own", [["q", "k"], ["k"]], "one group"),
        ("own", [["q", "q"]], "one group"),
        ("own", [["q" * 300]], "must be a name"),
        ("own", [[f"p{i}"] for i in range(13)], "At most 12"),
    ],
)
def test_groups_that_cannot_be_searched_are_refused_in_words(shape, groups, match):
    with pytest.raises(SettingError, match=match):
        shape_axes(shape, groups)


def test_groups_are_typed_one_a_line():
    assert read_groups(" block 0/fc1, block 1/fc1\n\nq,\n") == GROUPS
    with pytest.raises(SettingError, match="at least one group"):
        read_groups(" \n , ")


def test_the_best_factor_of_a_group_is_found_in_the_setting_that_was_scored(family):
    def near_two(setting, job):
        factors = as_mapping(setting.profile)
        assert factors.get("block 0/fc1", 1.0) == factors.get("block 1/fc1", 1.0)
        return {"digits": 1 - abs(factors.get("q", 1.0) - 2.0) / 2}

    found = sweep(
        family, ["digits", "flags"], objective=near_two, shape="own", groups=GROUPS, sampler="grid", trials=25,
        search=["trim_ratio"], ranges={"trim_ratio": (0.8, 0.8)},
    )  # fmt: skip
    assert found.best_value == 1.0
    assert dict(as_mapping(found.best.profile))["q"] == 2.0
    assert len(axes_of("neuromerging")) > 1


def test_weights_are_typed_with_commas_between():
    assert read_weights(" digits=2, flags = 0.5\n", ["digits", "flags"]) == {"digits": 2.0, "flags": 0.5}
    assert read_weights("", ["digits"]) == {}


@pytest.mark.parametrize(
    ("text", "match"),
    [("digits", "no weight"), ("magic=1", "no weight"), ("digits=much", "number"), ("digits=1,digits=2", "two")],
)
def test_what_is_no_weight_is_refused_in_words(text, match):
    with pytest.raises(SettingError, match=match):
        read_weights(text, ["digits", "flags"])


def test_studies_of_different_scores_have_different_names():
    names = [
        scored_as("mean"),
        scored_as("worst"),
        scored_as("mean", {"digits": 2.0}),
        scored_as("certainty"),
        scored_as_own("mine.zip"),
        scored_as_own("mine.zip", "digits"),
    ]
    assert names[0] == ""
    assert len(set(names)) == len(names)
