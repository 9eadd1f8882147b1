"""Which tasks of a layer pull the same way, and which against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import LayerDetail
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.numbers import minus, nice_ceiling, numbers, signed
from neuromerge.figures.text import coloured, named_axis, task_names
from neuromerge.figures.theme import ink_on, token
from neuromerge.figures.wire import Layout, Phrases, Trace

PHRASES: Phrases = [
    (-0.3, "they pull in opposite directions"),
    (-0.05, "they pull slightly against each other"),
    (0.05, "they are unrelated here"),
    (0.3, "they pull slightly the same way"),
    (None, "they pull the same way"),
]
"""What a cosine between two tasks means."""

NUMBERED = 10
"""Tasks up to which numbers fit into the cells."""


@dataclass(frozen=True)
class Pairs:
    """One panel's numbers: each pair once (T - 1, T - 1), NaN above the diagonal. `axis`: suffix of Plotly's axes."""

    name: str
    axis: str
    cosines: np.ndarray

    @property
    def domain(self) -> dict[str, Any]:
        """The panel's own area as the reference of a note."""
        return {"xref": f"x{self.axis} domain", "yref": f"y{self.axis} domain"}


def task_cosines(detail: LayerDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """Cosines between the tasks' parts, parallel and orthogonal: 1 the same way, 0 unrelated, -1 opposed.

    The colours end at the largest cosine of the two panels, so that small ones can be told apart; numbers stand in
    the cells as long as they fit.
    """
    tasks = task_names(detail.tasks, titles, 12)
    panels = (
        Pairs("parallel", "", each_pair_once(detail.cosine_parallel)),
        Pairs("orthogonal", "2", each_pair_once(detail.cosine_orthogonal)),
    )
    layout, narrow = _layouts(tasks, panels)
    return Figure(
        data=[_trace(panel, tasks, bound(panels)) for panel in panels],
        layout=layout,
        description=f"Cosine between every two tasks in {detail.layer}, {detail.matrix}, for both subspaces.",
        narrow_layout=narrow,
        columns={"x": "task", "y": "other task", "z": "cosine"},
        name="task-cosines",
    )


def each_pair_once(matrix: np.ndarray) -> np.ndarray:
    """The lower half of a symmetric (T, T): the diagonal says nothing and the upper half repeats the lower."""
    return np.where(np.tri(len(matrix), k=-1, dtype=bool), matrix, np.nan)[1:, :-1]


def bound(panels: tuple[Pairs, ...]) -> float:
    """Where the colours end: a round number at or above the largest cosine of all panels."""
    seen = np.abs(np.concatenate([panel.cosines.ravel() for panel in panels]))
    return min(1.0, nice_ceiling(max(0.05, float(seen[np.isfinite(seen)].max(initial=0.0)))))


def _trace(panel: Pairs, tasks: list[str], end: float) -> Trace:
    """The cells of one panel; colours run from -end to end."""
    written = len(tasks) <= NUMBERED
    return {
        "type": "heatmap",
        "name": panel.name,
        "z": numbers(panel.cosines, 3),
        "xaxis": f"x{panel.axis}",
        "yaxis": f"y{panel.axis}",
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "text": [[_text(value, end) for value in line] for line in panel.cosines.tolist()] if written else [],
        "texttemplate": "%{text}" if written else "",
        "textfont": {"size": 10},
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {"rows": tasks[1:], "columns": tasks[:-1], "hover": cell_hover(f"cosine, {panel.name}", PHRASES)},
    }


def _text(value: float, end: float) -> str:
    """A cosine as its cell writes it, legible on the cell's colour."""
    if not math.isfinite(value):
        return ""
    return coloured(minus(f"{value:.2f}"), ink_on("diverging", (value / end + 1) / 2))


def _captions(panel: Pairs, tasks: int) -> list[dict[str, Any]]:
    """The panel's title, and its mean or why it is empty."""
    title = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 6, "font": {"size": 13}}
    values = panel.cosines[np.isfinite(panel.cosines)]
    if values.size:
        below = {"text": f"mean {signed(values.mean())}", "x": 1, "y": 1, "xanchor": "right", "yanchor": "top"}
    else:
        what = "one task only" if tasks < 2 else "no parallel part here" if panel.name == "parallel" else "nothing here"
        below = {"text": what, "x": 0.5, "y": 0.5}
    head = {"text": coloured(f"<b>{panel.name}</b>", panel.name), **title}
    return [{**head, **panel.domain, "showarrow": False}, {**below, **panel.domain, "showarrow": False}]


def _layouts(tasks: list[str], panels: tuple[Pairs, ...]) -> tuple[Layout, Layout]:
    """The panels side by side, and the changes that stack them."""
    size = max(len(tasks) - 1, 1)
    end = bound(panels)
    across = named_axis(tasks[:-1] or [""], angle=-45)
    down = named_axis(tasks[1:] or [""], down=True)
    ticks = [minus(f"{-end:g} against"), "0", f"{end:g} with"]
    layout = {
        "height": 150 + 26 * size,
        "margin": {"l": 74, "r": 66, "t": 30, "b": 74},
        "xaxis": {**across, "domain": [0, 0.47]},
        "yaxis": down,
        "xaxis2": {**across, "domain": [0.53, 1], "anchor": "y2"},
        "yaxis2": {**down, "anchor": "x2", "showticklabels": False},
        "coloraxis": {
            "cmin": -end,
            "cmax": end,
            "colorscale": token("diverging"),
            "colorbar": {"x": 1.01, "xanchor": "left", "tickvals": [-end, 0, end], "ticktext": ticks},
        },
        "annotations": [caption for panel in panels for caption in _captions(panel, len(tasks))],
        "uirevision": f"cosines {len(tasks)}",
    }
    below = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2, "yanchor": "top"}
    narrow = {
        "height": 240 + 44 * size,
        "margin": {"l": 74, "r": 8, "t": 30, "b": 110},
        "xaxis": {"domain": [0, 1], "showticklabels": False},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [0.54, 1]},
        "yaxis2": {"domain": [0, 0.46], "showticklabels": True},
        "coloraxis": {"colorbar": {**below, "tickangle": 0, "len": 0.78}},
    }
    return layout, narrow
