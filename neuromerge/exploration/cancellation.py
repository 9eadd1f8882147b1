"""Stopping work that nobody waits for any more: deadlines and stop buttons, checked between steps.

Python threads cannot be stopped from outside, so long work calls a check between its steps; the check raises
`Cancelled` once the work is no longer wanted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from neuromerge.errors import Cancelled
from neuromerge.exploration.cache import Check
from neuromerge.merging.registry import Progress


class Cancellation:
    """A stop button with an optional deadline; call it (or hand it on as a `check`) between steps.

    Args:
        deadline_seconds: time from now after which the work stops by itself.
        stale: asked at every check; True means that the work has been overtaken (a newer slider position).
        progress: told how far long steps are, as progress(done, total, what).
    """

    def __init__(
        self,
        deadline_seconds: float | None = None,
        stale: Callable[[], bool] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.progress = progress
        self._ends = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        self._stale = stale
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask the work to stop at its next check; safe from any thread."""
        self._stopped.set()

    @property
    def is_over(self) -> bool:
        """Whether the next check would raise."""
        return (
            self._stopped.is_set()
            or (self._ends is not None and time.monotonic() > self._ends)
            or (self._stale is not None and self._stale())
        )

    def __call__(self) -> None:
        """Raise Cancelled when the work is no longer wanted."""
        if self._stopped.is_set():
            raise Cancelled("Stopped.")
        if self._ends is not None and time.monotonic() > self._ends:
            raise Cancelled("This took longer than its time limit and was stopped.")
        if self._stale is not None and self._stale():
            raise Cancelled("Overtaken by a newer change.")


def with_check(check: Check, progress: Progress | None = None) -> Progress:
    """A progress callback that checks before it reports, for engine functions that take only a progress.

    Reports go to `progress`, or to the check's own where it has one (see `Cancellation`).
    """
    progress = progress or getattr(check, "progress", None)

    def report(done: int, total: int, what: str) -> None:
        check()
        if progress is not None:
            progress(done, total, what)

    return report
