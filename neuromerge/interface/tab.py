"""What a tab is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import gradio as gr

from neuromerge.exploration.results import AccuracyBoard
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.state import TabState, check_defaults

if TYPE_CHECKING:
    from neuromerge.interface.events import Events
    from neuromerge.interface.page import Page

S = TypeVar("S", bound=TabState)


class Tab(ABC, Generic[S]):
    """One tab: builds its components, draws itself for a moment, and listens to its own events.

    Class attributes:
        key: in permalinks and element ids.
        title: on the page.
        state: what the tab shows, as a dataclass; permalinks read its fields.
        live: whether it is redrawn while a control moves; else, being costly to draw, when the control rests.
        scored: whether it is drawn from the accuracies that every moved control asks for anyway.

    Attributes that `build` sets:
        holders: for fields of the state that a visible component holds: that component. The rest is held by the server.
        outputs: components that `draw` and `draw_scores` may change. (The server's part of the state is added.)
        filled: those that `fill_in` may change.
        folded: containers that are shown or hidden with the state, by `restore` and by events that change it: not at
            every drawing, since the browser then goes through all that is in them.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    state: ClassVar[type[TabState]] = TabState
    live: ClassVar[bool] = True
    scored: ClassVar[bool] = False

    def __init__(self, page: Page) -> None:
        self.page = page
        self.holders: dict[str, Any] = {}
        self.outputs: list[Any] = []
        self.filled: list[Any] = []
        self.folded: list[Any] = []
        self.held: gr.State | None = None

    # ------------------------------------------------------------------------------------- what a tab is made of
    @abstractmethod
    def build(self) -> None:
        """Make the components in the current layout context; fill `holders` and `outputs`."""

    def draw(self, moment: Moment) -> Changes:
        """What `moment` looks like in this tab."""
        return {}

    def draw_by_urgency(self, moment: Moment) -> Iterator[Changes]:
        """`draw` while a control moves, in parts: first what one looks at, then, when there is a score, the rest."""
        yield self.draw(moment)

    def draw_scores(self, moment: Moment, board: AccuracyBoard) -> Changes:
        """The same for a tab that is `scored`."""
        return {}

    def fill_in(self, moment: Moment) -> Iterator[Changes]:
        """What takes long and can wait: asked for while the open tab rests, and stopped by the next move."""
        yield from ()

    def put_off(self, moment: Moment) -> Changes:
        """Says that `fill_in` stopped before its end, because many others wait."""
        return {}

    def wire(self, events: Events) -> None:
        """Listen to the tab's own events; every tab is built by then."""

    def forget(self, page_id: str | None) -> None:
        """A page was closed: drop what the tab holds for it."""

    # ------------------------------------------------------------------------------------- its state
    def place(self) -> None:
        """Build the tab, and what holds its state."""
        check_defaults(self.state)
        self.build()
        unheld = [entry.name for entry in fields(self.state) if entry.name not in self.holders]
        if unheld:
            self.held = gr.State(self.state(), time_to_live=self.page.limits.session_seconds)
            self.outputs = [self.held, *self.outputs]

    @property
    def inputs(self) -> list[Any]:
        """The components that hold the tab's state."""
        return [*([] if self.held is None else [self.held]), *self.holders.values()]

    @property
    def restored(self) -> list[Any]:
        """The components that `restore` may change."""
        return [*self.inputs, *self.folded]

    def fold(self, state: S) -> Changes:
        """Which of `folded` a state shows."""
        return {}

    def read(self, values: Any) -> TabState:
        """The state that the components hold, whose `values` are given by component."""
        held = values[self.held] if self.held is not None else None
        state = held if isinstance(held, self.state) else self.state()
        return replace(state, **{name: values[component] for name, component in self.holders.items()})

    def shown(self, moment: Moment) -> S:
        """What the tab shows at a moment."""
        return cast(S, moment.states[self.key])

    def hold(self, state: S) -> Changes:
        """Remember `state`, as far as the server holds it."""
        return {} if self.held is None else {self.held: state}

    def restore(self, state: TabState) -> Changes:
        """Show a state that differs from a fresh page's: what it says goes into the components that hold it."""
        fresh = self.state()
        changes: Changes = {} if self.held is None else {self.held: state}
        for name, component in self.holders.items():
            if getattr(state, name) != getattr(fresh, name):
                changes[component] = gr.update(value=getattr(state, name))
        return {**changes, **self.fold(cast(S, state))}
