"""Each baseline against numbers that other people's code produced (see tests/data/make_baselines_golden.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuromerge.merging.baselines.ties import disjoint_mean
from tests.merging.dense_vectors import DenseVectors, parameter, run

pytestmark = pytest.mark.usefixtures("path")
GOLDEN = np.load(Path(__file__).parent.parent / "data" / "baselines_golden.npz")
MODELS = ("three", "eight")


def load(model: str) -> DenseVectors:
    names = sorted(key.split("/")[2] for key in GOLDEN.files if key.startswith(f"{model}/base/"))
    base = {name: torch.from_numpy(GOLDEN[f"{model}/base/{name}"]) for name in names}
    tau = {name: torch.from_numpy(GOLDEN[f"{model}/tau/{name}"]) for name in names}
    tasks = [f"task{t}" for t in range(len(next(iter(tau.values()))))]
    return DenseVectors(base, tau, tasks, [parameter(name, tuple(base[name].shape)) for name in names])


def flat(change: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([change[name].flatten() for name in sorted(change)])


def assert_golden(got: torch.Tensor, key: str, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(got, torch.from_numpy(GOLDEN[key]), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("combine", ["mean", "sum"])
@pytest.mark.parametrize("source", ["fusionbench", "mergekit"])
def test_ties(model: str, combine: str, source: str) -> None:
    got = run(load(model), "ties", trim_ratio=0.8, combine=combine, scale=1.0)
    assert_golden(flat(got), f"{model}/{source}_ties_{combine}")


@pytest.mark.parametrize("model", MODELS)
def test_task_arithmetic(model: str) -> None:
    assert_golden(flat(run(load(model), "task_arithmetic", scale=0.3)), f"{model}/mergekit_task_arithmetic")


@pytest.mark.parametrize("model", MODELS)
def test_ties_of_thinned_task_vectors(model: str) -> None:
    thinned = torch.from_numpy(GOLDEN[f"{model}/thinned"])
    # mergekit gives an entry that every task dropped no share, so a tie there cannot show.
    assert_golden(disjoint_mean(thinned, majority=1), f"{model}/mergekit_dare_ties")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
@pytest.mark.parametrize("least", [1, 2, 3])
def test_consensus(model: str, threshold: float, least: int) -> None:
    vectors = load(model)
    masks = torch.from_numpy(GOLDEN[f"{model}/fusionbench_mask_{threshold}"])
    expected = 0.3 * vectors.flat().sum(0) * (masks >= least)
    got = flat(run(vectors, "consensus", threshold=threshold, min_tasks=least))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", ["tsv_m", "iso_c"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
def test_singular(model: str, method: str, dtype: torch.dtype, tolerance: float) -> None:
    vectors = load(model).mapped(lambda tau: tau.to(dtype))
    for name, change in run(vectors, method, scale=1.0).items():
        assert change.dtype == dtype
        assert_golden(change.double(), f"{model}/fusionbench_{method}/{name}", tolerance)


def test_pcb() -> None:
    coefficient = float(np.float32(1.2))  # the authors' coefficients are float32, their weights here float64
    assert_golden(flat(run(load("eight"), "pcb", scale=coefficient)), "eight/authors_pcb", 1e-11)


@pytest.mark.parametrize(("method", "given"), [("ties", {"trim_ratio": 0.8}), ("pcb", {})])
def test_half_precision_stays_close(method: str, given: dict[str, Any]) -> None:
    """float32 changes the votes of nothing here: the models' votes are not tied."""
    vectors = load("eight")
    exact = flat(run(vectors, method, **given))
    single = flat(run(vectors.mapped(lambda tau: tau.float()), method, **given))
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5)
