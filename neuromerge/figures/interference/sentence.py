"""The map in one sentence: where the measure is highest and lowest, with the cells to go to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.interference.columns import panels
from neuromerge.figures.numbers import minus, short
from neuromerge.merging.measures import Measure

HIGHEST = 3
"""Cells named at the high end; one is named at the low end."""


@dataclass(frozen=True)
class CellLink:
    """A cell that the sentence names; `source`, `row` and `column` are those of a click on it."""

    text: str
    source: str
    row: int
    column: int
    value: float


@dataclass(frozen=True)
class Sentence:
    """A sentence of words and cells, in order."""

    parts: tuple[str | CellLink, ...]

    @property
    def text(self) -> str:
        """The sentence without its links."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    @property
    def links(self) -> tuple[CellLink, ...]:
        """The cells that it names."""
        return tuple(part for part in self.parts if isinstance(part, CellLink))


def headline(heatmap: Heatmap, tasks: int | None = None) -> Sentence:
    """The three cells of neurons where the measure is highest and the one where it is lowest, and what that means.

    Panels that are flat, and the single numbers, which have a scale of their own, are left out.

    Args:
        heatmap: values (rows, columns) per subspace, NaN where there is no such part.
        tasks: number of merged tasks T, for the words about the values.
    """
    cells = sorted(_cells(heatmap), key=lambda cell: cell.value)
    measure = heatmap.measure
    if not cells:
        reason = heatmap.note_parallel or heatmap.note_orthogonal
        return Sentence((f"{measure.title}: there is nothing to compare here.{' ' if reason else ''}{reason}",))
    if cells[0].value == cells[-1].value:
        return Sentence((f"{measure.title} is {minus(short(cells[0].value))} everywhere.",))
    highest = cells[: -HIGHEST - 1 : -1]
    parts: list[str | CellLink] = [f"{measure.title} is highest in "]
    for place, cell in enumerate(highest):
        parts += [_between(place, len(highest)), cell]
    lowest = cells[0]
    meaning = [_means(measure, cell.value, tasks) for cell in (highest[0], lowest)]
    parts += [meaning[0], "; lowest in ", lowest, meaning[1] if meaning[1] != meaning[0] else "", "."]
    return Sentence(tuple(part for part in parts if part))


def _cells(heatmap: Heatmap) -> list[CellLink]:
    """Every cell of neurons that has a value, in panels that are not flat."""
    return [
        CellLink(
            f"{heatmap.rows[row]} {heatmap.columns[panel.places[at]]} ({panel.name}, {minus(short(value))})",
            panel.source,
            row,
            panel.places[at],
            value,
        )
        for panel in panels(heatmap)[:2]
        if not panel.reason
        for row, at in np.argwhere(np.isfinite(panel.values)).tolist()
        for value in [float(panel.values[row, at])]
    ]


def _between(place: int, count: int) -> str:
    """What stands before the item at `place` of a list."""
    return "" if place == 0 else " and " if place == count - 1 else ", "


def _means(measure: Measure, value: float, tasks: int | None) -> str:
    """What a value means, after a colon; "" where nothing is said about it."""
    phrase = measure.phrase(value, tasks or 0)
    return f": {phrase}" if phrase else ""
