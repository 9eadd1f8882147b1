"""Every measure of interference against its definition, computed from the parts themselves; and its limits."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

import neuromerge
from neuromerge.errors import SettingError
from tests.checkpoints import models
from tests.merging import reference

TASKS = ("a", "b", "c")
FIRST, SECOND, RATIO = 0.6, 1.4, 0.5


@pytest.fixture(scope="module")
def model():
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "model.layers.0.self_attn.q_proj.weight": (6, 9),
        "model.layers.0.self_attn.q_proj.bias": (6,),
        "model.layers.1.mlp.fc1.weight": (7, 5),
        "model.layers.1.norm.weight": (5,),
    }
    base = {n: torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}
    experts = {
        name: {
            n: w + 0.1 * (1 + t) * torch.randn(w.shape, generator=generator, dtype=torch.float64)
            for n, w in base.items()
        }
        for t, name in enumerate(TASKS)
    }
    return base, experts


@pytest.fixture(scope="module")
def parts(model):
    """key -> (base, parallel parts, orthogonal parts, merged parallel, merged orthogonal, trimmed tau, c)."""
    base, experts = model
    numpy_base = {n: w.numpy() for n, w in base.items()}
    taus, _ = reference.trim([{n: e[n].numpy() - numpy_base[n] for n in e} for e in experts.values()], RATIO)
    found = {}
    for name, weight in numpy_base.items():
        tau = np.stack([t[name] for t in taus])
        if weight.ndim == 1:
            merged = reference.psi(tau)
            found[name] = (weight, None, tau, None, merged, tau, None)
            continue
        c = np.einsum("tkn,kn->tk", tau, weight) / (weight**2).sum(1)
        parallel = c[:, :, None] * weight
        orthogonal = tau - parallel
        merged_orthogonal = np.stack([reference.orthogonal_merge(orthogonal[:, k]) for k in range(len(weight))])
        merged_parallel = reference.psi(c)[:, None] * weight
        found[name] = (weight, parallel, orthogonal, merged_parallel, merged_orthogonal, tau, c)
    return found


@pytest.fixture(scope="module")
def table(model):
    base, experts = model
    frame = neuromerge.interference(base, experts, trim_ratio=RATIO, lambda_parallel=FIRST, lambda_orthogonal=SECOND)
    return {(row.layer, row.matrix, row.subspace, row.measure): row.value for row in frame.itertuples()}


CELLS = {
    ("block 0", "q"): "model.layers.0.self_attn.q_proj.weight",
    ("block 0", "bias"): "model.layers.0.self_attn.q_proj.bias",
    ("block 1", "fc1"): "model.layers.1.mlp.fc1.weight",
    ("block 1", "norm"): "model.layers.1.norm.weight",
}


def subspaces(parts, key):
    weight, parallel, orthogonal, merged_parallel, merged_orthogonal, tau, c = parts[key]
    if parallel is not None:
        yield "parallel", weight, parallel, FIRST * merged_parallel, c, tau
    yield "orthogonal", weight, orthogonal, SECOND * merged_orthogonal, None, tau


@pytest.mark.parametrize("cell", CELLS)
class TestDefinitions:
    def check(self, table, parts, cell, measure, definition):
        for subspace, *given in subspaces(parts, CELLS[cell]):
            expected = definition(*given)
            assert table[(*cell, subspace, measure)] == pytest.approx(expected, rel=1e-9, abs=1e-12), subspace

    def test_cancellation(self, table, parts, cell):
        def definition(weight, part, merged, c, tau):
            return 1 - np.linalg.norm(part.sum(0)) / sum(np.linalg.norm(p) for p in part)

        self.check(table, parts, cell, "cancellation", definition)

    def test_cosine(self, table, parts, cell):
        def definition(weight, part, merged, c, tau):
            flat = [p.ravel() / np.linalg.norm(p) for p in part]
            return np.mean([flat[i] @ flat[j] for i in range(3) for j in range(i)])

        self.check(table, parts, cell, "cosine", definition)

    def test_retention(self, table, parts, cell):
        def definition(weight, part, merged, c, tau):
            return np.mean([(merged * p).sum() / (p**2).sum() for p in part])

        self.check(table, parts, cell, "retention", definition)
        for t, name in enumerate(TASKS):
            self.check(
                table,
                parts,
                cell,
                f"retention:{name}",
                lambda weight, part, merged, c, tau, t=t: (merged * part[t]).sum() / (part[t] ** 2).sum(),
            )

    def test_applied_change(self, table, parts, cell):
        def definition(weight, part, merged, c, tau):
            return np.linalg.norm(merged) / np.linalg.norm(weight)

        self.check(table, parts, cell, "applied_change", definition)

    def test_sign_conflict(self, table, parts, cell):
        def definition(weight, part, merged, c, tau):
            values, present = (part, tau != 0) if c is None else (c, c != 0)
            voting = present.sum(0) >= 2
            both = ((values > 0) & present).any(0) & ((values < 0) & present).any(0)
            return (both & voting).sum() / voting.sum()

        self.check(table, parts, cell, "sign_conflict", definition)

    def test_election_margin(self, table, parts, cell):
        def definition(weight, part, merged, c, tau):
            if weight.ndim == 1:
                return np.abs(tau.sum(0)).sum() / np.abs(tau).sum()
            if c is not None:
                scale = np.linalg.norm(weight, axis=1)
                return (scale * np.abs(c.sum(0))).sum() / (scale * np.abs(c).sum(0)).sum()
            margin = weightsum = 0.0
            for k in range(len(weight)):
                left, singular, _ = np.linalg.svd(part[:, k], full_matrices=False)
                margin += (singular * np.abs(left.sum(0)) / np.abs(left).sum(0)).sum()
                weightsum += singular.sum()
            return margin / weightsum

        self.check(table, parts, cell, "election_margin", definition)

    def test_energy_share(self, table, parts, cell):
        _, parallel, orthogonal, *_ = parts[CELLS[cell]]
        if parallel is None:
            assert table[(*cell, "orthogonal", "energy_share")] == 1.0
            return
        whole = (parallel**2).sum() + (orthogonal**2).sum()
        assert table[(*cell, "parallel", "energy_share")] == pytest.approx((parallel**2).sum() / whole)
        assert table[(*cell, "orthogonal", "energy_share")] == pytest.approx((orthogonal**2).sum() / whole)


def test_pointwise_cells_have_no_parallel_part(table):
    assert all(math.isnan(v) for (_, m, s, _), v in table.items() if m in ("bias", "norm") and s == "parallel")


def test_table_is_tidy(model):
    base, experts = model
    frame = neuromerge.interference(base, experts, trim_ratio=RATIO)
    assert list(frame.columns) == ["layer", "matrix", "subspace", "measure", "value"]
    assert not frame.duplicated(["layer", "matrix", "subspace", "measure"]).any()


def test_with_lambda_one_zero_the_parallel_part_keeps_nothing(model):
    base, experts = model
    frame = neuromerge.interference(base, experts, trim_ratio=RATIO, lambda_parallel=0.0)
    found = frame[(frame.subspace == "parallel") & frame.measure.isin(["retention", "applied_change"])].value.dropna()
    assert len(found) == 4
    assert (found == 0).all()


@pytest.mark.parametrize("count", [2, 8])
def test_identical_experts_do_not_interfere_and_independent_ones_cancel_by_the_root(count):
    generator = torch.Generator().manual_seed(1)
    base = {"layer.weight": torch.randn(64, 400, generator=generator, dtype=torch.float64)}
    moved = {"layer.weight": base["layer.weight"] + 0.1 * torch.randn(64, 400, generator=generator)}
    same = neuromerge.interference(base, [moved] * count, trim_ratio=0.0).set_index(["subspace", "measure"]).value
    assert same["orthogonal", "cancellation"] == pytest.approx(0.0, abs=1e-9)
    assert same["orthogonal", "cosine"] == pytest.approx(1.0)
    assert same["orthogonal", "sign_conflict"] == 0.0
    others = [
        {"layer.weight": base["layer.weight"] + 0.1 * torch.randn(64, 400, generator=generator)} for _ in range(count)
    ]
    apart = neuromerge.interference(base, others, trim_ratio=0.0).set_index(["subspace", "measure"]).value
    assert apart["orthogonal", "cancellation"] == pytest.approx(1 - 1 / math.sqrt(count), abs=0.02)
    assert apart["orthogonal", "cosine"] == pytest.approx(0.0, abs=0.02)


def test_task_cosines_list_every_pair_once(model, parts):
    base, experts = model
    frame = neuromerge.task_cosines(base, experts, trim_ratio=RATIO)
    cell = frame[(frame.layer == "block 0") & (frame.matrix == "q") & (frame.subspace == "orthogonal")]
    assert sorted(zip(cell.task_a, cell.task_b, strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    a, b = (parts[CELLS["block 0", "q"]][2][t].ravel() for t in (0, 1))
    value = cell[(cell.task_a == "a") & (cell.task_b == "b")].value.item()
    assert value == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_interference_of_both_towers_and_of_shared_tokens():
    base = models.open_clip_model().state_dict()
    experts = [models.perturbed(base, seed) for seed in (1, 2)]
    with pytest.warns(UserWarning, match="Only the vision tower"):
        alone = neuromerge.interference(base, experts)
    assert "Only the vision tower" in alone.attrs["warnings"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = neuromerge.interference(base, experts, towers="both")
    assert {f"vision {layer}" for layer in alone.layer} < set(both.layer)
    assert both.attrs["warnings"] == []
    assert set(neuromerge.task_cosines(base, experts, towers="both").layer) == set(both.layer)
    with pytest.raises(SettingError, match="towers"):
        neuromerge.interference(base, experts, towers="text")


def test_interference_of_arrays_is_that_of_tensors():
    base = models.open_clip_model().state_dict()
    experts = [models.perturbed(base, seed) for seed in (1, 2)]
    arrays = [{key: value.numpy() for key, value in state.items()} for state in (base, *experts)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = neuromerge.interference(base, experts)
        assert neuromerge.interference(arrays[0], arrays[1:]).equals(expected)
