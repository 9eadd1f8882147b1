"""NeuroMerging by the balanced vote, and by votes of whole matrices or the model, against plain code of the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import neuromerge
from neuromerge.errors import SettingError
from neuromerge.merging.staged import first_pass, merged_parts, revoted
from neuromerge.merging.streaming import aligned_sources
from neuromerge.merging.trim import global_thresholds
from neuromerge.merging.vectors import AlignedVectors
from neuromerge.merging.votes import DEFAULT_RIDGE, Balanced, Published
from tests.merging import reference
from tests.merging.test_neuromerging import random_model

LEVELS = ("neuron", "matrix", "model")
seeds = st.integers(0, 10_000)


def groups(parts: dict[str, np.ndarray], level: str) -> list[list[tuple[str, int]]]:
    """Which neurons (map, row) vote together."""
    neurons = [[(name, row) for row in range(part.shape[1])] for name, part in parts.items()]
    if level == "matrix":
        return neurons
    together = [neuron for map_ in neurons for neuron in map_]
    return [together] if level == "model" else [[neuron] for neuron in together]


def plainly(base, experts, ratio: float, vote: str, ridge: float, level: str) -> dict[str, np.ndarray]:
    """theta_0 + O with lambda_1 = 0 and lambda_2 = 1: every group's parts side by side are one long neuron."""
    base = {name: weight.numpy() for name, weight in base.items()}
    taus, _ = reference.trim([{n: e[n].numpy() - w for n, w in base.items()} for e in experts], ratio)
    merged = {n: w + reference.psi(np.stack([t[n] for t in taus])) for n, w in base.items() if w.ndim < 2}
    parts = {}
    for name, weight in base.items():
        if weight.ndim == 2:
            tau = np.stack([t[name] for t in taus])
            along = (tau * weight).sum(2, keepdims=True) / (weight**2).sum(1)[:, None]
            parts[name] = tau - along * weight
            merged[name] = weight.copy()
    for members in groups(parts, level):
        long = np.concatenate([parts[name][:, row] for name, row in members], axis=1)
        if vote == "published":
            found = reference.orthogonal_merge(long)
        else:
            gram = long @ long.T
            energy = np.diag(gram)
            found = np.linalg.solve(gram + ridge * energy.mean() * np.eye(len(gram)), energy) @ long
        start = 0
        for name, row in members:
            width = merged[name].shape[1]
            merged[name][row] += found[start : start + width]
            start += width
    return merged


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("vote", ["balanced", "published"])
@settings(max_examples=15)
@given(seed=seeds, tasks=st.integers(1, 5), ratio=st.sampled_from([0.0, 0.6]), ridge=st.floats(0.01, 10.0))
def test_every_rule_at_every_level(level: str, vote: str, seed: int, tasks: int, ratio: float, ridge: float) -> None:
    base, experts = random_model(seed, tasks, 7, 9)
    result = neuromerge.merge(
        base, experts, trim_ratio=ratio, lambda_orthogonal=1.0, vote=vote, ridge=ridge, vote_level=level
    )
    expected = plainly(base, experts, ratio, vote, ridge, level)
    assume(vote == "balanced" or not result.ill_conditioned)  # there, rounding may decide in either implementation
    for name, weight in expected.items():
        np.testing.assert_allclose(result.state_dict[name].numpy(), weight, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rule", [rule(level=level) for rule in (Published, Balanced) for level in LEVELS])
def test_a_change_of_vote_needs_no_weights(rule) -> None:
    """Statistics by another vote from Gram matrices that are there; the parts that belong to them by one pass."""
    base, experts = random_model(4, 3, 7, 9)
    vectors = AlignedVectors(aligned_sources(base, {f"t{i}": expert for i, expert in enumerate(experts)}))
    thresholds = global_thresholds(vectors, 0.3)
    whole = first_pass(vectors, thresholds, by=rule)
    other = revoted(first_pass(vectors, thresholds, keep_parts=False), rule)
    for name, expected in whole.statistics.items():
        for key, value in vars(expected).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(getattr(other.statistics[name], key), value, rtol=1e-9, atol=1e-12)
    parts = merged_parts(vectors, other)
    blocks = {part.untyped_storage().data_ptr() for part in whole.orthogonal.values()}
    assert len(blocks) == 1, "what is given up together lies together"
    for name, part in whole.orthogonal.items():
        torch.testing.assert_close(parts[name], part, rtol=1e-9, atol=1e-12)


def test_the_natural_coefficient_of_the_balanced_vote_is_one() -> None:
    result = neuromerge.merge(*random_model(1, 3, 5, 6), trim_ratio=0.8, vote="balanced")
    assert (result.lambda_orthogonal, result.lambda_pointwise, result.lambda_parallel) == (1.0, 1.0, 0.0)
    assert result.sigma is not None
    assert result.ill_conditioned == 0


def test_the_published_vote_is_the_default() -> None:
    model = random_model(2, 3, 5, 6)
    plain, named = neuromerge.merge(*model), neuromerge.merge(*model, vote="published", vote_level="neuron", ridge=5.0)
    assert all(torch.equal(plain.state_dict[name], weight) for name, weight in named.state_dict.items())


@pytest.mark.parametrize(
    ("given_values", "said"),
    [
        ({"vote": "fair"}, "published, balanced"),
        ({"ridge": 0.0}, "0.001 up to 10"),
        ({"vote_level": "layer"}, "matrix"),
    ],
)
def test_what_is_not_legal_is_told(given_values: dict, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        neuromerge.merge(*random_model(3, 2, 4, 4), **given_values)


@settings(max_examples=25)
@given(seed=seeds, tasks=st.integers(2, 6))
def test_a_tiny_change_of_an_expert_is_a_tiny_change_of_the_merge(seed: int, tasks: int) -> None:
    """The whole way from checkpoints to weights, untrimmed (a trim has thresholds): the balanced vote is continuous."""
    base, experts = random_model(seed, tasks, 6, 8)
    generator = torch.Generator().manual_seed(seed)
    # Alone in a layer without biases: an election over their entries would jump.
    base = {name: weight for name, weight in base.items() if weight.ndim == 2}
    experts = [{name: expert[name] for name in base} for expert in experts]
    moved = [
        {n: w + 1e-6 * torch.randn(w.shape, generator=generator, dtype=torch.float64) for n, w in e.items()}
        for e in experts
    ]
    plain, other = (neuromerge.merge(base, e, trim_ratio=0.0, vote="balanced").state_dict for e in (experts, moved))
    change = sum(float((other[n] - plain[n]).square().sum()) for n in base) ** 0.5
    size = sum(float((a[n] - b[n]).square().sum()) for a, b in zip(experts, moved, strict=True) for n in base) ** 0.5
    assert change <= reference.balanced_lipschitz(tasks, DEFAULT_RIDGE) * size
