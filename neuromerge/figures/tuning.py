"""Searching for coefficients: the landscape of validation accuracy, and the trials that explored it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuromerge.figures.figure import Figure, Trace, note, number, numbers, percents, plain
from neuromerge.figures.theme import SMALL, token
from neuromerge.search.landscape import Landscape
from neuromerge.search.trials import Trial

NAMES = {
    "lambda_parallel": "λ₁ parallel",
    "lambda_orthogonal": "λ₂ orthogonal",
    "trim_ratio": "trim ratio",
}
"""Coefficients as the figures write them; others keep their own names."""

ORIGINS = {"tpe": "search (TPE)", "grid": "search (grid)", "hand": "by hand"}

MAX_LINES = 300
"""Trials drawn as lines at most: the best and the latest; more cannot be told apart."""


def _name(parameter: str) -> str:
    return NAMES.get(parameter, plain(parameter.replace("_", " "), 24))


def _finished(trials: Sequence[Trial]) -> list[Trial]:
    """Trials with a value."""
    return [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]


def landscape_contour(landscape: Landscape, trials: Sequence[Trial] = ()) -> Figure:
    """Mean validation accuracy over two coefficients, with the current setting, visited settings and the best point.

    Grid points not computed yet are blank. Clicks answer as ``landscape`` with row and column, x and y.

    Args:
        landscape: the grid (shares).
        trials: settings visited with the same fixed coefficients, drawn as dots.
    """
    x_name, y_name = _name(landscape.x_name), _name(landscape.y_name)
    value = landscape.value
    known = np.isfinite(value)
    cell = f"{x_name} %{{x:.3~g}}<br>{y_name} %{{y:.3~g}}<br>"
    data: list[Trace] = [
        {
            "type": "contour",
            "name": "average accuracy",
            "x": numbers(landscape.x),
            "y": numbers(landscape.y),
            "z": [percents(line) for line in value],
            "coloraxis": "coloraxis",
            "connectgaps": True,
            "contours": {"coloring": "heatmap", "showlabels": True, "labelfont": {"size": 10}},
            "line": {"width": 0.7, "smoothing": 0.8},
            "hovertemplate": cell + "<b>%{z:.1f} %</b><extra></extra>",
            "meta": {"source": "landscape"},
        },
        {
            # The grid itself: where accuracy was measured; between the dots the colours are interpolated.
            "type": "scatter",
            "mode": "markers",
            "x": [number(landscape.x[j]) for i in range(value.shape[0]) for j in range(value.shape[1]) if known[i, j]],
            "y": [number(landscape.y[i]) for i in range(value.shape[0]) for j in range(value.shape[1]) if known[i, j]],
            "marker": {"size": 3, "color": "#ffffff", "opacity": 0.55},
            "hoverinfo": "skip",
            "meta": {"csv": False},
        },
    ]
    visited = [
        t for t in _finished(trials) if landscape.x_name in t.hyperparameters and landscape.y_name in t.hyperparameters
    ]
    if visited:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "visited",
                "x": [number(float(t.hyperparameters[landscape.x_name])) for t in visited],
                "y": [number(float(t.hyperparameters[landscape.y_name])) for t in visited],
                "marker": {"size": 7, "color": "rgba(0,0,0,0)", "line": {"color": "#ffffff", "width": 1.4}},
                "customdata": [round(100 * (t.value or 0.0), 1) for t in visited],
                "hovertemplate": "visited<br>" + cell + "%{customdata} %<extra></extra>",
            }
        )
    notes: list[dict[str, Any]] = []
    text = "Nothing is computed yet."
    if known.any():
        row, column = np.unravel_index(int(np.nanargmax(value)), value.shape)
        best = (float(landscape.x[column]), float(landscape.y[row]), float(value[row, column]))
        data.append(_point("best", best[0], best[1], "star", 14, "best of the grid: " + f"{100 * best[2]:.1f} %"))
        text = f"Best of the grid {100 * best[2]:.1f} % at {x_name} {best[0]:.3g}, {y_name} {best[1]:.3g}"
    if landscape.current is not None:
        data.append(_point("this merge", *landscape.current, "circle", 12, "this merge"))
    fixed = ", ".join(f"{_name(key)} {number_value:.3g}" for key, number_value in landscape.fixed.items())
    under = "  ·  ".join(
        [
            "★ best   ● this merge   dots: computed",
            *([f"at {fixed}"] if fixed else []),
            *([f"{landscape.images} validation images a point"] if landscape.images else []),
        ]
    )
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    notes.append(note(f"<b>{text}</b>", 0, 1, yshift=24, font={"size": 13, "color": token("ink")}, **above))
    notes.append(note(under, 0, 1, yshift=6, font={"size": SMALL}, **above))
    done = int(known.sum())
    if done < known.size:
        notes.append(note(f"{done} of {known.size} points", 1, 1, yshift=6, xanchor="right", yanchor="bottom"))
    axis = {"showgrid": False, "zeroline": False}
    layout = {
        "height": 400,
        "margin": {"l": 60, "r": 70, "t": 58, "b": 48},
        "xaxis": {**axis, "title": {"text": x_name}, "range": _edges(landscape.x)},
        "yaxis": {**axis, "title": {"text": y_name}, "range": _edges(landscape.y)},
        "coloraxis": {
            "colorscale": token("sequential"),
            "colorbar": {"x": 1.01, "xanchor": "left", "ticksuffix": " %", "nticks": 6},
        },
        "annotations": notes,
        "uirevision": f"landscape {landscape.x_name} {landscape.y_name}",
    }
    narrow = {
        "height": 420,
        "margin": {"l": 52, "r": 8, "t": 86, "b": 96},
        "coloraxis": {"colorbar": {"orientation": "h", "x": 0.5, "xanchor": "center", "y": -0.2, "yanchor": "top"}},
        "annotations": [
            note(
                f"<b>{text.replace(' at ', '<br>at ', 1)}</b>",
                0,
                1,
                yshift=36,
                xshift=-44,
                font={"size": 13, "color": token("ink")},
                **above,
            ),
            note(under.replace("  ·  ", "<br>", 1), 0, 1, yshift=4, xshift=-44, font={"size": SMALL}, **above),
        ],
    }
    columns = {"x": landscape.x_name, "y": landscape.y_name, "z": "accuracy (%)"}
    return Figure(data, layout, f"Contour of validation accuracy. {text}. {fixed}", [], narrow, columns, "landscape")


def _edges(values: np.ndarray) -> list[float]:
    """The range of an axis of grid points, with a little room for the marks on its border."""
    low, high = float(np.min(values)), float(np.max(values))
    room = 0.03 * (high - low or 1.0)
    return [float(f"{low - room:.4g}"), float(f"{high + room:.4g}")]


def _point(name: str, x: float, y: float, symbol: str, size: int, text: str) -> Trace:
    """One marked point of the landscape, legible on any colour of it."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [number(x)],
        "y": [number(y)],
        "marker": {
            "symbol": symbol,
            "size": size,
            "color": "#ffffff" if symbol == "star" else token("merge"),
            "line": {"color": "#1c2330" if symbol == "star" else "#ffffff", "width": 1.6},
        },
        "hovertemplate": f"<b>{text}</b><br>%{{x:.3~g}}, %{{y:.3~g}}<extra></extra>",
        "cliponaxis": False,
    }


