"""The Interference tab: where in the network the tasks disagree, down to the single neuron."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import gradio as gr
import numpy as np

from neuromerge.errors import SettingError
from neuromerge.exploration.results import SORTS, Heatmap, LayerDetail
from neuromerge.figures import layer as layer_figures
from neuromerge.figures.figure import message
from neuromerge.figures.interference import arrows_html, as_table, headline, interference_heatmaps
from neuromerge.interface.components.between_tasks import SCOPES, TasksView
from neuromerge.interface.components.drift import DriftView
from neuromerge.interface.components.effects import EffectsView
from neuromerge.interface.components.sentence import sentence_html, sentence_links
from neuromerge.interface.components.strength import AIMS, StrengthPanel, Target
from neuromerge.interface.components.tables import neuron_table
from neuromerge.interface.components.text import LATEX, bring, way_back
from neuromerge.interface.components.versus import VERSUS, VersusView
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.plotly_view import PlotlyView, read_pick, read_selection
from neuromerge.interface.state import CELL, CELLS, CellName, TabState, linked, one_of
from neuromerge.interface.tab import Tab
from neuromerge.interface.tabs.neuron import NeuronTab
from neuromerge.interface.tabs.tune import TuneTab
from neuromerge.merging.measures import Measure, get_measure, measures

SORT_TITLES = {"contested": "Most contested first", "strength": "Strongest first", "index": "As stored"}
VIEWS = {"map": "By layer and matrix", "tasks": "Between tasks", "drift": "Drift from the experts"}
"""What the tab can show above the open layer; only what is shown is computed."""

GESTURES = (
    "<b>Click</b> a cell to open it. <b>Drag</b> over several to select them (on a touch screen hold a finger still, "
    "then drag), or hold <b>Shift</b> and click, or walk with the arrow keys; <b>Ctrl</b> adds one or takes it away, "
    "<b>Escape</b> lets go. A name beside the map stands for a whole layer or matrix."
)
"""What can be done with the map."""

NOTHING_OPEN = "Click a cell of the heatmap, or choose a layer and a matrix, to look inside it."


@dataclass(frozen=True)
class InterferenceState(TabState):
    """The map's measure, the open cell (None: none), the order of its neurons, what is acted on, what is shown.

    `picked` are the cells that are selected on the map, to be acted on together.

    `scope` and `only` say over which part of the network, and for which task alone, tasks are set against tasks.
    """

    measure: str = linked("measure", measures()[0].key, one_of(lambda family: (info.key for info in measures())))
    cell: CellName | None = linked("cell", None, CELL, of_family=True)
    sort: str = linked("sort", SORTS[0], one_of(lambda family: SORTS))
    aim: str = linked("act", "cell", one_of(lambda family: AIMS))
    view: str = linked("show", "map", one_of(lambda family: VIEWS))
    scope: str = linked("over", "model", one_of(lambda family: SCOPES))
    versus: str = linked("versus", "none", one_of(lambda family: VERSUS))
    only: str = linked("only", "", one_of(lambda family: family.experts), of_family=True)
    picked: tuple[CellName, ...] = linked("cells", (), CELLS, of_family=True)


class InterferenceTab(Tab[InterferenceState]):
    """Heatmap of one measure; the layer that was clicked opens below it."""

    key = "interference"
    title = "Interference"
    state = InterferenceState

    def build(self) -> None:
        """Make the menu of measures, the heatmap, its table, and the open layer."""
        first = measures()[0]
        gr.HTML(
            "<div class='nm-head'><h2>Where tasks interfere</h2><p>What the experts want to change in each matrix "
            "of each layer is split in two: along a neuron's own weights (<b class='nm-parallel'>"
            "parallel</b>: how strongly it answers) and across them (<b class='nm-orthogonal'>orthogonal</b>: what it "
            "answers to).</p></div>"
        )
        self.view = gr.Radio(
            [(title, key) for key, title in VIEWS.items()],
            value="map",
            label="Show",
            elem_id="interference-view",
            elem_classes="nm-pills",
        )
        with gr.Column() as on_map:
            with gr.Row(elem_classes="nm-measure"):
                with gr.Column(scale=1, min_width=220):
                    self.measure = gr.Dropdown(
                        [(menu_title(info), info.key) for info in measures()],
                        value=first.key,
                        label="Measure",
                        elem_id="measure",
                    )
                    self.arrows = gr.HTML("", elem_id="measure-arrows")
                self.explanation = gr.Markdown(
                    explanation(first),
                    elem_id="measure-explanation",
                    elem_classes="nm-explanation",
                    latex_delimiters=LATEX,
                )
            self.sentence = sentence_links("interference-sentence")
            self.heatmap = PlotlyView(label="Interference by layer and matrix", height=400, elem_id="interference")
            gr.HTML(f"<p class='nm-hint'>{GESTURES}</p>", elem_id="interference-gestures")
            with gr.Accordion("The same numbers as a table", open=False, elem_id="interference-table-box"):
                self.table = gr.HTML("", elem_id="interference-table")
            self.versus = VersusView()
            self.versus.build()
        self.between = TasksView(self.page)
        with gr.Column(visible=False) as on_tasks:
            self.between.build()
        self.drift = DriftView(self.page)
        with gr.Column(visible=False) as on_drift:
            self.drift.build()
        self.columns = {"map": on_map, "tasks": on_tasks, "drift": on_drift}
        self.strength = StrengthPanel(self.page)
        self.strength.build()
        self.effects = EffectsView(self.page, self.strength)
        self.effects.build()

        gr.HTML(
            f"<div class='nm-head nm-section'><h2>Inside one layer</h2>{way_back('interference', 'the map')}</div>",
            elem_id="inside-layer",
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.layer = gr.Dropdown([], label="Layer", elem_id="layer", min_width=120, allow_custom_value=True)
            self.matrix = gr.Dropdown([], label="Matrix", elem_id="matrix", min_width=120, allow_custom_value=True)
            self.sort = gr.Radio(
                [(SORT_TITLES[key], key) for key in SORTS],
                value=SORTS[0],
                label="Order of the neurons",
                elem_id="sort",
                elem_classes="nm-pills",
                min_width=320,
            )
        self.caption = gr.HTML("", elem_id="layer-caption")
        self.neurons = PlotlyView(message(NOTHING_OPEN), label="Neurons by tasks", height=280, elem_id="layer-neurons")
        with gr.Row(elem_classes="nm-figures"):
            self.cosines = PlotlyView(message(""), label="Cosines between tasks", height=300, elem_id="layer-cosines")
            self.alpha = PlotlyView(message(""), label="Distribution of alpha", height=300, elem_id="layer-alpha")
        self.contested = PlotlyView(message(""), label="Most contested neurons", height=260, elem_id="layer-contested")
        with gr.Accordion("The most contested neurons as a table", open=False):
            self.contested_table = gr.HTML("", elem_id="contested-table")
        self.holders = {
            "view": self.view,
            "measure": self.measure,
            "sort": self.sort,
            "aim": self.strength.aim,
            "scope": self.between.scope,
            "only": self.between.only,
            "versus": self.versus.choice,
        }
        self.opened = [
            self.layer,
            self.matrix,
            self.caption,
            self.neurons,
            self.cosines,
            self.alpha,
            self.contested,
            self.contested_table,
        ]
        self.map = [self.arrows, self.sentence, self.heatmap, self.table, *self.versus.outputs]
        self.shown_above = [*self.map, *self.between.outputs, *self.drift.outputs]
        self.folded = [*self.columns.values(), self.versus.column]
        self.outputs = [*self.shown_above, *self.opened]

    def fold(self, state: InterferenceState) -> Changes:
        """The view that is chosen, and what stands under the map."""
        return {
            **{column: gr.update(visible=key == state.view) for key, column in self.columns.items()},
            self.versus.column: gr.update(visible=state.versus != "none"),
        }

    @property
    def restored(self) -> list[Any]:
        """With the words about the measure."""
        return [*super().restored, self.explanation]

    def restore(self, state: TabState) -> Changes:
        """As of every tab, with the words about the measure that a link names."""
        measure = get_measure(cast(InterferenceState, state).measure)
        return {**super().restore(state), self.explanation: explanation(measure)}

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> Changes:
        """The view that is shown, and the open layer where there is one."""
        return {part: shown for changes in self.draw_by_urgency(moment) for part, shown in changes.items()}

    def draw_by_urgency(self, moment: Moment) -> Iterator[Changes]:
        """The view, and after it what an open layer shows below: the browser takes longer for that than for maps."""
        heatmap = moment.workspace.heatmap(self.shown(moment).measure)
        view = self._draw_view(moment, heatmap)
        if place_of(heatmap, self.shown(moment).cell) is None:
            yield {**view, **self._draw_cell(moment, heatmap)}
            return
        yield view
        yield self._draw_cell(moment, heatmap)

    def _draw_view(self, moment: Moment, heatmap: Heatmap) -> Changes:
        """What is shown above the open layer, and nothing of what is not."""
        state = self.shown(moment)
        if state.view == "tasks":
            cell = state.cell if place_of(heatmap, state.cell) else None
            return self.between.draw(moment, state.scope, state.only, cell, heatmap)
        if state.view == "drift":
            return self.drift.draw(moment)
        return self._draw_map(moment, heatmap)

    def _draw_map(self, moment: Moment, heatmap: Heatmap) -> Changes:
        tasks = len(moment.setting.tasks)
        selected = place_of(heatmap, self.shown(moment).cell)
        versus = self.shown(moment).versus
        picked = [place for cell in self.shown(moment).picked if (place := place_of(heatmap, cell))]
        other = self.versus.other(moment, versus, heatmap.measure.key)
        beside = other if versus == "beside" else None
        return {
            self.arrows: arrows_html(heatmap, tasks),
            self.sentence: sentence_html(headline(heatmap, tasks)),
            self.heatmap: interference_heatmaps(heatmap, tasks=tasks, selected=selected, beside=beside, picked=picked),
            self.table: as_table(heatmap, tasks),
            **self.versus.draw(moment, versus, heatmap, other, selected, picked),
        }

    def _maps_alone(self, shown: Changes) -> Changes:
        """What of `_draw_map` depends on what is open and selected."""
        return {figure: shown[figure] for figure in (self.heatmap, self.versus.figure) if figure in shown}

    def _draw_cell(self, moment: Moment, heatmap: Heatmap) -> Changes:
        """The open layer, or the invitation to choose one. A cell that this family lacks may be one of the next's."""
        state = self.shown(moment)
        place = place_of(heatmap, state.cell)
        if place is None:
            return {
                self.layer: gr.update(choices=list(heatmap.rows), value=None),
                self.matrix: gr.update(choices=[], value=None),
                self.caption: missing_caption(state.cell),
                self.neurons: message(NOTHING_OPEN),
                **dict.fromkeys((self.cosines, self.alpha, self.contested), message("")),
                self.contested_table: "",
            }
        row, column = place
        cell = CellName(heatmap.rows[row], heatmap.columns[column])
        detail = moment.workspace.layer(cell, state.sort)
        titles = self.page.controls.titles(moment.setting)
        return {
            **self.hold(state),
            self.layer: gr.update(choices=list(heatmap.rows), value=cell.layer),
            self.matrix: gr.update(choices=present(heatmap, row), value=cell.matrix),
            self.caption: layer_caption(detail),
            self.neurons: layer_figures.neurons_by_tasks(detail, titles),
            self.cosines: layer_figures.task_cosines(detail, titles),
            self.alpha: layer_figures.alpha_histogram(detail, titles),
            self.contested: layer_figures.contested_neurons(detail),
            self.contested_table: neuron_table(detail),
        }

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events) -> None:
        """A new measure, a clicked cell, a chosen layer, another order, a clicked neuron."""
        events.listen(self.measure.input, self.change_measure, [self.explanation, *self.map])
        changed = [self.view.input, self.versus.choice.input, self.between.scope.input, self.between.only.input]
        events.listen(changed, self.change_view, [*self.folded, *self.shown_above])
        # A cell that was asked for opens, even where the setting changes meanwhile.
        clicked = [self.held, *self.shown_above, *self.opened, self.strength.aim, *self.strength.shown]
        maps = (self.heatmap.cell, self.versus.figure.cell)
        sentences = (self.sentence.cell, self.between.sentence.cell, self.versus.sentence.cell)
        for cell in (*maps, *sentences):  # events of one's own cannot be listed
            events.listen(cell, self.click, clicked, extra=self.strength.read, lasting=True)
            events.in_browser(cell, [], [], bring("strength"))
        events.listen(self.between.pairs.cell, self.click_pair, clicked, extra=self.strength.read, lasting=True)
        events.in_browser(self.between.pairs.cell, [], [], bring("strength"))
        for block in (self.drift.heatmap.cell, self.drift.sentence.cell):
            events.listen(block, self.click_block, clicked, extra=self.strength.read, lasting=True)
            events.in_browser(block, [], [], bring("strength"))
        menus = [self.layer, self.matrix]
        events.listen(
            [menu.input for menu in menus], self.choose, clicked, extra=[*menus, *self.strength.read], lasting=True
        )
        for figure in (self.heatmap, self.versus.figure):
            events.listen(
                figure.selected,
                self.select,
                [self.held, self.heatmap, self.versus.figure, self.strength.aim, *self.strength.shown],
                extra=self.strength.read,
                lasting=True,
                trigger_mode="multiple",
            )
        for heading in (self.heatmap.heading, self.versus.figure.heading):
            events.listen(heading, self.click_heading, clicked, extra=self.strength.read, lasting=True)
        self.strength.wire(events, self.aimed)
        tune = self.page.tab(TuneTab)
        group = [tune.shape, tune.groups, *tune.folded, self.page.signals.tab_to_open]
        events.listen(self.strength.search.click, self.search_parts, group, lasting=True)
        self.effects.wire(events, self.open_part, clicked)
        events.listen(self.sort.input, self.draw, self.outputs)
        neuron = self.page.tab(NeuronTab)
        open_neuron = [self.page.signals.tab_to_open, *neuron.inputs]
        events.listen(self.contested.cell, self.open_neuron, open_neuron, lasting=True)

    def change_measure(self, moment: Moment) -> Changes:
        """Another measure in the same heatmap."""
        key = self.shown(moment).measure
        return {
            self.explanation: explanation(get_measure(key)),
            **self._draw_map(moment, moment.workspace.heatmap(key)),
        }

    def change_view(self, moment: Moment) -> Changes:
        """Another view, or another part of it."""
        heatmap = moment.workspace.heatmap(self.shown(moment).measure)
        return {**self.fold(self.shown(moment)), **self._draw_view(moment, heatmap)}

    def click(self, moment: Moment) -> Changes:
        """Open the clicked cell."""
        heatmap = moment.workspace.heatmap(self.shown(moment).measure)
        size = (len(heatmap.rows), len(heatmap.columns))
        pick = read_pick(moment.event, {"parallel": size, "orthogonal": size})
        return self._show(moment, heatmap, pick.row, pick.column, "cell")

    def select(self, moment: Moment) -> Changes:
        """Act on the cells that were dragged over, or chosen with Shift or Ctrl, together."""
        before = self.shown(moment)
        heatmap = moment.workspace.heatmap(before.measure)
        size = (len(heatmap.rows), len(heatmap.columns))
        held = [place for cell in before.picked if (place := place_of(heatmap, cell))]
        places = read_selection(moment.event, {"parallel": size, "orthogonal": size}, held)
        cells = (CellName(heatmap.rows[row], heatmap.columns[column]) for row, column in places)
        picked = tuple(cell for cell in cells if place_of(heatmap, cell))
        aim = "cells" if picked else "cell" if before.aim == "cells" else before.aim
        moment = moment.showing(self.key, replace(before, picked=picked, aim=aim))
        return {
            **self.hold(self.shown(moment)),
            **self._maps_alone(self._draw_map(moment, heatmap)),
            self.strength.aim: aim,
            **self.strength.draw(moment, self.aimed(moment)),
        }

    def click_pair(self, moment: Moment) -> Changes:
        """Open the cell where the clicked pair of tasks conflicts most."""
        state = self.shown(moment)
        heatmap = moment.workspace.heatmap(state.measure)
        open_cell = state.cell if place_of(heatmap, state.cell) else None
        cell = self.between.clicked(moment, state.scope, state.only, open_cell)
        return self._show(moment, heatmap, heatmap.rows.index(cell.layer), heatmap.columns.index(cell.matrix), "cell")

    def click_block(self, moment: Moment) -> Changes:
        """Act on the whole block whose drift was clicked; the cell where it begins opens, too."""
        heatmap = moment.workspace.heatmap(self.shown(moment).measure)
        return self._show_layer(moment, heatmap, heatmap.rows.index(self.drift.clicked(moment)))

    def click_heading(self, moment: Moment) -> Changes:
        """Act on the whole layer or matrix whose name was clicked; the cell where it begins opens, too."""
        heatmap = moment.workspace.heatmap(self.shown(moment).measure)
        sizes = {"layer": (len(heatmap.rows),), "matrix": (len(heatmap.columns),)}
        pick, cell = read_pick(moment.event, sizes), place_of(heatmap, self.shown(moment).cell)
        if pick.source == "layer":
            return self._show_layer(moment, heatmap, pick.index)
        rows = [row for row in range(len(heatmap.rows)) if heatmap.columns[pick.index] in present(heatmap, row)]
        row = cell[0] if cell and cell[0] in rows else rows[0]
        return self._show(moment, heatmap, row, pick.index, pick.source)

    def _show_layer(self, moment: Moment, heatmap: Heatmap, row: int) -> Changes:
        """Act on a whole layer; the matrix that is open opens there, or the first one."""
        cell = place_of(heatmap, self.shown(moment).cell)
        choices = [heatmap.columns.index(name) for name in present(heatmap, row)]
        column = cell[1] if cell and cell[1] in choices else choices[0]
        return self._show(moment, heatmap, row, column, "layer")

    def open_part(self, moment: Moment, layer: str, matrix: str) -> Changes:
        """Act on a cell, or on a whole layer where no matrix is named; the cell where it begins opens."""
        heatmap = moment.workspace.heatmap(self.shown(moment).measure)
        row = heatmap.rows.index(layer)
        column = heatmap.columns.index(matrix or present(heatmap, row)[0])
        return self._show(moment, heatmap, row, column, "cell" if matrix else "layer")

    def forget(self, page_id: str | None) -> None:
        """Stop what is measured for a page that was closed."""
        self.effects.forget(page_id)

    def aimed(self, moment: Moment) -> Target:
        """What the panel of strengths acts on."""
        state = self.shown(moment)
        heatmap = moment.workspace.heatmap(state.measure)
        picked = tuple(cell for cell in state.picked if place_of(heatmap, cell))
        return Target(state.aim, state.cell if place_of(heatmap, state.cell) else None, picked, heatmap)

    def search_parts(self, moment: Moment) -> Changes:
        """Let a search find the factor of what the panel acts on."""
        return self.page.tab(TuneTab).adding(moment, self.strength.parts(self.aimed, moment))

    def choose(self, moment: Moment) -> Changes:
        """Open the cell chosen from the menus; a layer without that matrix opens at its first one."""
        heatmap = moment.workspace.heatmap(self.shown(moment).measure)
        layer, matrix = moment.value(self.layer), moment.value(self.matrix)
        if not layer:
            return {}  # the menu was only looked at
        if layer not in heatmap.rows:
            raise SettingError(f"There is no layer {layer!r}. It can be: {', '.join(heatmap.rows)}.")
        row = heatmap.rows.index(layer)
        choices = present(heatmap, row)
        matrix = matrix if matrix in choices else choices[0]
        return self._show(moment, heatmap, row, heatmap.columns.index(matrix))

    def _show(self, moment: Moment, heatmap: Heatmap, row: int, column: int, aim: str = "") -> Changes:
        """Open a cell, and act on it or on what `aim` says; the same as before where it says nothing.

        What was selected is let go where something else is acted on.
        """
        before = self.shown(moment)
        cell = CellName(heatmap.rows[row], heatmap.columns[column])
        state = replace(before, cell=cell, aim=aim or before.aim, picked=() if aim else before.picked)
        moment = moment.showing(self.key, state)
        shown = self._draw_view(moment, heatmap)
        if state.view == "map":  # its sentence and table do not depend on what is open
            shown = self._maps_alone(shown)
        return {
            **shown,
            **self._draw_cell(moment, heatmap),
            self.strength.aim: state.aim,
            **self.strength.draw(moment, self.aimed(moment)),
        }

    def open_neuron(self, moment: Moment) -> Changes:
        """Go to a clicked neuron."""
        state = self.shown(moment)
        if state.cell is None:
            raise SettingError("No layer is open. Click a cell of the heatmap first.")
        detail = moment.workspace.layer(state.cell, state.sort)
        pick = read_pick(moment.event, {"neuron": (len(detail.contested),)})
        neuron = self.page.tab(NeuronTab)
        return {
            **neuron.go(moment, state.cell, detail.contested[pick.index].index),
            **self.page.open_tab(neuron.key),
        }


