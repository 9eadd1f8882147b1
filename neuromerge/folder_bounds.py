"""Folders of kept files that may be had again: bounded in bytes, what was used longest ago goes first."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def mark_used(path: Path) -> None:
    """Note that a kept file was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def nbytes(folder: Path) -> int:
    """Bytes of the files in a folder and those below it; 0 where there is none."""
    return sum(size for _, size, _ in _files(folder))


def keep_within(folder: Path, most: int, spare: Path | None = None) -> None:
    """Delete the files of a folder that were used longest ago, until the others take no more than `most` bytes.

    `spare` is kept in any case.
    """
    files = sorted((used, size, path) for used, size, path in _files(folder) if path != spare)
    total = sum(size for _, size, _ in files) + (spare.stat().st_size if spare is not None and spare.exists() else 0)
    for _, size, path in files:
        if total <= most:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """(when it was used, bytes, path) of every file that is whole."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            now = path.stat()
            if path.is_file() and not path.name.startswith("."):
                found.append((now.st_mtime, now.st_size, path))
    return found