def parallel_coordinates(trials: Sequence[Trial]) -> Figure:
    """Every finished trial as a line across its coefficients to its accuracy; the best lines lie on top.

    Clicks answer as ``trial`` with the place of the trial in `trials`.
    """
    place = {id(trial): i for i, trial in enumerate(trials)}
    done = sorted(_finished(trials), key=lambda trial: trial.value or 0.0)
    if len(done) > MAX_LINES:
        half = MAX_LINES // 2
        latest = sorted(done[:-half], key=lambda trial: place[id(trial)])[-half:]
        done = sorted(latest + done[-half:], key=lambda trial: trial.value or 0.0)
    names = list(dict.fromkeys(key for trial in done for key in trial.hyperparameters if _varies(done, key)))
    if not done or not names:
        return Figure([], {"height": 320, "annotations": [note("no finished trials yet", 0.5, 0.5)]}, "No trials.")
    scales = [_Scale.of([trial.hyperparameters.get(name) for trial in done]) for name in names]
    values = [trial.value or 0.0 for trial in done]
    scales.append(_Scale.of(values))
    titles = [*(_name(name) for name in names), "accuracy"]
    low, high = min(values), max(values)
    data: list[Trace] = []
    for trial in done:
        row = [*(trial.hyperparameters.get(name) for name in names), trial.value]
        rank = ((trial.value or 0.0) - low) / (high - low) if high > low else 1.0
        best = trial is done[-1]
        shown = [f"{title} {_shown(item)}" for title, item in zip(titles[:-1], row[:-1], strict=True)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if best else "lines",
                "name": f"trial {trial.number}" + (" (by hand)" if trial.origin == "hand" else ""),
                "x": list(range(len(row))),
                "y": [scale.place(item) for scale, item in zip(scales, row, strict=True)],
                "line": {
                    "color": token("merge" if best else "pinned" if trial.origin == "hand" else "expert"),
                    "width": 3 if best else 1.4,
                },
                "opacity": 1 if best else round(0.12 + 0.55 * rank**3, 3),
                "marker": {"size": 7},
                "hovertemplate": "<br>".join(
                    [
                        f"<b>trial {trial.number}: {100 * (trial.value or 0.0):.1f} %</b>",
                        ORIGINS.get(trial.origin, trial.origin),
                        *shown,
                    ]
                )
                + "<extra></extra>",
                "meta": {"source": "trial", "index": [place[id(trial)]] * len(row)},
            }
        )
    notes = []
    for i, (scale, title) in enumerate(zip(scales, titles, strict=True)):
        notes.append(
            note(
                f"<b>{title}</b>", i, 1, xref="x", yanchor="bottom", yshift=22, font={"size": 12, "color": token("ink")}
            )
        )
        percent = i == len(scales) - 1
        for at, text in scale.ends(percent=percent):
            notes.append(
                note(
                    text,
                    i,
                    at,
                    xref="x",
                    yref="y",
                    yanchor="bottom" if at == 1 else "top",
                    yshift=3 if at == 1 else -3,
                    font={"size": SMALL},
                )
            )
    rule = {"type": "line", "y0": 0, "y1": 1, "layer": "below", "line": {"color": token("axis"), "width": 1}}
    hand = any(trial.origin == "hand" for trial in done)
    key = f"<span style='color:{token('merge')}'><b>━ best</b></span>" + (
        f"    <span style='color:{token('pinned')}'>━ by hand</span>" if hand else ""
    )
    written = [*notes, note(key, 0, 0, xanchor="left", yanchor="top", yshift=-26, xshift=-34)]
    layout = {
        "height": 320,
        "margin": {"l": 46, "r": 46, "t": 52, "b": 52},
        "xaxis": {"range": [-0.15, len(titles) - 0.85], "visible": False, "fixedrange": True},
        "yaxis": {"range": [0, 1], "visible": False, "fixedrange": True},
        "shapes": [{**rule, "x0": i, "x1": i} for i in range(len(titles))],
        "annotations": written,
        "hoverdistance": 12,
        "uirevision": "trials " + " ".join(names),
    }
    winner = done[-1]
    listed = ", ".join(f"{_name(name)} {_shown(winner.hyperparameters.get(name))}" for name in names)
    best_value = f"{100 * (winner.value or 0.0):.1f} %"
    description = f"{len(done)} finished trials. The best is trial {winner.number} with {best_value}: {listed}."
    short = {f"<b>{title}</b>": f"<b>{title.split(' ')[0]}</b>" for title in titles}
    narrow = {"annotations": [{**text, "text": short.get(text["text"], text["text"])} for text in written]}
    columns = {"x": "axis", "y": "place on the axis (0 to 1)"}
    return Figure(data, layout, description, [], narrow, columns, "trials")


