"""One cell of the interference heatmap, opened: its neurons, its tasks, and what the vote did to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from neuromerge.exploration.results import LayerDetail
from neuromerge.figures.figure import Figure, Trace, nice_ceiling, note, number, numbers, plain
from neuromerge.figures.theme import SMALL, task_colour, token

SORTS = {
    "contested": "most contested vote first",
    "strength": "largest change first",
    "index": "as stored",
}


def _titles(detail: LayerDetail, titles: Mapping[str, str] | None, limit: int = 16) -> list[str]:
    """The names of the tasks as shown."""
    return [plain((titles or {}).get(task, task), limit) for task in detail.tasks]


def _units(detail: LayerDetail) -> str:
    """What one row of the parameter is called."""
    return "neurons" if detail.kind == "neurons" else "entries"


def neurons_by_tasks(detail: LayerDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """How far each task moves each neuron, with the margin of the vote above it.

    Neurons are binned; columns follow the sorting of `detail`. Colours saturate at the 99th percentile.
    """
    tasks = _titles(detail, titles)
    units = _units(detail)
    edges = [int(edge) for edge in detail.bin_edges]
    bins = len(edges) - 1
    spans = [
        f"{units} {a + 1} to {b}" if b > a + 1 else f"{units[:-1]} {b}" for a, b in zip(edges, edges[1:], strict=False)
    ]
    percent = detail.strength.T * 100
    low, top = _stretched(percent)
    per_bin = detail.neurons / max(bins, 1)
    order = SORTS.get(detail.sort, detail.sort)
    data: list[Trace] = [
        {
            "type": "heatmap",
            "name": "strength",
            "z": numbers(percent, 3),
            "coloraxis": "coloraxis",
            "xgap": 0,
            "ygap": 2,
            "hovertemplate": "%{text}<extra></extra>",
            "meta": {
                "title": "change as % of the base",
                "rows": tasks,
                "columns": spans,
                "words": [[None, ""], [None, ""]],
                "na": {"cells": [], "text": ""},
            },
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "vote margin",
            "x": list(range(bins)),
            "y": numbers(detail.margin, 3),
            "yaxis": "y2",
            "line": {"color": token("orthogonal"), "width": 1.5, "shape": "hvh"},
            "fill": "tozeroy",
            "fillcolor": "rgba(201,84,10,0.14)",
            "hovertext": spans,
            "hovertemplate": "%{hovertext}<br>margin of the vote %{y:.2f}<extra></extra>",
        },
    ]
    many = "" if per_bin <= 1.01 else f", {per_bin:.0f} to a column" if per_bin >= 2 else ", one or two to a column"
    layout = {
        "height": 150 + 22 * len(tasks),
        "margin": {"l": 76, "r": 76, "t": 30, "b": 34},
        "xaxis": {
            "anchor": "y",
            "range": [-0.5, bins - 0.5],
            "tickvals": [-0.5, bins / 2 - 0.5, bins - 0.5],
            "ticktext": ["1", f"{detail.neurons} {units}, {order}{many}", f"{detail.neurons}"],
            "zeroline": False,
        },
        "yaxis": {
            "domain": [0, 0.7],
            "tickvals": list(range(len(tasks))),
            "ticktext": tasks,
            "range": [len(tasks) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        "yaxis2": {
            "domain": [0.76, 1],
            "range": [0, 1],
            "tickvals": [0, 1],
            "ticktext": ["tied", "agreed"],
            "anchor": "x",
            "fixedrange": True,
        },
        "coloraxis": {
            "cmin": low,
            "cmax": top,
            "colorscale": token("sequential"),
            "colorbar": {
                "x": 1.01,
                "xanchor": "left",
                "y": 0.35,
                "len": 0.72,
                "tickvals": [low, top],
                "ticktext": [f"{low:.3g}", f"{top:.3g} % |w₀|"],
            },
        },
        "annotations": [note("margin of the vote", 0, 1, xanchor="left", yanchor="bottom", yshift=4)],
        "uirevision": f"neurons {detail.layer} {detail.matrix} {detail.sort}",
    }
    narrow = {
        "margin": {"l": 70, "r": 8, "b": 76},
        "height": 190 + 22 * len(tasks),
        "xaxis": {"tickvals": [bins / 2 - 0.5], "ticktext": [f"{detail.neurons} {units}, {order}"]},
        "coloraxis": {
            "colorbar": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.16, "yanchor": "top", "len": 0.9}
        },
    }
    description = (
        f"Heatmap of {len(tasks)} tasks by {detail.neurons} {units} of {detail.layer}, {detail.matrix}, {order}: "
        f"the length of each task's change, up to {top:g} percent of the base weights. "
        f"Above it the margin of the vote, {np.nanmean(detail.margin):.2f} on average."
    )
    columns = {"x": units, "y": "task", "z": "change (% of base)", "label": units}
    return Figure(data, layout, description, [], narrow, columns, f"neurons-{detail.layer}-{detail.matrix}")


def _stretched(percent: np.ndarray) -> tuple[float, float]:
    """Ends of the colour scale for norms: from 0, or from a round number when all of them lie far above it."""
    if not np.isfinite(percent).any():
        return 0.0, 1.0
    low, high = (float(q) for q in np.nanquantile(percent, (0.01, 0.99)))
    top = nice_ceiling(high)
    if low < 0.35 * top:
        return 0.0, top
    step = nice_ceiling(top / 12)
    return float(f"{math.floor(low / step) * step:.6g}"), float(f"{math.ceil(high / step) * step:.6g}")


def task_cosines(detail: LayerDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """Cosines between the tasks' parts, parallel and orthogonal: 1 the same way, 0 unrelated, -1 opposed.

    The colours end at the largest cosine of the two panels, so that small ones can be told apart; numbers stand in
    the cells as long as they fit.
    """
    tasks = _titles(detail, titles, 12)
    count = len(tasks)
    pairs = np.tri(count, k=-1, dtype=bool)
    seen = np.abs(np.concatenate([detail.cosine_parallel[pairs], detail.cosine_orthogonal[pairs]]))
    bound = min(1.0, nice_ceiling(max(0.05, float(seen[np.isfinite(seen)].max(initial=0.0)))))
    data: list[Trace] = []
    notes: list[dict[str, Any]] = []
    for name, matrix, axis in (("parallel", detail.cosine_parallel, ""), ("orthogonal", detail.cosine_orthogonal, "2")):
        # Each pair once: the diagonal says nothing and the upper half repeats the lower.
        lower = np.where(pairs, matrix, np.nan)[1:, :-1]
        data.append(
            {
                "type": "heatmap",
                "name": name,
                "z": numbers(lower, 3),
                "xaxis": f"x{axis}",
                "yaxis": f"y{axis}",
                "coloraxis": "coloraxis",
                "hoverongaps": False,
                "texttemplate": "%{z:.2f}" if count <= 10 else "",
                "textfont": {"size": 10},
                "hovertemplate": "%{text}<extra></extra>",
                "meta": {
                    "title": f"cosine, {name}",
                    "rows": tasks[1:],
                    "columns": tasks[:-1],
                    "words": [
                        [-0.3, "they pull in opposite directions"],
                        [-0.05, "they pull slightly against each other"],
                        [0.05, "they are unrelated here"],
                        [0.3, "they pull slightly the same way"],
                        [None, "they pull the same way"],
                        [None, ""],
                    ],
                    "na": {"cells": [], "text": ""},
                },
            }
        )
        ref = {"xref": f"x{axis} domain", "yref": f"y{axis} domain", "showarrow": False}
        title = f"<span style='color:{token(name)}'><b>{name}</b></span>"
        place = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 6}
        notes.append({"text": title, **place, **ref, "font": {"size": 13}})
        values = lower[np.isfinite(lower)]
        if values.size:
            mean = f"mean {values.mean():+.2f}".replace("-", "−")
            notes.append({"text": mean, "x": 1, "y": 1, "xanchor": "right", "yanchor": "top", **ref})
        else:
            what = "one task only" if count < 2 else "no parallel part here" if name == "parallel" else "nothing here"
            notes.append({"text": what, "x": 0.5, "y": 0.5, **ref})
    size = max(count - 1, 1)
    across = {
        "tickvals": list(range(size)),
        "ticktext": tasks[:-1] or [""],
        "range": [-0.5, size - 0.5],
        "tickangle": -45,
        "showgrid": False,
        "zeroline": False,
    }
    down = {**across, "ticktext": tasks[1:] or [""], "range": [size - 0.5, -0.5], "tickangle": 0}
    layout = {
        "height": 150 + 26 * size,
        "margin": {"l": 74, "r": 66, "t": 30, "b": 74},
        "xaxis": {**across, "domain": [0, 0.47]},
        "yaxis": down,
        "xaxis2": {**across, "domain": [0.53, 1], "anchor": "y2"},
        "yaxis2": {**down, "anchor": "x2", "showticklabels": False},
        "coloraxis": {
            "cmin": -bound,
            "cmax": bound,
            "colorscale": token("diverging"),
            "colorbar": {
                "x": 1.01,
                "xanchor": "left",
                "tickvals": [-bound, 0, bound],
                "ticktext": [f"−{bound:g} against", "0", f"{bound:g} with"],
            },
        },
        "annotations": notes,
        "uirevision": f"cosines {count}",
    }
    narrow = {
        "height": 240 + 44 * size,
        "margin": {"l": 74, "r": 8, "t": 30, "b": 110},
        "xaxis": {"domain": [0, 1], "showticklabels": False},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [0.54, 1]},
        "yaxis2": {"domain": [0, 0.46], "showticklabels": True},
        "coloraxis": {
            "colorbar": {
                "orientation": "h",
                "x": 0.5,
                "xanchor": "center",
                "y": -0.2,
                "yanchor": "top",
                "tickangle": 0,
                "len": 0.78,
            }
        },
    }
    description = f"Cosine between every two tasks in {detail.layer}, {detail.matrix}, for both subspaces."
    columns = {"x": "task", "y": "other task", "z": "cosine"}
    return Figure(data, layout, description, [], narrow, columns, "task-cosines")


def alpha_histogram(detail: LayerDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """How the merge weighs each task's orthogonal part, neuron by neuron: one ridge per task.

    alpha 1: added whole; 1/T: averaged; below 0: flipped.
    """
    tasks = _titles(detail, titles)
    count = len(tasks)
    centres = (detail.alpha_edges[:-1] + detail.alpha_edges[1:]) / 2
    x = numbers(centres, 3)
    share = detail.alpha_counts / np.maximum(detail.alpha_counts.sum(1, keepdims=True), 1)
    # The rarest bins set the scale of nothing: one tall bin would flatten every other ridge.
    height = float(np.quantile(share.max(1), 0.9)) * 0.78 if share.size and share.max() > 0 else 1.0
    data: list[Trace] = []
    means = []
    for i, name in enumerate(tasks):
        floor = count - 1 - i
        colour = task_colour(i)
        mean = float((share[i] * centres).sum()) if share[i].sum() else math.nan
        means.append(mean)
        base = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0}, "meta": {"csv": False}}
        data.append({**base, "x": [x[0], x[-1]] if x else [], "y": [floor, floor]})
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": x,
                "y": numbers(np.minimum(floor + share[i] / height, floor + 1.25), 4),
                "line": {"color": colour, "width": 1.5, "shape": "spline", "smoothing": 0.6},
                "fill": "tonexty",
                "fillcolor": token("raised"),
                "customdata": numbers(100 * share[i], 2),
                "hovertemplate": (
                    f"<b>{name}</b>: alpha near %{{x:.2f}} in %{{customdata:.1f}} % of the neurons<extra></extra>"
                ),
            }
        )
    marks = [(0.0, "0 left out"), (1.0, "1 added whole")] + ([(1 / count, f"1/{count} averaged")] if count > 2 else [])
    rule = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
    notes = [
        note(text, value, 1, xref="x", yanchor="bottom", yshift=16 if 0 < value < 1 else 2, font={"size": SMALL})
        for value, text in marks
    ]
    for i, mean in enumerate(means):
        if math.isfinite(mean):
            text = f"mean {mean:.2f}"
            notes.append(
                note(text, 1, count - 1 - i, yref="y", xanchor="right", yanchor="bottom", font={"size": SMALL})
            )
    layout = {
        "height": 110 + 34 * count,
        "margin": {"l": 76, "r": 12, "t": 44, "b": 44},
        "xaxis": {
            "title": {"text": "alpha: weight of the task’s orthogonal part"},
            "range": [number(detail.alpha_edges[0], 4), number(detail.alpha_edges[-1], 4)],
            "zeroline": False,
        },
        "yaxis": {
            "tickvals": list(range(count)),
            "ticktext": tasks[::-1],
            "range": [-0.1, count + 0.3],
            "zeroline": False,
            "fixedrange": True,
        },
        "shapes": [
            {**rule, "x0": value, "x1": value, "line": {"color": token("axis"), "width": 1, "dash": "dot"}}
            for value, _ in marks
        ],
        "annotations": notes,
        "uirevision": f"alpha {detail.layer} {detail.matrix}",
    }
    if detail.kind != "neurons":
        layout["annotations"] = [note("entries that are merged one by one have no alpha", 0.5, 0.5, font={"size": 13})]
        layout["shapes"] = []
        data = []
    listed = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(tasks, means, strict=True) if math.isfinite(mean))
    description = (
        f"Distribution of the merge weight alpha per task in {detail.layer}, {detail.matrix}; means: {listed}."
    )
    return Figure(data, layout, description, columns={"x": "alpha", "y": "ridge height"}, name="alpha")


def contested_neurons(detail: LayerDetail) -> Figure:
    """The most contested neurons: how tied the vote was against how much is at stake.

    Clicks answer as ``neuron`` with the index into ``detail.contested``.
    """
    rows = detail.contested
    unit = _units(detail)[:-1]
    custom = [
        [
            row.index,
            number(row.mean_alpha, 2) if math.isfinite(row.mean_alpha) else "none",
            "yes" if row.ill_conditioned else "no",
        ]
        for row in rows
    ]
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers+text" if len(rows) <= 12 else "markers",
            "name": f"contested {unit}s",
            "x": [number(100 * row.tau_norm, 3) for row in rows],
            "y": [number(row.margin, 3) for row in rows],
            "text": [str(row.index) for row in rows],
            "textposition": "top center",
            "textfont": {"size": SMALL, "color": token("muted")},
            "cliponaxis": False,
            "marker": {
                "size": 11,
                "color": token("merge"),
                "opacity": 0.85,
                "symbol": ["circle-open" if row.ill_conditioned else "circle" for row in rows],
                "line": {"width": 1.5, "color": token("merge")},
            },
            "customdata": custom,
            "hovertext": [f"{unit} {row.index}" for row in rows],
            "hovertemplate": (
                "<b>%{hovertext}</b>  click to open<br>margin of the vote %{y:.3f}<br>change %{x:.2f} % of the base"
                "<br>mean alpha %{customdata[1]}<br>ill-conditioned: %{customdata[2]}<extra></extra>"
            ),
            "meta": {"source": "neuron", "index": list(range(len(rows)))},
        }
    ]
    what = f"{len(rows)} most contested {unit}s of {detail.neurons}"
    ill = f"  ·  hollow: ill-conditioned ({detail.ill_conditioned} in this layer)" if detail.kind == "neurons" else ""
    layout = {
        "height": 300,
        "margin": {"l": 56, "r": 16, "t": 34, "b": 46},
        "xaxis": {"title": {"text": "all tasks’ change, % of |w₀|"}, "showgrid": True, "zeroline": False},
        "yaxis": {"title": {"text": "margin of the vote (0: tied)"}, "rangemode": "tozero", "zeroline": False},
        "annotations": [note(what + ill, 0, 1, xanchor="left", yanchor="bottom", yshift=8)],
        "uirevision": f"contested {detail.layer} {detail.matrix}",
    }
    if not rows:
        layout["annotations"] = [note("no task moves anything here", 0.5, 0.5, font={"size": 13})]
    narrow = {
        "annotations": [
            note(
                what + ill.replace("  ·  ", "<br>"),
                0,
                1,
                xanchor="left",
                align="left",
                yanchor="bottom",
                yshift=4,
                xshift=-40,
            )
        ]
    }
    first = ", ".join(f"{row.index} (margin {row.margin:.2f})" for row in rows[:5])
    return Figure(
        data,
        layout,
        f"The {what}: {first}. Arrow keys walk them, Enter opens one.",
        [],
        narrow if rows else {},
        {"label": unit, "x": "change (% of base)", "y": "margin"},
        f"contested-{detail.layer}-{detail.matrix}",
    )
