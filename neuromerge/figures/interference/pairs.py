"""Between tasks: who pulls against whom, and what each task keeps of its own change in the merge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import BetweenTasks
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.interference.heatmaps import colour_ticks, scale_of
from neuromerge.figures.numbers import minus, numbers, percents, robust_bound, round_frame, short
from neuromerge.figures.text import coloured, named_axis, task_names
from neuromerge.figures.theme import SMALL, ink_on, token
from neuromerge.figures.wire import Layout, Trace
from neuromerge.merging.measures import get_measure

PANELS = ("parallel", "orthogonal")
NUMBERED = 10
"""Tasks up to which numbers fit into the cells."""
ROW = 28
"""Height in pixels of a task's row."""
ITSELF = "a task does not pull against itself"
NO_PART = "one of the two changes nothing here"


@dataclass(frozen=True)
class Pairs:
    """The rows of one panel: (rows, T) conflict with each task, NaN where there is none; `axis`: suffix of its axes."""

    name: str
    axis: str
    rows: tuple[int, ...]
    conflict: np.ndarray

    @property
    def end(self) -> float:
        """Where the colours end on both sides of 0: the panel's own robust range."""
        return robust_bound(self.conflict, 1.0)


def task_pairs(between: BetweenTasks, titles: Mapping[str, str] | None = None, only: str = "") -> Figure:
    """Conflict of every two tasks, parallel and orthogonal: above 0 against each other, below 0 together.

    Each panel has its own colour scale, as the map's panels have. A cell answers clicks as ``parallel`` or
    ``orthogonal`` with the places of its two tasks in ``between.tasks``; a task's name as ``task``.

    Args:
        between: the numbers.
        titles: names to show instead of the tasks' keys.
        only: the task whose row alone is drawn; all where it is empty.
    """
    names = task_names(between.tasks, titles, 14)
    rows = tuple(place for place, task in enumerate(between.tasks) if only in ("", task))
    panels = [
        Pairs(name, suffix, rows, between.conflict[name][list(rows)])
        for name, suffix in zip(PANELS, ("", "2"), strict=True)
    ]
    layout, narrow = _layouts(panels, names)
    return Figure(
        data=[_trace(panel, names, between) for panel in panels],
        layout={**layout, "uirevision": f"pairs {len(rows)} {len(names)}"},
        narrow_layout=narrow,
        description=_describe(panels, between, names),
        columns={"x": "task", "y": "other task", "z": "conflict"},
        held=["coloraxis", "coloraxis2"],
        name="between-tasks",
    )


def _trace(panel: Pairs, names: list[str], between: BetweenTasks) -> Trace:
    """The cells of one panel with their hover texts."""
    written = len(names) <= NUMBERED
    count = len(names)
    own = [at * count + row for at, row in enumerate(panel.rows)]
    both = between.conflict["both"]
    marks = {
        at * count + other: f"both parts together: {minus(short(both[row, other]))}"
        for at, row in enumerate(panel.rows)
        for other in range(count)
        if math.isfinite(both[row, other])
    }
    marks |= {
        place: f"{names[row]} asks for {100 * between.share[row]:.0f} % of all change here"
        for place, row in zip(own, panel.rows, strict=True)
        if math.isfinite(between.share[row])
    }
    return {
        "type": "heatmap",
        "name": panel.name,
        "z": numbers(panel.conflict, 3),
        "xaxis": f"x{panel.axis}",
        "yaxis": f"y{panel.axis}",
        "coloraxis": f"coloraxis{panel.axis}",
        "hoverongaps": True,
        "text": [[_text(value, panel.end) for value in line] for line in panel.conflict.tolist()] if written else [],
        "texttemplate": "%{text}" if written else "",
        "textfont": {"size": 10},
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {
            "source": panel.name,
            "rows": [names[row] for row in panel.rows],
            "columns": names,
            "hover": cell_hover(
                f"conflict, {panel.name}",
                list(get_measure("conflict").words(count)),
                blank=NO_PART,
                cells=own,
                reason=ITSELF,
                marks=marks,
            ),
        },
    }


