"""The panel under the map that acts on what the map shows: how much of the merge each part of the model takes.

Its sliders lay their factors over the shape that the sidebar holds (`Controls.edit`) without asking the server; its
buttons make a new shape. Either way the page follows as it follows any moved control, and undo, links, recipes and
exports have the result, because it is part of the setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from neuromerge.errors import SettingError
from neuromerge.exploration.results import Heatmap
from neuromerge.figures.interference import headline
from neuromerge.interface.components.sliders import Sliders
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.state import CellName
from neuromerge.merging import registry
from neuromerge.merging.linear import LAMBDAS, Part
from neuromerge.merging.profile import REST, as_mapping, make_profile
from neuromerge.settings.shapes import (
    CURVES,
    added,
    factor_of,
    joined,
    over_depth,
    read_curve,
    scaled,
    split,
    with_factor,
)

AIMS = {
    "cell": "This cell",
    "cells": "Selected cells",
    "layer": "The whole layer",
    "matrix": "This matrix in every layer",
    "depth": "Every block: a depth curve",
}
"""What the sliders act on, given the cell that is open and those that are selected."""

TITLES: Mapping[Part, str] = {
    "parallel": "λ₁ (parallel): how strongly neurons answer",
    "orthogonal": "λ₂ (orthogonal): what neurons answer to",
    "pointwise": "Norms and biases",
}
WHOLE = "Strength of the merge here"
STEP = 0.25
"""What the buttons add to a factor."""

CURVE_TITLES = {"even": "Even", "rising": "Rising (LiNeS)", "falling": "Falling", "middle": "Middle"}
CURVE_HINTS = {
    "even": "every block alike",
    "rising": "half strength in the first block, one and a half times in the last",
    "falling": "one and a half times in the first block, half strength in the last",
    "middle": "half strength at both ends, one and a half times in the middle",
}

_BLOCK = re.compile(r"(?:.* )?block \d+")

MOVED_ROWS = """
(rows) => [rows.filter((row) => row.moved).map(
  ({ parts, coefficient, value, shape }) => ({ parts, coefficient, value, shape })
)]
"""
"""The factors that a person has moved, as `Controls.edit` holds them."""


@dataclass(frozen=True)
class Target:
    """What the panel acts on: a key of `AIMS`, the open cell, the selected cells, and the map that has them."""

    aim: str
    cell: CellName | None
    picked: tuple[CellName, ...]
    heatmap: Heatmap

    @property
    def parts(self) -> list[str]:
        """The parts of the model that are meant, as profiles name them; none where nothing is open or selected."""
        if self.aim == "depth":
            return blocks_of(self.heatmap)
        if self.aim == "cells":
            return [f"{layer}/{matrix}" for layer, matrix in self.picked]
        if self.cell is None:
            return []
        return [{"layer": self.cell.layer, "matrix": self.cell.matrix}.get(self.aim, "/".join(self.cell))]

    @property
    def places(self) -> np.ndarray:
        """(rows, columns) of the map, bool: the cells that are meant."""
        heatmap, meant = self.heatmap, np.zeros(self.heatmap.orthogonal.shape, dtype=bool)
        for layer, matrix in self.picked if self.aim == "cells" else filter(None, [self.cell]):
            if layer in heatmap.rows and matrix in heatmap.columns:
                row: Any = heatmap.rows.index(layer)
                column: Any = heatmap.columns.index(matrix)
                meant[slice(None) if self.aim == "matrix" else row, slice(None) if self.aim == "layer" else column] = (
                    True
                )
        return meant


Aimed = Callable[[Moment], Target]
"""What the sliders act on at a moment."""


class StrengthPanel:
    """The panel's components and events. The tab that shows it says what it acts on."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def build(self) -> None:
        """Make the components in the current layout context."""
        with gr.Column(elem_id="strength", elem_classes="nm-strength"):
            self.title = gr.HTML(title_html(None, {}), elem_id="strength-title", elem_classes="nm-head")
            self.aim = gr.Radio(
                [(title, key) for key, title in AIMS.items()],
                value="cell",
                label="Acts on",
                elem_id="strength-aim",
                elem_classes="nm-pills",
            )
            self.sliders = Sliders([], label="Strength here", elem_id="strength-sliders")
            with gr.Row(elem_classes="nm-actions nm-buttons"):
                self.leave = _button("Leave at base (0)", "strength-leave")
                self.halve = _button("Halve", "strength-halve")
                self.double = _button("Double", "strength-double")
                self.less = _button(f"− {STEP:g}", "strength-less")
                self.more = _button(f"+ {STEP:g}", "strength-more")
                self.whole = _button("Back to 1", "strength-whole")
            with gr.Row(elem_classes="nm-actions nm-buttons"):
                gr.HTML("<span class='nm-label'>Over the depth</span>")
                self.curves = {key: _button(CURVE_TITLES[key], f"curve-{key}") for key in CURVES}
                self.typed = gr.Textbox(
                    label="Factors from the first block to the last",
                    show_label=False,
                    placeholder="or type: 0.5, 1, 1.5",
                    container=False,
                    max_lines=1,
                    elem_id="curve-typed",
                    min_width=150,
                    scale=0,
                )
            with gr.Row(elem_classes="nm-actions nm-buttons"):
                self.calm = _button("Base where conflict is highest", "strength-calm")
                self.reset = _button("Everything back to 1", "strength-reset")
                self.search = _button("Search this in Tune", "strength-search")
            gr.HTML(
                "<p class='nm-hint'>Depth curves: "
                + "; ".join(f"<b>{CURVE_TITLES[key]}</b>, {hint}" for key, hint in CURVE_HINTS.items())
                + ". <b>Base where conflict is highest</b> leaves the three most contested cells as they were before "
                "training. <b>Search this in Tune</b> lets a search find the factor of what is chosen here. Undo takes "
                "any of it back.</p>"
            )
        controls = self.page.controls
        self.shown = [self.title, self.sliders, controls.profile, controls.edit]
        # Read from the components themselves: what the browser collected last may be older than what set them.
        self.read = [controls.profile, controls.edit, controls.method]

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events, aimed: Aimed) -> None:
        """Listen; `aimed` tells what the panel acts on."""
        controls, signals = self.page.controls, self.page.signals
        moved = events.in_browser(self.sliders.moved, [self.sliders], [controls.edit], MOVED_ROWS)
        events.gather(moved.then, [controls.profile, controls.edit])
        shaped = [controls.profile, controls.edit, signals.controls_set]
        edits: list[tuple[Any, Callable[[Moment], Mapping[str, Any]]]] = [
            (self.leave.click, partial(self._leave, aimed)),
            (self.halve.click, partial(self._scale, aimed, 0.5)),
            (self.double.click, partial(self._scale, aimed, 2.0)),
            (self.less.click, partial(self._add, aimed, -STEP)),
            (self.more.click, partial(self._add, aimed, STEP)),
            (self.whole.click, partial(self._whole, aimed)),
            (self.reset.click, lambda moment: {}),
            (self.calm.click, self._calm),
            *((button.click, partial(self._curve, aimed, CURVES[key])) for key, button in self.curves.items()),
        ]
        for trigger, edit in edits:
            events.listen(trigger, partial(self._set, edit), shaped, extra=self.read, lasting=True)
        typed = [*shaped, self.typed]
        events.listen(
            self.typed.submit, partial(self._typed, aimed), typed, extra=[self.typed, *self.read], lasting=True
        )
        # What set the controls may have moved the factors; another method has other coefficients.
        follow = [self.aim.input, signals.controls_set.change, controls.method.change]
        events.listen(follow, partial(self._follow, aimed), self.shown, extra=self.read, lasting=True)

    def _follow(self, aimed: Aimed, moment: Moment) -> Changes:
        return self.draw(moment, aimed(moment))

    def draw(self, moment: Moment, target: Target) -> Changes:
        """The factors of the parts that the panel acts on."""
        controls, shape, method = self.page.controls, self._held(moment), moment.value(self.page.controls.method)
        names = registry.get_method(method).component_names
        return {
            self.title: title_html(target, split(shape, names)[1]),
            self.sliders: slider_rows(self._spelled_out(moment, shape), target, names),
            **controls.shaped(shape),
        }

    def shape(self, moment: Moment) -> dict[str, Any]:
        """The whole shape that the sidebar holds, spelled out: it can be edited."""
        return self._spelled_out(moment, self._held(moment))

    def _held(self, moment: Moment) -> dict[str, Any]:
        return self.page.controls.shape({component: moment.value(component) for component in self.read})

    def _spelled_out(self, moment: Moment, shape: dict[str, Any]) -> dict[str, Any]:
        names = registry.get_method(moment.setting.method).component_names
        usable, waiting = split(shape, names)
        if REST not in usable:
            return shape
        return joined(as_mapping(moment.workspace.spelled_out(make_profile(usable))), waiting, names)

    # ------------------------------------------------------------------------------------------- edits
    def _set(self, edit: Callable[[Moment], Mapping[str, Any]], moment: Moment) -> Changes:
        return self.page.announced(self.page.controls.shaped(edit(moment)))

    def parts(self, aimed: Aimed, moment: Moment) -> list[str]:
        """The parts that the panel acts on. Raises SettingError where there are none."""
        parts = aimed(moment).parts
        if not parts:
            raise SettingError("Click a cell of the map first, or drag over several: the factors act on them.")
        return parts

    def _leave(self, aimed: Aimed, moment: Moment) -> Mapping[str, Any]:
        shape: Mapping[str, Any] = self.shape(moment)
        for part in self.parts(aimed, moment):
            shape = with_factor(shape, part, "", 0.0, ())
        return shape

    def _whole(self, aimed: Aimed, moment: Moment) -> Mapping[str, Any]:
        shape: Mapping[str, Any] = self.shape(moment)
        for part in self.parts(aimed, moment):
            shape = with_factor(shape, part, "", 1.0, ())
        return shape

    def _scale(self, aimed: Aimed, by: float, moment: Moment) -> Mapping[str, Any]:
        shape: Mapping[str, Any] = self.shape(moment)
        names = registry.get_method(moment.setting.method).component_names
        for part in self.parts(aimed, moment):
            shape = scaled(shape, part, by, names)
        return shape

    def _add(self, aimed: Aimed, amount: float, moment: Moment) -> Mapping[str, Any]:
        shape: Mapping[str, Any] = self.shape(moment)
        names = registry.get_method(moment.setting.method).component_names
        for part in self.parts(aimed, moment):
            shape = added(shape, part, amount, names)
        return shape

    def _curve(self, aimed: Aimed, curve: Sequence[float], moment: Moment) -> Mapping[str, Any]:
        return over_depth(self.shape(moment), blocks_of(aimed(moment).heatmap), curve)

    def _typed(self, aimed: Aimed, moment: Moment) -> Changes:
        curve = read_curve(moment.value(self.typed))
        return {**self._set(partial(self._curve, aimed, curve), moment), self.typed: ""}

    def _calm(self, moment: Moment) -> Mapping[str, Any]:
        """The cells that the sentence names as most contested, left at the base: each in its own subspace."""
        heatmap = moment.workspace.heatmap("conflict")
        names = registry.get_method(moment.setting.method).component_names
        contested = headline(heatmap, len(moment.setting.tasks)).links[:-1]  # the last one is the calmest
        if not contested:
            raise SettingError("No cell is more contested than another: there is nothing to calm.")
        shape: Mapping[str, Any] = self.shape(moment)
        for link in contested:
            part: Part = "parallel" if link.source == "parallel" else "orthogonal"
            cell = f"{heatmap.rows[link.row]}/{heatmap.columns[link.column]}"
            shape = with_factor(shape, cell, coefficient_of(part, names), 0.0, names)
        return shape


