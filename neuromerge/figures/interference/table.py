"""The table twin of the interference map, for everyone who would rather read numbers."""

from __future__ import annotations

from html import escape

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.interference.columns import panels
from neuromerge.figures.numbers import numbers, short


def as_rows(heatmap: Heatmap) -> tuple[list[str], list[list[str | float | None]]]:
    """The heatmaps as a table: header and rows ``[layer, subspace, value per matrix ...]``; None: not applicable."""
    header = ["layer", "subspace", *heatmap.columns]
    body: list[list[str | float | None]] = []
    for i, layer in enumerate(heatmap.rows):
        for name, values in (("parallel", heatmap.parallel), ("orthogonal", heatmap.orthogonal)):
            if np.isfinite(values[i]).any():
                body.append([layer, name, *numbers(values[i], 3)])
    return header, body


def as_table(heatmap: Heatmap, tasks: int | None = None) -> str:
    """The heatmaps as an HTML table with a caption.

    Args:
        heatmap: values (rows, columns) per subspace.
        tasks: number of merged tasks T, for the words about the values.
    """
    header, body = as_rows(heatmap)
    lines = [
        f"<caption>{escape(heatmap.measure.title)}: {escape(heatmap.measure.sentence)} "
        "A dash means: not applicable; × a factor of your own on the strength there.</caption>",
        "<thead><tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in header) + "</tr></thead>",
        "<tbody>",
    ]
    marks = {
        (heatmap.rows[row], panel.source, panel.places[at]): text
        for panel in panels(heatmap)
        for (row, at), text in panel.marks.items()
    }
    for layer, subspace, *values in body:
        cells = [f'<th scope="row">{escape(str(layer))}</th>', f"<td>{subspace}</td>"]
        for at, value in enumerate(values):
            if isinstance(value, float):
                mark = marks.get((str(layer), str(subspace), at), "")
                mark = f" <b>{mark}</b>" if mark else ""
                means = heatmap.measure.phrase(value, tasks or 0)
                title = f' title="{escape(means)}"' if means else ""
                cells.append(f"<td{title}>{short(value)}{mark}</td>")
            else:
                cells.append('<td class="nm-na" title="not applicable">–</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="nm-scroll" tabindex="0"><table class="nm-table">{"".join(lines)}</tbody></table></div>'
