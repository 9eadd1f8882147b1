"""The view of the Interference tab that sets tasks against tasks: who pulls against whom, and who pays."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr
import numpy as np

from neuromerge.errors import SettingError
from neuromerge.exploration.results import BetweenTasks, Heatmap
from neuromerge.figures.interference import kept_shares, pairs_headline, task_pairs
from neuromerge.interface.components.sentence import sentence_html, sentence_links
from neuromerge.interface.components.tables import number, table
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.plotly_view import PlotlyView, read_pick
from neuromerge.interface.state import CellName

SCOPES = {"model": "The whole model", "layer": "The open layer", "cell": "The open cell"}
"""Which part of the network is looked at."""

EVERYONE = ("All tasks", "")


class TasksView:
    """The view's components. The tab that shows it listens to them and knows what is open."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def build(self) -> None:
        """Make the components in the current layout context."""
        gr.HTML(
            "<p class='nm-caption'><b>Conflict</b> of two tasks is minus the cosine between what they want to change: "
            "above 0 they pull against each other, below 0 they go together. Click a pair to open the place where it "
            "conflicts most.</p>"
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.scope = gr.Radio(
                [(title, key) for key, title in SCOPES.items()],
                value="model",
                label="Over",
                elem_id="pairs-scope",
                elem_classes="nm-pills",
                min_width=320,
            )
            self.only = gr.Dropdown(
                [EVERYONE],
                value="",
                label="Task",
                elem_id="pairs-task",
                min_width=140,
                allow_custom_value=True,  # a link's task is there before the choices are
            )
        self.sentence = sentence_links("pairs-sentence")
        self.pairs = PlotlyView(label="Conflict between tasks", height=400, elem_id="task-pairs")
        gr.HTML("<div class='nm-head'><h3>Who pays: what the merge keeps of each task's own change</h3></div>")
        self.kept = PlotlyView(label="Kept by each task", height=320, elem_id="task-kept")
        with gr.Accordion("The same numbers as a table", open=False, elem_id="pairs-table-box"):
            self.table = gr.HTML("", elem_id="pairs-table")
        self.outputs = [self.only, self.sentence, self.pairs, self.kept, self.table]

    def numbers(self, moment: Moment, scope: str, cell: CellName | None) -> BetweenTasks:
        """What the view shows at a moment; the whole model where no cell is open."""
        layer = cell.layer if cell is not None and scope in ("layer", "cell") else ""
        matrix = cell.matrix if cell is not None and scope == "cell" else ""
        return moment.workspace.between_tasks(layer, matrix)

    def draw(self, moment: Moment, scope: str, only: str, cell: CellName | None, heatmap: Heatmap) -> Changes:
        """The view.

        Args:
            scope: a key of `SCOPES`.
            only: the task whose row alone is shown; all where it is empty or not merged.
            cell: the open cell, which this family has; None where none is open.
            heatmap: the map whose rows and columns links to cells count.
        """
        between = self.numbers(moment, scope, cell)
        titles = self.page.controls.titles(moment.setting)
        only = only if only in between.tasks else ""
        missing = (
            "<p class='nm-caption'>No cell is open, so this is the whole model: open one on the map, or choose a layer "
            "and a matrix below.</p>"
        )
        told = sentence_html(pairs_headline(between, heatmap, titles, only))
        return {
            self.only: gr.update(choices=[EVERYONE, *((titles.get(t, t), t) for t in between.tasks)], value=only),
            self.sentence: told + (missing if scope != "model" and cell is None else where_html(between)),
            self.pairs: task_pairs(between, titles, only),
            self.kept: kept_shares(between, titles, only),
            self.table: pairs_table(between, titles),
        }

    def clicked(self, moment: Moment, scope: str, only: str, cell: CellName | None) -> CellName:
        """The cell where the clicked pair conflicts most. Raises SettingError for what is no pair."""
        between = self.numbers(moment, scope, cell)
        count = len(between.tasks)
        size = (1 if only in between.tasks else count, count)
        pick = read_pick(moment.event, {"parallel": size, "orthogonal": size})
        row = between.tasks.index(only) if only in between.tasks else pick.row
        if row == pick.column:
            raise SettingError("A task does not pull against itself. Click a pair of two tasks.")
        place = between.places[min(row, pick.column), max(row, pick.column)]
        return CellName(place.layer, place.matrix)


def where_html(between: BetweenTasks) -> str:
    """Which part of the network the numbers are of; "" for all of it."""
    if not between.layer:
        return ""
    where = f"{between.layer} · {between.matrix}" if between.matrix else f"all of {between.layer}"
    return f"<p class='nm-caption'>Over <b>{where}</b>.</p>"


def pairs_table(between: BetweenTasks, titles: Mapping[str, str]) -> str:
    """Every pair with its conflict and where it conflicts most; every task with what it keeps."""
    names = [titles.get(task, task) for task in between.tasks]
    pairs = [
        [
            f"{names[a]}, {names[b]}",
            *(number(between.conflict[part][a, b]) for part in ("parallel", "orthogonal", "both")),
            f"{place.layer} {place.matrix}, {place.subspace}",
        ]
        for (a, b), place in between.places.items()
    ]
    kept = [
        [
            name,
            *(_percent(between.kept[part][at]) for part in ("parallel", "orthogonal", "both")),
            _percent(between.share[at]),
        ]
        for at, name in enumerate(names)
    ]
    first = table(
        "Conflict of every two tasks: above 0 against each other, below 0 together",
        ["Tasks", "Parallel", "Orthogonal", "Both", "Most of it in"],
        pairs,
    )
    second = table(
        "What each task keeps of its own change, and its share of all change",
        ["Task", "Parallel", "Orthogonal", "Both", "Share of all change"],
        kept,
    )
    return first + second


def _percent(share: float) -> str:
    return number(np.nan) if not np.isfinite(share) else f"{100 * share:.0f} %"
