"""The Merge tab: what the merge on screen scores on every task."""

from __future__ import annotations

import gradio as gr

from neuromerge.exploration.results import AccuracyBoard
from neuromerge.figures.accuracy import accuracy_bars
from neuromerge.interface.components.readout import readout
from neuromerge.interface.components.tables import accuracy_table
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.state import TabState
from neuromerge.interface.tab import Tab


class MergeTab(Tab[TabState]):
    """Grouped bars of accuracy per task; drawn together with the readout, which needs the same numbers."""

    key = "merge"
    title = "Merge"
    scored = True

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

    def draw_scores(self, moment: Moment, board: AccuracyBoard) -> Changes:
        """Bars and table."""
        titles = self.page.controls.titles(moment.setting)
        return {self.bars: accuracy_bars(board, titles), self.table: accuracy_table(board, titles)}

    def wire(self, events: Events) -> None:
        """Run the final test on its button, and only there."""
        events.listen(
            self.test.click,
            self.final_test,
            [self.page.readout, *self.outputs],
            lane="heavy",
            show_progress="full",
            show_progress_on=self.bars,
        )

    def final_test(self, moment: Moment) -> Changes:
        """Everything on the test split."""
        board = moment.board("test")
        shown = readout(moment.setting, board, moment.workspace.summary())
        return {self.page.readout: shown, **self.draw_scores(moment, board)}
