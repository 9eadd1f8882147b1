"""NeuroMerging: golden numbers, an independent implementation, and properties over shapes, dtypes and T."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import neuromerge
from neuromerge.errors import SettingError
from neuromerge.merging import election
from neuromerge.merging.subspaces import decompose, orthogonal_parts, orthogonal_vote
from tests.merging import reference

pytestmark = pytest.mark.usefixtures("path")
GOLDEN = np.load(Path(__file__).parents[1] / "data" / "neuromerging_kernel.npz")
PLAIN = {"trim_ratio": 0.0, "lambda_parallel": 1.0, "lambda_orthogonal": 1.0}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def golden(case: int) -> dict[str, torch.Tensor]:
    prefix = f"case{case}/"
    return {key[len(prefix) :]: torch.from_numpy(GOLDEN[key]) for key in GOLDEN if key.startswith(prefix)}


def experts_of(base: dict[str, torch.Tensor], taus: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    count = len(next(iter(taus.values())))
    return [{name: base[name] + taus[name][t] for name in base} for t in range(count)]


def random_model(seed: int, tasks: int, neurons: int, inputs: int, dtype: torch.dtype = torch.float64, scale=0.1):
    generator = torch.Generator().manual_seed(seed)
    base = {
        "first.weight": torch.randn(neurons, inputs, generator=generator, dtype=torch.float64),
        "first.bias": torch.randn(neurons, generator=generator, dtype=torch.float64),
        "second.weight": torch.randn(inputs, neurons, generator=generator, dtype=torch.float64),
    }
    # Growing norms keep the neurons well-conditioned: equal norms make singular values meet.
    experts = [
        {
            name: (value + scale * (1.0 + 0.7 * t) * torch.randn(value.shape, generator=generator, dtype=torch.float64))
            for name, value in base.items()
        }
        for t in range(tasks)
    ]
    return {k: v.to(dtype) for k, v in base.items()}, [{k: v.to(dtype) for k, v in e.items()} for e in experts]


def well_conditioned(base, experts) -> bool:
    """No vote that rounding could turn: judged in float64 on the given numbers."""
    for name, weight in base.items():
        tau = torch.stack([e[name].double() - weight.double() for e in experts])
        if weight.ndim < 2:
            if (tau.sum(0).abs() < 1e-6).any():
                return False
            continue
        parts = decompose(weight.double(), tau)
        if (parts.parallel.sum(1).abs() < 1e-6).any() or orthogonal_vote(parts.gram).ill_conditioned.any():
            return False
    return True


@pytest.mark.parametrize("case", range(7))
class TestGolden:
    """The authors' own kernel, run in float64."""

    def test_kernel(self, case):
        g = golden(case)
        parts = decompose(g["w0"], g["tau_trimmed"])
        orthogonal = orthogonal_parts(g["w0"], g["tau_trimmed"].movedim(0, 1), parts.parallel)
        parallel = election.psi(parts.parallel.T)[:, None] * g["w0"]
        alpha = orthogonal_vote(parts.gram).alpha
        merged = torch.einsum("kt,ktn->kn", alpha, orthogonal)
        assert (parallel - g["parallel_paper"]).abs().max() < 1e-10
        assert (merged - g["orthogonal"]).abs().max() < 1e-10
        assert (election.psi(g["point_tau"]) - g["point_merged"]).abs().max() < 1e-10

    @pytest.mark.parametrize(("first", "second"), [(1.0, 0.0), (0.0, 1.0), (0.3, 1.7)])
    def test_whole_merge(self, case, first, second):
        g = golden(case)
        base = {"layer.weight": g["w0"]}
        result = neuromerge.merge(
            base,
            experts_of(base, {"layer.weight": g["tau"]}),
            trim_ratio=float(g["trim_ratio"]),
            lambda_parallel=first,
            lambda_orthogonal=second,
        )
        expected = g["w0"] + first * g["parallel_paper"] + second * g["orthogonal"]
        assert (result.state_dict["layer.weight"] - expected).abs().max() < 1e-10


