"""One process-wide cache: bounded in bytes, safe between threads, each value computed once.

Every stage of a merge that more than one person or more than one view can use is kept here: loaded weights,
first passes, merged parts, accuracies. Nothing of it belongs to a session, so eight people on the same
setting cost as much as one, and closing a page frees nothing and breaks nothing.

The bound is `NEUROMERGE_CACHE_BYTES` (default 3 GiB). The least recently used values go first. A value that
alone is larger than the bound is handed out and not kept. Of what every position of a slider leaves behind only
`MOST` values are kept, so that a process that has run for an hour is no larger than after a minute.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast

import numpy as np

from neuromerge.deployment import deployment
from neuromerge.errors import Cancelled
from neuromerge.progress import UNATTENDED, Job

MOST = {
    "embedding": 512,  # of one task's pictures under one merge: some 32 positions of a slider
    "pass": 16,  # of one trim ratio, as the next two
    "parts": 16,
    "components": 16,
    "layer": 64,  # close-ups
    "picture": 1024,
}
"""Kind of value (the first word of its key) to how many of them the process's cache keeps."""
_POLL_SECONDS = 0.05

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """How a cache has fared. `bytes` and `entries` are what it holds now; the others count since the start."""

    bytes: int
    limit: int
    entries: int
    hits: int
    misses: int
    evictions: int


@dataclass(slots=True)
class _Entry:
    value: Any
    size: int


@dataclass(slots=True)
class _Flight:
    """One computation under way, and who may wait for it."""

    owner: int
    done: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    error: BaseException | None = None


class BoundedCache:
    """Least-recently-used values up to `limit` bytes, with single-flight computation.

    A key is a tuple that begins with the kind of its value, or any other hashable; of a kind in `most` no more than
    that many values are kept.

    Two threads that ask for the same missing key compute it once: the first computes, the others wait. An
    error goes to all who wait and is not kept. `Cancelled` is the first one's own business: the next waiter
    takes over.
    """

    def __init__(self, limit: int, most: Mapping[str, int] | None = None) -> None:
        self._limit = max(0, limit)
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._most = dict(most or {})
        self._counts: Counter[str] = Counter()  # by kind
        self._flights: dict[Hashable, _Flight] = {}
        self._bytes = 0
        self._hits = self._misses = self._evictions = 0

    def get(
        self,
        key: Hashable,
        compute: Callable[[], V],
        *,
        size: Callable[[V], int] | None = None,
        job: Job = UNATTENDED,
    ) -> V:
        """The value of `key`, computed by `compute` when it is not there.

        `size` measures a value in bytes (default `size_of`). `check` is called while this thread waits for
        another's computation, and may raise Cancelled. Whatever `compute` raises is raised here.
        """
        while True:
            with self._lock:
                entry = self._entries.get(key)
                if entry is not None:
                    self._entries.move_to_end(key)
                    self._hits += 1
                    return cast(V, entry.value)
                flight = self._flights.get(key)
                mine = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight(owner=threading.get_ident())
                    self._misses += 1
                elif flight.owner == threading.get_ident():
                    raise RuntimeError(f"the computation of {key!r} asks for itself")
            if mine:
                return self._fly(key, flight, compute, size or size_of)
            while not flight.done.wait(_POLL_SECONDS):
                job.check()
            if flight.error is None:
                return cast(V, flight.value)
            if not isinstance(flight.error, Cancelled):
                raise flight.error

    def peek(self, key: Hashable) -> Any | None:
        """The value of `key` when it is there, else None; never computes."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry.value

    def put(self, key: Hashable, value: Any, size: int | None = None) -> None:
        """Keep `value` under `key` (replacing what was there) if it fits."""
        size = size_of(value) if size is None else size
        with self._lock:
            self._store(key, value, size)

    def discard(self, key: Hashable) -> None:
        """Forget `key`."""
        with self._lock:
            self._remove(key)

    def clear(self) -> None:
        """Forget everything; computations under way finish and are kept."""
        with self._lock:
            self._entries.clear()
            self._counts.clear()
            self._bytes = 0

    def statistics(self) -> CacheStatistics:
        """What the cache holds and how it has fared."""
        with self._lock:
            return CacheStatistics(
                self._bytes, self._limit, len(self._entries), self._hits, self._misses, self._evictions
            )

    @property
    def limit(self) -> int:
        """The bound in bytes."""
        return self._limit

    def _fly(self, key: Hashable, flight: _Flight, compute: Callable[[], V], size: Callable[[V], int]) -> V:
        try:
            value = compute()
            bytes_ = size(value)
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            flight.error = error
            flight.done.set()
            raise
        with self._lock:
            self._store(key, value, bytes_)
            del self._flights[key]
        flight.value = value
        flight.done.set()
        return value

    def _store(self, key: Hashable, value: Any, size: int) -> None:
        self._remove(key)
        if size > self._limit:
            return
        kind = _kind(key)
        if self._counts[kind] >= self._most.get(kind, sys.maxsize):
            self._evict(next(other for other in self._entries if _kind(other) == kind))
        while self._entries and self._bytes + size > self._limit:
            self._evict(next(iter(self._entries)))
        self._entries[key] = _Entry(value, size)
        self._bytes += size
        self._counts[kind] += 1

    def _evict(self, key: Hashable) -> None:
        self._remove(key)
        self._evictions += 1

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
            self._counts[_kind(key)] -= 1


def _kind(key: Hashable) -> str:
    return key[0] if isinstance(key, tuple) and key and isinstance(key[0], str) else ""


_OVERHEAD = 64


def size_of(value: Any) -> int:
    """Bytes that `value` keeps alive, as far as its arrays, tensors, texts and containers tell.

    A tensor that is a view counts its own entries; storage shared by two values is counted twice, which errs
    on the careful side.
    """
    return _size(value, set())


def _size(value: Any, seen: set[int]) -> int:
    if value is None or isinstance(value, (bool, int, float, complex)):
        return _OVERHEAD
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, (str, bytes, bytearray)):
        return sys.getsizeof(value)
    if isinstance(value, np.ndarray):
        return _OVERHEAD + value.nbytes
    if hasattr(value, "nbytes") and isinstance(value.nbytes, int):
        return _OVERHEAD + value.nbytes
    if isinstance(value, Mapping):
        return _OVERHEAD + sum(_size(k, seen) + _size(v, seen) for k, v in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return _OVERHEAD + sum(_size(item, seen) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return _OVERHEAD + sum(_size(getattr(value, f.name), seen) for f in fields(value))
    return sys.getsizeof(value)


_shared: BoundedCache | None = None
_shared_lock = threading.Lock()


def shared_cache() -> BoundedCache:
    """The cache of this process, made at the first call with the bound of NEUROMERGE_CACHE_BYTES."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = BoundedCache(deployment().cache_bytes, MOST)
        return _shared
