"""The global trim is exact: against a sort, for every dtype, with ties, and when the sample misleads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging import trim
from neuromerge.merging.kernels.table import Rows

pytestmark = pytest.mark.usefixtures("path")


class FakeVectors:
    """Task vectors held in memory: one (T, rows, columns) tensor per parameter. Counts what is read of them."""

    def __init__(self, *taus: torch.Tensor):
        self.task_names = tuple(f"task {t}" for t in range(len(taus[0])))
        self.taus = {f"p{i}": tau for i, tau in enumerate(taus)}
        self.parameters = [
            Parameter(name, name, "model", "stem", None, "other", "neurons", tuple(tau.shape[1:]), 0, 0, tau.shape[1])
            for name, tau in self.taus.items()
        ]
        self.rows_read = 0

    @property
    def passes(self) -> float:
        """How often every row was read, on average."""
        return self.rows_read / sum(tau.shape[1] for tau in self.taus.values())

    def read(self, parameter, start=0, stop=None):
        tau = self.taus[parameter.name][:, start:stop].clone()
        self.rows_read += tau.shape[1]
        return torch.zeros_like(tau[0]), tau

    device = torch.device("cpu")

    @property
    def dtype(self):
        return next(iter(self.taus.values())).dtype

    def stored(self, parameter, start=0, stop=None):
        base, tau = self.read(parameter, start, stop)
        return Rows(base, tuple(tau), False, self.dtype)


def expected(vectors: FakeVectors, ratio: float):
    for t in range(len(vectors.task_names)):
        flat = np.sort(torch.cat([tau[t].abs().flatten() for tau in vectors.taus.values()]).double().numpy())
        rank = math.floor(ratio * flat.size + 1e-9)
        value = flat[rank - 1] if rank else 0.0
        kept = flat[flat >= value]
        yield value, kept.size / flat.size, 1 - kept.sum() / flat.sum() if flat.sum() else 0.0


def check(vectors: FakeVectors, ratio: float, sampling: trim.Sampling | None = None) -> None:
    found = trim.MagnitudeSample(vectors, sampling).thresholds(ratio)
    for t, (value, kept, sigma) in enumerate(expected(vectors, ratio)):
        if math.floor(ratio * sum(p.numel for p in vectors.parameters) + 1e-9):
            assert float(found.value[t]) == value
        assert float(found.kept_share[t]) == pytest.approx(kept, abs=0)
        assert float(found.removed_share[t]) == pytest.approx(sigma, rel=1e-5, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tasks=st.integers(1, 5),
    rows=st.integers(1, 60),
    columns=st.integers(1, 60),
    ratio=st.floats(0.0, 0.9999),
    levels=st.sampled_from([0, 1, 2, 5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_thresholds_equal_a_sort(seed, tasks, rows, columns, ratio, levels, dtype):
    generator = torch.Generator().manual_seed(seed)
    taus = [torch.randn(tasks, rows, columns, generator=generator, dtype=dtype) for _ in range(2)]
    if levels:  # few distinct magnitudes: many ties
        taus = [torch.round(tau * levels) / levels for tau in taus]
    check(FakeVectors(*taus), ratio)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_a_bracket_the_selection_is_as_exact(ratio, dtype):
    generator = torch.Generator().manual_seed(0)
    taus = [torch.randn(2, 40, 50, generator=generator, dtype=dtype) * s for s in (1e-4, 1.0)]
    check(FakeVectors(*taus), ratio, trim.Sampling(50, 4, margins=()))


def scattered() -> FakeVectors:
    generator = torch.Generator().manual_seed(2)
    return FakeVectors(*(torch.randn(3, 90, 80, generator=generator) for _ in range(2)))


def test_a_missed_bracket_is_widened_before_the_selection():
    vectors = scattered()
    check(vectors, 0.6, trim.Sampling(50, 4, margins=(0.0, 0.3)))
    assert 2 < vectors.passes <= 3  # the sample, and one pass a bracket


def test_missed_brackets_leave_it_to_the_selection():
    vectors = scattered()
    check(vectors, 0.6, trim.Sampling(50, 4, margins=(0.0, 0.0)))
    assert vectors.passes > 3


def test_the_sample_is_spread_over_rows_and_parameters():
    rows = torch.arange(1.0, 501.0)[None, :, None].expand(1, 500, 40)
    drawn = trim.MagnitudeSample(FakeVectors(rows, rows + 1000), trim.Sampling(100, 8, margins=())).drawn()[0]
    sample = drawn.at(range(len(drawn)))
    assert len(sample) == 800
    assert len(np.unique(sample)) == 100  # one row a place
    np.testing.assert_allclose(np.quantile(sample, [0.25, 0.75]), [250, 1250], atol=15)


def test_too_many_equal_entries_are_not_collected():
    generator = torch.Generator().manual_seed(3)
    tau = 0.6 + torch.rand(1, 400, 400, generator=generator)
    tau[0, :240] = 0.5  # 60 % are equal, and the bracket around 59.5 % holds them all
    vectors = FakeVectors(tau)
    check(vectors, 0.595, trim.Sampling(2048, 64, margins=(0.01,)))
    assert vectors.passes > 2  # more than the sample and the bracket: the selection


def test_mostly_zero_task_vectors_keep_everything():
    tau = torch.zeros(1, 50, 50)
    tau[0, 0, :5] = torch.arange(1.0, 6.0)
    found = trim.global_thresholds(FakeVectors(tau), 0.8)
    assert float(found.value[0]) == 0.0
    assert float(found.kept_share[0]) == 1.0
    assert found.sigma == 0.0


def test_large_model_takes_the_sampled_path():
    generator = torch.Generator().manual_seed(1)
    taus = [torch.randn(3, 700, 600, generator=generator) * s for s in (0.01, 0.02)]
    vectors = FakeVectors(*taus)
    sample = trim.MagnitudeSample(vectors)
    for ratio in (0.05, 0.5, 0.8, 0.95, 0.999):
        found = sample.thresholds(ratio)
        for t, (value, kept, _) in enumerate(expected(vectors, ratio)):
            assert (float(found.value[t]), float(found.kept_share[t])) == (value, kept)


def test_apply_trim_keeps_entries_equal_to_the_threshold():
    tau = torch.tensor([[[0.1, -0.2, 0.2, 0.3, -0.05]]])
    found = trim.global_thresholds(FakeVectors(tau), 0.6)
    kept = trim.apply_trim(tau.clone(), found)
    assert kept.tolist() == torch.tensor([[[0.0, -0.2, 0.2, 0.3, 0.0]]]).tolist()
