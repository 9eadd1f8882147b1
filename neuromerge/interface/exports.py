"""Exported files on the server's disk: packed once, counted, bounded for each page and in all."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError

FOLDER = "exports"
RESERVE = 64 * 2**20
"""Bytes of the disk that an export leaves to the others."""


@dataclass
class _Export:
    page: str | None
    nbytes: int
    made: float
    path: Path | None = None


class Exports:
    """What every page has prepared. Thread-safe.

    Args:
        limits: how many a page may have, how many bytes all may have, and how long one stays.
        clock: seconds that only grow.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._held: list[_Export] = []
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes that are there or promised."""
        with self._lock:
            return sum(export.nbytes for export in self._held)

    @contextmanager
    def place(self, page: str | None, nbytes: int, root: Path, name: str) -> Iterator[Path]:
        """A path under `root` for an export of about `nbytes`, whose name cannot be guessed.

        The page's oldest export gives way to a new one. What fails on the way leaves nothing behind.

        Raises LimitError, before anything is written, where all exports together or the disk leave no room.
        """
        export = self._promise(page, nbytes, root)
        folder = root / FOLDER / secrets.token_hex(16)
        try:
            folder.mkdir(parents=True)
            yield folder / name
            export.path, export.nbytes = folder / name, (folder / name).stat().st_size
        except BaseException:
            with self._lock:
                self._held.remove(export)
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def forget(self, page: str | None) -> None:
        """Remove what a page that was closed has prepared long ago; a download may still be under way."""
        with self._lock:
            self._expire()

    def _promise(self, page: str | None, nbytes: int, root: Path) -> _Export:
        with self._lock:
            self._expire()
            own = [export for export in self._held if export.page == page and export.path is not None]
            while own and len(own) >= self._limits.exports_per_page:
                self._remove(own.pop(0))
            if sum(export.nbytes for export in self._held) + nbytes > self._limits.export_bytes:
                raise LimitError(
                    f"This export needs {nbytes / 2**20:,.0f} MB, and there is no room for it beside those of "
                    "other visitors. Try later, or make the same merge on your own machine with this page's recipe."
                )
            root.mkdir(parents=True, exist_ok=True)
            promised = sum(export.nbytes for export in self._held if export.path is None)
            # Twice: the files as they are written, and the archive.
            if shutil.disk_usage(root).free < 2 * (nbytes + promised) + RESERVE:
                raise LimitError(
                    f"This export needs {2 * nbytes / 2**20:,.0f} MB, which the server's disk does not have now. Try "
                    "again later, or make the same merge on your own machine with the recipe on this page."
                )
            export = _Export(page, nbytes, self._clock())
            self._held.append(export)
            return export

    def _expire(self) -> None:
        oldest = self._clock() - self._limits.export_seconds
        for export in [export for export in self._held if export.path is not None and export.made < oldest]:
            self._remove(export)

    def _remove(self, export: _Export) -> None:
        self._held.remove(export)
        if export.path is not None:
            shutil.rmtree(export.path.parent, ignore_errors=True)


def pack(folder: Path, archive: Path) -> None:
    """Move the files of a folder into a zip. Weights hardly shrink, so they are stored; each file goes once packed."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, allowZip64=True) as packed:
        for path in sorted(folder.iterdir()):
            small = path.suffix in (".json", ".yaml", ".py", ".txt")
            packed.write(path, path.name, zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED)
            path.unlink()
