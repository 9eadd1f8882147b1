"""Names at the tips of arrows, none lying on another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Point = tuple[float, float]
Range = tuple[float, float]

LETTER_PX, LINE_PX, OFF_PX, MARKER_PX = 6.8, 15.0, 7.0, 10.0
"""Width of a letter, height of a line, distance of a label from its tip, size of a marker."""

WIDE_PX, NARROW_PX = (350.0, 330.0), (290.0, 270.0)
"""The smallest drawing area of each variant. In larger ones tips are further apart and labels as large as here."""


@dataclass(frozen=True)
class Label:
    """A name to write at a point; `letters` are those that are seen."""

    text: str
    letters: int
    at: Point
    colour: str


@dataclass(frozen=True)
class _Box:
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    width: float
    height: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.bottom < other.bottom + other.height
            and other.bottom < self.bottom + self.height
        )


def placed(
    labels: Iterable[Label], tips: Iterable[Point], ranges: tuple[Range, Range], area: tuple[float, float]
) -> list[dict[str, Any]]:
    """Notes for the labels that find a place free of other labels, of all markers and of the edge, the first first.

    Args:
        labels: what to write, the most important first.
        tips: points that carry a marker.
        ranges: what the axes show at least; both have the same scale, so the area shows more of one.
        area: width and height of the drawing in pixels.
    """
    (left, right), (bottom, top) = ranges
    scale = min(area[0] / (right - left), area[1] / (top - bottom))
    frame = _Box(scale * (left + right) / 2 - area[0] / 2, scale * (bottom + top) / 2 - area[1] / 2, *area)
    taken = [_Box(x * scale - MARKER_PX / 2, y * scale - MARKER_PX / 2, MARKER_PX, MARKER_PX) for x, y in tips]
    notes = []
    for label in labels:
        for place in _places(label.at):
            box = _box(label, place, scale)
            inside = frame.left <= box.left and box.left + box.width <= frame.left + frame.width
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                notes.append(_note(label, place))
                break
    return notes


_Place = tuple[str, str]


def _places(at: Point) -> list[_Place]:
    """Where a label may stand beside its tip, outwards first: (xanchor, yanchor) as Plotly names them."""
    out, back = ("left", "right") if at[0] >= 0 else ("right", "left")
    up, down = ("bottom", "top") if at[1] >= 0 else ("top", "bottom")
    return [(out, up), (out, "middle"), (out, down), (back, up), (back, "middle"), (back, down)]


def _box(label: Label, place: _Place, scale: float) -> _Box:
    """The room that a label takes at a place."""
    width = LETTER_PX * label.letters
    x, y = label.at[0] * scale, label.at[1] * scale
    left = x + OFF_PX if place[0] == "left" else x - OFF_PX - width
    bottom = {"bottom": y, "middle": y - LINE_PX / 2, "top": y - LINE_PX}[place[1]]
    return _Box(left, bottom, width, LINE_PX)


def _note(label: Label, place: _Place) -> dict[str, Any]:
    """A label as a note."""
    return {
        "text": label.text,
        "x": label.at[0],
        "y": label.at[1],
        "showarrow": False,
        "xanchor": place[0],
        "xshift": OFF_PX if place[0] == "left" else -OFF_PX,
        "yanchor": place[1],
        "font": {"size": 12, "color": label.colour},
    }