def _text(value: float, end: float) -> str:
    """A conflict as its cell writes it, legible on the cell's colour."""
    if not math.isfinite(value):
        return ""
    text = minus(f"{value:.2f}") if abs(value) >= 0.005 else "0"
    return coloured(text, ink_on(scale_of(get_measure("conflict")), min(1.0, max(0.0, (value / end + 1) / 2))))


def _captions(panel: Pairs) -> list[dict[str, Any]]:
    """The panel's title, and why it is empty where it is."""
    domain = {"xref": f"x{panel.axis} domain", "yref": f"y{panel.axis} domain", "showarrow": False}
    head = {"x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 6, "font": {"size": 14}}
    captions = [{"text": coloured(f"<b>{panel.name}</b>", panel.name), **head, **domain}]
    if not np.isfinite(panel.conflict).any():
        what = "one task only" if panel.conflict.shape[1] < 2 else f"no {panel.name} part here"
        captions.append({"text": what, "x": 0.5, "y": 0.5, **domain})
    return captions


def _layouts(panels: list[Pairs], names: list[str]) -> tuple[Layout, Layout]:
    """The panels side by side, and the changes that stack them."""
    rows = [names[row] for row in panels[0].rows]
    across = named_axis(names, angle=-45)
    down = named_axis(rows, down=True)
    bars = [_bar(panel, middle) for panel, middle in zip(panels, (0.24, 0.76), strict=True)]
    layout: Layout = {
        "height": 156 + ROW * len(rows),
        "margin": {"l": 92, "r": 12, "t": 34, "b": 122},
        "xaxis": {**across, "domain": [0, 0.48]},
        "yaxis": down,
        "xaxis2": {**across, "domain": [0.52, 1], "anchor": "y2"},
        "yaxis2": {**down, "anchor": "x2", "showticklabels": False},
        "coloraxis": bars[0],
        "coloraxis2": bars[1],
        "annotations": [caption for panel in panels for caption in _captions(panel)],
    }
    tall = ROW * len(rows)
    between = 150
    whole = 2 * tall + between
    narrow: Layout = {
        "height": whole + 34 + 122,
        "margin": {"l": 82, "r": 8, "t": 34, "b": 122},
        "xaxis": {"domain": [0, 1]},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [round(1 - tall / whole, 4), 1]},
        "yaxis2": {"domain": [0, round(tall / whole, 4)], "showticklabels": True},
        "coloraxis": {"colorbar": {"x": 0.5, "y": round(1 - tall / whole, 4), "len": 0.8}},
        "coloraxis2": {"colorbar": {"x": 0.5, "len": 0.8}},
    }
    return layout, narrow


def _bar(panel: Pairs, middle: float) -> dict[str, Any]:
    """The panel's own colour scale, its bar under the names of the tasks."""
    ends = dict(get_measure("conflict").ends(panel.conflict.shape[1]))
    ticks = colour_ticks((-panel.end, panel.end), ends)
    return {
        "cmin": -panel.end,
        "cmax": panel.end,
        "colorscale": token(scale_of(get_measure("conflict"))),
        "colorbar": {
            "orientation": "h",
            "x": middle,
            "xanchor": "center",
            "xpad": 0,
            "y": 0,
            "yanchor": "top",
            "ypad": 72,
            "len": 0.4,
            "thickness": 8,
            "tickangle": 0,
            "title": {"text": ""},
            "tickvals": [value for value, _ in ticks],
            "ticktext": [text for _, text in ticks],
        },
    }


def _describe(panels: list[Pairs], between: BetweenTasks, names: list[str]) -> str:
    """What the panels show, in words: where conflict is highest."""
    whose = "every two of" if len(panels[0].rows) > 1 else "one and the others of"
    parts = [f"Conflict between {whose} {len(names)} tasks, for both subspaces; above 0 they pull against each other."]
    for panel in panels:
        if np.isfinite(panel.conflict).any():
            at, other = np.unravel_index(int(np.nanargmax(panel.conflict)), panel.conflict.shape)
            pair = f"{names[panel.rows[at]]} and {names[other]}"
            parts.append(f"{panel.name.capitalize()}: highest, {panel.conflict[at, other]:.3g}, for {pair}.")
    return " ".join([*parts, "Use the arrow keys to walk the pairs and Enter to open where they conflict most."])


