"""The process that fetches: reads one order from its input, tells its progress line by line, and may be killed.

A process can be stopped at any moment, also while a connection hangs, which no thread can; what it fetched by then is
kept. It ends by itself when nobody holds its input any more.

The order "heads" fetches nothing: of a base that is here, and then of tasks, it makes the zero-shot heads that take
long, and keeps them.

    in    {"order": "list" | "fetch" | "heads", "parts": [{"part": ..., "listing": ...}, ...]}
    out   {"at": 0, "listing": ...}                   the files of a part and their bytes
          {"at": 0, "done": 5, "total": 9}            how far it is
          {"at": 0, "wait": 30.0, "why": "..."}       a pause that the Hub asked for
          {"at": 0, "failed": "...", "kind": "..."}   why a part cannot be fetched
          {"at": 0, "working": true}                  a piece of a head is done
          {"at": 0, "finished": true}
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from neuromerge.engine.parts import Part, as_json, from_json
from neuromerge.errors import NeuroMergeError
from neuromerge.progress import Job

Result = TypeVar("Result")

_TELL_SECONDS = 0.2
_CHUNK = 1 << 18  # bytes of the Hub library's steps: progress is told, and kept, that finely
_PATIENCE = 5  # of a process that must not be in the way of a visitor's moves
_PAUSE = re.compile(r"(?:Waiting|Retrying in) ([\d.]+)s")


def main() -> None:
    """Work off the order."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    if order["order"] == "heads":
        base, *tasks = (from_json(data)[0] for data in order["parts"])
        make_heads(base, tasks)
        return
    _fine_steps()
    for at, data in enumerate(order["parts"]):
        try:
            _work(order["order"], at, data)
        except NeuroMergeError as error:
            _tell(at, failed=str(error), kind=type(error).__name__)


def _work(order: str, at: int, data: dict[str, Any]) -> None:
    part, listing = from_json(data)
    job = Job(_Progress(at), waiting=lambda seconds, why: _tell(at, wait=seconds, why=why))
    _listen_to_the_library(at)
    if order == "list":
        _tell(at, listing=as_json(part, part.listing(job))["listing"])
    else:
        part.fetch(listing, job)
        _tell(at, finished=True)


def make_heads(base: Part, tasks: Sequence[Part]) -> None:
    """Make and keep the heads of `tasks`, with the text tower of a base that is in the cache; the quickest first."""
    # Only this order needs the towers: the others start sooner without them.
    from neuromerge.checkpoints import load_checkpoint
    from neuromerge.evaluation.families import get_family
    from neuromerge.evaluation.heads import Heads
    from neuromerge.evaluation.towers import TextModel

    os.nice(_PATIENCE)
    if (place := base.kept()) is None:
        return
    text = TextModel.from_checkpoint(load_checkpoint(place))
    heads = Heads(slow_products=0)
    specs = [get_family(task.family).task(task.task) for task in tasks]
    for at, spec in sorted(enumerate(specs, 1), key=lambda numbered: numbered[1].prompts):
        heads.head(text, spec.classes, spec.templates, keep=True, turn=partial(_told, at))
        _tell(at, finished=True)


def _told(at: int, work: Callable[[], Result]) -> Result:
    """A piece of a head; that it is done is told."""
    found = work()
    _tell(at, working=True)
    return found


class _Progress:
    """Tells how far a part is, a few times a second."""

    def __init__(self, at: int) -> None:
        self._at, self._told = at, 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS or done == total:
            self._told = now
            _tell(self._at, done=done, total=total)


class _Pauses(logging.Handler):
    """Tells of the pauses that the Hub library makes by itself."""

    def __init__(self, at: int) -> None:
        super().__init__(logging.WARNING)
        self._at = at

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a pause where the line speaks of one."""
        if found := _PAUSE.search(record.getMessage()):
            _tell(self._at, wait=float(found[1]), why="The Hub asks us to wait")


def _listen_to_the_library(at: int) -> None:
    logger = logging.getLogger("huggingface_hub")
    logger.handlers[:] = [_Pauses(at)]
    logger.propagate = False


def _fine_steps() -> None:
    from huggingface_hub import constants

    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK


def _end_with_input() -> None:
    """Whoever gave the order is gone, and so is the wish."""
    sys.stdin.read()
    os._exit(0)


def _tell(at: int, **what: Any) -> None:
    sys.stdout.write(json.dumps({"at": at, **what}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
