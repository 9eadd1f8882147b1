"""The plane of a neuron's base vector and one singular direction, with every task vector as an arrow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import NeuronDetail
from neuromerge.figures.figure import Figure
from neuromerge.figures.neuron.coordinates import energy_shares, merged_change, outside_plane
from neuromerge.figures.neuron.labels import NARROW_PX, WIDE_PX, Label, Point, Range, placed
from neuromerge.figures.numbers import nice_ceiling, number, numbers, round_frame, signed
from neuromerge.figures.tasks import TaskLook, task_looks
from neuromerge.figures.text import coloured, note
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace

_LEGS = "parallel %{x:+.2f} %, orthogonal %{y:+.2f} %<extra></extra>"

SHORT = 0.12
"""Arrows shorter than this share of the longest are drawn once more, enlarged."""

LISTED = 9
"""Tasks up to which the list beside the picture leaves room for the enlargement."""


@dataclass(frozen=True)
class Plane:
    """The numbers of the picture, in percent of the base vector's length: across is along w_0, up is along v.

    Attributes:
        across, up: (T,) the tips of the task vectors.
        merged, elected: where the merge and the vote (both lambda = 1) end.
        outside: (T,) share of each task vector's squared length outside the plane; NaN for tau = 0.
        direction: index of v; None for a neuron without an orthogonal direction.
        energy: share of the orthogonal energy along v.
        voted: whether the method votes over neurons, so that there is something elected.
    """

    tasks: list[TaskLook]
    across: np.ndarray
    up: np.ndarray
    merged: Point
    elected: Point
    outside: np.ndarray
    direction: int | None
    energy: float
    voted: bool

    @property
    def ranges(self) -> tuple[Range, Range]:
        """What the axes show: every tip, the origin, and room for heads and labels."""
        return (
            round_frame([*self.across.tolist(), self.merged[0], self.elected[0]], 1.16),
            round_frame([*self.up.tolist(), self.merged[1], self.elected[1]], 1.16),
        )

    @property
    def names(self) -> list[str]:
        """Names of the tasks."""
        return [task.name for task in self.tasks]

    @property
    def tips(self) -> list[Point]:
        """Where the tasks' arrows end."""
        return list(zip(self.across.tolist(), self.up.tolist(), strict=True))

    @property
    def enlarged(self) -> float | None:
        """Half the width of the enlargement that makes the short arrows visible; None where all are long enough."""
        lengths = np.hypot(self.across, self.up)
        longest = max(float(lengths.max(initial=0.0)), math.hypot(*self.merged))
        short = lengths[(lengths > 0) & (lengths < SHORT * longest)]
        return nice_ceiling(1.1 * float(short.max())) if short.size and len(self.tasks) <= LISTED else None


def neuron_plane(detail: NeuronDetail, direction: int = 0, titles: Mapping[str, str] | None = None) -> Figure:
    """The plane of the base vector (to the right) and one singular direction (up), around the tip of the base vector.

    Every expert's task vector is an arrow with its parallel leg (along w_0: how strongly the neuron answers) and its
    orthogonal leg (along v: what else it answers to); a cross marks what the vote elects; the thick arrow is the
    merge. The inset has the true scale. Beside it: which share of each task vector this plane cannot show.

    Args:
        detail: the neuron.
        direction: index of the singular direction drawn upwards; out of range falls back to the strongest.
        titles: names to show instead of the tasks' keys.
    """
    found = plane(detail, direction, titles)
    layout, narrow = _layouts(found)
    place = f"{detail.layer} {detail.matrix} {detail.index} {found.direction or 0}"
    return Figure(
        data=_traces(found),
        layout={**layout, "uirevision": f"plane {place}"},
        description=_description(detail, found),
        narrow_layout=narrow,
        narrow_below=660,
        columns={"x": "parallel (% of base)", "y": "orthogonal (% of base)", "label": "arrow"},
        held=["xaxis.range", "yaxis.range", "shapes"],
        name=f"neuron-{detail.index}-plane",
    )


# ------------------------------------------------------------------------------------------------ numbers
def plane(detail: NeuronDetail, direction: int, titles: Mapping[str, str] | None) -> Plane:
    """The numbers of the picture."""
    rank = detail.scores.shape[1]
    direction = direction if 0 <= direction < rank else 0
    norm = detail.base_norm
    # A neuron with no base weights is measured against its longest task vector.
    unit = (norm or float(detail.tau_norm.max(initial=0.0)) or 1.0) / 100
    none = np.zeros(len(detail.tasks))
    step, rise = merged_change(detail)
    elected = float(detail.alpha @ detail.scores[:, direction]) / unit if rank else 0.0
    return Plane(
        tasks=task_looks(detail.tasks, titles),
        across=100 * detail.c if norm else none,
        up=detail.scores[:, direction] / unit if rank else none,
        merged=(100 * step if norm else 0.0, float(rise[direction]) / unit if rank else 0.0),
        elected=(100 * detail.c_merged if norm else 0.0, elected),
        outside=outside_plane(detail, direction),
        direction=direction if rank else None,
        energy=float(energy_shares(detail)[direction]) if rank else 0.0,
        voted=bool(detail.vote),
    )


