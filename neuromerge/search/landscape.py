"""Landscapes: mean accuracy over a grid of two coefficients, measured from coarse to fine.

A grid costs a whole evaluation a point, so the order matters: the first dozen points already show where the
hill is, and whoever watches can stop there. Points that share a trim ratio are measured together where the
trim ratio is an axis, because they share a first pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from neuromerge.errors import SettingError
from neuromerge.exploration.results import Landscape, MergeSummary
from neuromerge.merging.registry import AUTO
from neuromerge.search.sweep import axes_of
from neuromerge.settings.choices import quoted
from neuromerge.settings.setting import Setting

POINTS = (9, 7)
MAX_POINTS = 2_500
YIELD_SECONDS = 0.4
_EXPENSIVE = "trim_ratio"


def grow(
    setting: Setting,
    used: MergeSummary,
    x_name: str,
    y_name: str,
    points: tuple[int, int],
    score: Callable[[Mapping[str, float]], float],
    images: int,
) -> Iterator[Landscape]:
    """The landscape around `setting`, yielded every now and then while it fills, and once when complete.

    `score` measures one point, given as {x_name: value, y_name: value}. Raises SettingError when an axis is no
    numeric parameter of the method or the grid is too large.
    """
    x, y = _values(setting, x_name, points[0]), _values(setting, y_name, points[1])
    if x_name == y_name:
        raise SettingError("The two axes of a landscape must be different hyperparameters.")
    if len(x) * len(y) > MAX_POINTS:
        raise SettingError(f"A landscape can have at most {MAX_POINTS} points, not {len(x) * len(y)}.")
    value = np.full((len(y), len(x)), np.nan)
    here = (_present(setting, used, x_name), _present(setting, used, y_name))
    fixed = {
        name: _present(setting, used, name)
        for name, given in setting.hyperparameters
        if name not in (x_name, y_name)
        and not isinstance(given, bool)
        and (given == AUTO or not isinstance(given, str))
    }

    def picture() -> Landscape:
        return Landscape(
            x_name=x_name,
            y_name=y_name,
            x=x,
            y=y,
            value=value.copy(),
            current=None if None in here else (here[0], here[1]),  # type: ignore[arg-type]
            fixed={name: number for name, number in fixed.items() if number is not None},
            images=images,
        )

    shown = time.monotonic()
    for row, column in _order(len(y), len(x), by_row=y_name == _EXPENSIVE, by_column=x_name == _EXPENSIVE):
        value[row, column] = score({x_name: float(x[column]), y_name: float(y[row])})
        if time.monotonic() - shown >= YIELD_SECONDS:
            yield picture()
            shown = time.monotonic()
    yield picture()


def _values(setting: Setting, name: str, points: int) -> np.ndarray:
    (axis,) = axes_of(setting.method, [name])
    if axis.choices:
        raise SettingError(f"{quoted(name)} is no number, so it cannot be an axis of a landscape.")
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise SettingError("A landscape needs at least two values on each axis.")
    return np.array(axis.grid(points), dtype=np.float64)


def _present(setting: Setting, used: MergeSummary, name: str) -> float | None:
    """The value in use: what auto came to where the setting says auto; None where it is not known."""
    given = setting.value(name)
    if given != AUTO:
        return float(given)
    return used.coefficients.get(name)


def _level(count: int) -> list[int]:
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
    row_level, column_level = _level(rows), _level(columns)

    def key(point: tuple[int, int]) -> tuple[int, ...]:
        row, column = point
        if by_row:
            return row_level[row], row, column_level[column], column
        if by_column:
            return column_level[column], column, row_level[row], row
        return max(row_level[row], column_level[column]), row_level[row] + column_level[column], row, column

    return sorted(((row, column) for row in range(rows) for column in range(columns)), key=key)