# ------------------------------------------------------------------------------------------------ parts
def blocks_of(heatmap: Heatmap) -> list[str]:
    """The rows of the map that are blocks, from the first to the last."""
    return [row for row in heatmap.rows if _BLOCK.fullmatch(row)]


def coefficient_of(part: Part, names: Sequence[str]) -> str:
    """The coefficient that multiplies a part of the change; "" for the only one."""
    return LAMBDAS[part] if LAMBDAS[part] in names else ""


def slider_rows(shape: Mapping[str, Any], target: Target, names: Sequence[str]) -> list[dict[str, Any]]:
    """A slider for each coefficient of what is meant, or for each block of a depth curve.

    Each row brings the shape along that its factor is laid over, and says where its parts differ: it stands at their
    mean then.
    """
    parts = target.parts
    if target.aim == "depth":
        titled = [([part], "", part) for part in parts]
    else:
        titled = [(parts, name, title) for name, title in coefficients_of(target, names)] if parts else []
    rows = []
    for own, name, title in titled:
        factors = [factor_of(shape, part, name) for part in own]
        value = round(sum(factors) / len(factors), 4)
        differ = {"differ": True} if max(factors) != min(factors) else {}
        point = {"point": True} if target.aim == "depth" else {}
        rows.append(
            {"parts": own, "coefficient": name, "title": title, "value": value, "shape": shape, **differ, **point}
        )
    return rows


