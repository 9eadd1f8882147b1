"""Hidden components: what the browser and the server tell one another beside what is seen.

What happens when a control is moved, and when an event (a preset, undo, a step of the tour) sets the controls::

    a control moved by hand ───────────────┐            an event has set controls
                                           │                     │ new stamp
                                           │                     v
                                           │               controls_set
                                           v                     │ change, in the browser
                             in the browser: collect the values  │
                             of the sidebar's controls  <────────┘
                                           │
                                           v
                                       sidebar          (a list of some forty values)
                                           │ change: only where the list is another one
                                           v
                    server: draw the open tab, then measure the quick split ──> resolved
                                           │ then, after a rest without another change
                                           v
                    server: the whole split, a step of the history
                                           │ new stamp, where the open tab is costly to draw
                                           v
                                      redraw_due
                                           │ change
                                           v
                    server: draw the open tab

    resolved  ──> in the browser: what Auto came to, onto the sliders whose Auto is still on

    sidebar changes again while the server still follows a move: the browser holds the new values back until
    the answer is there, and says so at once ──> overtaken ──> server: the job of that move stops

    a clock that runs while something is fetched ──> server: how far it is ──> arrived, where a part has come
                                                     ──> server: follow, as after a moved control
    server: tab_to_open = "neuron 123" ──> in the browser: a click on that tab ──> server: draw it
    server: address = "v=1&f=..."      ──> in the browser: into the address bar and the clipboard
    server: followed = "v=1&f=..."     ──> in the browser: into the address bar, where that holds a permalink already

Why the sidebar's values travel as one list, and the tabs' menus as another (``choices``): the browser tells every input
of an event, and every component that shows its progress, of each step on the event's way, and is slow at it: it looks
for each among all components of the page. With forty inputs a moved slider took longer to leave the browser than to be
answered. What the server holds itself is no input at all (`PageBlocks.recall`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import gradio as gr

from neuromerge.interface.session import Session

OPEN_TAB = """
(wanted) => {
  const button = document.getElementById(`tab-${wanted.split(' ')[0]}-button`);
  if (button && button.getAttribute('aria-selected') !== 'true') { button.click(); }
}
"""
"""A click on the tab, so that what a visitor's own click starts follows here, too."""


@dataclass
class Signals:
    """The hidden components of a page.

    Attributes:
        tab: key of the open tab; held by the server.
        session: what the server remembers of the page.
        sidebar: values of the sidebar's controls, as the browser collected them (see `Controls.read`).
        choices: values of the menus of the tabs, as the browser collected them; None until one of them has changed.
        controls_set: a stamp that is new when an event has set the controls.
        arrived: how many parts of a download are here, the last time that the page asked.
        redraw_due: a stamp that is new when an open tab that is costly to draw shall be drawn.
        resolved: what Auto came to, for the sliders whose Auto is still on when it arrives.
        move: the browser's name for the move that the server is following; only the browser knows it.
        overtaken: name of a move that is still being followed while the controls hold something newer already.
        tab_to_open: key of the tab that the browser shall open, and a stamp.
        address: query string of a permalink on its way to the address bar.
        followed: the same of a page at rest, for an address that holds a permalink already: it follows the page.
    """

    tab: gr.State
    session: gr.State
    sidebar: gr.JSON
    choices: gr.JSON
    controls_set: gr.State
    arrived: gr.Number
    redraw_due: gr.State
    resolved: gr.JSON
    move: gr.Number
    overtaken: gr.Number
    tab_to_open: gr.Textbox
    address: gr.Textbox
    followed: gr.Textbox


def build_signals(tab: str, seconds: int) -> Signals:
    """The hidden components, where the caller's layout context is: at its top, where the browser finds them soonest.

    Args:
        tab: key of the tab that is open at first.
        seconds: how long the server remembers a page that is idle.
    """
    return Signals(
        tab=gr.State(tab, time_to_live=seconds),
        session=gr.State(Session(), time_to_live=seconds),
        sidebar=gr.JSON(visible=False),
        choices=gr.JSON(visible=False),
        controls_set=gr.State(0, time_to_live=seconds),
        arrived=gr.Number(0, visible=False),
        redraw_due=gr.State(0, time_to_live=seconds),
        resolved=gr.JSON(visible=False),
        move=gr.Number(visible=False),
        overtaken=gr.Number(visible=False),
        tab_to_open=gr.Textbox(visible="hidden", elem_id="open-tab", label="Tab to open", interactive=False),
        address=gr.Textbox(visible="hidden", elem_id="permalink", label="Permalink", interactive=False),
        followed=gr.Textbox(visible="hidden", elem_id="permalink-now", label="Permalink now", interactive=False),
    )


# The browser names each move that it sends, and forgets the name when the answer is there.
NAME_MOVE = """
(...held) => {
  window.neuromergeMove = Date.now();
  return [...held.slice(0, -1), window.neuromergeMove];
}
"""
FORGET_MOVE = "() => { window.neuromergeMove = null; }"
TELL_OVERTAKEN = "(told) => window.neuromergeMove ?? told"


def stamp() -> int:
    """A value that no earlier call has returned."""
    return time.monotonic_ns()
