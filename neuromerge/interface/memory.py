"""Memory of the process: few heaps, what is freed goes back to the system, what stays is not looked through again."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Callable

from neuromerge.deployment import inherited

Trim = Callable[[int], int]
"""glibc's malloc_trim: returns free pages, keeping so many bytes; 1 where there were some."""


_HEAPS = 4
_ARENA_MAX = -8  # glibc's M_ARENA_MAX


def share_heaps() -> None:
    """Have all threads share a few of glibc's heaps; called before they begin. MALLOC_ARENA_MAX says otherwise.

    By default there are eight a core. Each grows as large as it ever had to be, at a time of its own, and keeps free
    pages between what it leaves behind.
    """
    if sys.platform.startswith("linux") and "MALLOC_ARENA_MAX" not in inherited():
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_ARENA_MAX, _HEAPS)


def _in_a_thread(seconds: float, call: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, call)
    timer.daemon = True
    timer.start()


class FreedMemory:
    """Free pages of the C library's heaps.

    Threads that evaluate leave free pages between what they leave behind, in as many heaps as there are threads,
    and glibc returns only those at a heap's end by itself.

    Args:
        trim: returns them; None where the C library cannot.
        seconds: shortest time between two returns.
        clock: seconds that only grow.
        later: calls something after so many seconds.
    """

    def __init__(
        self,
        trim: Trim | None,
        seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], object]], object] = _in_a_thread,
    ) -> None:
        self._trim = trim
        self._seconds = seconds
        self._clock = clock
        self._later = later
        self._lock = threading.Lock()
        self._last = -float("inf")
        self._is_due = False

    def give_back(self) -> bool:
        """Return the pages to the system; whether there were some. Where that was done just now, once more later."""
        if self._trim is None:
            return False
        with self._lock:
            early = self._last + self._seconds - self._clock()
            if early > 0:
                if not self._is_due:
                    self._is_due = True
                    self._later(early, self._when_due)
                return False
            self._last = self._clock()
        return bool(self._trim(0))

    def _when_due(self) -> None:
        with self._lock:
            self._is_due = False
        self.give_back()


def trim_of_this_system() -> Trim | None:
    """malloc_trim; None where the C library is another than glibc."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None


give_back = FreedMemory(trim_of_this_system()).give_back
"""Of this process: called after work that may leave much behind; returns pages at most every five seconds."""


def keep_for_good() -> None:
    """Take all objects that are there now for ones that live as long as the process, and collect garbage among others.

    Modules and components are half a million objects. The collector stops every thread while it goes through them, for
    a quarter of a second, several times while they are made and now and then as long as the page is served. To collect
    once before would find a few megabytes, and stop the first visitor's page.
    """
    gc.freeze()
    gc.enable()
