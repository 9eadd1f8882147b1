"""The view of the Interference tab on what the network computes: how far its features are from its experts'."""

from __future__ import annotations

import html
from collections.abc import Mapping

import gradio as gr

from neuromerge.exploration.results import Drift
from neuromerge.figures.interference import drift_headline, drift_heatmaps
from neuromerge.interface.components.sentence import sentence_html, sentence_links
from neuromerge.interface.components.tables import number, table
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.plotly_view import PlotlyView, read_pick


class DriftView:
    """The view's components. The tab that shows it listens to them."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def build(self) -> None:
        """Make the components in the current layout context."""
        gr.HTML(
            "<p class='nm-caption'>Each task's own pictures go through the merged network and through that task's "
            "expert. <b>Drift</b> is 1 − cosine between their class tokens after a block, averaged over the pictures: "
            "0 is what the expert computes. The <b>common share</b> is how much of the difference is the same shift on "
            "every picture; of n unrelated differences it is about 1/n. Measured on the quick pictures, in the pass "
            "that measures the accuracy. Click a cell to act on its block.</p>"
        )
        self.sentence = sentence_links("drift-sentence")
        self.heatmap = PlotlyView(label="Drift by block and task", height=360, elem_id="drift")
        with gr.Accordion("The same numbers as a table", open=False, elem_id="drift-table-box"):
            self.table = gr.HTML("", elem_id="drift-table")
        self.outputs = [self.sentence, self.heatmap, self.table]

    def draw(self, moment: Moment) -> Changes:
        """The view."""
        drift, titles = moment.workspace.drift(), self.page.controls.titles(moment.setting)
        return {
            self.sentence: sentence_html(drift_headline(drift, titles)) + unmeasured_html(drift, titles),
            self.heatmap: drift_heatmaps(drift, titles),
            self.table: drift_table(drift, titles),
        }

    def clicked(self, moment: Moment) -> str:
        """The layer of the block that was clicked or named. Raises SettingError for what is none."""
        drift = moment.workspace.drift()
        size = (len(drift.blocks), len(drift.tasks))
        return drift.blocks[read_pick(moment.event, {"drift": size, "common": size}).row]


def unmeasured_html(drift: Drift, titles: Mapping[str, str]) -> str:
    """Which merged tasks are not shown, and why."""
    told = "; ".join(f"{titles.get(task, task)}: {reason}" for task, reason in drift.unmeasured.items())
    return f"<p class='nm-caption'>Not measured: {html.escape(told)}</p>" if told else ""


def drift_table(drift: Drift, titles: Mapping[str, str]) -> str:
    """Drift of every block and task, the common share in brackets."""
    rows = [
        [block, *(_cell(far, share) for far, share in zip(drift.drift[at], drift.common[at], strict=True))]
        for at, block in enumerate(drift.blocks)
    ]
    return table(
        "Drift (1 − cosine to the expert's class token) after every block; in brackets its common share",
        ["Block", *(titles.get(task, task) for task in drift.tasks)],
        rows,
    )


def _cell(far: float, share: float) -> str:
    told = number(share)
    return f"{number(far)} ({told})"