class _Scale:
    """One axis of parallel coordinates: numbers spread over their range, words over equal steps."""

    def __init__(self, low: float, high: float, words: list[str]) -> None:
        self.low, self.high, self.words = low, high, words

    @classmethod
    def of(cls, values: Sequence[Any]) -> _Scale:
        """The scale that holds `values`."""
        words = sorted({str(v) for v in values if v is not None and not _is_number(v)})
        plain_numbers = [float(v) for v in values if _is_number(v)]
        return cls(min(plain_numbers, default=0.0), max(plain_numbers, default=1.0), words)

    def place(self, value: Any) -> float | None:
        """`value` in [0, 1]; words lie above all numbers where an axis has both. None stays None."""
        if value is None:
            return None
        room = 0.78 if self.words and self.high > self.low else 1.0
        if _is_number(value):
            return round(room * (float(value) - self.low) / (self.high - self.low), 4) if self.high > self.low else 0.5
        rank = (self.words.index(str(value)) + 1) / len(self.words)
        return round(room + (1 - room) * rank, 4) if room < 1 else round(rank, 4)

    def ends(self, *, percent: bool) -> list[tuple[float, str]]:
        """Labels of the two ends."""
        factor, unit = (100, " %") if percent else (1, "")
        top = self.words[-1] if self.words else f"{factor * self.high:.3g}{unit}"
        return [(0, f"{factor * self.low:.3g}{unit}"), (1, plain(top, 14))]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _varies(trials: Sequence[Trial], key: str) -> bool:
    """Whether a parameter differs between the trials: constant ones are no axis."""
    return len({trial.hyperparameters.get(key) for trial in trials}) > 1 or len(trials) == 1


