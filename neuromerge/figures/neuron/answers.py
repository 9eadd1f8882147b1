"""What a neuron answers to real inputs, before and after the merge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neuromerge.exploration.results import NeuronDetail
from neuromerge.figures.figure import Figure
from neuromerge.figures.neuron.coordinates import merged_change
from neuromerge.figures.numbers import numbers, round_frame
from neuromerge.figures.text import coloured, note, plain
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace

SHAPES = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "triangle-up": "▲",
    "triangle-down": "▼",
    "star": "★",
    "cross": "✚",
    "x": "✖",
}
"""Markers of what the inputs show, and their marks in the legend: colours are the tasks'."""


@dataclass(frozen=True)
class Answers:
    """The numbers of the picture; (N,) over the inputs.

    Attributes:
        before: pre-activations of the base, w_0 . x.
        step: share that the parallel part adds to every answer.
        moved: what the orthogonal part adds; `own`: the share of it along the drawn direction.
        labels: what each input shows; "" for unknown.
    """

    before: np.ndarray
    step: float
    moved: np.ndarray
    own: np.ndarray
    direction: int
    labels: tuple[str, ...]

    @cached_property
    def line(self) -> np.ndarray:
        """What the parallel part adds."""
        return self.step * self.before

    @cached_property
    def change(self) -> np.ndarray:
        """What the merge adds."""
        return self.line + self.moved

    @cached_property
    def after(self) -> np.ndarray:
        """Pre-activations of the merge."""
        return self.before + self.change

    @property
    def ends(self) -> tuple[float, float]:
        """The axis of answers before: it holds all and the origin, with a little room."""
        low, high = min(0.0, float(self.before.min())), max(0.0, float(self.before.max()))
        room = 0.05 * (high - low or 1.0)
        return low - room, high + room

    @property
    def heights(self) -> tuple[float, float]:
        """The axis of answers after: round ends, so that it stays put as long as the points fit; 0 lies inside."""
        return round_frame([*self.after.tolist(), *self.before.tolist()])

    @property
    def changes(self) -> tuple[float, float]:
        """The axis of the changes alone."""
        return round_frame(self.change.tolist())

    @property
    def off(self) -> float:
        """How far the orthogonal part typically moves a point (root mean square)."""
        return float(np.sqrt(np.mean(self.moved**2)))

    @property
    def kinds(self) -> list[str]:
        """What the inputs show, each once; [] where shapes cannot tell them apart."""
        kinds = list(dict.fromkeys(self.labels))
        return kinds if 1 < len(kinds) <= len(SHAPES) else []


def pre_activations(detail: NeuronDetail, direction: int = 0) -> Figure:
    """What the neuron answers to real inputs: its pre-activation after the merge against that before.

    Pale points on the dotted diagonal are the answers before. The parallel part only changes the slope of the answer
    (sensitivity): all points would lie on the line, whose slope is 1 + something. The orthogonal part moves points off
    it (adaptability); a thin stem shows by how much. Inputs are the base model's at this layer, held fixed; the bias is
    left out. A point names its place among the sample pictures, for what shows them.

    Args:
        detail: the neuron; ``along_base`` (N,) and ``along_direction`` (N, R) are the inputs' coordinates.
        direction: the direction drawn in `neuron_plane`, whose own share stands in the hover.
    """
    name = f"neuron-{detail.index}-answers"
    revision = f"answers {detail.layer} {detail.matrix} {detail.index}"
    if not len(detail.along_base):
        return Figure(
            data=[],
            layout={
                "height": 300,
                "annotations": [note("no sample images reach this layer", 0.5, 0.5, font={"size": 13})],
                "xaxis": {"visible": False},
                "yaxis": {"visible": False},
                "uirevision": revision,
            },
            description="Answers of a neuron: no sample images reach this layer.",
            name=name,
        )
    found = answers(detail, direction)
    layout, narrow = _layouts(found)
    return Figure(
        data=_traces(found),
        layout={**layout, "uirevision": revision},
        description=(
            f"Answers of neuron {detail.index} in {detail.layer}, {detail.matrix}, to {len(found.before)} images: the "
            f"parallel part gives the line the slope 1 {slope(found.step)}; the orthogonal part moves answers off that "
            f"line by typically {found.off:.3g}."
        ),
        narrow_layout=narrow,
        narrow_below=640,
        columns={"label": "image", "x": "before", "y": "after"},
        held=["yaxis.range", "yaxis2.range"],
        name=name,
    )


