"""The Interference tab: where in the network the tasks disagree, down to the single neuron."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from neuromerge.errors import SettingError
from neuromerge.exploration.results import Heatmap, LayerDetail
from neuromerge.figures import layer as layer_figures
from neuromerge.figures.figure import message
from neuromerge.figures.interference import as_table, interference_heatmaps
from neuromerge.interface.page import Moment, Tab
from neuromerge.interface.permalinks import SORTS, PageState
from neuromerge.interface.plotly_view import PlotlyView, read_pick
from neuromerge.interface.tables import neuron_table
from neuromerge.merging.measures import Measure, get_measure, measures

SORT_TITLES = {"contested": "Most contested first", "strength": "Strongest first", "index": "As stored"}
NOTHING_OPEN = "Click a cell of the heatmap, or choose a layer and a matrix, to look inside it."


class InterferenceTab(Tab):
    """Heatmap of one measure; the layer that was clicked opens below it."""

    key = "interference"
    title = "Interference"

    def build(self) -> None:
        """Make the menu of measures, the heatmap, its table, and the open layer."""
        first = measures()[0]
        gr.HTML(
            "<div class='nm-head'><h2>Where tasks interfere</h2><p>Each cell is one matrix of one layer. What the "
            "experts want to change there is split in two: along a neuron's own weights (<b class='nm-parallel'>"
            "parallel</b>: how strongly it answers) and across them (<b class='nm-orthogonal'>orthogonal</b>: what it "
            "answers to).</p></div>"
        )
        with gr.Row(elem_classes="nm-measure"):
            self.measure = gr.Dropdown(
                [(menu_title(info), info.key) for info in measures()],
                value=first.key,
                label="Measure",
                elem_id="measure",
                scale=1,
                min_width=220,
            )
            self.explanation = gr.Markdown(
                explanation(first), elem_id="measure-explanation", elem_classes="nm-explanation", latex_delimiters=LATEX
            )
        self.heatmap = PlotlyView(label="Interference by layer and matrix", height=400, elem_id="interference")
        with gr.Accordion("The same numbers as a table", open=False, elem_id="interference-table-box"):
            self.table = gr.HTML("", elem_id="interference-table")

        self.cell = gr.State(("", ""), time_to_live=self.page.limits.session_seconds)
        gr.HTML("<div class='nm-head nm-section'><h2>Inside one layer</h2></div>")
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
        self.caption = gr.HTML(layer_caption(None), elem_id="layer-caption")
        self.neurons = PlotlyView(message(NOTHING_OPEN), label="Neurons by tasks", height=280, elem_id="layer-neurons")
        with gr.Row(elem_classes="nm-figures"):
            self.cosines = PlotlyView(message(""), label="Cosines between tasks", height=300, elem_id="layer-cosines")
            self.alpha = PlotlyView(message(""), label="Distribution of alpha", height=300, elem_id="layer-alpha")
        self.contested = PlotlyView(message(""), label="Most contested neurons", height=260, elem_id="layer-contested")
        with gr.Accordion("The most contested neurons as a table", open=False):
            self.contested_table = gr.HTML("", elem_id="contested-table")
        self.inputs = [self.measure, self.cell, self.sort]
        self.opened = [
            self.cell,
            self.layer,
            self.matrix,
            self.caption,
            self.neurons,
            self.cosines,
            self.alpha,
            self.contested,
            self.contested_table,
        ]
        self.outputs = [self.heatmap, self.table, *self.opened]

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> list[Any]:
        """The heatmap, and the open layer where there is one."""
        key, cell, sort = moment.own[self.key] if self.key in moment.own else (measures()[0].key, ("", ""), SORTS[0])
        heatmap = moment.workspace.heatmap(moment.setting, key)
        place = place_of(heatmap, cell)
        return [*self._map(moment, heatmap, place), *self._open(moment, heatmap, place, sort)]

    def _map(self, moment: Moment, heatmap: Heatmap, place: tuple[int, int] | None) -> list[Any]:
        tasks = len(moment.setting.tasks)
        return [interference_heatmaps(heatmap, tasks=tasks, selected=place), as_table(heatmap, tasks)]

    def _open(self, moment: Moment, heatmap: Heatmap, place: tuple[int, int] | None, sort: str) -> list[Any]:
        """Values of `opened`: the layer at `place`, or the invitation to choose one."""
        if place is None:
            empty = message("")
            menus = [gr.update(choices=list(heatmap.rows), value=None), gr.update(choices=[], value=None)]
            return [("", ""), *menus, layer_caption(None), message(NOTHING_OPEN), empty, empty, empty, ""]
        row, column = place
        layer, matrix = heatmap.rows[row], heatmap.columns[column]
        detail = moment.workspace.layer(moment.setting, layer, matrix, sort)
        titles = self.page.controls.titles(moment.setting)
        return [
            (layer, matrix),
            gr.update(choices=list(heatmap.rows), value=layer),
            gr.update(choices=present(heatmap, row), value=matrix),
            layer_caption(detail),
            layer_figures.neurons_by_tasks(detail, titles),
            layer_figures.task_cosines(detail, titles),
            layer_figures.alpha_histogram(detail, titles),
            layer_figures.contested_neurons(detail),
            neuron_table(detail),
        ]

    # ------------------------------------------------------------------------------------------- events
    def wire(self) -> None:
        """A new measure, a clicked cell, a chosen layer, another order, a clicked neuron."""
        page = self.page
        page.listen(self.measure.input, self.change_measure, [self.explanation, self.heatmap, self.table])
        clicked = [self.heatmap, *self.opened]
        page.listen(self.heatmap.cell, self.click, clicked)
        page.listen([self.layer.input, self.matrix.input], self.choose, clicked, extra=[self.layer, self.matrix])
        page.listen(self.sort.input, self.draw, self.outputs)
        neuron = page.named("neuron")
        page.listen(self.contested.cell, self.open_neuron, [page.turn, *neuron.inputs])

    def change_measure(self, moment: Moment) -> list[Any]:
        """Another measure in the same heatmap."""
        key, cell, _ = moment.own[self.key]
        heatmap = moment.workspace.heatmap(moment.setting, key)
        return [explanation(get_measure(key)), *self._map(moment, heatmap, place_of(heatmap, cell))]

    def click(self, moment: Moment) -> list[Any]:
        """Open the clicked cell."""
        key, _, sort = moment.own[self.key]
        heatmap = moment.workspace.heatmap(moment.setting, key)
        size = (len(heatmap.rows), len(heatmap.columns))
        pick = read_pick(moment.event, {"parallel": size, "orthogonal": size})
        return self._show(moment, heatmap, (pick.row, pick.column), sort)

    def choose(self, moment: Moment, layer: Any, matrix: Any) -> list[Any]:
        """Open the cell chosen from the menus; a layer without that matrix opens at its first one."""
        key, _, sort = moment.own[self.key]
        heatmap = moment.workspace.heatmap(moment.setting, key)
        if layer not in heatmap.rows:
            raise SettingError(f"There is no layer {layer!r}. It can be: {', '.join(heatmap.rows)}.")
        row = heatmap.rows.index(layer)
        choices = present(heatmap, row)
        matrix = matrix if matrix in choices else choices[0]
        return self._show(moment, heatmap, (row, heatmap.columns.index(matrix)), sort)

    def open_neuron(self, moment: Moment) -> list[Any]:
        """Go to a clicked neuron."""
        _, (layer, matrix), sort = moment.own[self.key]
        detail = moment.workspace.layer(moment.setting, layer, matrix, sort)
        pick = read_pick(moment.event, {"neuron": (len(detail.contested),)})
        neuron = self.page.named("neuron")
        _, view = moment.own[neuron.key]
        place = (layer, matrix, detail.contested[pick.index].index)
        return [self.page.turn_to(neuron.key), place, view]

    def _show(self, moment: Moment, heatmap: Heatmap, place: tuple[int, int], sort: str) -> list[Any]:
        opened = self._open(moment, heatmap, place, sort)
        return [self._map(moment, heatmap, place)[0], *opened]

    # ------------------------------------------------------------------------------------------- permalinks
    def remember(self, state: PageState, moment: Moment) -> PageState:
        """Measure, open cell and order."""
        key, cell, sort = moment.own[self.key]
        return replace(state, measure=key, layer=cell[0], matrix=cell[1], sort=sort)

    def restore(self, state: PageState) -> list[Any]:
        """The same from a link."""
        measure_update = gr.update(value=state.measure) if state.measure else gr.skip()
        sort = gr.update(value=state.sort) if state.sort else gr.skip()
        return [measure_update, (state.layer, state.matrix), sort]


LATEX = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]


def menu_title(info: Measure) -> str:
    """A measure in the menu; those that follow the lambdas say so."""
    return f"{info.title} (moves with λ)" if info.moves_with_lambda else info.title


def explanation(info: Measure) -> str:
    """What a measure means, its formula and its range, as Markdown."""
    high = "no upper limit" if info.high is None else f"{info.high:g}"
    low = "any negative number" if info.signed and info.low == 0 else f"{info.low:g}"
    moves = "Follows both λ." if info.moves_with_lambda else "Depends on the tasks and on the trim only, not on λ."
    return f"{info.sentence} Range: {low} to {high}. {moves}\n\n$${info.formula}$$"


def place_of(heatmap: Heatmap, cell: Any) -> tuple[int, int] | None:
    """Row and column of a (layer, matrix); None where none is open or this family has no such cell."""
    if not isinstance(cell, (tuple, list)) or len(cell) != 2:
        return None
    layer, matrix = cell
    if layer not in heatmap.rows or matrix not in heatmap.columns:
        return None
    return heatmap.rows.index(layer), heatmap.columns.index(matrix)


def present(heatmap: Heatmap, row: int) -> list[str]:
    """The matrices that a layer has."""
    return [
        column
        for place, column in enumerate(heatmap.columns)
        if heatmap.orthogonal[row, place] == heatmap.orthogonal[row, place]
        or heatmap.parallel[row, place] == heatmap.parallel[row, place]
    ] or list(heatmap.columns)


def layer_caption(detail: LayerDetail | None) -> str:
    """One line above the figures of the open layer."""
    if detail is None:
        return ""
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
