"""The effect map under the map of interference: measured on demand, and acted on.

It belongs to the setting that it was measured for, and stays on the page until it is measured again.
"""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from neuromerge.errors import Cancelled, SettingError
from neuromerge.exploration.results import CHANGES, EffectMap
from neuromerge.figures.effects import CHANGED, agreement, describe, effect_heatmap
from neuromerge.figures.figure import message
from neuromerge.interface.components.strength import StrengthPanel
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.plotly_view import PlotlyView, read_pick
from neuromerge.merging import registry
from neuromerge.progress import Job
from neuromerge.settings.choices import describe as described
from neuromerge.settings.shapes import scaled, with_factor

MEASURE_SECONDS = 1800
NOTHING = "Press Measure: every layer, then every matrix of every layer is left at the base, halved and doubled."
ALL_TASKS = ""
_PICTURE_SECONDS = 0.6


@dataclass(frozen=True)
class Shown:
    """The map on the page, and the merge that it was measured for."""

    found: EffectMap
    merge: str


class EffectsView:
    """The components and events. `open_cell(moment, layer, matrix)` shows a chosen cell in the tab."""

    def __init__(self, page: Page, strength: StrengthPanel) -> None:
        self.page = page
        self._strength = strength
        self._running: dict[str, Job] = {}

    def build(self) -> None:
        """Make the components in the current layout context."""
        with gr.Accordion("Measured: what each part does to accuracy", open=False, elem_id="effects-box"):
            gr.HTML(
                "<p>The same pictures under this merge with one part changed. Where accuracy rises when a part is left "
                "at the base, the merge hurts there.</p>",
                elem_id="effects-head",
            )
            with gr.Row(elem_classes="nm-actions nm-pickers"):
                self.times = gr.Radio(
                    [(CHANGED[times].capitalize(), times) for times in CHANGES],
                    value=CHANGES[0],
                    label="Each part is",
                    elem_id="effect-change",
                    elem_classes="nm-pills",
                    min_width=280,
                )
                self.task = gr.Dropdown(
                    [("All tasks", ALL_TASKS)],
                    value=ALL_TASKS,
                    label="Accuracy of",
                    elem_id="effect-task",
                    min_width=140,
                )
                self.split = gr.Radio(
                    [("A quick look", "quick"), ("All, ten times as long", "validation")],
                    value="quick",
                    label="Validation pictures",
                    elem_id="effect-split",
                    elem_classes="nm-pills",
                    min_width=260,
                )
            with gr.Row(elem_classes="nm-actions"):
                self.start = gr.Button("Measure", variant="primary", elem_id="measure-effects", min_width=110, scale=0)
                self.stop = gr.Button("Stop", elem_id="stop-effects", min_width=80, scale=0)
                self.lower = gr.Button("Lower what hurts", elem_id="lower-effects", min_width=150, scale=0)
                self.progress = gr.HTML(progress_html(None), elem_id="effects-progress")
            self.figure = PlotlyView(
                message(NOTHING), label="Effect of each part on accuracy", height=300, elem_id="effects"
            )
            self.words = gr.HTML("", elem_id="effects-words")
            gr.HTML(
                "<p class='nm-hint'><b>Lower what hurts</b>: cells where leaving at the base raises accuracy by more "
                "than chance explains are left there; those where only halving does are halved; all others stay. Where "
                "no single cell stands out, the same goes for whole layers.</p>"
            )
        self.held = gr.State(None, time_to_live=self.page.limits.session_seconds)

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events, open_cell: Callable[[Moment, str, str], Changes], opened: list[Any]) -> None:
        """Listen; a clicked cell is opened by `open_cell`, which changes `opened`."""
        shown = [self.figure, self.words, self.task]
        events.listen(
            self.start.click,
            self.measure,
            [*shown, self.held, self.progress],
            lane="search",
            deadline_seconds=MEASURE_SECONDS,
            extra=[self.times, self.task, self.split],
        )
        events.listen(self.stop.click, self.stop_work, [])
        chosen = [self.times, self.task, self.held]
        events.listen([self.times.input, self.task.input], self.choose, shown, extra=chosen)
        shaped = [self.page.controls.profile, self.page.controls.edit, self.page.signals.controls_set]
        events.listen(self.lower.click, self.lower_what_hurts, shaped, extra=[self.held, *self._strength.read])
        click = partial(self.click, open_cell)
        events.listen(self.figure.cell, click, opened, extra=[*chosen, *self._strength.read], lasting=True)

    def measure(self, moment: Moment) -> Iterator[Changes]:
        """The map, from coarse to fine; what is measured stays where it is stopped."""
        self.forget(moment.page_id)
        self._running[moment.page_id or ""] = moment.job
        merge, drawn, shown = described(moment.setting), 0.0, None
        try:
            for found in moment.workspace.effects(str(moment.value(self.split))):
                shown = Shown(found, merge)
                if found.effects and time.monotonic() - drawn > _PICTURE_SECONDS:
                    yield self._changes(moment, shown, running=True)
                    drawn = time.monotonic()
        except Cancelled:
            pass
        if shown is not None:
            yield self._changes(moment, shown, running=False)

    def _changes(self, moment: Moment, shown: Shown, *, running: bool) -> Changes:
        return {
            **self._drawn(moment, shown),
            self.held: shown,
            self.progress: progress_html(shown.found, running=running),
        }

    def choose(self, moment: Moment) -> Changes:
        """Another change, or another task, of what is measured."""
        shown = moment.value(self.held)
        return self._drawn(moment, shown) if isinstance(shown, Shown) else {}

    def _drawn(self, moment: Moment, shown: Shown) -> Changes:
        found, titles = shown.found, self.page.controls.titles(moment.setting)
        times, task = self._chosen(moment, found)
        choices = [("All tasks", ALL_TASKS), *((titles.get(name, name), name) for name in found.before)]
        few = f"Measured on {found.images:,} validation pictures for: {shown.merge}. Measure again after a change."
        said = " ".join(filter(None, (describe(found, times), agreement(found, times), few)))
        return {
            self.figure: effect_heatmap(found, times, task or None, titles.get(task, task)),
            self.words: f"<p class='nm-caption' role='status'>{html.escape(said)}</p>",
            self.task: gr.update(choices=choices, value=task),
        }

    def _chosen(self, moment: Moment, found: EffectMap) -> tuple[float, str]:
        """Which change and which task are shown: nothing that a browser sends is trusted."""
        times, task = moment.value(self.times), moment.value(self.task)
        return times if times in CHANGES else CHANGES[0], task if task in found.before else ALL_TASKS

    def click(self, open_cell: Callable[[Moment, str, str], Changes], moment: Moment) -> Changes:
        """Open the clicked cell, and act on it; on the whole layer where that was clicked."""
        found = self._held(moment).found
        times, _ = self._chosen(moment, found)
        columns = ["", *(name for name in found.columns if any(key[1] == name for key in found.at(times)))]
        pick = read_pick(moment.event, {"effect": (len(found.rows), len(columns))})
        return open_cell(moment, found.rows[pick.row], columns[pick.column])

    def lower_what_hurts(self, moment: Moment) -> Changes:
        """The strength of parts that hurt made smaller."""
        lowered = hurting(self._held(moment).found)
        if not lowered:
            raise SettingError("No part hurts by more than chance explains on these pictures: nothing is lowered.")
        shape: Mapping[str, Any] = self._strength.shape(moment)
        names = registry.get_method(moment.setting.method).component_names
        for part, times in lowered.items():
            shape = scaled(shape, part, times, names) if times else with_factor(shape, part, "", 0.0, ())
        return self.page.announced(self.page.controls.shaped(shape))

    def _held(self, moment: Moment) -> Shown:
        shown = moment.value(self.held)
        if not isinstance(shown, Shown):
            raise SettingError("Nothing is measured yet: press Measure first.")
        return shown

    def stop_work(self, moment: Moment) -> None:
        """Stop measuring; what is measured stays."""
        self.forget(moment.page_id)

    def forget(self, page_id: str | None) -> None:
        """Stop the work of a page."""
        running = self._running.pop(page_id or "", None)
        if running is not None:
            running.stop()


def hurting(found: EffectMap) -> dict[str, float]:
    """What the strength of each part that hurts is multiplied by: the rule that the page states."""
    for whole in (False, True):
        lowered: dict[str, float] = {}
        for times in (0.5, 0.0):  # left at the base where both would help
            for (layer, matrix), effect in found.at(times).items():
                if (matrix == "") == whole and effect.difference > 0 and not effect.is_noise:
                    lowered[f"{layer}/{matrix}" if matrix else layer] = times
        if lowered:
            return lowered
    return {}


def progress_html(found: EffectMap | None, *, running: bool = False) -> str:
    """How far the map is."""
    if found is None:
        return "<div class='nm-progress' hidden></div>"
    done = len(found.effects)
    text = f"{done} of {found.total} changes" + ("" if running or found.complete else ", stopped")
    return (
        "<div class='nm-progress'>"
        f"<progress value='{done}' max='{found.total}' aria-label='Progress of the effect map'></progress>"
        f"<span role='status'>{text}</span></div>"
    )
