"""Worker threads with one torch thread each, for work that is cheaper to split than its operations are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
_lent = threading.local()


def between_steps() -> None:
    """Called by long work between two steps, in the thread that began it: whoever lent the thread may pause it here."""
    let_through: Callable[[], None] | None = getattr(_lent, "let_through", None)
    if let_through is not None:
        let_through()


@contextmanager
def letting_through(call: Callable[[], None]) -> Iterator[None]:
    """Inside the block, long work of this thread calls `call` between its steps."""
    _lent.let_through = call
    try:
        yield
    finally:
        _lent.let_through = None


def cores() -> int:
    """How many pieces of work to do at a time: as many as torch has threads here, and no more than cores."""
    return min(torch.get_num_threads(), os.cpu_count() or 1)


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """`threads` workers with one torch thread each; they live as long as the process.

    What runs in them must not wait for other work of the same pool.
    """
    before = torch.get_num_threads()
    ready = threading.Barrier(threads + 1)
    workers = ThreadPoolExecutor(threads, thread_name_prefix="neuromerge-chunk")

    def single() -> None:
        torch.get_num_threads()  # a thread's first question sets its number: it must not come after
        torch.set_num_threads(1)
        ready.wait()

    for _ in range(threads):
        workers.submit(single)
    ready.wait()
    # The number is a thread's own, but also what threads made later start from: that must not become 1.
    torch.set_num_threads(before)
    return workers


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`work` of every item, in order, as many at a time as there are cores."""
    threads = cores()
    return [work(item) for item in items] if threads < 2 else list(pool(threads).map(work, items))
