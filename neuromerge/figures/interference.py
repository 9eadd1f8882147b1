"""Where tasks interfere: one measure over the layers and matrices of the network, in both subspaces."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.figure import Figure, Trace, nice_ceiling, number, numbers, phrase, plain, wrapped
from neuromerge.figures.theme import token
from neuromerge.merging.measures import Measure

MAIN = ("q", "k", "v", "out", "fc1", "fc2")
"""The matrices every block has; a gap sets them apart from what only some layers have."""

_SHORT = {"embedding": "emb.", "projection": "proj."}

NO_MATRIX = "this layer has no such matrix"
NO_PARALLEL = "not applicable: norms, biases and embeddings have no parallel part"

Words = list[list[Any]]


def words(measure: Measure, tasks: int | None = None) -> Words:
    """What values of `measure` mean, as pairs [upper bound, phrase]; `tasks` is the number of merged tasks."""
    return [[bound, phrase] for bound, phrase in measure.words(tasks or 0)]


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


def interference_heatmaps(
    heatmap: Heatmap, *, tasks: int | None = None, selected: tuple[int, int] | None = None
) -> Figure:
    """Two panels, parallel and orthogonal, on one colour scale; side by side, or stacked when narrow.

    Clicks answer as ``parallel`` and ``orthogonal`` with row and column.

    Args:
        heatmap: values (rows, columns) per subspace, NaN where there is no such part.
        tasks: number of merged tasks T, for the words about cancellation.
        selected: (row, column) of the cell that is open, outlined in both panels.
    """
    measure = heatmap.measure
    low, high = limits(heatmap)
    meaning = words(measure, tasks)
    rows, width = len(heatmap.rows), len(heatmap.columns)
    absent = ~np.isfinite(heatmap.parallel) & ~np.isfinite(heatmap.orthogonal)

    panels = (
        ("parallel", heatmap.parallel, "", "how strongly a neuron answers"),
        ("orthogonal", heatmap.orthogonal, "2", "what a neuron answers to"),
    )
    data: list[Trace] = []
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for name, values, axis, what in panels:
        missing = ~np.isfinite(values)
        data.append(_ground(missing, absent, axis))
        data.append(_cells(heatmap, name, values, axis, meaning, absent))
        reason = heatmap.note_parallel if name == "parallel" else heatmap.note_orthogonal
        ref = {"xref": f"x{axis} domain", "yref": f"y{axis} domain"}
        colour = f"color:{token(name)}"
        title = f"<span style='{colour}'><b>{name}</b></span>  <span style='font-size:12px'>{what}</span>"
        place = {**ref, "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "xshift": 0, "yshift": 26}
        notes.append({"text": title, **place, "font": {"size": 14}, "showarrow": False})
        if reason:
            notes.append(_reason(reason, ref))
        main = sum(column in MAIN for column in heatmap.columns)
        if 0 < main < width and all(column in MAIN for column in heatmap.columns[:main]):
            shapes.append(_divide(main - 0.5, rows, axis))
        if selected is not None and 0 <= selected[0] < rows and 0 <= selected[1] < width:
            shapes.append(_outline(selected, axis))

    across = {
        "tickvals": list(range(width)),
        "ticktext": [_SHORT.get(name, plain(name, 12)) for name in heatmap.columns],
        "range": [-0.5, width - 0.5],
        "side": "top",
        "autotickangles": [0, -45],
        "showgrid": False,
        "zeroline": False,
    }
    down = {
        "tickvals": list(range(rows)),
        "ticktext": [plain(name, 16) for name in heatmap.rows],
        "range": [rows - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
    }
    row = min(34, max(22, 310 // max(rows, 1)))
    ticks = _bar_ticks(measure, low, high, tasks)
    layout = {
        "height": 62 + row * rows,
        "margin": {"l": 60, "r": 100, "t": 52, "b": 10},
        "xaxis": {**across, "domain": [0, 0.485]},
        "yaxis": down,
        "xaxis2": {**across, "domain": [0.515, 1], "anchor": "y2", "matches": "x"},
        "yaxis2": {**down, "anchor": "x2", "matches": "y", "showticklabels": False},
        "coloraxis": {
            "cmin": low,
            "cmax": high,
            "colorscale": token("diverging" if measure.signed else "sequential"),
            "colorbar": {
                "x": 1.01,
                "xanchor": "left",
                "len": 1,
                "y": 0.5,
                "title": {"text": ""},
                **ticks,
            },
        },
        "shapes": shapes,
        "annotations": notes,
        "uirevision": f"interference {rows} {width}",
    }
    lying = {
        # What a value means stands below it, where there is no room beside it.
        "ticktext": [text.replace(" ", "<br>", 1) for text in ticks["ticktext"]],
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
    return Figure(
        data,
        layout,
        describe(heatmap),
        [],
        narrow,
        columns={"x": "matrix", "y": "layer", "z": measure.key},
        name=f"interference-{measure.key}",
    )


def _ground(missing: np.ndarray, absent: np.ndarray, axis: str) -> Trace:
    """Grey under the cells that have no value: darker where a matrix exists but has no such part."""
    grey = [
        [(0 if gone else 1) if hole else None for hole, gone in zip(*pair, strict=True)]
        for pair in zip(missing, absent, strict=True)
    ]
    return {
        "type": "heatmap",
        "z": grey,
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, token("raised")], [1, token("not-applicable")]],
        "showscale": False,
        "hoverinfo": "skip",
        "meta": {"csv": False},
    }


def _cells(heatmap: Heatmap, name: str, values: np.ndarray, axis: str, meaning: Words, absent: np.ndarray) -> Trace:
    """The values of one panel, with all the hover needs to explain them."""
    return {
        "type": "heatmap",
        "name": name,
        "z": numbers(values, 3),
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
        "coloraxis": "coloraxis",
        "hoverongaps": True,
        "hovertemplate": "%{text}<extra></extra>",
        "meta": {
            "source": name,
            "title": f"{plain(heatmap.measure.title)}, {name}",
            "rows": [plain(row, 24) for row in heatmap.rows],
            "columns": [plain(column, 24) for column in heatmap.columns],
            "words": [*(meaning or [[None, ""]]), [None, NO_MATRIX]],
            "na": {"cells": np.flatnonzero(~np.isfinite(values) & ~absent).tolist(), "text": NO_PARALLEL},
        },
    }


def _divide(at: float, rows: int, axis: str) -> dict[str, Any]:
    """A strip of background between the matrices of every block and the rest."""
    return {
        "type": "line",
        "xref": f"x{axis}",
        "yref": f"y{axis}",
        "x0": at,
        "x1": at,
        "y0": -0.5,
        "y1": rows - 0.5,
        "line": {"color": token("surface"), "width": 7},
    }


def _outline(cell: tuple[int, int], axis: str) -> dict[str, Any]:
    """A frame around the cell that is open."""
    row, column = cell
    return {
        "type": "rect",
        "xref": f"x{axis}",
        "yref": f"y{axis}",
        "x0": column - 0.5,
        "x1": column + 0.5,
        "y0": row - 0.5,
        "y1": row + 0.5,
        "line": {"color": token("ink"), "width": 2},
    }


def _reason(text: str, ref: dict[str, str]) -> dict[str, Any]:
    """Why a whole panel is flat, written over it."""
    return {
        "text": wrapped(text, 36, 5),
        **ref,
        "x": 0.5,
        "y": 0.5,
        "showarrow": False,
        "bgcolor": token("surface"),
        "bordercolor": token("axis"),
        "borderpad": 8,
        "font": {"size": 12, "color": token("ink")},
    }


def _bar_ticks(measure: Measure, low: float, high: float, tasks: int | None) -> dict[str, Any]:
    """Ticks of the colour bar; bounded measures have their ends named."""
    named = measure.ends(tasks or 0)
    ticks = sorted({low, high, (low + high) / 2, *(value for value in named if low <= value <= high)})
    # A named tick replaces a bare one that would stand too near.
    ticks = [t for t in ticks if t in named or all(abs(t - n) > 0.2 * (high - low) for n in named)]
    return {
        "tickvals": ticks,
        "ticktext": [f"{number(t, 2):g} {named.get(t, '')}".replace("-", "−").strip() for t in ticks],
    }


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


def as_rows(heatmap: Heatmap) -> tuple[list[str], list[list[str | float | None]]]:
    """The heatmaps as a table: header and rows ``[layer, subspace, value per matrix ...]``; None: not applicable."""
    header = ["layer", "subspace", *heatmap.columns]
    body: list[list[str | float | None]] = []
    for i, layer in enumerate(heatmap.rows):
        for name, values in (("parallel", heatmap.parallel), ("orthogonal", heatmap.orthogonal)):
            if np.isfinite(values[i]).any():
                body.append([layer, name, *numbers(values[i], 3)])
    return header, body


def as_table(heatmap: Heatmap, tasks: int | None = None) -> str:
    """The heatmaps as an HTML table with a caption, for everyone who would rather read numbers."""
    header, body = as_rows(heatmap)
    meaning = words(heatmap.measure, tasks)
    lines = [
        f"<caption>{escape(heatmap.measure.title)}: {escape(heatmap.measure.sentence)} "
        "A dash means: not applicable.</caption>",
        "<thead><tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in header) + "</tr></thead>",
        "<tbody>",
    ]
    for layer, subspace, *values in body:
        cells = [f'<th scope="row">{escape(str(layer))}</th>', f"<td>{subspace}</td>"]
        for value in values:
            if isinstance(value, float):
                title = f' title="{escape(phrase(value, [*meaning, [None, ""]]))}"' if meaning else ""
                cells.append(f"<td{title}>{value:.3g}</td>")
            else:
                cells.append('<td class="nm-na" title="not applicable">–</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="nm-scroll" tabindex="0"><table class="nm-table">{"".join(lines)}</tbody></table></div>'
