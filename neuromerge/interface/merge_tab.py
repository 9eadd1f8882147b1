"""The Merge tab: what the merge on screen scores on every task."""

from __future__ import annotations

from typing import Any

import gradio as gr

from neuromerge.exploration.results import AccuracyBoard
from neuromerge.figures.accuracy import accuracy_bars
from neuromerge.interface.page import Moment, Tab
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.readout import readout
from neuromerge.interface.tables import accuracy_table


class MergeTab(Tab):
    """Grouped bars of accuracy per task; drawn together with the readout, which needs the same numbers."""

    key = "merge"
    title = "Merge"

    def build(self) -> None:
        """Make the figure, its table twin and the button for the test split."""
        gr.HTML(
            "<div class='nm-head'><h2>Accuracy per task</h2><p>One model, merged from all chosen experts, takes every "
            "task. How close does it come to each expert on its own ground?</p></div>"
        )
        self.bars = PlotlyView(label="Accuracy per task", height=420, elem_id="accuracy-bars")
        with gr.Row(elem_classes="nm-actions"):
            self.test = gr.Button("Run the final test", size="sm", elem_id="final-test", min_width=0, scale=0)
            gr.HTML(
                "<p class='nm-hint'>Everything above is measured on validation images, so that you may tune as you "
                "like. The test images are for the end: look once.</p>"
            )
        with gr.Accordion("The same numbers as a table", open=False, elem_id="accuracy-table-box"):
            self.table = gr.HTML("", elem_id="accuracy-table")
        self.outputs = [self.bars, self.table]

    def draw(self, moment: Moment) -> list[Any]:
        """Bars and table on the quick split: what is cached or costs least."""
        return self.show(moment, self.board(moment, "quick"))

    def board(self, moment: Moment, split: str) -> AccuracyBoard:
        """The accuracies of the moment's merge, of the pinned one and of the one before."""
        return moment.workspace.board(
            moment.setting,
            split,
            pinned=moment.pinned,
            pinned_label=moment.pinned_label,
            previous=moment.session.previous(moment.setting),
            job=moment.job,
        )

    def show(self, moment: Moment, board: AccuracyBoard) -> list[Any]:
        """Values of `outputs` for a board."""
        titles = self.page.controls.titles(moment.setting)
        return [accuracy_bars(board, titles), accuracy_table(board, titles)]

    def wire(self) -> None:
        """Run the final test on its button, and only there."""
        self.page.listen(
            self.test.click,
            self._final_test,
            [self.page.readout, *self.outputs],
            lane="heavy",
            show_progress="full",
            show_progress_on=self.bars,
        )

    def _final_test(self, moment: Moment) -> list[Any]:
        board = self.board(moment, "test")
        summary = moment.workspace.summary(moment.setting)
        return [readout(moment.setting, board, summary), *self.show(moment, board)]
