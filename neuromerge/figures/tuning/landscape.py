"""Mean validation accuracy over two coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.figures.figure import Figure
from neuromerge.figures.numbers import number, numbers, percents, rounded
from neuromerge.figures.text import note
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.tuning.names import coefficient, finished
from neuromerge.figures.wire import Layout, Trace
from neuromerge.search.landscape import Landscape
from neuromerge.search.trials import Trial

_LIGHT, _DARK = "#ffffff", "#1c2330"
"""Marks lie on the colours of the scale, which are the same in both modes; so are these."""


@dataclass(frozen=True)
class Best:
    """The best point computed so far, of those on the most pictures; `value` is a share, of so many `pictures`."""

    x: float
    y: float
    value: float
    pictures: int = 0


def landscape_contour(landscape: Landscape, trials: Sequence[Trial] = ()) -> Figure:
    """Mean validation accuracy over two coefficients, with the current setting, visited settings and the best point.

    Grid points not computed yet are blank. Clicks answer as ``landscape`` with row and column, x and y.

    Args:
        landscape: the grid (shares).
        trials: settings visited with the same fixed coefficients, drawn as dots.
    """
    top = best(landscape)
    visited = [
        trial
        for trial in finished(trials)
        if landscape.x_name in trial.hyperparameters and landscape.y_name in trial.hyperparameters
    ]
    words = _headline(landscape, top)
    layout, narrow = _layouts(landscape, words)
    return Figure(
        data=_traces(landscape, visited, top),
        layout=layout,
        description=f"Contour of validation accuracy. {words}. {_fixed(landscape)}",
        narrow_layout=narrow,
        columns={"x": landscape.x_name, "y": landscape.y_name, "z": "accuracy (%)"},
        name="landscape",
    )


# ------------------------------------------------------------------------------------------------ numbers
def best(landscape: Landscape) -> Best | None:
    """The best point computed so far; None before the first."""
    if not landscape.most_seen.any():
        return None
    comparable = np.where(landscape.most_seen, landscape.value, -np.inf)
    row, column = np.unravel_index(int(comparable.argmax()), comparable.shape)
    seen = landscape.images if landscape.pictures is None else int(landscape.pictures[row, column])
    return Best(float(landscape.x[column]), float(landscape.y[row]), float(landscape.value[row, column]), seen)


def _edges(values: np.ndarray) -> list[float]:
    """The range of an axis of grid points, with a little room for the marks on its border."""
    low, high = float(np.min(values)), float(np.max(values))
    room = 0.03 * (high - low or 1.0)
    return [rounded(low - room), rounded(high + room)]


# ------------------------------------------------------------------------------------------------ words
def _headline(landscape: Landscape, top: Best | None) -> str:
    """The best point in words."""
    if top is None:
        return "Nothing is computed yet."
    x_name, y_name = coefficient(landscape.x_name), coefficient(landscape.y_name)
    few = f" on {top.pictures:,} pictures" if top.pictures < landscape.images else ""
    return f"Best of the grid {100 * top.value:.1f} %{few} at {x_name} {top.x:.3g}, {y_name} {top.y:.3g}"


def _fixed(landscape: Landscape) -> str:
    """The coefficients held fixed."""
    return ", ".join(f"{coefficient(key)} {value:.3g}" for key, value in landscape.fixed.items())


# ------------------------------------------------------------------------------------------------ traces
def _traces(landscape: Landscape, visited: list[Trial], top: Best | None) -> list[Trace]:
    """Contours, the grid's own points, visited settings, the best point and this merge."""
    cell = f"{coefficient(landscape.x_name)} %{{x:.3~g}}<br>{coefficient(landscape.y_name)} %{{y:.3~g}}<br>"
    data = [_contours(landscape, cell), _grid(landscape)] if top is not None else []
    if visited:
        data.append(_visited(landscape, visited, cell))
    if top is not None:
        star = {"symbol": "star", "size": 14, "color": _LIGHT, "line": {"color": _DARK, "width": 1.6}}
        # It lies on a point of the grid, which is what the pointer shall find: its value, and a click that takes it.
        data.append(_point("best", (top.x, top.y), star, ""))
    if landscape.current is not None:
        dot = {"symbol": "circle", "size": 12, "color": token("merge"), "line": {"color": _LIGHT, "width": 1.6}}
        data.append(_point("this merge", landscape.current, dot, "this merge"))
    return data


def _contours(landscape: Landscape, cell: str) -> Trace:
    """The accuracies; between the grid's points the colours are interpolated."""
    few = landscape.pictures is not None and _pictures_differ(landscape)
    said = "<b>%{z:.1f} %</b>" + (" on %{customdata} pictures" if few else "")
    return {
        "type": "contour",
        "name": "average accuracy",
        "x": numbers(landscape.x),
        "y": numbers(landscape.y),
        "z": [percents(line) for line in landscape.value],
        "coloraxis": "coloraxis",
        "connectgaps": True,
        "contours": {"coloring": "heatmap", "showlabels": True, "labelfont": {"size": 10}},
        "line": {"width": 0.7, "smoothing": 0.8},
        **({"customdata": landscape.pictures.tolist()} if few and landscape.pictures is not None else {}),
        "hovertemplate": f"{cell}{said}<extra></extra>",
        "meta": {"source": "landscape"},
    }


