"""Each baseline against a plain, whole-model implementation written from its definition."""

from __future__ import annotations

import math

import pytest
import torch

from tests.merging.dense_vectors import DenseVectors, random_vectors, run, run_by_rows

FORMATS = [
    pytest.param(torch.float64, None, id="float64"),
    pytest.param(torch.float32, None, id="float32"),
    pytest.param(torch.float32, torch.float16, id="stored-float16"),
    pytest.param(torch.float32, torch.bfloat16, id="stored-bfloat16"),
]


def assert_equal(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in got.items():
        assert value.shape == expected[name].shape
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=tolerance, atol=tolerance)


def tolerance_of(dtype: torch.dtype) -> float:
    return 1e-12 if dtype == torch.float64 else 1e-5


# ---------------------------------------------------------------- reference implementations, on (T, d) matrices


def reference_trim(flat: torch.Tensor, ratio: float) -> torch.Tensor:
    q = math.floor(ratio * flat.shape[1] + 1e-9)
    if q == 0:
        return flat.clone()
    threshold = flat.abs().sort(dim=1).values[:, q - 1 : q]
    return torch.where(flat.abs() >= threshold, flat, 0.0)


def reference_ties(flat: torch.Tensor, ratio: float, combine: str) -> torch.Tensor:
    trimmed = reference_trim(flat, ratio)
    sign = trimmed.sum(0).sign()
    majority = sign.sum().sign()
    sign[sign == 0] = majority if majority != 0 else -1
    agreeing = torch.where(trimmed.sign() == sign, trimmed, 0.0)
    count = (agreeing != 0).sum(0).clamp(min=1)
    return agreeing.sum(0) / (count if combine == "mean" else 1)


def reference_consensus(vectors: DenseVectors, threshold: float, reference_scale: float, least: int) -> torch.Tensor:
    flat = vectors.flat()
    base = torch.cat([vectors.base[p.name].flatten() for p in vectors.parameters])
    multi_task = base + reference_scale * flat.sum(0)
    masks = [(base - (base + tau)).abs() > threshold * (multi_task - (base + tau)).abs() for tau in flat]
    return flat.sum(0) * (torch.stack(masks).sum(0) >= least)


def reference_pcb(flat: torch.Tensor, ratio: float) -> torch.Tensor:
    tasks, d = flat.shape
    ordered = flat.abs().sort(dim=1).values
    low, high = ordered[:, int(d * 0.01), None], ordered[:, int(d * 0.99 - 1), None]
    magnitude = flat.abs().clamp(low, high)
    share = (magnitude - low) / (high - low)
    intra = torch.exp(tasks * share**2)
    inter = torch.tanh(flat * (flat.sign() * share).sum(0))
    score = intra * inter
    ordered = score.sort(dim=1).values
    floor = ordered[:, min(d - 1, math.floor(d * (1 - ratio) + 1e-9)), None]
    weight = (score.clamp(min=floor) - floor) / (ordered[:, -1:] - floor)
    total = weight.sum(0)
    return torch.where(total > 0, (weight * flat.sign() * magnitude).sum(0) / total, 0.0)


def reference_tsv_m(tau: torch.Tensor) -> torch.Tensor:
    keep = min(tau.shape[1:]) // len(tau)
    left, values, right = [], [], []
    for task in tau:
        u, s, vh = torch.linalg.svd(task, full_matrices=False)
        left.append(u[:, :keep])
        values.append(s[:keep])
        right.append(vh[:keep])
    u1, _, vh1 = torch.linalg.svd(torch.cat(left, 1), full_matrices=False)
    u2, _, vh2 = torch.linalg.svd(torch.cat(right, 0), full_matrices=False)
    return u1 @ vh1 @ torch.diag(torch.cat(values)) @ u2 @ vh2


def reference_iso_c(tau: torch.Tensor) -> torch.Tensor:
    u, s, vh = torch.linalg.svd(tau.sum(0), full_matrices=False)
    return u @ torch.diag(torch.full_like(s, s.mean())) @ vh


# ---------------------------------------------------------------- comparisons


