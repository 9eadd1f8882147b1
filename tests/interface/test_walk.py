"""One neuron computed by hand: the numbers, their places in the pictures, and the sample pictures."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from neuromerge.figures import neuron
from neuromerge.figures.numbers import signed
from neuromerge.interface.components.controls import sigma_text
from neuromerge.interface.components.pictures import SHEET_COLUMNS, SHEET_PX, sample_sheet
from neuromerge.interface.components.walk import Line, lines, walk
from neuromerge.interface.tabs.neuron import vote_reading, vote_table
from neuromerge.settings.choices import make_setting
from tests.figures import examples
from tests.interface import fakes
from tests.interface.conftest import Visitor

try:
    from playwright.sync_api import expect
except ImportError:
    expect = None  # type: ignore[assignment]

ORTHOGONAL = "neuromerging-lambda-orthogonal"


def line(found: list[Line], title: str) -> Line:
    return next(line for line in found if line.title == title)


def test_the_lines_give_the_numbers_of_the_pictures() -> None:
    detail = examples.neuron_detail()
    found = lines(detail, 0, {})
    first = int(np.argmax(detail.tau_norm))
    assert f"|w₀| = {detail.base_norm:.3f}" in line(found, "Arrows.").text
    assert f"c = {signed(float(detail.c[first]), 4)}" in line(found, "Along w₀.").text
    assert f"e = {signed(float(detail.elected[0]))}" in line(found, "Votes.").text
    assert f"= {signed(float(detail.alpha[first]))}" in line(found, "Weight.").text
    step, rise = neuron.merged_change(detail)
    assert f"{signed(100 * step)} % of |w₀|" in line(found, "Merged.").text
    assert f"{signed(100 * float(rise[0]) / detail.base_norm)} %" in line(found, "Merged.").text


@pytest.mark.parametrize("vote", ["published", "balanced", ""])
def test_every_line_rings_what_its_figure_draws(vote: str) -> None:
    change = None if vote else (0.01, np.zeros(8))
    detail = replace(examples.neuron_detail(), vote=vote, ridge=0.1, change=change)
    drawn = {
        "neuron-plane": {trace.get("name"): trace for trace in neuron.neuron_plane(detail).data},
        "neuron-answers": {trace.get("name"): trace for trace in neuron.pre_activations(detail).data},
        "neuron-votes": {trace.get("name"): trace for trace in neuron.votes(detail).data} if vote else {},
    }
    for found in lines(detail, 2, {}):
        for figure, name, places in found.lights:
            trace = drawn[figure][name]
            if "z" in trace:
                assert places[0] < len(trace["z"])
                assert places[1] < len(trace["z"][0])
            else:
                assert max(places) < len(trace["x"])


def test_a_method_without_a_vote_shows_none() -> None:
    detail = replace(examples.neuron_detail(), vote="", change=(0.02, np.full(8, 0.5)), alpha=np.zeros(8))
    shown = walk(detail, 0, {}) + vote_reading(detail) + vote_table(detail, {})
    assert not re.search("alpha|α|λ|[Ee]lected", shown)
    assert "+2.00 % of |w₀|" in shown
    assert not any(trace.get("name") == "elected by the vote" for trace in neuron.neuron_plane(detail).data)


def test_the_balanced_vote_has_no_signs() -> None:
    detail = replace(examples.neuron_detail(), vote="balanced", ridge=0.1)
    assert "brackets" not in vote_reading(detail)
    assert "brackets" in vote_reading(replace(detail, vote="published"))
    assert [trace["name"] for trace in neuron.votes(detail).data] == ["alpha"]
    neuron.votes(detail).to_plotly()


def test_a_neuron_that_nobody_moves_says_so() -> None:
    assert "nothing to compute" in walk(examples.dead_neuron(), 0, {})


def test_sigma_makes_nothing_up_for_another_vote() -> None:
    def told(**values: object) -> str:
        setting = make_setting(fakes.family(), None, "neuromerging", values)
        return sigma_text(setting, fakes.FakeWorkspace().summary(setting))

    assert "1/(1 − σ)" in told(trim_ratio=0.8)
    assert "1/(1 − σ)" not in told(trim_ratio=0.8, vote="balanced")


def test_a_sheet_holds_every_picture_once() -> None:
    images = [np.full((48, 48, 3), place, dtype=np.uint8) for place in range(10)]
    assert f"data-columns='{SHEET_COLUMNS}' data-size='{SHEET_PX}'" in sample_sheet(images)
    assert sample_sheet([]) == ""


# ---------------------------------------------------------------------------------------------- in a browser
@pytest.mark.browser
def test_a_line_rings_its_place_in_the_picture(visitor: Visitor) -> None:
    page = visitor.open("tab=neuron&m=neuromerging")
    for identity in ("neuron-plane", "neuron-votes"):
        page.locator(f"#{identity}").scroll_into_view_if_needed()
        visitor.drawn(identity)
    steps = page.locator("#neuron-walk li")
    for step in steps.all():
        step.focus()
        wanted = json.loads(step.get_attribute("data-lights"))
        expect(page.locator(".nm-light").first).to_be_visible()
        assert page.locator(".nm-light").count() >= len(wanted)
    page.locator("#neuron-index input").focus()
    expect(page.locator(".nm-light")).to_have_count(0)


@pytest.mark.browser
def test_a_point_shows_its_sample_picture(visitor: Visitor) -> None:
    page = visitor.open("tab=neuron")
    visitor.drawn("neuron-answers")
    page.locator("#nm-samples").wait_for(state="attached")
    stage = page.locator("#neuron-answers .nm-stage")
    stage.focus()
    stage.press("ArrowRight")
    expect(page.locator("#neuron-answers .nm-sample")).to_be_visible()
    stage.press("Escape")
    expect(page.locator("#neuron-answers .nm-sample")).to_have_count(0)


@pytest.mark.browser
def test_the_axes_of_the_answers_stay_while_a_slider_moves(visitor: Visitor) -> None:
    page = visitor.open("tab=neuron&m=neuromerging")
    visitor.drawn("neuron-answers")
    ranges = (
        "() => { const { xaxis, yaxis } = document.querySelector('#neuron-answers .nm-stage').layout;"
        " return [...xaxis.range, ...yaxis.range]; }"
    )
    before = page.evaluate(ranges)
    assert before[0] <= 0 <= before[1]
    assert before[2] <= 0 <= before[3]
    view = page.locator("#neuron-answers .nm-view")
    drawn = view.get_attribute("data-drawn")
    handle = visitor.slider(ORTHOGONAL)
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2, steps=4)
    expect(view).not_to_have_attribute("data-drawn", drawn)
    assert page.evaluate(ranges) == before
    page.mouse.up()
    shapes = "(document.querySelector('#neuron-answers .nm-stage').layout.shapes ?? [])"
    frames = f"() => {shapes}.map((shape) => [shape.x0, shape.x1, shape.y0, shape.y1])"
    page.wait_for_function(f"before => JSON.stringify(({frames})()) === JSON.stringify([before])", arg=before)
