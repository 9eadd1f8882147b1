"""How fast one address may ask: a crowd is welcome, a flood waits."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

BURST_SECONDS = 6.0
"""So many seconds' events may come at once."""
PATIENCE_SECONDS = 5.0
"""An event that would have to wait longer is refused."""


@dataclass
class _Debt:
    events: float
    at: float


class Pace:
    """A bucket for each address that empties at a steady rate. Thread-safe, bounded.

    Args:
        per_second: events of one address, on average.
        capacity: addresses remembered; those that were quiet longest are forgotten.
        clock: seconds that only grow.
    """

    def __init__(self, per_second: float, capacity: int = 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._capacity = capacity
        self._clock = clock
        self._debts: OrderedDict[str, _Debt] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, address: str) -> float | None:
        """Seconds that an event of that address has to wait; None where it comes too early to wait at all.

        A refused event is not counted.
        """
        with self._lock:
            now = self._clock()
            last = self._debts.pop(address, _Debt(0.0, now))
            debt = max(0.0, last.events - self._per_second * (now - last.at))
            seconds = max(0.0, (debt + 1) / self._per_second - BURST_SECONDS)
            refused = seconds > PATIENCE_SECONDS
            self._debts[address] = _Debt(debt if refused else debt + 1, now)
            while len(self._debts) > self._capacity:
                self._debts.popitem(last=False)
            return None if refused else seconds
