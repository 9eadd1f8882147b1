"""Every figure at the widths of a phone, a tablet and a desktop: no word is cut off, nothing is complained about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from neuromerge.interface import static_files
from neuromerge.interface.plotly_view import PlotlyView
from tests.figures.gallery import FIGURES

ORIGIN = "http://figures.test"
WIDTHS = (312, 600, 1000)
TOGETHER = 6

CUT = """() => [...document.querySelectorAll('.nm-stage')].flatMap(stage => {
  const box = stage.getBoundingClientRect();
  return [...stage.querySelectorAll('text')].filter(text => text.textContent.trim()).filter(text => {
    const { left, right, top, bottom, width } = text.getBoundingClientRect();
    return width && (left < box.left - 1 || right > box.right + 1 || top < box.top - 1 || bottom > box.bottom + 1);
  }).map(text => `${stage.ariaLabel}: ${text.textContent}`);
})"""


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    """A page that holds frames for figures and the scripts; no server is asked."""
    frame = PlotlyView(label="Figure").html_template
    frames = "".join(f'<div id="f{i}">{frame}</div>' for i in range(TOGETHER))
    source = (
        f'<!doctype html><link rel="stylesheet" href="{ORIGIN}/view.css"><body style="margin:0">'
        f'{frames}<script type="module" src="{ORIGIN}/view.js"></script></body>'
    )

    def answer(route: Any) -> None:
        name = route.request.url.split("/")[-1]
        if name.endswith((".js", ".css")):
            kind = "text/css" if name.endswith(".css") else "text/javascript"
            route.fulfill(body=static_files.content(name), content_type=kind)
        else:
            route.fulfill(body=source, content_type="text/html")

    page = chromium.new_page()
    page.set_default_timeout(120_000)
    page.route(f"{ORIGIN}/**", answer)
    yield page
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("first", range(0, len(FIGURES), TOGETHER))
def test_no_word_is_cut_off(page: Any, width: int, first: int) -> None:
    names = [name for name in list(FIGURES)[first : first + TOGETHER] if "many" not in name]
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.set_viewport_size({"width": width, "height": 6000})
    page.goto(f"{ORIGIN}/page/")
    page.wait_for_function("window.NeuroMergeView")
    for i, name in enumerate(names):
        page.evaluate(
            "([i, value]) => NeuroMergeView.mount(document.getElementById(`f${i}`), { value }, () => {}, () => {})",
            [i, FIGURES[name]().to_json()],
        )
    for i in range(len(names)):
        page.wait_for_selector(f"#f{i} .nm-view[data-drawn]")
    assert page.evaluate(CUT) == []
    assert complaints == []
