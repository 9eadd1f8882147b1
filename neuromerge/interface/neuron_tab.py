"""The Neuron tab: the whole method on one real neuron."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from neuromerge.errors import SettingError
from neuromerge.exploration.results import Heatmap, NeuronDetail
from neuromerge.figures import neuron as neuron_figures
from neuromerge.interface.page import Moment, Tab
from neuromerge.interface.permalinks import PageState
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.tables import number, table

MEASURE = "energy_share"
"""Any measure would do: its heatmap says which layers and matrices there are."""

LATEX = [{"left": "$$", "right": "$$", "display": True}, {"left": "$", "right": "$", "display": False}]

READING = r"""
**Left:** the plane of the neuron's own weights $w_0$ and one direction at a right angle to them. Thin arrows are what
the experts want, the thick one is what the merge does. **Right:** each point is one real input $x$ of this neuron, from
the base model and held fixed (biases left out). Across: the neuron's answer before the merge, $w_0 \cdot x$. Up:
what the merge adds to it. A change *along* $w_0$ adds the same share to every answer, so it only tilts the line:
**sensitivity**. A change *across* moves points off the line: **adaptation**.
"""


class NeuronTab(Tab):
    """The plane of arrows, the answers to real inputs, and the vote in each direction."""

    key = "neuron"
    title = "Neuron"

    def build(self) -> None:
        """Make the menus that choose a neuron, and its pictures."""
        seconds = self.page.limits.session_seconds
        gr.HTML(
            "<div class='nm-head'><h2>One neuron</h2><p>The method works neuron by neuron. Here is one of the "
            "thousands, with its real numbers. Move λ₁ and λ₂ and watch.</p></div>"
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.layer = gr.Dropdown([], label="Layer", elem_id="neuron-layer", min_width=110, allow_custom_value=True)
            self.matrix = gr.Dropdown(
                [], label="Matrix", elem_id="neuron-matrix", min_width=90, allow_custom_value=True
            )
            self.index = gr.Number(None, label="Neuron", precision=0, minimum=0, elem_id="neuron-index", min_width=90)
            self.contested = gr.Button("Next contested", size="sm", elem_id="neuron-next", min_width=0, scale=0)
            self.direction = gr.Dropdown(
                [], label="Direction", elem_id="neuron-direction", min_width=150, allow_custom_value=True
            )
            self.images = gr.Dropdown(
                [], label="Inputs from", elem_id="neuron-images", min_width=120, allow_custom_value=True
            )
        self.caption = gr.HTML("", elem_id="neuron-caption")
        with gr.Row(elem_classes="nm-figures"):
            self.plane = PlotlyView(label="The neuron's plane", height=400, elem_id="neuron-plane", min_width=280)
            self.answers = PlotlyView(
                label="Answers before and after", height=400, elem_id="neuron-answers", min_width=280
            )
        gr.Markdown(READING, latex_delimiters=LATEX, elem_classes="nm-explanation")
        self.votes = PlotlyView(label="The vote in each direction", height=300, elem_id="neuron-votes")
        with gr.Accordion("The same numbers as a table", open=False):
            self.table = gr.HTML("", elem_id="neuron-table")
        self.place = gr.State(("", "", None), time_to_live=seconds)
        self.view = gr.State((0, ""), time_to_live=seconds)
        self.inputs = [self.place, self.view]
        self.outputs = [
            self.place,
            self.view,
            self.layer,
            self.matrix,
            self.index,
            self.direction,
            self.images,
            self.caption,
            self.plane,
            self.answers,
            self.votes,
            self.table,
        ]

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> list[Any]:
        """The open neuron; at first a contested one from the middle of the network."""
        place, view = moment.own.get(self.key) or (("", "", None), (0, ""))
        values = self.show(moment, place, view)
        if values[0] == place:
            values[self.outputs.index(self.index)] = gr.skip()  # somebody may be typing another number into it
        return values

    def show(self, moment: Moment, place: Any, view: Any) -> list[Any]:
        """Values of `outputs` for a neuron at (layer, matrix, index), seen along a direction."""
        heatmap = moment.workspace.heatmap(moment.setting, MEASURE)
        layer, matrix, index = self._resolved(moment, heatmap, place)
        direction, images = view
        titles = self.page.controls.titles(moment.setting)
        images = images if images in titles else next(iter(titles), "")
        detail = moment.workspace.neuron(moment.setting, layer, matrix, index, image_task=images)
        directions = direction_choices(detail)
        direction = direction if isinstance(direction, int) and 0 <= direction < len(directions) else 0
        row = heatmap.rows.index(layer)
        return [
            (layer, matrix, index),
            (direction, images),
            gr.update(choices=[name for name in heatmap.rows if neuron_matrices(heatmap, name)], value=layer),
            gr.update(choices=neuron_matrices(heatmap, heatmap.rows[row]), value=matrix),
            gr.update(value=index),
            gr.update(choices=directions, value=direction if directions else None),
            gr.update(choices=[(title, name) for name, title in titles.items()], value=images),
            caption(detail, direction),
            neuron_figures.neuron_plane(detail, direction, titles),
            neuron_figures.pre_activations(detail, direction),
            neuron_figures.votes(detail, titles),
            vote_table(detail, titles),
        ]

    def _resolved(self, moment: Moment, heatmap: Heatmap, place: Any) -> tuple[str, str, int]:
        """A neuron that exists: the one asked for, or the most contested one of its matrix."""
        layer, matrix, index = place
        usable = [name for name in heatmap.rows if neuron_matrices(heatmap, name)]
        if layer not in usable:
            layer = usable[len(usable) // 2]
        matrices = neuron_matrices(heatmap, layer)
        if matrix not in matrices:
            matrix = "fc1" if "fc1" in matrices else matrices[0]
        if index is None:
            index = self._contested(moment, layer, matrix)[0]
        if isinstance(index, bool) or not isinstance(index, (int, float)) or index != int(index):
            raise SettingError("The neuron is a whole number, counted from 0.")
        return layer, matrix, int(index)

    def _contested(self, moment: Moment, layer: str, matrix: str) -> list[int]:
        detail = moment.workspace.layer(moment.setting, layer, matrix, "contested")
        return [neuron.index for neuron in detail.contested] or [0]

    # ------------------------------------------------------------------------------------------- events
    def wire(self) -> None:
        """Another neuron, direction or task of the inputs."""
        page = self.page
        menus = [self.layer, self.matrix]
        page.listen([self.layer.input, self.matrix.input], self.choose, self.outputs, extra=menus)
        page.listen([self.index.submit, self.index.blur], self.choose_index, self.outputs, extra=[self.index])
        page.listen(self.contested.click, self.next_contested, self.outputs)
        page.listen(
            [self.direction.input, self.images.input], self.look, self.outputs, extra=[self.direction, self.images]
        )

    def choose(self, moment: Moment, layer: Any, matrix: Any) -> list[Any]:
        """Another layer or matrix, at its most contested neuron."""
        _, view = moment.own[self.key]
        return self.show(moment, (layer, matrix, None), view)

    def choose_index(self, moment: Moment, index: Any) -> list[Any]:
        """Another neuron of the same matrix."""
        (layer, matrix, _), view = moment.own[self.key]
        return self.show(moment, (layer, matrix, index), view)

    def next_contested(self, moment: Moment) -> list[Any]:
        """The neuron after this one in the list of contested ones; the first after the last."""
        (layer, matrix, index), view = moment.own[self.key]
        if not layer:
            return self.draw(moment)
        contested = self._contested(moment, layer, matrix)
        after = contested.index(index) + 1 if index in contested else 0
        return self.show(moment, (layer, matrix, contested[after % len(contested)]), view)

    def look(self, moment: Moment, direction: Any, images: Any) -> list[Any]:
        """Along another direction, or on another task's pictures."""
        place, _ = moment.own[self.key]
        return self.show(moment, place, (direction, images))

    # ------------------------------------------------------------------------------------------- permalinks
    def remember(self, state: PageState, moment: Moment) -> PageState:
        """The neuron, where this tab is the open one."""
        (layer, matrix, index), _ = moment.own[self.key]
        return replace(state, layer=layer, matrix=matrix, neuron=index) if moment.tab == self.key and layer else state

    def restore(self, state: PageState) -> list[Any]:
        """The same from a link."""
        return [(state.layer, state.matrix, state.neuron), (0, "")]


