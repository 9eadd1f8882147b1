"""Accuracy against the strength of a merge: how wide the hill is, and where on it the merge stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from neuromerge.exploration.results import StrengthCurve
from neuromerge.figures.figure import Figure
from neuromerge.figures.numbers import numbers, percents, short
from neuromerge.figures.text import coloured, note, plain
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace

SLACK = 0.02
"""Share of accuracy that a point may lie below the best and still count as near it: few pictures tell less apart."""
MARKS: Mapping[str, str] = {"auto": "auto", "retention": "retention"}
"""How the strengths that need no data are written at the axis."""
NOW_PX = 13
"""Size of the point where the merge stands."""
_SAID = {
    "auto": "auto, by the method: what it takes where nobody gives a number",
    "retention": "auto, by retention: tasks keep on average all they learned",
}


def strength_curve(curve: StrengthCurve, compared: StrengthCurve | None = None, label: str = "") -> Figure:
    """Mean accuracy at multiples of a merge's coefficients, and of those of the merge it is compared with.

    Clicks on this merge's points answer as ``strength`` with the place of the point.

    Args:
        curve: of this merge (shares).
        compared: of what it is compared with, on its own multiples.
        label: name of the latter.
    """
    data = [_line(curve, "merge", "this merge")]  # first: it is what the keyboard walks
    if compared is not None:
        data.append(_line(compared, "pinned", label or "compared"))
    return Figure(
        data=data,
        layout=_layout(curve, compared, label),
        description=" ".join(filter(None, [words(curve), _marked(curve), words(compared, label or "The other merge")])),
        columns={"x": "strength (times the coefficients now)", "y": "accuracy (%)"},
        held=["yaxis.range"],
        narrow_layout={"height": 300},
        narrow_below=300,
        name="strength",
    )


# ------------------------------------------------------------------------------------------------ words
def near_best(curve: StrengthCurve) -> tuple[float, float, float, float] | None:
    """The best accuracy, its strength, and the strengths about it within `SLACK`; None before anything is measured.

    The range holds neighbours only: a second hill beyond a valley does not count.
    """
    known = np.flatnonzero(np.isfinite(curve.accuracy))
    if not known.size:
        return None
    at = int(np.argmax(curve.accuracy[known]))
    best = float(curve.accuracy[known[at]])
    near = curve.accuracy[known] >= best - SLACK
    low = high = at
    while low > 0 and near[low - 1]:
        low -= 1
    while high + 1 < len(known) and near[high + 1]:
        high += 1
    strengths = curve.strengths[known]
    return best, float(strengths[at]), float(strengths[low]), float(strengths[high])


def words(curve: StrengthCurve | None, name: str = "This merge") -> str:
    """The curve in a sentence or two."""
    found = None if curve is None else near_best(curve)
    if curve is None or found is None:
        return "" if curve is None else f"{name}: nothing is measured yet."
    best, at, low, high = found
    if not curve.complete:
        done = int(np.isfinite(curve.accuracy).sum())
        count = f"{done} of {len(curve.accuracy)} strengths are measured"
        return f"{name}: {count}, best so far {_percent(best)} at {_times(at)}."
    place = "at its present strength" if at == 1.0 else f"at {_times(at)} its present strength"
    hill = (
        f"the strengths beside it are more than {100 * SLACK:.0f} points lower"
        if low == high
        else f"from {_times(low)} to {_times(high)} it stays within {100 * SLACK:.0f} points of that"
    )
    return f"{name} is best {place} ({_percent(best)}); {hill}."


def _marked(curve: StrengthCurve) -> str:
    """The strengths that need no data, in words."""
    return "".join(f"At {_times(strength)}: {_SAID[key]}. " for key, strength in curve.marks.items()).strip()


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _times(strength: float) -> str:
    return f"{short(strength)} times"


# ------------------------------------------------------------------------------------------------ traces
def _line(curve: StrengthCurve, colour: str, name: str) -> Trace:
    """One curve; where points are missing the line goes straight on to the next."""
    mine = colour == "merge"
    more: dict[str, Any] = {"meta": {"source": "strength"}} if mine else {}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(name, 48),
        "x": numbers(curve.strengths),
        "y": percents(curve.accuracy, 1),
        "connectgaps": True,
        "line": {"color": token(colour), "width": 2.4 if mine else 1.6, "dash": "solid" if mine else "dash"},
        "marker": {
            "size": [NOW_PX if mine and strength == 1.0 else 6 if mine else 4 for strength in curve.strengths],
            "color": token(colour),
            "symbol": "circle" if mine else "diamond",
        },
        "hovertemplate": f"<b>{plain(name, 48)}</b><br>%{{x:.2~f}} × its coefficients: %{{y:.1f}} %<extra></extra>",
        "cliponaxis": False,
        **more,
    }


# ------------------------------------------------------------------------------------------------ layout
def _layout(curve: StrengthCurve, compared: StrengthCurve | None, label: str) -> Layout:
    """Axes in multiples and percent; the strengths that need no data as dotted lines, named at their feet."""
    small, ink = {"size": SMALL}, {"size": SMALL, "color": token("ink")}
    above = {"xanchor": "left", "yanchor": "bottom", "yshift": 6, "xshift": -40}
    names = [coloured("━● this merge", "merge")]
    if compared is not None:
        names.append(coloured(f"╌◆ {plain(label or 'compared', 34)}", "pinned"))
    notes = [note("   ".join(names), 0, 1, font=small, **above)]
    shapes = [_upright(1.0, "solid")]
    notes.append(note("now", 1, 1, xref="x", yanchor="top", xanchor="left", xshift=3, font=ink))
    ranked = sorted(curve.marks.items(), key=lambda mark: mark[1])
    for place, (key, strength) in enumerate(ranked):
        shapes.append(_upright(strength, "dot"))
        right = strength > 1.6
        side = {"xanchor": "right", "xshift": -3} if right else {"xanchor": "left", "xshift": 3}
        foot = note(MARKS[key], numbers([strength])[0], 0, xref="x", yanchor="bottom", yshift=2 + 15 * place, font=ink)
        notes.append({**foot, **side, "hovertext": _SAID[key]})
    axis = {"zeroline": False, "fixedrange": True}
    return {
        "height": 320,
        "margin": {"l": 48, "r": 14, "t": 34, "b": 44},
        "xaxis": {
            **axis,
            "range": [-0.04, 2.04],
            "dtick": 0.5,
            "title": {"text": "times the coefficients it has now"},
        },
        "yaxis": {**axis, "range": _range(curve, compared), "ticksuffix": " %", "nticks": 6},
        "shapes": shapes,
        "annotations": notes,
        "showlegend": False,
        "hovermode": "closest",
        "hoverdistance": 24,
        "uirevision": "strength",
    }


def _upright(strength: float, dash: str) -> dict[str, Any]:
    """A line from the foot to the top of the picture."""
    line = {"color": token("axis" if dash == "solid" else "muted"), "width": 1, "dash": dash}
    at = numbers([strength])[0]
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "layer": "below", "line": line}


def _range(curve: StrengthCurve, compared: StrengthCurve | None) -> list[float]:
    """Round ends of the axis of accuracy, in percent."""
    found = np.concatenate([curve.accuracy, *([] if compared is None else [compared.accuracy])])
    known = found[np.isfinite(found)]
    if not known.size:
        return [0.0, 100.0]
    low, high = 100 * float(known.min()), 100 * float(known.max())
    return [max(0.0, 10 * math.floor((low - 4) / 10)), min(100.0, 10 * math.ceil((high + 1) / 10))]
