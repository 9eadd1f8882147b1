"""Zero-shot answers: which classes a merge mixes up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import Confusion
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.numbers import numbers
from neuromerge.figures.text import note, plain
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace

NAMED = 24
"""Classes named along the axes at most; beyond, names stand in the hover only."""


@dataclass(frozen=True)
class Mixed:
    """The numbers of the figure: `counts` and `percent` of the row (K, K), and the share that is `right`.

    `so_far` says of how many pictures, while they grow.
    """

    names: list[str]
    counts: np.ndarray
    percent: np.ndarray
    right: float
    so_far: str

    @property
    def worst(self) -> str:
        """The three pairs that are mixed up most often, in words."""
        wrong = self.counts.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(wrong, axis=None)[::-1][:3]
        pairs = [np.unravel_index(k, wrong.shape) for k in order if wrong.flat[k] > 0]
        return ", ".join(f"{self.names[i]} taken for {self.names[j]} ({int(wrong[i, j])})" for i, j in pairs)


def confusion_matrix(confusion: Confusion) -> Figure:
    """Rows: the truth; columns: what the merge says; each row in percent of its own images.

    Clicks answer as ``confusion`` with row (truth) and column (prediction).
    """
    found = mixed(confusion)
    layout, narrow = _layouts(found)
    return Figure(
        data=[_trace(found)],
        layout={**layout, "uirevision": f"confusion {confusion.task} {len(found.names)}"},
        description=(
            f"Confusion matrix of {confusion.task}: {100 * found.right:.1f} percent right{found.so_far}. "
            f"Often mixed up: {found.worst or 'nothing'}."
        ),
        narrow_layout=narrow,
        narrow_below=760,
        columns={"x": "prediction", "y": "truth", "z": "share of the row (%)"},
        name=f"confusion-{confusion.task}",
    )


def mixed(confusion: Confusion) -> Mixed:
    """The numbers of the figure; NaN percent for a class without images."""
    counts = np.asarray(confusion.counts, dtype=np.float64)
    totals = counts.sum(1, keepdims=True)
    percent = 100 * np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    right = float(np.trace(counts) / counts.sum()) if counts.sum() else float("nan")
    seen = int(counts.sum())
    so_far = f" on {seen:,} of {confusion.pictures:,} images so far" if seen < confusion.pictures else ""
    return Mixed([plain(name, 18) for name in confusion.classes], counts, percent, right, so_far)


def _trace(found: Mixed) -> Trace:
    """The cells."""
    return {
        "type": "heatmap",
        "name": "share of the row",
        "z": numbers(found.percent, 3),
        "customdata": found.counts.astype(int).tolist(),
        "coloraxis": "coloraxis",
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {
            "source": "confusion",
            "rows": [f"is {name}" for name in found.names],
            "columns": [f"said {name}" for name in found.names],
            "hover": cell_hover("% of the images of this class"),
        },
    }


def _layouts(found: Mixed) -> tuple[Layout, Layout]:
    """The matrix under its headline; narrow, the colour bar goes below."""
    size = len(found.names)
    named = size <= NAMED
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False}
    axis |= {"tickvals": list(range(size)), "ticktext": found.names} if named else {"showticklabels": False}
    head = f"<b>{100 * found.right:.1f} %</b> right{found.so_far}" if found.counts.sum() else "no images"
    worst = found.worst
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    big, small = {"size": 14, "color": token("ink")}, {"size": SMALL}
    layout = {
        "height": 120 + max(240, min(22 * size, 460)),
        "margin": {"l": 90 if named else 40, "r": 60, "t": 52, "b": 84 if named else 40},
        "xaxis": {**axis, "range": [-0.5, size - 0.5], "title": {"text": "the merge says"}, "tickangle": -45},
        "yaxis": {**axis, "range": [size - 0.5, -0.5], "title": {"text": "the truth"}},
        "coloraxis": {
            "cmin": 0,
            "cmax": 100,
            "colorscale": token("sequential"),
            "colorbar": {"x": 1.01, "xanchor": "left", "ticksuffix": " %", "tickvals": [0, 50, 100]},
        },
        "annotations": [
            note(head, 0, 1, yshift=24, font=big, **above),
            note(f"most often mixed up: {worst}" if worst else "", 0, 1, yshift=6, font=small, **above),
        ],
    }
    narrow = {
        "margin": {"r": 8, "t": 76, "b": 110 if named else 70},
        "coloraxis": {"colorbar": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.3, "yanchor": "top"}},
        "annotations": [
            note(head, 0, 1, yshift=48, xshift=-70, font=big, **above),
            note(worst.replace(", ", "<br>"), 0, 1, yshift=2, xshift=-70, font=small, **above),
        ],
    }
    return layout, narrow
