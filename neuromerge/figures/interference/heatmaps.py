"""Where tasks interfere: one measure over the layers and matrices of the network, in both subspaces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.numbers import minus, nice_ceiling, number, numbers
from neuromerge.figures.text import coloured, plain, wrapped
from neuromerge.figures.theme import token
from neuromerge.figures.wire import Layout, Phrases, Trace
from neuromerge.merging.measures import Measure

MAIN = ("q", "k", "v", "out", "fc1", "fc2")
"""The matrices every block has; a gap sets them apart from what only some layers have."""

_SHORT = {"embedding": "emb.", "projection": "proj."}

NO_MATRIX = "this layer has no such matrix"
NO_PARALLEL = "not applicable: norms, biases and embeddings have no parallel part"


def limits(heatmap: Heatmap) -> tuple[float, float]:
    """Ends of the shared colour scale. Measures without a bound of their own end at a round number, so that the
    scale stays put while a slider moves; diverging ones are symmetric about 0."""
    values = np.concatenate([heatmap.parallel.ravel(), heatmap.orthogonal.ravel()])
    values = values[np.isfinite(values)]
    low, high = heatmap.measure.low, heatmap.measure.high
    # One extreme layer must not wash out the others: beyond the 99th percentile the colour saturates.
    largest = float(np.quantile(np.abs(values), 0.99)) if values.size else 1.0
    if heatmap.measure.signed:
        bound = max(abs(low), abs(high)) if high is not None and math.isfinite(low) else nice_ceiling(largest)
        return -bound, bound
    return (low if math.isfinite(low) else 0.0), (high if high is not None else nice_ceiling(largest))


@dataclass(frozen=True)
class Panel:
    """One subspace: its numbers, and what stands around them. `axis` is the suffix of Plotly's axes."""

    name: str
    axis: str
    says: str
    values: np.ndarray  # (rows, columns), NaN: no value
    reason: str  # why the whole panel is flat

    @property
    def domain(self) -> dict[str, str]:
        """The panel's own area as the reference of a note."""
        return {"xref": f"x{self.axis} domain", "yref": f"y{self.axis} domain"}

    @property
    def axes(self) -> dict[str, str]:
        """The panel's axes as the reference of a shape."""
        return {"xref": f"x{self.axis}", "yref": f"y{self.axis}"}


def panels(heatmap: Heatmap) -> tuple[Panel, Panel]:
    """The two panels of a heatmap."""
    return (
        Panel("parallel", "", "how strongly a neuron answers", heatmap.parallel, heatmap.note_parallel),
        Panel("orthogonal", "2", "what a neuron answers to", heatmap.orthogonal, heatmap.note_orthogonal),
    )


def interference_heatmaps(
    heatmap: Heatmap, *, tasks: int | None = None, selected: tuple[int, int] | None = None
) -> Figure:
    """Two panels, parallel and orthogonal, on one colour scale; side by side, or stacked when narrow.

    Clicks answer as ``parallel`` and ``orthogonal`` with row and column.

    Args:
        heatmap: values (rows, columns) per subspace, NaN where there is no such part.
        tasks: number of merged tasks T, for the words about the values.
        selected: (row, column) of the cell that is open, outlined in both panels.
    """
    measure = heatmap.measure
    meaning = list(measure.words(tasks or 0))
    absent = ~np.isfinite(heatmap.parallel) & ~np.isfinite(heatmap.orthogonal)
    data: list[Trace] = []
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for panel in panels(heatmap):
        data += [_ground(panel, absent), _cells(panel, heatmap, meaning, absent)]
        shapes += _marks(panel, heatmap, selected)
        notes += _captions(panel)
    layout, narrow = _layouts(heatmap, _colour_axis(measure, limits(heatmap), tasks), shapes, notes)
    return Figure(
        data=data,
        layout=layout,
        description=describe(heatmap),
        narrow_layout=narrow,
        columns={"x": "matrix", "y": "layer", "z": measure.key},
        name=f"interference-{measure.key}",
    )


