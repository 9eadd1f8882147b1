"""Long work as those see it who wait for it: how far it is, and that nobody waits for it any more.

Python threads cannot be stopped from outside, so long work looks at its `Job` between its steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import IntEnum

from neuromerge.errors import Cancelled

Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, what); may raise Cancelled."""

Waiting = Callable[[float, str], None]
"""Called as waiting(seconds, why) before a pause."""
_LOOK_SECONDS = 0.2


class Urgency(IntEnum):
    """Who waits for a piece of work: the smaller, the sooner it gets its turn."""

    NOW = 0
    """Somebody who holds a slider."""
    SOON = 1
    """Somebody who looks on: whole splits, galleries, exports."""
    WHENEVER = 2
    """Somebody who asked for something that takes minutes: searches and maps."""


class Job:
    """One piece of long work: `check` it between steps, or `report` how far it is, which checks too.

    Args:
        progress: told how far the work is, as progress(done, total, what).
        deadline_seconds: time from now after which the work stops by itself.
        check: asked at every check as well; raises Cancelled once the work is no longer wanted.
        urgency: who waits for it.
        waiting: told of every pause before it begins, as waiting(seconds, why).
        owner: for whom it is done, where many share the processor; each owner gets an equal share.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        *,
        deadline_seconds: float | None = None,
        check: Callable[[], None] | None = None,
        urgency: Urgency = Urgency.NOW,
        waiting: Waiting | None = None,
        owner: str = "",
    ) -> None:
        self.urgency = urgency
        self.owner = owner
        self._progress = progress
        self._waiting = waiting
        self._ends = None if deadline_seconds is None else time.monotonic() + deadline_seconds
        self._wanted = check
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask the work to stop at its next check; safe from any thread."""
        self._stopped.set()

    def check(self) -> None:
        """Raise Cancelled when the work is no longer wanted."""
        if self._stopped.is_set():
            raise Cancelled("Stopped.")
        if self._ends is not None and time.monotonic() > self._ends:
            raise Cancelled("This took longer than its time limit and was stopped.")
        if self._wanted is not None:
            self._wanted()

    def quiet(self) -> Job:
        """The same work, of which nobody is told how far it is: for steps of work that counts something larger."""
        return Job(check=self.check, urgency=self.urgency, owner=self.owner)

    def report(self, done: int, total: int, what: str) -> None:
        """Say that `done` of `total` steps of `what` are made. Raises Cancelled like `check`."""
        self.check()
        if self._progress is not None:
            self._progress(done, total, what)

    def wait(self, seconds: float, why: str) -> None:
        """Pause for `seconds`, because of `why`. Raises Cancelled like `check`, soon after the work is not wanted."""
        if self._waiting is not None:
            self._waiting(seconds, why)
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self.check()
            time.sleep(min(_LOOK_SECONDS, left))
        self.check()

    @property
    def watched(self) -> bool:
        """Whether somebody is told how far the work is."""
        return self._progress is not None


UNATTENDED = Job()
"""Work that runs to its end and tells nobody."""
