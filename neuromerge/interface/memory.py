"""Freed memory goes back to the system, so that the process is as large as what it holds."""

from __future__ import annotations

import ctypes
import sys
import threading
import time

_SECONDS = 5.0
_lock = threading.Lock()
_last = 0.0


def give_back() -> bool:
    """Return the free pages of the C library's heaps to the system, at most every five seconds; whether it did.

    Threads that evaluate leave free pages between what they leave behind, in as many heaps as there are threads,
    and glibc returns only those at a heap's end by itself. Elsewhere than on glibc nothing happens.
    """
    global _last
    if not sys.platform.startswith("linux"):
        return False
    with _lock:
        if time.monotonic() - _last < _SECONDS:
            return False
        _last = time.monotonic()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
