"""A tab of one's own: one class, one place in the list, and it is drawn, remembered and linked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
import pytest

from neuromerge.benchmarks.clients import Client
from neuromerge.benchmarks.load import ORTHOGONAL
from neuromerge.interface import permalinks
from neuromerge.interface.app import build
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.state import TabState, linked, one_of
from neuromerge.interface.tab import Tab
from neuromerge.interface.tabs import TABS
from tests.interface import fakes
from tests.interface.conftest import served

COLOURS = ("red", "blue")


@dataclass(frozen=True)
class ToyState(TabState):
    colour: str = linked("colour", "red", one_of(lambda family: COLOURS))
    looks: int = 0


class ToyTab(Tab[ToyState]):
    """Says the strength of the orthogonal part in a colour."""

    key = "toy"
    title = "Toy"
    state = ToyState

    def build(self) -> None:
        self.colour = gr.Radio(list(COLOURS), value="red", label="Colour", elem_id="toy-colour")
        self.text = gr.HTML("", elem_id="toy-text")
        self.look = gr.Button("Look", elem_id="toy-look")
        self.holders = {"colour": self.colour}
        self.outputs = [self.text]

    def draw(self, moment: Moment) -> Changes:
        state, used = self.shown(moment), moment.workspace.summary().coefficients
        return {self.text: f"{used['lambda_orthogonal']:g} in {state.colour}, seen {state.looks} times"}

    def wire(self, events: Events) -> None:
        events.listen(self.look.click, self.seen, self.outputs)

    def seen(self, moment: Moment) -> Changes:
        state = self.shown(moment)
        state = ToyState(state.colour, state.looks + 1)
        return {**self.hold(state), **self.draw(moment.showing(self.key, state))}


ALL: tuple[type[Tab[Any]], ...] = (*TABS, ToyTab)


@pytest.fixture
def client() -> Iterator[Client]:
    family = fakes.family()
    demo = build(fakes.loader(), {family.name: family}, tabs=ALL)
    with served(demo) as address:
        client = Client(address)
        client.load()
        yield client
        client.close()


def test_it_is_drawn_moves_remembers_and_is_linked(client: Client) -> None:
    assert client.fire("tab-toy", "select") == []
    assert client.value("toy-text") == "1 in red, seen 0 times"
    assert client.move(ORTHOGONAL, 2.0) == []
    assert client.value("toy-text") == "2 in red, seen 0 times"
    assert client.move("toy-colour", "blue") == []
    assert client.fire("toy-look", "click") == []
    assert client.move(ORTHOGONAL, 3.0) == []
    assert client.value("toy-text") == "3 in blue, seen 1 times"
    assert client.fire("tab-export", "select") == []
    fields = parse_qs(client.value("export-link"))
    assert fields["colour"] == ["blue"]
    assert fields["tab"] == ["export"]


def test_its_link_is_read_and_what_it_cannot_be_is_said() -> None:
    family = fakes.family()
    states = {tab.key: tab.state for tab in ALL}
    page, messages = permalinks.decode("tab=toy&colour=blue", {family.name: family}, states)
    assert page.tab == "toy"
    assert page.states["toy"] == ToyState("blue")
    assert messages == ()
    page, messages = permalinks.decode("colour=green", {family.name: family}, states)
    assert page.states["toy"] == ToyState()
    assert messages == ("The link's colour is 'green'; it can be red, blue.",)