def _pictures_differ(landscape: Landscape) -> bool:
    """Whether some points are measured on fewer pictures than there are."""
    measured = np.isfinite(landscape.value)
    return landscape.pictures is not None and bool((landscape.pictures[measured] < landscape.images).any())


def _pictures(landscape: Landscape) -> str:
    """On how many pictures the points are measured; empty where nobody knows."""
    if landscape.pictures is None or not _pictures_differ(landscape):
        return f"{landscape.images:,} validation images a point" if landscape.images else ""
    seen = landscape.pictures[np.isfinite(landscape.value)]
    if seen.min() == seen.max():
        return f"{seen.min():,} of {landscape.images:,} images a point so far"
    return f"{seen.min():,} to {seen.max():,} of {landscape.images:,} images a point"


def _grid(landscape: Landscape) -> Trace:
    """Where accuracy was measured."""
    rows, columns = np.nonzero(np.isfinite(landscape.value))
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(landscape.x[columns]),
        "y": numbers(landscape.y[rows]),
        "marker": {"size": 3, "color": _LIGHT, "opacity": 0.55},
        "hoverinfo": "skip",
        "meta": {"csv": False},
    }


def _visited(landscape: Landscape, visited: list[Trial], cell: str) -> Trace:
    """Settings that a search or a hand visited."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "visited",
        "x": [number(float(trial.hyperparameters[landscape.x_name])) for trial in visited],
        "y": [number(float(trial.hyperparameters[landscape.y_name])) for trial in visited],
        "marker": {"size": 7, "color": "rgba(0,0,0,0)", "line": {"color": _LIGHT, "width": 1.4}},
        "customdata": [round(100 * (trial.value or 0.0), 1) for trial in visited],
        "hovertemplate": "visited<br>" + cell + "%{customdata} %<extra></extra>",
    }


def _point(name: str, at: tuple[float, float], marker: dict[str, Any], text: str) -> Trace:
    """One marked point, legible on any colour; without a `text` the pointer finds what lies under it."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [number(at[0])],
        "y": [number(at[1])],
        "marker": marker,
        "cliponaxis": False,
        **(
            {"hovertemplate": f"<b>{text}</b><br>%{{x:.3~g}}, %{{y:.3~g}}<extra></extra>"}
            if text
            else {"hoverinfo": "skip"}
        ),
    }


# ------------------------------------------------------------------------------------------------ layout
def _layouts(landscape: Landscape, words: str) -> tuple[Layout, Layout]:
    """The landscape with its colour bar beside or, narrow, below."""
    fixed = _fixed(landscape)
    legend = ["★ best   ● this merge   dots: computed", *([f"at {fixed}"] if fixed else [])]
    legend += filter(None, [_pictures(landscape)])
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    big, small = {"size": 13, "color": token("ink")}, {"size": SMALL}
    notes = [
        note(f"<b>{words}</b>", 0, 1, yshift=24, font=big, **above),
        note("  ·  ".join(legend), 0, 1, yshift=6, font=small, **above),
    ]
    done, whole = int(np.isfinite(landscape.value).sum()), landscape.value.size
    if done < whole:
        notes.append(note(f"{done} of {whole} points", 1, 1, yshift=6, xanchor="right", yanchor="bottom"))
    axis = {"showgrid": False, "zeroline": False}
    layout = {
        "height": 400,
        "margin": {"l": 60, "r": 70, "t": 58, "b": 48},
        "xaxis": {**axis, "title": {"text": coefficient(landscape.x_name)}, "range": _edges(landscape.x)},
        "yaxis": {**axis, "title": {"text": coefficient(landscape.y_name)}, "range": _edges(landscape.y)},
        "coloraxis": {
            "colorscale": token("sequential"),
            "colorbar": {"x": 1.01, "xanchor": "left", "ticksuffix": " %", "nticks": 6},
        },
        "annotations": notes,
        "uirevision": f"landscape {landscape.x_name} {landscape.y_name}",
    }
    folded, lines = words.replace(" at ", "<br>at ", 1), 16 * len(legend)
    narrow = {
        "height": 388 + lines,
        "margin": {"l": 52, "r": 8, "t": 54 + lines, "b": 96},
        "coloraxis": {"colorbar": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2, "yanchor": "top"}},
        "annotations": [
            note(f"<b>{folded}</b>", 0, 1, yshift=4 + lines, xshift=-44, font=big, **above),
            note("<br>".join(legend), 0, 1, yshift=4, xshift=-44, font=small, **above),
        ],
    }
    return layout, narrow
