"""The first minute: what a visitor finds out without scrolling and without the README."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neuromerge.interface.components.first_look import SENTENCES, first_look
from neuromerge.merging import registry
from neuromerge.settings.choices import make_setting
from tests.interface import fakes
from tests.interface.conftest import Visitor

ORTHOGONAL = "neuromerging-lambda-orthogonal"


@pytest.mark.parametrize("method", sorted(registry.methods()))
def test_every_method_has_one_thing_to_do(method: str) -> None:
    setting = make_setting(fakes.family(), None, method)
    shown = first_look(fakes.family(), setting, fakes.FakeWorkspace().examples(setting), {})
    assert shown.count("data-point=") == 1
    names = registry.get_method(method).coefficients
    assert (f"data-point='{method}-".replace("_", "-") in shown) == bool(names)


def test_what_came_from_outside_is_escaped() -> None:
    family, setting = fakes.family("toy", "<b>Mine</b>"), make_setting(fakes.family())
    shown = first_look(family, setting, fakes.FakeWorkspace().examples(setting), {"digits": "<i>"})
    assert "&lt;b&gt;Mine" in shown
    assert "&lt;i&gt;" in shown


def test_without_examples_the_sentences_stay() -> None:
    shown = first_look(fakes.family(), make_setting(fakes.family()), (), {})
    assert all(sentence in shown for _, _, sentence in SENTENCES)


# ---------------------------------------------------------------------------------------------- in a browser
@pytest.mark.browser
def test_the_first_screen_says_what_is_merged_and_shows_the_bars(visitor: Visitor) -> None:
    page = visitor.open()
    visitor.drawn("accuracy-bars")
    for part in ("#readout", ".nm-look", ".nm-todo", "#accuracy-bars .nm-stage"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 900, part


@pytest.mark.browser
def test_what_the_merge_says_of_the_pictures_follows_the_sliders(visitor: Visitor) -> None:
    page = visitor.open()
    verdict = page.locator(".nm-look tbody tr").last.locator("td").first
    assert "one" in verdict.inner_text()
    page.locator(f"#{ORTHOGONAL} input[type=number]").fill("0")
    page.locator(f"#{ORTHOGONAL} input[type=number]").press("Enter")
    verdict.get_by_role("img", name="wrong").wait_for()


@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 900), (375, 812)])
def test_the_thing_to_do_shows_its_control(visit: Callable[..., Any], size: tuple[int, int]) -> None:
    page = visit(viewport={"width": size[0], "height": size[1]}).open()
    page.locator(".nm-todo button").click()
    control = page.locator(f"#{ORTHOGONAL}.nm-pointed")
    control.wait_for()
    page.wait_for_function("id => document.activeElement.closest('#' + id)", arg=ORTHOGONAL)
    box = control.bounding_box()
    assert 0 <= box["y"] < size[1]
