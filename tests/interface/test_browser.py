"""The page in a real browser: what a visitor does, and what must not break when they do it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image

from tests.interface import fakes
from tests.interface.conftest import Visitor, serving

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect

DRAWN_AGAIN = "drawn => document.querySelector('#interference .nm-view').dataset.drawn !== drawn"
ORTHOGONAL = "neuromerging-lambda-orthogonal"
PARALLEL = "neuromerging-lambda-parallel"
TRIM = "neuromerging-trim-ratio"
HEATMAPS = "document.querySelector('#interference .nm-stage').data.filter(trace => trace.z).map(trace => trace.z)"


def score(page: Any) -> Any:
    return page.locator("#readout .nm-score-value")


def settled(page: Any) -> str:
    """The score once it rests on the whole validation split of the newest setting."""
    split = page.locator(".nm-score-split")
    for _ in range(40):
        expect(split).to_have_attribute("data-split", "validation")
        told = score(page).inner_text()
        page.wait_for_timeout(1500)
        if split.get_attribute("data-split") == "validation" and score(page).inner_text() == told:
            return str(told)
    raise AssertionError("the score never came to rest")


def toast(page: Any) -> Any:
    return page.locator(".toast-body").first


def press(slider: Any, key: str, times: int = 1) -> None:
    slider.focus()
    for _ in range(times):
        slider.press(key)


# ---------------------------------------------------------------------------------------------- first sight
def test_a_fresh_page_shows_a_merge_and_then_the_whole_validation_split(visitor: Visitor) -> None:
    page = visitor.open()
    visitor.drawn("accuracy-bars")
    expect(score(page)).to_contain_text("%")
    expect(page.locator(".nm-score-split")).to_have_attribute("data-split", "validation")
    expect(page.locator("#sigma")).to_contain_text("σ = 0.000")
    expect(page.locator("#sigma")).not_to_contain_text("1/(1 − σ)")  # which the vote that opens knows nothing of


FIGURES = {
    "Merge": "accuracy-bars",
    "Interference": "interference",
    "Zero-shot": "confusion",
    "Neuron": "neuron-plane",
    "Tune": None,
    "Import": None,
    "Export": None,
}


def test_every_tab_draws(visitor: Visitor) -> None:
    page = visitor.open()
    for tab, figure in FIGURES.items():
        visitor.tab(tab)
        if figure:
            visitor.drawn(figure)
        expect(page.get_by_role("tabpanel").locator("h2").locator("visible=true").first).to_be_visible()
    assert not page.locator("[data-state=error]").count()


def test_a_phone_sees_every_tab_without_sideways_scrolling_and_opens_the_controls(
    visit: Callable[..., Visitor],
) -> None:
    phone = visit(viewport={"width": 375, "height": 812}, has_touch=True)
    page = phone.open("cell=block 2~fc1")
    sheet = page.locator(".sidebar")
    expect(sheet).not_to_have_class(re.compile("open"))
    for tab, figure in FIGURES.items():
        phone.tab(tab)
        if figure:
            phone.drawn(figure)
        assert page.evaluate("document.querySelector('main').scrollWidth") <= 375, tab
        assert page.evaluate("document.querySelector('main').getBoundingClientRect().right") <= 376, tab
    page.locator(".sidebar .toggle-button").click()
    expect(sheet).to_have_class(re.compile("open"))
    expect(page.locator("#method")).to_be_visible()


def test_dark_mode_reaches_the_figures(visitor: Visitor) -> None:
    page = visitor.open()
    visitor.drawn("accuracy-bars")
    colour = "document.querySelector('#accuracy-bars .nm-stage').layout.template.layout.font.color"
    light = page.evaluate(colour)
    page.locator(".nm-mode").click()
    page.wait_for_function(f"{colour} !== '{light}'")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 150


# ---------------------------------------------------------------------------------------------- live
def test_an_arrow_key_moves_the_heatmap_and_the_accuracy(visitor: Visitor) -> None:
    page = visitor.open("measure=retention", tab="Interference")
    visitor.drawn("interference")
    before, told = visitor.cells("interference"), score(page).inner_text()
    press(visitor.slider(ORTHOGONAL), "ArrowRight", 5)
    expect(score(page)).not_to_have_text(told)
    page.wait_for_function(
        f"old => JSON.stringify({HEATMAPS}) !== old", arg=page.evaluate("value => JSON.stringify(value)", before)
    )


def test_a_moved_map_is_what_the_library_would_draw_anew(visitor: Visitor) -> None:
    """Numbers that change alone are drawn without the axes and the margins, by an inner part of the library."""
    page = visitor.open("tab=interference&measure=retention")
    visitor.drawn("interference")
    page.evaluate(
        "() => { const react = Plotly.react; window.whole = 0; "
        "Plotly.react = (...given) => { window.whole += 1; return react(...given); }; }"
    )
    stage = page.locator("#interference .nm-stage")
    cells = "stage => [...stage.querySelectorAll('.heatmaplayer image')].map(image => image.href.baseVal)"
    words = "stage => [...stage.querySelectorAll('.annotation-text')].map(text => text.textContent)"
    before = stage.evaluate(cells)
    for _ in range(3):
        drawn = page.locator("#interference .nm-view").get_attribute("data-drawn")
        press(page.locator(f"#{ORTHOGONAL} input[type=range]"), "ArrowRight", 4)
        page.wait_for_function(DRAWN_AGAIN, arg=drawn)
    settled(page)
    moved, said = stage.evaluate(cells), stage.evaluate(words)
    assert moved != before
    assert page.evaluate("window.whole") == 0
    stage.evaluate("stage => Plotly.redraw(stage)")
    assert stage.evaluate(cells) == moved
    assert stage.evaluate(words) == said


def test_a_page_at_rest_leaves_the_machine_alone(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    visitor.page.add_init_script(
        "window.frames = 0; const frame = window.requestAnimationFrame.bind(window);"
        "window.requestAnimationFrame = (draw) => { window.frames += 1; return frame(draw); }"
    )
    page = visitor.open()
    for _ in range(20):  # until what is filled in while the page rests is there
        page.evaluate("window.frames = 0")
        page.wait_for_timeout(1000)
        if page.evaluate("window.frames") < 20:  # of the 60 that a screen shows in a second
            return
    raise AssertionError("the page draws without end")


def test_moving_a_slider_by_hand_switches_auto_off_and_auto_on_brings_its_value_back(visitor: Visitor) -> None:
    page = visitor.open()
    auto = page.locator(f"#{ORTHOGONAL}-auto input")
    slider = visitor.slider(ORTHOGONAL)
    expect(auto).to_be_checked()
    expect(slider).not_to_have_value("0")
    resolved = slider.input_value()
    press(slider, "ArrowRight")
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal)")
    expect(auto).not_to_be_checked()
    auto.check()
    expect(slider).to_have_value(resolved)


def test_trim_moves_what_auto_came_to(visitor: Visitor) -> None:
    page = visitor.open()
    slider = visitor.slider(ORTHOGONAL)
    expect(slider).not_to_have_value("0")
    before = slider.input_value()
    press(visitor.slider(TRIM), "ArrowRight", 10)
    expect(slider).not_to_have_value(before)
    expect(page.locator(f"#{ORTHOGONAL}-auto input")).to_be_checked()


def test_auto_goes_by_retention_where_that_is_chosen_and_a_link_keeps_it(visit: Callable[..., Visitor]) -> None:
    first = visit()
    page = first.open()
    slider, rule = first.slider(ORTHOGONAL), page.locator(f"#{ORTHOGONAL}-rule input")
    expect(slider).to_have_value("1")  # nothing is trimmed, so nothing is made up for
    rule.click()
    page.get_by_role("option", name="Keep what the tasks learned (retention)").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal) retention")
    expect(slider).to_have_value("2")
    expect(page.locator(".nm-numbers")).to_contain_text("100 %")
    settled(page)
    page.locator("#undo").click()
    expect(slider).to_have_value("1")
    page.locator("#redo").click()
    expect(slider).to_have_value("2")
    settled(page)
    page.locator("#copy-link").click()
    page.wait_for_url("**/?*retention*")

    second = visit()
    other = second.open(urlparse(page.url).query.replace("retention", "retention:0.85"))
    expect(second.slider(ORTHOGONAL)).to_have_value("1.7")
    expect(other.locator(f"#{ORTHOGONAL}-rule input")).to_have_value("Keep 85 % of what the tasks learned")
    press(second.slider(ORTHOGONAL), "ArrowRight")
    expect(other.locator(f"#{ORTHOGONAL}-rule input")).to_be_hidden()
    expect(other.locator(f"#{ORTHOGONAL}-auto input")).not_to_be_checked()


def test_a_long_drag_ends_on_the_last_value(visitor: Visitor) -> None:
    page = visitor.open()
    expect(page.locator(".nm-score-split")).to_have_attribute("data-split", "validation")
    slider = visitor.slider(ORTHOGONAL)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.3 * box["width"], y)
    page.mouse.down()
    for step in range(30):
        page.mouse.move(box["x"] + (0.3 + 0.5 * (step + 1) / 30) * box["width"], y)
    page.mouse.up()
    last = float(slider.input_value())
    assert last > 2
    expect(page.locator(".nm-score-label small")).to_contain_text(f"λ₂ (orthogonal) {last:.4g}")
    expect(page.locator(".nm-score-split")).to_have_attribute("data-split", "validation")
    expect(page.locator(".nm-change")).to_be_visible()


def test_after_a_drag_the_page_comes_to_rest(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    slider = visitor.slider(ORTHOGONAL)
    for _ in range(12):
        press(slider, "ArrowRight")
    settled(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "queue/join" in request.url else None)
    page.wait_for_timeout(3000)
    assert asked == []


def test_zoom_survives_a_slider_move(visitor: Visitor) -> None:
    page = visitor.open("show=drift", tab="Interference")
    visitor.drawn("drift")
    stage = page.locator("#drift .nm-stage")
    stage.scroll_into_view_if_needed()
    box = page.locator("#drift .draglayer .nsewdrag").first.bounding_box()
    at = [(box["x"] + share * box["width"], box["y"] + share * box["height"]) for share in (0.2, 0.8)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=5)
    page.mouse.up()
    expect(page.locator("#drift .nm-view")).to_have_attribute("data-zoomed", "")
    ranges = "document.querySelector('#drift .nm-stage').layout.xaxis.range"
    zoom = page.evaluate(ranges)
    drawn = page.locator("#drift .nm-view").get_attribute("data-drawn")
    press(visitor.slider(ORTHOGONAL), "ArrowRight", 3)
    expect(page.locator("#drift .nm-view")).not_to_have_attribute("data-drawn", drawn)
    assert page.evaluate(ranges) == zoom
    settled(page)  # at rest the same figure is drawn once more
    press(visitor.slider(ORTHOGONAL), "ArrowRight", 3)
    settled(page)
    assert page.evaluate(ranges) == zoom
    assert zoom[1] - zoom[0] < 7


def test_only_the_open_tab_is_drawn_on_a_move(visitor: Visitor) -> None:
    page = visitor.open("measure=retention", tab="Interference")
    visitor.drawn("interference")
    visitor.tab("Merge")
    visitor.drawn("accuracy-bars")
    frozen = visitor.cells("interference")
    told = score(page).inner_text()
    press(visitor.slider(ORTHOGONAL), "ArrowRight", 5)
    expect(score(page)).not_to_have_text(told)
    page.wait_for_timeout(300)
    assert visitor.cells("interference") == frozen
    visitor.tab("Interference")
    page.wait_for_function(
        f"old => JSON.stringify({HEATMAPS}) !== old", arg=page.evaluate("value => JSON.stringify(value)", frozen)
    )


# ---------------------------------------------------------------------------------------------- opening things
def click_cell(page: Any, identity: str, trace: str, row: int, column: int) -> None:
    """Click the middle of a cell of a heatmap."""
    at = page.evaluate(
        """([id, trace, row, column]) => {
            const { x, y } = NeuroMergeView.placeOf(document.querySelector(`#${id} .nm-stage`), trace, row, column);
            return [x, y];
        }""",
        [identity, trace, row, column],
    )
    page.mouse.click(*at)


def test_a_click_on_a_cell_opens_that_layer_and_the_menus_do_too(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    page.locator("#interference").scroll_into_view_if_needed()
    click_cell(page, "interference", "orthogonal", 3, 4)
    expect(page.locator("#layer-caption")).to_contain_text("block 2 · fc1")
    page.locator("#layer-neurons").scroll_into_view_if_needed()
    visitor.drawn("layer-neurons")
    expect(page.locator("#layer input")).to_have_value("block 2")
    page.locator("#matrix input").click()
    page.get_by_role("option", name="v", exact=True).click()
    expect(page.locator("#layer-caption")).to_contain_text("block 2 · v")


def test_the_keyboard_opens_a_cell(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    stage = page.locator("#interference .nm-stage")
    stage.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "Enter"):
        stage.press(key)
    expect(page.locator("#layer-caption")).to_contain_text("block")


def test_a_heatmap_has_a_table_twin(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    page.get_by_role("button", name="The same numbers as a table").locator("visible=true").click()
    expect(page.locator("#interference-table table")).to_be_visible()
    assert page.locator("#interference-table tbody tr").count() >= 8


def test_another_measure_is_explained(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    page.locator("#measure input").click()
    page.get_by_role("option", name="Cancellation").click()
    expect(page.locator("#measure-explanation")).to_contain_text("cancel")
    expect(page.locator("#measure-explanation .katex").first).to_be_attached()


# ---------------------------------------------------------------------------------------------- whole state
def test_a_permalink_restores_the_page_in_another_browser(visit: Callable[..., Visitor]) -> None:
    first = visit()
    page = first.open(tab="Interference")
    first.drawn("interference")
    page.locator("#tasks").get_by_label("Letters").uncheck()
    press(first.slider(PARALLEL), "ArrowRight", 7)
    click_cell(page, "interference", "orthogonal", 3, 4)
    expect(page.locator("#layer-caption")).to_contain_text("block 2 · fc1")
    expect(page.locator(".nm-score-split")).to_have_attribute("data-split", "validation")
    page.locator("#copy-link").click()
    page.wait_for_url("**/?*m=neuromerging*")
    query = urlparse(page.url).query
    assert parse_qs(query)["cell"] == ["block 2~fc1"]

    second = visit()
    other = second.open(query)
    expect(other.get_by_role("tab", name="Interference")).to_have_attribute("aria-selected", "true")
    expect(other.locator("#layer-caption")).to_contain_text("block 2 · fc1")
    expect(second.slider(PARALLEL)).to_have_value("0.07")
    expect(other.locator("#tasks").get_by_label("Letters")).not_to_be_checked()
    assert settled(other) == settled(page)


def test_a_link_s_measure_is_the_one_that_is_explained(visit: Callable[..., Visitor]) -> None:
    explained = []
    for measure in ("retention", "conflict"):
        visitor = visit()
        page = visitor.open(f"tab=interference&measure={measure}")
        visitor.drawn("interference")
        explained.append(page.locator("#measure-explanation").inner_text())
    assert explained[0] != explained[1]


def test_a_damaged_link_says_what_was_left_out_and_opens(visitor: Visitor) -> None:
    page = visitor.open("f=nowhere&m=magic&p=trim_ratio:7,bogus:1&whatever=1")
    expect(toast(page)).to_be_visible()
    expect(page.locator(".toast-body").filter(has_text="whatever")).to_be_visible()
    expect(score(page)).to_contain_text("%")


def test_two_visitors_do_not_see_each_other(visit: Callable[..., Visitor]) -> None:
    a, b = visit(), visit()
    first, second = a.open(), b.open()
    settled(first)
    told = settled(second)
    press(a.slider(ORTHOGONAL), "ArrowRight", 40)
    expect(score(first)).not_to_have_text(told)
    first.wait_for_timeout(1200)
    assert score(second).inner_text() == told
    press(b.slider(PARALLEL), "ArrowRight", 5)
    expect(second.locator(".nm-score-label small")).to_contain_text("λ₁ (parallel) 0.05")
    expect(first.locator(".nm-score-label small")).not_to_contain_text("λ₁ (parallel)")


def test_undo_redo_and_reset(visitor: Visitor) -> None:
    page = visitor.open()
    split = page.locator(".nm-score-split")
    expect(split).to_have_attribute("data-split", "validation")
    slider = visitor.slider(PARALLEL)
    press(slider, "ArrowRight")
    expect(page.locator("#undo")).to_be_enabled()
    page.locator("#undo").click()
    expect(slider).to_have_value("0")
    expect(page.locator("#redo")).to_be_enabled()
    page.locator("#redo").click()
    expect(slider).to_have_value("0.01")
    page.locator("#reset").click()
    expect(slider).to_have_value("0")
    expect(page.locator(f"#{ORTHOGONAL}-auto input")).to_be_checked()


def test_presets_methods_and_pins(visitor: Visitor) -> None:
    page = visitor.open()
    page.locator("#preset-ties").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("TIES")
    expect(page.locator("#ties-scale, [id^=ties-]").first).to_be_visible()
    expect(page.locator(f"#{TRIM}")).to_be_hidden()
    page.locator("#pin").click()
    page.locator("#preset-auto").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("NeuroMerging")
    expect(page.locator(".nm-numbers")).to_contain_text("Pinned: TIES")


def test_another_family_takes_its_own_experts(visitor: Visitor) -> None:
    page = visitor.open()
    page.locator("#family input").click()
    page.get_by_role("option", name="Another family").click()
    expect(page.locator("#tasks input")).to_have_count(8)
    expect(score(page)).to_contain_text("%")


# ---------------------------------------------------------------------------------------------- what goes wrong
def test_no_expert_is_an_empty_state_and_the_session_goes_on(visitor: Visitor) -> None:
    page = visitor.open()
    page.locator("#no-tasks").click()
    expect(page.locator("#readout")).to_contain_text("No expert is chosen")
    page.locator("#tasks").get_by_label("Digits").check()
    expect(score(page)).to_contain_text("%")
    expect(page.locator(".nm-score-split")).to_contain_text("1 task")
    page.locator("#all-tasks").click()
    expect(page.locator(".nm-score-split")).to_contain_text("8 tasks")


def test_a_number_out_of_range_is_a_message(visitor: Visitor) -> None:
    page = visitor.open()
    number = page.locator(f"#{TRIM} input[type=number]")
    number.fill("7")
    expect(page.locator("#readout")).to_contain_text("trim_ratio must be a number from 0 below 1, not 7")
    number.fill("0.5")
    press(visitor.slider(PARALLEL), "ArrowRight", 3)
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₁ (parallel)")


def test_an_own_picture_is_classified_and_a_broken_one_is_a_message(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.open(tab="Zero-shot")
    visitor.drawn("confusion")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    upload = page.locator("#own-picture input[type=file]")
    upload.set_input_files(str(broken))
    expect(page.locator(".toast-body").filter(has_text="could not be read as a picture")).to_be_visible()

    page.locator("#classify").click()
    page.locator("#own-picture").get_by_label(re.compile("clear|remove", re.I)).first.click()
    good = tmp_path / "good.png"
    Image.new("RGB", (64, 64), "red").save(good)
    page.locator("#own-picture input[type=file]").set_input_files(str(good))
    page.locator("#own-classes textarea").fill("cat\ndog\n<b>fox</b>")
    page.locator("#classify").click()
    expect(page.locator(".nm-prediction")).to_have_count(10)
    expect(page.locator(".nm-prediction").last).to_contain_text("<b>fox</b>")

    page.locator("#own-template input, #own-template textarea").first.fill("no place for it")
    page.locator("#classify").click()
    expect(page.locator(".toast-body").filter(has_text="{}")).to_be_visible()


def test_a_sample_can_be_filtered_turned_and_used(visitor: Visitor) -> None:
    page = visitor.open(tab="Zero-shot")
    visitor.drawn("confusion")
    expect(page.locator(".nm-card")).to_have_count(12)
    page.locator("#gallery-filter label").filter(has_text="Merge wrong, expert right").click()
    first = page.locator(".nm-card img").first.get_attribute("src")
    page.locator("#gallery-later").click()
    expect(page.locator(".nm-card img").first).not_to_have_attribute("src", first)
    page.locator(".nm-card").first.click()
    expect(page.locator("#own-picture img")).to_be_visible()


@pytest.mark.parametrize("cell", ["stem~q", "head~fc1", "attic~q"])
def test_a_link_to_a_cell_that_is_not_there_says_so_and_the_page_goes_on(visitor: Visitor, cell: str) -> None:
    page = visitor.open(f"tab=interference&measure=retention&cell={cell}&n=7")
    visitor.drawn("interference")
    expect(page.locator("#layer-caption")).to_contain_text("This family has no")
    drawn = page.locator("#interference .nm-view").get_attribute("data-drawn")
    press(visitor.slider(ORTHOGONAL), "ArrowRight", 3)
    expect(page.locator("#interference .nm-view")).not_to_have_attribute("data-drawn", drawn)
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal)")
    visitor.tab("Neuron")
    visitor.drawn("neuron-plane")


def test_a_link_to_a_neuron_that_is_not_there_opens_another_one(visitor: Visitor) -> None:
    page = visitor.open("tab=neuron&cell=block 2~fc1&n=5000")
    expect(toast(page)).to_contain_text("neurons 0 to 191")
    expect(page.locator("#neuron-caption")).to_contain_text("block 2 · fc1")
    visitor.drawn("neuron-plane")
    press(visitor.slider(ORTHOGONAL), "ArrowRight", 3)
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal)")


def test_a_menu_that_is_only_looked_at_says_nothing(visitor: Visitor) -> None:
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    for menu in ("#layer input", "#matrix input"):
        page.locator(menu).focus()
        page.locator(menu).blur()
    page.wait_for_timeout(1500)
    assert not page.locator(".toast-body").count()


def test_controls_of_one_kind_have_names_of_their_own(visitor: Visitor) -> None:
    page = visitor.open()
    for kind in (".nm-auto input", ".reset-button"):
        names = [
            node.evaluate("node => node.getAttribute('aria-label') || node.closest('label').textContent.trim()")
            for node in page.locator(f"#controls {kind}, .sidebar {kind}").all()
            if node.is_visible()
        ]
        assert len(names) >= 3, kind
        assert len(set(names)) == len(names), names


def test_what_is_left_of_another_merge_is_grey(visitor: Visitor) -> None:
    page = visitor.open()
    visitor.drawn("accuracy-bars")
    expect(page.locator("#accuracy-bars .nm-view")).to_have_css("opacity", "1")
    page.locator("#no-tasks").click()
    expect(page.locator("#accuracy-bars .nm-view")).to_have_css("opacity", "0.4")
    page.locator("#all-tasks").click()
    expect(page.locator("#accuracy-bars .nm-view")).to_have_css("opacity", "1")


# ----------------------------------------------------------------------------- neuron, tour, tune, export
def test_a_contested_neuron_opens_its_own_tab(visitor: Visitor) -> None:
    page = visitor.open("tab=interference&cell=block 2~fc1")
    expect(page.locator("#layer-caption")).to_contain_text("block 2 · fc1")
    page.locator("#layer-contested").evaluate("node => node.scrollIntoView({block: 'center'})")
    visitor.drawn("layer-contested")
    page.locator("#layer-contested .nm-stage").focus()
    for key in ("ArrowRight", "Enter"):
        page.locator("#layer-contested .nm-stage").press(key)
    expect(page.get_by_role("tab", name="Neuron", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#neuron-caption")).to_contain_text("block 2 · fc1")
    visitor.drawn("neuron-plane")


def test_both_pictures_of_a_neuron_follow_the_sliders(visitor: Visitor) -> None:
    page = visitor.open(tab="Neuron")
    for identity in ("neuron-plane", "neuron-answers"):
        visitor.drawn(identity)
    drawn = page.locator("#neuron-answers .nm-view").get_attribute("data-drawn")
    press(visitor.slider(ORTHOGONAL), "ArrowRight", 5)
    expect(page.locator("#neuron-answers .nm-view")).not_to_have_attribute("data-drawn", drawn)
    page.locator("#neuron-index input").fill("100000")  # while the last moves are still being drawn
    page.locator("#neuron-index input").press("Enter")
    expect(toast(page)).to_be_visible()


def test_a_search_fills_the_table_and_a_row_can_be_applied(visitor: Visitor) -> None:
    page = visitor.open(tab="Tune")
    page.locator("#trials input[type=number]").fill("5")
    page.locator("#start-search").click()
    expect(page.locator("#search-progress")).to_contain_text("finished")
    assert page.locator("#trials-table tbody tr").count() >= 5
    page.locator("#trials-table tr").filter(has_text="tpe").locator("button").first.click()
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₁ (parallel)")
    assert page.locator("#trials-table a[download]").get_attribute("href").startswith("data:text/csv")


def test_the_map_is_drawn(visitor: Visitor) -> None:
    page = visitor.open(tab="Tune")
    page.locator("#map").click()
    visitor.drawn("landscape")


def test_the_checkpoint_recipe_and_script_can_be_taken_away(visitor: Visitor) -> None:
    page = visitor.open(tab="Export")
    expect(page.locator("#recipe")).to_contain_text("merge_method")
    expect(page.locator("#script")).to_contain_text("import neuromerge")
    expect(page.locator("#export-link textarea, #export-link input").first).to_have_value(
        re.compile("^http.*m=neuromerging")
    )
    page.locator("#make-checkpoint").click()
    expect(page.locator("#export-note")).to_contain_text("is ready")
    with page.expect_download() as download:
        page.locator("#download-checkpoint").click()
    assert download.value.suggested_filename.endswith(".zip")


def test_a_prepared_checkpoint_stays_until_the_setting_is_another(visitor: Visitor) -> None:
    page = visitor.open(tab="Export")
    note = page.locator("#export-note")
    page.locator("#make-checkpoint").click()
    expect(note).to_contain_text("is ready")
    visitor.tab("Merge")
    visitor.tab("Export")
    expect(page.locator("#recipe")).to_contain_text("merge_method")
    expect(page.locator("#download-checkpoint")).to_be_enabled()
    press(visitor.slider(ORTHOGONAL), "ArrowRight")
    expect(page.locator("#download-checkpoint")).to_be_disabled()
    expect(note).not_to_contain_text("is ready")


def test_recipe_and_script_are_saved_under_their_names(visitor: Visitor) -> None:
    page = visitor.open(tab="Export")
    for link, name in (("#save-recipe a", "recipe.yaml"), ("#save-script a", "reproduce.py")):
        with page.expect_download() as download:
            page.locator(link).click()
        assert download.value.suggested_filename == name
    assert not page.locator(".nm-codes [download^=file]").count()


# ---------------------------------------------------------------------------------------------- a slow engine
@pytest.fixture
def slow(chromium: Any) -> Iterator[tuple[Visitor, fakes.SlowWorkspace]]:
    """A visitor of a page whose workspace can be made slow."""
    workspace, family = fakes.SlowWorkspace(), fakes.family()
    with serving(fakes.loader(workspace), {family.name: family}) as address:
        visitor = Visitor(chromium, address)
        yield visitor, workspace
        visitor.context.close()
        assert visitor.complaints == []


def test_a_move_that_is_overtaken_stops_at_once(slow: tuple[Visitor, fakes.SlowWorkspace]) -> None:
    visitor, workspace = slow
    page = visitor.open(tab="Interference")
    visitor.drawn("interference")
    settled(page)
    workspace.begin()
    visitor.slider(ORTHOGONAL).fill("2")
    assert workspace.under_way.wait(60)
    workspace.slow.clear()  # for what follows; what is under way goes on as it began
    visitor.slider(ORTHOGONAL).fill("3")
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal) 3")
    assert workspace.steps < workspace.most
    assert {setting.value("lambda_orthogonal") for _, setting in workspace.finished} == {3.0}


def test_what_is_typed_while_auto_is_being_found_stays(slow: tuple[Visitor, fakes.SlowWorkspace]) -> None:
    visitor, workspace = slow
    page = visitor.open()
    settled(page)
    number = page.locator(f"#{ORTHOGONAL} input[type=number]")
    workspace.begin()
    visitor.slider(TRIM).fill("0.5")
    assert workspace.under_way.wait(60)
    workspace.slow.clear()
    number.click()
    number.press("Control+a")
    number.press_sequentially("3.1", delay=60)
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal) 3.1")
    expect(number).to_have_value("3.1")
    press(visitor.slider(PARALLEL), "ArrowRight")
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₁ (parallel) 0.01")
    expect(page.locator(".nm-score-label small")).to_contain_text("λ₂ (orthogonal) 3.1")
    expect(number).to_have_value("3.1")


# ---------------------------------------------------------------------------------------------- endurance
def test_memory_stays_flat_over_two_hundred_updates(visitor: Visitor) -> None:
    page = visitor.open("measure=retention", tab="Interference")
    visitor.drawn("interference")
    devtools = visitor.context.new_cdp_session(page)

    def heap() -> float:
        devtools.send("HeapProfiler.collectGarbage")
        return float(page.evaluate("performance.memory.usedJSHeapSize"))

    view = page.locator("#interference .nm-view")

    def moves(count: int) -> None:
        slider = visitor.slider(ORTHOGONAL)
        for step in range(count):
            drawn = view.get_attribute("data-drawn")
            press(slider, "ArrowRight" if step % 2 else "ArrowLeft")
            # Asked in every frame: `expect` asks once a second, which here would be all that the test does.
            page.wait_for_function(DRAWN_AGAIN, arg=drawn)

    moves(20)
    before = heap()
    moves(180)
    assert heap() < before * 1.35 + 3_000_000


def test_the_bars_do_not_wait_for_the_drawing_library(visit: Callable[..., Visitor]) -> None:
    visitor = visit()
    page = visitor.page
    held: list[Any] = []
    page.route("**/plotly*.min.js*", lambda route: held.append(route))  # neither answered nor refused
    page.goto(visitor.address)
    sketch = page.locator("#accuracy-bars .nm-view[data-state=sketched] .nm-stage > svg")
    expect(sketch).to_be_visible()
    assert sketch.locator("rect").count() == 4 * (1 + len(fakes.TASKS))  # base, expert, merge, pinned; their average
    expect(sketch.locator("text", has_text="on average over the merged tasks")).to_be_visible()
    before = sketch.locator("text").all_text_contents()
    visitor.slider("neuromerging-lambda-orthogonal").fill("0.3")
    expect(page.locator("#readout")).to_contain_text("λ₂ (orthogonal) 0.3")
    expect(sketch.locator("text").first).to_be_visible()
    page.wait_for_function(
        "before => document.querySelector('#accuracy-bars .nm-stage > svg').textContent !== before", arg="".join(before)
    )
    assert held
    for route in held:
        route.continue_()
    visitor.drawn("accuracy-bars")
    expect(sketch).to_have_count(0)
    assert page.locator("#accuracy-bars .nm-stage .main-svg").count()
