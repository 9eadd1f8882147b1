"""A method and a measure of a stranger's own, written against the contract alone, in library and engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import neuromerge
from neuromerge.checkpoints import load_checkpoint
from neuromerge.checkpoints.roles import Parameter
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.contents import Contents
from neuromerge.engine.executor import Executor
from neuromerge.engine.stages import tasks_of
from neuromerge.errors import SettingError
from neuromerge.evaluation.families import local_family
from neuromerge.evaluation.towers import VisionModel
from neuromerge.exploration.workspace import Workspace
from neuromerge.merging import measures, registry
from neuromerge.merging.baselines.scaled import scale_spec, trim_ratio_spec
from neuromerge.merging.linear import SCALE, AlongBase, Components
from neuromerge.merging.measures.measure import Measure
from neuromerge.merging.method import Automatic, BrokenTies, Findings, MergeMethod, Run
from neuromerge.merging.profile import make_profile
from neuromerge.merging.trim import Thresholds, apply_trim
from neuromerge.merging.vectors import Chunk, TaskVectors
from neuromerge.settings.choices import make_setting

Votes = dict[str, list[tuple[float, torch.Tensor]]]
"""By parameter and chunk: the balance of signs, and the rows that are tied."""


class Louder(MergeMethod):
    """Every neuron grows where most tasks made it stronger and shrinks otherwise; ties follow their layer."""

    name = "louder"
    title = "Louder"
    summary = "Makes neurons louder or quieter."
    citation = "None."
    hyperparameters = (trim_ratio_spec("Removed first."), scale_spec("auto", "How much."))
    trims = "trim_ratio"
    by_rows = True

    def prepare(self, vectors: TaskVectors, values: Mapping[str, object], seed: int, thresholds: Thresholds) -> Votes:
        return {}

    def automatic(self, name: str, found: Mapping[str, float], known: Findings) -> Automatic:
        return Automatic(0.5 * known.thresholds().auto_lambda, "This is a toy.")

    def components(self, chunk: Chunk, run: Run[Votes]) -> Components:
        tau = apply_trim(chunk.tau, run.thresholds)
        if chunk.parameter.kind == "pointwise":
            return {SCALE: tau.mean(0)}
        sign = torch.sign((tau * chunk.base).double().sum((0, 2)))
        tied = torch.nonzero(sign == 0).squeeze(1) + chunk.start
        run.prepared.setdefault(chunk.parameter.name, []).append((float(sign.sum()), tied))
        return {SCALE: AlongBase(sign)}

    def break_ties(self, parameter: Parameter, run: Run[Votes]) -> BrokenTies | None:
        found = run.prepared.pop(parameter.name, [])
        if not found:
            return None
        tied = torch.cat([rows for _, rows in found])
        majority = 1.0 if sum(balance for balance, _ in found) > 0 else -1.0
        return BrokenTies(SCALE, tied, torch.full((len(tied),), majority, dtype=torch.float64))


@pytest.fixture
def louder() -> Iterator[str]:
    registry.register(Louder)
    yield Louder.name
    registry.unregister(Louder.name)


@pytest.fixture
def loudness() -> Iterator[Measure]:
    measure = measures.register(
        Measure(
            key="loudness",
            title="Loudness",
            sentence="How long the base weights are.",
            formula=r"\lVert w_0\rVert",
            compute=lambda part, cell: part.base_square**0.5,
            words=lambda tasks: ((None, "loud"),),
            low=0.0,
            high=None,
        )
    )
    yield measure
    measures.unregister(measure.key)


@pytest.fixture(scope="module")
def tied(tiny, tmp_path_factory):
    """The tiny family on a coarse grid, where two experts are exact opposites in half of all rows."""
    folder = tmp_path_factory.mktemp("tied") / "tied"
    shutil.copytree(tiny.folder, folder)

    def gridded(tensors):
        return {k: torch.round(w * 256) / 256 if w.is_floating_point() else w for k, w in tensors.items()}

    (stored,) = (folder / "base").glob("*.safetensors")
    base = gridded(load_file(stored))
    save_file(base, stored)
    paths = [folder / "experts" / f"{task}.safetensors" for task in ("animals", "shapes")]
    change = {k: w - base[k] for k, w in gridded(load_file(paths[0])).items()}
    opposed = {k: torch.cat([-c[: len(c) // 2], c[len(c) // 2 :]]) if c.ndim else c for k, c in change.items()}
    for path, tau in zip(paths, (change, opposed), strict=True):
        save_file({k: (base[k] + c).contiguous() for k, c in tau.items()}, path)
    return local_family(folder, allowed=True)


def library(family, setting):
    base = load_checkpoint(family.base)
    experts = {task: load_checkpoint(family.experts[task], name=task) for task in setting.tasks}
    values = dict(setting.hyperparameters)
    return neuromerge.merge(base, experts, setting.method, profile=setting.profile, **values)


def live(family, setting, cache_bytes):
    workspace = Workspace({family.name: family}, cache=BoundedCache(cache_bytes), executor=Executor(1))
    engine = workspace.engine.of(family.name)
    assert engine.stages.keeps_components(tasks_of(setting)) == (cache_bytes > 1e6)
    with engine.models.borrow(Contents(setting=setting)) as model:
        return {name: weight.clone() for name, weight in model.weights.items()}


@pytest.mark.parametrize("cache_bytes", [2**28, 60_000], ids=["components kept", "too large to keep"])
@pytest.mark.parametrize(
    ("method", "values"),
    [("louder", {"trim_ratio": 0.0, "scale": 0.25}), ("neuromerging", {"trim_ratio": 0.0, "lambda_parallel": 1.5})],
)
def test_ties_of_a_layer_are_broken_live_as_in_the_library(tied, louder, method, values, cache_bytes):
    setting = make_setting(tied, ["animals", "shapes"], method, values)
    result = library(tied, setting)
    expected = VisionModel.from_checkpoint(load_checkpoint(result.state_dict), base=load_checkpoint(tied.base)).weights
    for name, weight in live(tied, setting, cache_bytes).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


def test_the_toy_merges_as_it_says(tied, louder):
    setting = make_setting(tied, ["animals", "shapes"], louder, {"trim_ratio": 0.0, "scale": 0.25})
    base = load_checkpoint(tied.base).state_dict()
    key = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    tau = sum(load_checkpoint(tied.experts[task]).tensor(key).double() - base[key].double() for task in setting.tasks)
    sign = torch.sign((tau * base[key].double()).sum(1))
    assert (sign == 0).sum() >= len(sign) // 2, "half of the rows are tied"
    sign[sign == 0] = 1.0 if sign.sum() > 0 else -1.0
    expected = base[key].double() * (1 + 0.25 * sign.unsqueeze(1))
    torch.testing.assert_close(library(tied, setting).state_dict[key].double(), expected, rtol=1e-6, atol=1e-7)


def test_a_new_method_is_everywhere_at_once(tiny, louder):
    workspace = Workspace({tiny.name: tiny}, cache=BoundedCache(2**28), executor=Executor(1))
    setting = make_setting(tiny, None, louder, {"trim_ratio": 0.5})
    summary = workspace.summary(setting)
    with pytest.warns(UserWarning, match="This is a toy"):
        result = library(tiny, setting)
    assert summary.coefficients == pytest.approx(result.coefficients)
    assert summary.coefficients["scale"] == pytest.approx(0.5 / (1 - summary.sigma))
    assert summary.warnings == result.warnings == ("This is a toy.",)
    assert summary.kept_share == pytest.approx(result.kept_share)
    heatmap = workspace.heatmap(setting, "applied_change")
    linear = np.isfinite(heatmap.parallel)
    np.testing.assert_allclose(heatmap.parallel[linear], summary.coefficients["scale"], rtol=1e-5)
    np.testing.assert_allclose(heatmap.orthogonal[linear], 0.0, atol=1e-4)  # it only scales neurons
    halved = workspace.heatmap(replace(setting, profile=make_profile({"fc1": 0.5})), "applied_change")
    place = heatmap.columns.index("fc1")
    np.testing.assert_allclose(2 * halved.parallel[:, place], heatmap.parallel[:, place], rtol=1e-9)


def test_a_new_measure_is_everywhere_at_once(tiny, loudness):
    workspace = Workspace({tiny.name: tiny}, cache=BoundedCache(2**28), executor=Executor(1))
    setting = make_setting(tiny)
    assert loudness in measures.measures()
    heatmap = workspace.heatmap(setting, "loudness")
    key = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    expected = float(load_checkpoint(tiny.base).tensor(key).double().norm())
    assert heatmap.parallel[heatmap.rows.index("block 0"), heatmap.columns.index("fc1")] == pytest.approx(expected)
    experts = {task: load_checkpoint(tiny.experts[task], name=task) for task in setting.tasks}
    table = neuromerge.interference(load_checkpoint(tiny.base), experts)
    assert "loudness" in set(table.measure)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"coefficients": ("strength",)}, "coefficients must be one of"),
        ({"coefficients": ("lambda_parallel", "lambda_orthogonal", "lambda_pointwise")}, "no hyperparameter"),
        ({"trims": "ratio"}, "no hyperparameter 'ratio'"),
        ({"name": "ties"}, "registered twice"),
    ],
)
def test_a_contradiction_is_found_at_once(broken, message):
    with pytest.raises(ValueError, match=message):
        registry.register(type("Broken", (Louder,), {"name": "broken", **broken}))
    with pytest.raises(SettingError):
        registry.get_method("broken")


def test_auto_that_a_method_does_not_have_is_refused(tiny, louder):
    with pytest.raises(SettingError, match="scale must be"):
        make_setting(tiny, None, "task_arithmetic", {"scale": "auto"})
