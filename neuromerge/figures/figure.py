"""The figure as the package passes it around: plain data that Plotly can draw, small enough to send often.

Building `plotly.graph_objects` costs tens of milliseconds a figure because every property is validated, so
the figures are plain dicts and lists; tests draw each with real Plotly objects instead. A figure carries its
own variant for narrow screens and its own description for people who do not see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

from neuromerge.figures.hover import with_hover
from neuromerge.figures.patch import merge_patch
from neuromerge.figures.records import Record, records, to_csv
from neuromerge.figures.theme import Mode, resolve, template
from neuromerge.figures.wire import Layout, Message, Sent, Trace

if TYPE_CHECKING:
    import plotly.graph_objects as go

NARROW_BELOW = 560
"""Width in pixels of a figure's own box under which its narrow variant is drawn, unless it needs more."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture and everything that goes with it.

    Attributes:
        data: Plotly traces; the keys of `meta` that the browser understands are those of `wire.TraceMeta`.
        layout: Plotly layout; colours are tokens (see `theme`), `height` is set.
        description: what the picture shows, in words, for screen readers.
        name: stem of the names of downloaded files.
        narrow_data, narrow_layout: changes for narrow boxes, one dict per trace and one for the layout, laid over
            the wide ones key by key (None removes a key).
        narrow_below: width in pixels under which they apply: what the wide variant needs for its words.
        columns: names of the CSV columns for ``x``, ``y``, ``z``, ``label`` (the hover text of a point),
            ``error above`` and ``error below``; an empty name leaves a column out.
        held: dotted names of parts of the layout that stay as they are while a slider moves, so that what moves is the
            numbers and not their scale.
    """

    data: list[Trace]
    layout: Layout
    description: str
    name: str
    narrow_data: list[Trace] = field(default_factory=list)
    narrow_layout: Layout = field(default_factory=dict)
    narrow_below: int = NARROW_BELOW
    columns: dict[str, str] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        """The figure as compact JSON, which the browser draws. NaN must have been replaced (`numbers.numbers`)."""
        sent: Sent = {
            "name": self.name,
            "data": self.data,
            "layout": self.layout,
            "alt": self.description,
            "narrow": {"below": self.narrow_below, "data": self.narrow_data, "layout": self.narrow_layout},
            "held": self.held,
            "columns": self.columns,
        }
        return json.dumps(sent, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def to_dict(self, mode: Mode = "light", *, narrow: bool = False) -> dict[str, Any]:
        """Data and layout with the template and the colours of `mode` in place: what Plotly draws.

        The browser does the same (``static/prepared.js``); a test holds the two equal.
        """
        data, layout = self.data, self.layout
        if narrow:
            unchanged: Trace = {}
            pairs = zip_longest(data, self.narrow_data, fillvalue=unchanged)
            data = [merge_patch(trace, change) for trace, change in pairs]
            layout = merge_patch(layout, self.narrow_layout)
        drawn = [with_hover(trace) for trace in data]
        return resolve({"data": drawn, "layout": {**layout, "template": template()}}, mode)

    def to_plotly(self, mode: Mode = "light", *, narrow: bool = False) -> go.Figure:
        """A `plotly.graph_objects.Figure`, validated: for notebooks and tests."""
        import plotly.graph_objects as go

        return go.Figure(self.to_dict(mode, narrow=narrow))

    def rows(self) -> Iterator[Record]:
        """The numbers drawn, one record per value, with the names in `columns`."""
        return records(self.data, self.columns)

    def to_csv(self) -> str:
        """The numbers drawn as CSV, in long form."""
        return to_csv(self.data, self.columns)


def message(text: str, kind: Literal["empty", "error", "loading"] = "empty") -> str:
    """JSON that makes a view show `text` instead of a figure: nothing to draw yet, or why it cannot be drawn."""
    sent: Message = {"message": text, "kind": kind}
    return json.dumps(sent, ensure_ascii=False)
