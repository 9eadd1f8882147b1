"""The views of the Interference tab in a real browser: tasks against tasks, drift, and two merges compared."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.interface import fakes
from tests.interface.conftest import Visitor

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect


def choose(page: Any, view: str) -> None:
    page.locator("#interference-view").get_by_text(view, exact=True).click()


def pick(page: Any, identity: str, source: str, row: int, column: int) -> None:
    stage = page.locator(f"#{identity} .nm-stage")
    stage.scroll_into_view_if_needed()
    box = stage.evaluate("(stage, at) => NeuroMergeView.placeOf(stage, ...at)", [source, row, column])
    page.mouse.click(box["x"], box["y"])


# ---------------------------------------------------------------------------------------------- between tasks
def test_tasks_are_set_against_tasks_and_a_pair_opens_where_it_conflicts(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    choose(page, "Between tasks")
    visitor.drawn("task-pairs")
    visitor.drawn("task-kept")
    assert [len(panel) for panel in visitor.cells("task-pairs")] == [len(fakes.TASKS)] * 2
    expect(page.locator("#interference")).to_be_hidden()
    pick(page, "task-pairs", "orthogonal", 0, 1)
    expect(page.locator("#strength-title")).to_contain_text("block 1 · fc1")
    page.locator("#pairs-scope").get_by_text("The open cell").click()
    expect(page.locator("#pairs-sentence")).to_contain_text("block 1 · fc1")


def test_one_task_alone_is_shown_linked_and_followed(visit: Callable[..., Visitor]) -> None:
    first = visit()
    page = first.open("show=tasks", tab="Interference")
    first.drawn("task-pairs")
    page.locator("#pairs-task input").click()
    page.get_by_role("option", name="Flags").click()
    page.wait_for_function("document.querySelector('#task-pairs .nm-stage').data[0].z.length === 1")
    expect(page.locator("#pairs-sentence")).to_contain_text("Flags keeps")
    kept = page.locator("#pairs-sentence").inner_text()
    slider = first.slider("neuromerging-lambda-orthogonal")
    slider.fill("2")
    expect(page.locator("#pairs-sentence")).not_to_have_text(kept)
    page.locator("#copy-link").click()
    page.wait_for_url(re.compile("only=flags"))
    second = visit()
    again = second.open(page.url.partition("?")[2])
    second.drawn("task-pairs")
    again.wait_for_function("document.querySelector('#task-pairs .nm-stage').data[0].z.length === 1")


# ---------------------------------------------------------------------------------------------- drift
def test_the_drift_follows_a_slider_and_its_blocks_can_be_acted_on(visitor: Visitor) -> None:
    page = visitor.open("show=drift", tab="Interference")
    visitor.drawn("drift")
    before = visitor.cells("drift")
    assert [len(panel) for panel in before] == [6, 6]
    visitor.slider("neuromerging-lambda-orthogonal").fill("3")
    page.wait_for_function(
        "old => JSON.stringify(document.querySelector('#drift .nm-stage').data[0].z) !== JSON.stringify(old)",
        arg=before[0],
    )
    pick(page, "drift", "common", 3, 2)
    expect(page.locator("#strength-title")).to_contain_text("all of block 3")
    page.locator("#drift-sentence .nm-cell-link").first.click()
    expect(page.locator("#strength-title")).to_contain_text("all of block")


# ---------------------------------------------------------------------------------------------- two merges
SCALES = """
id => { const { layout } = document.querySelector(`#${id} .nm-stage`);
  return ['coloraxis', 'coloraxis2'].map((name) => [layout[name].cmin, layout[name].cmax]); }
"""


def test_another_merge_is_seen_on_the_same_scale_and_as_a_difference(visitor: Visitor) -> None:
    page = visitor.open("measure=retention", tab="Interference")
    visitor.drawn("interference")
    expect(page.locator("#versus-map")).to_be_hidden()
    page.locator("#versus").get_by_text("The other merge").click()
    visitor.drawn("versus-map")
    expect(page.locator("#versus-title")).to_contain_text("Task arithmetic")
    page.wait_for_function(
        f"() => JSON.stringify(({SCALES})('interference')) === JSON.stringify(({SCALES})('versus-map'))"
    )
    beside = visitor.cells("versus-map")
    page.locator("#versus").get_by_text("The difference").click()
    expect(page.locator("#versus-title")).to_contain_text("This merge minus Task arithmetic")
    page.wait_for_function(
        "old => JSON.stringify(document.querySelector('#versus-map .nm-stage').data.map(t => t.z)) !== old",
        arg=page.evaluate("value => JSON.stringify(value)", beside),
    )
    expect(page.locator("#versus-sentence")).to_contain_text("Difference in retention")
    pick(page, "versus-map", "orthogonal", 2, 4)
    expect(page.locator("#strength-title")).to_contain_text("block 1 · fc1")


# ---------------------------------------------------------------------------------------------- arrows
def test_the_arrows_turn_to_the_cell_under_the_pointer_or_the_cursor_and_back(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    where, arrow = page.locator(".nm-arrows b"), page.locator(".nm-arrows g.nm-arrow-two")
    expect(where).to_have_text("Median of the map")
    rest = arrow.get_attribute("transform")
    stage = page.locator("#interference .nm-stage")
    stage.scroll_into_view_if_needed()
    box = stage.evaluate("(stage) => NeuroMergeView.placeOf(stage, 'orthogonal', 2, 4)")
    page.mouse.move(box["x"], box["y"])
    expect(where).to_have_text("block 1 · fc1, orthogonal")
    expect(arrow).not_to_have_attribute("transform", str(rest))
    page.mouse.move(5, 5)
    expect(where).to_have_text("Median of the map")
    expect(arrow).to_have_attribute("transform", str(rest))
    stage.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowDown"):
        stage.press(key)
    expect(where).to_have_text("block 1 · q, parallel")
    stage.press("Escape")
    expect(where).to_have_text("Median of the map")