# ------------------------------------------------------------------------------------------------ who pays
BAR = 0.34
LOOKS = {
    "parallel": {"color": token("parallel")},
    "orthogonal": {"color": token("orthogonal")},
}


def kept_shares(between: BetweenTasks, titles: Mapping[str, str] | None = None, only: str = "") -> Figure:
    """What each task keeps of its own change in the merge, in percent: a bar a subspace, and a mark for both together.

    Args:
        between: the numbers.
        titles: names to show instead of the tasks' keys.
        only: the task that alone is drawn; all where it is empty.
    """
    places = [place for place, task in enumerate(between.tasks) if only in ("", task)]
    names = task_names([between.tasks[place] for place in places], titles, 14)
    kept = {name: percents(values[places]) for name, values in between.kept.items()}
    known = [value for values in kept.values() for value in values if value is not None]
    low, high = round_frame([*known, 100.0])
    low = low if min(known, default=0.0) < 0 else 0.0
    both = {**_kept_trace("both", kept["both"], names), "type": "scatter", "mode": "markers"}
    both["marker"] = {"symbol": "diamond", "size": 9, "color": token("merge")}
    bars = [
        {
            **_kept_trace(name, kept[name], names),
            "type": "bar",
            "orientation": "h",
            "offset": offset,
            "width": BAR,
            "marker": {**LOOKS[name], "cornerradius": 2},
        }
        for name, offset in zip(PANELS, (-BAR - 0.02, 0.02), strict=True)
    ]
    legend = "  ".join([*(f"{coloured('■', name)} {name}" for name in PANELS), f"{coloured('◆', 'merge')} both"])
    count = len(names)
    mean = [value for value in kept["both"] if value is not None]
    return Figure(
        data=[*bars, both],
        layout={
            "height": 96 + ROW * count,
            "margin": {"l": 92, "r": 20, "t": 34, "b": 44},
            "barmode": "overlay",
            "xaxis": {
                "range": [low, high],
                "ticksuffix": " %",
                "title": {"text": "kept of what the task learned"},
                "showgrid": True,
                "zeroline": True,
            },
            "yaxis": named_axis(names, down=True),
            "shapes": [
                {
                    "type": "line",
                    "x0": 100,
                    "x1": 100,
                    "yref": "paper",
                    "y0": 0,
                    "y1": 1,
                    "line": {"color": token("muted"), "width": 1, "dash": "dot"},
                }
            ],
            "annotations": [
                {
                    "text": legend,
                    "x": 0,
                    "y": 1,
                    "xref": "paper",
                    "yref": "paper",
                    "xanchor": "left",
                    "yanchor": "bottom",
                    "yshift": 8,
                    "xshift": -84,  # over the names, where there is room on a phone
                    "showarrow": False,
                    "font": {"size": SMALL + 1},
                }
            ],
            "uirevision": f"kept {count}",
        },
        description="What each task keeps of its own change in the merge, parallel, orthogonal and together; 100 % is "
        f"all of it. On average {sum(mean) / len(mean):.0f} %."
        if mean
        else "What each task keeps of its own change in the merge: none changes anything here.",
        columns={"x": "kept (%)", "y": "", "label": "task"},
        held=["xaxis.range"],
        name="kept-by-task",
    )


def _kept_trace(name: str, values: list[float | None], names: list[str]) -> Trace:
    """One number a task, at the task's row."""
    label = {"both": "both together"}.get(name, name)
    return {
        "name": label,
        "x": values,
        "y": list(range(len(names))),
        "hovertext": names,
        "hovertemplate": f"<b>%{{hovertext}}</b>: {label}<br>keeps %{{x:.0f}} % of its own change<extra></extra>",
    }
