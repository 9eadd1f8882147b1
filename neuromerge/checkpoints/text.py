"""Putting what a file says into a message."""

from __future__ import annotations


def shown(text: object, limit: int = 100) -> str:
    """A key or value of a file as it may appear in a message: printable, quoted, cut to `limit` characters."""
    plain = repr(text)
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."
