"""Peak anonymous memory of this process: RssAnon + RssShmem, so that mapped file pages do not count."""

from __future__ import annotations

import threading
from pathlib import Path

_STATUS = Path("/proc/self/status")


def anonymous_bytes(status: Path = _STATUS) -> int:
    """RssAnon + RssShmem in bytes; 0 where the system does not tell (anything but Linux)."""
    if not status.exists():
        return 0
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssShmem") if name in fields)


class PeakMemory:
    """Context manager that samples anonymous memory from a thread: `.start` and `.peak` in bytes."""

    def __init__(self, interval: float = 0.02):
        self._interval = interval
        self._stop = threading.Event()
        self.start = self.peak = 0

    def __enter__(self) -> PeakMemory:
        self.start = self.peak = anonymous_bytes()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, anonymous_bytes())

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, anonymous_bytes())
