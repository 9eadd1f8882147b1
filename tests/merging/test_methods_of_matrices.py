"""The methods that take matrices apart, against the authors' numbers: which parameters, q, k and v fused or apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import Cancelled
from neuromerge.merging.linear import SCALE
from neuromerge.merging.passes import components
from neuromerge.merging.registry import check_values, get_method
from neuromerge.progress import Job
from tests.merging.dense_vectors import DenseVectors, parameter, random_vectors, run

GOLDEN = np.load(Path(__file__).parent.parent / "data" / "methods_golden.npz")
MATRICES = ("fc1.weight", "fc2.weight", "k.weight", "q.weight", "v.weight")
METHODS = {
    "iso_c": ("iso_c", {}),
    "iso_cts": ("iso_cts_0.8", {}),
    "tsv_m": ("tsv_m", {}),
    "regmean_free": ("regmean_0.1", {}),
    "wudi": ("wudi", {}),
}


def load(model: str, dtype: torch.dtype = torch.float64) -> DenseVectors:
    tau = {name: torch.from_numpy(GOLDEN[f"{model}/tau/{name}"]).to(dtype) for name in (*MATRICES, "norm.weight")}
    base = {name: torch.ones_like(value[0]) for name, value in tau.items()}
    tasks = [f"task{t}" for t in range(len(tau["norm.weight"]))]
    parameters = [parameter(name, tuple(base[name].shape), name.split(".")[0]) for name in tau]
    return DenseVectors(base, tau, tasks, parameters)


def expected(model: str, key: str, matrix: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[f"{model}/{key}/{matrix}"])


@pytest.mark.parametrize("model", ["three", "eight"])
@pytest.mark.parametrize("method", METHODS)
def test_q_k_and_v_apart(model: str, method: str) -> None:
    key, given = METHODS[method]
    got = run(load(model), method, scale=1.0, **given)
    for matrix in MATRICES:
        torch.testing.assert_close(got[matrix], expected(model, key, matrix), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(got["norm.weight"], load(model).tau["norm.weight"].mean(0))


@pytest.mark.parametrize("model", ["three", "eight"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_q_k_and_v_as_one_matrix(model: str, method: str, dtype: torch.dtype, tolerance: float) -> None:
    """In whatever order the parts stand in the model, and twice over."""
    key, given = METHODS[method]
    got = run(load(model, dtype), method, scale=1.0, fused=True, **given)
    whole = expected(model, key, "qkv.weight")
    for name, rows in zip(("q.weight", "k.weight", "v.weight"), whole.split(16), strict=True):
        torch.testing.assert_close(got[name].double(), rows, rtol=tolerance, atol=tolerance * float(whole.abs().max()))
    for name in ("fc1.weight", "fc2.weight"):
        alone = expected(model, key, name)
        torch.testing.assert_close(got[name].double(), alone, rtol=tolerance, atol=tolerance * float(alone.abs().max()))


@pytest.mark.parametrize("method", METHODS)
def test_a_fused_run_can_be_passed_over_again(method: str) -> None:
    vectors, chosen = load("three"), get_method(method)
    begun = chosen.begin(vectors, check_values(chosen, {"fused": True}), 0)
    first, again = ({p.name: c[SCALE] for p, c in components(vectors, chosen, begun)} for _ in range(2))
    for name, change in first.items():
        assert torch.equal(change, again[name])


def test_blocks_are_fused_each_by_itself_and_only_whole_ones() -> None:
    """Two blocks, one of which has no v: what is missing leaves q and k apart."""

    def part(block: int, matrix: str) -> Parameter:
        name = f"{block}.{matrix}"
        return Parameter(name, name, "vision", f"block {block}", block, matrix, "neurons", (6, 6), 0, 0, 6)

    parts = [part(0, "q"), part(0, "k"), part(0, "v"), part(1, "q"), part(1, "k")]
    made = random_vectors(3, shapes={p.name: p.shape for p in parts})
    vectors = DenseVectors(made.base, made.tau, made.task_names, parts)
    apart, fused = run(vectors, "iso_c"), run(vectors, "iso_c", fused=True)
    for name in ("1.q", "1.k"):
        torch.testing.assert_close(fused[name], apart[name])
    assert not torch.allclose(fused["0.q"], apart["0.q"])


def test_wudi_stops_between_two_steps() -> None:
    vectors, chosen = load("three"), get_method("wudi")
    asked = 0

    def unwanted() -> None:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise Cancelled("Stopped.")

    begun = chosen.begin(vectors, check_values(chosen, {}), 0, job=Job(check=unwanted))
    with pytest.raises(Cancelled):
        dict(components(vectors, chosen, begun))
    assert asked == 5
