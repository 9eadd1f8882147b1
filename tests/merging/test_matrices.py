"""What is done to whole matrices, against numbers of the authors' and FusionBench's code (make_methods_golden.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.merging import singular, spectra
from neuromerge.merging.baselines import regression
from neuromerge.threads import letting_through

GOLDEN = np.load(Path(__file__).parent.parent / "data" / "methods_golden.npz")
MODELS = ("three", "eight")
MATRICES = ("fc1.weight", "fc2.weight", "q.weight", "qkv.weight")
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]

seeds = st.integers(0, 10_000)
sizes = st.integers(2, 14)


def golden_tau(model: str, matrix: str) -> torch.Tensor:
    parts = ("q.weight", "k.weight", "v.weight") if matrix == "qkv.weight" else (matrix,)
    return torch.cat([torch.from_numpy(GOLDEN[f"{model}/tau/{part}"]) for part in parts], dim=1)


def assert_relative(got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest entry, everywhere."""
    assert got.shape == expected.shape
    assert float((got.double() - expected).abs().max()) <= tolerance * float(expected.abs().max())


CLOSED_FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "iso_c": lambda tau: spectra.isotropic(tau.sum(0)),
    "tsv_m": spectra.decorrelated_sum,
    "iso_cts_0.5": lambda tau: spectra.common_and_specific(tau, 0.5),
    "iso_cts_0.8": lambda tau: spectra.common_and_specific(tau, 0.8),
    "regmean_0.001": lambda tau: regression.regression(tau, 0.001),
    "regmean_0.1": lambda tau: regression.regression(tau, 0.1),
    "svc_0.1": lambda tau: spectra.calibrated(0.3 * tau.sum(0), tau, 0.1),
    "svc_1.0": lambda tau: spectra.calibrated(0.3 * tau.sum(0), tau, 1.0),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("method", CLOSED_FORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_golden(model: str, matrix: str, method: str, dtype: torch.dtype, tolerance: float) -> None:
    got = CLOSED_FORMS[method](golden_tau(model, matrix).to(dtype))
    assert got.dtype == dtype
    assert_relative(got, torch.from_numpy(GOLDEN[f"{model}/{method}/{matrix}"]), tolerance)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_golden_descent(model: str, matrix: str, dtype: torch.dtype, tolerance: float) -> None:
    got = regression.descent(golden_tau(model, matrix).to(dtype), steps=300, rate=1e-5)
    assert_relative(got, torch.from_numpy(GOLDEN[f"{model}/wudi/{matrix}"]), tolerance)


def random_tau(seed: int, tasks: int, rows: int, columns: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tasks, rows, columns, generator=generator, dtype=torch.float64).to(dtype)


class TestRegression:
    @given(seed=seeds, tasks=st.integers(1, 5), rows=sizes, columns=sizes, ridge=st.floats(1e-3, 10))
    def test_no_step_lowers_the_loss(self, seed: int, tasks: int, rows: int, columns: int, ridge: float) -> None:
        """Whichever of the two systems is solved, the gradient of the ridge loss is 0 at the answer."""
        tau = random_tau(seed, tasks, rows, columns)
        merged = regression.regression(tau, ridge).requires_grad_()
        loss = ridge * tasks / columns * merged.square().sum()
        for task in tau:
            loss = loss + ((merged - task) @ task.T).square().sum() / task.square().sum()
        loss.backward()
        assert merged.grad is not None
        assert float(merged.grad.norm()) <= 1e-9 * float(tau.norm())

    @given(seed=seeds, rows=sizes, columns=sizes)
    def test_descent_goes_towards_the_solution(self, seed: int, rows: int, columns: int) -> None:
        """The relation of the two: the same loss, which its solution without a ridge brings lowest."""

        def loss(merged: torch.Tensor) -> float:
            return sum(float(((merged - task) @ task.T).square().sum() / task.square().sum()) for task in tau)

        tau = random_tau(seed, 3, rows, columns)
        start, end = loss(tau.sum(0)), loss(regression.descent(tau, steps=40, rate=1e-3))
        assert loss(regression.regression(tau, 1e-9)) <= end + 1e-9 * start
        assert end <= start * (1 + 1e-9)

    @pytest.mark.parametrize(
        "merge", [lambda tau: regression.regression(tau, 0.1), lambda t: regression.descent(t, 5, 1e-5)]
    )
    def test_tasks_that_changed_nothing_do_not_count(self, merge: Callable[[torch.Tensor], torch.Tensor]) -> None:
        tau = random_tau(3, 3, 6, 5)
        tau[1] = 0.0
        torch.testing.assert_close(merge(tau), merge(tau[[0, 2]]), rtol=1e-9, atol=1e-12)
        assert not merge(torch.zeros_like(tau)).any()

    def test_every_step_can_stop_the_descent(self) -> None:
        seen = []

        def stop(done: int, total: int) -> None:
            seen.append((done, total))
            if done == 3:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            regression.descent(random_tau(1, 2, 4, 4), 300, 1e-5, stop)
        assert seen == [(1, 300), (2, 300), (3, 300)]


class TestIsotropicOfCommonAndOwn:
    @given(seed=seeds, tasks=st.integers(1, 5), rows=sizes, columns=sizes, common=st.floats(0, 1))
    def test_every_singular_value_is_the_same(
        self, seed: int, tasks: int, rows: int, columns: int, common: float
    ) -> None:
        merged = spectra.common_and_specific(random_tau(seed, tasks, rows, columns), common)
        values = torch.linalg.svdvals(merged)
        # Fewer directions than there is room for where the tasks' own do not fill what is left over.
        alive = values[values > 1e-9 * values[0]]
        torch.testing.assert_close(alive, alive[:1].expand_as(alive), rtol=1e-7, atol=0)

    @given(seed=seeds, tasks=st.integers(1, 4), rows=sizes, columns=sizes)
    def test_with_common_directions_alone_it_is_iso_c(self, seed: int, tasks: int, rows: int, columns: int) -> None:
        tau = random_tau(seed, tasks, rows, columns)
        torch.testing.assert_close(spectra.common_and_specific(tau, 1.0), spectra.isotropic(tau.sum(0)))

    @pytest.mark.parametrize(
        ("size", "tasks", "common", "expected"),
        [(768, 8, 0.8, (19, 616)), (512, 3, 0.8, (34, 410)), (4, 8, 0.8, (0, 4))],
    )
    def test_directions_are_shared_out(self, size: int, tasks: int, common: float, expected: tuple[int, int]) -> None:
        assert spectra.split_directions(size, tasks, common) == expected


class TestCalibration:
    @given(seed=seeds, tasks=st.integers(2, 6), rows=sizes, columns=sizes)
    def test_what_every_task_counts_once_more_is_counted_once(
        self, seed: int, tasks: int, rows: int, columns: int
    ) -> None:
        """T identical tasks: their sum counts each T times, and comes back as one of them."""
        task = random_tau(seed, 1, rows, columns)[0]
        tau = task.expand(tasks, rows, columns)
        torch.testing.assert_close(spectra.calibrated(tau.sum(0), tau, 0.1), task, rtol=1e-8, atol=1e-8)

    @given(seed=seeds, tasks=st.integers(1, 4), alpha=st.floats(0.05, 2.0))
    def test_no_singular_value_grows_by_more_than_alpha_allows(self, seed: int, tasks: int, alpha: float) -> None:
        tau = random_tau(seed, tasks, 8, 6)
        change = tau.mean(0)
        before, after = torch.linalg.svdvals(change), torch.linalg.svdvals(spectra.calibrated(change, tau, alpha))
        assert bool((after <= before / alpha * (1 + 1e-9)).all())

    def test_a_task_that_does_nothing_here_counts_as_alpha(self) -> None:
        tau = torch.zeros(2, 3, 3, dtype=torch.float64)
        tau[0] = torch.diag(torch.tensor([1.0, 2.0, 3.0]))
        torch.testing.assert_close(spectra.calibrated(tau[0], tau, 0.5), tau[0] * 2 / 1.5)


class TestIsotropic:
    @pytest.mark.parametrize("shape", [(48, 48), (30, 70), (70, 30)])
    def test_float32_is_as_exact_as_its_input(self, shape: tuple[int, int]) -> None:
        """Square matrices have singular values near 0, whose directions the Gram matrix must still get right."""
        total = random_tau(7, 1, *shape)[0].float()
        assert_relative(spectra.isotropic(total), spectra.isotropic(total.double()), 1e-6)

    @given(seed=seeds, rows=sizes, columns=sizes)
    def test_the_lower_half_of_a_gram_matrix(self, seed: int, rows: int, columns: int) -> None:
        matrix = random_tau(seed, 1, 40 * rows, columns)[0]
        torch.testing.assert_close(singular.lower_gram(matrix).tril(), (matrix @ matrix.T).tril())


@pytest.mark.parametrize("merge", [spectra.decorrelated_sum, lambda tau: spectra.common_and_specific(tau, 0.8)])
def test_others_are_let_through_around_every_task(merge: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """A matrix of many tasks takes longer than a turn of the app may: it can be paused or stopped in between."""
    seen: list[None] = []
    with letting_through(lambda: seen.append(None)):
        merge(random_tau(1, 5, 20, 30))
    assert len(seen) >= 6

    def stop() -> None:
        raise InterruptedError

    with letting_through(stop), pytest.raises(InterruptedError):
        merge(random_tau(1, 5, 20, 30))
