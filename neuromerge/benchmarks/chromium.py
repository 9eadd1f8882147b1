"""The browser that tests and benchmarks drive."""

from __future__ import annotations

import os
import shutil

ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]


def chromium_path() -> str | None:
    """Where Chromium is, or None. The variable NEUROMERGE_CHROMIUM overrules the search."""
    chosen = os.environ.get("NEUROMERGE_CHROMIUM")
    if chosen:
        return shutil.which(chosen)
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
