"""The guided tour: a panel beside the page whose steps set the controls, and give them back at the end.

What the panel is doing travels to the browser as one value, `where`: ``static/tour.js`` opens the panel, brings the
figure that the step talks about into view, frames the control to move, and writes the step into the address. ::

    closed ── Guided tour ──> ask, where the visitor has a setting of his own ── Start ──> open, at a step
                      └──────────── else ─────────────────────────────────────────────────^      │
    closed <── Leave the tour: the setting from before comes back ───────────────────────────────┘
"""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import gradio as gr

from neuromerge.errors import NeuroMergeError, SettingError
from neuromerge.interface.components.text import LATEX, point_at
from neuromerge.interface.events import Events
from neuromerge.interface.guard import warn
from neuromerge.interface.lesson import drawings
from neuromerge.interface.lesson.quiz import questions, quiz
from neuromerge.interface.lesson.stops import STOPS, Stop
from neuromerge.interface.moment import Changes, Chosen, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.signals import stamp
from neuromerge.interface.tab import Tab
from neuromerge.settings.choices import opening_setting
from neuromerge.settings.setting import Setting

Mode = Literal["closed", "ask", "open"]

SHOW = "(where) => { window.NeuroMergeTour?.show(where); }"
ASKED = "() => Number(new URLSearchParams(location.search).get('step')) || 0"
CONTESTED = "cancellation"
"""The measure by which the tour calls a layer contested."""


@dataclass(frozen=True)
class Held:
    """What the server remembers of a page's tour: the step it is at, and the setting to give back."""

    place: int = 0
    before: Setting | None = None


