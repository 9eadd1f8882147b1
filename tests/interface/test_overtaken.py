"""Work for a setting that has passed stops, whichever part of the page it was for."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from neuromerge.benchmarks.clients import Client
from neuromerge.benchmarks.load import ORTHOGONAL
from neuromerge.deployment import Limits
from neuromerge.errors import Cancelled
from neuromerge.evaluation.archives import ArchiveLimits
from neuromerge.exploration.protocol import Explorer
from neuromerge.interface.app import lay_out
from neuromerge.interface.moment import BoundWorkspace
from neuromerge.interface.page import Page
from neuromerge.interface.state import CellName
from neuromerge.interface.tabs.interference import InterferenceState
from neuromerge.progress import Job
from neuromerge.settings.choices import make_setting
from tests.interface import fakes
from tests.interface.conftest import serving

FAMILY = fakes.family()
FAMILIES = {FAMILY.name: FAMILY}


@pytest.fixture
def slow() -> fakes.SlowWorkspace:
    return fakes.SlowWorkspace()


@pytest.fixture
def client(slow: fakes.SlowWorkspace) -> Iterator[Client]:
    with serving(fakes.loader(slow), FAMILIES) as address:
        client = Client(address)
        client.load()
        yield client
        client.close()


@pytest.mark.parametrize("tab", ["tab-interference", "tab-neuron"])
def test_a_heatmap_of_an_overtaken_move_is_not_computed_to_its_end(
    client: Client, slow: fakes.SlowWorkspace, tab: str
) -> None:
    client.fire(tab, "select")
    slow.begin()
    client.move_on(ORTHOGONAL, 1.0)
    assert slow.under_way.wait(20)
    slow.slow.clear()  # for the second move; the first one goes on as it began
    assert client.move(ORTHOGONAL, 2.0) == []
    assert slow.steps < slow.most
    assert {setting.value("lambda_orthogonal") for _, setting in slow.finished} == {2.0}
    assert "λ₂ (orthogonal) 2" in str(client.value("readout"))


@pytest.fixture(scope="module")
def page() -> Page:
    with gr.Blocks(analytics_enabled=False):
        return lay_out(fakes.loader(), FAMILIES, Limits())[0]


@pytest.mark.parametrize("key", ["interference", "zero_shot", "neuron"])
def test_no_picture_of_a_tab_is_drawn_once_its_job_is_over(page: Page, key: str) -> None:
    values = {component: component.value for component in page.inputs}
    job = Job()
    moment = page.moment(values, "page", gr.EventData(None, {}), job)
    moment = moment.showing("interference", InterferenceState(cell=CellName("block 2", "fc1")))
    (tab,) = (tab for tab in page.tabs if tab.key == key)
    assert tab.draw(moment)
    job.stop()
    with pytest.raises(Cancelled):
        tab.draw(moment)


def test_whatever_handlers_ask_is_asked_for_their_job() -> None:
    setting, job = make_setting(FAMILY), Job()
    asked: dict[str, Any] = {}

    class Recorder:
        def __getattr__(self, name: str) -> Any:
            signature = inspect.signature(getattr(Explorer, name))
            return lambda *given, **named: asked.update({name: signature.bind(None, *given, **named).arguments})

    bound = BoundWorkspace(Recorder(), setting, job)
    bound.summary()
    bound.board("quick")
    bound.growing_board("test")
    bound.heatmap("cosine")
    bound.layer(CellName("stem", "patch"), "index")
    bound.neuron(CellName("stem", "patch"), 3, "digits")
    bound.input_pictures("digits")
    bound.gallery("digits", "all", 0)
    bound.examples()
    bound.confusion("digits")
    bound.own_pictures("pictures.zip", "{}", ArchiveLimits(), 5)
    bound.inspect("model.safetensors")
    bound.classify(np.zeros((4, 4, 3)), ["a", "b"], "{}")
    bound.landscape("x", "y")
    bound.export("open_clip", Path())
    bound.spelled_out(setting.profile)
    bound.own_certainty(setting, "pictures.zip", "", ArchiveLimits(), job)
    bound.between_tasks("stem", "patch")
    bound.drift()
    bound.strength_curve()
    bound.at_strength(0.5)
    bound.effects("quick")
    bound.comparison("quick")
    questions = {
        name
        for name, question in inspect.getmembers(Explorer, inspect.isfunction)
        if "job" in inspect.signature(question).parameters and name != "prepare"  # the others read no weights
    }
    assert set(asked) == questions
    for name, arguments in asked.items():
        assert arguments.get("setting", setting) == setting, name  # what is asked of a family has none
        assert arguments["job"] is job, name