def answers(detail: NeuronDetail, direction: int) -> Answers:
    """The numbers of the picture."""
    step, rise = merged_change(detail)
    shown = direction if 0 <= direction < len(rise) else 0
    count = len(detail.along_base)
    return Answers(
        before=detail.along_base * detail.base_norm,
        step=step,
        moved=detail.along_direction @ rise,
        own=detail.along_direction[:, shown] * rise[shown] if len(rise) else np.zeros(count),
        direction=shown,
        labels=detail.image_labels or ("",) * count,
    )


# ------------------------------------------------------------------------------------------------ traces
def _traces(found: Answers) -> list[Trace]:
    """Stems under the points, the line of the parallel part, the points, and the inset."""
    kinds = found.kinds
    if kinds:
        groups = [[k for k, label in enumerate(found.labels) if label == kind] for kind in kinds]
        points = [
            _points(found, np.array(members), plain(kind, 24), shape)
            for kind, members, shape in zip(kinds, groups, SHAPES, strict=False)
        ]
    else:
        points = [_points(found, np.arange(len(found.before)), "images", "circle")]
    return [_before(found), _stems(found), _line(found), *points, *_changes(found)]


def _before(found: Answers) -> Trace:
    """The answers before, on the diagonal: what no change would leave."""
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": numbers(sorted([*found.before.tolist(), *found.ends])),
        "y": numbers(sorted([*found.before.tolist(), *found.ends])),
        "line": {"color": token("axis"), "width": 1, "dash": "dot"},
        "marker": {"size": 5, "color": token("base"), "symbol": "circle"},
        "hoverinfo": "skip",
        "meta": {"csv": False},
    }


def _stems(found: Answers) -> Trace:
    """From the line to each point: what the orthogonal part adds."""
    foot = found.before + found.line
    ends = list(zip(numbers(found.before), numbers(foot), numbers(found.after), strict=True))
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [value for at, _, _ in ends for value in (at, at, None)],
        "y": [value for _, low, high in ends for value in (low, high, None)],
        "line": {"color": token("orthogonal"), "width": 1},
        "opacity": 0.45,
        "hoverinfo": "skip",
        "meta": {"csv": False},
    }


