"""What travels with an event is little, and what the server holds is found all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from neuromerge.deployment import Limits
from neuromerge.errors import SettingError
from neuromerge.interface import launch, static_files
from neuromerge.interface.app import build, lay_out
from neuromerge.interface.blocks import PageBlocks
from neuromerge.interface.page import Page
from neuromerge.interface.session import Session
from neuromerge.interface.tabs.interference import InterferenceState, InterferenceTab
from neuromerge.progress import Job
from neuromerge.settings.choices import first_setting
from tests.interface import fakes

FAMILY = fakes.family()
FAMILIES = {FAMILY.name: FAMILY}


@pytest.fixture
def page() -> Iterator[Page]:
    with gr.Blocks(analytics_enabled=False):
        yield lay_out(fakes.loader(), FAMILIES, Limits())[0]


def read(page: Page, choices: Any) -> InterferenceState:
    values = {page.signals.sidebar: page.signals.sidebar.value, page.signals.choices: choices}
    moment = page.moment(values, None, gr.EventData(None, {}), Job())
    return page.tab(InterferenceTab).shown(moment)


def test_an_event_names_few_inputs() -> None:
    """The browser looks for each input among all components, at each step of the event."""
    demo = build(fakes.loader(), FAMILIES, Limits())
    asked = [event for event in demo.fns.values() if event.fn is not None and event.api_visibility == "private"]
    assert len(asked) > 40
    assert {event.name: len(event.inputs) for event in asked if len(event.inputs) > 8} == {}


def test_menus_of_the_tabs_arrive_as_one_list(page: Page) -> None:
    sent = [menu.value for menu in page.menus]
    sent[page.menus.index(page.tab(InterferenceTab).measure)] = "retention"
    assert read(page, None).measure == InterferenceState().measure
    assert read(page, sent).measure == "retention"


@pytest.mark.parametrize("crafted", ["x", {}, [], ["map"], [None] * 200])
def test_a_list_that_does_not_fit_the_menus_is_refused(page: Page, crafted: Any) -> None:
    with pytest.raises(SettingError, match="Reload the page"):
        read(page, crafted)


def test_a_choice_that_a_menu_does_not_offer_is_refused(page: Page) -> None:
    sent = [menu.value for menu in page.menus]
    sent[page.menus.index(page.tab(InterferenceTab).view)] = "elsewhere"
    with pytest.raises(gr.Error, match="elsewhere"):
        read(page, sent)


def test_what_the_server_holds_of_a_page_is_its_own() -> None:
    demo = build(fakes.loader(), FAMILIES, Limits())
    assert isinstance(demo, PageBlocks)
    (state,) = (block for block in demo.blocks.values() if isinstance(getattr(block, "value", None), Session))
    session = Session().pin(first_setting(FAMILIES))
    demo.state_holder["one"][state._id] = session
    assert demo.recall("one", [state]) == {state: session}
    assert demo.recall("two", [state]) == {state: Session()}
    assert demo.recall(None, [state]) == {state: Session()}


def test_no_style_rule_asks_what_the_whole_page_holds() -> None:
    """With `body:has(...)` each line that a figure draws costs a look at the styles of the whole page."""
    options = launch.server_options(Limits())
    for sheet in (options["css"], options["head"], static_files.content("view.css").decode()):
        assert "body:has(" not in sheet
