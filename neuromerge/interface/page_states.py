"""What Gradio remembers of each page, without what it notes for its deep links, which the gate refuses.

For these it copies the settings of every component when a page opens and notes every value that is sent to it: 40 ms of
a processor a visitor, and two megabytes that stay as long as the page is remembered.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gradio.routes
from gradio.blocks import Blocks
from gradio.state_holder import SessionState, StateHolder


class PageState(SessionState):
    """The components of one page that differ from a fresh page's, and what the server holds for it."""

    def __init__(self, blocks: Blocks) -> None:
        of_no_component = SimpleNamespace(default_config=blocks.default_config, blocks={})
        super().__init__(cast(Blocks, of_no_component))
        vars(self.blocks_config)["config_for_block"] = _nothing


def _nothing(*_: Any) -> dict[str, Any]:
    return {}


class PageStates(StateHolder):
    """The states of all pages."""

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = PageState(self.blocks)
        return super().__getitem__(session_id)


def remember_little() -> None:
    """Before a server is made: have it remember pages so."""
    vars(gradio.routes)["StateHolder"] = PageStates
