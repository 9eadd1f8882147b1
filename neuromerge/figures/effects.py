"""What each part of the merge does to accuracy: a map of measured differences, and whether conflict predicts them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from neuromerge.exploration.results import Effect, EffectMap
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.numbers import numbers, robust_bound, signed
from neuromerge.figures.text import note, plain
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace

WHOLE = "whole layer"
LEAST_BOUND = 2.0
"""Points at which the colour scale ends at least: smaller differences are no differences."""
CHANGED: Mapping[float, str] = {0.0: "left at the base", 0.5: "halved", 2.0: "doubled"}
"""What is done to a part, in words."""
_HATCH = (-0.3, 0.0, 0.3)  # where the lines of a hatched cell cross its middle
_LINE = 0.18  # half of a line's width in cells


def effect_heatmap(found: EffectMap, times: float, task: str | None = None, title: str = "") -> Figure:
    """Change of accuracy in points where a part is changed, over layers and matrices; whole layers come first.

    Cells within noise are hatched. Clicks answer as ``effect`` with row and column, 0 for the whole layer.

    Args:
        found: the map (shares).
        times: which change; see `CHANGED`.
        task: for this task alone; the mean over tasks where None.
        title: the task's name.
    """
    effects = found.at(times)
    columns = [matrix for matrix in found.columns if any(key[1] == matrix for key in effects)]
    places = [(layer, matrix) for layer in found.rows for matrix in ("", *columns)]
    values = np.full((len(found.rows), 1 + len(columns)), math.nan)
    said: dict[int, str] = {}
    for place, key in enumerate(places):
        effect = effects.get(key)
        if effect is not None:
            values.flat[place] = 100 * (effect.difference if task is None else effect.by_task[task])
            said[place] = _said(effect, task)
    shown = [WHOLE, *columns]
    noisy = [place for place, key in enumerate(places) if task is None and key in effects and effects[key].is_noise]
    return Figure(
        data=[_values(values, found, shown, said), *_hatched(noisy, len(shown))],
        layout=_layout(values, found, shown, times, title),
        description=describe(found, times),
        columns={"x": "matrix", "y": "layer", "z": "change of accuracy (points)"},
        narrow_layout={"margin": {"l": 56, "r": 8, "t": 74, "b": 60}},
        name="effects",
    )


# ------------------------------------------------------------------------------------------------ words
def describe(found: EffectMap, times: float) -> str:
    """The strongest effects that chance does not explain, in a sentence."""
    effects = [effect for effect in found.at(times).values() if not effect.is_noise]
    what = CHANGED.get(times, f"made {times:g} times as strong")
    if not found.at(times):
        return f"Nothing is measured yet of parts {what}."
    if not effects:
        return f"Of {len(found.at(times))} parts {what}, none changes accuracy by more than chance explains."
    ranked = sorted(effects, key=lambda effect: effect.difference)
    ends = [effect for effect in (ranked[0], ranked[-1]) if effect.difference]
    listed = " and ".join(dict.fromkeys(f"{_name(effect)} ({signed(100 * effect.difference, 1)})" for effect in ends))
    return (
        f"Of {len(found.at(times))} parts {what}, {len(effects)} change accuracy by more than chance explains; "
        f"most of all, in points: {listed}."
    )


def agreement(found: EffectMap, times: float = 0.0) -> str:
    """Does conflict predict damage? The rank correlation, whatever it is, and how to read it."""
    ranked = found.agreement(times)
    if ranked is None:
        return ""
    value, cells = ranked
    chance = 1.96 / math.sqrt(cells - 1)
    what = CHANGED.get(times, f"made {times:g} times as strong")
    if abs(value) < chance:
        reading = (
            "No: at least on these pictures the map of conflict does not tell where the merge helps or hurts "
            f"(without any relation it lies within ±{chance:.2f} nineteen times of twenty)."
        )
    elif (value > 0) == (times < 1.0):
        reading = "To some degree: where the tasks pull against each other more, the merge tends to help less there."
    else:
        reading = "The other way round: where the tasks pull against each other more, the merge tends to help more."
    return (
        f"Does conflict predict damage? The rank correlation (Spearman) between conflict and the change of accuracy "
        f"where a cell is {what} is {signed(value)} over {cells} cells. {reading}"
    )


def _name(effect: Effect) -> str:
    return f"{effect.layer} {effect.matrix or '(whole)'}"


def _said(effect: Effect, task: str | None) -> str:
    """What stands behind a value."""
    if task is not None:
        return "this task alone: few pictures, read with care"
    counts = f"{effect.gained} pictures newly right, {effect.lost} newly wrong"
    return f"± {196 * effect.error:.1f}; {counts}; {'within noise' if effect.is_noise else 'beyond chance'}"


# ------------------------------------------------------------------------------------------------ traces
def _values(values: np.ndarray, found: EffectMap, shown: list[str], said: Mapping[int, str]) -> Trace:
    return {
        "type": "heatmap",
        "name": "effect",
        "z": numbers(values, 3),
        "coloraxis": "coloraxis",
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": True,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {
            "source": "effect",
            "rows": [plain(row, 24) for row in found.rows],
            "columns": [plain(column, 24) for column in shown],
            "hover": cell_hover("change of accuracy in points", blank="not measured, or no such matrix", marks=said),
        },
    }


def _hatched(places: list[int], width: int) -> list[Trace]:
    """Slanted lines over the cells within noise."""
    if not places:
        return []
    x: list[float | None] = []
    y: list[float | None] = []
    for place in places:
        row, column = divmod(place, width)
        for shift in _HATCH:
            x += [round(column + shift - _LINE, 3), round(column + shift + _LINE, 3), None]
            y += [row + 0.4, row - 0.4, None]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "within noise",
            "x": x,
            "y": y,
            "line": {"color": token("faint"), "width": 1},
            "hoverinfo": "skip",
            "meta": {"csv": False},
        }
    ]


# ------------------------------------------------------------------------------------------------ layout
def _layout(values: np.ndarray, found: EffectMap, shown: list[str], times: float, title: str) -> Layout:
    bound = max(LEAST_BOUND, robust_bound(values))
    rows, width = len(found.rows), len(shown)
    row = min(34, max(22, 310 // max(rows, 1)))
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False, "fixedrange": True}
    what = f"accuracy of {plain(title, 24)}" if title else "mean accuracy"
    head = f"<b>Change of {what} in points</b><br>part {CHANGED.get(times, f'times {times:g}')}"
    return {
        "height": 136 + row * rows,
        "margin": {"l": 60, "r": 12, "t": 82, "b": 56},
        "xaxis": {
            **axis,
            "tickvals": list(range(width)),
            "ticktext": [plain(name, 12) for name in shown],
            "range": [-0.5, width - 0.5],
            "side": "top",
            "autotickangles": [0, -45],
        },
        "yaxis": {
            **axis,
            "tickvals": list(range(rows)),
            "ticktext": [plain(name, 16) for name in found.rows],
            "range": [rows - 0.5, -0.5],
        },
        "coloraxis": {
            "cmin": -bound,
            "cmax": bound,
            "colorscale": token("diverging"),
            "colorbar": {
                "orientation": "h",
                "x": 0.5,
                "xanchor": "center",
                "y": 0,
                "yanchor": "top",
                "ypad": 8,
                "len": 0.6,
                "thickness": 8,
                "title": {"text": ""},
                "tickvals": [-bound, 0, bound],
                "ticktext": [f"{signed(-bound, 0)}: worse", "0", f"{signed(bound, 0)}: better"],
            },
        },
        "annotations": [
            note(head, 0, 1, xanchor="left", yanchor="bottom", yshift=40, xshift=-52, align="left", font={"size": 13}),
            note("╱╱ within noise", 1, 0, xanchor="right", yanchor="top", yshift=-36, font={"size": SMALL}),
        ],
        "uirevision": f"effects {rows} {width}",
    }
