"""The strength curve of the Merge tab: is the merge too weak, too strong, or in the middle of a wide hill?

What was measured before is drawn at once, with the accuracy; the rest is filled in point after point while the page
rests, and any move stops that. A click on a point gives the merge that strength.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from neuromerge.errors import SettingError
from neuromerge.exploration.results import StrengthCurve
from neuromerge.figures.figure import message
from neuromerge.figures.strength import strength_curve, words
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.plotly_view import PlotlyView, read_pick

EVERY_POINTS = 2
"""Points between two pictures: each is a message to the browser."""

PUT_OFF = "Many visitors wait, so the rest of this curve is not measured now. Leave the tab and come back to go on."


class StrengthCurveView:
    """The curve's components and events, for the tab that shows it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def build(self) -> None:
        """Make the components in the current layout context."""
        gr.HTML(
            "<div class='nm-head'><h2>How strong?</h2><p>The same merge with all its coefficients made smaller or "
            "larger together, on the pictures of the quick look: its numbers differ a little from those of all "
            "validation images above. Click a point to take it.</p></div>"
        )
        self.figure = PlotlyView(
            label="Accuracy against the strength of the merge", height=320, elem_id="strength-curve"
        )
        self.words = gr.HTML("", elem_id="strength-words")
        self.outputs: list[Any] = [self.figure, self.words]

    def draw(self, moment: Moment) -> Changes:
        """What was measured before."""
        return next(self._pictures(moment))

    def fill_in(self, moment: Moment) -> Iterator[Changes]:
        """The rest, while the page rests."""
        pictures = self._pictures(moment)
        next(pictures)  # is drawn already
        yield from pictures

    def put_off(self, moment: Moment) -> Changes:
        """Why the curve stays as it is."""
        if next(moment.workspace.strength_curve()).complete:
            return {}
        return {self.words: f"<p class='nm-caption'>{html.escape(PUT_OFF)}</p>"}

    def _pictures(self, moment: Moment) -> Iterator[Changes]:
        """The curve as it grows: this merge's first, then that of what it is compared with."""
        chosen = moment.chosen
        try:
            own = moment.workspace.strength_curve()
            curve = next(own)
            compared = None if chosen.pinned is None else next(moment.workspace.strength_curve(chosen.pinned))
            yield self._picture(curve, compared, chosen.pinned_label)
            for place, grown in enumerate(own, 1):
                curve = grown
                if place % EVERY_POINTS == 0 or curve.complete:
                    yield self._picture(curve, compared, chosen.pinned_label)
            if chosen.pinned is not None:
                for place, grown in enumerate(moment.workspace.strength_curve(chosen.pinned)):
                    compared = grown
                    if place and (place % EVERY_POINTS == 0 or compared.complete):
                        yield self._picture(curve, compared, chosen.pinned_label)
        except SettingError as error:
            yield {self.figure: message(str(error)), self.words: ""}

    def _picture(self, curve: StrengthCurve, compared: StrengthCurve | None, label: str) -> Changes:
        said = words(curve)
        few = f" Measured on {curve.images:,} validation pictures: steps of a point or two may be chance."
        return {
            self.figure: strength_curve(curve, compared, label),
            self.words: f"<p class='nm-caption'>{html.escape(said + few)}</p>",
        }

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events) -> None:
        """A clicked point."""
        events.listen(self.figure.cell, self.take, self.page.settable)

    def take(self, moment: Moment) -> Changes:
        """Give the merge the strength of the clicked point."""
        curve = next(moment.workspace.strength_curve())
        times = float(curve.strengths[read_pick(moment.event, {"strength": curve.strengths.shape}).index])
        return self.page.set_controls(moment.workspace.at_strength(times))
