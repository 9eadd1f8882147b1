"""The strength curve in a real browser: filled in at rest, and a point of it taken."""

from __future__ import annotations

import pytest

from tests.interface.conftest import Visitor

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect


def test_the_curve_is_filled_in_while_the_page_rests_and_a_point_is_taken_by_keyboard(visitor: Visitor) -> None:
    page = visitor.open()
    words = page.locator("#strength-words")
    expect(words).to_contain_text("This merge is best")
    before = page.locator(".nm-score-label small").inner_text()
    stage = page.locator("#strength-curve .nm-stage")
    stage.scroll_into_view_if_needed()
    visitor.drawn("strength-curve")
    stage.focus()
    stage.press("ArrowRight")
    stage.press("ArrowRight")
    stage.press("Enter")
    expect(page.locator(".nm-score-label small")).not_to_have_text(before)
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal)")
    expect(words).to_contain_text("This merge is best")


def test_a_move_by_hand_measures_another_curve(visitor: Visitor) -> None:
    page = visitor.open()
    words = page.locator("#strength-words")
    expect(words).to_contain_text("times its present strength")
    slider = visitor.slider("neuromerging-lambda-orthogonal")
    slider.fill("1.6")
    slider.dispatch_event("release")
    expect(words).to_contain_text("This merge is best at its present strength")
