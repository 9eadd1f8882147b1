"""Zero-shot answers: which classes a merge mixes up."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuromerge.exploration.results import Confusion
from neuromerge.figures.figure import Figure, Trace, note, numbers, plain
from neuromerge.figures.theme import SMALL, token

NAMED = 24
"""Classes named along the axes at most; beyond, names stand in the hover only."""


def confusion_matrix(confusion: Confusion) -> Figure:
    """Rows: the truth; columns: what the merge says; each row in percent of its own images.

    Clicks answer as ``confusion`` with row (truth) and column (prediction).
    """
    counts = np.asarray(confusion.counts, dtype=np.float64)
    size = len(confusion.classes)
    totals = counts.sum(1, keepdims=True)
    share = 100 * np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    names = [plain(name, 18) for name in confusion.classes]
    right = float(np.trace(counts) / counts.sum()) if counts.sum() else float("nan")
    data: list[Trace] = [
        {
            "type": "heatmap",
            "name": "share of the row",
            "z": numbers(share, 3),
            "customdata": counts.astype(int).tolist(),
            "coloraxis": "coloraxis",
            "xgap": 1,
            "ygap": 1,
            "hoverongaps": False,
            "hovertemplate": "%{text}<extra></extra>",
            "meta": {
                "source": "confusion",
                "title": "% of the images of this class",
                "rows": [f"is {name}" for name in names],
                "columns": [f"said {name}" for name in names],
                "words": [[None, ""], [None, ""]],
                "na": {"cells": [], "text": ""},
            },
        }
    ]
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    worst = [np.unravel_index(k, wrong.shape) for k in np.argsort(wrong, axis=None)[::-1][:3] if wrong.flat[k] > 0]
    mixed = ", ".join(f"{names[i]} taken for {names[j]} ({int(counts[i, j])})" for i, j in worst)
    axis: dict[str, Any] = {"showgrid": False, "zeroline": False}
    if size <= NAMED:
        axis |= {"tickvals": list(range(size)), "ticktext": names}
    else:
        axis |= {"showticklabels": False}
    head = f"<b>{100 * right:.1f} %</b> right" if counts.sum() else "no images"
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    layout = {
        "height": 120 + max(240, min(22 * size, 460)),
        "margin": {"l": 90 if size <= NAMED else 40, "r": 60, "t": 52, "b": 84 if size <= NAMED else 40},
        "xaxis": {**axis, "range": [-0.5, size - 0.5], "title": {"text": "the merge says"}, "tickangle": -45},
        "yaxis": {**axis, "range": [size - 0.5, -0.5], "title": {"text": "the truth"}},
        "coloraxis": {
            "cmin": 0,
            "cmax": 100,
            "colorscale": token("sequential"),
            "colorbar": {"x": 1.01, "xanchor": "left", "ticksuffix": " %", "tickvals": [0, 50, 100]},
        },
        "annotations": [
            note(head, 0, 1, yshift=24, font={"size": 14, "color": token("ink")}, **above),
            note(f"most often mixed up: {mixed}" if mixed else "", 0, 1, yshift=6, font={"size": SMALL}, **above),
        ],
        "uirevision": f"confusion {confusion.task} {size}",
    }
    narrow = {
        "margin": {"r": 8, "t": 76, "b": 110 if size <= NAMED else 70},
        "coloraxis": {"colorbar": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.3, "yanchor": "top"}},
        "annotations": [
            note(head, 0, 1, yshift=48, xshift=-70, font={"size": 14, "color": token("ink")}, **above),
            note(mixed.replace(", ", "<br>"), 0, 1, yshift=2, xshift=-70, font={"size": SMALL}, **above),
        ],
    }
    return Figure(
        data,
        layout,
        f"Confusion matrix of {confusion.task}: {100 * right:.1f} percent right. Often mixed up: {mixed or 'nothing'}.",
        [],
        narrow,
        {"x": "prediction", "y": "truth", "z": "share of the row (%)"},
        f"confusion-{confusion.task}",
    )