def menu_title(info: Measure) -> str:
    """A measure in the menu; those that follow the lambdas say so."""
    return f"{info.title} (moves with λ)" if info.moves_with_lambda else info.title


def explanation(info: Measure) -> str:
    """What a measure means, its formula and its range, as Markdown."""
    high = "no upper limit" if info.high is None else f"{info.high:g}"
    low = "any negative number" if info.signed and info.low == 0 else f"{info.low:g}"
    moves = "Follows both λ." if info.moves_with_lambda else "Depends on the tasks and on the trim only, not on λ."
    return f"{info.sentence} Range: {low} to {high}. {moves}\n\n$${info.formula}$$"


def place_of(heatmap: Heatmap, cell: CellName | None) -> tuple[int, int] | None:
    """Row and column of a cell; None where none is open or this family has no such cell."""
    if cell is None or cell.layer not in heatmap.rows:
        return None
    row = heatmap.rows.index(cell.layer)
    return (row, heatmap.columns.index(cell.matrix)) if cell.matrix in present(heatmap, row) else None


def present(heatmap: Heatmap, row: int) -> list[str]:
    """The matrices that a layer has."""
    absent = np.isnan(heatmap.orthogonal[row]) & np.isnan(heatmap.parallel[row])
    return [column for column, missing in zip(heatmap.columns, absent, strict=True) if not missing]


def missing_caption(cell: CellName | None) -> str:
    """One line where no layer is open: why the one that was asked for is not."""
    if cell is None:
        return ""
    return f"<p class='nm-caption'>This family has no {html.escape(cell.matrix)} in {html.escape(cell.layer)}.</p>"


def layer_caption(detail: LayerDetail) -> str:
    """One line above the figures of the open layer."""
    if detail.kind == "pointwise":
        return (
            f"<p class='nm-caption'><b>{detail.layer} · {detail.matrix}</b>: {detail.neurons:,} single numbers "
            "(no neurons, so nothing is parallel or orthogonal here).</p>"
        )
    unsure = (
        f" {detail.ill_conditioned:,} of them are close calls: a tiny change of the weights could turn their vote."
        if detail.ill_conditioned
        else ""
    )
    return (
        f"<p class='nm-caption'><b>{detail.layer} · {detail.matrix}</b>: {detail.neurons:,} neurons with "
        f"{detail.inputs:,} inputs each.{unsure}</p>"
    )
