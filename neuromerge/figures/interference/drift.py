"""Where the merged network leaves its experts: drift over blocks and tasks, and how much of it all pictures share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuromerge.exploration.results import Drift
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.interference.sentence import CellLink, Sentence
from neuromerge.figures.numbers import minus, number, numbers, robust_range, short
from neuromerge.figures.text import named_axis, plain, task_names
from neuromerge.figures.theme import ink_on, token
from neuromerge.figures.wire import Layout, Phrases, Trace

ROW = 28
"""Height in pixels of a block's row."""
NUMBERED = 10
"""Tasks up to which numbers fit into the cells."""

DRIFT_PHRASES: Phrases = [
    (0.02, "the features are the expert's own"),
    (0.1, "close to the expert's features"),
    (0.3, "clearly away from the expert's features"),
    (None, "far from the expert's features"),
]
COMMON_PHRASES: Phrases = [
    (0.2, "the difference is another one on every picture"),
    (0.6, "a part of the difference is the same on all pictures"),
    (None, "most of the difference is the same on all pictures"),
]
NOTHING = "nothing differs here"

PANELS = ("drift", "common")
TITLES = {"drift": "<b>drift</b>", "common": "<b>common share</b>"}
SAYS = {"drift": "1 − cosine to the expert", "common": "same on all pictures"}


def drift_heatmaps(drift: Drift, titles: Mapping[str, str] | None = None) -> Figure:
    """Two panels over blocks and tasks: drift, and the share of the difference that is common to all pictures.

    Each has its own colour scale. Cells answer clicks as ``drift`` and ``common`` with the places of the block and
    the task.

    Args:
        drift: the numbers.
        titles: names to show instead of the tasks' keys.
    """
    names = task_names(drift.tasks, titles, 14)
    values = {"drift": drift.drift, "common": drift.common}
    scales = {"drift": robust_range(drift.drift, 0.0, 2.0), "common": (0.0, 1.0)}
    layout, narrow = _layouts(drift, names, scales)
    return Figure(
        data=[
            _trace(name, suffix, values[name], scales[name], drift, names)
            for name, suffix in zip(PANELS, ("", "2"), strict=True)
        ],
        layout={**layout, "uirevision": f"drift {len(drift.blocks)} {len(names)}"},
        narrow_layout=narrow,
        description=f"Drift of the merged network's features from each task's expert over {len(drift.blocks)} blocks "
        f"and {len(names)} tasks, and the share of it common to all pictures. {drift_headline(drift, titles).text} "
        "Use the arrow keys to walk the cells and Enter to act on a block.",
        columns={"x": "task", "y": "block", "z": "value"},
        held=["coloraxis", "coloraxis2"],
        name="drift",
    )


def _trace(
    name: str, suffix: str, values: np.ndarray, scale: tuple[float, float], drift: Drift, names: list[str]
) -> Trace:
    """One panel's cells with their hover texts."""
    written = len(names) <= NUMBERED
    phrases, says = (DRIFT_PHRASES, "drift") if name == "drift" else (COMMON_PHRASES, "common share of the drift")
    pictures = {
        row * len(names) + at: f"over {count} pictures"
        for row in range(len(drift.blocks))
        for at, count in enumerate(drift.pictures)
    }
    return {
        "type": "heatmap",
        "name": says,
        "z": numbers(values, 3),
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "coloraxis": f"coloraxis{suffix}",
        "hoverongaps": True,
        "text": [[_text(value, scale) for value in line] for line in values.tolist()] if written else [],
        "texttemplate": "%{text}" if written else "",
        "textfont": {"size": 10},
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {
            "source": name,
            "rows": [plain(block, 24) for block in drift.blocks],
            "columns": names,
            "hover": cell_hover(says, phrases, blank=NOTHING, marks=pictures),
        },
    }


def _text(value: float, scale: tuple[float, float]) -> str:
    """A value as its cell writes it, legible on the cell's colour."""
    if not np.isfinite(value):
        return ""
    low, high = scale
    share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5
    return f"<span style='color:{ink_on('sequential', share)}'>{value:.2f}</span>"


