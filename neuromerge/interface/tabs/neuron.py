"""The Neuron tab: the whole method on one real neuron."""

from __future__ import annotations

from dataclasses import dataclass, replace

import gradio as gr
import numpy as np

from neuromerge.errors import SettingError
from neuromerge.exploration.results import Heatmap, NeuronDetail
from neuromerge.figures import neuron as neuron_figures
from neuromerge.figures.figure import message
from neuromerge.interface.components.pictures import sample_sheet
from neuromerge.interface.components.tables import number, table
from neuromerge.interface.components.text import LATEX
from neuromerge.interface.components.walk import walk
from neuromerge.interface.events import Events
from neuromerge.interface.guard import warn
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.state import CELL, NEURON, CellName, TabState, linked
from neuromerge.interface.tab import Tab

MEASURE = "energy_share"
"""Any measure would do: its heatmap says which layers and matrices there are."""

READING = r"""
**The plane** is that of the neuron's own weights $w_0$ and one direction at a right angle to them. Thin arrows are what
the experts want, the thick one is what the merge does. **The answers:** each point is one real input $x$ of
this neuron, from the base model and held fixed (biases left out); point at it to see the picture. Across: the neuron's
answer before the merge, $w_0 \cdot x$. Up: its answer after. Without a change all points lie on the dotted diagonal,
whose slope is 1. A change *along* $w_0$ makes the slope 1 + something: **sensitivity**. A change *across* moves points
off the line: **adaptation**.
"""


@dataclass(frozen=True)
class NeuronState(TabState):
    """The neuron and how it is looked at.

    `cell` None is a cell from the middle of the network, `index` None its most contested neuron. `direction` counts
    the singular directions; `images` is the task whose pictures give the inputs, "" the first one; `sheet` names the
    sample pictures that the browser has.
    """

    cell: CellName | None = linked("cell", None, CELL, of_family=True)
    index: int | None = linked("n", None, NEURON, of_family=True, beside="cell")
    direction: int = 0
    images: str = ""
    sheet: str = ""


