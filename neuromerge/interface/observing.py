"""What an operator sees: `/health`, and one log line an event, never more than can be read."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from neuromerge import __version__
from neuromerge.interface.blocks import PageBlocks

HEALTH = "/health"
LINES_A_SECOND = 20
_BURST = 200
_STARTED = time.monotonic()


class FewLines(logging.Filter):
    """Lets `rate` lines a second pass after a burst; says how many were left out as soon as there is room.

    Args:
        rate: lines a second in the long run.
        burst: lines that may come at once.
        clock: seconds that only grow.
    """

    def __init__(
        self, rate: float = LINES_A_SECOND, burst: int = _BURST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._last, self._silent = float(burst), clock(), 0
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line may pass."""
        with self._lock:
            now = self._clock()
            self._left = min(float(self._burst), self._left + (now - self._last) * self._rate)
            self._last = now
            if self._left < 1:
                self._silent += 1
                return False
            self._left -= 1
            if self._silent:
                record.msg, record.args = f"{record.getMessage()} left_out={self._silent}", ()
                self._silent = 0
            return True


def set_up_logging(level: str) -> None:
    """Write what the package logs to standard error, from `level` on, one line each and not too many."""
    package = logging.getLogger("neuromerge")
    package.setLevel(level.upper())
    if not any(isinstance(f, FewLines) for handler in package.handlers for f in handler.filters):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"))
        handler.addFilter(FewLines())
        package.addHandler(handler)
        package.propagate = False


def resident_bytes() -> int | None:
    """Memory that this process holds; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _health(request: Request) -> Response:
    blocks = request.app.get_blocks()
    found = {
        "status": "ok",
        "version": __version__,
        "uptime_seconds": round(time.monotonic() - _STARTED),
        "memory_bytes": resident_bytes(),
        "threads": threading.active_count(),
    }
    if isinstance(blocks, PageBlocks):
        waiting = blocks.waiting()
        found |= {
            "pages": len(blocks.presence.listeners),
            "events": waiting.by_page.total(),
            "waiting": waiting.lanes,
        }
    return JSONResponse(found, headers={"Cache-Control": "no-store"})


def routes() -> list[Route]:
    """The route of `/health`: alive, how much waits in every lane, memory and version. Names no visitor."""
    return [Route(HEALTH, _health, methods=["GET"])]