def _layouts(drift: Drift, names: list[str], scales: Mapping[str, tuple[float, float]]) -> tuple[Layout, Layout]:
    """The panels side by side, and the changes that stack them."""
    rows = len(drift.blocks)
    across = named_axis(names, angle=-45)
    down = named_axis([plain(block, 16) for block in drift.blocks], down=True)
    captions = [
        {
            "text": f"{TITLES[name]}  <span style='font-size:12px'>{SAYS[name]}</span>",
            "xref": f"x{suffix} domain",
            "yref": f"y{suffix} domain",
            "x": 0,
            "y": 1,
            "xanchor": "left",
            "yanchor": "bottom",
            "yshift": 6,
            "showarrow": False,
            "font": {"size": 14},
        }
        for name, suffix in zip(PANELS, ("", "2"), strict=True)
    ]
    words = {"drift": ("the expert's own", "far away"), "common": ("each picture its own", "the same on all")}
    bars = {name: _bar(scales[name], words[name], middle) for name, middle in zip(PANELS, (0.24, 0.76), strict=True)}
    tall, between, below = ROW * rows, 150, 122
    whole = 2 * tall + between
    layout: Layout = {
        "height": 34 + tall + below,
        "margin": {"l": 64, "r": 12, "t": 34, "b": below},
        "xaxis": {**across, "domain": [0, 0.48]},
        "yaxis": down,
        "xaxis2": {**across, "domain": [0.52, 1], "anchor": "y2"},
        "yaxis2": {**down, "anchor": "x2", "showticklabels": False},
        "coloraxis": bars["drift"],
        "coloraxis2": bars["common"],
        "annotations": captions,
    }
    narrow: Layout = {
        "height": 34 + whole + below,
        "margin": {"l": 58, "r": 8, "t": 34, "b": below},
        "xaxis": {"domain": [0, 1]},
        "xaxis2": {"domain": [0, 1]},
        "yaxis": {"domain": [round(1 - tall / whole, 4), 1]},
        "yaxis2": {"domain": [0, round(tall / whole, 4)], "showticklabels": True},
        "coloraxis": {"colorbar": {"x": 0.5, "y": round(1 - tall / whole, 4), "len": 0.8}},
        "coloraxis2": {"colorbar": {"x": 0.5, "len": 0.8}},
    }
    return layout, narrow


def _bar(scale: tuple[float, float], words: tuple[str, str], middle: float) -> dict[str, Any]:
    """A panel's own colour scale, its bar under the names of the tasks."""
    return {
        "cmin": scale[0],
        "cmax": scale[1],
        "colorscale": token("sequential"),
        "colorbar": {
            "orientation": "h",
            "x": middle,
            "xanchor": "center",
            "xpad": 0,
            "y": 0,
            "yanchor": "top",
            "ypad": 72,
            "len": 0.36,
            "thickness": 8,
            "tickangle": 0,
            "title": {"text": ""},
            "tickvals": list(scale),
            "ticktext": [f"{number(end, 2):g}<br>{word}" for end, word in zip(scale, words, strict=True)],
        },
    }


def drift_headline(drift: Drift, titles: Mapping[str, str] | None = None) -> Sentence:
    """In which block the merged network leaves its experts most, and which tasks end furthest and nearest.

    Links name the places of the block and the task in ``drift``.
    """
    if not np.isfinite(drift.drift).any():
        return Sentence(("There are no pictures to see the merged network's features on.",))
    names = [(titles or {}).get(task, task) for task in drift.tasks]
    if not drift.drift.any():
        return Sentence(("The merged network's features are those of its experts.",))
    rises = np.diff(np.nanmean(drift.drift, axis=1), prepend=0.0)
    block, last = int(np.argmax(rises)), len(drift.blocks) - 1
    far, near = int(np.nanargmax(drift.drift[last])), int(np.nanargmin(drift.drift[last]))
    worst = int(np.nanargmax(drift.drift[block]))
    parts: list[str | CellLink] = [
        "The merged network leaves its experts most in ",
        _link(drift, block, worst, drift.blocks[block]),
        f", where the drift rises by {minus(short(float(rises[block]), 2))} on average. After the last block it is "
        "largest for ",
        _link(drift, last, far, f"{names[far]} ({short(float(drift.drift[last, far]), 2)})"),
    ]
    if np.isfinite(drift.common[last, far]):
        parts.append(f", {100 * drift.common[last, far]:.0f} % of it the same on all pictures")
    if near != far:
        parts += [
            "; smallest for ",
            _link(drift, last, near, f"{names[near]} ({short(float(drift.drift[last, near]), 2)})"),
        ]
    return Sentence((*parts, "."))


def _link(drift: Drift, block: int, task: int, text: str) -> CellLink:
    return CellLink(text, "drift", block, task, float(drift.drift[block, task]))
