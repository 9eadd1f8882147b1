"""The numbers drawn, as records and CSV. The browser does the same (``static/records.js``); a test holds them equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from neuromerge.figures.numbers import written
from neuromerge.figures.wire import Trace

Record = dict[str, Any]


def records(traces: Iterable[Trace], columns: Mapping[str, str]) -> Iterator[Record]:
    """One record per number drawn: its series and its values, under the names in `columns` (see `Figure`)."""
    for trace in traces:
        series = trace.get("meta", {}).get("csv", trace.get("name", ""))
        if series is False:
            continue
        for record in _values(trace):
            named = {columns.get(key, key): value for key, value in record.items()}
            yield {"series": series, **{key: value for key, value in named.items() if key}}


def _values(trace: Trace) -> Iterator[Record]:
    """The cells of a grid, or the points of a line."""
    x, y, z = trace.get("x"), trace.get("y"), trace.get("z")
    meta = trace.get("meta", {})
    if z is not None:
        columns, rows = meta.get("columns", x), meta.get("rows", y)
        for i, line in enumerate(z):
            for j, value in enumerate(line):
                yield {"x": columns[j] if columns else j, "y": rows[i] if rows else i, "z": value}
        return
    if x is None or y is None:
        return
    labels = trace.get("hovertext")
    error = trace.get("error_y") or trace.get("error_x") or {}
    for i, (left, right) in enumerate(zip(x, y, strict=True)):
        record = {"label": labels[i]} if isinstance(labels, list) else {}
        record |= {"x": left, "y": right}
        if "array" in error and "arrayminus" in error:
            record |= {"error above": error["array"][i], "error below": error["arrayminus"][i]}
        yield record


def to_csv(traces: Iterable[Trace], columns: Mapping[str, str]) -> str:
    """`records` as CSV (RFC 4180 with line feeds); a missing value is an empty field."""
    found = list(records(traces, columns))
    names = list(dict.fromkeys(key for record in found for key in record))
    lines: list[list[Any]] = [list(names), *([record.get(name) for name in names] for record in found)]
    return "".join(",".join(map(_field, line)) + "\n" for line in lines)


def _field(value: str | float | None) -> str:
    """One value of a CSV line, quoted where it must be."""
    text = "" if value is None else value if isinstance(value, str) else written(value)
    return '"{}"'.format(text.replace('"', '""')) if any(mark in text for mark in '",\n\r') else text
