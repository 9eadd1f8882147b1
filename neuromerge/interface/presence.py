"""Which pages are still there: a browser holds a stream to the server open for as long as its page lives."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass
class _Seen:
    streams: int
    last: float


class Presence:
    """The streams of every page, and when it was last heard of. Thread-safe, bounded.

    Args:
        grace_seconds: how long a page may be without a stream: it is loading, or its connection broke.
        capacity: pages remembered; those that were quiet longest are forgotten, and then taken to be there.
        clock: seconds that only grow.
    """

    def __init__(
        self, grace_seconds: float = 8.0, capacity: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._grace = grace_seconds
        self._capacity = capacity
        self._clock = clock
        self._pages: OrderedDict[str, _Seen] = OrderedDict()
        self._lock = threading.Lock()

    def arrived(self, page: str) -> bool:
        """Note that a page, which may have no stream yet, asks for something; whether it is a new one.

        Asking again does not keep it alive.
        """
        with self._lock:
            new = page not in self._pages
            if new:
                self._note(page, 0)
            return new

    @contextlib.contextmanager
    def listening(self, page: str) -> Iterator[None]:
        """Note that a page listens while the context lasts."""
        with self._lock:
            self._note(page, 1)
        try:
            yield
        finally:
            with self._lock:
                self._note(page, -1)

    def is_there(self, page: str | None) -> bool:
        """Whether somebody may be waiting for what a page asked. True for pages that were never heard of."""
        with self._lock:
            seen = self._pages.get(page or "")
            return seen is None or seen.streams > 0 or self._clock() - seen.last < self._grace

    def listens(self, page: str | None) -> bool:
        """Whether a page has an open stream."""
        with self._lock:
            seen = self._pages.get(page or "")
            return seen is not None and seen.streams > 0

    @property
    def listeners(self) -> list[str]:
        """Pages with an open stream."""
        with self._lock:
            return [page for page, seen in self._pages.items() if seen.streams > 0]

    def _note(self, page: str, change: int) -> None:
        before = self._pages.pop(page, None)
        self._pages[page] = _Seen(max(0, (before.streams if before else 0) + change), self._clock())
        while len(self._pages) > self._capacity:
            self._pages.popitem(last=False)
