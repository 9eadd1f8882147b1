"""How text is set on the page."""

from __future__ import annotations

import html

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
"""Where formulas stand in Markdown."""


def way_back(identity: str, where: str) -> str:
    """HTML of a button that leads back to the element with that id; `where` says what that is."""
    return f"<button type='button' class='nm-back' data-to='{identity}'>↑ Back to {where}</button>"


def point_at(identity: str, words: str) -> str:
    """HTML of a button that shows the control with that id, wherever it is, and gives it the focus."""
    return f"<button type='button' class='nm-show' data-point='{identity}'>{html.escape(words)}</button>"


def bring(identity: str) -> str:
    """JavaScript of an event that brings the element with that id into view."""
    return f"() => NeuroMergeView.bring('{identity}')"
