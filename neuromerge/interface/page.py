"""The page: its parts, and its inputs read into one `Moment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gradio as gr

from neuromerge.deployment import Limits
from neuromerge.interface.components.controls import FIRST_COMPARISON, Controls
from neuromerge.interface.fetching import FetchPanel
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.moment import Changes, Chosen, Moment
from neuromerge.interface.own_models import KnownFamilies
from neuromerge.interface.permalinks import PageState, encode
from neuromerge.interface.presence import Presence
from neuromerge.interface.session import Pulse, Session
from neuromerge.interface.signals import Signals, stamp
from neuromerge.interface.state import TabState
from neuromerge.interface.tab import Tab
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

T = TypeVar("T", bound=Tab[Any])


@dataclass
class Page:
    """The parts of the page, while it is put together and ever after."""

    loader: WorkspaceLoader
    limits: Limits
    controls: Controls
    pulse: Pulse
    signals: Signals
    fetch: FetchPanel
    readout: gr.HTML
    tabs: list[Tab[Any]] = field(default_factory=list)
    panels: dict[str, gr.Tab] = field(default_factory=dict)
    presence: Presence = field(default_factory=Presence)
    queued: Callable[[str], int] = lambda lane: 0
    """How many events wait in a lane, over all visitors."""

    # ------------------------------------------------------------------------------------------- its parts
    @property
    def inputs(self) -> list[Any]:
        """What every event says of the page."""
        signals = self.signals
        return [signals.tab, signals.session, signals.sidebar, *(part for tab in self.tabs for part in tab.inputs)]

    @property
    def families(self) -> KnownFamilies:
        """The model families, with those of single pages."""
        return self.controls.families

    @property
    def states(self) -> dict[str, type[TabState]]:
        """The kind of state of each tab, by the tab's key."""
        return {tab.key: tab.state for tab in self.tabs}

    def tab(self, kind: type[T]) -> T:
        """The tab of that kind."""
        return next(tab for tab in self.tabs if isinstance(tab, kind))

    def opened(self, moment: Moment) -> Tab[Any]:
        """The tab that is open at a moment."""
        return next(tab for tab in self.tabs if tab.key == moment.tab)

    # ------------------------------------------------------------------------------------------- reading it
    def moment(self, values: Mapping[Any, Any], page_id: str | None, event: gr.EventData, job: Job) -> Moment:
        """The moment that the `values` of an event's inputs describe."""
        signals = self.signals
        held = values[signals.session]
        session = held if isinstance(held, Session) else Session()
        return Moment(
            page_id=page_id,
            tab=values[signals.tab],
            session=session,
            states={tab.key: tab.read(values) for tab in self.tabs},
            values=values,
            event=event,
            job=job,
            choose=lambda: self._chosen(values[signals.sidebar], session),
            explorer=self.loader.workspace,
        )

    def _chosen(self, sidebar: Any, session: Session) -> Chosen:
        held = self.controls.read(sidebar)
        setting = self.controls.setting(held)
        return Chosen(setting, *self.controls.comparison(held[self.controls.compare], setting, session))

    def permalink(self, moment: Moment) -> str:
        """The query string that restores the page."""
        usual, _ = self.controls.comparison(FIRST_COMPARISON, moment.setting, moment.session)
        pinned = moment.chosen.pinned
        state = PageState(
            setting=moment.setting,
            pinned=None if pinned == usual else pinned,
            compared=pinned is not None,
            tab=moment.tab,
            states=moment.states,
        )
        return encode(state, self.states)

    # ------------------------------------------------------------------------------------------- changing it
    @property
    def settable(self) -> list[Any]:
        """The outputs of an event that sets the controls."""
        return [*self.controls.inputs, self.signals.controls_set]

    def set_controls(self, setting: Setting) -> Changes:
        """Show `setting` in the sidebar, and let everything follow that would follow a control moved by hand."""
        return self.announced(self.controls.updates(setting))

    def announced(self, changes: Changes) -> Changes:
        """`changes` of some controls, and the sign that there are some."""
        return {**changes, self.signals.controls_set: stamp()}

    def open_tab(self, key: str) -> Changes:
        """Let the browser open the tab of that key."""
        return {self.signals.tab_to_open: f"{key} {stamp()}"}
