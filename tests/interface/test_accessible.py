"""WCAG 2.2 AA by axe-core, the keyboard's ways through the page, and what a click opens."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from neuromerge.errors import SettingError
from neuromerge.interface.components.controls import unusual_text
from neuromerge.interface.tabs.merge import split_hint
from neuromerge.merging.registry import get_method
from neuromerge.settings.choices import make_setting
from tests.interface import fakes
from tests.interface.conftest import Visitor

AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
TABS = ("Merge", "Interference", "Zero-shot", "Neuron", "Tune", "Import", "Export")


def test_a_number_beyond_its_slider_is_said() -> None:
    def told(value: float) -> str:
        return unusual_text(make_setting(fakes.family(), None, "neuromerging", {"lambda_orthogonal": value}))

    assert told(2.0) == "" == told(5.0)
    assert "7 is beyond the usual 0 to 5" in told(7.0)
    assert "-3 is beyond the usual 0 to 5" in told(-3.0)


@pytest.mark.parametrize("empty", [None, "", " "])
def test_an_empty_box_is_called_empty(empty: str | None) -> None:
    for spec in get_method("neuromerging").hyperparameters:
        with pytest.raises(SettingError, match=rf"{spec.name} must be .*, but it is empty\.$"):
            spec.check(empty)


def test_the_text_beside_the_final_test_says_which_pictures_and_how_often() -> None:
    assert "validation images" in split_hint("validation", 0)
    assert "look once" in split_hint("validation", 0)
    assert "looked at the test images 2 times" in split_hint("quick", 2)
    assert "on the test images" in split_hint("test", 1)
    assert "validation images" not in split_hint("test", 1)
    assert "look number 2" in split_hint("test", 2)


# ---------------------------------------------------------------------------------------------- in a browser
@pytest.mark.browser
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_no_step_of_the_tour_violates_wcag(visitor: Visitor, mode: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found: list[str] = []
    page = visitor.open(f"step=4&__theme={mode}")
    for title in ("4. Interference", "9. Every layer", "12. Quiz"):
        page.locator("#tour-steps input").click()
        page.get_by_role("option", name=title).click()
        page.wait_for_selector("#tour-drawing :is(figure, .nm-fact, fieldset)")
        page.wait_for_timeout(1500)
        for violation in axe.run(page, options=AXE).response["violations"]:
            found += [
                f"{title}: {violation['id']} {node['target']} {node['html'][:120]}" for node in violation["nodes"]
            ]
    assert found == []


@pytest.mark.browser
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_no_tab_violates_wcag(visitor: Visitor, mode: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visitor.open(f"cell=block 2~fc1&__theme={mode}")
    found: list[str] = []
    for tab in TABS:
        visitor.tab(tab)
        page.wait_for_selector("[role=tabpanel]:visible h2")
        page.wait_for_timeout(1500)
        for violation in axe.run(page, options=AXE).response["violations"]:
            found += [f"{tab}: {violation['id']} {node['target']} {node['html'][:120]}" for node in violation["nodes"]]
    assert found == []


@pytest.mark.browser
def test_tabs_by_arrow_keys_are_steps_of_the_history(visitor: Visitor) -> None:
    page = visitor.open()

    def opened(name: str) -> None:
        page.wait_for_selector(f"#tabs [role=tab][aria-selected=true]:has-text('{name}')")

    page.get_by_role("tab", name="Merge", exact=True).focus()
    for key, name in (
        ("ArrowRight", "Interference"),
        ("End", "Export"),
        ("ArrowRight", "Merge"),
        ("ArrowLeft", "Export"),
    ):
        page.keyboard.press(key)
        opened(name)
    page.wait_for_function("new URLSearchParams(location.search).get('tab') === 'export'")
    for name in ("Merge", "Export", "Interference", "Merge"):
        page.go_back()
        opened(name)
    page.go_forward()
    opened("Interference")
    page.wait_for_function("new URLSearchParams(location.search).get('tab') === 'interference'")


@pytest.mark.browser
@pytest.mark.parametrize("way", ["click", "key"])
def test_a_menu_that_escape_closed_opens_again(visitor: Visitor, way: str) -> None:
    page = visitor.open(tab="Interference")
    menu = page.locator("#measure input")
    options = page.get_by_role("option", name=re.compile("Cancellation"))
    menu.click()
    options.wait_for()
    menu.press("Escape")
    options.wait_for(state="detached")
    if way == "click":
        menu.click()
    else:
        menu.press("ArrowDown")
    options.wait_for()


@pytest.mark.browser
def test_a_cell_and_a_picture_bring_what_they_open_into_view_and_there_is_a_way_back(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    stage = page.locator("#interference .nm-stage")
    stage.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        stage.press(key)
    in_view(page, "strength")
    page.locator("#inside-layer .nm-back").click()
    in_view(page, "interference")
    visitor.tab("Zero-shot")
    page.locator(".nm-card").first.click()
    in_view(page, "own-picture")
    page.locator("#own-head .nm-back").click()
    in_view(page, "gallery")


def in_view(page: Any, identity: str) -> None:
    page.wait_for_function(
        """id => { const { top, bottom } = document.getElementById(id).getBoundingClientRect();
                   return bottom > 0 && top < innerHeight - 40; }""",
        arg=identity,
    )


@pytest.mark.browser
def test_the_classes_follow_the_task_until_the_visitor_writes_some(visitor: Visitor) -> None:
    page = visitor.open(tab="Zero-shot")
    visitor.drawn("confusion")
    classes, task = page.locator("#own-classes textarea"), page.locator("#gallery-task input")
    first = classes.input_value()

    def choose(place: int) -> None:
        task.click()
        page.get_by_role("option").nth(place).click()

    choose(1)
    page.wait_for_function("old => document.querySelector('#own-classes textarea').value !== old", arg=first)
    classes.fill("cat\ndog")
    choose(0)
    page.wait_for_timeout(2000)
    assert classes.input_value() == "cat\ndog"


@pytest.mark.browser
def test_what_is_written_while_another_task_s_classes_come_stays(visitor: Visitor) -> None:
    page = visitor.open(tab="Zero-shot")
    visitor.drawn("confusion")
    held: list[Any] = []
    page.route("**/gradio_api/queue/join*", lambda route: held.append(route))  # answers come when we let them
    page.locator("#gallery-task input").click()
    page.get_by_role("option").nth(1).click()
    page.wait_for_timeout(500)
    page.locator("#own-classes textarea").fill("cat\ndog")
    assert held
    for route in held:
        route.continue_()
    page.unroute("**/gradio_api/queue/join*")
    page.wait_for_timeout(2500)
    assert page.locator("#own-classes textarea").input_value() == "cat\ndog"


@pytest.mark.browser
@pytest.mark.parametrize("width", [767, 768, 769])
def test_the_controls_never_cover_the_page(visit: Callable[..., Visitor], width: int) -> None:
    page = visit(viewport={"width": width, "height": 900}).open()
    page.wait_for_timeout(800)
    assert page.evaluate("document.elementFromPoint(innerWidth - 60, 60).closest('.sidebar') === null")
    button = page.locator(".sidebar .toggle-button")
    if "open" not in (page.locator(".sidebar").get_attribute("class") or ""):
        button.click()
        page.wait_for_timeout(800)
    assert page.evaluate("document.elementFromPoint(innerWidth - 60, 60).closest('.sidebar') === null")
