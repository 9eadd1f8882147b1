"""The effect map in a real browser: measured, read, and acted on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interface import fakes
from tests.interface.conftest import Visitor

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect


def measured(visitor: Visitor) -> Any:
    page = visitor.open(tab="Interference")
    page.get_by_role("button", name="Measured: what each part does").click()
    page.locator("#measure-effects").click()
    expect(page.locator("#effects-progress")).to_contain_text("198 of 198 changes")
    page.locator("#effects").scroll_into_view_if_needed()
    visitor.drawn("effects")
    return page


def test_effects_are_measured_and_say_whether_conflict_predicts_them(visitor: Visitor) -> None:
    page = measured(visitor)
    words = page.locator("#effects-words")
    expect(words).to_contain_text("parts left at the base")
    expect(words).to_contain_text("Does conflict predict damage?")
    (values,) = visitor.cells("effects")
    assert len(values) == len(fakes.ROWS)
    page.locator("#effect-change label").nth(2).click()
    expect(words).to_contain_text("parts doubled")
    assert visitor.cells("effects") != [values]


def test_a_cell_of_the_effect_map_opens_and_a_whole_layer_too(visitor: Visitor) -> None:
    page = measured(visitor)
    stage = page.locator("#effects .nm-stage")
    stage.focus()
    stage.press("ArrowDown")  # the first layer as a whole
    stage.press("ArrowDown")
    stage.press("Enter")
    expect(page.locator("#strength-title")).to_contain_text("all of block 0")
    stage.focus()
    stage.press("Escape")  # the cursor begins anew
    stage.press("ArrowDown")
    stage.press("ArrowDown")
    stage.press("ArrowRight")
    stage.press("Enter")
    expect(page.locator("#strength-title")).to_contain_text("block 0 · q")


def test_what_hurts_is_lowered_and_undone(visitor: Visitor) -> None:
    page = measured(visitor)
    expect(page.locator(".nm-score-split")).to_have_attribute("data-split", "validation")
    page.locator("#lower-effects").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of")
    page.locator("#undo").click()
    expect(page.locator(".nm-score-label small")).not_to_contain_text("profile of")
