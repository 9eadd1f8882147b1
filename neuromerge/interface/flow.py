"""What follows when the page is opened, a control is moved or a tab is chosen.

Three things happen when a control moves. The *pictures* of the open tab are drawn, then *accuracy* is measured on
a small fixed part of the validation images, both for the newest position of the control. When the control has
rested for a moment, the whole validation split is measured, the setting becomes a step of the history, and a tab
that is costly to draw follows. `signals` shows it as a diagram.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import gradio as gr

from neuromerge.engine.downloads import Fetching
from neuromerge.errors import BeingFetched, NeuroMergeError
from neuromerge.exploration.results import AccuracyBoard
from neuromerge.interface.components.controls import (
    NO_COMPARISON,
    SHOW_RESOLVED,
    comparison_choices,
    pin_key,
    sigma_text,
    unusual_text,
)
from neuromerge.interface.components.fetching import MARK_FETCHING, NO_MERGE_YET, NO_SCORES_YET
from neuromerge.interface.components.readout import MARK_READOUT, empty_readout, readout
from neuromerge.interface.events import Events
from neuromerge.interface.guard import answered, silent, warn
from neuromerge.interface.moment import Changes, Chosen, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.permalinks import PageState, decode
from neuromerge.interface.session import Session
from neuromerge.interface.sidebar import FOLLOW_LINK, remembered
from neuromerge.interface.signals import FORGET_MOVE, NAME_MOVE, OPEN_TAB, TELL_OVERTAKEN, stamp
from neuromerge.interface.tab import Tab
from neuromerge.progress import UNATTENDED

REST_SECONDS = 0.6
"""How long a control must be still before the whole split is measured."""

GLANCE_SECONDS = 0.15
"""How long a score of some quick pictures stands before the rest is looked at."""

# Gradio calls the reset button of every slider alike, and names no group. On a phone the controls are a sheet over the
# lower half of the screen: it starts closed, so that the page is seen.
SET_UP = """
() => {
  for (const button of document.querySelectorAll('.reset-button')) {
    const slider = button.closest('.block')?.querySelector('input[type=range]');
    const label = slider?.getAttribute('aria-label')?.replace('range slider for ', '');
    if (label) { button.setAttribute('aria-label', `Reset ${label}`); }
  }
  for (const title of document.querySelectorAll('.nm-group h2')) {
    const group = title.closest('.nm-group');
    group.setAttribute('role', 'group');
    group.setAttribute('aria-label', title.textContent);
  }
  if (matchMedia('(max-width: 768px)').matches) {
    const close = () => {
      const button = document.querySelector('.sidebar.open .toggle-button');
      if (button) { button.click(); }
    };
    setTimeout(close, 0);
  }
}
"""


class Flow:
    """The events that draw and measure."""

    def __init__(self, page: Page) -> None:
        self.page = page
        controls = page.controls
        scored = [output for tab in page.tabs if tab.scored for output in tab.outputs]
        self.scores = [page.readout, controls.sigma, page.signals.resolved, *scored]
        self.pictures = [output for tab in page.tabs if tab.live and not tab.scored for output in tab.outputs]
        self.remembered = [page.signals.session, controls.undo, controls.redo]

    # ------------------------------------------------------------------------------------------- connecting
    def wire(self, events: Events, demo: gr.Blocks) -> Any:
        """Attach the handlers, and return the event that opens the page.

        What moved controls do comes first, because of several listeners the first comes first.

        One event draws and measures: another request between the two costs a tenth of a second, and two handlers of
        one event may not wait side by side (Gradio repeats the whole event for each that had to wait, so they would
        call each other without end). The browser holds only the newest position of the control while it runs. Why
        a merge cannot be made stands where its score would be, once; the pictures just stay.
        """
        page, signals, automatic = self.page, self.page.signals, self.page.controls.automatic
        events.in_browser(page.readout.change, [page.readout], [], MARK_READOUT)
        events.in_browser(page.fetch.panel.change, [page.fetch.panel], [], MARK_FETCHING)
        events.in_browser(signals.sidebar.change, [signals.overtaken], [signals.overtaken], TELL_OVERTAKEN)
        followed = [*self.pictures, *self.scores, *page.fetch.outputs]
        moved, arrived = (
            events.listen(
                trigger,
                self.follow,
                followed,
                extra=[signals.move],
                moves=True,
                told=self.why,
                trigger_mode="always_last",
                js=NAME_MOVE,
            )
            for trigger in (signals.sidebar.change, signals.arrived.change)
        )
        for event in (moved, arrived):
            events.in_browser(event.then, [], [], FORGET_MOVE)
            self._then_rest(events, event)
        events.attach(signals.overtaken.change, self.overtake, [signals.overtaken], [], queue=False)
        autos, sliders = [control.auto for control in automatic], [control.widget for control in automatic]
        events.in_browser(signals.resolved.change, [signals.resolved, *autos], sliders, SHOW_RESOLVED)
        costly = [output for tab in page.tabs if not tab.live for output in tab.outputs]
        events.listen(
            signals.redraw_due.change, self.draw, costly, lane="heavy", told=silent, trigger_mode="always_last"
        )
        events.gather_choices([event for menu in page.menus for event in (menu.input, menu.change)])
        for tab in page.tabs:
            events.gather(page.panels[tab.key].select)  # what opened it may just have set the controls, too
            events.gather_choices(page.panels[tab.key].select)
            chosen = events.listen(
                page.panels[tab.key].select,
                partial(self.open_tab, tab),
                [signals.tab, *(self.scores if tab.scored else tab.outputs)],
                lane="light" if tab.live else "heavy",
                lasting=True,  # A move that comes meanwhile still takes the tab before for the open one.
            )
            if tab.filled:
                self._then_fill(events, chosen)
        opened = [
            *page.settable,
            *self.remembered,
            page.controls.compare,
            signals.tab_to_open,
            signals.tab,
            *(component for tab in page.tabs for component in tab.restored),
            *self.scores,
            *page.fetch.outputs,
        ]
        load = events.attach(demo.load, self.open_page, [], opened, js=SET_UP)
        self._then_rest(events, load)
        events.in_browser(signals.tab_to_open.change, [signals.tab_to_open], [], OPEN_TAB)
        events.in_browser(signals.followed.change, [signals.followed], [], FOLLOW_LINK)
        demo.unload(self.close_page)
        return load

    def _then_rest(self, events: Events, event: Any) -> None:
        """After a quick measurement: wait until the controls rest, then measure everything."""
        rest = events.attach(event.then, rest_a_while, [], [], lane="idle", trigger_mode="multiple")
        rested = events.listen(
            rest.then,
            self.come_to_rest,
            [*self.remembered, *self.scores, self.page.signals.redraw_due, self.page.signals.followed],
            lane="settle",
            told=silent,
            trigger_mode="multiple",
        )
        self._then_fill(events, rested)

    def _then_fill(self, events: Events, event: Any) -> None:
        """After the open tab was drawn at rest: what of it takes long."""
        filled = [output for tab in self.page.tabs for output in tab.filled]
        events.listen(event.then, self.fill_in, filled, lane="fill", told=silent, trigger_mode="multiple")

    # ------------------------------------------------------------------------------------------- a moved control
    def follow(self, moment: Moment) -> Iterator[Changes]:
        """Draw the open tab, which costs least; then measure, even where the tab cannot be drawn.

        What of the tab can wait is drawn between the first score and the others.
        """
        self.page.pulse.name(moment.page_id, moment.value(self.page.signals.move))
        fetching = self.fetch(moment)
        if fetching is not None:
            # At once and no more: the clock shows what comes after, while classifiers are waited for.
            shown = self.page.fetch.shown(self.page, fetching, moment.setting.family)
            yield shown if fetching.has_weights else {**shown, self.page.readout: NO_MERGE_YET}
            if not fetching.has_weights:
                return
        tab, failures = self.page.opened(moment), []
        drawing = tab.draw_by_urgency(moment) if tab.live and not tab.scored else iter(())

        def drawn(most: int | None = None) -> Iterator[Changes]:
            try:
                yield from islice(drawing, most)
            except NeuroMergeError as error:
                failures.append(error)  # told only where there is a score: else its own reason says enough

        for changes in drawn(1):
            yield changes if fetching is None else {**changes, self.page.readout: NO_SCORES_YET}
        try:
            for scores in self.measure(moment):
                yield scores
                yield from drawn()
        except BeingFetched:
            yield {self.page.readout: NO_SCORES_YET}
            yield from drawn()
        yield from map(answered, failures)

    def fetch(self, moment: Moment) -> Fetching | None:
        """How far that is which the moment's setting needs of the Hub; what is missing begins to come."""
        return self.page.fetch.want(self.page, moment.explorer(), moment.setting, moment.page_id)

    def overtake(self, move: float | None, request: gr.Request) -> None:
        """The controls hold something newer than the move of that name: whatever still follows it stops."""
        self.page.pulse.overtake(request.session_hash, move)

    def measure(self, moment: Moment) -> Iterator[Changes]:
        """Accuracy on the quick split, and what Auto came to.

        A first look at some of the pictures is in the strip alone: the same figures twice a move would keep the next
        waiting. Of a large family, task after task; then the merge's alone where base and experts are not known: those
        follow while the page rests.
        """
        for board in moment.growing_board("quick", self.page.pulse.last_answer(moment.page_id)):
            if not board.is_glance:
                break
            if "merge" in board.awaited:
                yield self.show_scores(moment, board)
                continue
            yield self._strip(moment, board)
            self._let_paint(moment)
        changes = self.show_scores(moment, board, self._wait())
        moment.job.check()  # what was known already was looked up without asking
        self.page.pulse.answered(moment.page_id, moment.setting)
        yield changes

    def _let_paint(self, moment: Moment) -> None:
        """A moment without work after a glance: the browser paints it, and a slider that moves on is not held up."""
        end = time.monotonic() + GLANCE_SECONDS
        while time.monotonic() < end and not self.page.queued("light"):
            moment.job.check()
            time.sleep(GLANCE_SECONDS / 20)

    def _wait(self) -> str:
        """Why the whole split will not follow at once; empty where it will."""
        ahead = self.page.queued("settle")
        return f"{ahead} whole split{'s wait' if ahead > 1 else ' waits'} before yours" if ahead else ""

    def show_scores(self, moment: Moment, board: AccuracyBoard, wait: str = "") -> Changes:
        """A board in the readout and in the open tab, and what Auto came to beside its sliders.

        `wait` says why no better numbers will follow soon.
        """
        return {**self._strip(moment, board, wait), **self.page.opened(moment).draw_scores(moment, board)}

    def _strip(self, moment: Moment, board: AccuracyBoard, wait: str = "") -> Changes:
        summary, controls = moment.workspace.summary(), self.page.controls
        return {
            self.page.readout: readout(moment.setting, board, summary, wait),
            controls.sigma: sigma_text(moment.setting, summary) + unusual_text(moment.setting),
            self.page.signals.resolved: {"shown": controls.resolved(moment.setting, summary), "stamp": stamp()},
        }

    def why(self, error: NeuroMergeError) -> Changes:
        """The reason why there is no score, in its place."""
        return {self.page.readout: empty_readout(str(error))}

    def come_to_rest(self, moment: Moment) -> Iterator[Changes]:
        """The whole validation split, a step of the history, and the open tab where it was waiting.

        Of a large family, scores on ever more of the split are shown until it is whole.
        """
        if not self.page.pulse.settle(moment.page_id, REST_SECONDS * 0.9):
            return
        if self.page.queued("settle") >= self.page.limits.settle_queue:
            busy = "many visitors wait, so it stays at these; another move asks again"
            yield {
                **self.show_scores(moment, moment.board("quick"), busy),
                **remembered(self.page, moment.session.visit(moment.setting)),
            }
            return
        begun = time.monotonic()
        for board in moment.growing_board():
            if board.is_growing:
                yield self.show_scores(moment, board)
        seconds = time.monotonic() - begun
        changes = self.show_scores(moment, board)
        by_task = {task: score.value for task, score in board.merge.items() if task in board.merged}
        session = moment.session.visit(moment.setting).score(moment.setting, by_task, seconds, board.looked_at)
        if not self.page.opened(moment).live:
            changes[self.page.signals.redraw_due] = stamp()
        changes[self.page.signals.followed] = self.page.permalink(moment)
        yield {**changes, **remembered(self.page, session)}

    def fill_in(self, moment: Moment) -> Iterator[Changes]:
        """What of the open tab can wait until the page rests; put off where many others wait for such things."""
        if not self.page.pulse.is_settled(moment.page_id):
            return
        tab, page = self.page.opened(moment), self.page
        filling = tab.fill_in(moment)
        while page.queued("fill") < page.limits.fill_queue:
            changes = next(filling, None)
            if changes is None:
                return
            yield changes
        yield tab.put_off(moment)

    def draw(self, moment: Moment) -> Changes:
        """The open tab."""
        return self.page.opened(moment).draw(moment)

    # ------------------------------------------------------------------------------------------- a chosen tab
    def open_tab(self, tab: Tab[Any], moment: Moment) -> Changes:
        """Remember and draw a tab that was chosen: it is the open one even where it cannot be drawn.

        A fresh page chooses its first tab by itself; what opens the page draws that one, and maybe another merge.
        """
        if tab is self.page.tabs[0] and moment.tab == tab.key and moment.session.history is None:
            return {}
        moment = replace(moment, tab=tab.key)
        try:
            changes = self._whole(tab, moment)
        except Exception as error:  # noqa: BLE001 - told as every other
            changes = answered(error)
        return {**changes, self.page.signals.tab: tab.key}

    def _whole(self, tab: Tab[Any], moment: Moment) -> Changes:
        if not tab.scored:
            return tab.draw(moment)
        settled = self.page.pulse.is_settled(moment.page_id)
        boards = moment.growing_board("validation" if settled else "quick")
        return self.show_scores(
            moment, next(boards) if settled else next(board for board in boards if not board.is_glance)
        )

    # ------------------------------------------------------------------------------------------- a fresh page
    def open_page(self, request: gr.Request, event: gr.EventData) -> Changes:
        """What the page's address asks for, merged and measured."""
        page = self.page
        page.pulse.beat(request.session_hash)
        families = page.controls.families
        state, messages = decode(dict(request.query_params), families, page.states, next(iter(families)))
        for message in messages:
            warn(message, title="The link")
        changes, chosen, session = self._restored(state)
        tab = state.tab or page.tabs[0].key
        changes[page.signals.tab] = tab
        if tab != page.tabs[0].key:
            changes |= page.open_tab(tab)
        if request.query_params:
            changes[page.signals.controls_set] = stamp()
        moment = Moment(
            page_id=request.session_hash,
            tab=tab,
            session=session,
            states=state.states,
            values={},
            event=event,
            job=UNATTENDED,
            choose=lambda: chosen,
            explorer=page.loader.workspace,
        )
        try:
            fetching = self.fetch(moment)
            if fetching is not None:
                changes |= page.fetch.shown(page, fetching, chosen.setting.family)
                if not fetching.has_weights:
                    return {**changes, page.readout: NO_MERGE_YET}
            measured = next(self.measure(moment))
            page.pulse.answered(moment.page_id, moment.setting)  # what of a large family is to come follows at rest
            return {**changes, **measured}
        except BeingFetched:
            return {**changes, page.readout: NO_SCORES_YET}
        except Exception as error:  # noqa: BLE001 - the page itself stays usable, and the reason stays on it
            return {**changes, **answered(error, self.why)}

    def _restored(self, state: PageState) -> tuple[Changes, Chosen, Session]:
        """The components as a permalink wants them, and the moment's setting and memory that go with them."""
        page, controls = self.page, self.page.controls
        session, compare = Session(), controls.compare.value
        changes: Changes = controls.updates(state.setting)
        if not state.compared:
            compare = NO_COMPARISON
            changes[controls.compare] = gr.update(value=compare)
        elif state.pinned is not None:
            if state.pinned == controls.comparison(state.pinned.method, state.setting, session)[0]:
                compare = state.pinned.method
            else:
                session, compare = session.pin(state.pinned), pin_key(state.pinned)
            changes[controls.compare] = gr.update(choices=comparison_choices(session), value=compare)
        changes |= remembered(page, session)
        for tab in page.tabs:
            changes |= tab.restore(state.states[tab.key])
        return changes, Chosen(state.setting, *controls.comparison(compare, state.setting, session)), session

    def close_page(self, request: gr.Request) -> None:
        """Forget a page that was closed."""
        self.page.pulse.forget(request.session_hash)
        for tab in self.page.tabs:
            tab.forget(request.session_hash)


async def rest_a_while() -> None:
    """Wait, without a thread, until the controls may have come to rest."""
    await asyncio.sleep(REST_SECONDS)
