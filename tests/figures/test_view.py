"""The view in a real browser: zoom, clicks, keyboard, dark mode, hidden tabs, downloads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from neuromerge.errors import SettingError
from neuromerge.exploration.results import Heatmap
from neuromerge.figures.accuracy import accuracy_bars
from neuromerge.figures.figure import message
from neuromerge.figures.interference import interference_heatmaps
from neuromerge.interface import static_files
from neuromerge.interface.plotly_view import PlotlyView, read_pick
from tests.figures import examples

SIZES = {"parallel": (14, 11), "task": (10,)}


def drawn(level: float) -> Heatmap:
    """The example's numbers, scaled."""
    heatmap = examples.heatmap()
    return Heatmap(
        heatmap.measure,
        heatmap.rows,
        heatmap.columns,
        np.clip(heatmap.parallel * level, 0, 1),
        np.clip(heatmap.orthogonal * level, 0, 1),
    )


def event(**data: Any) -> SimpleNamespace:
    return SimpleNamespace(_data=data)


# ------------------------------------------------------------------------------------------------ without a browser
def test_a_click_becomes_checked_indices() -> None:
    pick = read_pick(event(source="parallel", row=3, column=10), SIZES)
    assert (pick.source, pick.row, pick.column) == ("parallel", 3, 10)
    assert read_pick(event(source="task", index=0), SIZES).index == 0


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"source": "elsewhere", "row": 0, "column": 0},
        {"source": ["parallel"], "row": 0, "column": 0},
        {"source": "parallel", "row": 14, "column": 0},
        {"source": "parallel", "row": -1, "column": 0},
        {"source": "parallel", "row": True, "column": 0},
        {"source": "parallel", "row": "0", "column": 0},
        {"source": "parallel", "row": 0.0, "column": 0},
        {"source": "parallel", "row": 0},
        {"source": "task", "index": 10},
    ],
)
def test_what_a_browser_makes_up_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        read_pick(event(**data), SIZES)


def test_an_event_without_data_is_refused() -> None:
    for broken in (SimpleNamespace(), SimpleNamespace(_data=None), SimpleNamespace(_data=[1])):
        with pytest.raises(SettingError):
            read_pick(broken, SIZES)