@pytest.mark.parametrize("tasks", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.8, 0.97])
def test_agrees_with_the_plain_implementation(tasks, ratio):
    base, experts = random_model(tasks * 100 + int(ratio * 10), tasks, 12, 17)
    expected = reference.neuromerging(
        {k: v.numpy() for k, v in base.items()},
        [{k: v.numpy() for k, v in e.items()} for e in experts],
        ratio,
        0.4,
        None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = neuromerge.merge(base, experts, trim_ratio=ratio, lambda_parallel=0.4, lambda_orthogonal="auto")
    for name, value in expected.items():
        np.testing.assert_allclose(result.state_dict[name].numpy(), value, atol=1e-9, err_msg=name)


sizes = st.integers(1, 24)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), tasks=st.integers(1, 20), neurons=sizes, inputs=sizes, dtype=dtypes)
def test_one_task_gives_the_expert_back(seed, tasks, neurons, inputs, dtype):
    base, experts = random_model(seed, 1, neurons, inputs, dtype)
    copies = [experts[0]] * tasks
    merged = neuromerge.merge(base, copies, **PLAIN).state_dict
    for name, value in experts[0].items():
        assert merged[name].dtype == dtype
        torch.testing.assert_close(merged[name].double(), value.double(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


# Trimmed numbers are compared in float64 alone: in a narrower type the trim itself may fall on other entries.
trims_and_dtypes = st.tuples(st.just(0.0), dtypes) | st.tuples(st.sampled_from([0.3, 0.8]), st.just(torch.float64))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tasks=st.integers(2, 20),
    neurons=st.integers(1, 6),
    inputs=st.integers(1, 8),
    trim=trims_and_dtypes,
    data=st.data(),
)
def test_order_of_tasks_does_not_matter(seed, tasks, neurons, inputs, trim, data):
    ratio, dtype = trim
    base, experts = random_model(seed, tasks, neurons, inputs, dtype)
    values = {"trim_ratio": ratio, "lambda_parallel": 0.5, "lambda_orthogonal": 1.5}
    one = neuromerge.merge(base, experts, **values)
    if ratio == 0.0:
        assume(well_conditioned(base, experts))
    else:
        assume(not one.ill_conditioned)
    order = data.draw(st.permutations(range(tasks)))
    other = neuromerge.merge(base, [experts[t] for t in order], **values)
    for name in base:
        torch.testing.assert_close(
            one.state_dict[name].double(), other.state_dict[name].double(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
        )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), tasks=st.integers(1, 20), neurons=sizes, factor=st.floats(0.01, 50.0))
def test_scaling_every_task_vector_scales_the_merged_one(seed, tasks, neurons, factor):
    base, experts = random_model(seed, tasks, neurons, 12)
    assume(well_conditioned(base, experts))
    scaled = [{n: base[n] + factor * (e[n] - base[n]) for n in base} for e in experts]
    one = neuromerge.merge(base, experts, **PLAIN).state_dict
    other = neuromerge.merge(base, scaled, **PLAIN).state_dict
    for name in base:
        torch.testing.assert_close(other[name] - base[name], factor * (one[name] - base[name]), atol=1e-8, rtol=1e-7)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), tasks=st.integers(1, 20), dtype=st.sampled_from([torch.float64, torch.float32]))
def test_exactly_orthogonal_parts_are_added_whole(seed, tasks, dtype):
    generator = torch.Generator().manual_seed(seed)
    inputs, neurons = 24, 5
    base = torch.zeros(neurons, inputs, dtype=dtype)
    base[:, 0] = torch.rand(neurons, generator=generator).to(dtype) + 0.5
    taus = torch.zeros(tasks, neurons, inputs, dtype=dtype)
    for t in range(tasks):
        # Each task moves along an axis of its own; norms differ by 30 %.
        taus[t, :, t + 1] = 0.25 * 1.3**t
    model = {"w.weight": base}
    merged = neuromerge.merge(model, experts_of(model, {"w.weight": taus}), **PLAIN).state_dict["w.weight"]
    torch.testing.assert_close(merged, base + taus.sum(0), atol=1e-5, rtol=1e-5)


def test_equal_norms_and_exact_orthogonality_are_reported_as_ill_conditioned():
    base = torch.zeros(4, 6, dtype=torch.float64)
    base[:, 0] = 1.0
    taus = torch.zeros(2, 4, 6, dtype=torch.float64)
    taus[0, :, 1] = taus[1, :, 2] = 0.5
    model = {"blocks.0.w.weight": base}
    result = neuromerge.merge(model, experts_of(model, {"blocks.0.w.weight": taus}), **PLAIN)
    assert result.ill_conditioned == 4
    assert sum(result.ill_conditioned_per_layer.values()) == 4


