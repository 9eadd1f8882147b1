"""Text on its way into a figure. Plotly reads tags, so what came from outside is escaped here."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuromerge.figures.theme import TOKEN


def plain(text: str, limit: int = 40) -> str:
    """`text` as Plotly shows it verbatim: tags are escaped; long text is cut."""
    cut = text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
    return html.escape(cut, quote=False)


def wrapped(text: str, width: int, lines: int = 3) -> str:
    """`text` broken between words into at most `lines` lines of about `width` characters, each escaped by `plain`."""
    parts = textwrap.wrap(text, width, break_long_words=False) or [""]
    if len(parts) > lines:
        parts = [*parts[: lines - 1], " ".join(parts[lines - 1 :])]
    return "<br>".join(plain(part, width + 3) for part in parts)


def coloured(text: str, colour: str, *, size: int | None = None) -> str:
    """Markup `text` in the colour of a token (``"token:merge"`` or its bare name)."""
    name = colour.removeprefix(TOKEN)
    small = f";font-size:{size}px" if size else ""
    return f"<span style='color:{TOKEN}{name}{small}'>{text}</span>"


def task_names(tasks: Iterable[str], titles: Mapping[str, str] | None = None, limit: int = 16) -> list[str]:
    """The tasks as figures name them: their title where there is one, else their key."""
    return [plain((titles or {}).get(task, task), limit) for task in tasks]


def named_axis(names: Sequence[str], *, down: bool = False, angle: float = 0) -> dict[str, Any]:
    """An axis with a place for each name: 0, 1, ... from the left, or from above where it goes `down`."""
    ends = [-0.5, len(names) - 0.5]
    return {
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "range": ends[::-1] if down else ends,
        "tickangle": angle,
        "showgrid": False,
        "zeroline": False,
    }


def note(text: str, x: float, y: float, **more: Any) -> dict[str, Any]:
    """A line of text placed in fractions of the drawing area (0..1 from its lower left corner)."""
    return {"text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "showarrow": False, **more}
