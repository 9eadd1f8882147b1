"""Fetched pictures on disk: a file for each task, and while it comes one for each part of it.

A part is what one request or a few bring. Whoever fetches a task after a stop or a kill finds the parts that came and
asks for the others alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromerge.atomic import replacing
from neuromerge.errors import StorageError
from neuromerge.folder_bounds import keep_within

MOST_KEPT = 2_000_000_000
"""Bytes of all fetched pictures on disk; those used longest ago are dropped first."""
DAMAGE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged .npz file can raise."""

NO_LABEL = -1
"""The label of a picture that has none, as data sets write it, too."""
Row = tuple[int, bytes, int]
"""Where a picture stands in its data set or part, the bytes of its file, its label. No bytes where there is none."""


def write(path: Path, encoded: Sequence[bytes], **arrays: Any) -> None:
    """Keep the files of pictures with arrays about them. Raises StorageError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            content = np.frombuffer(b"".join(encoded), np.uint8)
            np.savez(file, content=content, ends=np.cumsum([len(each) for each in encoded]), **arrays)
        keep_within(path.parent, MOST_KEPT, path)
    except OSError as error:
        raise StorageError(f"The fetched pictures cannot be kept in {path.parent}: {error.strerror}.") from None


def read(path: Path, *names: str) -> tuple[list[bytes], list[np.ndarray]]:
    """The files of pictures and the arrays of these names. Raises one of DAMAGE where there is no such file."""
    with np.load(path, allow_pickle=False) as packed:
        content, ends = packed["content"].tobytes(), packed["ends"].tolist()
        starts = [0, *ends][:-1]
        encoded = [content[start:end] for start, end in zip(starts, ends, strict=True)]
        return encoded, [packed[name] for name in names]


class Parts:
    """The parts of one task that are on disk, beside the file that will hold all of them."""

    def __init__(self, whole: Path) -> None:
        self._whole = whole

    def of(self, name: str, ask: Callable[[], list[Row]]) -> list[Row]:
        """The rows that `ask` brings, asked for once under a name that says commit and place."""
        path = self._whole.with_name(f"{self._whole.stem}.{hashlib.sha256(name.encode()).hexdigest()[:20]}.part")
        with contextlib.suppress(*DAMAGE):
            encoded, (places, labels) = read(path, "places", "labels")
            return list(zip(places.tolist(), encoded, labels.tolist(), strict=True))
        rows = ask()
        places, labels = (np.array([row[at] for row in rows], np.int64) for at in (0, 2))
        write(path, [content for _, content, _ in rows], places=places, labels=labels)
        return rows

    def drop(self) -> None:
        """Delete them: the whole is there."""
        for path in self._whole.parent.glob(f"{self._whole.stem}.*.part"):
            with contextlib.suppress(OSError):
                path.unlink()
