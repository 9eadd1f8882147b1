"""What the tour draws in its own panel: pairs of arrows, and the most contested layer of the merge on screen."""

from __future__ import annotations

import html
import math

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.interference.columns import columns_of_neurons

ANGLES = ((0, "agree"), (90, "independent"), (150, "opposed"))
"""Degrees between two arrows of equal length, and what that is called."""

LENGTH, WIDTH, HEIGHT = 30.0, 92.0, 78.0


def cancellation(degrees: float) -> float:
    """Cancellation of two arrows of equal length at that angle: 1 - |sum| / (|a| + |b|)."""
    return 1 - math.cos(math.radians(degrees) / 2)


def angles() -> str:
    """HTML: two arrows and their sum at three angles, with the numbers."""
    drawn = "".join(_pair(degrees, name) for degrees, name in ANGLES)
    return f"<div class='nm-angles'>{drawn}</div><p class='nm-hint'>Thin: two tasks. Thick: their sum.</p>"


def _pair(degrees: float, name: str) -> str:
    half = math.radians(degrees) / 2
    across, up = LENGTH * math.cos(half), LENGTH * math.sin(half)
    lost = cancellation(degrees)
    says = f"{name}: the sum is {2 * math.cos(half):.2f} arrows long of 2, cancellation {lost:.2f}"
    # Arrows that lie on one another are drawn side by side.
    apart = 3.0 if degrees == 0 else 0.0
    arrows = (
        _arrow(0, 0, 2 * across, 0, "sum")
        + _arrow(0, apart * 2, across, up + apart * 2, "one")
        + _arrow(0, -apart * 2, across, -up - apart * 2, "two")
    )
    return (
        f"<figure role='img' aria-label='{says}'><svg viewBox='-8 {-HEIGHT / 2} {WIDTH} {HEIGHT}' aria-hidden='true'>"
        f"{arrows}</svg><figcaption><b>{name}</b><br>cancellation {lost:.2f}</figcaption></figure>"
    )


def _arrow(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    """An arrow as SVG, y upwards; its head is drawn along it."""
    angle = math.atan2(to_y - y, to_x - x)
    head = " ".join(
        f"{to_x - 7 * math.cos(angle + turn):.1f},{-(to_y - 7 * math.sin(angle + turn)):.1f}" for turn in (-0.45, 0.45)
    )
    line = f"<line x1='{x:.1f}' y1='{-y:.1f}' x2='{to_x:.1f}' y2='{-to_y:.1f}'/>"
    return f"<g class='nm-arrow-{kind}'>{line}<polygon points='{to_x:.1f},{-to_y:.1f} {head}'/></g>"


def layers(heatmap: Heatmap) -> list[tuple[str, float]]:
    """Each layer with the mean over its matrices in the orthogonal panel, the highest first.

    Single numbers, which stand in a panel of their own, do not count; layers without a matrix are left out.
    """
    means = [
        (row, float(np.nanmean(values)))
        for row, values in zip(heatmap.rows, heatmap.orthogonal[:, columns_of_neurons(heatmap)], strict=True)
        if np.isfinite(values).any()
    ]
    return sorted(means, key=lambda found: -found[1])


def contested(heatmap: Heatmap, tasks: int) -> str:
    """HTML: the most contested layer of the merge on screen, beside the value of independent tasks."""
    ranked = layers(heatmap)
    if not ranked or tasks < 2:
        return "<p class='nm-hint'>One task alone contests nothing: tick another expert.</p>"
    (most, high), (least, low) = ranked[0], ranked[-1]
    return (
        f"<p class='nm-fact'>Here the most contested layer is <b>{html.escape(most)}</b>: mean cancellation across "
        f"<b>{high:.2f}</b>. The least is {html.escape(least)} with {low:.2f}. Independent tasks would give "
        f"{1 - 1 / math.sqrt(tasks):.2f}.</p>"
    )
