"""Heavy work takes turns, so that many visitors share few cores without slowing each other down twice.

Two merges at once on two cores take as long as one after the other, and thrash the caches on top. So heavy work takes
turns (one at a time on small machines), and no turn is longer than a fraction of a second: where a piece of work is
longer it lets others through between two of its steps (`threads.between_steps`), and goes on when its next turn comes.
Whoever holds a slider comes first; of several the one that has had the fewest turns of late, then whoever came first:
whoever asks for much at once waits for himself. Every fourth turn goes to what was begun longest ago, so that nothing
waits for ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any, TypeVar

from neuromerge.deployment import deployment
from neuromerge.progress import UNATTENDED, Job, Urgency
from neuromerge.threads import letting_through

TURN_SECONDS = 0.25
"""After so long, work lets others through at its next step."""
_POLL_SECONDS = 0.05
_PATIENT_TURN = 4  # of so many turns, one goes to what was begun longest ago
_RECENT_TURNS = 16  # in which the turns of each owner are counted
_MOST_BEGUN = 64  # pieces of work that run or have let others through

V = TypeVar("V")


@dataclass(eq=False)
class _Work:
    """Work that waits for a turn, or has one; `turns` are those it has had."""

    urgency: Urgency
    owner: str
    number: int
    do: Callable[[], Any]
    future: Future[Any]
    turns: int = 0
    since: float = 0.0
    may_go_on: threading.Event = field(default_factory=threading.Event)


class Executor:
    """`workers` pieces of heavy work at a time, the urgent ones first.

    Args:
        workers: turns at the same time.
        turn_seconds: how long a turn lasts before others are let through.
    """

    def __init__(self, workers: int = 1, turn_seconds: float = TURN_SECONDS) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._waiting: list[_Work] = []
        self._numbers, self._taken = count(), 0
        self._recent: deque[str] = deque(maxlen=_RECENT_TURNS)
        self._free, self._begun, self._turn_seconds = max(1, workers), 0, turn_seconds
        self._pool = ThreadPoolExecutor(_MOST_BEGUN, "neuromerge-work", initializer=self._mark)

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
            self._waiting.append(_Work(job.urgency, job.owner, next(self._numbers), work, future))
            self._give_turns()
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
        """Pieces of work that wait for a turn."""
        with self._lock:
            return len(self._waiting)

    def _give_turns(self) -> None:
        """Give the free turns to those that wait. Called with the lock held."""
        while self._free:
            # A thread is there for each that has begun: no turn may go to one that could not.
            ready = self._waiting if self._begun < _MOST_BEGUN else [w for w in self._waiting if w.turns]
            if not ready:
                return
            self._taken += 1
            if self._taken % _PATIENT_TURN == 0:
                work = min(ready, key=lambda w: w.number)
            else:
                had = Counter(self._recent)
                work = min(ready, key=lambda w: (w.urgency, had[w.owner] if w.owner else w.turns, w.number))
            self._recent.append(work.owner)
            self._waiting.remove(work)
            self._free -= 1
            work.turns += 1
            if work.turns == 1:
                self._begun += 1
                self._pool.submit(self._work, work)
            else:
                work.may_go_on.set()

    def _work(self, work: _Work) -> None:
        """In a worker thread: work that has been given its first turn; perhaps it was given up meanwhile."""
        try:
            if work.future.set_running_or_notify_cancel():
                work.since = time.monotonic()
                with letting_through(lambda: self._let_through(work)):
                    work.future.set_result(work.do())
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs to who waits for the work
            work.future.set_exception(error)
        finally:
            with self._lock:
                self._free += 1
                self._begun -= 1
                self._give_turns()

    def _let_through(self, work: _Work) -> None:
        """In the thread of `work`, between two steps: where its turn was long enough and others wait, it waits too."""
        if time.monotonic() - work.since < self._turn_seconds:
            return
        with self._lock:
            if self._waiting:
                work.may_go_on.clear()
                self._waiting.append(work)
                self._free += 1
                self._give_turns()
            else:
                work.may_go_on.set()
        work.may_go_on.wait()
        work.since = time.monotonic()

    def _mark(self) -> None:
        self._local.working = True


@cache
def shared_executor() -> Executor:
    """The executor of this process: NEUROMERGE_WORKERS turns at a time (default: one for every four cores)."""
    return Executor(deployment().workers or max(1, (os.cpu_count() or 1) // 4))
