"""Torch and the compiled kernels give the same merge: any dtypes, zero rows, ties, zero task vectors."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neuromerge.benchmarks.memory import anonymous_bytes
from neuromerge.benchmarks.merge import perturbed
from neuromerge.merging import kernels
from neuromerge.merging.measures import cells
from neuromerge.merging.registry import check_values, get_method, methods
from neuromerge.merging.staged import NeuronStatistics, first_pass, merged_parts
from neuromerge.merging.streaming import aligned_sources, merge_aligned
from neuromerge.merging.trim import global_thresholds
from neuromerge.merging.vectors import AlignedVectors

pytestmark = pytest.mark.usefixtures("compiled")

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("average", {}),
    ("task_arithmetic", {"scale": 0.4}),
    ("ties", {}),
    ("ties", {"combine": "sum", "trim_ratio": 0.3}),
    ("dare", {"drop_rate": 0.5}),
    ("dare", {"drop_rate": 0.3, "after": "ties", "ties_trim_ratio": 0.6}),
    ("pcb", {"ratio": 0.2}),
    ("consensus", {"min_tasks": 1}),
    ("consensus", {}),
    ("neuromerging", {"trim_ratio": 0.5, "lambda_parallel": 0.7, "lambda_orthogonal": 1.3}),
    ("neuromerging", {"trim_ratio": 0.0}),
    ("neuromerging", {"trim_ratio": 0.3, "vote": "balanced", "lambda_parallel": -0.5}),
]
CHOICES = [
    (name, dict(zip((spec.name for spec in choosing), chosen, strict=True)))
    for name, method in methods().items()
    for choosing in [[spec for spec in method.hyperparameters if spec.choices]]
    for chosen in itertools.product(*(spec.choices for spec in choosing))
    if choosing
]
"""Every combination of words that a method knows: a kernel that overlooks one gives another merge."""


@st.composite
def models(draw) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """A base and its experts, in any mixture of dtypes, with what is awkward in a few rows."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    neurons, inputs, tasks = draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 6))
    shapes = {"first.weight": (neurons, inputs), "second.weight": (inputs, neurons), "bias": (neurons,)}
    levels = draw(st.sampled_from([0, 0, 2]))
    kinds = [draw(st.sampled_from(DTYPES)) for _ in range(tasks + 1)]
    base = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    experts = []
    for task in range(tasks):
        change = {n: 0.1 * torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
        if levels:  # few distinct magnitudes, so that votes and thresholds are tied
            change = {name: torch.round(part * 10 * levels) / (8 * levels) for name, part in change.items()}
        if draw(st.sampled_from([0, 0, 0, 1])):
            change = {name: torch.zeros_like(part) for name, part in change.items()}
        experts.append({name: (base[name] + change[name]).to(kinds[task]) for name in shapes})
    if draw(st.booleans()):
        base["first.weight"][0] = 0
    return {name: part.to(kinds[-1]) for name, part in base.items()}, experts


def merged(aligned: Any, method: str, given_: dict[str, Any], on: bool) -> tuple[dict[str, torch.Tensor], Any]:
    chosen = get_method(method)
    out: dict[str, torch.Tensor] = {}
    with kernels.switched(on):
        report = merge_aligned(aligned, chosen, check_values(chosen, given_), out.__setitem__, seed=5)
    return out, report


@pytest.mark.parametrize(("method", "given_"), METHODS)
@settings(max_examples=25, deadline=None)
@given(model=models())
def test_merges_are_equal(method, given_, model):
    assert_equal_merges(method, given_, model)


@pytest.mark.parametrize(("method", "given_"), CHOICES)
@settings(max_examples=5, deadline=None)
@given(model=models())
def test_merges_are_equal_for_every_choice(method, given_, model):
    assert_equal_merges(method, given_, model)


def assert_equal_merges(method, given_, model):
    aligned = aligned_sources(model[0], dict(zip("abcdefgh", model[1], strict=False)))
    by_torch, told = merged(aligned, method, given_, False)
    by_kernel, also = merged(aligned, method, given_, True)
    assume(not told.ill_conditioned_per_layer)  # their merge hangs on the last bit, whoever computes it
    assert also.kept_share == told.kept_share
    assert also.coefficients == pytest.approx(told.coefficients, rel=1e-5)
    if all(part.dtype.itemsize >= 4 for part in model[0].values()):  # it is that of the weights as they are stored
        assert also.retention == pytest.approx(told.retention, rel=1e-3, abs=1e-3)
    for name, expected in by_torch.items():
        assert by_kernel[name].dtype == expected.dtype
        tolerance = {torch.float64: 1e-6, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[
            expected.dtype
        ]
        torch.testing.assert_close(by_kernel[name], expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(model=models(), ratio=st.sampled_from([0.0, 0.4, 0.8]))
def test_first_passes_are_equal(model, ratio):
    vectors = AlignedVectors(aligned_sources(model[0], model[1]))
    thresholds = global_thresholds(vectors, ratio)
    passes = []
    for on in (False, True):
        with kernels.switched(on):
            passes.append(first_pass(vectors, thresholds))
            again = merged_parts(vectors, passes[-1])
            for name, part in passes[-1].orthogonal.items():
                torch.testing.assert_close(again[name], part, rtol=2e-5, atol=2e-5)
    by_torch, by_kernel = passes
    for name, expected in by_torch.statistics.items():
        found = by_kernel.statistics[name]
        if not isinstance(expected, NeuronStatistics):
            assert found.conflict == expected.conflict
            continue
        scale = float(torch.diagonal(expected.gram, dim1=1, dim2=2).max()) or 1.0
        torch.testing.assert_close(found.base_square, expected.base_square, rtol=1e-13, atol=0)
        torch.testing.assert_close(found.parallel, expected.parallel, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(found.gram, expected.gram, rtol=1e-12, atol=1e-14 * scale)
        torch.testing.assert_close(found.parallel_merged, expected.parallel_merged, rtol=1e-11, atol=1e-14)
        well = ~(expected.ill_conditioned | found.ill_conditioned)
        torch.testing.assert_close(found.alpha[well], expected.alpha[well], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(found.margin[well], expected.margin[well], rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(
            by_kernel.orthogonal[name][well], by_torch.orthogonal[name][well], rtol=2e-5, atol=2e-5
        )
        if vectors.dtype == torch.float64:
            assert found.conflict == expected.conflict
    assert len(cells(by_kernel)) == len(cells(by_torch))


def test_a_parallel_part_that_dominates_does_not_cancel():
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(6, 50, generator=generator, dtype=torch.float64)
    experts = [
        base * (1 + 0.1 * t) + 1e-7 * torch.randn(6, 50, generator=generator, dtype=torch.float64) for t in (1, 2, 3)
    ]
    vectors = AlignedVectors(aligned_sources({"w.weight": base}, [{"w.weight": e} for e in experts]))
    statistics = first_pass(vectors, global_thresholds(vectors, 0.0)).statistics["w.weight"]
    tau = torch.stack(experts) - base
    shares = (tau * base).sum(2) / base.square().sum(1)
    parts = (tau - shares.unsqueeze(2) * base).movedim(0, 1)
    expected = parts @ parts.transpose(1, 2)
    torch.testing.assert_close(statistics.gram, expected, rtol=1e-6, atol=1e-7 * float(expected.max()))


@pytest.mark.parametrize("inputs", [1, 15, 385, 1000])
def test_conflicts_of_what_little_is_left_beside_the_base(inputs):
    """Orthogonal parts of the size of a rounding: rounded twice, some would be 0 and oppose nobody."""
    generator = torch.Generator().manual_seed(inputs)
    base = torch.randn(20, inputs, generator=generator)
    along = torch.randn(8, 1, 1, generator=generator)
    tau = 1e-7 * torch.randn(8, 20, inputs, generator=generator) + along * base
    aligned = aligned_sources({"w.weight": base}, [{"w.weight": base + change} for change in tau])
    counts = []
    for on in (False, True):
        with kernels.switched(on):
            vectors = AlignedVectors(aligned)
            found = first_pass(vectors, global_thresholds(vectors, 0.0)).statistics["w.weight"]
        assert isinstance(found, NeuronStatistics)
        assert found.conflict is not None
        counts.append(found.conflict)
    (by_torch, several), (by_kernel, also) = counts
    assert several == also
    assert abs(by_torch - by_kernel) <= 0.005 * several


@pytest.mark.parametrize("method", ["pcb", "ties", "neuromerging"])
def test_quantiles_of_many_entries_by_a_sample(method):
    generator = torch.Generator().manual_seed(3)
    shapes = {"a.weight": (1100, 700), "b.weight": (700, 600)}
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    experts = [perturbed(base, 0.01 * k, generator) for k in (1, 2, 3)]
    aligned = aligned_sources(base, experts)
    by_torch, told = merged(aligned, method, {}, False)
    by_kernel, also = merged(aligned, method, {}, True)
    assert also.kept_share == told.kept_share
    for name in by_torch:
        close = torch.isclose(by_kernel[name], by_torch[name], rtol=1e-4, atol=1e-5)
        assert close.float().mean() > (0.98 if method == "neuromerging" else 0.999999)  # some neurons hang on rounding


def test_scores_of_more_experts_than_exp_has_room_for(monkeypatch):
    """exp(90) is beyond float32: every weight was NaN."""
    monkeypatch.setattr("neuromerge.merging.baselines.pcb._SAMPLED_FROM", 1)
    generator = torch.Generator().manual_seed(7)
    base = {"a.weight": torch.randn(40, 50, generator=generator)}
    experts = [perturbed(base, 0.01, generator) for _ in range(95)]
    few, many = (aligned_sources(base, experts[:count]) for count in (80, 95))
    for aligned in (few, many):
        (by_torch, _), (by_kernel, _) = (merged(aligned, "pcb", {}, on) for on in (False, True))
        assert torch.isfinite(by_torch["a.weight"]).all()
        torch.testing.assert_close(by_kernel["a.weight"], by_torch["a.weight"], rtol=1e-3, atol=1e-3)
    assert not torch.equal(merged(few, "pcb", {}, True)[0]["a.weight"], base["a.weight"])


def test_columns_and_misaligned_rows_are_read_all_the_same(tmp_path):
    """Neurons in columns (`proj`), and weights at an odd address in their file."""
    from safetensors.torch import save

    generator = torch.Generator().manual_seed(4)
    tower = {
        "visual.proj": (12, 6),
        "visual.conv1.weight": (12, 3, 2, 2),
        "visual.class_embedding": (12,),
        "visual.positional_embedding": (5, 12),
        "visual.transformer.resblocks.0.mlp.c_fc.weight": (24, 12),
    }
    base = {name: torch.randn(shape, generator=generator) for name, shape in tower.items()}
    sources = [base, perturbed(base, 0.1, generator), perturbed(base, 0.2, generator)]
    paths = []
    for number, weights in enumerate(sources):
        content = save(weights)
        size = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + size].rstrip()
        header += b" " * ((number + 1) - (8 + len(header)) % 4 % 4)  # no multiple of four
        path = tmp_path / f"{number}.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])
        paths.append(path)
    aligned = aligned_sources(paths[0], paths[1:])
    for method in ("ties", "task_arithmetic"):
        by_torch, _ = merged(aligned, method, {}, False)
        by_kernel, _ = merged(aligned, method, {}, True)
        for name in by_torch:
            torch.testing.assert_close(by_kernel[name], by_torch[name], rtol=1e-5, atol=1e-6)


def test_task_weights_reach_the_kernels():
    generator = torch.Generator().manual_seed(6)
    base = {"a.weight": torch.randn(20, 30, generator=generator)}
    experts = [{"a.weight": base["a.weight"] + torch.randn(20, 30, generator=generator)} for _ in range(2)]
    vectors = AlignedVectors(aligned_sources(base, experts), "cpu", (0.5, 2.0))
    parameter = vectors.parameters[0]
    rows = vectors.stored(parameter)
    _, tau = vectors.read(parameter)
    assert not rows.subtract
    torch.testing.assert_close(torch.stack([t for t in rows.tasks if t is not None]), tau, rtol=0, atol=0)


def test_a_merge_without_copies():
    """The kernels hold a few rows beside the result."""
    size = 1 << 22
    base = {"a.weight": torch.zeros(size // 1024, 1024, dtype=torch.float16)}
    experts = [{"a.weight": torch.full_like(base["a.weight"], 0.5 + k)} for k in range(8)]
    aligned = aligned_sources(base, experts)
    merged(aligned, "task_arithmetic", {}, True)  # threads and libraries take their share once
    before = anonymous_bytes()
    out, _ = merged(aligned, "task_arithmetic", {}, True)
    assert anonymous_bytes() - before < 16 * size  # the result, and what the threads work in; 8 widened copies: 32 size
    assert float(out["a.weight"][0, 0]) == pytest.approx(0.3 * sum(0.5 + k for k in range(8)), rel=1e-3)
