"""The vote behind a neuron's orthogonal part, direction by direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import NeuronDetail
from neuromerge.figures.figure import NARROW_BELOW, Figure
from neuromerge.figures.neuron.coordinates import energy_shares
from neuromerge.figures.numbers import nice_ceiling, numbers, signed
from neuromerge.figures.tasks import TaskLook, task_looks
from neuromerge.figures.text import coloured, note
from neuromerge.figures.theme import SMALL, ink_on, token
from neuromerge.figures.wire import Layout, Trace

_FONT = {"size": SMALL}


@dataclass(frozen=True)
class Votes:
    """The numbers of the picture: `scores` (T, R) in each direction, which are `kept`, what is `elected` (R,),
    the weight `alpha` (T,) of each task, and the share of the `energy` (R,) in each direction."""

    tasks: list[TaskLook]
    scores: np.ndarray
    kept: np.ndarray
    elected: np.ndarray
    alpha: np.ndarray
    energy: np.ndarray

    @property
    def names(self) -> list[str]:
        """Names of the tasks."""
        return [task.name for task in self.tasks]

    @property
    def rank(self) -> int:
        """Number of directions."""
        return self.scores.shape[1]

    @property
    def directions(self) -> list[str]:
        """Names of the directions in hover and CSV."""
        return [f"direction {r + 1}" for r in range(self.rank)]

    def texts(self, digits: int) -> list[list[str]]:
        """The scores as the grid writes them."""
        return [
            [_cell(float(score), digits, kept=bool(kept)) for score, kept in zip(*line, strict=True)]
            for line in zip(self.scores, self.kept, strict=True)
        ]


def votes(detail: NeuronDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """The vote behind the orthogonal part: each task's score U[t, r] in each direction, and the elected mean e_r.

    In each direction the sign with the larger sum wins; votes of the other sign are dropped (pale, in brackets), the
    others averaged. The last column is alpha = U e: what the merge does to each task's orthogonal part. Clicks
    answer as ``direction`` with row and column. The balanced vote elects nothing: there alpha is drawn alone.
    """
    if detail.vote != "published":
        return _weights_alone(detail, titles)
    kept = np.sign(detail.left) == np.sign(detail.elected)[None, :]
    tasks = task_looks(detail.tasks, titles)
    found = Votes(tasks, detail.left, kept, detail.elected, detail.alpha, energy_shares(detail))
    layout, narrow = _layouts(found)
    alphas = ", ".join(f"{name} {a:.2f}" for name, a in zip(found.names, detail.alpha, strict=True))
    small = {"textfont": {"size": SMALL - 1}}
    brief = [[f"<b>{_cell(float(e), 1)}</b>" for e in found.elected]]
    return Figure(
        data=[_scores(found), _elected(found), _weights(found)],
        layout={**layout, "uirevision": f"votes {detail.layer} {detail.matrix} {detail.index}"},
        description=f"The vote of {len(tasks)} tasks in {found.rank} directions. Resulting weights alpha: {alphas}.",
        narrow_data=[{"text": found.texts(1), **small}, {"text": brief, **small}, {"yaxis": "y3"}],
        narrow_layout=narrow,
        narrow_below=max(NARROW_BELOW, 130 + 70 * found.rank),
        columns={"x": "direction", "y": "task", "z": "score", "label": "task"},
        name=f"neuron-{detail.index}-votes",
    )


def _cell(score: float, digits: int, *, kept: bool = True) -> str:
    """A score as the grid writes it, legible on its colour: dropped in brackets; with one digit, no leading zero."""
    near = round(score, digits)
    text = signed(score, digits) if near else "0"
    if digits == 1 and near:
        text = text.lstrip("+").replace("0.", ".").replace("1.0", "1")
    return coloured(text if kept or score == 0 else f"({text})", ink_on("diverging", (score + 1) / 2))


# ------------------------------------------------------------------------------------------------ traces
def _grid(name: str, values: list[Any], text: list[list[str]], hover: list[list[str]], **meta: Any) -> Trace:
    """A heatmap with numbers in its cells."""
    return {
        "type": "heatmap",
        "coloraxis": "coloraxis",
        "hovertemplate": "%{hovertext}<extra></extra>",
        "texttemplate": "%{text}",
        "name": name,
        "z": values,
        "text": text,
        "hovertext": hover,
        "textfont": _FONT,
        "meta": meta,
    }


def _scores(found: Votes) -> Trace:
    """Each task's vote in each direction."""
    hover = [
        [
            f"<b>{name} in direction {r + 1}</b><br>score {signed(float(score))}, "
            + ("kept" if kept else "dropped" if score else "no vote")
            for r, (score, kept) in enumerate(zip(scores, keeps, strict=True))
        ]
        for name, scores, keeps in zip(found.names, found.scores, found.kept, strict=True)
    ]
    place = {"source": "direction", "rows": found.names, "columns": found.directions}
    return _grid("score", numbers(found.scores, 3), found.texts(2), hover, **place)


def _elected(found: Votes) -> Trace:
    """What the vote elects in each direction."""
    text = [f"<b>{_cell(float(e), 2)}</b>" for e in found.elected]
    hover = [
        f"<b>elected in direction {r + 1}</b><br>mean of the kept scores {signed(float(e), 3)}"
        for r, e in enumerate(found.elected)
    ]
    grid = _grid("elected", [numbers(found.elected, 3)], [text], [hover], rows=["elected"], columns=found.directions)
    return {**grid, "yaxis": "y2"}


