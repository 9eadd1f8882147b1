"""Two merges on the map: the one that this is compared with, on the same scale, or the difference of the two."""

from __future__ import annotations

import html
from collections.abc import Collection

import gradio as gr

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.figure import message
from neuromerge.figures.interference import as_table, difference, headline, interference_heatmaps
from neuromerge.interface.components.sentence import sentence_html, sentence_links
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.plotly_view import PlotlyView

VERSUS = {"none": "Nothing", "beside": "The other merge, same scale", "difference": "The difference"}
"""What stands under the map."""

NOTHING_CHOSEN = "Choose a merge under Compare with, or pin one: its map is shown here."


class VersusView:
    """The components under the map. The tab listens to them and draws the map itself."""

    def build(self) -> None:
        """Make the components in the current layout context."""
        self.choice = gr.Radio(
            [(title, key) for key, title in VERSUS.items()],
            value="none",
            label="Under the map",
            elem_id="versus",
            elem_classes="nm-pills",
        )
        with gr.Column(visible=False) as self.column:
            self.title = gr.HTML("", elem_id="versus-title", elem_classes="nm-head")
            self.sentence = sentence_links("versus-sentence")
            self.figure = PlotlyView(label="The map of another merge", height=400, elem_id="versus-map")
            with gr.Accordion("The same numbers as a table", open=False, elem_id="versus-table-box"):
                self.table = gr.HTML("", elem_id="versus-table")
        self.outputs = [self.title, self.sentence, self.figure, self.table]

    def other(self, moment: Moment, choice: str, key: str) -> Heatmap | None:
        """The map of what the merge is compared with; None where it is not shown or nothing is compared."""
        pinned = moment.chosen.pinned
        return None if choice == "none" or pinned is None else moment.workspace.heatmap(key, of=pinned)

    def draw(
        self,
        moment: Moment,
        choice: str,
        heatmap: Heatmap,
        other: Heatmap | None,
        selected: tuple[int, int] | None,
        picked: Collection[tuple[int, int]],
    ) -> Changes:
        """What stands under the map."""
        if choice == "none":
            return {}
        if other is None:
            return {
                self.title: "",
                self.sentence: "",
                self.figure: message(NOTHING_CHOSEN),
                self.table: "",
            }
        pinned, label = moment.chosen.pinned, moment.chosen.pinned_label
        tasks = len((pinned or moment.setting).tasks)
        if choice == "difference":
            other, beside = difference(heatmap, other), None
            title = f"This merge minus {label}"
        else:
            beside, title = heatmap, label
        return {
            self.title: f"<h3>{html.escape(title)}</h3>",
            self.sentence: sentence_html(headline(other, tasks)),
            self.figure: interference_heatmaps(other, tasks=tasks, selected=selected, beside=beside, picked=picked),
            self.table: as_table(other, tasks),
        }
