"""Axes of a search keep names that tell them apart, also where there is little room."""

from __future__ import annotations

from neuromerge.figures.tuning import parallel_coordinates
from neuromerge.figures.tuning.names import brief, coefficient
from neuromerge.search.trials import Trial


def test_points_of_a_curve_and_groups_are_told_apart() -> None:
    keys = ["depth_1", "depth_2", "group_block 1/fc1 + block 2/fc1", "group_block 3/q", "lambda_parallel", "trim_ratio"]
    for name in (brief, coefficient):
        assert len({name(key) for key in keys}) == len(keys)
    assert all(len(brief(key)) <= 11 for key in keys)


def test_what_only_one_trial_names_is_no_axis() -> None:
    """The merge of the controls names everything, a search only what it searches."""
    searched = [Trial(i, "tpe", {"trim_ratio": 0.1 * i}, 0.5 + 0.01 * i, 1.0, "complete") for i in range(4)]
    by_hand = Trial(0, "hand", {"trim_ratio": 0.8, "ridge": 0.1, "vote": "balanced"}, 0.6, 1.0, "complete")
    assert [line["x"] for line in parallel_coordinates([*searched, by_hand]).data] == [[0, 1]] * 5
