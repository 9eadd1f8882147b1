from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.engine.cache import BoundedCache, size_of
from neuromerge.errors import Cancelled
from neuromerge.progress import Job


def test_eight_threads_compute_once():
    cache = BoundedCache(1000)
    calls = []
    gate = threading.Barrier(8)

    def compute() -> str:
        calls.append(1)
        time.sleep(0.05)
        return "value"

    def ask(_: int) -> str:
        gate.wait()
        return cache.get("key", compute)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["value"] * 8
    assert len(calls) == 1
    assert cache.statistics().misses == 1


def test_the_least_recently_used_goes_first():
    cache = BoundedCache(30)
    for key in "abc":
        cache.get(key, lambda key=key: key, size=lambda _: 10)
    cache.get("a", lambda: pytest.fail("is there"))
    cache.get("d", lambda: "d", size=lambda _: 10)
    assert cache.peek("b") is None
    assert cache.peek("a") == "a"
    assert cache.statistics().evictions == 1


@given(sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=40), limit=st.integers(0, 100))
def test_the_bound_holds(sizes, limit):
    cache = BoundedCache(limit)
    held: dict[int, int] = {}
    for key, size in sizes:
        cache.put(key, key, size)
        held[key] = size
        statistics = cache.statistics()
        assert statistics.bytes <= limit
        assert statistics.bytes == sum(held[k] for k in held if cache.peek(k) is not None)


def test_what_is_too_large_is_handed_out_and_not_kept():
    cache = BoundedCache(10)
    assert cache.get("key", lambda: "value", size=lambda _: 11) == "value"
    assert cache.statistics().entries == 0


def test_an_error_reaches_everyone_and_is_not_kept():
    cache = BoundedCache(100)
    started, release = threading.Event(), threading.Event()

    def fail() -> None:
        started.set()
        release.wait()
        raise ValueError("no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "key", fail)
        started.wait()
        second = pool.submit(cache.get, "key", lambda: pytest.fail("must wait for the first"))
        time.sleep(0.02)
        release.set()
        for future in (first, second):
            with pytest.raises(ValueError, match="no"):
                future.result()
    assert cache.get("key", lambda: "later") == "later"


def test_a_cancelled_computation_is_taken_over():
    cache = BoundedCache(100)
    started, release = threading.Event(), threading.Event()

    def cancelled() -> str:
        started.set()
        release.wait()
        raise Cancelled("stopped")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "key", cancelled)
        started.wait()
        second = pool.submit(cache.get, "key", lambda: "value")
        time.sleep(0.02)
        release.set()
        with pytest.raises(Cancelled):
            first.result()
        assert second.result() == "value"


def test_who_waits_can_give_up():
    cache = BoundedCache(100)
    started, release = threading.Event(), threading.Event()

    def slow() -> str:
        started.set()
        release.wait()
        return "value"

    def give_up() -> None:
        raise Cancelled("enough")

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get, "key", slow)
        started.wait()
        with pytest.raises(Cancelled):
            cache.get("key", slow, job=Job(check=give_up))
        release.set()
        assert first.result() == "value"


def test_a_computation_that_asks_for_itself_is_found_out():
    cache = BoundedCache(100)
    with pytest.raises(RuntimeError, match="asks for itself"):
        cache.get("key", lambda: cache.get("key", lambda: 1))
    assert cache.get("key", lambda: 2) == 2


def test_discard_and_clear():
    cache = BoundedCache(100)
    cache.put("a", 1, 10)
    cache.put("a", 2, 20)
    assert cache.statistics().bytes == 20
    cache.discard("a")
    cache.discard("a")
    cache.put("b", 1, 10)
    cache.clear()
    assert cache.statistics().bytes == 0


@dataclass
class Holder:
    array: np.ndarray
    parts: dict[str, torch.Tensor]


def test_sizes_count_arrays_tensors_and_what_holds_them():
    holder = Holder(np.zeros(1000), {"a": torch.zeros(500), "b": torch.zeros(0)})
    assert 8000 + 2000 <= size_of(holder) < 8000 + 2000 + 2000
    assert size_of([holder.array, holder.array]) < 9000
    looped: list[object] = []
    looped.append(looped)
    assert size_of(looped) > 0


def test_of_a_counted_kind_the_oldest_goes():
    cache = BoundedCache(1000, {"slider": 2})
    cache.put(("other", 0), 0, 1)
    for place in range(3):
        cache.put(("slider", place), place, 1)
        cache.peek(("slider", 0))  # in use, so another goes
    assert [cache.peek(("slider", place)) for place in range(3)] == [0, None, 2]
    assert cache.peek(("other", 0)) == 0
    cache.discard(("slider", 0))
    cache.put(("slider", 3), 3, 1)
    assert [cache.peek(("slider", place)) for place in (2, 3)] == [2, 3]
    statistics = cache.statistics()
    assert (statistics.entries, statistics.bytes, statistics.evictions) == (3, 3, 1)
