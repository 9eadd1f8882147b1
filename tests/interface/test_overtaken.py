"""Work for a setting that has passed stops, whichever part of the page it was for."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from neuromerge.benchmarks.load import ORTHOGONAL, Client
from neuromerge.deployment import Limits
from neuromerge.errors import Cancelled
from neuromerge.exploration.protocol import Explorer
from neuromerge.exploration.results import Heatmap, LayerDetail, NeuronDetail
from neuromerge.interface.app import lay_out
from neuromerge.interface.moment import BoundWorkspace
from neuromerge.interface.page import Page
from neuromerge.interface.state import CellName
from neuromerge.interface.tabs.interference import InterferenceState
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.choices import make_setting
from neuromerge.settings.setting import Setting
from tests.interface import fakes
from tests.interface.conftest import serving

FAMILY = fakes.family()
FAMILIES = {FAMILY.name: FAMILY}
STEPS = 200
STEP_SECONDS = 0.02


class SlowWorkspace(fakes.FakeWorkspace):
    """Heatmaps and close-ups take many steps; it counts those that were begun and those that were finished."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = threading.Event()
        self.under_way = threading.Event()
        self.steps = 0
        self.finished: list[tuple[str, Setting]] = []

    def _work(self, what: str, setting: Setting, job: Job) -> None:
        pause = threading.Event()
        steps, seconds = (STEPS, STEP_SECONDS) if self.slow.is_set() else (1, 0.0)
        for _ in range(steps):
            job.check()
            self.steps += 1
            self.under_way.set()
            pause.wait(seconds)
        self.finished.append((what, setting))

    def heatmap(self, setting: Setting, key: str, job: Job = UNATTENDED) -> Heatmap:
        self._work("heatmap", setting, job)
        return super().heatmap(setting, key, job)

    def layer(
        self, setting: Setting, layer: str, matrix: str, sort: str = "contested", job: Job = UNATTENDED
    ) -> LayerDetail:
        self._work("layer", setting, job)
        return super().layer(setting, layer, matrix, sort, job)

    def neuron(
        self,
        setting: Setting,
        layer: str,
        matrix: str,
        index: int,
        image_task: str | None = None,
        job: Job = UNATTENDED,
    ) -> NeuronDetail:
        self._work("neuron", setting, job)
        return super().neuron(setting, layer, matrix, index, image_task, job)


@pytest.fixture
def slow() -> SlowWorkspace:
    return SlowWorkspace()


@pytest.fixture
def client(slow: SlowWorkspace) -> Iterator[Client]:
    with serving(fakes.loader(slow), FAMILIES) as address:
        client = Client(address)
        client.load()
        yield client
        client.close()


@pytest.mark.parametrize("tab", ["tab-interference", "tab-neuron"])
def test_a_heatmap_of_an_overtaken_move_is_not_computed_to_its_end(
    client: Client, slow: SlowWorkspace, tab: str
) -> None:
    client.fire(tab, "select")
    slow.finished.clear()
    slow.under_way.clear()
    slow.steps = 0
    slow.slow.set()
    client.move_on(ORTHOGONAL, 1.0)
    assert slow.under_way.wait(20)
    slow.slow.clear()  # for the second move; the first one goes on as it began
    assert client.move(ORTHOGONAL, 2.0) == []
    assert slow.steps < STEPS
    assert {setting.value("lambda_orthogonal") for _, setting in slow.finished} == {2.0}
    assert "lambda_orthogonal 2" in str(client.value("readout"))


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
    bound.heatmap("cosine")
    bound.layer(CellName("stem", "patch"), "index")
    bound.neuron(CellName("stem", "patch"), 3, "digits")
    bound.gallery("digits", "all", 0)
    bound.confusion("digits")
    bound.classify(np.zeros((4, 4, 3)), ["a", "b"], "{}")
    bound.landscape("x", "y")
    bound.export("open_clip", Path())
    bound.validation_scores(setting, job)
    questions = {name for name, _ in inspect.getmembers(Explorer, inspect.isfunction) if not name.startswith("_")}
    assert set(asked) == questions
    for name, arguments in asked.items():
        assert arguments["setting"] is setting, name
        assert arguments["job"] is job, name
