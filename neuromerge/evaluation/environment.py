"""Settings of this room that come from environment variables."""

from __future__ import annotations

import os
from pathlib import Path

from neuromerge.errors import SettingError


def whole_number(name: str, default: int) -> int:
    """The environment variable `name` as a whole number from 0, `default` where it is not set.

    Raises SettingError for anything else.
    """
    told = os.environ.get(name, "").strip()
    if not told:
        return default
    if not (told.isascii() and told.isdigit()):
        raise SettingError(f"The environment variable {name} must be a whole number, not {told!r}.")
    return int(told)


def cache_folder() -> Path:
    """Where fetched pictures and slow heads are kept: ``$NEUROMERGE_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("NEUROMERGE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuromerge"