def _shown(value: Any) -> str:
    return f"{value:.3g}" if _is_number(value) else plain(str(value), 16)


def importance_bars(importances: Mapping[str, float]) -> Figure:
    """Which coefficient explains the differences between trials: shares that sum to 1, largest on top."""
    ranked = sorted(importances.items(), key=lambda item: -item[1])
    names = [_name(key) for key, _ in ranked]
    shares = percents([value for _, value in ranked], 1)
    data: list[Trace] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "importance",
            "x": shares,
            "y": names,
            "marker": {"color": token("merge"), "cornerradius": 3},
            "width": 0.5,
            "text": [f"{value:.0f} %" for value in shares],
            "textposition": "outside",
            "cliponaxis": False,
            "hovertemplate": "<b>%{y}</b>: %{x:.1f} % of the differences between trials<extra></extra>",
        }
    ]
    layout = {
        "height": max(150, 90 + 48 * len(names)),
        "margin": {"l": 110, "r": 48, "t": 44, "b": 24},
        "xaxis": {"range": [0, 100], "visible": False, "fixedrange": True},
        "yaxis": {
            "autorange": "reversed",
            "showgrid": False,
            "fixedrange": True,
            "tickfont": {"size": 12, "color": token("ink")},
        },
        "annotations": [
            note("share of the differences in accuracy", 0, 1, xanchor="left", yanchor="bottom", yshift=10)
        ],
        "uirevision": "importances",
    }
    listed = ", ".join(f"{name} {share:.0f} %" for name, share in zip(names, shares, strict=True))
    return Figure(
        data,
        layout,
        f"Importance of each coefficient: {listed}.",
        columns={"x": "importance (%)", "y": "coefficient"},
        name="importances",
    )


def trial_history(trials: Sequence[Trial]) -> Figure:
    """Accuracy of every finished trial in the order of visits, and the best so far as a staircase.

    Clicks answer as ``trial`` with the place of the trial in `trials`.
    """
    done = [(i, trial) for i, trial in enumerate(trials) if trial.value is not None and math.isfinite(trial.value)]
    values = [100 * (trial.value or 0.0) for _, trial in done]
    best = np.maximum.accumulate(values).tolist() if values else []
    order = list(range(1, len(done) + 1))
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": order,
            "y": numbers(best),
            "line": {"color": token("merge"), "width": 2, "shape": "hv"},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "trials",
            "x": order,
            "y": numbers(values),
            "marker": {"size": 8, "color": [token("pinned" if t.origin == "hand" else "expert") for _, t in done]},
            "hovertext": [f"trial {t.number}, {ORIGINS.get(t.origin, t.origin)}" for _, t in done],
            "hovertemplate": "<b>%{hovertext}</b><br>%{y:.1f} %<extra></extra>",
            "meta": {"source": "trial", "index": [i for i, _ in done]},
        },
    ]
    layout = {
        "height": 260,
        "margin": {"l": 54, "r": 16, "t": 34, "b": 44},
        "xaxis": {"title": {"text": "visit"}, "zeroline": False},
        "yaxis": {"ticksuffix": " %", "zeroline": False},
        "annotations": [
            note("accuracy of each trial; line: best so far", 0, 1, xanchor="left", yanchor="bottom", yshift=8)
        ],
        "uirevision": "history",
    }
    description = f"{len(done)} finished trials" + (f", the best with {best[-1]:.1f} %." if best else ".")
    return Figure(
        data, layout, description, columns={"x": "visit", "y": "accuracy (%)", "label": "trial"}, name="trial-history"
    )
