"""How text is set on the page."""

from __future__ import annotations

LATEX: list[dict[str, str | bool]] = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "$", "right": "$", "display": False},
]
"""Where formulas stand in Markdown."""
