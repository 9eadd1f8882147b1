"""Heavy work takes turns, so that many visitors share few cores without slowing each other down twice.

Two merges at once on two cores take as long as one after the other, and thrash the caches on top; each
Python thread that computes also starts a team of threads of its own. So all heavy work runs in a few worker
threads (one on small machines), first come, first served, in pieces of a fraction of a second: somebody's
long evaluation lets another's slider through between two batches.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cache
from typing import TypeVar

from neuromerge.deployment import deployment
from neuromerge.progress import UNATTENDED, Job

_POLL_SECONDS = 0.05

V = TypeVar("V")


class Executor:
    """`workers` threads that run pieces of heavy work in order of arrival."""

    def __init__(self, workers: int = 1) -> None:
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(max(1, workers), "neuromerge-work", initializer=self._mark)

    def run(self, work: Callable[[], V], job: Job = UNATTENDED) -> V:
        """The result of `work()`, computed in a worker thread; raises what it raises.

        `job` is checked before the work, while it waits for its turn, and while it runs; when that raises,
        work that has not begun never begins (work that has begun must check by itself). Work that asks for
        another turn from inside its own gets it at once.
        """
        job.check()
        if getattr(self._local, "working", False):
            return work()
        future: Future[V] = self._pool.submit(work)
        while True:
            try:
                return future.result(timeout=_POLL_SECONDS)
            except FutureTimeout:
                if future.done():
                    return future.result()
                try:
                    job.check()
                except BaseException:
                    future.cancel()
                    raise

    def _mark(self) -> None:
        self._local.working = True


@cache
def shared_executor() -> Executor:
    """The executor of this process: NEUROMERGE_WORKERS threads (default: one for every four cores, at least one)."""
    return Executor(deployment().workers or max(1, (os.cpu_count() or 1) // 4))
