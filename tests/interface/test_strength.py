"""Acting on the map in a real browser: see, act, see what it did."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.interface.conftest import Visitor

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect

MARKS = """
() => document.querySelector('#interference .nm-stage').data.flatMap((trace) => (trace.text ?? []).flatMap(
  (line, row) => line.map((text, column) => [trace.name, row, column, text.replace(/<[^>]*>/g, '')]))
).filter((mark) => mark[3])
"""
FC1 = 4
BLOCK_2 = 3


def opened(visitor: Visitor, query: str = "cell=block 2~fc1") -> Any:
    page = visitor.open(query, tab="Interference")
    visitor.drawn("interference")
    expect(sliders(page).first).to_be_visible()
    return page


def sliders(page: Any) -> Any:
    return page.locator("#strength-sliders input[type=range]")


def marked(page: Any, marks: list[list[Any]]) -> None:
    """Wait until these cells, and no others, have a mark."""
    page.wait_for_function(f"wanted => JSON.stringify(({MARKS})()) === wanted", arg=compact(page, marks))


def compact(page: Any, value: Any) -> str:
    return str(page.evaluate("value => JSON.stringify(value)", value))


def at_base(panels: dict[str, float]) -> list[list[Any]]:
    return [[panel, BLOCK_2, FC1, f"×{factor:g}"] for panel, factor in panels.items()]


def press(slider: Any, key: str, times: int) -> None:
    slider.focus()
    for _ in range(times):
        slider.press(key)


def test_a_factor_moved_by_keyboard_marks_its_cell_and_is_in_the_merge(visitor: Visitor) -> None:
    page = opened(visitor)
    press(sliders(page).nth(1), "ArrowLeft", 10)
    marked(page, at_base({"orthogonal": 0.5}))
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of 1 part")


def test_undo_and_redo_take_a_factor_back_and_bring_it_again(visitor: Visitor) -> None:
    page = opened(visitor)
    expect(page.locator(".nm-score-split")).to_have_attribute("data-split", "validation")
    page.locator("#strength-leave").click()
    marked(page, at_base({"parallel": 0, "orthogonal": 0}))
    expect(page.locator("#undo")).to_be_enabled()
    page.locator("#undo").click()
    marked(page, [])
    expect(sliders(page).first).to_have_value("1")
    page.locator("#redo").click()
    marked(page, at_base({"parallel": 0, "orthogonal": 0}))
    expect(sliders(page).first).to_have_value("0")


def test_typed_numbers_halving_doubling_and_resetting(visitor: Visitor) -> None:
    page = opened(visitor)
    typed = page.locator("#strength-sliders input[type=number]").first
    typed.fill("0.3")
    typed.press("Enter")
    marked(page, at_base({"parallel": 0.3}))
    page.locator("#strength-double").click()
    marked(page, at_base({"parallel": 0.6, "orthogonal": 2}))
    page.locator("#strength-halve").click()
    marked(page, at_base({"parallel": 0.3}))
    page.locator("#strength-reset").click()
    marked(page, [])


def test_the_name_of_a_layer_or_a_matrix_chooses_all_of_it(visitor: Visitor) -> None:
    page = opened(visitor)
    page.locator("#interference").scroll_into_view_if_needed()
    box = page.evaluate("NeuroMergeView.placeOf(document.querySelector('#interference .nm-stage'), 'parallel', 4, 0)")
    page.mouse.click(box["x"] - box["width"] / 2 - 20, box["y"])
    expect(page.locator("#strength-title")).to_contain_text("all of block 3")
    page.locator("#interference").scroll_into_view_if_needed()
    top = page.evaluate("NeuroMergeView.placeOf(document.querySelector('#interference .nm-stage'), 'orthogonal', 0, 5)")
    page.mouse.click(top["x"], top["y"] - top["height"] / 2 - 10)
    expect(page.locator("#strength-title")).to_contain_text("fc2 in every layer")
    page.locator("#strength-leave").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of 1 part")


def test_a_depth_curve_is_chosen_typed_and_moved(visitor: Visitor) -> None:
    page = opened(visitor)
    page.locator("#strength-aim").get_by_text("depth curve").click()
    expect(sliders(page)).to_have_count(6)
    page.locator("#curve-rising").click()
    expect(sliders(page).first).to_have_value("0.5")
    expect(sliders(page).last).to_have_value("1.5")
    page.locator("#curve-typed input, #curve-typed textarea").first.fill("0, 1")
    page.locator("#curve-typed input, #curve-typed textarea").first.press("Enter")
    expect(sliders(page).first).to_have_value("0")
    expect(sliders(page).last).to_have_value("1")
    press(sliders(page).last, "ArrowLeft", 2)
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of 6 parts")


def test_the_sentence_opens_the_cells_that_it_names(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    link = page.locator(".nm-cell-link").first
    named = re.match(r"((?:block \d+|stem|head)) (\w+)", link.inner_text())
    assert named
    layer, matrix = named.groups()
    link.focus()
    link.press("Enter")
    expect(page.locator("#strength-title")).to_contain_text(f"{layer} · {matrix}")


def test_calming_the_most_contested_cells_and_a_link_to_it(visit: Callable[..., Visitor]) -> None:
    first = visit()
    page = opened(first)
    page.locator("#strength-calm").click()
    page.wait_for_function(f"() => ({MARKS})().length === 3")
    marks = page.evaluate(MARKS)
    page.locator("#copy-link").click()
    page.wait_for_url(re.compile("x="))
    second = visit()
    again = opened(second, page.url.partition("?")[2])
    marked(again, marks)


def test_a_weight_of_an_expert_is_followed(visitor: Visitor) -> None:
    page = visitor.open()
    page.locator("#weights-box button").first.click()
    press(page.locator("#weights input[type=range]").first, "ArrowLeft", 4)
    expect(page.locator(".nm-score-label small")).to_contain_text("weights digits 0.8")
    page.locator("#reset").click()
    expect(page.locator("#weights input[type=range]").first).to_have_value("1")


def test_factors_on_lambdas_wait_while_another_method_merges(visitor: Visitor) -> None:
    page = opened(visitor, "cell=block 2~fc1&x=block 2/fc1@lambda_parallel:0")
    marked(page, at_base({"parallel": 0}))
    page.locator("#preset-ties").click()
    expect(sliders(page)).to_have_count(1)
    marked(page, [])


def test_a_quarter_is_added_and_taken_away(visitor: Visitor) -> None:
    page = opened(visitor)
    page.locator("#strength-more").click()
    expect(sliders(page).first).to_have_value("1.25")
    page.locator("#strength-less").click()
    marked(page, [])


def point(page: Any, place: int) -> Any:
    return page.locator(f".nm-curve [data-place='{place}']")


def middle(node: Any) -> tuple[float, float]:
    box = node.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_points_of_the_depth_curve_are_dragged_and_moved_by_keys(visitor: Visitor) -> None:
    page = opened(visitor, "act=depth")
    expect(point(page, 5)).to_have_attribute("aria-valuenow", "1")
    point(page, 0).scroll_into_view_if_needed()
    x, y = middle(point(page, 0))
    _, bottom = middle(page.locator(".nm-curve-grid").first)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, bottom, steps=4)
    page.mouse.up()
    expect(sliders(page).first).to_have_value("0")
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of 1 part")
    press(point(page, 3), "ArrowUp", 2)
    expect(sliders(page).nth(3)).to_have_value("1.1")
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of 2 parts")
    point(page, 3).press("Home")
    expect(sliders(page).nth(3)).to_have_value("0")
    press(sliders(page).nth(5), "ArrowLeft", 2)
    expect(point(page, 5)).to_have_attribute("aria-valuenow", "0.9")
    page.locator("#strength-aim").get_by_text("This cell").click()
    expect(page.locator(".nm-curve")).to_be_hidden()


def test_a_point_of_the_depth_curve_follows_a_finger(visit: Callable[..., Visitor]) -> None:
    visitor = visit(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    page = opened(visitor, "act=depth")
    point(page, 2).scroll_into_view_if_needed()
    x, y = middle(point(page, 2))
    _, top = middle(page.locator(".nm-curve-grid").nth(2))
    client = page.context.new_cdp_session(page)
    for kind, at in (("touchStart", y), ("touchMove", (y + top) / 2), ("touchMove", top), ("touchEnd", None)):
        points = [] if at is None else [{"x": x, "y": at}]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(sliders(page).nth(2)).to_have_value("2")


def test_an_edit_of_a_cell_that_rest_reaches_moves_that_cell_alone(visitor: Visitor) -> None:
    page = opened(visitor, "cell=block 2~fc1&x=rest:0.5")

    def of_cell_and_others() -> tuple[set[str], set[str]]:
        marks = page.evaluate(MARKS)
        at = [mark[3] for mark in marks if mark[1:3] == [BLOCK_2, FC1] and mark[0] != "single numbers"]
        return set(at), {mark[3] for mark in marks} - set(at)

    assert of_cell_and_others() == ({"×0.5"}, set())
    page.locator("#strength-halve").click()
    page.wait_for_function(f"() => ({MARKS})().some(([, , , text]) => text === '×0.25')")
    assert of_cell_and_others() == ({"×0.25"}, {"×0.5"})
    press(sliders(page).first, "ArrowRight", 10)
    page.wait_for_function(f"() => ({MARKS})().filter(([, , , text]) => text !== '×0.5').length === 1")
    assert of_cell_and_others() == ({"×0.25", "×0.5"}, set())