@pytest.mark.parametrize(("dtype", "stored"), FORMATS)
@pytest.mark.parametrize("tasks", [1, 3, 8])
class TestAgainstReference:
    def test_average(self, tasks: int, dtype: torch.dtype, stored: torch.dtype | None) -> None:
        vectors = random_vectors(tasks, dtype=dtype, stored=stored)
        assert_equal(run(vectors, "average"), vectors.unflat(vectors.flat().mean(0)), tolerance_of(dtype))

    def test_task_arithmetic(self, tasks: int, dtype: torch.dtype, stored: torch.dtype | None) -> None:
        vectors = random_vectors(tasks, dtype=dtype, stored=stored)
        assert_equal(run(vectors, "task_arithmetic"), vectors.unflat(0.3 * vectors.flat().sum(0)), tolerance_of(dtype))

    @pytest.mark.parametrize(("combine", "scale"), [("mean", 1.0), ("sum", 0.3)])
    @pytest.mark.parametrize("trim_ratio", [0.0, 0.5, 0.8])
    def test_ties(
        self,
        tasks: int,
        dtype: torch.dtype,
        stored: torch.dtype | None,
        combine: str,
        scale: float,
        trim_ratio: float,
    ) -> None:
        vectors = random_vectors(tasks, dtype=dtype, stored=stored)
        expected = vectors.unflat(scale * reference_ties(vectors.flat(), trim_ratio, combine))
        got = run(vectors, "ties", combine=combine, trim_ratio=trim_ratio)
        assert_equal(got, expected, tolerance_of(dtype))

    @pytest.mark.parametrize("least", [1, 2, 3])
    def test_consensus(self, tasks: int, dtype: torch.dtype, stored: torch.dtype | None, least: int) -> None:
        vectors = random_vectors(tasks, dtype=dtype, stored=stored)
        # A threshold that no ratio of rounded numbers hits, so that rounding decides no mask.
        flat = reference_consensus(vectors, 0.4123, 0.3, min(least, tasks))
        got = run(vectors, "consensus", min_tasks=least, threshold=0.4123)
        assert_equal(got, vectors.unflat(0.3 * flat), tolerance_of(dtype))

    @pytest.mark.parametrize("ratio", [0.05, 0.5, 1.0])
    def test_pcb(self, tasks: int, dtype: torch.dtype, stored: torch.dtype | None, ratio: float) -> None:
        vectors = random_vectors(tasks, dtype=dtype, stored=stored)
        expected = vectors.unflat(1.2 * reference_pcb(vectors.flat(), ratio))
        assert_equal(run(vectors, "pcb", ratio=ratio), expected, 1e-11 if dtype == torch.float64 else 1e-4)

    @pytest.mark.parametrize("method", ["tsv_m", "iso_c"])
    def test_singular(self, tasks: int, dtype: torch.dtype, stored: torch.dtype | None, method: str) -> None:
        vectors = random_vectors(tasks, dtype=dtype, stored=stored)
        reference = reference_tsv_m if method == "tsv_m" else reference_iso_c
        expected = {
            p.name: reference(vectors.tau[p.name].double())
            if p.kind == "neurons" and p.matrix != "patch"
            else vectors.tau[p.name].mean(0)
            for p in vectors.parameters
        }
        assert_equal(run(vectors, method), expected, 1e-9 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("tasks", [80, 89, 120])
def test_pcb_of_many_tasks_does_not_overflow(tasks: int) -> None:
    vectors = random_vectors(tasks, dtype=torch.float32)
    expected = vectors.unflat(1.2 * reference_pcb(vectors.flat().double(), 0.05))
    got = run(vectors, "pcb")
    close = [torch.isclose(got[name].double(), expected[name], rtol=1e-3, atol=1e-3).flatten() for name in expected]
    assert torch.cat(close).double().mean() > 0.99  # where no other task wins, rounding says which entry is the last


@pytest.mark.parametrize("method", ["average", "task_arithmetic", "ties", "pcb", "consensus", "tsv_m", "iso_c"])
def test_blocks_of_rows_merge_to_the_same(method: str) -> None:
    vectors = random_vectors(3)
    assert_equal(run_by_rows(vectors, method, rows=5), run(vectors, method), 1e-13)


class TestDare:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_task_arithmetic_of_the_survivors(self, dtype: torch.dtype) -> None:
        vectors = random_vectors(4, dtype=dtype)
        got = run(vectors, "dare", drop_rate=0.7, scale=1.0, seed=3)
        for name, change in got.items():
            # Every entry is a sum over some subset of the tasks, each enlarged by 1 / 0.3.
            enlarged = vectors.tau[name] / 0.3
            subsets = torch.tensor([[bool(s >> t & 1) for t in range(4)] for s in range(16)], dtype=dtype)
            sums = torch.einsum("st,t...->s...", subsets, enlarged)
            assert torch.all((sums - change).abs().amin(0) < 1e-5)

    def test_share_of_survivors_and_expectation(self) -> None:
        vectors = random_vectors(1, shapes={"q.weight": (300, 300)}).mapped(torch.ones_like)
        change = run(vectors, "dare", drop_rate=0.9, scale=1.0)["q.weight"]
        assert change.unique().tolist() == pytest.approx([0.0, 10.0])
        assert change.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(0.9 / 0.1 / 90_000))

    def test_ties_of_the_survivors(self) -> None:
        vectors = random_vectors(5)
        survivors = vectors.mapped(torch.clone)
        for t in range(5):
            alone = run(vectors.mapped(lambda tau, t=t: _only(tau, t)), "dare", drop_rate=0.6, scale=1.0, seed=9)
            for name, change in alone.items():
                survivors.tau[name][t] = change
        for trim_ratio in (0.0, 0.5, 0.8):
            got = run(vectors, "dare", drop_rate=0.6, after="ties", ties_trim_ratio=trim_ratio, seed=9)
            expected = vectors.unflat(reference_ties(survivors.flat(), trim_ratio, "mean"))
            assert_equal(got, expected, 1e-12)

    def test_chance_depends_on_seed_task_and_parameter_only(self) -> None:
        vectors = random_vectors(3)
        got = run(vectors, "dare", seed=5)
        assert_equal(run(vectors.permuted([2, 0, 1], [6, 5, 4, 3, 2, 1, 0]), "dare", seed=5), got, 1e-13)
        other = run(vectors, "dare", seed=6)
        assert any(not torch.equal(got[name], other[name]) for name in got)

    def test_tasks_of_equal_name_do_not_share_their_chance(self) -> None:
        vectors = random_vectors(2, shapes={"q.weight": (30, 30)}).mapped(torch.ones_like)
        vectors.task_names = ("same", "same")
        assert run(vectors, "dare", drop_rate=0.5, scale=1.0)["q.weight"].unique().tolist() == [0.0, 2.0, 4.0]

    def test_the_meaning_of_a_seed_does_not_change(self) -> None:
        vectors = random_vectors(1, shapes={"q.weight": (3, 6)}).mapped(torch.ones_like)
        change = run(vectors, "dare", drop_rate=0.5, scale=1.0, seed=42)["q.weight"]
        picture = ["".join("#" if x else "." for x in row) for row in change.tolist()]
        assert picture == [".#.###", "#...##", "......"]

    def test_nothing_dropped_is_task_arithmetic(self) -> None:
        vectors = random_vectors(3)
        assert_equal(run(vectors, "dare", drop_rate=0.0), run(vectors, "task_arithmetic"), 1e-13)


