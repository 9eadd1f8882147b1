"""Random subsets of tasks, and what paired differences over them say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.search.subsets import paired_difference, random_subsets, share_of_the_way

TASKS = tuple("abcdefgh")


@given(tasks=st.integers(2, 8), count=st.integers(1, 40), seed=st.integers(0, 1000))
def test_subsets(tasks: int, count: int, seed: int) -> None:
    drawn = random_subsets(TASKS[:tasks], count, seed)
    assert drawn == random_subsets(TASKS[:tasks], count, seed)
    assert len(drawn) == len(set(drawn)) == min(count, 2**tasks - tasks - 1)
    for subset in drawn:
        assert 2 <= len(subset) <= tasks
        assert list(subset) == sorted(subset)


def test_every_size_is_drawn_and_another_seed_draws_others() -> None:
    drawn = random_subsets(TASKS, 60, 0)
    assert {len(subset) for subset in drawn} == set(range(2, 9))
    assert drawn != random_subsets(TASKS, 60, 1)


def test_one_task_has_no_subsets() -> None:
    with pytest.raises(SettingError, match="two tasks"):
        random_subsets(["digits"], 3, 0)


@given(seed=st.integers(0, 1000), lead=st.floats(0.0, 0.2))
def test_what_all_subsets_share_does_not_widen_the_interval(seed: int, lead: float) -> None:
    hard = np.random.default_rng(seed).uniform(0, 1, 20)
    found = paired_difference(hard + lead, hard)
    assert found.mean == pytest.approx(lead, abs=1e-12)
    assert found.low == pytest.approx(lead, abs=1e-12)
    assert found.high == pytest.approx(lead, abs=1e-12)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    numbers = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        found = paired_difference(numbers.normal(0.1, 0.3, 30), np.zeros(30))
        held += found.low <= 0.1 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_share_of_the_way() -> None:
    assert share_of_the_way(0.6, 0.4, 0.8) == pytest.approx(0.5)
    assert np.isnan(share_of_the_way(0.6, 0.4, 0.4))