# ------------------------------------------------------------------------------------------------ traces
def _traces(found: Plane) -> list[Trace]:
    """The legs of the task vectors, and points that can be hovered at all tips."""
    hover = [
        f"<b>{name}</b><br>parallel {signed(a)} % of |w₀|<br>orthogonal, along this direction {signed(b)} %"
        + (f"<br>outside this plane: {100 * o:.0f} % of its squared length" if math.isfinite(o) else "<br>not moved")
        for name, a, b, o in zip(found.names, found.across, found.up, found.outside, strict=True)
    ]
    tips: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "task vectors",
        "x": numbers(found.across),
        "y": numbers(found.up),
        "marker": {
            "size": 9,
            "color": [task.colour for task in found.tasks],
            "symbol": [task.symbol for task in found.tasks],
        },
        "text": hover,
        "hovertext": found.names,
        "hovertemplate": "%{text}<extra></extra>",
    }
    cross = {"symbol": "x-thin", "size": 11, "line": {"width": 2, "color": token("ink")}}
    dot = {"size": 11, "color": token("merge")}
    return [
        *_legs(found),
        tips,
        *([_tip("elected by the vote", "elected", " (both λ = 1)", found.elected, cross)] if found.voted else []),
        _tip("merge", "merge", "", found.merged, dot),
    ]


def _legs(found: Plane) -> list[Trace]:
    """The parallel and the orthogonal leg of every task vector, as dotted lines."""
    across, up = numbers(found.across), numbers(found.up)
    gaps: dict[str, tuple[list[Any], list[Any]]] = {
        "parallel": ([v for a in across for v in (0, a, None)], [v for _ in across for v in (0, 0, None)]),
        "orthogonal": ([v for a in across for v in (a, a, None)], [v for b in up for v in (0, b, None)]),
    }
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": y,
            "line": {"color": token(name), "width": 1.2, "dash": "dot"},
            "opacity": 0.6,
            "hoverinfo": "skip",
            "meta": {"csv": False},
        }
        for name, (x, y) in gaps.items()
    ]


def _tip(name: str, short_name: str, more: str, at: Point, marker: dict[str, Any]) -> Trace:
    """One marked point that is no task's."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [number(at[0])],
        "y": [number(at[1])],
        "marker": marker,
        "hovertext": [short_name],
        "hovertemplate": f"<b>{name}</b>{more}<br>{_LEGS}",
    }


# ------------------------------------------------------------------------------------------------ layout
def _arrow(to: Point, colour: str, width: float, head: float = 1.0, axis: str = "") -> dict[str, Any]:
    """An arrow from the origin of the main axes (of the inset, with axis "2") to a point."""
    x, y = f"x{axis}", f"y{axis}"
    return {
        "x": number(to[0]),
        "y": number(to[1]),
        "ax": 0,
        "ay": 0,
        "xref": x,
        "yref": y,
        "axref": x,
        "ayref": y,
        "text": "",
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": head,
        "arrowwidth": width,
        "arrowcolor": colour,
    }


def _labels(found: Plane, area: tuple[float, float]) -> list[dict[str, Any]]:
    """Names at the arrows' tips, the longest arrows first, as long as there is room (the list beside has all)."""
    far = np.argsort(-np.hypot(found.across, found.up)).tolist()
    labels = [
        Label("<b>merge</b>", 5, found.merged, token("merge")),
        *(Label(found.tasks[i].name, len(found.tasks[i].name), found.tips[i], found.tasks[i].colour) for i in far),
        Label("tip of w₀", 9, (0.0, 0.0), token("muted")),
    ]
    tips = [*found.tips, found.merged, found.elected, (0.0, 0.0)]
    notes = placed(labels, tips, found.ranges, area)
    return [{**text, "x": number(text["x"]), "y": number(text["y"])} for text in notes]


def _arrows(found: Plane, axis: str = "", *, shorter_than: float = math.inf) -> list[dict[str, Any]]:
    """The tasks' arrows, from the origin of the main axes or of the enlargement."""
    return [
        _arrow(at, task.colour, 1.8, axis=axis)
        for task, at in zip(found.tasks, found.tips, strict=True)
        if math.hypot(*at) <= shorter_than
    ]


def _drawn(found: Plane, area: tuple[float, float]) -> list[dict[str, Any]]:
    """Arrows and their names, and the base vector in the inset, at true scale."""
    base = {"text": "w₀", "x": 45, "y": 0, "xref": "x2", "yref": "y2", "showarrow": False, "yanchor": "bottom"}
    return [
        *_arrows(found),
        _arrow(found.merged, token("merge"), 3.5, 0.8),
        *_labels(found, area),
        _arrow((100, 0), token("base"), 2.5, axis="2"),
        {**base, "font": {"size": 12, "color": token("ink")}},
    ]