def _line(found: Answers) -> Trace:
    """What the answers would be by the parallel part alone."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "parallel part alone",
        "x": numbers(found.ends),
        "y": numbers([(1 + found.step) * end for end in found.ends]),
        "line": {"color": token("parallel"), "width": 2.5},
        "hoverinfo": "skip",
        "meta": {"csv": False},
    }


def _points(found: Answers, at: np.ndarray, name: str, shape: str) -> Trace:
    """The inputs at the places `at`, in one shape."""
    said = (found.change, found.line, found.moved, found.own)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name or "images",
        "x": numbers(found.before[at]),
        "y": numbers(found.after[at]),
        "marker": {"size": 7, "color": token("ink"), "symbol": shape, "opacity": 0.75},
        "customdata": numbers(np.stack([values[at] for values in said], axis=1), 3),
        "hovertext": [plain(found.labels[k], 30) or "image" for k in at.tolist()],
        "hovertemplate": (
            "<b>%{hovertext}</b><br>before %{x:.3f}, after %{y:.3f} (%{customdata[0]:+.3f})"
            "<br>by the parallel part %{customdata[1]:+.3f}<br>by the orthogonal part %{customdata[2]:+.3f}"
            f"<br>of that along v<sub>{found.direction + 1}</sub> %{{customdata[3]:+.3f}}<extra></extra>"
        ),
        "meta": {"samples": at.tolist()},
    }


def _changes(found: Answers) -> list[Trace]:
    """The inset: the changes alone, enlarged, and the line that the parallel part puts them on."""
    inset: Trace = {"type": "scatter", "xaxis": "x2", "yaxis": "y2", "hoverinfo": "skip", "meta": {"csv": False}}
    return [
        {
            **inset,
            "mode": "lines",
            "x": numbers(found.ends),
            "y": numbers([found.step * end for end in found.ends]),
            "line": {"color": token("parallel"), "width": 2},
        },
        {
            **inset,
            "mode": "markers",
            "x": numbers(found.before, 3),
            "y": numbers(found.change, 3),
            "marker": {"size": 3, "color": token("ink")},
        },
    ]


# ------------------------------------------------------------------------------------------------ layout
def slope(step: float) -> str:
    """What is added to 1 in the slope of the line."""
    return f"{'−' if step < 0 else '+'} {abs(step):.3f}"


def _key(found: Answers) -> list[str]:
    """What points, line and stems mean, with their numbers."""
    typical = 100 * found.off / (float(found.before.std()) or 1.0)
    return [
        f"{coloured('●', 'base')} before: on the dotted diagonal",
        f"{coloured('<b>━ parallel part alone</b>', 'parallel')}: slope 1 {slope(found.step)}",
        f"{coloured('<b>┃ orthogonal part</b>', 'orthogonal')}: moves points off the line, "
        f"typically {typical:.1f} % of their spread",
    ]


def _layouts(found: Answers) -> tuple[Layout, Layout]:
    """The picture with the inset beside it; narrow, below."""
    key = _key(found)
    dots = [f"{mark} {plain(kind, 16)}" for kind, mark in zip(found.kinds, SHAPES.values(), strict=False)]
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    below = {"xanchor": "left", "yanchor": "top", "align": "left", "font": {"size": SMALL}}
    caption = "the change alone,<br>enlarged"
    inset: dict[str, Any] = {"showticklabels": False, "fixedrange": True}
    layout = {
        "height": 420,
        "margin": {"l": 62, "r": 8, "t": 70, "b": 66 if dots else 48},
        "xaxis": {
            "domain": [0, 0.73],
            "title": {"text": "answer before the merge, w₀ · x"},
            "showgrid": True,
            "zeroline": True,
            "range": numbers(found.ends),
        },
        "yaxis": {"title": {"text": "answer after the merge"}, "zeroline": True, "range": list(found.heights)},
        "xaxis2": {**inset, "domain": [0.79, 1], "anchor": "y2", "range": numbers(found.ends)},
        "yaxis2": {
            **inset,
            "domain": [0.6, 1],
            "anchor": "x2",
            "showgrid": False,
            "zeroline": True,
            "range": list(found.changes),
        },
        "annotations": [
            note("<br>".join(key), 0, 1, yshift=6, **above),
            note(caption, 0.78, 0.56, **below),
            *([note("   ".join(dots), 0, 0, yshift=-44, **below)] if dots else []),
        ],
    }
    folded = "<br>".join(text.replace(": ", ":<br>").replace(", ", ",<br>") for text in key)
    rows = ["   ".join(dots[i : i + 3]) for i in range(0, len(dots), 3)]
    narrow = {
        "height": 560,
        "margin": {"l": 54, "r": 8, "t": 132, "b": 34 + 15 * len(rows)},
        "xaxis": {"domain": [0, 1]},
        "yaxis": {"domain": [0.4, 1]},
        "xaxis2": {"domain": [0, 0.62]},
        "yaxis2": {"domain": [0, 0.24]},
        "annotations": [
            note(folded, 0, 1, yshift=6, xshift=-46, **above),
            note("the change<br>alone,<br>enlarged", 0.65, 0.2, **below),
            *([note("<br>".join(rows), 0, 0, yshift=-14, xshift=-46, **below)] if rows else []),
        ],
    }
    return layout, narrow