class Tour:
    """The panel, closed until it is wanted."""

    def __init__(self, page: Page, button: gr.Button) -> None:
        self.page = page
        self.button = button

    # ------------------------------------------------------------------------------------------- its parts
    def build(self) -> None:
        """Make the panel. It is the browser that shows it (see `where`)."""
        titles = [(f"{place + 1}. {stop.title}", place) for place, stop in enumerate(STOPS)]
        self.held = gr.State(Held(), time_to_live=self.page.limits.session_seconds)
        self.where = gr.JSON(visible=False)
        self.asked = gr.Number(0, visible=False)
        with gr.Column(elem_id="tour", elem_classes="nm-tour"):
            with gr.Row(elem_classes="nm-tour-head"):
                gr.HTML("<h2>Guided tour</h2>")
                gr.HTML("<button type='button' class='nm-fold' aria-expanded='true'>Fold</button>", elem_id="tour-fold")
                self.leave = gr.Button("Leave", size="sm", min_width=0, scale=0, elem_id="tour-leave")
            with gr.Column(elem_id="tour-ask"):
                gr.HTML(
                    "<p>The tour sets the controls itself. Your setting is kept, and comes back when you leave.</p>"
                )
                with gr.Row(elem_classes="nm-buttons"):
                    self.start = gr.Button("Start", size="sm", variant="primary", min_width=0, elem_id="tour-start")
                    self.later = gr.Button("Not now", size="sm", min_width=0, elem_id="tour-later")
            with gr.Column(elem_id="tour-step"):
                self.steps = gr.Dropdown(titles, value=0, label="Step of the tour", elem_id="tour-steps")
                self.text = gr.Markdown(latex_delimiters=LATEX, elem_id="tour-text", elem_classes="nm-tour-text")
                self.drawing = gr.HTML("", elem_id="tour-drawing")
                self.attempt = gr.HTML("", elem_id="tour-attempt")
                with gr.Row(elem_classes="nm-buttons nm-tour-ways"):
                    self.back = gr.Button("← Back", size="sm", min_width=0, elem_id="tour-back")
                    self.following = gr.Button("Next →", size="sm", variant="primary", min_width=0, elem_id="tour-next")

    def wire(self, events: Events, opened: Any) -> None:
        """Listen to the panel. `opened` is the event that has opened the page: a link may ask for a step after it."""
        page = self.page
        shown = {stop.tab for stop in STOPS if stop.shows}
        tabs = [part for tab in page.tabs if tab.key in shown for part in (*tab.outputs, *tab.restored)]
        own = [self.held, self.where, self.steps, self.text, self.drawing, self.attempt, self.back, self.following]
        outputs = list(dict.fromkeys([*own, page.signals.tab_to_open, page.signals.tab, *page.settable, *tabs]))
        extra = [self.held, self.steps, self.asked]
        listen = partial(events.listen, outputs=outputs, extra=extra, lasting=True)
        listen(self.button.click, self.open)
        listen(self.start.click, self.begin)
        listen(self.steps.input, self.choose)
        listen(self.back.click, partial(self.step, -1))
        listen(self.following.click, partial(self.step, 1))
        listen(self.asked.change, self.follow_link)
        for trigger in (self.leave.click, self.later.click):
            listen(trigger, self.close)
        events.in_browser(self.where.change, [self.where], [], SHOW)
        events.in_browser(opened.then, [], [self.asked], ASKED)

    # ------------------------------------------------------------------------------------------- what it does
    def open(self, moment: Moment) -> Changes:
        """Go on where the tour was left; ask first, where that would replace a setting of the visitor's own."""
        present = present_setting(moment)
        family = self.page.controls.family_called(present.family) if present else None
        if present and family and present != opening_setting(family):
            return {self.where: self._where("ask", self._place(moment))}
        return self.begin(moment)

    def begin(self, moment: Moment) -> Changes:
        """Keep the visitor's setting, and show the step."""
        return self._go(moment, self._place(moment), present_setting(moment))

    def follow_link(self, moment: Moment) -> Changes:
        """The step that a link names, counted from 1."""
        number = moment.value(self.asked)
        if not number:
            return {}
        if not isinstance(number, (int, float)) or number % 1 or not 1 <= number <= len(STOPS):
            raise SettingError(f"The link's step can be 1 to {len(STOPS)}.")
        return self._go(moment, int(number) - 1, present_setting(moment))

    def choose(self, moment: Moment) -> Changes:
        """The step that was chosen from the menu."""
        place = moment.value(self.steps)
        if not isinstance(place, int) or not 0 <= place < len(STOPS):
            raise SettingError(f"The tour has the steps 1 to {len(STOPS)}.")
        return self._go(moment, place, self._before(moment))

    def step(self, by: int, moment: Moment) -> Changes:
        """A step on or back."""
        place = min(max(self._place(moment) + by, 0), len(STOPS) - 1)
        return self._go(moment, place, self._before(moment))

    def close(self, moment: Moment) -> Changes:
        """Close the panel, and give back the setting from before, where the tour replaced it."""
        before = self._before(moment)
        given_back = self.page.set_controls(before) if before is not None else {}
        place = self._place(moment)
        return {**given_back, self.held: Held(place), self.where: self._where("closed", place)}

    # ------------------------------------------------------------------------------------------- a step
    def _go(self, moment: Moment, place: int, before: Setting | None) -> Changes:
        """Set the page for a step, whatever else it shows."""
        stop = STOPS[place]
        setting = self._setting(moment, stop)
        shown = replace(moment, tab=stop.tab, choose=lambda: Chosen(setting))
        changes = {**self.page.set_controls(setting), **self.page.open_tab(stop.tab)}
        try:
            changes |= self._tab(shown, stop)
            drawing = self._drawing(shown, stop)
        except NeuroMergeError as error:
            warn(str(error))
            drawing = ""
        return {
            **changes,
            self.page.signals.tab: stop.tab,
            self.held: Held(place, before),
            self.where: self._where("open", place),
            self.steps: place,
            self.text: stop.text,
            self.drawing: drawing,
            self.attempt: attempt_html(stop),
            self.back: gr.update(interactive=place > 0),
            self.following: gr.update(interactive=place + 1 < len(STOPS), value=next_title(place)),
        }

    def _setting(self, moment: Moment, stop: Stop) -> Setting:
        """The step's merge of the ticked experts; the quiz is about the merge on screen."""
        present = present_setting(moment)
        if stop.drawing == "quiz" and present is not None:
            return present
        held = self.page.controls.read(moment.value(self.page.signals.sidebar))
        family = self.page.controls.family_called(held[self.page.controls.family])
        ticked = [task for task in held[self.page.controls.tasks] or () if task in family.experts]
        return stop.setting(family, ticked or list(family.default_tasks or family.experts))

    def _tab(self, moment: Moment, stop: Stop) -> Changes:
        """What the step sets in its tab, drawn: the tab may be open already."""
        if not stop.shows:
            return {}
        tab: Tab[Any] = next(tab for tab in self.page.tabs if tab.key == stop.tab)
        state = replace(tab.shown(moment), **stop.shows)
        shown = tab.draw(moment.showing(tab.key, state))
        return {**tab.restore(state), **shown}

    def _drawing(self, moment: Moment, stop: Stop) -> str:
        """What the panel itself draws."""
        if stop.drawing == "angles":
            return drawings.angles()
        if stop.drawing == "contested":
            return drawings.contested(moment.workspace.heatmap(CONTESTED), len(moment.setting.tasks))
        if stop.drawing == "quiz":
            ask = moment.workspace
            titles = self.page.controls.titles(moment.setting)
            board, heatmap = ask.board("quick"), ask.heatmap(CONTESTED)
            return quiz(questions(moment.setting, ask.summary(), board, heatmap, titles))
        return ""

    def _where(self, mode: Mode, place: int) -> dict[str, Any]:
        """What the browser is told."""
        stop = STOPS[place]
        return {"mode": mode, "step": place + 1, "figure": stop.figure, "control": stop.control, "stamp": stamp()}

    def _held(self, moment: Moment) -> Held:
        held = moment.value(self.held)
        return held if isinstance(held, Held) else Held()

    def _place(self, moment: Moment) -> int:
        return min(self._held(moment).place, len(STOPS) - 1)

    def _before(self, moment: Moment) -> Setting | None:
        return self._held(moment).before


def present_setting(moment: Moment) -> Setting | None:
    """What the sidebar describes; None where it describes no merge just now."""
    try:
        return moment.setting
    except SettingError:
        return None


def attempt_html(stop: Stop) -> str:
    """HTML of what to try, with a button that leads to the control."""
    if not stop.attempt:
        return ""
    way = point_at(stop.control, "Show me the control")
    return f"<p class='nm-todo'><b>Try it.</b> {html.escape(stop.attempt)} {way}</p>"


def next_title(place: int) -> str:
    """What the button says that leads on."""
    return f"Next: {STOPS[place + 1].title} →" if place + 1 < len(STOPS) else "The end"
