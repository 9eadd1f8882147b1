"""How far each task moves each neuron of a layer, with the margin of the vote above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuromerge.exploration.results import LayerDetail
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.layer.units import unit, units
from neuromerge.figures.numbers import numbers, robust_range
from neuromerge.figures.text import note, task_names
from neuromerge.figures.theme import token
from neuromerge.figures.wire import Layout, Trace

SORTS = {
    "contested": "most contested vote first",
    "strength": "largest change first",
    "index": "as stored",
}


@dataclass(frozen=True)
class Strengths:
    """The numbers of the figure: `percent` (T, bins) of the base weights' length, and what a bin holds."""

    tasks: list[str]
    spans: list[str]
    percent: np.ndarray
    margin: np.ndarray
    ends: tuple[float, float]
    axis: str


def neurons_by_tasks(detail: LayerDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """How far each task moves each neuron, with the margin of the vote above it.

    Neurons are binned; columns follow the sorting of `detail`. Colours saturate at the 99th percentile.
    """
    found = strengths(detail, titles)
    layout, narrow = _layouts(detail, found)
    return Figure(
        data=_traces(found),
        layout=layout,
        description=(
            f"Heatmap of {len(found.tasks)} tasks by {found.axis} of {detail.layer}, {detail.matrix}, "
            f"{SORTS.get(detail.sort, detail.sort)}: the length of each task's change, up to {found.ends[1]:g} percent "
            f"of the base weights. Above it the margin of the vote, {np.nanmean(detail.margin):.2f} on average."
        ),
        narrow_layout=narrow,
        columns={"x": units(detail), "y": "task", "z": "change (% of base)", "label": units(detail)},
        name=f"neurons-{detail.layer}-{detail.matrix}",
    )


def strengths(detail: LayerDetail, titles: Mapping[str, str] | None) -> Strengths:
    """The numbers of the figure."""
    edges = [int(edge) for edge in detail.bin_edges]
    spans = [
        f"{units(detail)} {a + 1} to {b}" if b > a + 1 else f"{unit(detail)} {b}"
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    percent = 100 * detail.strength.T
    axis = f"{detail.neurons} {units(detail)}"
    return Strengths(
        task_names(detail.tasks, titles), spans, percent, detail.margin, robust_range(percent, low=0.0), axis
    )


def _traces(found: Strengths) -> list[Trace]:
    """The tasks' changes as colours, the margin as a line."""
    return [
        {
            "type": "heatmap",
            "name": "strength",
            "z": numbers(found.percent, 3),
            "coloraxis": "coloraxis",
            "xgap": 0,
            "ygap": 2,
            "hovertemplate": "%{hovertext}<extra></extra>",
            "meta": {"rows": found.tasks, "columns": found.spans, "hover": cell_hover("change as % of the base")},
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "vote margin",
            "x": list(range(len(found.spans))),
            "y": numbers(found.margin, 3),
            "yaxis": "y2",
            "line": {"color": token("orthogonal"), "width": 1.5, "shape": "hvh"},
            "fill": "tozeroy",
            "fillcolor": "rgba(201,84,10,0.14)",
            "hovertext": found.spans,
            "hovertemplate": "%{hovertext}<br>margin of the vote %{y:.2f}<extra></extra>",
        },
    ]


def _layouts(detail: LayerDetail, found: Strengths) -> tuple[Layout, Layout]:
    """The margin above the heatmap, the colour bar beside it or, narrow, below."""
    bins, count = len(found.spans), len(found.tasks)
    per_bin = detail.neurons / max(bins, 1)
    many = "" if per_bin <= 1.01 else f", {per_bin:.0f} to a column" if per_bin >= 2 else ", one or two to a column"
    order = SORTS.get(detail.sort, detail.sort)
    low, top = found.ends
    layout = {
        "height": 150 + 22 * count,
        "margin": {"l": 76, "r": 76, "t": 30, "b": 34},
        "xaxis": {
            "anchor": "y",
            "range": [-0.5, bins - 0.5],
            "tickvals": [-0.5, bins / 2 - 0.5, bins - 0.5],
            "ticktext": ["1", f"{found.axis}, {order}{many}", f"{detail.neurons}"],
            "zeroline": False,
        },
        "yaxis": {
            "domain": [0, 0.7],
            "tickvals": list(range(count)),
            "ticktext": found.tasks,
            "range": [count - 0.5, -0.5],
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
    below = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.16, "yanchor": "top", "len": 0.9}
    narrow = {
        "margin": {"l": 70, "r": 8, "b": 76},
        "height": 190 + 22 * count,
        "xaxis": {"tickvals": [bins / 2 - 0.5], "ticktext": [f"{found.axis}, {order}"]},
        "coloraxis": {"colorbar": below},
    }
    return layout, narrow
