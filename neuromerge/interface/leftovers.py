"""The server's folder for temporary files: its own, so that the next server can remove what a killed one left."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from neuromerge import endings

PREFIX = "neuromerge-server-"
_LOCK = "lock"
_FILES = "gradio"


class ServerFolder:
    """A folder that belongs to this process for as long as it runs.

    The process holds a lock on it, which the system lets go of however the process ends.

    Args:
        parent: where the folders of all servers are; the system's temporary folder when None.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self.parent = Path(tempfile.gettempdir()) if parent is None else parent
        self.parent.mkdir(parents=True, exist_ok=True)
        sweep(self.parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self.parent))
        self._lock = _locked(self.path)
        self.files = self.path / _FILES
        self.files.mkdir()

    def tidy(self, seconds: float, most_bytes: int) -> None:
        """Remove files that are older than `seconds`, then the oldest ones, until `most_bytes` are left at most."""
        found = sorted((stat.st_mtime, stat.st_size, path) for path, stat in _files(self.files))
        left = sum(size for _, size, _ in found)
        for modified, size, path in found:
            if left <= most_bytes and time.time() - modified < seconds:
                break
            path.unlink(missing_ok=True)
            left -= size

    def keep_tidy(self, seconds: float, most_bytes: int, every: float = 60.0) -> None:
        """Tidy up in the background from now on."""

        def work() -> None:
            while self.path.is_dir():
                self.tidy(seconds, most_bytes)
                time.sleep(every)

        threading.Thread(target=work, name="neuromerge-tidy", daemon=True).start()

    def remove_at_end(self, *, of_signals: bool) -> None:
        """Remove the folder when the process ends; `of_signals`: also where it is told to, which ends it as before.

        Python runs nothing at the end of a process that a signal ends. Only for the main thread, which gets them.
        """
        atexit.register(self.remove)
        if not of_signals or threading.current_thread() is not threading.main_thread():
            return
        for number in endings.signals():
            if signal.getsignal(number) in (signal.SIG_DFL, endings.stop):
                signal.signal(number, self._end)

    def _end(self, number: int, frame: object) -> None:
        self.remove()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def remove(self) -> None:
        """Remove the folder: the server has ended."""
        if self._lock is not None:
            self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)


def sweep(parent: Path) -> list[Path]:
    """Remove the folders of servers that no longer run; returns them."""
    removed = []
    for folder in parent.glob(f"{PREFIX}*"):
        lock = _locked(folder) if folder.is_dir() and not folder.is_symlink() else None
        if lock is not None:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _locked(folder: Path) -> IO[bytes] | None:
    """The lock of a folder; None where another process holds it, where it is another user's, or without such locks."""
    try:
        import fcntl
    except ImportError:  # Windows, where the temporary folder is tidied by the user
        return None
    try:
        file = open(folder / _LOCK, "ab")  # noqa: SIM115 - held open as long as the process lives
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                found.append((path, path.stat()))
        except OSError:  # removed meanwhile
            continue
    return found
