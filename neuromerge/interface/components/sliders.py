"""Rows of sliders as one component: as many as there are experts, coefficients or blocks just now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from neuromerge.errors import SettingError

# The names of the events must stand here in quotes: Gradio finds them so.
_BOOT = """
const start = () => {
  if (window.NeuroMergeSliders) window.NeuroMergeSliders.mount(element, props, () => trigger('moved'), watch);
  else setTimeout(start, 25);
};
start();
"""


class Sliders(gr.HTML):
    """Sliders from 0 to 2, each with a number to type; ``static/sliders.js`` draws them.

    The value is a list of rows: mappings with ``title`` and ``value``, and whatever else Python wants to find again.
    Rows that all have ``point`` are drawn as a curve above the sliders, too, whose points can be dragged.
    A row that a person has moved comes back with ``moved``. The event ``moved`` fires at every move.
    """

    def __init__(self, value: list[dict[str, Any]] | None = None, *, label: str, elem_id: str, **more: Any) -> None:
        super().__init__(
            value=value,
            label=label,
            html_template=f"<div class='nm-sliders' role='group' aria-label='{label}'></div>",
            js_on_load=_BOOT,
            apply_default_css=False,
            elem_id=elem_id,
            **more,
        )

    def get_block_name(self) -> str:
        """Gradio draws this with the frontend of its HTML component."""
        return "html"


def rows_of(value: Any) -> list[Mapping[str, Any]]:
    """The rows that a browser sent. Raises SettingError where it sent something else."""
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise SettingError("What the page sent is no list of sliders. Reload the page and try again.")
    return value
