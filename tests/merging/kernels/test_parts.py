"""The kernels one by one: votes against LAPACK and the formula, masks against torch's generator."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromerge.merging import kernels
from neuromerge.merging.kernels.table import Rows
from neuromerge.merging.subspaces import orthogonal_vote

pytestmark = pytest.mark.usefixtures("compiled")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    tasks=st.integers(1, 20),
    overlap=st.sampled_from([0.0, 0.3, 3.0]),
    exponent=st.sampled_from([-100, -12, 0, 60]),
    rank=st.integers(1, 24),
)
def test_published_votes(seed, tasks, overlap, exponent, rank):
    from neuromerge.merging.kernels import calls

    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(12, tasks, rank, generator=generator, dtype=torch.float64)
    parts += overlap * torch.randn(12, 1, rank, generator=generator, dtype=torch.float64)
    parts[0] = 0
    parts[1, 0] = 0
    parts[2, -1] = parts[2, 0]
    gram = (parts * 10.0**exponent) @ (parts * 10.0**exponent).transpose(1, 2)
    expected = orthogonal_vote(gram)
    alpha, margin, weight, ill = calls.published_votes(gram)
    well = ~(expected.ill_conditioned | ill)
    largest = float(expected.weight.max())
    torch.testing.assert_close(alpha[well], expected.alpha[well], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(margin[well] / largest, expected.margin[well] / largest, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(weight[well] / largest, expected.weight[well] / largest, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), tasks=st.integers(1, 20), ridge=st.sampled_from([0.001, 0.1, 10.0]))
def test_balanced_votes(seed, tasks, ridge):
    from neuromerge.merging.kernels import calls

    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(7, tasks, 30, generator=generator, dtype=torch.float64)
    parts[0] = 0
    parts[1] = parts[1, 0]
    gram = parts @ parts.transpose(1, 2)
    alpha = calls.balanced_votes(gram, ridge)
    assert (alpha[0] == 0).all()
    energy = torch.diagonal(gram, dim1=1, dim2=2)
    system = gram + ridge * energy.mean(1).view(-1, 1, 1) * torch.eye(tasks, dtype=torch.float64)
    torch.testing.assert_close((system @ alpha.unsqueeze(2)).squeeze(2)[1:], energy[1:], rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    count=st.sampled_from([0, 1, 623, 624, 625, 5000]),
    bound=st.one_of(st.floats(0.0, 0.999), st.sampled_from([0.0, 0.5, 0.9])),
)
def test_masks_are_those_of_torch(seed, count, bound):
    from neuromerge.merging.kernels import calls

    found = torch.empty(count, dtype=torch.bool)
    calls.random_at_least(seed, bound, found)
    generator = torch.Generator().manual_seed(seed)
    assert torch.equal(found, torch.rand(count, generator=generator) >= bound)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_precision_number_is_widened_exactly(dtype):
    from neuromerge.merging.kernels import calls, codes
    from neuromerge.merging.kernels.rules import Rule

    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every[torch.isfinite(every)]
    rows = Rows(torch.zeros_like(every), (every, None), True, torch.float32)
    assert torch.equal(calls.combine(rows, Rule(codes.SUM)), every.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inner_products(dtype):
    from neuromerge.merging.kernels import calls

    generator = torch.Generator().manual_seed(0)
    base, *tasks = torch.randn(4, 5, 33, generator=generator, dtype=dtype)
    change = torch.randn(5, 33, generator=generator, dtype=dtype)
    bounds = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)
    found = calls.inner_products(Rows(base, tuple(tasks), True, dtype), bounds, change)
    tau = torch.stack(tasks) - base
    tau = torch.where(tau.abs() >= bounds.to(dtype).view(3, 1, 1), tau, 0).double()
    wide = change.double()
    torch.testing.assert_close(found.dots, (tau * wide).sum(2).T)
    torch.testing.assert_close(found.norms, tau.square().sum(2).T)
    torch.testing.assert_close(found.along, (wide * base.double()).sum(1))
    torch.testing.assert_close(found.square, wide.square().sum(1))


@pytest.mark.parametrize("tasks", [1, 4, 7])
@pytest.mark.parametrize("drops", [False, True])
def test_a_merge_tells_what_the_tasks_find_of_themselves(tasks, drops):
    from neuromerge.merging.kernels import calls, codes
    from neuromerge.merging.kernels.rules import Rule

    generator = torch.Generator().manual_seed(tasks)
    base, *experts = torch.randn(tasks + 1, 6, 300, generator=generator)
    rows, bounds = Rows(base, tuple(experts), True, torch.float32), torch.linspace(0.0, 1.0, tasks, dtype=torch.float64)
    survives = torch.rand(tasks, 6, 300, generator=generator) < 0.5
    rule = Rule(codes.SUM, drops=survives if drops else None, enlarged=2.0)
    found = calls.Found.of(bounds)
    merged = calls.combine(rows, rule, own=1.0, factor=0.3, found=found)
    expected = calls.inner_products(rows, bounds, merged - base)
    assert found.products == pytest.approx(expected.dots.sum(0).numpy(), rel=1e-4, abs=1e-2)
    assert found.squares == pytest.approx(expected.norms.sum(0).numpy(), rel=1e-5)


@pytest.mark.parametrize("ridge", [None, 0.1])
def test_merged_neurons_tell_what_the_tasks_find_of_themselves(ridge):
    from neuromerge.merging.kernels import calls

    generator = torch.Generator().manual_seed(0)
    base, *experts = torch.randn(6, 5, 300, generator=generator)
    rows, bounds = Rows(base, tuple(experts), True, torch.float32), torch.full((5,), 0.7, dtype=torch.float64)
    found, merged = calls.Found.of(bounds), torch.empty_like(base)
    calls.merge_neurons(rows, bounds, ridge=ridge, own=1.0, parallel=0.4, orthogonal=1.5, out=merged, found=found)
    expected = calls.inner_products(rows, bounds, merged - base)
    assert found.products == pytest.approx(expected.dots.sum(0).numpy(), rel=1e-4, abs=1e-2)
    assert found.squares == pytest.approx(expected.norms.sum(0).numpy(), rel=1e-5)


@pytest.mark.parametrize("ends", [(0.5, 1.5), (0.0, 9.0), (1.0, 1.001), (8.0, 9.0)])
@pytest.mark.parametrize("inputs", [1500, 1, 4096])
def test_counts_are_those_of_numpy(ends, inputs):
    from neuromerge.merging.kernels import calls

    generator = torch.Generator().manual_seed(2)
    base, expert = torch.randn(2, 40, inputs, generator=generator)
    rows = Rows(base, (expert,), True, torch.float32)
    size = (expert - base).abs().numpy()
    low, high = (float(np.float32(value)) for value in ends)
    (counted,) = calls.count_magnitudes(rows, [0], [(low, high)], [True])
    inside = size[(size >= low) & (size <= high)]
    assert (counted.entries, counted.reached, counted.above) == (size.size, (size >= low).sum(), (size > high).sum())
    assert np.array_equal(np.sort(counted.found), np.sort(inside))
    assert counted.l1 == pytest.approx(size.sum(dtype=np.float64), rel=1e-6)
    assert counted.l1_above == pytest.approx(size[size > high].sum(dtype=np.float64), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inputs", [1, 63, 64, 4500])
def test_scores_are_counted_as_torch_computes_them(dtype, inputs):
    """A task that is opposed everywhere has no score above zero: nothing beside the entries may count."""
    from neuromerge.merging.baselines.pcb import scores
    from neuromerge.merging.kernels import calls

    generator = torch.Generator().manual_seed(inputs)
    change = torch.rand(3, inputs, generator=generator, dtype=dtype) + 0.1
    tau = torch.cat([change, -0.5 * change[:1]])
    low, high = torch.full((4,), 0.2, dtype=dtype), torch.full((4,), 0.9, dtype=dtype)
    expected = scores(tau.clone(), low, high)
    rows = Rows(torch.zeros(inputs, dtype=dtype), tuple(tau), False, dtype)
    counted = calls.count_scores(rows, torch.stack([low, high]), [(-float("inf"), float("inf"))] * 4, [True] * 4)
    for found, of_task in zip(counted, expected, strict=True):
        assert (found.entries, found.reached, found.above) == (inputs, inputs, 0)
        assert found.most == pytest.approx(float(of_task.max()), rel=1e-5)
        torch.testing.assert_close(torch.from_numpy(found.found), of_task, rtol=1e-5, atol=1e-6)


def freed_too_soon(source: str) -> list[str]:
    """Arrays of a kernel whose address is read after the last line that names them: numba has freed them by then."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef):
            continue
        given = {argument.arg for argument in function.args.args}
        reads = [n for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        # Inside a loop that names an array, it lives until the loop ends.
        loops = [n for n in ast.walk(function) if isinstance(n, ast.For | ast.While)]

        def last(name: str, reads: list[ast.Name] = reads, loops: list[ast.stmt] = loops) -> int:
            lines = [read.lineno for read in reads if read.id == name]
            within = [n.end_lineno or 0 for n in loops for line in lines if n.lineno <= line <= (n.end_lineno or 0)]
            return max([*lines, *within], default=0)

        for taking in [n for n in ast.walk(function) if isinstance(n, ast.Assign)]:
            addresses = [n for n in ast.walk(taking.value) if isinstance(n, ast.Attribute) and n.attr == "ctypes"]
            arrays = {n.id for address in addresses for n in ast.walk(address) if isinstance(n, ast.Name)} - given
            taken = {n.id for target in taking.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            needed = max((last(name) for name in taken), default=0)
            found += [f"{function.name}: {name}" for name in arrays if last(name) < needed]
    return found


def test_no_kernel_uses_the_address_of_an_array_that_numba_has_freed():
    wrong = "def f(n):\n room = g(n)\n kept = room.ctypes.data\n for i in range(n):\n  h(kept)\n"
    assert freed_too_soon(wrong) == ["f: room"]
    assert freed_too_soon(wrong.replace("  h(kept)", "  kept = room.ctypes.data\n  h(kept)")) == []
    for path in sorted(Path(kernels.__file__).parent.glob("*.py")):
        assert freed_too_soon(path.read_text(encoding="utf-8")) == [], path.name