# ------------------------------------------------------------------------------------------------ traces
def _ground(panel: Panel, absent: np.ndarray) -> Trace:
    """Grey under the cells that have no value: darker where a matrix exists but has no such part."""
    missing = ~np.isfinite(panel.values)
    grey = [
        [(0 if gone else 1) if hole else None for hole, gone in zip(*pair, strict=True)]
        for pair in zip(missing, absent, strict=True)
    ]
    return {
        "type": "heatmap",
        "z": grey,
        "xaxis": f"x{panel.axis}",
        "yaxis": f"y{panel.axis}",
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, token("raised")], [1, token("not-applicable")]],
        "showscale": False,
        "hoverinfo": "skip",
        "meta": {"csv": False},
    }


def _cells(panel: Panel, heatmap: Heatmap, meaning: Phrases, absent: np.ndarray) -> Trace:
    """The values of one panel, with all the hover needs to explain them."""
    return {
        "type": "heatmap",
        "name": panel.name,
        "z": numbers(panel.values, 3),
        "xaxis": f"x{panel.axis}",
        "yaxis": f"y{panel.axis}",
        "coloraxis": "coloraxis",
        "hoverongaps": True,
        "hovertemplate": "%{text}<extra></extra>",
        "meta": {
            "source": panel.name,
            "rows": [plain(row, 24) for row in heatmap.rows],
            "columns": [plain(column, 24) for column in heatmap.columns],
            "hover": cell_hover(
                f"{plain(heatmap.measure.title)}, {panel.name}",
                meaning,
                blank=NO_MATRIX,
                cells=np.flatnonzero(~np.isfinite(panel.values) & ~absent).tolist(),
                reason=NO_PARALLEL,
            ),
        },
    }


# ------------------------------------------------------------------------------------------------ layout
def _marks(panel: Panel, heatmap: Heatmap, selected: tuple[int, int] | None) -> list[dict[str, Any]]:
    """A strip of background before what only some layers have, and a frame around the cell that is open."""
    rows, width = len(heatmap.rows), len(heatmap.columns)
    main = sum(column in MAIN for column in heatmap.columns)
    marks: list[dict[str, Any]] = []
    if 0 < main < width and all(column in MAIN for column in heatmap.columns[:main]):
        line = {"color": token("surface"), "width": 7}
        ends = {"x0": main - 0.5, "x1": main - 0.5, "y0": -0.5, "y1": rows - 0.5}
        marks.append({"type": "line", **panel.axes, **ends, "line": line})
    if selected is not None and 0 <= selected[0] < rows and 0 <= selected[1] < width:
        row, column = selected
        box = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
        marks.append({"type": "rect", **panel.axes, **box, "line": {"color": token("ink"), "width": 2}})
    return marks


def _captions(panel: Panel) -> list[dict[str, Any]]:
    """The panel's title, and why it is flat where it is."""
    title = f"{coloured(f'<b>{panel.name}</b>', panel.name)}  <span style='font-size:12px'>{panel.says}</span>"
    place = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "xshift": 0, "yshift": 26}
    captions: list[dict[str, Any]] = [
        {"text": title, **panel.domain, **place, "font": {"size": 14}, "showarrow": False}
    ]
    if panel.reason:
        captions.append(
            {
                "text": wrapped(panel.reason, 36, 5),
                **panel.domain,
                "x": 0.5,
                "y": 0.5,
                "showarrow": False,
                "bgcolor": token("surface"),
                "bordercolor": token("axis"),
                "borderpad": 8,
                "font": {"size": 12, "color": token("ink")},
            }
        )
    return captions


