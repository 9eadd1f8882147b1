"""Every trial of a search as a line across its coefficients to its accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuromerge.figures.figure import Figure
from neuromerge.figures.text import coloured, note, plain
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.tuning.names import brief, coefficient
from neuromerge.figures.wire import Layout, Trace
from neuromerge.search.trials import Trial, ranked

ORIGINS = {"tpe": "search (TPE)", "grid": "search (grid)", "hand": "by hand"}

EARLY = ", then given up"

MAX_LINES = 300
"""Trials drawn as lines at most: the best and the latest; more cannot be told apart."""


@dataclass(frozen=True)
class Scale:
    """One axis of parallel coordinates: numbers spread over their range, words over equal steps above them."""

    low: float
    high: float
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Sequence[Any]) -> Scale:
        """The scale that holds `values`."""
        words = sorted({str(value) for value in values if value is not None and not _is_number(value)})
        plain_numbers = [float(value) for value in values if _is_number(value)]
        return cls(min(plain_numbers, default=0.0), max(plain_numbers, default=1.0), tuple(words))

    def place(self, value: Any) -> float | None:
        """`value` in [0, 1]; words lie above all numbers where an axis has both. None stays None."""
        if value is None:
            return None
        room = 0.78 if self.words and self.high > self.low else 1.0
        if _is_number(value):
            return round(room * (float(value) - self.low) / (self.high - self.low), 4) if self.high > self.low else 0.5
        rank = (self.words.index(str(value)) + 1) / len(self.words)
        return round(room + (1 - room) * rank, 4) if room < 1 else round(rank, 4)

    def ends(self, *, percent: bool) -> list[tuple[int, str]]:
        """Labels of the two ends."""
        factor, unit = (100, " %") if percent else (1, "")
        top = self.words[-1] if self.words else f"{factor * self.high:.3g}{unit}"
        return [(0, f"{factor * self.low:.3g}{unit}"), (1, plain(top, 14))]


@dataclass(frozen=True)
class Lines:
    """The numbers of the figure: trials from worst to best, and an axis for each coefficient that varies."""

    trials: list[Trial]
    places: list[int]  # of each trial among all
    keys: list[str]
    scales: list[Scale]  # of the coefficients, then of the accuracy

    @property
    def titles(self) -> list[str]:
        """Names of the axes."""
        return [*(coefficient(key) for key in self.keys), "accuracy"]

    @property
    def values(self) -> list[float]:
        """Accuracy of each trial."""
        return [trial.value or 0.0 for trial in self.trials]


def parallel_coordinates(trials: Sequence[Trial]) -> Figure:
    """Every finished trial as a line across its coefficients to its accuracy; the best lines lie on top.

    Trials that were given up early are dotted: their accuracy is of fewer pictures.

    Clicks answer as ``trial`` with the place of the trial in `trials`.
    """
    found = lines(trials)
    if found is None:
        none = [note("no finished trials yet", 0.5, 0.5)]
        return Figure(
            data=[],
            layout={"height": 320, "annotations": none, "uirevision": "trials"},
            description="Trials across their coefficients: none is finished yet.",
            name="trials",
        )
    layout, narrow = _layouts(found)
    winner = found.trials[-1]
    listed = ", ".join(f"{coefficient(key)} {_shown(winner.hyperparameters.get(key))}" for key in found.keys)
    return Figure(
        data=_traces(found),
        layout=layout,
        description=(
            f"{len(found.trials)} finished trials{_early(found.trials)}. The best is trial {winner.number} with "
            f"{100 * (winner.value or 0.0):.1f} %: {listed}."
        ),
        narrow_layout=narrow,
        columns={"x": "axis", "y": "place on the axis (0 to 1)"},
        name="trials",
    )


def _early(trials: Sequence[Trial]) -> str:
    count = sum(trial.is_pruned for trial in trials)
    return f", {count} of them given up early" if count else ""


# ------------------------------------------------------------------------------------------------ numbers
def lines(trials: Sequence[Trial]) -> Lines | None:
    """The numbers of the figure; None where no trial is finished or nothing varies."""
    place = {id(trial): i for i, trial in enumerate(trials)}
    done = ranked(trials)
    if len(done) > MAX_LINES:
        half = MAX_LINES // 2
        latest = sorted(done[:-half], key=lambda trial: place[id(trial)])[-half:]
        done = ranked(latest + done[-half:])
    keys = list(dict.fromkeys(key for trial in done for key in trial.hyperparameters if _varies(done, key)))
    if not done or not keys:
        return None
    scales = [Scale.of([trial.hyperparameters.get(key) for trial in done]) for key in keys]
    scales.append(Scale.of([trial.value for trial in done]))
    return Lines(done, [place[id(trial)] for trial in done], keys, scales)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _varies(trials: Sequence[Trial], key: str) -> bool:
    """Whether a coefficient differs between the trials that name it: constant ones are no axis."""
    named = {trial.hyperparameters[key] for trial in trials if key in trial.hyperparameters}
    return len(named) > 1 or len(trials) == 1


def _shown(value: Any) -> str:
    return f"{value:.3g}" if _is_number(value) else plain(str(value), 16)


# ------------------------------------------------------------------------------------------------ traces
def _traces(found: Lines) -> list[Trace]:
    """One line a trial, paler the worse it is."""
    low, high = min(found.values), max(found.values)
    data: list[Trace] = []
    for trial, place, value in zip(found.trials, found.places, found.values, strict=True):
        row = [*(trial.hyperparameters.get(key) for key in found.keys), trial.value]
        rank = (value - low) / (high - low) if high > low else 1.0
        best = trial is found.trials[-1]
        colour = "merge" if best else "pinned" if trial.origin == "hand" else "expert"
        said = [
            f"<b>trial {trial.number}: {100 * value:.1f} %</b>",
            *([f"on {trial.pictures:,} pictures{EARLY * trial.is_pruned}"] if trial.pictures else []),
            ORIGINS.get(trial.origin, trial.origin),
            *(f"{title} {_shown(item)}" for title, item in zip(found.titles[:-1], row[:-1], strict=True)),
        ]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if best else "lines",
                "name": f"trial {trial.number}" + (" (by hand)" if trial.origin == "hand" else ""),
                "x": list(range(len(row))),
                "y": [scale.place(item) for scale, item in zip(found.scales, row, strict=True)],
                "connectgaps": True,  # a trial that lacks a coefficient goes on to the next one, and to its score
                "line": {
                    "color": token(colour),
                    "width": 3 if best else 1.4,
                    **({"dash": "dot"} if trial.is_pruned else {}),
                },
                "opacity": 1 if best else round(0.12 + 0.55 * rank**3, 3),
                "marker": {"size": 7},
                "hovertemplate": "<br>".join(said) + "<extra></extra>",
                "meta": {"source": "trial", "index": [place] * len(row)},
            }
        )
    return data


# ------------------------------------------------------------------------------------------------ layout
def _layouts(found: Lines) -> tuple[Layout, Layout]:
    """The axes side by side; narrow, only the symbol of each coefficient is written."""
    bold = {"size": 12, "color": token("ink")}
    last = len(found.scales) - 1
    heads = [
        note(f"<b>{title}</b>", i, 1, xref="x", yanchor="bottom", yshift=22, font=bold)
        for i, title in enumerate(found.titles)
    ]
    briefs = [*map(brief, found.keys), "accuracy"]
    short_heads = [{**head, "text": f"<b>{name}</b>"} for head, name in zip(heads, briefs, strict=True)]
    ends = [_end(text, i, at) for i, scale in enumerate(found.scales) for at, text in scale.ends(percent=i == last)]
    hand = coloured("━ by hand", "pinned") if any(trial.origin == "hand" for trial in found.trials) else ""
    early = coloured("┄ given up early", "expert") if any(trial.is_pruned for trial in found.trials) else ""
    key = "    ".join([coloured("<b>━ best</b>", "merge"), *filter(None, (hand, early))])
    legend = note(key, 0, 0, xanchor="left", yanchor="top", yshift=-26, xshift=-34)
    rule = {"type": "line", "y0": 0, "y1": 1, "layer": "below", "line": {"color": token("axis"), "width": 1}}
    layout = {
        "height": 320,
        "margin": {"l": 46, "r": 46, "t": 52, "b": 52},
        "xaxis": {"range": [-0.15, last + 0.15], "visible": False, "fixedrange": True},
        "yaxis": {"range": [0, 1], "visible": False, "fixedrange": True},
        "shapes": [{**rule, "x0": i, "x1": i} for i in range(last + 1)],
        "annotations": [*heads, *ends, legend],
        "hoverdistance": 12,
        "uirevision": "trials " + " ".join(found.keys),
    }
    return layout, {"annotations": [*short_heads, *ends, legend]}


def _end(text: str, axis: int, at: int) -> dict[str, Any]:
    """What one end of an axis stands for, above or below it."""
    outside = {"yanchor": "bottom", "yshift": 3} if at else {"yanchor": "top", "yshift": -3}
    return note(text, axis, at, xref="x", yref="y", font={"size": SMALL}, **outside)