def neuron_matrices(heatmap: Heatmap, layer: str) -> list[str]:
    """The matrices of a layer that have neurons: those with a parallel part."""
    row = heatmap.rows.index(layer)
    values = heatmap.parallel[row]
    return [column for place, column in enumerate(heatmap.columns) if values[place] == values[place]]


def direction_choices(detail: NeuronDetail) -> list[tuple[str, int]]:
    """The singular directions with their share of what the experts want across the axis."""
    energy = detail.singular**2
    total = float(energy.sum())
    if total <= 0:
        return []
    return [(f"{place + 1} ({100 * share / total:.0f} % of the change)", place) for place, share in enumerate(energy)]


def caption(detail: NeuronDetail, direction: int) -> str:
    """One line above the pictures."""
    unsure = " Its vote is a close call: a tiny change of the weights could turn it." if detail.ill_conditioned else ""
    return (
        f"<p class='nm-caption'><b>{detail.layer} · {detail.matrix} · neuron {detail.index}</b>, seen along direction "
        f"{direction + 1} of {len(detail.singular)}.{unsure}</p>"
    )


def vote_table(detail: NeuronDetail, titles: dict[str, str]) -> str:
    """Every expert's parallel coefficient, alpha, and place along each direction."""
    shown = min(len(detail.singular), 8)
    head = ["Expert", "c (parallel)", "alpha", *(f"direction {place + 1}" for place in range(shown))]
    rows = [
        [
            titles.get(task, task),
            number(detail.c[place]),
            number(detail.alpha[place]),
            *(number(value) for value in detail.scores[place, :shown]),
        ]
        for place, task in enumerate(detail.tasks)
    ]
    merged = ["Merge (elected)", number(detail.c_merged), "–", *(number(value) for value in detail.elected[:shown])]
    return table("What each expert wants of this neuron", head, [*rows, merged])
