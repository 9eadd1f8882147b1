"""Many cells of the map acted on at once, in a real browser: by mouse, by finger, by keyboard, and from a link."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.interface import fakes
from tests.interface.conftest import Visitor
from tests.interface.test_strength import MARKS, press, sliders

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect

STAGE = "#interference .nm-stage"
FC1, FC2 = 4, 5
OUTLINED = """
() => document.querySelector('#interference .nm-stage').layout.shapes.filter((shape) => shape.type === 'path').length
"""
SELECTED = """
() => JSON.stringify(document.querySelector('#interference .nm-stage').data.find((trace) => trace.meta?.selects)
  .meta.selects)
"""


def opened(visitor: Visitor, query: str = "") -> Any:
    page = visitor.open(query, tab="Interference")
    visitor.drawn("interference")
    page.locator("#interference").scroll_into_view_if_needed()
    return page


def place(page: Any, source: str, row: int, column: int) -> tuple[float, float]:
    box = page.evaluate(
        "at => NeuroMergeView.placeOf(document.querySelector(at[0]), ...at.slice(1))", [STAGE, source, row, column]
    )
    return box["x"], box["y"]


def drag(page: Any, start: tuple[int, int], end: tuple[int, int], source: str = "orthogonal") -> None:
    page.mouse.move(*place(page, source, *start))
    page.mouse.down()
    page.mouse.move(*place(page, source, *end), steps=6)
    page.mouse.up()


def selected(page: Any, cells: list[list[int]]) -> None:
    """Wait until the map shows these cells as selected, and no others."""
    page.wait_for_function(f"wanted => ({SELECTED})() === wanted", arg=str(cells).replace(" ", ""))


def title(page: Any) -> Any:
    return page.locator("#strength-title")


def marked(page: Any) -> set[tuple[str, int, int, str]]:
    return {tuple(mark) for mark in page.evaluate(MARKS)}


def test_a_drag_selects_cells_and_the_panel_acts_on_all_of_them(visitor: Visitor) -> None:
    page = opened(visitor)
    drag(page, (2, FC1), (3, FC2))
    selected(page, [[2, 4], [2, 5], [3, 4], [3, 5]])
    expect(title(page)).to_contain_text("4 selected cells")
    assert page.evaluate(OUTLINED) == 4, "two lines around them in each panel"
    page.locator("#strength-halve").click()
    page.wait_for_function(f"() => ({MARKS})().length === 8")
    assert {mark[3] for mark in marked(page)} == {"×0.5"}
    press(sliders(page).first, "ArrowLeft", 10)
    page.wait_for_function(
        f"() => ({MARKS})().filter(([panel, , , text]) => panel === 'parallel' && text === '×0').length === 4"
    )
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of 4 parts")
    page.locator("#strength-more").click()
    page.wait_for_function(f"() => ({MARKS})().some(([, , , text]) => text === '×0.25')")
    assert {mark[3] for mark in marked(page)} == {"×0.25", "×0.75"}
    expect(page.locator(f"{STAGE}")).to_be_visible()
    selected(page, [[2, 4], [2, 5], [3, 4], [3, 5]])


def test_factors_that_differ_say_so_and_become_one(visitor: Visitor) -> None:
    page = opened(visitor, "x=block 1/fc1:0.5&act=cells&cells=block 1~fc1,block 2~fc1")
    expect(sliders(page).first).to_have_value("0.75")
    expect(page.locator("#strength-sliders small").first).to_have_text("differ")
    press(sliders(page).first, "ArrowRight", 1)
    expect(page.locator("#strength-sliders small").first).to_have_text("×0.8")
    page.wait_for_function(f"() => ({MARKS})().filter(([, , , text]) => text === '×0.8').length === 2")


def test_shift_extends_ctrl_turns_over_a_click_and_escape_let_go(visitor: Visitor) -> None:
    page = opened(visitor)
    page.mouse.click(*place(page, "parallel", 1, 0))
    expect(title(page)).to_contain_text("block 0 · q")
    page.locator("#interference").scroll_into_view_if_needed()
    page.keyboard.down("Shift")
    page.mouse.click(*place(page, "parallel", 2, 1))
    page.keyboard.up("Shift")
    selected(page, [[1, 0], [1, 1], [2, 0], [2, 1]])
    expect(title(page)).to_contain_text("4 selected cells")
    for at, cells in (((2, 1), [[1, 0], [1, 1], [2, 0]]), ((4, 4), [[1, 0], [1, 1], [2, 0], [4, 4]])):
        page.keyboard.down("Control")
        page.mouse.click(*place(page, "parallel", *at))
        page.keyboard.up("Control")
        selected(page, cells)
    page.locator(STAGE).focus()
    page.keyboard.press("Escape")
    selected(page, [])
    expect(title(page)).to_contain_text("block 0 · q")
    drag(page, (1, 0), (1, 2))
    selected(page, [[1, 0], [1, 1], [1, 2]])
    page.wait_for_timeout(600)
    page.mouse.click(*place(page, "orthogonal", 3, 3))
    expect(title(page)).to_contain_text("block 2 · out")
    selected(page, [])


def test_shift_and_arrows_select_and_names_are_walked_to(visitor: Visitor) -> None:
    page = opened(visitor)
    stage = page.locator(STAGE)
    stage.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowRight")
    selected(page, [[1, 1], [1, 2], [2, 1], [2, 2]])
    expect(title(page)).to_contain_text("4 selected cells")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#interference .nm-live")).to_contain_text("all of block 1")
    page.keyboard.press("Enter")
    expect(title(page)).to_contain_text("all of block 1")
    for key in ("ArrowRight", "ArrowUp", "ArrowUp", "ArrowUp"):
        page.keyboard.press(key)
    expect(page.locator("#interference .nm-live")).to_contain_text("q in every layer")
    page.keyboard.press("Enter")
    expect(title(page)).to_contain_text("q in every layer")


def test_a_finger_held_still_selects_and_one_that_moves_scrolls(visit: Callable[..., Visitor]) -> None:
    visitor = visit(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    page = opened(visitor)
    client = page.context.new_cdp_session(page)

    def touch(kind: str, at: tuple[float, float] | None = None) -> None:
        points = [] if at is None else [{"x": at[0], "y": at[1]}]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    start, end = place(page, "parallel", 2, 1), place(page, "parallel", 3, 3)
    touch("touchStart", start)
    page.wait_for_timeout(500)
    for step in range(1, 6):
        share = step / 5
        touch("touchMove", (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
    touch("touchEnd")
    selected(page, [[2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3]])
    expect(title(page)).to_contain_text("6 selected cells")
    before = page.evaluate("scrollY")
    touch("touchStart", start)
    for step in range(1, 6):
        touch("touchMove", (start[0], start[1] - 30 * step))
    touch("touchEnd")
    page.wait_for_function("before => scrollY > before", arg=before)
    selected(page, [[2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3]])


def test_a_selection_is_in_the_link_without_what_a_layer_lacks(visit: Callable[..., Visitor]) -> None:
    first = visit()
    page = opened(first)
    drag(page, (0, FC1), (2, FC1))  # the stem has no fc1
    cells = [[1, 4], [2, 4]]
    selected(page, cells)
    page.locator("#copy-link").click()
    page.wait_for_url(re.compile("cells="))
    second = visit()
    again = second.open(page.url.partition("?")[2])
    second.drawn("interference")
    selected(again, cells)
    expect(title(again)).to_contain_text("2 selected cells")
    assert fakes.ROWS[1] == "block 0"
