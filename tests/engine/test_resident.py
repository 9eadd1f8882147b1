from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromerge.checkpoints import align, load_checkpoint
from neuromerge.engine.resident import ResidentVectors, SortedMagnitudes, task_vector, thresholds
from neuromerge.merging.trim import MagnitudeSample
from neuromerge.merging.vectors import AlignedVectors


@pytest.fixture(scope="module")
def both(tiny):
    base = load_checkpoint(tiny.base)
    experts = [load_checkpoint(source, name=task) for task, source in tiny.experts.items()]
    mapped = AlignedVectors(align(base, experts))
    alone = [task_vector(AlignedVectors(align(base, [expert]))) for expert in experts]
    return mapped, ResidentVectors(mapped, alone), [SortedMagnitudes(tau) for tau in alone]


@pytest.mark.parametrize("ratio", [0.0, 1e-9, 0.001, 0.3, 0.5, 0.8, 0.999, 0.9999999])
def test_thresholds_are_those_of_the_counting_pass(both, ratio):
    mapped, _, magnitudes = both
    found, expected = thresholds(magnitudes, mapped.entries, ratio), MagnitudeSample(mapped).thresholds(ratio)
    assert torch.equal(found.value, expected.value)
    assert torch.equal(found.kept_share, expected.kept_share)
    torch.testing.assert_close(found.removed_share, expected.removed_share, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.kept_l1_share, expected.kept_l1_share, rtol=1e-5, atol=1e-9)
    assert found.auto_lambda == pytest.approx(expected.auto_lambda, rel=1e-5)


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.8, 0.999])
def test_weights_scale_thresholds_as_if_they_were_counted_again(both, ratio):
    mapped, resident, magnitudes = both
    weights = (1.3, -0.7, 0.0)
    weighted = AlignedVectors(mapped.aligned, weights=weights)
    found = thresholds(magnitudes, mapped.entries, ratio, weights)
    expected = MagnitudeSample(weighted).thresholds(ratio)
    assert torch.equal(found.value, expected.value)
    torch.testing.assert_close(found.kept_share, expected.kept_share, rtol=1e-3, atol=0)
    torch.testing.assert_close(found.kept_l1_share, expected.kept_l1_share, rtol=1e-5, atol=1e-9)
    held = ResidentVectors(weighted, resident_tau(resident))
    for parameter in mapped.parameters:
        assert torch.equal(held.read(parameter)[1], weighted.read(parameter)[1])


def resident_tau(resident):
    return [{p.name: resident.read(p)[1][t].clone() for p in resident.parameters} for t in range(3)]


@settings(deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.5, -0.5, 1.0, 2.0, -3.0]) | st.floats(-4, 4, width=32), min_size=1),
    ratio=st.floats(0, 1, exclude_max=True),
)
def test_ties_and_zeros(values, ratio):
    import math

    magnitudes = SortedMagnitudes({"a": torch.tensor(values)})
    rank = math.floor(ratio * len(values) + 1e-9)
    found = thresholds([magnitudes], len(values), ratio)
    sizes = sorted(abs(torch.tensor(value).item()) for value in values)
    limit = sizes[rank - 1] if rank else 0.0
    kept = [size for size in sizes if size >= limit]
    assert found.value.item() == limit
    assert found.kept_share.item() == len(kept) / len(sizes)
    expected = sum(kept) / sum(sizes) if sum(sizes) > 0 else 1.0
    assert found.kept_l1_share.item() == pytest.approx(expected, abs=1e-6)


def test_reading_is_the_same_and_the_callers_own(both):
    mapped, resident, _ = both
    for parameter in mapped.parameters:
        for rows in ((0, None), (1, 3)):
            base, tau = resident.read(parameter, *rows)
            other_base, other_tau = mapped.read(parameter, *rows)
            assert torch.equal(base, other_base)
            assert torch.equal(tau, other_tau)
            tau.zero_()
            assert torch.equal(resident.read(parameter, *rows)[1], other_tau)
