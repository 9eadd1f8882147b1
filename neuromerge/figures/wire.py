"""What travels to the browser, as types: the figure's JSON, and what the scripts read of each trace's `meta`.

Plotly carries `meta` along untouched. The scripts under ``interface/static`` read these keys and no others; a test
compares the keys here, those in every figure, and those that the scripts name.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

Trace = dict[str, Any]
"""A Plotly trace: type, data, look."""

Layout = dict[str, Any]
"""A Plotly layout, or changes to one."""

Phrases = list[tuple[float | None, str]]
"""What a value means: pairs (upper bound, phrase) in rising order; the bound None is open."""


class NotApplicable(TypedDict):
    """Cells without a value for another reason than `CellHover.blank`."""

    cells: list[int]
    """Their places, counted row by row."""

    text: str
    """Why they have no value."""


class CellHover(TypedDict):
    """How the hover text of a heatmap's cells is written: place, value, and what it means or why there is none."""

    title: str
    """Name of the value, before the colon."""

    phrases: Phrases
    """What a value means; [] where nothing is said about it."""

    blank: str
    """Why a cell has no value; "" says nothing."""

    not_applicable: NotApplicable
    """Cells that have no value for a reason of their own."""

    marks: dict[str, str]
    """What else is said of some cells, by their place, counted row by row."""


class TraceMeta(TypedDict, total=False):
    """The keys of a trace's `meta` that the browser reads; all of them may be missing."""

    source: str
    """The trace answers clicks and Enter under this name (`plotly_view.read_pick`)."""

    index: list[int]
    """Points: the number sent to Python for each, -1 for points that answer no click. Else their own place."""

    samples: list[int]
    """Points: places among the page's sample pictures, which are shown where a point is pointed at."""

    csv: str | Literal[False]
    """Name of the series in the CSV instead of the trace's; False: decoration, which is no number of the figure."""

    rows: list[str]
    """Heatmaps: names of the rows for hover, CSV and screen readers, where the axis counts them."""

    columns: list[str]
    """Heatmaps: names of the columns, as `rows`."""

    labels: list[str]
    """Heatmaps: the names of rows and of columns can be chosen, and are sent to Python as these sources."""

    selects: list[list[int]]
    """Heatmaps: many cells can be selected at once; those that are, by row and column as Python counts them."""

    places: list[int]
    """Heatmaps: the column sent to Python for each column drawn, where they are only some of those Python knows."""

    hover: CellHover
    """Heatmaps: their hover texts are written by the browser, from this."""


class Narrow(TypedDict):
    """Changes for narrow boxes (RFC 7396: key by key, null removes)."""

    below: int
    """Width of the figure's own box in pixels under which they apply."""

    data: list[Trace]
    layout: Layout


class Sent(TypedDict):
    """A figure as JSON."""

    name: str
    """Stem of the names of downloaded files."""

    data: list[Trace]
    layout: Layout

    alt: str
    """What the picture shows, for screen readers."""

    narrow: Narrow

    held: list[str]
    """Parts of the layout ("xaxis.range") that stay as they are while a slider moves, and follow when it rests."""

    columns: dict[str, str]
    """Names of the CSV columns for x, y, z, label and the ends of error bars; "" leaves a column out."""


class Message(TypedDict):
    """Words in place of a figure."""

    message: str
    kind: Literal["empty", "error", "loading"]
