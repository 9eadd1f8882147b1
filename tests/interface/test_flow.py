"""What follows a moved control and a chosen tab, where something goes wrong on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr
import pytest

from neuromerge.deployment import Limits
from neuromerge.errors import Cancelled, CheckpointError
from neuromerge.exploration.results import GalleryPage, Heatmap
from neuromerge.interface import flow as flow_module
from neuromerge.interface.app import lay_out
from neuromerge.interface.flow import Flow
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.state import CellName
from neuromerge.interface.tabs.interference import InterferenceState, InterferenceTab
from neuromerge.interface.tabs.merge import MergeTab
from neuromerge.interface.tabs.zero_shot import ZeroShotTab
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.setting import Setting
from tests.interface import fakes

FAMILY = fakes.family()


class BrokenPictures(fakes.FakeWorkspace):
    """Measures, but can draw neither heatmaps nor a gallery."""

    def heatmap(self, setting: Setting, key: str, job: Job = UNATTENDED) -> Heatmap:
        raise CheckpointError("The file of flags is cut.")

    def gallery(self, setting: Setting, task: str, *more: Any, **named: Any) -> GalleryPage:
        raise CheckpointError("The file of flags is cut.")


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    messages: list[str] = []

    def show(message: str, title: str, duration: float) -> None:
        messages.append(message)

    monkeypatch.setattr(gr, "Warning", show)
    return messages


@pytest.fixture
def page() -> Page:
    with gr.Blocks(analytics_enabled=False):
        page, _ = lay_out(fakes.loader(BrokenPictures()), {FAMILY.name: FAMILY}, Limits())
    page.pulse.beat("page")
    return page


def moment(page: Page, tab: str, job: Job = UNATTENDED, **changed: Any) -> Moment:
    """A fresh page with that tab open; `changed` are values of the sidebar by the name of the control."""
    values = {component: component.value for component in (*page.inputs, page.signals.move)}
    held = page.controls.read(values[page.signals.sidebar])
    held |= {getattr(page.controls, name): value for name, value in changed.items()}
    return page.moment(
        {**values, page.signals.tab: tab, page.signals.sidebar: list(held.values())},
        "page",
        gr.EventData(None, {}),
        job,
    )


def shown(page: Page, changes: Mapping[Any, Any]) -> str:
    return str(changes[page.readout])


def together(several: Iterator[Changes]) -> Changes:
    return {component: value for changes in several for component, value in changes.items()}


def test_accuracy_is_measured_even_where_the_open_tab_cannot_be_drawn(page: Page, warnings: list[str]) -> None:
    changes = together(Flow(page).follow(moment(page, InterferenceTab.key)))
    assert "nm-score-value" in shown(page, changes)
    assert warnings == ["The file of flags is cut."]


@pytest.mark.parametrize("broken", [None, "heatmap", "layer"])
def test_an_open_layer_is_drawn_after_the_first_score_and_nothing_of_it_is_lost(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    """The maps and the score are what one looks at while a slider moves."""

    def fail(*given: Any, **named: Any) -> None:
        raise CheckpointError("The file of flags is cut.")

    workspace = fakes.FakeWorkspace()
    workspace.first_look = 0.25
    if broken:
        monkeypatch.setattr(workspace, broken, fail)
    with gr.Blocks(analytics_enabled=False):
        page, _ = lay_out(fakes.loader(workspace), {FAMILY.name: FAMILY}, Limits())
    page.pulse.beat("page")
    tab = page.tab(InterferenceTab)
    opened = InterferenceState(cell=CellName("block 2", "fc1"))
    answers = list(Flow(page).follow(moment(page, tab.key).showing(tab.key, opened)))
    told = {name: [n for n, changes in enumerate(answers) if part in changes] for name, part in
            (("maps", tab.heatmap), ("score", page.readout), ("layer", tab.neurons))}  # fmt: skip
    expected = {None: ([0], [1, 3], [2]), "heatmap": ([], [0, 1], []), "layer": ([0], [1, 2], [])}
    assert (told["maps"], told["score"], told["layer"]) == expected[broken]
    assert warnings == ["The file of flags is cut."] * bool(broken)
    if broken is None:
        drawn = tab.draw(moment(page, tab.key).showing(tab.key, opened))
        assert drawn.keys() == {part for changes in (answers[0], answers[2]) for part in changes}


def test_why_there_is_no_merge_is_said_once(page: Page, warnings: list[str]) -> None:
    with pytest.raises(Exception, match="No expert is chosen"):
        together(Flow(page).follow(moment(page, InterferenceTab.key, tasks=[])))
    assert warnings == []


def test_a_tab_that_cannot_be_drawn_is_the_open_one_all_the_same(page: Page, warnings: list[str]) -> None:
    tab = page.tab(ZeroShotTab)
    changes = Flow(page).open_tab(tab, moment(page, page.tabs[0].key))
    assert changes == {page.signals.tab: tab.key}
    assert warnings == ["The file of flags is cut."]


def test_a_tab_chosen_by_a_page_that_is_not_open_yet_is_left_to_what_opens_it(page: Page) -> None:
    page.pulse.forget("page")
    assert Flow(page).open_tab(page.tabs[0], moment(page, page.tabs[0].key)) == {}


def test_an_overtaken_answer_is_not_shown_even_where_it_was_known(page: Page) -> None:
    job = Job()
    job.stop()
    with pytest.raises(Cancelled):
        list(Flow(page).measure(moment(page, page.tabs[0].key, job)))
    assert not page.pulse.settle("page", 0)


def at_rest(page: Page, monkeypatch: pytest.MonkeyPatch) -> Changes:
    monkeypatch.setattr(page.pulse, "settle", lambda page_id, seconds: True)
    return together(Flow(page).come_to_rest(moment(page, "merge")))


def test_a_page_at_rest_measures_the_whole_split(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "data-split='validation'" in shown(page, at_rest(page, monkeypatch))


def test_scores_of_a_large_family_grow_on_the_page_while_it_rests(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = page.loader.workspace()
    assert isinstance(workspace, fakes.FakeWorkspace)
    workspace.growing_parts = (0.25, 0.5)
    monkeypatch.setattr(page.pulse, "settle", lambda page_id, seconds: True)
    answers = list(Flow(page).come_to_rest(moment(page, "merge")))
    tasks = len(FAMILY.experts)
    counts = [f"{40 * tasks:,} of {160 * tasks:,} images so far", f"{80 * tasks:,} of", f"{160 * tasks:,} images"]
    assert all(told in shown(page, changes) for told, changes in zip(counts, answers, strict=True))
    assert "so far" not in shown(page, answers[-1])
    assert [page.signals.session in changes for changes in answers] == [False, False, True], "one step of the history"


def test_what_is_still_being_measured_says_so_wherever_its_number_belongs(page: Page) -> None:
    workspace, merge = page.loader.workspace(), page.tabs[0]
    assert isinstance(workspace, fakes.FakeWorkspace)
    assert isinstance(merge, MergeTab)
    workspace.merge_first = True
    changes = together(Flow(page).measure(moment(page, "merge")))
    assert shown(page, changes).count("being measured") == 2, "base and experts, and not the merge"
    assert "still being measured: the base, the experts" in changes[merge.bars].description
    assert changes[merge.table].count("being measured") == 2 * len(FAMILY.experts)
    assert "<img" not in changes[merge.look], "no picture tells them apart yet"
    workspace.merge_first = False
    changes = together(Flow(page).measure(moment(page, "merge")))
    assert "being measured" not in shown(page, changes) + changes[merge.bars].description + changes[merge.table]
    assert "<img" in changes[merge.look]


def test_a_first_look_is_in_the_strip_alone_and_tasks_that_come_one_by_one_are_in_the_figures_too(page: Page) -> None:
    workspace, merge = page.loader.workspace(), page.tabs[0]
    assert isinstance(workspace, fakes.FakeWorkspace)
    assert isinstance(merge, MergeTab)
    workspace.first_look = 0.25
    first, whole = Flow(page).measure(moment(page, "merge"))
    assert page.pulse.last_answer("page") == moment(page, "merge").setting, "what the next glance is compared with"
    assert re.search(r"mean of \d tasks, \d+ of \d+ images</span>", shown(page, first))
    assert merge.bars not in first
    assert re.search(r"mean of \d tasks, \d+ images</span>", shown(page, whole))
    assert merge.bars in whole
    workspace.first_look, workspace.by_task = 0.0, True
    answers = list(Flow(page).measure(moment(page, "merge")))
    tasks = len(FAMILY.experts)
    told = [f"mean of {known} of {tasks} tasks" for known in range(1, tasks)] + [f"mean of {tasks} tasks"]
    assert all(words in shown(page, changes) for words, changes in zip(told, answers, strict=True))
    assert f"still being measured: {tasks - 1} more tasks" in answers[0][merge.bars].description
    assert "<img" not in answers[0][merge.look]
    assert "1 more task" in answers[-2][merge.bars].description
    assert "more task" not in answers[-1][merge.bars].description


def test_the_rest_of_a_quick_look_waits_for_a_glance_to_be_painted_unless_somebody_else_waits(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, job = page.loader.workspace(), Job()
    assert isinstance(workspace, fakes.FakeWorkspace)
    workspace.first_look = 0.25
    slept: list[float] = []
    monkeypatch.setattr("neuromerge.interface.flow.time.sleep", slept.append)
    monkeypatch.setattr("neuromerge.interface.flow.time.monotonic", lambda: sum(slept))
    list(Flow(page).measure(moment(page, "merge")))
    assert sum(slept) == pytest.approx(flow_module.GLANCE_SECONDS)
    slept.clear()
    page.queued = lambda lane: int(lane == "light")
    list(Flow(page).measure(moment(page, "merge")))
    assert slept == []
    page.queued = lambda lane: 0
    measuring = Flow(page).measure(moment(page, "merge", job))
    next(measuring)
    job.stop()  # the slider has moved on
    with pytest.raises(Cancelled):
        next(measuring)
    assert slept == []


def test_the_final_test_of_a_large_family_grows_and_is_one_look(page: Page) -> None:
    workspace, merge = page.loader.workspace(), page.tabs[0]
    assert isinstance(workspace, fakes.FakeWorkspace)
    assert isinstance(merge, MergeTab)
    workspace.growing_parts = (0.25, 0.5)
    answers = list(merge.final_test(moment(page, "merge")))
    tasks = len(FAMILY.experts)
    counts = [f"{50 * tasks:,} of {200 * tasks:,} images so far", f"{100 * tasks:,} of", f"{200 * tasks:,} images"]
    assert all(told in shown(page, changes) for told, changes in zip(counts, answers, strict=True))
    assert all("this was the one look" in changes[merge.hint] for changes in answers)


def test_where_many_wait_the_quick_look_stays_and_says_so(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    page.queued = lambda lane: {"settle": page.limits.settle_queue}[lane]
    changes = at_rest(page, monkeypatch)
    assert "data-split='quick'" in shown(page, changes)
    assert "many visitors wait" in shown(page, changes)
    assert page.signals.session in changes, "the setting is a step of the history all the same"


@pytest.mark.parametrize(("ahead", "told"), [(0, ""), (1, "1 whole split waits before yours"), (3, "3 whole splits")])
def test_a_quick_look_says_how_many_wait_before_it(page: Page, ahead: int, told: str) -> None:
    page.queued = lambda lane: ahead
    changes = together(Flow(page).measure(moment(page, "merge")))
    assert told in shown(page, changes)
    assert ("before yours" in shown(page, changes)) == bool(ahead)


def test_what_can_wait_is_filled_in_at_rest_alone_and_stops_with_the_job(page: Page) -> None:
    workspace = page.loader.workspace()
    assert isinstance(workspace, fakes.FakeWorkspace)
    merge = page.tabs[0]
    assert list(Flow(page).fill_in(moment(page, merge.key))) == []
    page.pulse.answered("page", moment(page, "merge").setting)
    assert page.pulse.settle("page", 0)
    filled = list(Flow(page).fill_in(moment(page, merge.key)))
    assert len(filled) > 2
    assert all(set(changes) <= set(merge.filled) for changes in filled)
    measured, job = workspace.strengths, Job()
    growing = Flow(page).fill_in(moment(page, merge.key, job))
    next(growing)
    job.stop()
    with pytest.raises(Cancelled):
        list(growing)
    assert workspace.strengths < 2 * measured


def test_where_many_wait_what_can_wait_stays_as_far_as_it_is_and_says_so(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge, waiting = page.tabs[0], [0]
    page.queued = lambda lane: {"fill": waiting[0]}[lane]
    page.pulse.beat("page")
    page.pulse.answered("page", moment(page, "merge").setting)
    assert page.pulse.settle("page", 0)
    growing = Flow(page).fill_in(moment(page, merge.key))
    assert "Many visitors" not in str(next(growing))
    waiting[0] = page.limits.fill_queue
    assert "Many visitors wait" in str(next(growing))
    assert list(growing) == []
    workspace = page.loader.workspace()
    *_, whole = workspace.strength_curve(moment(page, merge.key).setting)
    monkeypatch.setattr(workspace, "strength_curve", lambda *args, **kwargs: iter([whole]))
    told = str(list(Flow(page).fill_in(moment(page, merge.key))))
    assert "Many visitors" not in told, "a curve that is whole misses nothing"
