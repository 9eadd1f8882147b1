"""The tour: its steps, its quiz, its links, and the panel in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neuromerge.interface.lesson import drawings
from neuromerge.interface.lesson.hiding import hiding_rules, parts
from neuromerge.interface.lesson.quiz import Question, questions, quiz
from neuromerge.interface.lesson.stops import STOPS, Stop
from neuromerge.interface.permalinks import decode
from neuromerge.interface.state import links
from neuromerge.interface.tabs import STATES
from neuromerge.merging import registry
from neuromerge.settings.choices import make_setting, opening_setting
from tests.interface import fakes
from tests.interface.conftest import Visitor

try:
    from playwright.sync_api import expect
except ImportError:
    expect = None  # type: ignore[assignment]

FAMILY = fakes.family()
ORTHOGONAL = "neuromerging-lambda-orthogonal"


def asked(method: str = "neuromerging", tasks: list[str] | None = None, **values: Any) -> list[Question]:
    setting, workspace = make_setting(FAMILY, tasks, method, values), fakes.FakeWorkspace()
    titles = dict(zip(fakes.TASKS, fakes.TITLES, strict=True))
    heatmap = workspace.heatmap(setting, "cancellation")
    return questions(setting, workspace.summary(setting), workspace.board(setting), heatmap, titles)


# ---------------------------------------------------------------------------------------------- its parts
@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.title)
def test_a_step_shows_a_legal_merge_in_a_tab_that_exists(stop: Stop) -> None:
    assert stop.setting(FAMILY, ["digits", "flags"]).tasks == ("digits", "flags")
    assert set(stop.shows) <= set(links(STATES[stop.tab]))


@pytest.mark.parametrize("method", sorted(registry.methods()))
def test_every_question_of_the_quiz_has_one_right_answer_among_different_ones(method: str) -> None:
    for tasks in (None, ["digits"], ["digits", "flags"]):
        for question in asked(method, tasks):
            assert 0 <= question.right < len(question.answers)
            assert len(set(question.answers)) == len(question.answers) >= 2
            assert question.why


def test_the_quiz_asks_for_the_numbers_of_this_merge() -> None:
    question = next(q for q in asked(trim_ratio=0.8) if "Auto" in q.text)
    sigma = 0.6 * 0.8
    assert question.answers[question.right] == f"{1 / (1 - sigma):.2f}"
    assert not any("Auto" in q.text for q in asked(vote="balanced"))
    assert not any("λ₁" in q.text for q in asked("ties"))
    assert "much too large" not in " ".join(q.text for q in asked("average"))


def test_the_quiz_escapes_titles() -> None:
    assert "&lt;i&gt;" in quiz([Question("<i>", ("<b>", "c"), 0, "'\"")])
    assert "<i>" not in quiz([Question("<i>", ("<b>", "c"), 0, "'\"")])


def test_cancellation_of_two_arrows() -> None:
    assert drawings.cancellation(0) == pytest.approx(0)
    assert drawings.cancellation(90) == pytest.approx(1 - 2**-0.5)
    assert drawings.cancellation(180) == pytest.approx(1)


def test_the_most_contested_layer_is_named_with_its_number() -> None:
    heatmap = fakes.FakeWorkspace().heatmap(make_setting(FAMILY), "cancellation")
    name, high = drawings.layers(heatmap)[0]
    assert all(high >= value for _, value in drawings.layers(heatmap))
    single = ~np.isfinite(heatmap.parallel).any(0)
    assert single.any()
    loud = heatmap.orthogonal.copy()
    loud[:, single] = np.where(np.isnan(loud[:, single]), np.nan, 9.0)
    assert drawings.layers(replace(heatmap, orthogonal=loud)) == drawings.layers(heatmap)  # a panel of their own
    told = drawings.contested(heatmap, 8)
    assert f"<b>{name}</b>" in told
    assert f"{high:.2f}" in told
    assert "tick another" in drawings.contested(heatmap, 1)


# ---------------------------------------------------------------------------------------------- links
def test_a_teachers_link_says_nothing_of_the_merge() -> None:
    state, messages = decode("step=3&hide=tune,export,lambda_parallel", {FAMILY.name: FAMILY}, STATES)
    assert messages == ()
    assert state.setting == opening_setting(FAMILY)
    _, messages = decode("hide=tune,nonsense", {FAMILY.name: FAMILY}, STATES)
    assert "nonsense" in messages[0]
    assert "interference" in messages[0]


def test_every_tab_and_every_parameter_can_be_hidden() -> None:
    known, rules = parts(STATES), hiding_rules(STATES)
    assert set(STATES) <= set(known)
    for name, method in registry.methods().items():
        for spec in method.hyperparameters:
            assert f"#{name}-{spec.name}".replace("_", "-") in known[spec.name]
    assert all(f'[data-hide~="{name}"]' in rules for name in known)


# ---------------------------------------------------------------------------------------------- in a browser
@pytest.mark.browser
def test_the_tour_sets_the_page_and_gives_it_back(visitor: Visitor) -> None:
    page = visitor.open()
    before = page.locator(".nm-score-label small").inner_text()
    page.locator("#tour-open").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("Task arithmetic")
    expect(page.locator("#task-arithmetic-scale.nm-pointed")).to_be_visible()
    page.locator("#tour-next").click()
    expect(page.get_by_role("tab", name="Neuron", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#tour-text .katex").first).to_be_visible()
    assert "step=2" in page.url
    page.locator("#tour-leave").click()
    expect(page.locator("#tour")).to_be_hidden()
    expect(page.locator(".nm-score-label small")).to_have_text(before)
    expect(page.locator("#tour-open")).to_be_focused()
    page.locator("#tour-open").click()
    expect(page.locator("#tour-steps input")).to_have_value("2. One neuron")


@pytest.mark.browser
def test_a_tuned_setting_is_not_replaced_without_asking(visitor: Visitor) -> None:
    page = visitor.open()
    visitor.drawn("accuracy-bars")
    box = page.locator(f"#{ORTHOGONAL} input[type=number]")
    box.fill("2.5")
    box.press("Enter")
    expect(page.locator(".nm-score-label small")).to_contain_text("2.5")
    page.locator("#tour-open").click()
    expect(page.locator("#tour-ask")).to_contain_text("comes back")
    expect(page.locator(".nm-score-label small")).to_contain_text("2.5")
    page.locator("#tour-later").click()
    expect(page.locator("#tour")).to_be_hidden()
    page.locator("#tour-open").click()
    page.locator("#tour-start").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("Task arithmetic")
    page.locator("#tour-leave").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("2.5")


@pytest.mark.browser
def test_text_and_figure_of_every_step_share_the_screen(visitor: Visitor) -> None:
    page = visitor.open("step=1")
    for place, stop in enumerate(STOPS):
        expect(page.locator("#tour-steps input")).to_have_value(f"{place + 1}. {stop.title}")
        figure, panel = page.locator(f"#{stop.figure}"), page.locator("#tour")
        expect(figure).to_be_in_viewport()
        left, right = figure.bounding_box(), panel.bounding_box()
        assert left["x"] + left["width"] <= right["x"] + 1, stop.title
        if stop.control:
            expect(page.locator(f"#{stop.control}.nm-pointed")).to_be_visible()
        page.mouse.move(600, 500)
        page.mouse.wheel(0, 200)
        expect(page.locator("#tour-text")).to_be_in_viewport()
        if place + 1 < len(STOPS):
            page.locator("#tour-next").click()


@pytest.mark.browser
def test_every_step_is_reached_from_the_menu_and_the_quiz_explains(visitor: Visitor) -> None:
    page = visitor.open("step=1")
    page.locator("#tour-steps input").click()
    page.get_by_role("option", name=re.compile("Quiz")).click()
    field = page.locator(".nm-quiz fieldset").first
    right = int(field.get_attribute("data-right"))
    field.locator(f"input[value='{0 if right else 1}']").check()
    expect(field.locator("[role=status]")).to_contain_text("Not quite.")
    field.locator(f"input[value='{right}']").check()
    expect(field.locator("[role=status]")).to_contain_text("Right.")


@pytest.mark.browser
def test_on_a_phone_the_tour_is_a_sheet_that_folds(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 375, "height": 812}).open("step=3")
    expect(page.locator("#tour-text")).to_be_visible()
    box = page.locator("#tour").bounding_box()
    assert box["width"] == 375
    assert box["y"] > 812 * 0.5
    expect(page.locator("#neuron-figures")).to_be_in_viewport()
    page.get_by_role("button", name="Fold", exact=True).click()
    expect(page.locator("#tour-text")).to_be_hidden()
    page.get_by_role("button", name="Unfold", exact=True).click()
    page.get_by_role("button", name="Show me the control").click()
    page.wait_for_function("id => document.activeElement.closest('#' + id)", arg=ORTHOGONAL)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.browser
def test_a_teachers_link_hides_what_it_names_and_copies_with_it(visitor: Visitor) -> None:
    page = visitor.open("step=3&hide=tune,export,presets,lambda_parallel")
    expect(page.locator("#tour-steps input")).to_have_value("3. Across")
    for hidden in ("#tab-tune-button", "#tab-export-button", "#group-presets", "#neuromerging-lambda-parallel"):
        expect(page.locator(hidden).first).to_be_hidden()
    expect(page.locator("#tab-merge-button")).to_be_visible()
    page.locator("#copy-link").click()
    expect(page).to_have_url(re.compile("hide=tune"))


@pytest.mark.browser
def test_the_page_works_in_a_frame_of_another_page(visitor: Visitor) -> None:
    page = visitor.page
    page.goto(visitor.address)
    page.set_content(f"<iframe src='{visitor.address}/?step=2&hide=tune' width='1200' height='800'></iframe>")
    inside = page.frame_locator("iframe")
    expect(inside.locator("#tour-text")).to_contain_text("sensitivity")


@pytest.mark.browser
def test_a_step_that_does_not_exist_is_said(visitor: Visitor) -> None:
    page = visitor.open("step=99")
    expect(page.get_by_test_id("toast-body")).to_contain_text(f"1 to {len(STOPS)}")
    expect(page.locator("#tour")).to_be_hidden()
