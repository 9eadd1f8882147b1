"""A sentence whose cells can be chosen: the map in words, with buttons where it names a cell."""

from __future__ import annotations

from html import escape

import gradio as gr

from neuromerge.figures.interference import Sentence

# The name of the event must stand here in quotes: Gradio finds it so.
_CHOOSE = """
element.addEventListener('click', (event) => {
  const cell = event.target.closest('button[data-row]');
  if (!cell) return;
  const { source, row, column } = cell.dataset;
  trigger('cell', { source, row: Number(row), column: Number(column) });
});
"""


def sentence_links(elem_id: str) -> gr.HTML:
    """Shows what `sentence_html` makes; its event `cell` tells which cell was chosen, as that of the map does."""
    return gr.HTML("", elem_id=elem_id, js_on_load=_CHOOSE, apply_default_css=False)


def sentence_html(sentence: Sentence) -> str:
    """The sentence as HTML: words, and a button for each cell."""
    parts = (
        escape(part)
        if isinstance(part, str)
        else f"<button type='button' class='nm-cell-link' data-source='{escape(part.source)}' data-row='{part.row}' "
        f"data-column='{part.column}' title='Open this cell'>{escape(part.text)}</button>"
        for part in sentence.parts
    )
    return f"<p class='nm-sentence' role='status'>{''.join(parts)}</p>"
