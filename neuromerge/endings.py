"""Being told to end from outside: as an exception, so that what was begun is tidied up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def signals() -> list[signal.Signals]:
    """What tells a process to end, as far as the system has it: a job whose time is over, a terminal that is closed."""
    return [signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__]


def stop(number: int, frame: FrameType | None) -> None:
    """The handler of `tidily`."""
    raise KeyboardInterrupt


@contextmanager
def tidily() -> Iterator[None]:
    """Inside the block such a signal raises KeyboardInterrupt, as Ctrl-C does. Python alone would leave files behind.

    Only in the main thread, which gets signals, and of signals that nobody has given another meaning.
    """
    taken: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        taken = [number for number in signals() if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            if signal.getsignal(number) is stop:
                signal.signal(number, signal.SIG_DFL)
