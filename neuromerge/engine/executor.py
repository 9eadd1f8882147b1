"""Heavy work takes turns, so that many visitors share few cores without slowing each other down twice.

Two merges at once on two cores take as long as one after the other, and thrash the caches on top; each
Python thread that computes also starts a team of threads of its own. So all heavy work runs in a few worker
threads (one on small machines), in pieces of a fraction of a second: somebody's long evaluation lets another's
slider through between two batches. Whoever holds a slider comes first, then whoever came first; every fourth turn
goes to what has waited longest, so that nothing waits for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, TypeVar

from neuromerge.deployment import deployment
from neuromerge.progress import UNATTENDED, Job, Urgency

_POLL_SECONDS = 0.05
_PATIENT_TURN = 4  # of so many turns, one goes to what has waited longest

V = TypeVar("V")


@dataclass(frozen=True)
class _Turn:
    """Work that waits for a thread."""

    urgency: Urgency
    number: int
    work: Callable[[], Any]
    future: Future[Any]


class Executor:
    """`workers` threads that run pieces of heavy work, the urgent ones first."""

    def __init__(self, workers: int = 1) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._waiting: list[_Turn] = []
        self._numbers, self._taken = count(), 0
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
        future: Future[V] = Future()
        with self._lock:
            self._waiting.append(_Turn(job.urgency, next(self._numbers), work, future))
        self._pool.submit(self._take_turn)
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

    @property
    def waiting(self) -> int:
        """Pieces of work that no thread has taken yet."""
        with self._lock:
            return len(self._waiting)

    def _take_turn(self) -> None:
        """Run one of those that wait; there is one for every call, and perhaps it was given up meanwhile."""
        with self._lock:
            self._taken += 1
            patient = self._taken % _PATIENT_TURN == 0
            turn = min(self._waiting, key=lambda t: (0 if patient else t.urgency, t.number))
            self._waiting.remove(turn)
        if not turn.future.set_running_or_notify_cancel():
            return
        try:
            turn.future.set_result(turn.work())
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who waits for the work
            turn.future.set_exception(error)

    def _mark(self) -> None:
        self._local.working = True


@cache
def shared_executor() -> Executor:
    """The executor of this process: NEUROMERGE_WORKERS threads (default: one for every four cores, at least one)."""
    return Executor(deployment().workers or max(1, (os.cpu_count() or 1) // 4))