def _weights(found: Votes) -> Trace:
    """alpha of each task, as bars."""
    count = len(found.names)
    return {
        "type": "bar",
        "orientation": "h",
        "name": "alpha",
        "x": numbers(found.alpha, 3),
        "y": list(range(count)),
        "xaxis": "x2",
        "marker": {"color": [task.colour for task in found.tasks], "cornerradius": 2},
        "width": 0.6,
        "text": [signed(float(a)) for a in found.alpha],
        "textposition": "outside",
        "textfont": _FONT,
        "cliponaxis": False,
        "hovertext": found.names,
        "hovertemplate": "<b>%{hovertext}</b><br>alpha %{x:.3f}: weight of its orthogonal part<extra></extra>",
    }


def _weights_alone(detail: NeuronDetail, titles: Mapping[str, str] | None) -> Figure:
    """alpha of a vote without directions."""
    tasks, none = task_looks(detail.tasks, titles), np.zeros((len(detail.tasks), 0))
    found = Votes(tasks, none, none, np.zeros(0), detail.alpha, np.zeros(0))
    count, low, widest = len(tasks), *_reach(found)
    axis = {"tickvals": list(range(count)), "ticktext": found.names, "range": [count - 0.5, -0.5], "fixedrange": True}
    alphas = ", ".join(f"{name} {a:.2f}" for name, a in zip(found.names, detail.alpha, strict=True))
    return Figure(
        data=[{**_weights(found), "xaxis": "x"}],
        layout={
            "height": 90 + 26 * count,
            "margin": {"l": 82, "r": 40, "t": 40, "b": 30},
            "xaxis": {"range": [low, widest], "zeroline": True, "showgrid": True, "fixedrange": True},
            "yaxis": {**axis, "showgrid": False, "zeroline": False},
            "annotations": [note("weight α of each expert's orthogonal part (1: added whole)", 0, 1, yshift=20)],
            "uirevision": f"weights {detail.layer} {detail.matrix} {detail.index}",
        },
        description=f"The balanced vote of {count} tasks. Resulting weights alpha: {alphas}.",
        columns={"x": "alpha", "y": "", "label": "task"},
        name=f"neuron-{detail.index}-alpha",
    )


# ------------------------------------------------------------------------------------------------ layout
def _reach(found: Votes) -> tuple[float, float]:
    """The axis of the weights: 0 and 1 lie in it."""
    widest = nice_ceiling(max(1.2, float(np.abs(found.alpha).max(initial=0.0)) * 1.25))
    return (-widest if float(found.alpha.min(initial=0.0)) < -0.02 else 0.0), widest


def _layouts(found: Votes) -> tuple[Layout, Layout]:
    """The grid, what is elected under it, the weights beside; narrow, the weights go below."""
    count, rank = len(found.names), found.rank
    low, widest = _reach(found)
    still = {"fixedrange": True, "showgrid": False, "zeroline": False}
    tasks = {"tickvals": list(range(count)), "ticktext": found.names, "range": [count - 0.5, -0.5], **still}
    directions = [f"v<sub>{r + 1}</sub>" for r in range(rank)]
    heads = [
        f"{name}<br><span style='font-size:10px'>{100 * e:.0f} %</span>"
        for name, e in zip(directions, found.energy, strict=True)
    ]
    above = {"xanchor": "left", "yanchor": "bottom", "font": {"size": 12}}
    layout = {
        "height": 150 + 26 * (count + 1),
        "margin": {"l": 82, "r": 40, "t": 74, "b": 30},
        "xaxis": {
            "domain": [0, 0.66],
            "side": "top",
            "tickvals": list(range(rank)),
            "ticktext": heads,
            "range": [-0.5, max(rank, 1) - 0.5],
            "anchor": "y",
            **still,
        },
        "yaxis": {**tasks, "domain": [1.35 / (count + 1.35), 1]},
        "yaxis2": {
            "domain": [0, 1 / (count + 1.35)],
            "tickvals": [0],
            "ticktext": ["<b>elected</b>"],
            "anchor": "x",
            **still,
        },
        "xaxis2": {
            "domain": [0.74, 1],
            "anchor": "y",
            "range": [low, widest],
            "zeroline": True,
            "tickvals": [v for v in (-1, 0, 1) if low <= v <= widest],
            "fixedrange": True,
            "showgrid": True,
        },
        "coloraxis": {"cmin": -1, "cmax": 1, "colorscale": token("diverging"), "showscale": False},
        "annotations": [
            note("scores U by direction (share of the energy)", 0, 1, yshift=40, **above),
            note("weight α = U e", 0.74, 1, yshift=40, **above),
            note("1: added whole", 1, 1, xref="x2", yanchor="bottom", yshift=4, font=_FONT),
        ],
    }
    # Narrow: the weights go below, and the scores keep one decimal.
    rows = 2 * count + 3.4
    narrow = {
        "height": 170 + round(24 * rows),
        "margin": {"l": 66, "r": 40, "t": 56},
        "xaxis": {"domain": [0, 1], "ticktext": directions, "tickangle": 0},
        "yaxis": {"domain": [1 - count / rows, 1]},
        "yaxis2": {"domain": [1 - (count + 1.2) / rows, 1 - (count + 0.2) / rows]},
        "xaxis2": {"domain": [0, 1], "anchor": "y3"},
        "yaxis3": {**tasks, "domain": [0, count / rows], "anchor": "x2"},
        "annotations": [
            note("scores U by direction", 0, 1, yshift=26, xshift=-60, **above),
            note("weight α = U e  (1: added whole)", 0, count / rows, yshift=4, xshift=-60, **above),
        ],
    }
    return layout, narrow
