"""The drift that the page shows, against the library's own merge and plain forward passes."""

from __future__ import annotations

import numpy as np
import pytest

import neuromerge
from neuromerge.checkpoints import load_checkpoint
from neuromerge.errors import SettingError
from neuromerge.evaluation.samples import prepared
from neuromerge.evaluation.towers import VisionModel
from neuromerge.exploration.workspace import Workspace
from neuromerge.settings.choices import make_setting
from tests.exploration.test_workspace import library_merge


@pytest.mark.parametrize("method", ["neuromerging", "task_arithmetic"])
def test_drift_is_that_of_the_library_merge(tiny, workspace, method):
    setting = make_setting(tiny, ["animals", "signs"], method)
    told = workspace.drift(setting)
    base = load_checkpoint(tiny.base)
    merged = VisionModel.from_checkpoint(load_checkpoint(library_merge(tiny, setting).state_dict), base=base)
    models = workspace.engine.of(tiny.name).models
    for place, task in enumerate(told.tasks):
        expert = VisionModel.from_checkpoint(load_checkpoint(tiny.experts[task]), base=base)
        pictures = prepared(models.samples(task, "quick"), expert.preprocessing)
        assert told.pictures[place] == len(pictures)
        a, b = (model.encode_blocks(pictures)[1].double().numpy() for model in (merged, expert))
        cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        np.testing.assert_allclose(told.drift[:, place], 1 - cosine.mean(0), atol=1e-4)
        difference = (a - b).reshape(len(a), len(told.blocks), -1)
        common = np.square(difference.mean(0)).sum(-1) / np.square(difference).sum(-1).mean(0)
        np.testing.assert_allclose(told.common[:, place], common, atol=1e-2)
    assert told.blocks == ("block 0", "block 1")


def test_the_pass_of_the_drift_is_the_pass_of_the_accuracy(tiny, workspace, monkeypatch):
    setting = make_setting(tiny)
    told = Workspace({tiny.name: tiny}).board(setting)
    workspace.drift(setting)
    monkeypatch.setattr(VisionModel, "encode_blocks", lambda *_, **__: pytest.fail("looks again"))
    workspace.drift(setting)
    models = workspace.engine.of(tiny.name).models
    looked = []
    encode = VisionModel.encode
    monkeypatch.setattr(
        VisionModel, "encode", lambda self, part, **more: looked.append(len(part)) or encode(self, part, **more)
    )
    board = workspace.board(setting)
    assert board.merge == told.merge
    # Only the base is still to be looked at: the merge and the experts were.
    assert sum(looked) == sum(len(models.samples(task, "quick")) for task in board.tasks)


def test_the_library_tells_the_drift_of_a_checkpoint(tiny, workspace):
    setting = make_setting(tiny, ["animals", "signs"])
    told, table = (
        workspace.drift(setting),
        neuromerge.drift(library_merge(tiny, setting), list(setting.tasks), family=tiny),
    )
    found = table.pivot(index="block", columns="task", values="drift").loc[list(told.blocks), list(told.tasks)]
    np.testing.assert_allclose(found.to_numpy(), told.drift, atol=1e-4)
    assert set(table["pictures"]) == set(told.pictures)
    with pytest.raises(SettingError, match="There is no expert of 'nothing'"):
        neuromerge.drift(tiny.base, ["nothing"], family=tiny)


def test_one_expert_alone_is_its_own_merge(tiny, workspace):
    told = workspace.drift(make_setting(tiny, ["signs"], "average"))
    np.testing.assert_allclose(told.drift, 0.0, atol=1e-5)
