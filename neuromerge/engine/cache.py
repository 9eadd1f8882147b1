"""One process-wide cache: bounded in bytes, safe between threads, each value computed once.

Every stage of a merge that more than one person or more than one view can use is kept here: loaded weights,
first passes, merged parts, accuracies. Nothing of it belongs to a session, so eight people on the same
setting cost as much as one, and closing a page frees nothing and breaks nothing.

The bound is `NEUROMERGE_CACHE_BYTES`; by default 768 MiB, and up to 3 GiB where a few merges of a large family need
them (`BoundedCache.make_room`). The least recently used values go first. A value that
alone is larger than the bound is handed out and not kept. Values of one kind share a `Region`; of what every position
of a slider leaves behind a region keeps only so many, so that a process that has run for an hour is no larger than
after a minute.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np

from neuromerge.deployment import deployment
from neuromerge.errors import Cancelled
from neuromerge.progress import UNATTENDED, Job

_POLL_SECONDS = 0.05
CACHE_BYTES, MOST_CACHE_BYTES = 768 * 2**20, 3 * 2**30
"""The bound of the process's cache where nothing is said: at first, and for large families."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, eq=False)
class Region(Generic[K, V]):
    """One kind of value in the cache, with keys and values of one type each.

    Attributes:
        name: for messages.
        size: bytes that a value keeps alive.
        most: how many values are kept; as many as fit when None.
    """

    name: str
    size: Callable[[V], int] = lambda value: size_of(value)
    most: int | None = None


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """How a cache has fared. `bytes` and `entries` are what it holds now; the others count since the start."""

    bytes: int
    limit: int
    entries: int
    hits: int
    misses: int
    evictions: int


_Place = tuple[Region[Any, Any], Hashable]
"""A region and a key in it."""


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

    Two threads that ask for the same missing key compute it once: the first computes, the others wait. An
    error goes to all who wait and is not kept. `Cancelled` is the first one's own business: the next waiter
    takes over.

    Args:
        limit: bytes.
        most: what `make_room` may raise the limit to; it stays as it is when None.
    """

    def __init__(self, limit: int, most: int | None = None) -> None:
        self._limit = max(0, limit)
        self._most = self._limit if most is None else max(self._limit, most)
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Place, _Entry] = OrderedDict()
        self._counts: Counter[Region[Any, Any]] = Counter()
        self._flights: dict[_Place, _Flight] = {}
        self._bytes = 0
        self._hits = self._misses = self._evictions = 0

    def get(self, region: Region[K, V], key: K, compute: Callable[[], V], job: Job = UNATTENDED) -> V:
        """The value of `key`, computed by `compute` when it is not there.

        `job` is checked while this thread waits for another's computation, and may raise Cancelled. Whatever
        `compute` raises is raised here.
        """
        place = (region, key)
        while True:
            with self._lock:
                entry = self._entries.get(place)
                if entry is not None:
                    self._entries.move_to_end(place)
                    self._hits += 1
                    return cast(V, entry.value)
                flight = self._flights.get(place)
                mine = flight is None
                if flight is None:
                    flight = self._flights[place] = _Flight(owner=threading.get_ident())
                    self._misses += 1
                elif flight.owner == threading.get_ident():
                    raise RuntimeError(f"the computation of {key!r} ({region.name}) asks for itself")
            if mine:
                return self._fly(place, flight, compute)
            while not flight.done.wait(_POLL_SECONDS):
                job.check()
            if flight.error is None:
                return cast(V, flight.value)
            if not isinstance(flight.error, Cancelled):
                raise flight.error

    def make_room(self, wanted: int) -> None:
        """Raise the limit to `wanted` bytes, as far as it may be raised; it never falls."""
        with self._lock:
            self._limit = max(self._limit, min(wanted, self._most))

    def peek(self, region: Region[K, V], key: K) -> V | None:
        """The value of `key` when it is there, else None; never computes."""
        with self._lock:
            entry = self._entries.get((region, key))
            if entry is None:
                return None
            self._entries.move_to_end((region, key))
            return cast(V, entry.value)

    def put(self, region: Region[K, V], key: K, value: V) -> None:
        """Keep `value` under `key` (replacing what was there) if it fits."""
        size = region.size(value)
        with self._lock:
            self._store((region, key), value, size)

    def discard(self, region: Region[K, V], key: K) -> None:
        """Forget `key`."""
        with self._lock:
            self._remove((region, key))

    def count(self, region: Region[Any, Any]) -> int:
        """How many values of a region are kept."""
        with self._lock:
            return self._counts[region]

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

    def _fly(self, place: _Place, flight: _Flight, compute: Callable[[], V]) -> V:
        try:
            value = compute()
            bytes_ = place[0].size(value)
        except BaseException as error:
            with self._lock:
                del self._flights[place]
            flight.error = error
            flight.done.set()
            raise
        with self._lock:
            self._store(place, value, bytes_)
            del self._flights[place]
        flight.value = value
        flight.done.set()
        return value

    def _store(self, place: _Place, value: Any, size: int) -> None:
        self._remove(place)
        if size > self._limit:
            return
        region = place[0]
        if region.most is not None and self._counts[region] >= region.most:
            self._evict(next(other for other in self._entries if other[0] is region))
        while self._entries and self._bytes + size > self._limit:
            self._evict(next(iter(self._entries)))
        self._entries[place] = _Entry(value, size)
        self._bytes += size
        self._counts[region] += 1

    def _evict(self, place: _Place) -> None:
        self._remove(place)
        self._evictions += 1

    def _remove(self, place: _Place) -> None:
        entry = self._entries.pop(place, None)
        if entry is not None:
            self._bytes -= entry.size
            self._counts[place[0]] -= 1


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
    """The cache of this process, made at the first call; its bound is NEUROMERGE_CACHE_BYTES, or what it needs."""
    global _shared
    with _shared_lock:
        if _shared is None:
            chosen = deployment().cache_bytes
            _shared = BoundedCache(chosen) if chosen else BoundedCache(CACHE_BYTES, MOST_CACHE_BYTES)
        return _shared
