"""Zero-shot answers: which classes a merge mixes up, and what each model says of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuromerge.exploration.results import Confusion, Prediction
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


def _ticked(label: str, truth: str) -> str:
    """A class name; the right one stands out by weight and a tick, not by colour alone."""
    return f"<b>✓ {plain(label, 20)}</b>" if truth and label == truth else plain(label, 20)


def top_predictions(predictions: Sequence[Prediction], truth: str = "") -> Figure:
    """The best guesses of every model for one picture, side by side: a panel each, the true class ticked and bold.

    Args:
        predictions: one per model, best class first.
        truth: the right class where it is known.
    """
    count = len(predictions)
    longest = max((len(p.labels) for p in predictions), default=0)
    data: list[Trace] = []
    layout: dict[str, Any] = {"annotations": [], "uirevision": "top"}
    narrow: dict[str, Any] = {"annotations": []}
    per_row = min(count, 4) or 1
    lines = -(-count // per_row)
    for i, prediction in enumerate(predictions):
        axis = "" if i == 0 else str(i + 1)
        percent = [round(100 * p, 1) for p in prediction.probabilities]
        merged = prediction.model.startswith("merge") or prediction.model == "this merge"
        colour = token("merge" if merged else "base" if prediction.model == "base" else "expert")
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": plain(prediction.model, 24),
                "x": percent,
                "y": list(range(len(percent))),
                "xaxis": f"x{axis}",
                "yaxis": f"y{axis}",
                "width": 0.34,
                "offset": 0.04,
                "marker": {
                    "color": colour,
                    "opacity": [1 if not truth or label == truth else 0.4 for label in prediction.labels],
                    "cornerradius": 2,
                },
                "hovertext": [plain(label, 60) for label in prediction.labels],
                "hovertemplate": "<b>%{hovertext}</b>: %{x:.1f} %<extra>" + plain(prediction.model, 24) + "</extra>",
            }
        )
        labels = {
            "type": "scatter",
            "mode": "text",
            "x": [0] * len(percent),
            "y": [k - 0.14 for k in range(len(percent))],
            "text": [
                f"{_ticked(label, truth)}  {share:.0f} %"
                for label, share in zip(prediction.labels, percent, strict=True)
            ],
            "textposition": "middle right",
            "textfont": {"size": 12, "color": token("ink")},
            "xaxis": f"x{axis}",
            "yaxis": f"y{axis}",
            "hoverinfo": "skip",
            "cliponaxis": False,
            "meta": {"csv": False},
        }
        data.append(labels)
        row, column = divmod(i, per_row)
        gap = 0.04
        wide = [column / per_row + (gap / 2 if column else 0), (column + 1) / per_row - gap / 2]
        high = [1 - (row + 0.86) / lines, 1 - row / lines - 0.1 / lines]
        bare = {"visible": False, "fixedrange": True}
        layout[f"xaxis{axis}"] = {**bare, "domain": wide, "range": [0, 105], "anchor": f"y{axis}"}
        layout[f"yaxis{axis}"] = {**bare, "domain": high, "range": [longest - 0.4, -0.5], "anchor": f"x{axis}"}
        title = note(
            f"<b>{plain(prediction.model, 24)}</b>",
            wide[0],
            high[1],
            xanchor="left",
            yanchor="bottom",
            font={"size": 13, "color": token("ink")},
        )
        layout["annotations"].append(title)
        stacked = [1 - (i + 0.86) / count, 1 - i / count - 0.1 / count]
        narrow[f"xaxis{axis}"] = {"domain": [0, 1]}
        narrow[f"yaxis{axis}"] = {"domain": stacked}
        narrow["annotations"].append({**title, "x": 0, "y": stacked[1]})
    layout |= {"height": 30 + lines * (24 + 36 * longest), "margin": {"l": 8, "r": 8, "t": 12, "b": 8}}
    narrow["height"] = 40 + count * (30 + 38 * longest)
    described = "; ".join(
        f"{p.model}: "
        + ", ".join(f"{a} {100 * b:.0f} %" for a, b in zip(p.labels[:3], p.probabilities[:3], strict=True))
        for p in predictions
    )
    return Figure(
        data,
        layout,
        f"Best guesses. {described}.",
        [],
        narrow,
        {"x": "probability (%)", "y": "rank", "label": "class"},
        "top-predictions",
    )