class NeuronTab(Tab[NeuronState]):
    """The plane of arrows, the answers to real inputs, and the vote in each direction."""

    key = "neuron"
    title = "Neuron"
    state = NeuronState

    def build(self) -> None:
        """Make the menus that choose a neuron, and its pictures."""
        gr.HTML(
            "<div class='nm-head'><h2>One neuron</h2><p>The method works neuron by neuron. Here is one of the "
            "thousands, with its real numbers. Move a coefficient of the merge and watch.</p></div>"
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
        with gr.Row(elem_classes="nm-figures", elem_id="neuron-figures"):
            self.plane = PlotlyView(label="The neuron's plane", height=400, elem_id="neuron-plane", min_width=280)
            self.answers = PlotlyView(
                label="Answers before and after", height=400, elem_id="neuron-answers", min_width=280
            )
        self.walk = gr.HTML("", elem_id="neuron-walk")
        gr.Markdown(READING, latex_delimiters=LATEX, elem_classes="nm-explanation")
        self.vote_reading = gr.HTML("", elem_id="neuron-vote-reading")
        self.votes = PlotlyView(label="The vote in each direction", height=300, elem_id="neuron-votes")
        with gr.Accordion("The same numbers as a table", open=False):
            self.table = gr.HTML("", elem_id="neuron-table")
        self.sheet = gr.HTML("", elem_id="neuron-samples")
        self.outputs = [
            self.layer,
            self.matrix,
            self.index,
            self.direction,
            self.images,
            self.caption,
            self.plane,
            self.answers,
            self.walk,
            self.vote_reading,
            self.votes,
            self.table,
            self.sheet,
        ]

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> Changes:
        """The open neuron; at first a contested one from the middle of the network."""
        try:
            changes = self._draw(moment)
        except SettingError as error:
            if self.shown(moment).index is None:
                raise
            warn(str(error))  # a neuron of a link or of another family: its matrix has none of that number
            return self._show(moment, replace(self.shown(moment), index=None))
        if changes[self.held].index == self.shown(moment).index:
            del changes[self.index]  # somebody may be typing another number into it
        return changes

    def _draw(self, moment: Moment) -> Changes:
        """The neuron that the state names, and the menus that lead to others."""
        heatmap = moment.workspace.heatmap(MEASURE)
        state = self._resolved(moment, heatmap)
        assert state.cell is not None
        assert state.index is not None
        titles = self.page.controls.titles(moment.setting)
        detail = moment.workspace.neuron(state.cell, state.index, state.images)
        directions = direction_choices(detail)
        direction = state.direction if 0 <= state.direction < len(directions) else 0
        layers = [name for name in heatmap.rows if neuron_matrices(heatmap, name)]
        return {
            **self._sheet(moment, replace(state, direction=direction)),
            self.layer: gr.update(choices=layers, value=state.cell.layer),
            self.matrix: gr.update(choices=neuron_matrices(heatmap, state.cell.layer), value=state.cell.matrix),
            self.index: gr.update(value=state.index),
            self.direction: gr.update(choices=directions, value=direction if directions else None),
            self.images: gr.update(choices=[(title, name) for name, title in titles.items()], value=state.images),
            self.caption: caption(detail, direction),
            self.plane: neuron_figures.neuron_plane(detail, direction, titles),
            self.answers: neuron_figures.pre_activations(detail, direction),
            self.walk: walk(detail, direction, titles),
            self.vote_reading: vote_reading(detail),
            self.votes: neuron_figures.votes(detail, titles) if detail.vote else message(""),
            self.table: vote_table(detail, titles),
        }

    def _sheet(self, moment: Moment, state: NeuronState) -> Changes:
        """The state, and the sample pictures where the browser has others."""
        wanted = f"{moment.setting.family} {state.images}"
        if state.sheet == wanted:
            return self.hold(state)
        sheet = sample_sheet(moment.workspace.input_pictures(state.images))
        return {**self.hold(replace(state, sheet=wanted)), self.sheet: sheet}

    def _resolved(self, moment: Moment, heatmap: Heatmap) -> NeuronState:
        """The state with a neuron that exists: the one asked for, or the most contested one of its matrix."""
        state = self.shown(moment)
        usable = [name for name in heatmap.rows if neuron_matrices(heatmap, name)]
        layer, matrix = state.cell or CellName("", "")
        if layer not in usable:
            layer = usable[len(usable) // 2]
        matrices = neuron_matrices(heatmap, layer)
        if matrix not in matrices:
            matrix = "fc1" if "fc1" in matrices else matrices[0]
        cell = CellName(layer, matrix)
        index = state.index if state.cell in (None, cell) else None
        if index is None:
            index = self._contested(moment, cell)[0]
        titles = self.page.controls.titles(moment.setting)
        images = state.images if state.images in titles else next(iter(titles), "")
        return replace(state, cell=cell, index=index, images=images)

    def _contested(self, moment: Moment, cell: CellName) -> list[int]:
        detail = moment.workspace.layer(cell, "contested")
        return [neuron.index for neuron in detail.contested] or [0]

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events) -> None:
        """Another neuron, direction or task of the inputs: what was asked for is shown, whatever moves meanwhile."""
        shown = self.outputs
        menus, looks = [self.layer, self.matrix], [self.direction, self.images]
        events.listen([menu.input for menu in menus], self.choose, shown, extra=menus, lasting=True)
        events.listen([self.index.submit, self.index.blur], self.choose_index, shown, extra=[self.index], lasting=True)
        events.listen(self.contested.click, self.next_contested, shown, lasting=True)
        events.listen([menu.input for menu in looks], self.look, shown, extra=looks, lasting=True)

    def go(self, moment: Moment, cell: CellName, index: int) -> Changes:
        """Another neuron, for when the tab is opened."""
        return self.hold(replace(self.shown(moment), cell=cell, index=index))

    def choose(self, moment: Moment) -> Changes:
        """Another layer or matrix, at its most contested neuron."""
        if not moment.value(self.layer):
            return {}  # the menu was only looked at
        cell = CellName(moment.value(self.layer), moment.value(self.matrix))
        return self._show(moment, replace(self.shown(moment), cell=cell, index=None))

    def choose_index(self, moment: Moment) -> Changes:
        """Another neuron of the same matrix."""
        index = moment.value(self.index)
        if index is not None and (isinstance(index, bool) or not isinstance(index, (int, float)) or index % 1):
            raise SettingError("The neuron is a whole number, counted from 0.")
        return self._show(moment, replace(self.shown(moment), index=None if index is None else int(index)))

    def next_contested(self, moment: Moment) -> Changes:
        """The neuron after this one in the list of contested ones; the first after the last."""
        state = self.shown(moment)
        if state.cell is None:
            return self.draw(moment)
        contested = self._contested(moment, state.cell)
        after = contested.index(state.index) + 1 if state.index in contested else 0
        return self._show(moment, replace(state, index=contested[after % len(contested)]))

    def look(self, moment: Moment) -> Changes:
        """Along another direction, or on another task's pictures."""
        direction, images = moment.value(self.direction), moment.value(self.images)
        seen = replace(
            self.shown(moment),
            direction=direction if isinstance(direction, int) else 0,
            images=images if isinstance(images, str) else "",
        )
        return self._show(moment, seen)

    def _show(self, moment: Moment, state: NeuronState) -> Changes:
        return self._draw(moment.showing(self.key, state))


def neuron_matrices(heatmap: Heatmap, layer: str) -> list[str]:
    """The matrices of a layer that have neurons: those with a parallel part."""
    values = heatmap.parallel[heatmap.rows.index(layer)]
    return [column for column, value in zip(heatmap.columns, values, strict=True) if not np.isnan(value)]


def direction_choices(detail: NeuronDetail) -> list[tuple[str, int]]:
    """The singular directions with their share of what the experts want across the axis."""
    energy = detail.singular**2
    total = float(energy.sum())
    if total <= 0:
        return []
    return [(f"{place + 1} ({100 * share / total:.0f} % of the change)", place) for place, share in enumerate(energy)]


def caption(detail: NeuronDetail, direction: int) -> str:
    """One line above the pictures."""
    voted = "" if detail.vote else " This method does not vote over neurons."
    unsure = " Its vote is a close call: a tiny change of the weights could turn it." if detail.ill_conditioned else ""
    return (
        f"<p class='nm-caption'><b>{detail.layer} · {detail.matrix} · neuron {detail.index}</b>, seen along direction "
        f"{direction + 1} of {len(detail.singular)}.{unsure}{voted}</p>"
    )


def vote_reading(detail: NeuronDetail) -> str:
    """HTML above the vote: what its signs mean."""
    if detail.vote == "published":
        text = (
            "<b>The vote.</b> A column is a direction v in which the arrows differ; a number U is an expert's wish "
            "there. The sign with the larger sum wins; wishes of the other sign are left out: they stand "
            "<b>in brackets</b>. <b>Elected</b> is e, the mean of the rest. The bars are the weights <b>α = U e</b>: "
            "over all directions, wish times what was elected, added up. 1 adds an expert's part whole, 0 drops it, "
            "below 0 turns it around."
        )
    elif detail.vote == "balanced":
        text = (
            "<b>The balanced vote</b> elects no signs. It chooses all weights <b>α</b> together, so that every expert "
            "finds its own part whole in the sum. 1 adds an expert's part whole, 0 drops it, below 0 turns it around."
        )
    else:
        return ""
    return f"<p class='nm-caption'>{text}</p>"


def vote_table(detail: NeuronDetail, titles: dict[str, str]) -> str:
    """Every expert's parallel coefficient, weight alpha where there is a vote, and place along each direction."""
    shown = min(len(detail.singular), 8)
    voted = bool(detail.vote)
    head = [
        "Expert",
        "c (parallel)",
        *(["alpha"] if voted else []),
        *(f"direction {place + 1}" for place in range(shown)),
    ]
    rows = [
        [
            titles.get(task, task),
            number(detail.c[place]),
            *([number(detail.alpha[place])] if voted else []),
            *(number(value) for value in detail.scores[place, :shown]),
        ]
        for place, task in enumerate(detail.tasks)
    ]
    step, rise = neuron_figures.merged_change(detail)
    merged = ["Merge", number(step), *(["–"] if voted else []), *(number(float(value)) for value in rise[:shown])]
    return table("What each expert wants of this neuron, and what the merge does", head, [*rows, merged])
