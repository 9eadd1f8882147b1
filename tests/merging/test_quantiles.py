"""Exact order statistics of streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.merging.quantiles import Sample, order_statistics


@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    double=st.booleans(),
    batch=st.sampled_from([1, 10, 1000]),
)
def test_equals_sorting(values: list[float], cuts: list[int], double: bool, batch: int) -> None:
    row = np.array(values, dtype=np.float64 if double else np.float32)
    rows = [row, -row[::-1]]
    parts = [np.split(r, sorted(min(c, len(values)) for c in cuts)) for r in rows]
    found = order_statistics(lambda: zip(*parts, strict=True), 2, range(len(values)), batch=batch)
    assert found.dtype == row.dtype
    for got, r in zip(found, rows, strict=True):
        assert np.array_equal(got, np.sort(r))


def test_many_equal_values_and_large_streams() -> None:
    generator = np.random.default_rng(0)
    row = generator.standard_normal(600_000)
    row[:300_000] = 0.25
    ranks = [0, 1, 200_000, 300_000, 400_000, 599_999]
    found = order_statistics(lambda: [[part] for part in np.array_split(row, 7)], 1, ranks)
    assert np.array_equal(found[0], np.sort(row)[ranks])


def test_a_rank_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="3"):
        order_statistics(lambda: [[np.zeros(3, dtype=np.float32)]], 1, [3])


@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30), asked=st.data())
def test_a_sample_is_looked_up_by_rank_again_and_again(values: list[float], asked: st.DataObject) -> None:
    sample = Sample(np.array(values, dtype=np.float32))
    for _ in range(3):
        ranks = asked.draw(st.lists(st.integers(0, len(values) - 1), max_size=4))
        assert sample.at(ranks) == [sorted(values)[rank] for rank in ranks]
