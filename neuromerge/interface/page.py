"""What the tabs share: the page's inputs read into one `Moment`, and one way to listen to events."""

from __future__ import annotations

import functools
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import gradio as gr

from neuromerge.deployment import Limits
from neuromerge.errors import Cancelled, NeuroMergeError
from neuromerge.interface.controls import FIRST_COMPARISON, Controls
from neuromerge.interface.engine import Engine
from neuromerge.interface.guard import guarded
from neuromerge.interface.permalinks import PageState, encode
from neuromerge.interface.session import Pulse, Session
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.exploration.workspace import Workspace

Lane = Literal["light", "heavy", "settle", "search", "idle"]
"""Which queue an event waits in: moved controls; galleries and exports; whole splits; searches; nothing but waiting.

The lanes only bound how many may be under way. The engine gives the processor to one small step at a time, in
order of arrival, so that nobody's whole split keeps another's slider waiting.
"""

COMMON = 3  # inputs before those of the tabs: open tab, session, what the sidebar holds


@dataclass(frozen=True)
class Moment:
    """The page as it was when an event left the browser: everything a handler may depend on.

    Attributes:
        page_id: the browser page (a new one after every reload).
        tab: key of the open tab.
        session: what the server remembers of the page.
        setting: the merge that the controls describe.
        pinned, pinned_label: the baseline to compare with; None and "" for none.
        own: values of each tab's own inputs, by the tab's key.
        event: what the browser says about the event (untrusted).
        progress: shows how far long work is.
        job: stops once a newer change of the same page makes its work useless.
    """

    page_id: str | None
    tab: str
    session: Session
    setting: Setting
    pinned: Setting | None
    pinned_label: str
    own: dict[str, tuple[Any, ...]]
    event: gr.EventData
    progress: gr.Progress
    job: Job
    workspace: Workspace


def stamp() -> int:
    """A value that no earlier call has returned."""
    return time.monotonic_ns()


def applying(handler: Callable[..., Any]) -> Callable[..., Any]:
    """`handler` with a new value of `Page.applied` after its own; for handlers that set the controls."""

    @functools.wraps(handler)
    def stamped(*arguments: Any) -> list[Any]:
        return [*handler(*arguments), stamp()]

    return stamped


Handler = Callable[..., Any]
"""Takes a `Moment` (and the values of `extra` components); returns or yields one value for each output."""


class Tab(ABC):
    """One tab: builds its components, says what it depends on, and draws itself for a moment.

    Class attributes: `key` (in permalinks), `title`, and `live`: whether it is redrawn while a control
    moves (a tab that is costly to draw follows when the control rests).
    """

    key: ClassVar[str]
    title: ClassVar[str]
    live: ClassVar[bool] = True

    def __init__(self, page: Page) -> None:
        self.page = page
        self.inputs: list[gr.components.Component] = []
        self.outputs: list[Any] = []

    @abstractmethod
    def build(self) -> None:
        """Make the components in the current layout context; fill `inputs` and `outputs`."""

    @abstractmethod
    def draw(self, moment: Moment) -> list[Any]:
        """New values for `outputs`."""

    def forget(self, page_id: str | None) -> None:  # noqa: B027 - most tabs hold nothing outside the session
        """A page was closed: drop what the tab holds for it."""

    def wire(self) -> None:  # noqa: B027 - a tab without events of its own has nothing to wire
        """Listen to the tab's own events, once every tab is built."""

    def remember(self, state: PageState, moment: Moment) -> PageState:
        """`state` with what a permalink should restore of this tab."""
        return state

    def restore(self, state: PageState) -> list[Any]:
        """Values for `inputs` that show what a permalink says."""
        return [gr.skip()] * len(self.inputs)

    def skip(self) -> list[Any]:
        """Leave `outputs` as they are."""
        return [gr.skip()] * len(self.outputs)


