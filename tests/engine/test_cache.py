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

from neuromerge.engine.cache import BoundedCache, Region, size_of
from neuromerge.errors import Cancelled
from neuromerge.progress import Job

PLAIN: Region[object, object] = Region("plain")
TEN: Region[object, object] = Region("ten bytes each", lambda _: 10)
ONE: Region[object, object] = Region("one byte each", lambda _: 1)
ITSELF: Region[object, int] = Region("as large as they are", lambda value: value)


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
        return cache.get(PLAIN, "key", compute)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == ["value"] * 8
    assert len(calls) == 1
    assert cache.statistics().misses == 1


def test_the_least_recently_used_goes_first():
    cache = BoundedCache(30)
    for key in "abc":
        cache.get(TEN, key, lambda key=key: key)
    cache.get(TEN, "a", lambda: pytest.fail("is there"))
    cache.get(TEN, "d", lambda: "d")
    assert cache.peek(TEN, "b") is None
    assert cache.peek(TEN, "a") == "a"
    assert cache.statistics().evictions == 1


@given(sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=40), limit=st.integers(0, 100))
def test_the_bound_holds(sizes, limit):
    cache = BoundedCache(limit)
    held: dict[int, int] = {}
    for key, size in sizes:
        cache.put(ITSELF, key, size)
        held[key] = size
        statistics = cache.statistics()
        assert statistics.bytes <= limit
        assert statistics.bytes == sum(held[k] for k in held if cache.peek(ITSELF, k) is not None)


def test_what_is_too_large_is_handed_out_and_not_kept():
    cache = BoundedCache(9)
    assert cache.get(TEN, "key", lambda: "value") == "value"
    assert cache.statistics().entries == 0


def test_an_error_reaches_everyone_and_is_not_kept():
    cache = BoundedCache(100)
    started, release = threading.Event(), threading.Event()

    def fail() -> None:
        started.set()
        release.wait()
        raise ValueError("no")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, PLAIN, "key", fail)
        started.wait()
        second = pool.submit(cache.get, PLAIN, "key", lambda: pytest.fail("must wait for the first"))
        time.sleep(0.02)
        release.set()
        for future in (first, second):
            with pytest.raises(ValueError, match="no"):
                future.result()
    assert cache.get(PLAIN, "key", lambda: "later") == "later"


def test_a_cancelled_computation_is_taken_over():
    cache = BoundedCache(100)
    started, release = threading.Event(), threading.Event()

    def cancelled() -> str:
        started.set()
        release.wait()
        raise Cancelled("stopped")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, PLAIN, "key", cancelled)
        started.wait()
        second = pool.submit(cache.get, PLAIN, "key", lambda: "value")
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
        first = pool.submit(cache.get, PLAIN, "key", slow)
        started.wait()
        with pytest.raises(Cancelled):
            cache.get(PLAIN, "key", slow, job=Job(check=give_up))
        release.set()
        assert first.result() == "value"


def test_a_computation_that_asks_for_itself_is_found_out():
    cache = BoundedCache(100)
    with pytest.raises(RuntimeError, match="asks for itself"):
        cache.get(PLAIN, "key", lambda: cache.get(PLAIN, "key", lambda: 1))
    assert cache.get(PLAIN, "key", lambda: 2) == 2


def test_discard_and_clear():
    cache = BoundedCache(100)
    cache.put(ITSELF, "a", 10)
    cache.put(ITSELF, "a", 20)
    assert cache.statistics().bytes == 20
    cache.discard(ITSELF, "a")
    cache.discard(ITSELF, "a")
    cache.put(ITSELF, "b", 10)
    cache.clear()
    assert cache.statistics().bytes == 0


def test_a_key_in_two_regions_is_two_values():
    cache = BoundedCache(100)
    cache.put(TEN, "key", "ten")
    cache.put(ONE, "key", "one")
    assert (cache.peek(TEN, "key"), cache.peek(ONE, "key")) == ("ten", "one")
    cache.discard(TEN, "key")
    assert (cache.peek(TEN, "key"), cache.peek(ONE, "key")) == (None, "one")
    assert (cache.count(TEN), cache.count(ONE)) == (0, 1)


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


def test_of_a_bounded_region_the_oldest_goes():
    cache = BoundedCache(1000)
    slider: Region[int, int] = Region("slider", lambda _: 1, most=2)
    cache.put(ONE, 0, 0)
    for place in range(3):
        cache.put(slider, place, place)
        cache.peek(slider, 0)  # in use, so another goes
    assert [cache.peek(slider, place) for place in range(3)] == [0, None, 2]
    assert cache.peek(ONE, 0) == 0
    cache.discard(slider, 0)
    cache.put(slider, 3, 3)
    assert [cache.peek(slider, place) for place in (2, 3)] == [2, 3]
    statistics = cache.statistics()
    assert (statistics.entries, statistics.bytes, statistics.evictions) == (3, 3, 1)


@pytest.mark.parametrize(
    ("limit", "most", "wanted", "holds"), [(10, None, 50, 10), (10, 40, 30, 30), (10, 40, 50, 40), (10, 40, 5, 10)]
)
def test_room_is_made_as_far_as_it_may_be(limit, most, wanted, holds):
    cache = BoundedCache(limit, most)
    cache.make_room(wanted)
    assert cache.statistics().limit == holds
    cache.make_room(0)
    assert cache.statistics().limit == holds
