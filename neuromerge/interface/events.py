"""One way to listen to events: every handler takes a `Moment` and answers with changes by component."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import gradio as gr

from neuromerge.errors import Cancelled
from neuromerge.interface.blocks import owner_of
from neuromerge.interface.guard import Told, answered, warned
from neuromerge.interface.memory import give_back
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.progress import Job, Urgency

Lane = Literal["light", "heavy", "settle", "fill", "search", "idle"]
"""Which queue an event waits in: moved controls; galleries and exports; whole splits; what is filled in while a page
rests; searches; nothing but waiting.

The lanes bound how many may be under way, and say how urgent they are. The engine gives the processor to one small
step at a time, so that nobody's whole split keeps another's slider waiting.
"""
URGENCY: Mapping[Lane, Urgency] = {
    "light": Urgency.NOW,
    "heavy": Urgency.SOON,
    "settle": Urgency.SOON,
    "fill": Urgency.WHENEVER,
    "search": Urgency.WHENEVER,
    "idle": Urgency.WHENEVER,
}

_LEAVE_MUCH: frozenset[Lane] = frozenset({"heavy", "settle", "fill", "search"})
"""Lanes whose work leaves free pages of memory behind."""

Handler = Callable[[Moment], Changes | Iterator[Changes] | None]
"""What an event does: returns changes, or yields them one after another. None changes nothing."""


class Events:
    """Binds handlers to events of the page. Nothing that runs here is listed in the public API."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def listen(
        self,
        trigger: Any,
        handler: Handler,
        outputs: Sequence[Any],
        *,
        lane: Lane = "light",
        moves: bool = False,
        lasting: bool = False,
        deadline_seconds: float | None = None,
        extra: Sequence[Any] = (),
        told: Told = warned,
        **options: Any,
    ) -> Any:
        """Call `handler(moment)` on `trigger`; what it answers may change `outputs`.

        Setting, cancellation and progress are bound here, once for each event: the handler finds them in its moment.

        Args:
            trigger: an event method of a component (``slider.input``), the `then` of an earlier event, or a list of
                the former.
            handler: see `Handler`.
            outputs: the components that may change, in any order.
            lane: see `Lane`.
            moves: the event changes the setting; older work of the page is then useless.
            lasting: the work is wanted even when the setting changes meanwhile; else it stops. Where the page is
                closed, both stop.
            deadline_seconds: time after which the work stops in any case.
            extra: components whose values the handler needs beside those of `Page.inputs`.
            told: where an error for people is shown.
            options: for Gradio, such as `show_progress`.
        """
        inputs = [*self.page.inputs, *(component for component in extra if component not in self.page.inputs)]
        outputs = list(outputs)
        shown = options.get("show_progress", "hidden") != "hidden"

        def moment(request: gr.Request, event: gr.EventData, progress: gr.Progress, values: Sequence[Any]) -> Moment:
            page_id = request.session_hash
            job = Job(
                (lambda done, total, what: progress((done, total), desc=what)) if shown else None,
                deadline_seconds=deadline_seconds,
                check=self._overtaken(page_id, moves=moves, lasting=lasting),
                urgency=URGENCY[lane],
                owner=owner_of(request),
            )
            return self.page.moment(dict(zip(inputs, values, strict=True)), page_id, event, job)

        def answer(changes: Changes | None) -> Any:
            """As Gradio takes it: it knows no empty answer but this one."""
            if not outputs:
                return None
            return changes or gr.skip()

        def leave() -> None:
            if lane in _LEAVE_MUCH:
                give_back()

        bar = gr.Progress()
        if inspect.isgeneratorfunction(handler):

            def run(request: gr.Request, event: gr.EventData, progress: gr.Progress = bar, *values: Any) -> Any:
                silent = True
                try:
                    for changes in cast("Iterator[Changes]", handler(moment(request, event, progress, values))):
                        silent = False
                        yield answer(changes)
                    if silent:
                        yield answer(None)  # Gradio empties the outputs of a generator that never answers
                except Exception as error:  # noqa: BLE001 - the last wall before the page
                    yield answer(answered(error, told))
                finally:
                    leave()

        else:

            def run(request: gr.Request, event: gr.EventData, progress: gr.Progress = bar, *values: Any) -> Any:
                try:
                    return answer(cast("Changes | None", handler(moment(request, event, progress, values))))
                except Exception as error:  # noqa: BLE001 - the last wall before the page
                    return answer(answered(error, told))
                finally:
                    leave()

        return self.attach(trigger, run, inputs, outputs, lane=lane, **options)

    def _overtaken(self, page_id: str | None, *, moves: bool, lasting: bool) -> Callable[[], None]:
        """What a job asks in order to know whether its work is still wanted."""
        pulse = self.page.pulse
        number = pulse.beat(page_id) if moves else pulse.number(page_id)

        presence = self.page.presence

        def check() -> None:
            if not presence.is_there(page_id):
                raise Cancelled("The page was closed.")
            if not lasting and pulse.number(page_id) != number:
                raise Cancelled("A newer change of the page makes this work useless.")

        return check

    def gather(self, trigger: Any, part: Sequence[Any] | None = None) -> Any:
        """On `trigger`, before what is attached to it later: collect what the sidebar's controls hold.

        `part` names those that may have changed, where that is known: reading all of them takes the browser as long as
        the server takes to draw.
        """
        sidebar, gathered = self.page.signals.sidebar, self.page.controls.gathered
        if part is None:
            return self.in_browser(trigger, gathered, [sidebar], GATHER)
        script = GATHER_PART % [gathered.index(component) for component in part]
        return self.in_browser(trigger, [sidebar, *part], [sidebar], script)

    def gather_choices(self, trigger: Any) -> Any:
        """The same for the menus of the tabs."""
        return self.in_browser(trigger, self.page.menus, [self.page.signals.choices], GATHER)

    def in_browser(self, trigger: Any, inputs: Sequence[Any], outputs: Sequence[Any], script: str) -> Any:
        """Run JavaScript on `trigger`, without asking the server."""
        return self.attach(trigger, None, inputs, outputs, js=script)

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
        """Register a function of Gradio's own kind in one of the lanes. For what no `Moment` can be read for."""
        limits = self.page.limits
        limit = {
            "light": limits.light_workers,
            "heavy": limits.heavy_workers,
            "settle": limits.settling_workers,
            "fill": limits.settling_workers,
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


GATHER = "(...values) => [values]"
"""The values of an event's inputs as one list."""

GATHER_PART = """
(held, ...values) => {
  const places = %s, now = [...held];
  places.forEach((place, i) => { now[place] = values[i]; });
  return [now];
}
"""
"""The same for some places of a list that was gathered before."""
