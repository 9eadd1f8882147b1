"""What the hover says of a heatmap's cells. The browser does the same (``static/hover.js``); a test holds them equal.

The texts are written in the browser because they would be most of what travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuromerge.figures.numbers import minus, short
from neuromerge.figures.wire import CellHover, Phrases, Trace


def cell_hover(
    title: str,
    phrases: Phrases | None = None,
    *,
    blank: str = "",
    cells: Sequence[int] = (),
    reason: str = "",
    marks: Mapping[int, str] | None = None,
) -> CellHover:
    """How to write the hover texts of a heatmap: see `CellHover`; `cells` have no value because of `reason`."""
    apart = {"cells": list(cells), "text": reason}
    marked = {str(cell): text for cell, text in (marks or {}).items()}
    return {"title": title, "phrases": phrases or [], "blank": blank, "not_applicable": apart, "marks": marked}  # type: ignore[typeddict-item]


def phrase(value: float, phrases: Phrases) -> str:
    """The first phrase whose bound is not below `value`; "" where there is none."""
    return next((text for bound, text in phrases if bound is None or value <= bound), "")


def cell_texts(trace: Trace) -> list[list[str]]:
    """The hover text of every cell of a heatmap with `meta.hover`."""
    meta: dict[str, Any] = trace["meta"]
    hover: CellHover = meta["hover"]
    rows, columns = meta["rows"], meta["columns"]
    apart = frozenset(hover["not_applicable"]["cells"])

    def text(i: int, j: int, value: float | None) -> str:
        lines = [f"<b>{rows[i]} · {columns[j]}</b>"]
        if value is not None:
            lines.append(f"{hover['title']}: {minus(short(value))}")
            lines.append(phrase(value, hover["phrases"]))
        else:
            lines.append(hover["not_applicable"]["text"] if i * len(columns) + j in apart else hover["blank"])
        lines.append(hover["marks"].get(str(i * len(columns) + j), ""))
        return "<br>".join(line for line in lines if line)

    return [[text(i, j, value) for j, value in enumerate(line)] for i, line in enumerate(trace["z"])]


def with_hover(trace: Trace) -> Trace:
    """`trace` with its hover texts, where it says how to write them."""
    return {**trace, "hovertext": cell_texts(trace)} if trace.get("meta", {}).get("hover") else trace