def _only(tau: torch.Tensor, task: int) -> torch.Tensor:
    """All tasks but one zeroed."""
    alone = torch.zeros_like(tau)
    alone[task] = tau[task]
    return alone


class TestTiesVotes:
    def test_a_tied_vote_follows_the_majority_of_all_parameters(self) -> None:
        vectors = random_vectors(2, shapes={"a.weight": (1, 3), "b": (2,)})
        vectors.tau["a.weight"] = torch.tensor([[[1.0, 2.0, 3.0]], [[1.0, 2.0, -4.0]]], dtype=torch.float64)
        vectors.tau["b"] = torch.tensor([[5.0, -6.0], [-5.0, 6.0]], dtype=torch.float64)
        merged = run(vectors, "ties", trim_ratio=0.0)
        assert merged["a.weight"].tolist() == [[1.0, 2.0, -4.0]]  # signs +, +, -: the majority is +
        assert merged["b"].tolist() == [5.0, 6.0]

    def test_no_majority_elects_minus(self) -> None:
        vectors = random_vectors(2, shapes={"b": (3,)})
        vectors.tau["b"] = torch.tensor([[5.0, 1.0, -1.0], [-5.0, 1.0, -1.0]], dtype=torch.float64)
        assert run(vectors, "ties", trim_ratio=0.0)["b"].tolist() == [-5.0, 1.0, -1.0]
