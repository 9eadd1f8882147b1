"""The workspace on the bundled family, as it ships."""

from __future__ import annotations

import numpy as np
import pytest

from neuromerge.engine.stages import tasks_of
from neuromerge.errors import NeuroMergeError
from neuromerge.evaluation.families import get_family
from neuromerge.exploration.workspace import shared_workspace
from neuromerge.settings.choices import PRESETS, change, make_setting, opening_setting


@pytest.fixture(scope="module")
def setting():
    try:
        family = get_family("pictoclip")
    except NeuroMergeError as error:
        pytest.skip(str(error))
    return make_setting(family)


def test_eight_experts_with_pictures(setting):
    board = shared_workspace().board(setting, "quick", pinned=PRESETS[-1].apply(setting))
    assert len(board.tasks) == len(setting.tasks) == 8
    for scores in (board.base, board.expert, board.merge, board.pinned):
        assert set(scores) == set(board.tasks)
        assert all(16 <= score.n < 40 for score in scores.values())
    assert shared_workspace().engine.of("pictoclip").stages.keeps_components(tasks_of(setting))


def test_heatmap_layer_and_neuron(setting):
    workspace = shared_workspace()
    heatmap = workspace.heatmap(change(setting, lambda_parallel=0.5), "retention")
    assert heatmap.rows == ("stem", *(f"block {block}" for block in range(6)), "head")
    assert np.isfinite(heatmap.orthogonal[1:-1, :6]).all()
    assert np.isfinite(heatmap.parallel[1:-1, :6]).all()
    detail = workspace.layer(setting, "block 2", "fc1")
    assert detail.neurons == 768
    neuron = workspace.neuron(setting, "block 2", "fc1", detail.contested[0].index, "flags")
    assert len(neuron.along_base) == len(neuron.image_labels) == 64
    assert workspace.gallery(setting, "flags", filter="merge_wrong").items[0].image.dtype == np.uint8


def test_examples_tell_base_and_expert_apart_and_stay_while_a_coefficient_moves(setting):
    workspace = shared_workspace()
    opening = opening_setting(get_family("pictoclip"))
    plain, strong = workspace.examples(change(opening, lambda_orthogonal=0.0)), workspace.examples(opening)
    assert len({example.task for example in plain}) == 2
    assert [(e.task, e.item.index) for e in plain] == [(e.task, e.item.index) for e in strong]
    for example in (*plain, *strong):
        assert example.item.base != example.item.truth == example.item.expert
    assert all(example.item.merge == example.item.base for example in plain)
    assert any(example.item.merge == example.item.truth for example in strong)
    assert len(workspace.examples(make_setting(get_family("pictoclip"), ["digits"]))) == 1
