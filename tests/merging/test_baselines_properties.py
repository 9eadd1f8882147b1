"""What must hold for the baselines whatever the weights."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.merging.hyperparameters import AUTO
from neuromerge.merging.linear import SCALE
from neuromerge.merging.registry import check_values, get_method, methods
from neuromerge.merging.singular import leading_triplets, polar_factor
from tests.merging.dense_vectors import DenseVectors, random_vectors, run

BASELINES = ("average", "task_arithmetic", "ties", "dare", "pcb", "consensus", "tsv_m", "iso_c")
DETERMINISTIC = tuple(name for name in BASELINES if name != "dare")

seeds = st.integers(0, 10_000)
task_counts = st.integers(1, 9)
dtypes = st.sampled_from([torch.float32, torch.float64])


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 1e-9) -> None:
    for name in a:
        torch.testing.assert_close(a[name].double(), b[name].double(), rtol=tolerance, atol=tolerance)


def zero_everything(vectors: DenseVectors) -> DenseVectors:
    return vectors.mapped(torch.zeros_like)


@pytest.mark.parametrize("method", BASELINES)
@given(seed=seeds, tasks=task_counts, dtype=dtypes)
def test_shape_dtype_and_finiteness(method: str, seed: int, tasks: int, dtype: torch.dtype) -> None:
    vectors = random_vectors(tasks, seed=seed, dtype=dtype)
    merged = run(vectors, method)
    for p in vectors.parameters:
        change = merged[p.name]
        assert change.shape == p.shape
        assert change.dtype == dtype
        assert torch.isfinite(change).all()


@pytest.mark.parametrize("method", BASELINES)
@given(seed=seeds, tasks=st.integers(2, 6), order=st.randoms(use_true_random=False))
def test_the_order_of_tasks_and_parameters_does_not_matter(method: str, seed: int, tasks: int, order) -> None:
    vectors = random_vectors(tasks, seed=seed)
    by_task, by_parameter = list(range(tasks)), list(range(len(vectors.parameters)))
    order.shuffle(by_task)
    order.shuffle(by_parameter)
    assert_close(run(vectors.permuted(by_task, by_parameter), method), run(vectors, method), 1e-8)


@pytest.mark.parametrize("method", [name for name in BASELINES if name != "pcb"])  # tanh(tau ...) has a scale
@given(seed=seeds, factor=st.floats(0.01, 100))
def test_scaling_every_task_vector_scales_the_merge(method: str, seed: int, factor: float) -> None:
    vectors = random_vectors(3, seed=seed)
    scaled = run(vectors.mapped(lambda tau: tau * factor), method)
    # Relative: a consensus mask may flip where both sides are equal but for rounding.
    for name, change in run(vectors, method).items():
        equal = torch.isclose(scaled[name], change * factor, rtol=1e-8, atol=1e-10 * factor)
        assert (~equal).sum() <= (1 if method == "consensus" else 0)


@pytest.mark.parametrize(
    ("method", "given_values"),
    [
        ("average", {}),
        ("task_arithmetic", {"scale": 1.0}),
        ("ties", {"trim_ratio": 0.0}),
        ("dare", {"drop_rate": 0.0, "scale": 1.0}),
        ("dare", {"drop_rate": 0.0, "after": "ties", "ties_trim_ratio": 0.0}),
        ("consensus", {"scale": 1.0, "threshold": 0.0}),
        ("tsv_m", {}),
    ],
)
@given(seed=seeds)
def test_one_task_untrimmed_gives_the_expert(method: str, given_values: dict, seed: int) -> None:
    vectors = random_vectors(1, seed=seed)
    assert_close(run(vectors, method, **given_values), vectors.unflat(vectors.flat()[0]))


@given(seed=seeds, tasks=st.integers(2, 6))
def test_identical_experts_give_the_expert(seed: int, tasks: int) -> None:
    one = random_vectors(1, seed=seed)
    vectors = DenseVectors(
        one.base,
        {k: v.repeat(tasks, *[1] * (v.ndim - 1)) for k, v in one.tau.items()},
        [f"t{t}" for t in range(tasks)],
        one.parameters,
    )
    expert = one.unflat(one.flat()[0])
    assert_close(run(vectors, "average"), expert)
    assert_close(run(vectors, "ties", trim_ratio=0.0), expert)
    assert_close(run(vectors, "task_arithmetic", scale=1 / tasks), expert)
    # TSV-M: identical leading directions share one place, so each matrix comes back at the kept rank.
    merged = run(vectors, "tsv_m")
    for p in vectors.parameters:
        if p.kind == "neurons" and p.matrix != "patch":
            u, s, v = leading_triplets(expert[p.name], min(p.shape) // tasks)
            torch.testing.assert_close(merged[p.name], u * s @ v.mT, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("method", BASELINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_experts_equal_to_the_base_change_nothing(method: str, dtype: torch.dtype) -> None:
    for change in run(zero_everything(random_vectors(3, dtype=dtype)), method).values():
        assert torch.count_nonzero(change) == 0


@pytest.mark.parametrize("method", BASELINES)
def test_one_expert_equal_to_the_base_does_no_harm(method: str) -> None:
    vectors = random_vectors(3)
    for tau in vectors.tau.values():
        tau[1] = 0.0
    assert all(torch.isfinite(change).all() for change in run(vectors, method).values())


@pytest.mark.parametrize("method", BASELINES)
def test_constant_change(method: str) -> None:
    """Every order statistic is the same number; nothing divides by the empty range."""
    for change in run(random_vectors(3).mapped(lambda tau: torch.full_like(tau, 0.5)), method).values():
        assert torch.isfinite(change).all()


@pytest.mark.parametrize("method", BASELINES)
def test_inputs_are_left_alone(method: str) -> None:
    vectors = random_vectors(3)
    before = {name: tau.clone() for name, tau in vectors.base.items()}
    run(vectors, method)
    for name, value in before.items():
        assert torch.equal(vectors.base[name], value)


@pytest.mark.parametrize("method", [name for name, m in methods().items() if m.coefficients == (SCALE,)])
def test_scale_merely_multiplies(method: str) -> None:
    vectors = random_vectors(4)
    unit = run(vectors, method, scale=1.0)
    twice = run(vectors, method, scale=2.0)
    assert_close(twice, {name: 2.0 * change for name, change in unit.items()}, 1e-12)


class TestIsoC:
    @given(seed=seeds, rows=st.integers(2, 12), columns=st.integers(2, 12))
    def test_every_singular_value_is_the_mean(self, seed: int, rows: int, columns: int) -> None:
        vectors = random_vectors(3, seed=seed, shapes={"fc1.weight": (rows, columns)})
        change = run(vectors, "iso_c")["fc1.weight"]
        mean = torch.linalg.svdvals(vectors.tau["fc1.weight"].sum(0)).mean()
        values = torch.linalg.svdvals(change)
        torch.testing.assert_close(values, mean.expand_as(values), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_low_rank_change_stays_low_rank(self, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randn(shape, generator=generator, dtype=dtype) for shape in ((30, 3), (3, 20)))
        vectors = random_vectors(1, shapes={"fc1.weight": (30, 20)}, dtype=dtype)
        vectors.tau["fc1.weight"] = (left @ right).unsqueeze(0)
        change = run(vectors, "iso_c")["fc1.weight"].double()
        assert torch.linalg.matrix_rank(change, rtol=1e-4) == 3


class TestTsvM:
    def test_more_tasks_than_rows_leave_the_matrix(self) -> None:
        vectors = random_vectors(9, shapes={"fc1.weight": (5, 12), "bias": (4,)})
        merged = run(vectors, "tsv_m")
        assert torch.count_nonzero(merged["fc1.weight"]) == 0
        torch.testing.assert_close(merged["bias"], vectors.tau["bias"].mean(0))

    def test_orthogonal_experts_are_added_whole(self) -> None:
        """Tasks that use other rows and columns do not interfere: nothing needs decorrelation."""
        vectors = random_vectors(2, shapes={"fc1.weight": (8, 8)})
        chunk = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        tau = torch.zeros(2, 8, 8, dtype=torch.float64)
        tau[0, :4, :4], tau[1, 4:, 4:] = chunk, 2 * chunk
        vectors.tau["fc1.weight"] = tau
        torch.testing.assert_close(run(vectors, "tsv_m")["fc1.weight"], tau.sum(0), rtol=1e-10, atol=1e-10)


class TestSingularPrimitives:
    @given(seed=seeds, rows=st.integers(1, 15), columns=st.integers(1, 15), dtype=dtypes)
    def test_triplets_rebuild_the_matrix(self, seed: int, rows: int, columns: int, dtype: torch.dtype) -> None:
        matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        u, s, v = leading_triplets(matrix.to(dtype))
        torch.testing.assert_close(u * s @ v.mT, matrix.to(dtype).double(), rtol=1e-6, atol=1e-6)
        assert s.tolist() == sorted(s.tolist(), reverse=True)

    @given(seed=seeds, rows=st.integers(1, 12), columns=st.integers(1, 12))
    def test_polar_factor_is_that_of_the_svd(self, seed: int, rows: int, columns: int) -> None:
        matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        if s[-1] > 1e-3 * s[0]:
            torch.testing.assert_close(polar_factor(matrix, torch.float64), u @ vh, rtol=1e-8, atol=1e-8)

    def test_small_singular_values_in_float32(self) -> None:
        """The float64 Gram matrix resolves directions a thousand times weaker than the strongest."""
        generator = torch.Generator().manual_seed(0)
        u, _ = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64))
        v, _ = torch.linalg.qr(torch.randn(40, 20, generator=generator, dtype=torch.float64))
        s = torch.logspace(0, -3, 20, dtype=torch.float64)
        _, found, _ = leading_triplets((u * s @ v.mT).float())
        torch.testing.assert_close(found, s, rtol=1e-4, atol=0)


class TestParameters:
    @pytest.mark.parametrize("method", BASELINES)
    def test_every_parameter_is_described(self, method: str) -> None:
        chosen = get_method(method)
        assert chosen.title
        assert chosen.summary.endswith(".")
        assert chosen.citation
        for spec in chosen.hyperparameters:
            assert spec.label
            assert spec.description.endswith(".")
            assert spec.check(spec.default) == spec.default
            if spec.kind in ("float", "int"):
                assert spec.minimum is not None
                assert spec.maximum is not None
                assert spec.step
            if spec.slider is not None:
                assert spec.check(spec.slider[0]) == spec.slider[0]
                assert spec.check(spec.slider[1]) == spec.slider[1]

    @pytest.mark.parametrize(
        ("method", "name", "bad"),
        [
            ("ties", "trim_ratio", 1.0),
            ("ties", "trim_ratio", -0.1),
            ("ties", "combine", "median"),
            ("ties", "scale", math.nan),
            ("task_arithmetic", "scale", AUTO),
            ("task_arithmetic", "scale", math.inf),
            ("dare", "drop_rate", 1),
            ("dare", "after", "average"),
            ("pcb", "ratio", 0),
            ("consensus", "min_tasks", 1.5),
            ("average", "scale", 1.0),
        ],
    )
    def test_values_out_of_range_are_refused(self, method: str, name: str, bad: object) -> None:
        with pytest.raises(SettingError, match=name):
            check_values(get_method(method), {name: bad})

    @pytest.mark.parametrize(
        ("method", "given_values", "scale"),
        [
            ("ties", {}, 1.0),
            ("ties", {"combine": "sum"}, 0.3),
            ("ties", {"combine": "sum", "scale": 0.7}, 0.7),
            ("dare", {}, 0.3),
            ("dare", {"after": "ties"}, 1.0),
            ("pcb", {}, 1.2),
        ],
    )
    def test_the_scale_used_is_reported(self, method: str, given_values: dict, scale: float) -> None:
        chosen, vectors = get_method(method), random_vectors(2)
        values = check_values(chosen, given_values)
        run = chosen.begin(vectors, values, 0)
        report = chosen.report(run, chosen.resolve(run.findings()))
        assert report.coefficients == {"scale": scale}
        if method == "ties":
            assert set(report.kept_share) == set(vectors.task_names)
            assert all(share == pytest.approx(0.2, abs=0.01) for share in report.kept_share.values())
