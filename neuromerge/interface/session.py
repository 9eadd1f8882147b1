"""What the server remembers of one visitor: small values, never weights."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from neuromerge.search.trials import Trial, hand_trial
from neuromerge.settings.choices import History, describe
from neuromerge.settings.setting import Setting

MAX_PINS = 8
MAX_TRIALS = 200


@dataclass(frozen=True)
class Session:
    """One page's memory: where it has been and what it compares with.

    `history` is None until the first merge is shown. `pins` are settings the visitor pinned, newest last.
    `trials` are the settings the page came to rest at, with their scores, as rows beside a search's own.
    """

    history: History | None = None
    pins: tuple[Setting, ...] = ()
    trials: tuple[Trial, ...] = ()

    def visit(self, setting: Setting) -> Session:
        """The memory after the page came to rest at `setting`."""
        history = History(setting) if self.history is None else self.history.visit(setting)
        return replace(self, history=history)

    def score(self, setting: Setting, scores: Mapping[str, float], seconds: float, pictures: int = 0) -> Session:
        """The memory with a setting's validation accuracy per merged task on so many pictures; a setting is one row."""
        if any(trial.setting == setting for trial in self.trials):
            return self
        number = self.trials[-1].number + 1 if self.trials else 0
        trial = hand_trial(number, setting, scores, seconds, pictures)
        return replace(self, trials=(*self.trials, trial)[-MAX_TRIALS:])

    def at(self, history: History) -> Session:
        """The memory after an undo or redo."""
        return replace(self, history=history)

    def previous(self, setting: Setting) -> Setting | None:
        """What a change is measured against: the last setting the page rested at, before `setting`."""
        if self.history is None:
            return None
        return self.history.previous if self.history.present == setting else self.history.present

    def pin(self, setting: Setting) -> Session:
        """The memory with `setting` pinned (a setting is pinned once; the oldest of many pins goes)."""
        pins = (*(pinned for pinned in self.pins if pinned != setting), setting)
        return replace(self, pins=pins[-MAX_PINS:])


def pin_label(setting: Setting) -> str:
    """A pinned setting's name in the menu of comparisons."""
    return f"Pinned: {describe(setting)}, {len(setting.tasks)} task{'s' if len(setting.tasks) != 1 else ''}"


@dataclass
class _Beat:
    number: int
    moment: float | None = None  # when its quick answer was ready
    settled: bool = False
    name: float | None = None  # the browser's
    answer: Setting | None = None  # the last one that was measured


class Pulse:
    """Counts the changes of each page, so that work for a setting that has passed can stop.

    Thread-safe. Bounded: the page that was quiet longest is forgotten, which only means that its unfinished
    work is finished for nothing.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._beats: OrderedDict[str, _Beat] = OrderedDict()
        self._capacity = capacity
        self._lock = threading.Lock()

    def beat(self, page: str | None) -> int:
        """Note a change of the page; returns its number."""
        with self._lock:
            last = self._beats.pop(page or "", None)
            self._beats[page or ""] = _Beat(last.number + 1, answer=last.answer) if last else _Beat(1)
            while len(self._beats) > self._capacity:
                self._beats.popitem(last=False)
            return self._beats[page or ""].number

    def number(self, page: str | None) -> int:
        """The number of the page's last change; 0 when it has none."""
        with self._lock:
            beat = self._beats.get(page or "")
            return beat.number if beat else 0

    def name(self, page: str | None, name: float | None) -> None:
        """Note what the browser calls the page's last change."""
        with self._lock:
            beat = self._beats.get(page or "")
            if beat is not None:
                beat.name = name

    def overtake(self, page: str | None, name: float | None) -> None:
        """Note that there is a change newer than the one of that name, if that is still the last one known here."""
        with self._lock:
            beat = self._beats.get(page or "")
            if beat is not None and name is not None and beat.name == name:
                self._beats[page or ""] = _Beat(beat.number + 1, answer=beat.answer)

    def answered(self, page: str | None, setting: Setting) -> None:
        """Note that the quick answer to the page's last change, to `setting`, is ready: its rest begins now."""
        with self._lock:
            beat = self._beats.get(page or "")
            if beat is not None:
                beat.moment, beat.answer = time.monotonic(), setting

    def last_answer(self, page: str | None) -> Setting | None:
        """The setting that the page got its last quick answer to."""
        with self._lock:
            beat = self._beats.get(page or "")
            return beat.answer if beat else None

    def settle(self, page: str | None, rest: float) -> bool:
        """Whether the page has rested for `rest` seconds; True once for each change, for the first who asks.

        The rest counts from the quick answer, so that the settled one never overtakes it.
        """
        with self._lock:
            beat = self._beats.get(page or "")
            if beat is None or beat.settled or beat.moment is None or time.monotonic() - beat.moment < rest:
                return False
            beat.settled = True
            return True

    def is_settled(self, page: str | None) -> bool:
        """Whether the page's last change was settled, or is being settled now."""
        with self._lock:
            beat = self._beats.get(page or "")
            return beat is not None and beat.settled

    def forget(self, page: str | None) -> None:
        """Drop a page that was closed."""
        with self._lock:
            self._beats.pop(page or "", None)
