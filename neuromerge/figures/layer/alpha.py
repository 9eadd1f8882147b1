"""How the merge weighs each task's orthogonal part, neuron by neuron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import LayerDetail
from neuromerge.figures.figure import Figure
from neuromerge.figures.numbers import number, numbers
from neuromerge.figures.tasks import TaskLook, task_looks
from neuromerge.figures.text import note, wrapped
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace


@dataclass(frozen=True)
class Ridges:
    """The numbers of the figure: `share` (T, bins) of the neurons at `centres` (bins,); `height` is drawn as one row.

    The last task lies at the bottom, on floor 0.
    """

    tasks: list[TaskLook]
    centres: np.ndarray
    share: np.ndarray
    height: float

    @property
    def means(self) -> list[float]:
        """Mean alpha of each task; NaN for none."""
        return [float((line * self.centres).sum()) if line.sum() else math.nan for line in self.share]


def alpha_histogram(detail: LayerDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """How the merge weighs each task's orthogonal part, neuron by neuron: one ridge per task.

    alpha 1: added whole; 1/T: averaged; below 0: flipped.
    """
    found = ridges(detail, titles)
    means = zip(found.tasks, found.means, strict=True)
    listed = ", ".join(f"{task.name} {mean:.2f}" for task, mean in means if math.isfinite(mean))
    described = f"Distribution of the merge weight alpha per task in {detail.layer}, {detail.matrix}; means: {listed}."
    return Figure(
        data=_traces(found) if detail.kind == "neurons" else [],
        layout=_layout(detail, found),
        narrow_layout={
            "margin": {"l": 76, "r": 12, "t": 44, "b": 58},
            "xaxis": {"title": {"text": "alpha: weight of the<br>task’s orthogonal part"}},
        },
        description=described,
        columns={"x": "alpha", "y": "ridge height"},
        name="alpha",
    )


def ridges(detail: LayerDetail, titles: Mapping[str, str] | None) -> Ridges:
    """The numbers of the figure."""
    share = detail.alpha_counts / np.maximum(detail.alpha_counts.sum(1, keepdims=True), 1)
    # The rarest bins set the scale of nothing: one tall bin would flatten every other ridge.
    height = float(np.quantile(share.max(1), 0.9)) * 0.78 if share.size and share.max() > 0 else 1.0
    centres = (detail.alpha_edges[:-1] + detail.alpha_edges[1:]) / 2
    return Ridges(task_looks(detail.tasks, titles), centres, share, height)


def _traces(found: Ridges) -> list[Trace]:
    """Each task's ridge, above an invisible line that its filling reaches down to."""
    x = numbers(found.centres, 3)
    data: list[Trace] = []
    for i, task in enumerate(found.tasks):
        floor = len(found.tasks) - 1 - i
        base = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 0}, "meta": {"csv": False}}
        data.append({**base, "x": [x[0], x[-1]] if x else [], "y": [floor, floor]})
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": task.name,
                "x": x,
                "y": numbers(np.minimum(floor + found.share[i] / found.height, floor + 1.25), 4),
                "line": {"color": task.colour, "width": 1.5, "shape": "spline", "smoothing": 0.6},
                "fill": "tonexty",
                "fillcolor": token("raised"),
                "customdata": numbers(100 * found.share[i], 2),
                "hovertemplate": (
                    f"<b>{task.name}</b>: alpha near %{{x:.2f}} in %{{customdata:.1f}} % of the neurons<extra></extra>"
                ),
            }
        )
    return data


def _marks(count: int) -> list[tuple[float, str]]:
    """Values of alpha that mean something."""
    averaged = [(1 / count, f"1/{count} averaged")] if count > 2 else []
    return [(0.0, "0 left out"), (1.0, "1 added whole"), *averaged]


def _layout(detail: LayerDetail, found: Ridges) -> Layout:
    """The ridges over one axis of alpha, and each task's mean at the right."""
    count = len(found.tasks)
    small = {"size": SMALL}
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    if detail.kind == "neurons":
        rule = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "layer": "below"}
        for value, text in _marks(count):
            line = {"color": token("axis"), "width": 1, "dash": "dot"}
            shapes.append({**rule, "x0": value, "x1": value, "line": line})
            raised = 16 if 0 < value < 1 else 2
            anchor = "right" if value == 1 else "center"  # near the edge, which would cut it off
            notes.append(note(text, value, 1, xref="x", xanchor=anchor, yanchor="bottom", yshift=raised, font=small))
        for i, mean in enumerate(found.means):
            if math.isfinite(mean):
                place = {"yref": "y", "xanchor": "right", "yanchor": "bottom", "font": small}
                notes.append(note(f"mean {mean:.2f}", 1, count - 1 - i, **place))
    else:
        notes = [note(wrapped("entries that are merged one by one have no alpha", 26), 0.5, 0.5, font={"size": 13})]
    return {
        "height": 110 + 34 * count,
        "margin": {"l": 76, "r": 12, "t": 44, "b": 44},
        "xaxis": {
            "title": {"text": "alpha: weight of the task’s orthogonal part"},
            "range": [number(detail.alpha_edges[0], 4), number(detail.alpha_edges[-1], 4)],
            "zeroline": False,
        },
        "yaxis": {
            "tickvals": list(range(count)),
            "ticktext": [task.name for task in reversed(found.tasks)],
            "range": [-0.1, count + 0.3],
            "zeroline": False,
            "fixedrange": True,
        },
        "shapes": shapes,
        "annotations": notes,
        "uirevision": f"alpha {detail.layer} {detail.matrix}",
    }
