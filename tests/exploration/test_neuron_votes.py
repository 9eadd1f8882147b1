"""A close-up shows what the merge's own method does to a neuron."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neuromerge.engine.stages import pass_of
from neuromerge.errors import NeuroMergeError
from neuromerge.evaluation.families import get_family
from neuromerge.exploration.close_ups import in_own_coordinates
from neuromerge.exploration.workspace import shared_workspace
from neuromerge.figures.neuron import merged_change
from neuromerge.settings.choices import make_setting
from neuromerge.settings.setting import Setting

CELL = ("block 2", "fc1")
INDEX = 7


@pytest.fixture(scope="module")
def family() -> Any:
    try:
        return get_family("pictoclip")
    except NeuroMergeError as error:
        pytest.skip(str(error))


def moved_by_the_merge(setting: Setting) -> tuple[float, np.ndarray]:
    """What writing the merge does to the neuron's weights, in its own coordinates."""
    stages = shared_workspace().engine.of(setting.family).stages
    (map_,) = stages.in_cell(pass_of(setting), *CELL)
    base, tau = stages.rows(pass_of(setting), map_, INDEX, INDEX + 1)
    whole, _ = stages.rows(pass_of(setting), map_, 0, map_.parameter.shape[0])
    weights = {map_.parameter.name: whole.float()}
    stages.write(setting, weights)
    return in_own_coordinates(base[0], tau[:, 0], weights[map_.parameter.name][INDEX].double() - base[0])


@pytest.mark.parametrize(
    ("method", "values", "vote"),
    [
        ("neuromerging", {"trim_ratio": 0.8}, "published"),
        ("neuromerging", {"trim_ratio": 0.0, "vote": "balanced", "lambda_parallel": 0.5}, "balanced"),
        ("task_arithmetic", {"scale": 0.7}, ""),
        ("ties", {}, ""),
        ("average", {}, ""),
    ],
)
def test_the_arrow_of_the_merge_is_what_the_merge_writes(family: Any, method: str, values: Any, vote: str) -> None:
    setting = make_setting(family, ["digits", "flags", "faces"], method, values)
    detail = shared_workspace().neuron(setting, *CELL, INDEX, "digits")
    assert detail.vote == vote
    step, rise = merged_change(detail)
    written_step, written_rise = moved_by_the_merge(setting)
    assert step == pytest.approx(written_step, abs=1e-5)
    np.testing.assert_allclose(rise, written_rise, atol=1e-5 * detail.base_norm + 1e-6)


def test_the_pictures_behind_the_inputs_are_theirs(family: Any) -> None:
    workspace, setting = shared_workspace(), make_setting(family)
    detail = workspace.neuron(setting, *CELL, INDEX, "flags")
    assert len(workspace.input_pictures(setting, "flags")) == len(detail.image_labels)
    assert workspace.input_pictures(setting, "nonsense") == ()