@dataclass
class Page:
    """The page under construction.

    `gathered` holds the values of the sidebar's forty controls as one list, which the browser collects when one of
    them moves and when `applied` changes (an event has set them). Where the list has changed the page draws,
    measures and settles, once for whatever changed it. It is also the one input that events have of the sidebar:
    the browser tells every input of an event, and every component that shows its progress, of each step on the
    event's way, and is slow at it. So quiet events show their progress nowhere, too.

    `rested` changes when an open tab that is costly to draw shall be drawn. `turn`, a text that nobody sees, names
    the tab that the browser shall open.
    """

    engine: Engine
    limits: Limits
    controls: Controls
    pulse: Pulse
    tab: gr.State
    session: gr.State
    applied: gr.State
    rested: gr.State
    gathered: gr.JSON
    readout: gr.HTML
    turn: gr.Textbox
    tabs: list[Tab] = field(default_factory=list)
    panels: dict[str, gr.Tab] = field(default_factory=dict)

    @property
    def inputs(self) -> list[Any]:
        """Every input of every event, in the order that `read` takes them."""
        return [
            self.tab,
            self.session,
            self.gathered,
            *(component for tab in self.tabs for component in tab.inputs),
        ]

    def gather(self, trigger: Any) -> Any:
        """On `trigger`, before what is attached to it later: collect what the sidebar holds into `gathered`."""
        return self.attach(trigger, None, self.controls.gathered, [self.gathered], js="(...values) => [values]")

    @staticmethod
    def turn_to(key: str) -> str:
        """The value of `turn` that opens the tab of that key."""
        return f"{key} {stamp()}"

    def named(self, key: str) -> Any:
        """The tab of that key."""
        return next(tab for tab in self.tabs if tab.key == key)

    def permalink(self, moment: Moment) -> str:
        """The query string that restores the page."""
        usual, _ = self.controls.comparison(FIRST_COMPARISON, moment.setting, moment.session)
        pinned = None if moment.pinned == usual else moment.pinned
        compared = moment.pinned is not None
        state = PageState(setting=moment.setting, pinned=pinned, tab=moment.tab, compared=compared)
        for tab in self.tabs:
            state = tab.remember(state, moment)
        return encode(state)

    @staticmethod
    def guard(handler: Callable[..., Any], outputs: Sequence[Any]) -> Callable[..., Any]:
        """`handler` with its errors shown as messages."""
        return guarded(handler, len(outputs))

    def read(
        self,
        values: Sequence[Any],
        page_id: str | None,
        event: gr.EventData,
        progress: gr.Progress,
        *,
        moves: bool = False,
    ) -> Moment:
        """The moment that `values` of `inputs` describe. Raises SettingError where a value is not legal.

        `moves` says that the event changes the setting: older work of the page is then cancelled.
        """
        number = self.pulse.beat(page_id) if moves else self.pulse.number(page_id)
        tab, session, gathered = values[:COMMON]
        compare, *controls = self.controls.held(gathered)
        rest = list(values[COMMON:])
        own: dict[str, tuple[Any, ...]] = {}
        for entry in self.tabs:
            own[entry.key], rest = tuple(rest[: len(entry.inputs)]), rest[len(entry.inputs) :]
        session = session if isinstance(session, Session) else Session()
        setting = self.controls.setting(controls)
        pinned, label = self.controls.comparison(compare, setting, session)

        def check() -> None:
            if self.pulse.number(page_id) != number:
                raise Cancelled("A newer change of the page makes this work useless.")

        return Moment(
            page_id=page_id,
            tab=tab,
            session=session,
            setting=setting,
            pinned=pinned,
            pinned_label=label,
            own=own,
            event=event,
            progress=progress,
            job=Job(check=check),
            workspace=self.engine.workspace(),
        )

    def listen(
        self,
        trigger: Any,
        handler: Handler,
        outputs: Sequence[Any],
        *,
        lane: Lane = "light",
        moves: bool = False,
        extra: Sequence[Any] = (),
        told: Callable[[NeuroMergeError], Any] | None = None,
        **options: Any,
    ) -> Any:
        """Call `handler(moment)` on `trigger` and put what it returns into `outputs`.

        `trigger` is an event method of a component (``slider.input``), the `then` of an earlier event, or a
        list of the former. `extra` are components beside `inputs`; their values follow the moment as further
        arguments. Errors become messages; with `told`, what it makes of an error goes into the outputs instead (None:
        nothing does). Nothing that runs here is listed in the public API.
        """
        count = len(outputs)

        def shaped(result: Any) -> Any:
            return result[0] if count == 1 and isinstance(result, (list, tuple)) else result

        def prepared(
            request: gr.Request, event: gr.EventData, progress: gr.Progress, values: Sequence[Any]
        ) -> tuple[Any, ...]:
            mine, others = values[: len(values) - len(extra)], values[len(values) - len(extra) :]
            return self.read(mine, request.session_hash, event, progress, moves=moves), *others

        bar = gr.Progress()
        if inspect.isgeneratorfunction(handler):

            def run(request: gr.Request, event: gr.EventData, progress: gr.Progress = bar, *values: Any) -> Any:
                for result in handler(*prepared(request, event, progress, values)):
                    yield shaped(result)

        else:

            def run(request: gr.Request, event: gr.EventData, progress: gr.Progress = bar, *values: Any) -> Any:
                return shaped(handler(*prepared(request, event, progress, values)))

        return self.attach(trigger, guarded(run, count, told), [*self.inputs, *extra], outputs, lane=lane, **options)

    def attach(
        self,
        trigger: Any,
        function: Callable[..., Any] | None,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        *,
        lane: Lane = "light",
        **options: Any,
    ) -> Any:
        """Register `function` on `trigger` in one of the lanes, hidden from the API."""
        limits = self.limits
        limit = {
            "light": limits.light_workers,
            "heavy": limits.heavy_workers,
            "settle": limits.settling_workers,
            "search": limits.searches,
            "idle": None,
        }[lane]
        settings: dict[str, Any] = {
            "show_progress": "hidden",
            "api_visibility": "private",
            "concurrency_limit": limit,
            "concurrency_id": lane,
            **options,
        }
        if settings["show_progress"] == "hidden":
            # Else the browser tells every output of the event of every step on its way, to show nothing.
            settings["show_progress_on"] = []
        if isinstance(trigger, list):
            return gr.on(trigger, function, list(inputs), list(outputs), **settings)
        return trigger(function, list(inputs), list(outputs), **settings)
