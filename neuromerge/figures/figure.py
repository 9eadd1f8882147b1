"""The figure as the package passes it around: plain data that Plotly can draw, small enough to send often.

Building `plotly.graph_objects` costs tens of milliseconds a figure because every property is validated, so
the figures are plain dicts and lists; tests draw each with real Plotly objects instead. A figure carries its
own variant for narrow screens and its own description for people who do not see it.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neuromerge.figures.theme import Mode, resolve, template

if TYPE_CHECKING:
    import plotly.graph_objects as go

Trace = dict[str, Any]
Layout = dict[str, Any]

NARROW_BELOW = 560
"""Width in pixels of the figure's own box under which its narrow variant is drawn."""


@dataclass(frozen=True)
class Figure:
    """A picture and everything that goes with it.

    Attributes:
        data: Plotly traces. Keys of `meta` that the browser understands: ``source`` (the trace answers clicks under
            this name), ``words`` (pairs [upper bound, phrase]: what a value means, for the hover), ``csv`` (False:
            decoration, not in the CSV; a text: the name of the series).
        layout: Plotly layout; colours are tokens (see `theme`), `height` is set.
        description: what the picture shows, in words, for screen readers.
        narrow_data, narrow_layout: changes for narrow boxes, one dict per trace and one for the layout, laid over
            the wide ones key by key (None removes a key).
        columns: names of the CSV columns for ``x``, ``y``, ``z``, ``label`` (the hover text of a point),
            ``error above`` and ``error below``; an empty name leaves a column out.
        name: stem of the names of downloaded files.
    """

    data: list[Trace]
    layout: Layout
    description: str
    narrow_data: list[Trace] = field(default_factory=list)
    narrow_layout: Layout = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    name: str = "figure"

    def to_json(self) -> str:
        """The figure as compact JSON, which the browser draws. NaN must have been replaced (see `numbers`)."""
        whole = {
            "name": self.name,
            "data": self.data,
            "layout": self.layout,
            "alt": self.description,
            "narrow": {"data": self.narrow_data, "layout": self.narrow_layout},
            "columns": self.columns,
        }
        return json.dumps(whole, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    def to_dict(self, mode: Mode = "light", *, narrow: bool = False) -> dict[str, Any]:
        """Data and layout with the template and the colours of `mode` in place: what Plotly draws."""
        data, layout = self.data, self.layout
        if narrow:
            changes = [*self.narrow_data, *({} for _ in data[len(self.narrow_data) :])]
            data = [merge_patch(trace, change) for trace, change in zip(data, changes, strict=True)]
            layout = merge_patch(layout, self.narrow_layout)
        data = [_with_words(trace) for trace in data]
        return resolve({"data": data, "layout": {**layout, "template": template()}}, mode)

    def to_plotly(self, mode: Mode = "light", *, narrow: bool = False) -> go.Figure:
        """A `plotly.graph_objects.Figure`, validated: for notebooks and tests."""
        import plotly.graph_objects as go

        return go.Figure(self.to_dict(mode, narrow=narrow))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The numbers drawn, one record per value, with the names in `columns`."""
        for trace in self.data:
            meta = trace.get("meta", {})
            series = meta.get("csv", trace.get("name", ""))
            if series is False:
                continue
            for record in _records(trace):
                named = {self.columns.get(key, key): value for key, value in record.items()}
                yield {"series": series, **{key: value for key, value in named.items() if key}}

    def to_csv(self) -> str:
        """The numbers drawn as CSV, in long form."""
        records = list(self.rows())
        names = list(dict.fromkeys(key for record in records for key in record))
        out = io.StringIO()
        writer = csv.DictWriter(out, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return out.getvalue()


def _records(trace: Trace) -> Iterator[dict[str, Any]]:
    """One record per number of a trace: cells of a grid, or points."""
    x, y, z = trace.get("x"), trace.get("y"), trace.get("z")
    meta = trace.get("meta", {})
    if z is not None:
        columns, rows = meta.get("columns") or x, meta.get("rows") or y
        for i, line in enumerate(z):
            for j, value in enumerate(line):
                yield {"x": columns[j] if columns else j, "y": rows[i] if rows else i, "z": value}
        return
    if x is None or y is None:
        return
    labels = trace.get("hovertext")
    error = trace.get("error_y") or trace.get("error_x") or {}
    above, below = error.get("array"), error.get("arrayminus")
    for i, (left, right) in enumerate(zip(x, y, strict=True)):
        record = {"label": labels[i]} if isinstance(labels, list) else {}
        record |= {"x": left, "y": right}
        if above and below:
            record |= {"error above": above[i], "error below": below[i]}
        yield record


def _with_words(trace: Trace) -> Trace:
    """A heatmap with `meta.words`, its hover texts written out (the browser does the same, see view.js)."""
    meta = trace.get("meta", {})
    words = meta.get("words")
    if not words:
        return trace
    width = len(meta["columns"])
    missing = set(meta["na"]["cells"])
    text: list[list[str]] = []
    for i, line in enumerate(trace["z"]):
        text.append([])
        for j, value in enumerate(line):
            means = meta["na"]["text"] if i * width + j in missing else phrase(value, words)
            shown = "" if value is None else f"<br>{meta['title']}: {value:.3g}"
            text[-1].append(
                f"<b>{meta['rows'][i]} · {meta['columns'][j]}</b>{shown}" + (f"<br>{means}" if means else "")
            )
    return {**trace, "text": text}


def phrase(value: float | None, words: Sequence[Sequence[Any]]) -> str:
    """The phrase of the first pair [upper bound, phrase] whose bound is not below `value`; None takes the last."""
    if value is not None:
        for bound, text in words[:-1]:
            if bound is None or value <= bound:
                return str(text)
    return str(words[-1][1])


def merge_patch(target: Any, change: Any) -> Any:
    """`change` laid over `target` as in RFC 7396: dicts key by key, None removes, anything else replaces."""
    if not isinstance(change, Mapping):
        return change
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def number(value: float, digits: int = 4) -> float | None:
    """`value` rounded to `digits` significant digits; None for NaN and infinities (JSON has neither)."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def numbers(values: Iterable[float] | np.ndarray, digits: int = 4) -> list[Any]:
    """Nested lists of `number`s from an array of one or two axes."""
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [numbers(item, digits) if isinstance(item, list) else number(item, digits) for item in listed]


def percents(values: np.ndarray | Iterable[float], decimals: int = 2) -> list[Any]:
    """Shares in [0, 1] as percent, rounded; None for NaN."""
    return [round(100 * float(value), decimals) if math.isfinite(value) else None for value in values]


def plain(text: str, limit: int = 40) -> str:
    """`text` as Plotly shows it verbatim: Plotly reads tags, so they are escaped; long text is cut."""
    short = text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
    return html.escape(short, quote=False)


def wrapped(text: str, width: int, lines: int = 3) -> str:
    """`text` broken between words into at most `lines` lines of about `width` characters, each escaped by `plain`."""
    parts = textwrap.wrap(text, width, break_long_words=False) or [""]
    if len(parts) > lines:
        parts = [*parts[: lines - 1], " ".join(parts[lines - 1 :])]
    return "<br>".join(plain(part, width + 3) for part in parts)


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 5, 7.5 times a power of ten that is not below `value` (1 for 0 and below).

    Colour scales end there, so that they stay put while a slider moves.
    """
    if not math.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    for step in (1, 1.5, 2, 3, 5, 7.5, 10):
        if value <= step * power * (1 + 1e-9):
            return float(f"{step * power:.6g}")
    return 10 * power


def note(text: str, x: float, y: float, **more: Any) -> dict[str, Any]:
    """A line of text placed in fractions of the drawing area (0..1 from its lower left corner)."""
    return {"text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "showarrow": False, **more}


def message(text: str, kind: Literal["empty", "error", "loading"] = "empty") -> str:
    """JSON that makes a view show `text` instead of a figure: nothing to draw yet, or why it cannot be drawn."""
    return json.dumps({"message": text, "kind": kind}, ensure_ascii=False)
