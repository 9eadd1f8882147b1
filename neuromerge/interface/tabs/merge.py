"""The Merge tab: what the merge on screen scores on every task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import gradio as gr

from neuromerge.exploration.results import AccuracyBoard
from neuromerge.figures.accuracy import accuracy_bars
from neuromerge.interface.components.first_look import first_look
from neuromerge.interface.components.readout import readout
from neuromerge.interface.components.strength_curve import StrengthCurveView
from neuromerge.interface.components.tables import accuracy_table
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.state import TabState
from neuromerge.interface.tab import Tab


@dataclass(frozen=True)
class MergeState(TabState):
    """How often this page has looked at the test images."""

    looks: int = 0


class MergeTab(Tab[MergeState]):
    """What is merged here, and bars of accuracy per task; drawn together with the readout, from the same numbers."""

    key = "merge"
    title = "Merge"
    state = MergeState
    scored = True

    def build(self) -> None:
        """Make the figure, its table twin and the button for the test split."""
        gr.HTML("<h2 class='nm-unseen'>What is merged, and its accuracy per task</h2>")
        with gr.Row(elem_classes="nm-beside"):
            with gr.Column(scale=5, min_width=760):
                self.look = gr.HTML("", elem_id="first-look")
                self.bars = PlotlyView(label="Accuracy per task", height=420, elem_id="accuracy-bars")
            with gr.Column(scale=3, min_width=300):
                self.strength = StrengthCurveView(self.page)
                self.strength.build()
        with gr.Row(elem_classes="nm-actions"):
            self.test = gr.Button("Run the final test", size="sm", elem_id="final-test", min_width=0, scale=0)
            self.hint = gr.HTML(split_hint("validation", 0), elem_id="split-hint")
        with gr.Accordion("The same numbers as a table", open=False, elem_id="accuracy-table-box"):
            self.table = gr.HTML("", elem_id="accuracy-table")
        self.filled = self.strength.outputs
        self.outputs = [self.look, self.bars, self.table, self.hint, *self.filled]

    def draw_scores(self, moment: Moment, board: AccuracyBoard) -> Changes:
        """What base, expert and merge say of two pictures; bars and table."""
        titles, retention = self.page.controls.titles(moment.setting), moment.workspace.summary().retention
        family = self.page.controls.family_called(moment.setting.family)
        # Pictures that tell the models apart are known when base and experts are.
        examples = () if board.awaited else moment.workspace.examples()
        return {
            self.look: first_look(family, moment.setting, examples, titles),
            self.bars: accuracy_bars(board, titles),
            self.table: accuracy_table(board, titles, retention),
            self.hint: split_hint(board.split, self.shown(moment).looks),
            **self.strength.draw(moment),
        }

    def fill_in(self, moment: Moment) -> Iterator[Changes]:
        """The strength curve, point after point."""
        yield from self.strength.fill_in(moment)

    def put_off(self, moment: Moment) -> Changes:
        """Said below the strength curve."""
        return self.strength.put_off(moment)

    def wire(self, events: Events) -> None:
        """Run the final test on its button, and only there; take a strength that was clicked."""
        self.strength.wire(events)
        events.listen(
            self.test.click,
            self.final_test,
            [self.page.readout, *self.outputs],
            lane="heavy",
            show_progress="minimal",
            show_progress_on=self.bars,
        )

    def final_test(self, moment: Moment) -> Iterator[Changes]:
        """Everything on the test split; of a large family on ever more of it, until the controls move."""
        state = replace(self.shown(moment), looks=self.shown(moment).looks + 1)
        looking = moment.showing(self.key, state)
        for board in moment.growing_board("test"):
            shown = readout(moment.setting, board, moment.workspace.summary())
            yield {self.page.readout: shown, **self.hold(state), **self.draw_scores(looking, board)}


def split_hint(split: str, looks: int) -> str:
    """HTML that says which pictures the numbers come from, and what a look at the test images means.

    Args:
        split: of the numbers on screen.
        looks: how often the page has looked at the test images, this time included.
    """
    if split != "test":
        text = "Everything above is measured on validation images, so that you may tune as you like. " + (
            f"You have looked at the test images {count(looks)}: what you choose after that is tuned on them, too."
            if looks
            else "The test images are for the end: look once."
        )
    elif looks < 2:
        text = (
            "Everything above is measured on the test images: this was the one look. The next change "
            "shows validation again."
        )
    else:
        text = (
            f"Everything above is measured on the test images, and this is look number {looks}: a setting chosen by "
            "several looks is tuned on them, and its score is no longer a fair one."
        )
    return f"<p class='nm-hint' role='status'>{text}</p>"


def count(looks: int) -> str:
    """How often, in words."""
    return "once" if looks == 1 else f"{looks} times"