def _box(ranges: tuple[Range, Range]) -> dict[str, Any]:
    """The main picture's frame in the inset."""
    (left, right), (bottom, top) = ranges
    corners = {"x0": 100 + left, "x1": 100 + right, "y0": bottom, "y1": top}
    return {"type": "rect", "xref": "x2", "yref": "y2", **corners, "line": {"color": token("merge"), "width": 1.2}}


def _layouts(found: Plane) -> tuple[Layout, Layout]:
    """The picture with the inset and the list beside it; narrow, both below."""
    along = f"along v<sub>{found.direction + 1}</sub>" if found.direction is not None else "no orthogonal direction"
    shares = [
        f"{task.dot} {task.name}  {f'{100 * o:.0f} %' if math.isfinite(o) else '–'}"
        for task, o in zip(found.tasks, found.outside, strict=True)
    ]
    pairs = ["     ".join(shares[i : i + 2]) for i in range(0, len(shares), 2)]
    legs = f"legs: {coloured('⋯ parallel', 'parallel')} and {coloured('⋯ orthogonal', 'orthogonal')}"
    elected = "✕ elected by the vote" if found.voted else "method without a vote"
    key = [coloured("<b>➞ merge</b>", "merge"), elected, legs]
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    below = {"xanchor": "left", "yanchor": "top", "align": "left", "font": {"size": SMALL}}
    heading = "outside this plane:"
    main = {"zeroline": True, "ticksuffix": " %", "showgrid": True, "nticks": 7}
    bare = {"visible": False, "fixedrange": True}
    across, up = found.ranges
    layout: Layout = {
        "height": 420,
        "margin": {"l": 62, "r": 8, "t": 36, "b": 48},
        "xaxis": {**main, "domain": [0, 0.72], "range": across, "title": {"text": "parallel: along w₀, % of |w₀|"}},
        "yaxis": {
            **main,
            "range": up,
            "scaleanchor": "x",
            "title": {"text": f"orthogonal: {along} ({100 * found.energy:.0f} % of the orthogonal energy)"},
        },
        "xaxis2": {**bare, "domain": [0.76, 1], "range": [-2, 112], "anchor": "y2"},
        "yaxis2": {**bare, "domain": [0.84, 1], "range": [-8, 8], "scaleanchor": "x2", "anchor": "x2"},
        "shapes": [_box(found.ranges)],
        "annotations": [
            *_drawn(found, WIDE_PX),
            note("    ".join(key), 0, 1, yshift=8, **above),
            note("true scale: the box<br>is the picture at the left", 0.76, 0.84, **below),
            note("<br>".join([heading, *shares]), 0.76, 0.7, **below),
        ],
    }
    around = found.enlarged
    if around is not None:
        close = {"showticklabels": False, "fixedrange": True, "range": [-around, around], "zeroline": True}
        layout["xaxis3"] = {**close, "domain": [0.79, 0.97], "anchor": "y3"}
        layout["yaxis3"] = {**close, "domain": [0, 0.22], "scaleanchor": "x3", "anchor": "x3", "showgrid": False}
        enlarged = _arrows(found, "3", shorter_than=around)
        layout["annotations"] += [*enlarged, note(f"short arrows, ± {around:g} %", 0.76, 0.29, **below)]
    narrow: Layout = {
        "height": 560,
        "margin": {"l": 54, "r": 8, "t": 46, "b": 34 + 15 * len(pairs)},
        "xaxis": {"domain": [0, 1]},
        "yaxis": {"domain": [0.34, 1], "title": {"text": f"orthogonal: {along}"}},
        "xaxis2": {"domain": [0, 1]},
        "yaxis2": {"domain": [0.1, 0.22]},
        "annotations": [
            *_drawn(found, NARROW_PX),
            note("<br>".join(["    ".join(key[:2]), key[2]]), 0, 1, yshift=6, xshift=-46, **above),
            note("true scale: the box is the picture above", 0, 0.1, xshift=-46, **below),
            note("<br>".join([heading, *pairs]), 0, 0, yshift=-8, xshift=-46, **below),
        ],
    }
    if around is not None:
        narrow["xaxis2"], narrow["yaxis2"] = {"domain": [0, 0.6]}, {"domain": [0.12, 0.2]}
        narrow["xaxis3"], narrow["yaxis3"] = {"domain": [0.7, 1]}, {"domain": [0.0, 0.19]}
        narrow["annotations"] += [
            *_arrows(found, "3", shorter_than=around),
            note(f"short arrows, ± {around:g} %", 0.7, 0.25, **below),
        ]
    return layout, narrow


def _description(detail: NeuronDetail, found: Plane) -> str:
    """The picture in words."""
    moves = "; ".join(
        f"{name} parallel {signed(a)} %, orthogonal {signed(b)} %"
        for name, a, b in zip(found.names, found.across, found.up, strict=True)
    )
    return (
        f"Neuron {detail.index} of {detail.layer}, {detail.matrix}, in the plane of its base vector and singular "
        f"direction {(found.direction or 0) + 1}, in percent of the base vector's length. {moves}. The merge moves it "
        f"{signed(found.merged[0])} % along the base and {signed(found.merged[1])} % along the direction."
    )
