"""The balanced vote: what it gives where the answer is known, and that it is continuous where the published is not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.merging.subspaces import orthogonal_vote
from neuromerge.merging.votes import DEFAULT_RIDGE, balanced_vote
from tests.merging.reference import balanced_lipschitz

seeds = st.integers(0, 2**31)
task_counts = st.integers(1, 10)
ridges = st.floats(1e-3, 10.0)


def parts(seed: int, tasks: int, inputs: int = 24, neurons: int = 1) -> torch.Tensor:
    """(neurons, T, inputs), of very different norms."""
    generator = torch.Generator().manual_seed(seed)
    size = 10.0 ** torch.empty(neurons, tasks, 1, dtype=torch.float64).uniform_(-2, 2, generator=generator)
    return size * torch.randn(neurons, tasks, inputs, generator=generator, dtype=torch.float64)


def orthogonal(seed: int, tasks: int, inputs: int = 24) -> torch.Tensor:
    """(T, inputs) orthonormal rows."""
    return torch.linalg.qr(parts(seed, tasks, inputs)[0].T)[0].T


def gram(m: torch.Tensor) -> torch.Tensor:
    return m @ m.mT


def merge(m: torch.Tensor, ridge: float) -> torch.Tensor:
    return balanced_vote(gram(m), ridge) @ m


@given(seed=seeds, tasks=task_counts, ridge=ridges)
def test_orthogonal_parts_of_equal_norm_are_added_whole(seed: int, tasks: int, ridge: float) -> None:
    alpha = balanced_vote(gram(3.0 * orthogonal(seed, tasks)), ridge)
    torch.testing.assert_close(alpha, torch.full((tasks,), 1 / (1 + ridge), dtype=torch.float64))


@given(seed=seeds, tasks=st.integers(2, 10))
def test_without_a_ridge_worth_naming_orthogonal_parts_of_any_norm_are_added_whole(seed: int, tasks: int) -> None:
    norms = torch.linspace(1.0, 3.0, tasks, dtype=torch.float64).unsqueeze(1)
    alpha = balanced_vote(gram(norms * orthogonal(seed, tasks)), 1e-9)
    torch.testing.assert_close(alpha, torch.ones(tasks, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@given(seed=seeds, tasks=task_counts, ridge=ridges)
def test_identical_parts_are_averaged(seed: int, tasks: int, ridge: float) -> None:
    m = parts(seed, 1)[0].expand(tasks, -1)
    torch.testing.assert_close(
        balanced_vote(gram(m), ridge), torch.full((tasks,), 1 / (tasks + ridge), dtype=torch.float64)
    )


@given(seed=seeds, pairs=st.integers(1, 4), ridge=ridges)
def test_opposed_parts_cancel(seed: int, pairs: int, ridge: float) -> None:
    half = parts(seed, pairs)[0]
    m = torch.cat([half, -half])
    merged = merge(m, ridge)
    assert float(merged.norm()) <= 1e-9 * float(m.norm())


@given(seed=seeds, tasks=st.integers(2, 8), ridge=st.floats(0.01, 10.0), order=st.randoms(use_true_random=False))
def test_the_order_of_tasks_is_irrelevant(seed: int, tasks: int, ridge: float, order) -> None:
    m, places = parts(seed, tasks)[0], list(range(tasks))
    order.shuffle(places)
    torch.testing.assert_close(balanced_vote(gram(m[places]), ridge), balanced_vote(gram(m), ridge)[places])


@given(seed=seeds, tasks=task_counts, ridge=ridges, exponent=st.integers(-120, 120))
def test_scaling_all_parts_changes_nothing(seed: int, tasks: int, ridge: float, exponent: int) -> None:
    """A power of ten far beyond what squares bear in float32."""
    m = parts(seed, tasks)[0]
    scaled = balanced_vote(gram(m) * 10.0**exponent, ridge)
    torch.testing.assert_close(scaled, balanced_vote(gram(m), ridge), rtol=1e-7, atol=1e-9)


@given(seed=seeds, tasks=st.integers(2, 8), ridge=ridges)
def test_many_neurons_are_solved_as_each_alone(seed: int, tasks: int, ridge: float) -> None:
    grams = gram(parts(seed, tasks, neurons=5))
    torch.testing.assert_close(
        balanced_vote(grams, ridge), torch.stack([balanced_vote(one, ridge) for one in grams]), rtol=1e-12, atol=1e-12
    )


@given(tasks=task_counts, ridge=ridges)
def test_a_neuron_that_no_task_changed_stays(tasks: int, ridge: float) -> None:
    assert torch.equal(balanced_vote(torch.zeros(2, tasks, tasks), ridge), torch.zeros(2, tasks, dtype=torch.float64))


@given(seed=seeds, tasks=st.integers(2, 8), ridge=ridges)
def test_a_task_that_changed_nothing_takes_no_part(seed: int, tasks: int, ridge: float) -> None:
    m = parts(seed, tasks)[0]
    m[0] = 0.0
    assert balanced_vote(gram(m), ridge)[0] == 0.0


@given(seed=seeds, tasks=task_counts, ridge=ridges)
def test_it_solves_what_it_says(seed: int, tasks: int, ridge: float) -> None:
    g = gram(parts(seed, tasks)[0])
    energy = g.diagonal()
    alpha = balanced_vote(g, ridge)
    torch.testing.assert_close(g @ alpha + ridge * energy.mean() * alpha, energy, rtol=1e-6, atol=1e-9 * energy.max())


def nudged(m: torch.Tensor, seed: int, size: float) -> torch.Tensor:
    """m, moved by `size` times its own norm in a random direction."""
    way = torch.randn(m.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return m + way * (size * m.norm() / way.norm())


@given(seed=seeds, tasks=st.integers(1, 8), ridge=ridges, size=st.floats(1e-8, 1e-2))
def test_continuity(seed: int, tasks: int, ridge: float, size: float) -> None:
    """A small change of the task vectors moves the merge by at most C times as much, for one C for all weights."""
    m = parts(seed, tasks)[0]
    other = nudged(m, seed + 1, size)
    moved = float((merge(other, ridge) - merge(m, ridge)).norm())
    # Both ends of the way are within `size` of m in norm; rounding adds what the conditioning of G makes of it.
    rounding = 1e-13 * tasks / ridge * float(m.norm())
    assert moved <= balanced_lipschitz(tasks, ridge) * float((other - m).norm()) + rounding


@given(seed=seeds, tasks=st.integers(2, 8))
def test_orthogonal_parts_are_where_the_published_vote_jumps(seed: int, tasks: int) -> None:
    """One part leans towards another by 1e-6: the balanced merge stays within C * 1e-6, the published does not."""
    norms = torch.linspace(1.0, 2.0, tasks, dtype=torch.float64).unsqueeze(1)
    m = norms * orthogonal(seed, tasks)
    other = m.clone()
    other[0] += 1e-6 * m[-1]
    allowed = balanced_lipschitz(tasks, DEFAULT_RIDGE) * float((other - m).norm())
    assert float((merge(other, 0.1) - merge(m, 0.1)).norm()) <= allowed

    def published(parts: torch.Tensor) -> torch.Tensor:
        return orthogonal_vote(gram(parts).unsqueeze(0)).alpha[0] @ parts

    # Alone in its direction a part is added whole; an overlap that counts as a vote halves it.
    jump = float((published(other) - published(m)).norm())
    assert jump > allowed
    assert jump > 0.4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_parts_are_safe_at_the_smallest_ridge(dtype: torch.dtype) -> None:
    """G is singular, and a little indefinite once it was rounded to float32."""
    m = parts(5, 1, 300)[0].expand(8, -1).to(dtype)
    alpha = balanced_vote(gram(m), 1e-3)
    torch.testing.assert_close(alpha, torch.full((8,), 1 / 8.001, dtype=torch.float64), rtol=1e-3, atol=1e-3)