def test_files_are_served_compressed_under_names_that_change_with_them() -> None:
    client = TestClient(Starlette(routes=static_files.routes()))
    folder = f"/{static_files.URL}/{static_files.version()}"
    for path in (
        *(f"{folder}/{name}" for name in (*static_files.modules(), "view.css")),
        f"/{static_files.URL}/{static_files.plotly_name()}",
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
        bare = client.get(path, headers={"accept-encoding": "identity"})
        assert bare.content == answer.content
    for name in ("plotly_view.py", "..%2fplotly_view.py", "secret", "style.css"):
        assert client.get(f"/{static_files.URL}/{name}").status_code == 404
        assert client.get(f"{folder}/{name}").status_code == 404


def test_a_page_of_an_older_version_gets_its_files_but_does_not_keep_them() -> None:
    client = TestClient(Starlette(routes=static_files.routes()))
    answer = client.get(f"/{static_files.URL}/0123456789/view.js")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-cache"


def test_every_module_that_is_imported_is_served_and_preloaded() -> None:
    head = static_files.early()
    for name in static_files.modules():
        assert f"/{name}" in head
        for imported in re.findall(r'from "\./([^"]+)"', static_files.content(name).decode()):
            assert imported in static_files.modules()


def test_no_path_of_the_machine_reaches_the_browser() -> None:
    heads = static_files.early() + static_files.head()
    shown = heads + "".join(static_files.content(name).decode() for name in static_files.modules())
    assert str(Path(static_files.__file__).parent) not in shown
    assert 'src="/' not in heads
    assert 'href="/' not in heads


# ------------------------------------------------------------------------------------------------ in a browser
@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A page with a slider that changes a heatmap, a figure in a hidden tab, and the states without a figure."""

    def figure(level: float) -> str:
        return interference_heatmaps(drawn(level), tasks=8).to_json()

    def clicked(happened: gr.EventData) -> str:
        pick = read_pick(happened, {"parallel": (14, 11), "orthogonal": (14, 11)})
        return f"{pick.source} {examples.LAYERS[pick.row]} {examples.MATRICES[pick.column]}"

    with gr.Blocks() as demo:
        with gr.Tab("one"):
            level = gr.Slider(0, 1, 0.6, step=0.01, label="level", elem_id="level")
            heat = PlotlyView(figure(0.6), label="Interference", elem_id="heat")
            cell = gr.Textbox(label="cell", elem_id="cell")
            PlotlyView(message("Nothing here yet."), label="Empty", elem_id="empty")
            PlotlyView(message("It broke.", "error"), label="Broken", elem_id="broken")
        with gr.Tab("two", render_children=True):
            PlotlyView(accuracy_bars(examples.board()), label="Accuracy", elem_id="bars")
        level.input(figure, level, heat, trigger_mode="always_last", show_progress="hidden")
        heat.cell(clicked, None, cell)
    _, url, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, head=static_files.head(), app_kwargs={"routes": static_files.routes()}
    )
    yield url
    demo.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    page = chromium.new_page(viewport={"width": 1100, "height": 900})
    page.set_default_timeout(120_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on(
        "request", lambda request: complaints.append(request.url) if address.split(":")[1] not in request.url else None
    )
    page.goto(address)
    page.wait_for_selector("#heat .nm-view[data-state=drawn] .hm")
    yield page
    page.close()
    assert [text for text in complaints if not text.startswith(("data:", "blob:"))] == []


def draws(page: Any, name: str = "heat") -> int:
    return int(page.get_attribute(f"#{name} .nm-view", "data-drawn") or 0)


def axis_range(page: Any) -> list[float]:
    return page.evaluate("document.querySelector('#heat .nm-stage').layout.xaxis.range.slice()")


VALUE = "document.querySelector('#heat .nm-stage').data.find(trace => trace.name).z[3][1]"
"""One number of the map, in the browser."""


def value(page: Any) -> float:
    return page.evaluate(VALUE)


def press(page: Any, key: str) -> None:
    before = draws(page)
    page.locator("#level input[type=range]").press(key)
    page.wait_for_function(f"document.querySelector('#heat .nm-view').dataset.drawn > {before}")


@pytest.mark.browser
class TestInBrowser:
    """One page per test, one server for all."""

    def test_an_arrow_key_changes_the_numbers_and_zoom_survives(self, page: Any) -> None:
        box = page.locator("#heat .nm-stage .nsewdrag").first.bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 160, box["y"] + 140, steps=4)
        page.mouse.up()
        page.wait_for_selector("#heat .nm-view[data-zoomed]")
        zoomed, first = axis_range(page), value(page)
        assert zoomed[1] - zoomed[0] < 6
        press(page, "ArrowRight")
        assert value(page) != first
        assert axis_range(page) == pytest.approx(zoomed)
        page.click("#heat button[data-do=reset]")
        page.wait_for_selector("#heat .nm-view:not([data-zoomed])")
        assert axis_range(page) == pytest.approx([-0.5, 7.5])

    def test_a_click_and_a_key_reach_python(self, page: Any) -> None:
        box = page.locator("#heat .nm-stage .nsewdrag").first.bounding_box()
        page.mouse.click(box["x"] + box["width"] * 1.5 / 8, box["y"] + box["height"] * 4.5 / 14)
        page.wait_for_function("document.querySelector('#cell textarea').value === 'parallel block 3 k'")
        page.locator("#heat .nm-stage").focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
            page.keyboard.press(key)
        page.wait_for_function("document.querySelector('#heat .nm-live').textContent.includes('block 1 · q')")
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('#cell textarea').value === 'parallel block 1 q'")

    def test_dark_mode_needs_no_server(self, page: Any) -> None:
        before = draws(page)
        page.evaluate("document.body.classList.add('dark')")
        page.wait_for_function(f"document.querySelector('#heat .nm-view').dataset.drawn > {before}")
        colour = page.evaluate("document.querySelector('#heat .nm-stage').layout.template.layout.font.color")
        assert colour == "#e8ebf1"

    def test_a_hidden_tab_draws_nothing_until_it_is_opened(self, page: Any) -> None:
        assert page.locator("#bars .nm-stage .main-svg").count() == 0
        page.get_by_role("tab", name="two").click()
        page.wait_for_selector("#bars .nm-view[data-state=drawn] .bars")

    def test_a_narrow_page_gets_the_narrow_figure(self, page: Any) -> None:
        before = draws(page)
        page.set_viewport_size({"width": 375, "height": 800})
        page.wait_for_function(f"document.querySelector('#heat .nm-view').dataset.drawn > {before}")
        page.wait_for_function("document.querySelector('#heat .nm-stage').layout.xaxis.domain[1] === 1")
        assert page.evaluate("document.documentElement.scrollWidth") <= 376

    def test_what_is_said_and_saved(self, page: Any) -> None:
        """States without a figure, the description, and the three downloads; one page, since none changes it."""
        page.locator("#broken").scroll_into_view_if_needed()
        assert page.inner_text("#empty .nm-message span") == "Nothing here yet."
        assert page.get_attribute("#broken .nm-message", "role") == "alert"
        assert "largest in" in page.get_attribute("#heat .nm-stage", "aria-label")
        assert page.get_attribute("#heat .nm-stage", "tabindex") == "0"
        page.locator("#heat").hover()
        for kind, start in (("png", b"\x89PNG"), ("svg", b"<svg"), ("csv", b"series,matrix,layer,cancellation\n")):
            with page.expect_download() as waiting:
                page.click(f"#heat button[data-do={kind}]")
            assert waiting.value.suggested_filename == f"interference-cancellation.{kind}"
            content = Path(waiting.value.path()).read_bytes()
            assert content.startswith(start)
        assert content.decode() == interference_heatmaps(drawn(0.6), tasks=8).to_csv()

    def test_a_library_that_did_not_load_may_be_asked_for_again(self, chromium: Any, address: str) -> None:
        page = chromium.new_page()
        page.set_default_timeout(120_000)
        page.route("**/plotly-*.js", lambda route: route.abort())
        page.goto(address)
        page.wait_for_selector("#heat .nm-view[data-state=error]")
        assert "did not load" in page.inner_text("#heat .nm-message span")
        page.unroute("**/plotly-*.js")
        page.locator("#heat .nm-message button").click()
        page.wait_for_selector("#heat .nm-view[data-state=drawn] .hm")
        page.close()

    def test_scales_stay_while_a_slider_moves_and_follow_when_it_rests(self, page: Any) -> None:
        scale = "document.querySelector('#heat .nm-stage').layout.coloraxis.cmax"
        first, before = page.evaluate(scale), draws(page)
        box = page.locator("#level input[type=range]").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.6 * box["width"], middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.2 * box["width"], middle, steps=8)
        page.wait_for_function(f"document.querySelector('#heat .nm-view').dataset.drawn > {before}")
        page.wait_for_function(
            "document.querySelector('#heat .nm-stage').data.find(trace => trace.name).z[3][1] < 0.15"
        )
        assert page.evaluate(scale) == first
        page.mouse.up()
        page.wait_for_function(f"{scale} < {0.6 * first}")

    def test_a_cell_of_the_strip_names_its_own_column(self, page: Any) -> None:
        norm = examples.MATRICES.index("norm")
        place = page.evaluate(
            "column => NeuroMergeView.placeOf(document.querySelector('#heat .nm-stage'), 'orthogonal', 4, column)", norm
        )
        page.mouse.click(place["x"], place["y"])
        page.wait_for_function("document.querySelector('#cell textarea').value === 'orthogonal block 3 norm'")

    def test_a_place_can_be_found_from_outside(self, page: Any) -> None:
        place = page.evaluate("NeuroMergeView.placeOf(document.querySelector('#heat .nm-stage'), 'orthogonal', 4, 4)")
        page.mouse.click(place["x"], place["y"])
        page.wait_for_function("document.querySelector('#cell textarea').value === 'orthogonal block 3 fc1'")