def _colour_axis(measure: Measure, ends: tuple[float, float], tasks: int | None) -> dict[str, Any]:
    """The shared colour scale; values that have a name are named on its bar."""
    low, high = ends
    named = measure.ends(tasks or 0)
    ticks = sorted({low, high, (low + high) / 2, *(value for value in named if low <= value <= high)})
    # A named tick replaces a bare one that would stand too near.
    ticks = [t for t in ticks if t in named or all(abs(t - n) > 0.2 * (high - low) for n in named)]
    texts = [minus(f"{number(t, 2):g} {named.get(t, '')}").strip() for t in ticks]
    place = {"x": 1.01, "xanchor": "left", "len": 1, "y": 0.5, "title": {"text": ""}}
    return {
        "cmin": low,
        "cmax": high,
        "colorscale": token("diverging" if measure.signed else "sequential"),
        "colorbar": {**place, "tickvals": ticks, "ticktext": texts},
    }


def _layouts(
    heatmap: Heatmap, colours: dict[str, Any], shapes: list[dict[str, Any]], notes: list[dict[str, Any]]
) -> tuple[Layout, Layout]:
    """The panels side by side, and the changes that stack them."""
    rows, width = len(heatmap.rows), len(heatmap.columns)
    bare = {"showgrid": False, "zeroline": False}
    across = {
        "tickvals": list(range(width)),
        "ticktext": [_SHORT.get(name, plain(name, 12)) for name in heatmap.columns],
        "range": [-0.5, width - 0.5],
        "side": "top",
        "autotickangles": [0, -45],
        **bare,
    }
    down = {
        "tickvals": list(range(rows)),
        "ticktext": [plain(name, 16) for name in heatmap.rows],
        "range": [rows - 0.5, -0.5],
        **bare,
    }
    row = min(34, max(22, 310 // max(rows, 1)))
    layout = {
        "height": 62 + row * rows,
        "margin": {"l": 60, "r": 100, "t": 52, "b": 10},
        "xaxis": {**across, "domain": [0, 0.485]},
        "yaxis": down,
        "xaxis2": {**across, "domain": [0.515, 1], "anchor": "y2", "matches": "x"},
        "yaxis2": {**down, "anchor": "x2", "matches": "y", "showticklabels": False},
        "coloraxis": colours,
        "shapes": shapes,
        "annotations": notes,
        "uirevision": f"interference {rows} {width}",
    }
    lying = {
        # What a value means stands below it, where there is no room beside it.
        "ticktext": [text.replace(" ", "<br>", 1) for text in colours["colorbar"]["ticktext"]],
        "orientation": "h",
        "x": 0.5,
        "xanchor": "center",
        "y": -0.02,
        "yanchor": "top",
        "tickangle": 0,
        "len": 0.78,
    }
    narrow = {
        "height": 224 + 2 * min(row, 26) * rows,
        "margin": {"l": 56, "r": 6, "t": 66, "b": 62},
        "xaxis": {"domain": [0, 1]},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [0.56, 1]},
        "yaxis2": {"domain": [0, 0.44], "showticklabels": True},
        "coloraxis": {"colorbar": lying},
        "annotations": [{**text, "xshift": -52, "yshift": 40} if "xshift" in text else text for text in notes],
    }
    return layout, narrow


# ------------------------------------------------------------------------------------------------ words
def describe(heatmap: Heatmap) -> str:
    """What the two panels show, in words: the measure and where it is largest."""
    measure = heatmap.measure
    parts = [f"Two heatmaps of {measure.title} over {len(heatmap.rows)} layers and {len(heatmap.columns)} matrices."]
    for name, values, reason in (
        ("parallel", heatmap.parallel, heatmap.note_parallel),
        ("orthogonal", heatmap.orthogonal, heatmap.note_orthogonal),
    ):
        if not np.isfinite(values).any():
            parts.append(f"In the {name} panel nothing applies.")
            continue
        row, column = np.unravel_index(int(np.nanargmax(values)), values.shape)
        where = f"{heatmap.rows[row]}, {heatmap.columns[column]}"
        parts.append(
            f"{name.capitalize()}: from {np.nanmin(values):.3g} to {np.nanmax(values):.3g}, "
            f"mean {np.nanmean(values):.3g}, largest in {where}." + (f" {reason}" if reason else "")
        )
    return " ".join([*parts, "Use the arrow keys to walk the cells and Enter to open one."])
