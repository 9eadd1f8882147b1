"""A family that has to be fetched, in a browser: what is seen meanwhile, and that the page stays usable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from neuromerge.engine.downloads import Fetching, Item, Presence, State, always
from neuromerge.engine.parts import Part
from neuromerge.errors import SettingError
from neuromerge.evaluation.families import SampleSource
from neuromerge.interface.components.fetching import fetching_panel, size, time_left
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.prefetch import prefetch, require_known
from neuromerge.settings.setting import Setting
from tests.interface import fakes
from tests.interface.conftest import Visitor, serving

GB = 10**9
BASE, EXPERT = Part("", "Another family", "hub:org/base"), Part("digits", "Digits", "hub:org/digits")
OTHER = Part("letters", "Letters", "hub:org/letters")
PICTURES = Part("digits", "Digits", samples=SampleSource("hub", "org/pictures"))


def fetching(state: State = "running", done: int = GB, why: str = "", pictures: State = "waiting") -> Fetching:
    """Base and one expert are here; the other expert is in `state`."""
    items = (
        Item(BASE, "done", GB, GB),
        Item(EXPERT, state, done, 2 * GB, why),
        Item(OTHER, "done", GB, GB),
        Item(PICTURES, pictures),
    )
    return Fetching(items, rate=5e6)


class SlowHub(fakes.FakeWorkspace):
    """The second family comes from a Hub that answers what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.comes: Fetching | None = fetching()
        self.wanted: dict[str, Setting] = {}

    def want(self, setting: Setting, who: str, is_there: Presence = always) -> Fetching | None:
        self.wanted[who] = setting
        return self.fetching(who)

    def fetching(self, who: str) -> Fetching | None:
        setting = self.wanted.get(who)
        return self.comes if setting is not None and setting.family == "other" and "digits" in setting.tasks else None

    def stop_fetching(self, who: str) -> None:
        if self.comes is not None:
            self.comes = replace(self.comes, stopped=True)

    def resume_fetching(self, who: str) -> None:
        self.comes = fetching()


@pytest.fixture
def hub() -> SlowHub:
    return SlowHub()


@pytest.fixture
def visitor(chromium: Any, hub: SlowHub) -> Iterator[Visitor]:
    families = {entry.name: entry for entry in (fakes.family(), fakes.family("other", "Another family"))}
    with serving(WorkspaceLoader(lambda: hub), families) as address:
        made = Visitor(chromium, address)
        yield made
        made.context.close()
        assert made.complaints == []


def choose(visitor: Visitor, title: str) -> None:
    visitor.page.locator("#family input").click()
    visitor.page.get_by_role("option", name=title).click()


def test_who_chose_a_family_that_comes_gets_back_at_once_and_stops_and_goes_on(visitor: Visitor, hub: SlowHub) -> None:
    from playwright.sync_api import expect

    page = visitor.open()
    choose(visitor, "Another family")
    panel, score = page.locator("#fetching"), page.locator("#readout .nm-score-value")
    expect(panel).to_contain_text("3.0 GB of 4.0 GB for base and 2 experts")
    expect(panel).to_contain_text("about 3 minutes left")
    expect(score).to_be_hidden()
    expect(page.locator("#tabs")).to_be_hidden()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(panel).to_contain_text("The download of Another family is stopped")
    page.get_by_role("button", name="Go on").click()
    expect(panel).to_contain_text("is being fetched")
    page.get_by_role("button", name="Back to Toy family").click()
    expect(score).to_be_visible()
    expect(panel).to_be_hidden()
    expect(page.locator("#tabs")).to_be_visible()


def test_a_link_shows_what_is_fetched_and_follows_when_it_is_here(visitor: Visitor, hub: SlowHub) -> None:
    from playwright.sync_api import expect

    page = visitor.page
    page.goto(f"{visitor.address}/?v=1&f=other")
    panel = page.locator("#fetching")
    expect(panel).to_contain_text("Another family is being fetched")
    expect(page.locator("#tabs")).to_be_hidden()
    hub.comes = fetching("done", 2 * GB)
    expect(panel).to_contain_text("its test pictures are being fetched")
    expect(page.locator("#tabs")).to_be_visible()
    hub.comes = None
    expect(panel).to_be_hidden()
    expect(page.locator("#readout .nm-score-value")).to_be_visible()
    assert {setting.family for _, setting in hub.calls} == {"other"}, "nothing of another family was computed"


def test_an_expert_that_cannot_be_had_may_be_left_out(visitor: Visitor, hub: SlowHub) -> None:
    from playwright.sync_api import expect

    hub.comes = fetching("failed", 0, "The Hub refuses access to org/digits (403 Forbidden).")
    page = visitor.open()
    choose(visitor, "Another family")
    expect(page.locator("#fetching")).to_contain_text("Digits: The Hub refuses access to org/digits")
    page.get_by_role("button", name="Merge without what is missing").click()
    expect(page.locator("#readout .nm-score-value")).to_be_visible()


@pytest.mark.parametrize(
    ("count", "said"), [(3_400_000_000, "3.4 GB"), (605_000_000, "605.0 MB"), (1_500, "2 kB"), (0, "0 kB")]
)
def test_sizes_as_people_say_them(count: float, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (5, "less than a minute left"),
        (65, "about 1 minute left"),
        (1700, "about 28 minutes"),
        (9000, "about 2.5 h"),
    ],
)
def test_times_as_people_say_them(seconds: float, said: str) -> None:
    assert time_left(seconds).startswith(said)


def test_what_a_repository_is_called_is_no_markup() -> None:
    hostile = Part("x", "<img src=x>", "hub:org/x")
    shown = fetching_panel(Fetching((Item(hostile, "failed", why="<script>"),)), "<b>family</b>")
    assert not any(tag in shown for tag in ("<img", "<script", "<b>"))


def test_a_deployment_fetches_what_it_is_told_to(hub: SlowHub, caplog: pytest.LogCaptureFixture) -> None:
    families = {entry.name: entry for entry in (fakes.family(), fakes.family("other", "Another family"))}
    hub.comes = fetching("failed", 0, "The disk is full.", "done")
    prefetch(WorkspaceLoader(lambda: hub), families, ("other",)).join()
    assert hub.wanted["prefetch other"].family == "other"
    assert "other is here, but for Digits: The disk is full." in caplog.text
    require_known(("other",), families)
    with pytest.raises(SettingError, match=r"NEUROMERGE_PREFETCH names 'clap'.*toy, other"):
        require_known(("other", "clap"), families)
