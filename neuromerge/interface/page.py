"""The page: its parts, and its inputs read into one `Moment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gradio as gr

from neuromerge.deployment import Limits
from neuromerge.errors import SettingError
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
    recall: Callable[[str | None, Sequence[Any]], Mapping[Any, Any]] = lambda page_id, states: {
        state: state.value for state in states
    }
    """What the server holds in some components for a page."""
    taken: Callable[[str | None, Any, Any], Any] = lambda page_id, component, value: component.preprocess(value)
    """What a page sent for a component, checked by it."""

    # ------------------------------------------------------------------------------------------- its parts
    @property
    def inputs(self) -> list[Any]:
        """What every event says of the page."""
        return [self.signals.sidebar, self.signals.choices]

    @property
    def menus(self) -> list[Any]:
        """The visible components that hold what the tabs show; their values travel as `Signals.choices`."""
        return [component for tab in self.tabs for component in tab.holders.values()]

    @property
    def held(self) -> list[Any]:
        """What the server itself holds of a page."""
        return [self.signals.tab, self.signals.session, *(tab.held for tab in self.tabs if tab.held is not None)]

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
        values = {**self.recall(page_id, self.held), **self._chosen_in_tabs(page_id, values[signals.choices]), **values}
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

    def _chosen_in_tabs(self, page_id: str | None, sent: Any) -> dict[Any, Any]:
        """What the tabs' menus hold, by component."""
        if sent is None:
            return {component: component.value for component in self.menus}
        if not isinstance(sent, list) or len(sent) != len(self.menus):
            raise SettingError("What the page sent is not the state of its menus. Reload the page and try again.")
        return {menu: self.taken(page_id, menu, value) for menu, value in zip(self.menus, sent, strict=True)}

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
