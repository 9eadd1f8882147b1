"""The component that shows a figure: drawn by Plotly in the browser, alive across updates.

`gr.Plot` remounts on every value (zoom is lost), knows no clicks and stays white in dark mode. `PlotlyView` is
a `gr.HTML` whose node never changes: ``static/view.js`` draws into it with `Plotly.react` (see `static_files`). What
the server sends is `Figure.to_json()`, a string of a few kilobytes; as a string it passes Gradio's own traversals
untouched.
"""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from neuromerge.errors import SettingError
from neuromerge.figures.figure import Figure

_TEMPLATE = """
<figure class="nm-view" data-state="loading">
  <div class="nm-tools" role="toolbar" aria-label="LABEL: tools">
    <button type="button" data-do="reset" title="Show everything again">Reset zoom</button>
    <button type="button" data-do="png" title="Save as PNG picture" aria-label="Save LABEL as PNG">PNG</button>
    <button type="button" data-do="svg" title="Save as SVG drawing" aria-label="Save LABEL as SVG">SVG</button>
    <button type="button" data-do="csv" title="Save the numbers as CSV" aria-label="Save LABEL as CSV">CSV</button>
  </div>
  <div class="nm-stage" tabindex="0" role="application" aria-roledescription="figure" aria-label="LABEL"></div>
  <div class="nm-picking" aria-hidden="true" hidden></div>
  <div class="nm-cursor" aria-hidden="true" hidden></div>
  <div class="nm-bubble" aria-hidden="true" hidden></div>
  <div class="nm-message" role="status" hidden>
    <span></span><button type="button" hidden>Try again</button>
  </div>
  <figcaption class="nm-alt"></figcaption>
  <div class="nm-live" aria-live="polite"></div>
</figure>
"""

# The names of the events must stand here in quotes: Gradio finds them so.
_BOOT = """
const begun = Date.now();
const start = () => {
  if (window.NeuroMergeView) {
    const tell = (data) => {
      if (data.heading) trigger('heading', data);
      else if (data.selected) trigger('selected', data);
      else trigger('cell', data);
    };
    window.NeuroMergeView.mount(element, props, tell, watch);
  } else if (Date.now() - begun < 20000) {
    setTimeout(start, 25);
  } else {
    const words = element.querySelector('.nm-message');
    words.hidden = false;
    words.querySelector('span').textContent = 'The script of the figures did not load: reload the page.';
    element.querySelector('.nm-view').dataset.state = 'error';
  }
};
start();
"""


class PlotlyView(gr.HTML):
    """Shows a `Figure`. Its value is `Figure.to_json()`, a `Figure`, or `figures.message(...)`; None is "loading".

    The event ``cell`` fires when a part of the figure that answers clicks is clicked or chosen with Enter;
    `read_pick` turns the event into checked indices. The event ``heading`` does the same for the name of a row or a
    column, where the figure says that names can be chosen, and ``selected`` tells of many cells at once, where the
    figure says that cells can be selected (`read_selection`).

    Args:
        value: the first figure; None shows the loading state.
        label: short name of the figure for people who do not see it.
        height: height in pixels of the empty box, so that the page does not jump; figures bring their own.
    """

    def __init__(self, value: Figure | str | None = None, *, label: str, height: int = 320, **more: Any) -> None:
        escaped = html.escape(label).replace("$", "&#36;").replace("{", "&#123;").replace("`", "&#96;")
        super().__init__(
            value=value,
            label=label,
            html_template=_TEMPLATE.replace("LABEL", escaped),
            css_template=f".nm-view {{ --nm-view-height: {int(height)}px; }}",
            js_on_load=_BOOT,
            apply_default_css=False,
            **more,
        )

    def postprocess(self, value: Figure | str | None) -> str | None:
        """The JSON that goes to the browser."""
        return value.to_json() if isinstance(value, Figure) else value

    def get_block_name(self) -> str:
        """Gradio draws this with the frontend of its HTML component."""
        return "html"


@dataclass(frozen=True)
class Pick:
    """What a person chose in a figure: a cell of a heatmap (row, column) or a point (index)."""

    source: str
    row: int = -1
    column: int = -1
    index: int = -1


def read_pick(event: gr.EventData, sources: Mapping[str, tuple[int, ...]]) -> Pick:
    """The indices of a ``cell`` event, checked: nothing that a browser sends is trusted.

    Args:
        event: what Gradio hands to the listener.
        sources: for each name of a clickable part its size: (rows, columns) of a heatmap or (points,).

    Raises:
        SettingError: when the event names no such part or an index is not a whole number within it.
    """
    data = getattr(event, "_data", None)
    source = data.get("source") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(source, str) or source not in sources:
        raise SettingError("That click named no part of the figure. Click a cell or a point of it.")
    size = sources[source]
    keys = ("index",) if len(size) == 1 else ("row", "column")
    indices: dict[str, int] = {}
    for key, count in zip(keys, size, strict=True):
        value = data.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
            raise SettingError("That click lies outside the figure as it is now. Click again.")
        indices[key] = value
    return Pick(source, **indices)


def read_selection(
    event: gr.EventData, sources: Mapping[str, tuple[int, int]], before: Collection[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The cells that are selected after a ``selected`` event, in their order on the map, checked as in `read_pick`.

    Args:
        event, sources: as for `read_pick`.
        before: the cells that were selected: the event may replace them, add to them, or turn one of them over.
    """
    data = getattr(event, "_data", None)
    cells, source = (data.get("cells"), data.get("source")) if isinstance(data, Mapping) else (None, None)
    if not isinstance(cells, list) or not isinstance(source, str) or source not in sources:
        raise SettingError("That selection named no cells of the figure. Drag over some of them.")
    rows, columns = sources[source]
    named: set[tuple[int, int]] = set()
    for cell in cells:
        row, column = cell if isinstance(cell, list) and len(cell) == 2 else (None, None)
        if not (type(row) is int and type(column) is int and 0 <= row < rows and 0 <= column < columns):
            raise SettingError("That selection lies outside the figure as it is now. Select again.")
        named.add((row, column))
    how = data.get("how") if isinstance(data, Mapping) else None
    return sorted(named ^ set(before) if how == "toggle" else named | set(before) if how == "add" else named)
