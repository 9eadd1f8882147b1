"""Tasks against tasks, against the same numbers from the task vectors themselves, with numpy alone."""

from __future__ import annotations

import numpy as np
import pytest

from neuromerge.engine.stages import pass_of, tasks_of
from neuromerge.errors import SettingError
from neuromerge.merging.staged import NeuronStatistics
from neuromerge.settings.choices import make_setting


def parts_of(workspace, setting, layer="", matrix=""):
    """Every task's trimmed task vector, split in its two parts: subspace -> (T, entries)."""
    stages = workspace.engine.of(setting.family).stages
    found = {"parallel": [], "orthogonal": []}
    for statistics in stages.first_pass(pass_of(setting)).statistics.values():
        parameter = statistics.parameter
        if layer not in ("", parameter.layer) or matrix not in ("", parameter.matrix):
            continue
        base, tau = (read.numpy() for read in stages.rows(pass_of(setting), statistics, 0, parameter.shape[0]))
        if not isinstance(statistics, NeuronStatistics):
            found["orthogonal"].append(tau.reshape(len(tau), -1))
            continue
        base, tau = base.reshape(len(base), -1), tau.reshape(len(tau), len(base), -1)
        along = np.einsum("tkn,kn->tk", tau, base) / np.einsum("kn,kn->k", base, base)
        parallel = along[..., None] * base
        found["parallel"].append(parallel.reshape(len(tau), -1))
        found["orthogonal"].append((tau - parallel).reshape(len(tau), -1))
    return {name: np.concatenate(parts, axis=1) for name, parts in found.items() if parts}


def minus_cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return -unit @ unit.T


SCOPES = [("", ""), ("block 0", ""), ("block 1", "fc1"), ("block 0", "norm")]


@pytest.mark.parametrize(("layer", "matrix"), SCOPES)
@pytest.mark.parametrize("weights", [{}, {"signs": -1.5}])
def test_conflict_is_minus_the_cosine_of_the_task_vectors(tiny, workspace, layer, matrix, weights):
    setting = make_setting(tiny, None, "neuromerging", {"trim_ratio": 0.3}, task_weights=weights)
    between = workspace.between_tasks(setting, layer, matrix)
    parts = parts_of(workspace, setting, layer, matrix)
    parts["both"] = np.concatenate(list(parts.values()), axis=1)
    pairs = np.triu_indices(len(setting.tasks), 1)
    for name, values in between.conflict.items():
        assert np.isnan(np.diag(values)).all()
        if name in parts:
            np.testing.assert_allclose(values[pairs], minus_cosines(parts[name])[pairs], atol=1e-9)
        else:
            assert np.isnan(values).all()
    energies = (parts["both"] ** 2).sum(1)
    np.testing.assert_allclose(between.share, energies / energies.sum(), rtol=1e-9)


@pytest.mark.parametrize("method", ["neuromerging", "ties", "task_arithmetic", "tsv_m"])
def test_what_is_kept_over_the_whole_model_is_the_retention_of_the_summary(tiny, workspace, method):
    setting = make_setting(tiny, None, method, profile={"fc1": 0.5})
    between, told = workspace.between_tasks(setting), workspace.summary(setting).retention
    np.testing.assert_allclose(between.kept["both"], [told[task] for task in setting.tasks], rtol=1e-5)


def test_a_pair_is_sent_to_the_part_with_the_lowest_inner_product(tiny, workspace):
    setting = make_setting(tiny)
    between = workspace.between_tasks(setting)
    found = {}
    for cell in workspace.engine.of(tiny.name).stages.cells(setting):
        for name, part in parts_of(workspace, setting, cell.layer, cell.matrix).items():
            found[cell.layer, cell.matrix, name] = part @ part.T
    for (a, b), place in between.places.items():
        lowest = min(found, key=lambda key: found[key][a, b])
        assert (place.layer, place.matrix, place.subspace) == lowest
        gram = found[lowest]
        assert place.conflict == pytest.approx(-gram[a, b] / np.sqrt(gram[a, a] * gram[b, b]), abs=1e-9)


def test_one_task_has_nobody_to_disagree_with(tiny, workspace):
    between = workspace.between_tasks(make_setting(tiny, ["animals"]))
    assert not between.places
    assert np.isnan(between.conflict["both"]).all()
    assert np.isfinite(between.kept["both"]).all()


def test_no_weights_are_read_once_the_pass_is_there(tiny, workspace, monkeypatch):
    setting = make_setting(tiny)
    workspace.heatmap(setting, "conflict")
    stages = workspace.engine.of(tiny.name).stages
    monkeypatch.setattr(type(stages.vectors(tasks_of(setting))), "read", lambda *_: pytest.fail("reads task vectors"))
    workspace.between_tasks(setting, "block 0")


def test_a_cell_that_is_not_there_is_an_error_in_words(tiny, workspace):
    with pytest.raises(SettingError, match="no cell 'block 9'"):
        workspace.between_tasks(make_setting(tiny), "block 9")