def coefficients_of(target: Target, names: Sequence[str]) -> list[tuple[str, str]]:
    """The coefficients that reach something of what the panel acts on, with their titles."""
    found: dict[str, str] = {}
    for part, title in TITLES.items():
        if np.isfinite(target.heatmap.factor(part)[target.places]).any():
            name = coefficient_of(part, names)
            found.setdefault(name, title if name else WHOLE)
    return list(found.items())


# ------------------------------------------------------------------------------------------------ words
def title_html(target: Target | None, waiting: Mapping[str, Any]) -> str:
    """What the panel acts on, and what its numbers mean."""
    where = "" if target is None else place_of_target(target)
    if target is not None and target.aim == "depth":
        says = (
            "Drag a point up or down, or focus it and use the arrow keys; the sliders below are the same numbers. 1 is "
            "the merge as it is, 0 leaves a block as it was before training."
        )
    elif where:
        says = "1 is the merge as it is, 0 leaves the weights as they were before training, 2 is twice as much."
    elif target is not None and target.aim == "cells":
        says = (
            "No cell is selected. Drag over cells of the map (on a touch screen hold a finger still, then drag), or "
            "hold Shift and walk with the arrow keys."
        )
    else:
        says = (
            "Click a cell of the map, drag over several, or click the name of a layer or a matrix beside it, to make "
            "the merge weaker or stronger there."
        )
    if waiting:
        says += f" Factors of another method wait on: {', '.join(waiting)}."
    return f"<h2>Strength here{': ' + escape(where) if where else ''}</h2><p>{escape(says)}</p>"


def place_of_target(target: Target) -> str:
    """In words; empty where nothing is open or selected."""
    cell, count = target.cell, len(target.picked)
    if target.aim == "depth":
        return "every block"
    if target.aim == "cells":
        return "" if not count else " · ".join(target.picked[0]) if count == 1 else f"{count} selected cells"
    if cell is None:
        return ""
    return {"layer": f"all of {cell.layer}", "matrix": f"{cell.matrix} in every layer"}.get(
        target.aim, " · ".join(cell)
    )


def _button(title: str, elem_id: str) -> gr.Button:
    return gr.Button(title, size="sm", min_width=0, scale=0, elem_id=elem_id)