class TestDegenerateInputs:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_zero_base_rows(self, dtype):
        base, experts = random_model(3, 2, 6, 9, dtype)
        base["first.weight"][2] = 0
        single = neuromerge.merge(base, experts[:1], **PLAIN).state_dict
        torch.testing.assert_close(
            single["first.weight"], experts[0]["first.weight"], atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
        )
        both = neuromerge.merge(base, experts, trim_ratio=0.5, lambda_parallel=1.0, lambda_orthogonal=1.0)
        assert all(torch.isfinite(v).all() for v in both.state_dict.values())

    def test_a_task_that_did_not_move_changes_only_what_the_method_says(self):
        base, experts = random_model(5, 1, 8, 10)
        result = neuromerge.merge(base, {"mover": experts[0], "stayer": base}, **PLAIN)
        # A zero vote has no sign, so the mover is elected alone and kept whole.
        for name in base:
            torch.testing.assert_close(result.state_dict[name], experts[0][name])
        assert result.sigma_per_task == {"mover": 0.0, "stayer": 0.0}

    def test_no_task_moved(self):
        base, _ = random_model(6, 1, 4, 4)
        result = neuromerge.merge(base, [base, base], trim_ratio=0.8)
        assert result.lambda_orthogonal == 1.0
        assert all(torch.equal(result.state_dict[n], base[n]) for n in base)

    def test_constant_task_vector_survives_every_trim(self):
        base = {"w.weight": torch.zeros(5, 6, dtype=torch.float64)}
        expert = {"w.weight": torch.full((5, 6), 0.125, dtype=torch.float64)}
        result = neuromerge.merge(base, {"t": expert}, trim_ratio=0.9, lambda_parallel=1.0, lambda_orthogonal=1.0)
        assert result.kept_share == {"t": 1.0}
        assert torch.equal(result.state_dict["w.weight"], expert["w.weight"])

    def test_ratio_near_one_keeps_the_largest_entry_and_warns(self):
        base, experts = random_model(8, 2, 10, 10)
        with pytest.warns(UserWarning, match="Lower the trim ratio"):
            result = neuromerge.merge(base, experts, trim_ratio=0.9999)
        entries = sum(v.numel() for v in base.values())
        assert min(result.kept_share.values()) >= 1 / entries
        assert result.lambda_orthogonal == pytest.approx(1 / (1 - result.sigma), rel=1e-9)
        assert result.warnings

    def test_tied_parallel_votes_follow_the_majority_of_their_layer(self):
        base = {"w.weight": torch.eye(3, 5, dtype=torch.float64)}
        factors = torch.tensor([[0.1, 0.2, 0.3], [-0.1, 0.1, 0.2]], dtype=torch.float64)  # neuron 0 is tied
        taus = {"w.weight": factors[:, :, None] * base["w.weight"]}
        merged = neuromerge.merge(base, experts_of(base, taus), **PLAIN).state_dict["w.weight"]
        torch.testing.assert_close(torch.diagonal(merged), torch.tensor([1.1, 1.15, 1.25], dtype=torch.float64))

    def test_all_parallel_votes_tied_elect_minus(self):
        base = {"w.weight": torch.eye(1, 2, dtype=torch.float64)}
        taus = {"w.weight": torch.tensor([[[0.25, 0.0]], [[-0.25, 0.0]]], dtype=torch.float64)}
        merged = neuromerge.merge(base, experts_of(base, taus), **PLAIN).state_dict["w.weight"]
        assert merged[0, 0] == pytest.approx(0.75)

    def test_opposed_orthogonal_parts_cancel_in_any_order(self):
        base = {"w.weight": torch.eye(1, 3, dtype=torch.float64)}
        taus = {"w.weight": torch.tensor([[[0.0, 0.5, 0.0]], [[0.0, -0.5, 0.0]]], dtype=torch.float64)}
        experts = experts_of(base, taus)
        for order in (experts, experts[::-1]):
            assert torch.equal(neuromerge.merge(base, order, **PLAIN).state_dict["w.weight"], base["w.weight"])


class TestSettings:
    @pytest.mark.parametrize(
        "bad",
        [
            {"trim_ratio": 1.0},
            {"trim_ratio": -0.1},
            {"trim_ratio": float("nan")},
            {"trim_ratio": "lots"},
            {"lambda_orthogonal": float("inf")},
            {"lambda_orthogonal": "automatic"},
            {"lambda_three": 1.0},
        ],
    )
    def test_a_bad_value_is_named(self, bad):
        base, experts = random_model(0, 1, 2, 2)
        with pytest.raises(SettingError, match=next(iter(bad))):
            neuromerge.merge(base, experts, **bad)

    def test_unknown_method_lists_the_known_ones(self):
        base, experts = random_model(0, 1, 2, 2)
        with pytest.raises(SettingError, match="task_arithmetic"):
            neuromerge.merge(base, experts, method="magic")

    def test_no_task(self):
        base, _ = random_model(0, 1, 2, 2)
        with pytest.raises(SettingError, match="at least one"):
            neuromerge.merge(base, [])

    def test_inputs_are_left_alone(self):
        base, experts = random_model(1, 3, 6, 6)
        before = [{n: v.clone() for n, v in m.items()} for m in (base, *experts)]
        neuromerge.merge(base, experts, trim_ratio=0.5, lambda_parallel=1.0)
        for model, old in zip((base, *experts), before, strict=True):
            assert all(torch.equal(model[n], old[n]) for n in old)
