"""What a measure sees, as two arrows: agreeing, independent or opposed, at a value of the map.

The browser turns the arrows to the cell under the pointer (``static/arrows.js``); a test holds the two equal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from html import escape

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.hover import phrase
from neuromerge.figures.interference.columns import panels
from neuromerge.figures.numbers import minus, number, short

REACH = 46.0
"""Length of an arrow in the drawing."""

TURNS: dict[str, Callable[[float], float]] = {
    "conflict": lambda value: math.acos(-value),
    "cosine": lambda value: math.acos(value),
    "cancellation": lambda value: 2 * math.acos(1 - value),
    "sign_conflict": lambda value: math.pi * value,
    "election_margin": lambda value: math.pi * (1 - value),
}
"""The angle between two equally long changes at which a measure has a value; sign conflict as for random ones."""

LENGTHS = ("retention", "applied_change")
"""Measures of the merge: the second arrow is as long as the value says, beside a first of length 1."""

NAMES = {
    "retention": ("the task's own change", "what the merge makes of it"),
    "applied_change": ("the base weights", "the change"),
}
PAIR = ("what one task wants", "what another wants")
MEDIAN = "Median of the map"


def pose(key: str, value: float) -> tuple[float, float] | None:
    """Angle in degrees (0..180) and length of the second arrow; None for a measure that two arrows do not show."""
    if key in LENGTHS:
        return (180.0 if value < 0 else 0.0), min(abs(value), 1.1)
    if key not in TURNS:
        return None
    low = 0.0 if key in ("cancellation", "sign_conflict", "election_margin") else -1.0
    return math.degrees(TURNS[key](min(1.0, max(low, value)))), 1.0


def median(heatmap: Heatmap) -> float | None:
    """The median over the cells of neurons; None without any."""
    values = np.concatenate([panel.values.ravel() for panel in panels(heatmap)[:2]])
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


def arrows_html(heatmap: Heatmap, tasks: int) -> str:
    """The drawing at the median of the map; "" for a measure that two arrows do not show.

    Args:
        heatmap: the map.
        tasks: number of merged tasks T, for the words about the values.
    """
    measure, middle = heatmap.measure, median(heatmap)
    middle = None if middle is None else number(middle, 6)
    found = None if middle is None else pose(measure.key, middle)
    if middle is None or found is None:
        return ""
    phrases = list(measure.words(tasks))
    says = said(measure.title, middle, found[0], phrase(middle, phrases), turned=measure.key in TURNS)
    first, second = NAMES.get(measure.key, PAIR)
    arrow = f"<path d='M0 0H{REACH:g}M{REACH - 7:g} -4.5L{REACH:g} 0L{REACH - 7:g} 4.5'/>"
    return (
        f"<figure class='nm-arrows' data-of='interference' data-measure='{escape(measure.key)}' "
        f"data-title='{escape(measure.title)}' data-median='{middle!r}' data-phrases='{escape(json.dumps(phrases))}'>"
        f"<svg viewBox='-54 -54 108 62' role='img' aria-label='{escape(f'{MEDIAN}. {says}')}'>"
        f"<g class='nm-arrow-one'>{arrow}</g>"
        f"<g class='nm-arrow-two' transform='{transform(*found)}'>{arrow}</g></svg>"
        f"<figcaption><b>{MEDIAN}</b><span>{escape(says)}</span>"
        f"<small><i class='nm-arrow-one'>→</i> {first} <i class='nm-arrow-two'>→</i> {second}</small></figcaption>"
        "</figure>"
    )


def transform(angle: float, length: float) -> str:
    """The second arrow's place, as SVG writes it."""
    return f"rotate({-angle:.1f}) scale({max(length, 0.02):.2f} 1)"


def said(title: str, value: float, angle: float, words: str, *, turned: bool) -> str:
    """The value in words, with the angle where the arrows have turned to it."""
    degrees = f" ({angle:.0f}°)" if turned else ""
    return f"{title} {minus(short(value))}{degrees}{': ' + words if words else ''}"
