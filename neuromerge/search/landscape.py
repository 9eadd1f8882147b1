"""Landscapes: mean accuracy over a grid of two hyperparameters, measured from coarse to fine.

A grid costs a whole evaluation a point, so the order matters: the first dozen points already show where the
hill is, and whoever watches can stop there. Where an axis is more than a coefficient (the trim ratio), the points
that share its value are measured together, because they share a merge.

Where looking at all pictures takes long, all points are measured on the first few, then the better half of them on
twice as many, and so on: the whole is for the top of the hill.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from neuromerge.errors import SettingError, quoted
from neuromerge.merging import registry
from neuromerge.merging.registry import AUTO
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.axes import axes_of
from neuromerge.search.objective import Growing, Objective, as_growing, mean_score
from neuromerge.settings.choices import change
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

POINTS = (9, 7)
MAX_POINTS = 2_500
YIELD_SECONDS = 0.4


@dataclass(frozen=True)
class Landscape:
    """Mean accuracy in [0, 1] over a grid: `value` (len(y), len(x)), NaN where not computed yet.

    `current` is the setting's own place, `fixed` the numbers that are held while the axes vary, `images` the number of
    pictures behind each value; behind those of which `pictures` (len(y), len(x)) has fewer, so many.
    """

    x_name: str
    y_name: str
    x: np.ndarray
    y: np.ndarray
    value: np.ndarray
    current: tuple[float, float] | None = None
    fixed: dict[str, float] = field(default_factory=dict)
    images: int = 0
    pictures: np.ndarray | None = None

    @property
    def most_seen(self) -> np.ndarray:
        """Which points are measured on the most pictures so far, and can be compared with one another."""
        measured = np.isfinite(self.value)
        if self.pictures is None or not measured.any():
            return measured
        return measured & (self.pictures == self.pictures[measured].max())


def grow(
    objective: Objective | Growing,
    setting: Setting,
    x_name: str,
    y_name: str,
    *,
    points: tuple[int, int] = POINTS,
    in_use: Mapping[str, float] | None = None,
    family: Family | str | None = None,
    job: Job = UNATTENDED,
) -> Iterator[Landscape]:
    """The landscape around `setting`, yielded every now and then while it fills, and once when complete.

    Args:
        objective: scores the setting of one point; one that is `Growing` is asked on more pictures where they matter.
        setting: gives everything that the axes do not.
        x_name, y_name: two different numeric hyperparameters of the setting's method.
        points: number of values on the x and on the y axis.
        in_use: what the coefficients that are ``auto`` in `setting` came to.
        family: the setting's family, where no registry knows it.
        job: stops it.

    Raises SettingError when an axis is no numeric hyperparameter of the method or the grid is too large.
    """
    x, y = _values(setting, x_name, points[0]), _values(setting, y_name, points[1])
    if x_name == y_name:
        raise SettingError("The two axes of a landscape must be different hyperparameters.")
    if len(x) * len(y) > MAX_POINTS:
        raise SettingError(f"A landscape can have at most {MAX_POINTS} points, not {len(x) * len(y)}.")
    asked = as_growing(objective)
    value, pictures = np.full((len(y), len(x)), np.nan), np.zeros((len(y), len(x)), np.int64)
    numbers = _numbers(setting, in_use or {})
    here = (numbers[x_name], numbers[y_name]) if x_name in numbers and y_name in numbers else None
    # What is automatic may follow an axis (the coefficient of norms and biases follows lambda_2): it is not held.
    given = {name for name, value in setting.hyperparameters if value != AUTO}
    fixed = {name: number for name, number in numbers.items() if name in given and name not in (x_name, y_name)}

    def picture() -> Landscape:
        return Landscape(x_name, y_name, x, y, value.copy(), here, fixed, asked.pictures[-1], pictures.copy())

    cheap = registry.get_method(setting.method).coefficients
    shown = time.monotonic()
    order = _order(len(y), len(x), by_row=y_name not in cheap, by_column=x_name not in cheap)
    for level, count in zip(asked.levels, asked.pictures, strict=True):
        for row, column in order:
            point = {x_name: float(x[column]), y_name: float(y[row])}
            value[row, column] = mean_score(asked.scores(change(setting, family, **point), job, level))
            pictures[row, column] = count
            if time.monotonic() - shown >= YIELD_SECONDS:
                yield picture()
                shown = time.monotonic()
        best = sorted(order, key=lambda point: -value[point])[: max(1, len(order) // 2)]
        order = [point for point in order if point in best]
    yield picture()


def _values(setting: Setting, name: str, points: int) -> np.ndarray:
    (axis,) = axes_of(setting.method, [name])
    if axis.choices:
        raise SettingError(f"{quoted(name)} is no number, so it cannot be an axis of a landscape.")
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise SettingError("A landscape needs at least two values on each axis.")
    return np.array(axis.grid(points), dtype=np.float64)


def _numbers(setting: Setting, in_use: Mapping[str, float]) -> dict[str, float]:
    """The numeric hyperparameters; of those that are ``auto``, what they came to where that is known."""
    given = {name: in_use.get(name) if value == AUTO else value for name, value in setting.hyperparameters}
    return {
        name: float(value)
        for name, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def levels(count: int) -> list[int]:
    """How fine a grid must get before it has the index: the ends 0, the middle 1, the quarters 2, ..."""
    levels = [0] * count
    spans = [(0, count - 1)]
    depth = 1
    while spans:
        halves = []
        for low, high in spans:
            if high - low > 1:
                middle = (low + high) // 2
                levels[middle] = depth
                halves += [(low, middle), (middle, high)]
        spans, depth = halves, depth + 1
    return levels


def _order(rows: int, columns: int, *, by_row: bool, by_column: bool) -> list[tuple[int, int]]:
    """All points, coarse before fine; whole rows (or columns) at a time where they share a first pass."""
    row_level, column_level = levels(rows), levels(columns)

    def key(point: tuple[int, int]) -> tuple[int, ...]:
        row, column = point
        if by_row:
            return row_level[row], row, column_level[column], column
        if by_column:
            return column_level[column], column, row_level[row], row
        return max(row_level[row], column_level[column]), row_level[row] + column_level[column], row, column

    return sorted(((row, column) for row in range(rows) for column in range(columns)), key=key)
