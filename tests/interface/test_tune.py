"""The search of the Tune tab in a real browser: what is made large, what is searched, studies, and the map's points."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.interface import fakes
from tests.interface.conftest import Visitor

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect


def opened(visitor: Visitor, trials: int = 5) -> Any:
    page = visitor.open(tab="Tune")
    ask(page, trials)
    return page


def ask(page: Any, trials: int) -> None:
    page.locator("#trials input[type=number]").fill(str(trials))
    page.locator("#trials input[type=number]").press("Tab")


def choose(page: Any, menu: str, words: str) -> None:
    page.locator(f"#{menu} input").click()
    page.get_by_role("option", name=words).click()


def search(page: Any, done: str = "finished") -> None:
    page.locator("#start-search").click()
    expect(page.locator("#search-progress")).to_contain_text(done)


def found(page: Any) -> Any:
    return page.locator("#trials-table tr").filter(has_text="tpe")


def test_a_search_is_stopped_and_what_is_finished_stays(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = fakes.FakeWorkspace.validation_scores

    def slow(self: fakes.FakeWorkspace, *asked: Any) -> dict[str, float]:
        time.sleep(0.1)  # two hundred of them leave a busy machine the time to press Stop
        return scores(self, *asked)

    monkeypatch.setattr(fakes.FakeWorkspace, "validation_scores", slow)
    page = opened(visitor, 200)
    page.locator("#start-search").click()
    expect(page.locator("#search-progress")).to_contain_text("of 200 trials")
    expect(found(page).first).to_be_visible()
    page.locator("#stop-search").click()
    expect(page.locator("#search-progress")).to_contain_text("stopped")
    assert 1 <= found(page).count() < 200
    expect(page.locator("#search-noise")).to_contain_text("Best: trial")


def test_the_best_point_of_the_map_is_clicked_into_the_controls(visitor: Visitor) -> None:
    page = visitor.open(tab="Tune")
    page.locator("#map").click()
    visitor.drawn("landscape")
    stage = page.locator("#landscape .nm-stage")
    stage.scroll_into_view_if_needed()
    at = stage.evaluate(
        """(stage) => {
          const star = stage.data.find((trace) => trace.marker?.symbol?.includes?.('star'));
          const { xaxis, yaxis } = stage._fullLayout, box = stage.getBoundingClientRect();
          return [box.left + xaxis._offset + xaxis.c2p(star.x[0]), box.top + yaxis._offset + yaxis.c2p(star.y[0])];
        }"""
    )
    page.mouse.click(*at)
    expect(visitor.slider("neuromerging-lambda-orthogonal")).to_have_value("1.5")
    expect(visitor.slider("neuromerging-lambda-parallel")).to_have_value("0.5")


def test_tasks_count_as_much_as_they_are_weighted(visitor: Visitor) -> None:
    page = opened(visitor)
    expect(page.locator("#search-weights")).to_be_hidden()
    choose(page, "search-goal", "tasks weighted")
    page.locator("#search-weights").get_by_role("textbox").fill("digits=3, magic=1")
    page.locator("#start-search").click()
    expect(page.get_by_test_id("toast-body").first).to_contain_text("is no weight of a merged task")
    page.locator("#search-weights").get_by_role("textbox").fill("digits=3, flags=0")
    search(page)
    expect(page.locator("#search-noise")).to_contain_text("tasks weighted")


def test_pictures_without_labels_are_what_a_search_goes_by(visitor: Visitor, tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (16, 16), colour).save(tmp_path / f"{name}.png")
    packed = tmp_path / "mine.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(tmp_path / "a.png", "holidays/a.png")
        archive.write(tmp_path / "b.png", "b.png")
    page = opened(visitor)
    choose(page, "search-goal", "on my own pictures")
    page.locator("#start-search").click()
    expect(page.get_by_test_id("toast-body").first).to_contain_text("Add a zip archive")
    page.locator("#search-archive input[type=file]").set_input_files(packed)
    expect(page.locator("#search-archive")).to_contain_text("mine")
    search(page)
    expect(page.locator("#search-noise")).to_contain_text("certainty on my own pictures")


def test_what_is_selected_on_the_map_becomes_a_group_of_the_search(visitor: Visitor) -> None:
    page = visitor.open("act=cells&cells=block 1~fc1,block 2~fc1", tab="Interference")
    expect(page.locator("#strength-title")).to_contain_text("2 selected cells")
    page.locator("#strength-search").click()
    groups = page.locator("#search-groups textarea")
    expect(groups).to_have_value("block 1/fc1, block 2/fc1")
    ask(page, 5)
    search(page)
    expect(page.locator("#trials-table thead")).to_contain_text("block 1/fc1")
    found(page).first.locator("button").click()
    expect(page.locator(".nm-score-label small")).to_contain_text("profile of 2 parts")
    groups.fill("block 1/fc1, block 1/fc1")
    page.locator("#start-search").click()
    expect(page.get_by_test_id("toast-body").first).to_contain_text("each part belongs to one group")


def test_a_study_is_named_gone_on_with_and_deleted(visitor: Visitor, tmp_path: Path) -> None:
    page = opened(visitor)
    storage, study = page.locator("#storage").get_by_role("textbox"), page.locator("#study").get_by_role("textbox")
    storage.fill(f"sqlite:///{tmp_path / 'studies.db'}")
    study.fill("first")
    search(page)
    expect(found(page)).to_have_count(5)
    ask(page, 7)
    search(page, "7 of 7")
    expect(found(page)).to_have_count(7)
    study.fill("second")
    ask(page, 5)
    search(page, "5 of 5")
    expect(found(page)).to_have_count(5)
    study.fill("first")
    page.locator("#delete-study").click()
    expect(found(page)).to_have_count(0)
    search(page, "5 of 5")
    expect(found(page)).to_have_count(5)
