"""Downloads have a lane of their own: processes beside the app, one for each part however many visitors want it.

A visitor wants parts until they leave, stop, or turn to something else. What nobody wants any more is stopped at once,
and goes on where it stopped when somebody wants it again. No thread of the page waits for a download: a page asks now
and then how far it is. Once a base is here, another process makes the heads of the wanted tasks, while experts or
pictures still come: they take a large text tower up to a minute, and the first score waits for them.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neuromerge.deployment import inherited
from neuromerge.engine.parts import Part, as_json, from_json
from neuromerge.errors import BeingFetched
from neuromerge.hub.files import Listing
from neuromerge.progress import UNATTENDED, Job

State = Literal["asking", "waiting", "running", "done", "failed"]
"""Its size is asked for; it waits for its turn; it comes; it is here; it cannot be had."""

_AT_ONCE = {True: 2, False: 1}  # weights, pictures
_LOOK_SECONDS = 0.5
_GRACE_SECONDS = 2.0  # a page that only turns to another merge of the same family wants the same parts again at once
_SPEED_SECONDS = 10.0
_HEAD_SECONDS, _POLL_SECONDS = 10.0, 0.05  # without a piece of a head, which takes a fraction of one
_NO_STEP = 1 << 26

Presence = Callable[[], bool]
"""Whether somebody may still be waiting."""


def always() -> bool:
    """For who never leaves."""
    return True


@dataclass(frozen=True, slots=True)
class Item:
    """How far one part is. Bytes for weights (`total` 0 until it is known), pictures for pictures.

    `why` says why it failed, or what it waits for.
    """

    part: Part
    state: State
    done: int = 0
    total: int = 0
    why: str = ""


@dataclass(frozen=True)
class Fetching:
    """How far all that a visitor wants is.

    Attributes:
        items: base, experts, pictures.
        stopped: the visitor has stopped it.
        rate: bytes a second, 0 while that is not known.
    """

    items: tuple[Item, ...]
    stopped: bool = False
    rate: float = 0.0

    @property
    def weights(self) -> tuple[Item, ...]:
        """The models among the items."""
        return tuple(item for item in self.items if item.part.is_weights)

    @property
    def pictures(self) -> tuple[Item, ...]:
        """The picture sets among the items."""
        return tuple(item for item in self.items if not item.part.is_weights)

    @property
    def failed(self) -> tuple[Item, ...]:
        """What cannot be had."""
        return tuple(item for item in self.items if item.state == "failed")

    @property
    def has_weights(self) -> bool:
        """Whether everything that is merged is here."""
        return all(item.state == "done" for item in self.weights)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come by itself."""
        return self.stopped or all(item.state in ("done", "failed") for item in self.items)

    @property
    def is_whole(self) -> bool:
        """Whether everything is here."""
        return all(item.state == "done" for item in self.items)

    @property
    def arrived(self) -> int:
        """How many parts are here, or known not to come."""
        return sum(item.state in ("done", "failed") for item in self.items)

    @property
    def done(self) -> int:
        """Bytes of weights that are here."""
        return sum(item.done for item in self.weights)

    @property
    def total(self) -> int | None:
        """Bytes of weights in all; None until every size is known."""
        wanted = [item for item in self.weights if item.state != "failed"]
        return None if any(item.state == "asking" for item in wanted) else sum(item.total for item in wanted)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the weights are here at this rate; None while that is not known."""
        if not self.rate or self.total is None:
            return None
        return max(0, self.total - self.done) / self.rate


@dataclass
class _Download:
    part: Part
    state: State
    done: int = 0
    total: int = 0
    why: str = ""
    listing: Listing | None = None
    unwanted_since: float | None = None
    process: subprocess.Popen[str] | None = None

    def item(self) -> Item:
        return Item(self.part, self.state, self.done, self.total, self.why)


@dataclass
class _Wish:
    parts: tuple[Part, ...]
    is_there: Presence
    stopped: bool = False


class Downloads:
    """Fetches what visitors want. Thread-safe; starts nothing before somebody wants something.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._downloads: dict[str, _Download] = {}
        self._wishes: dict[str, _Wish] = {}
        self._here: dict[str, str] = {}
        self._speed: deque[tuple[float, int]] = deque()
        self._watching = False
        self._making_heads: subprocess.Popen[str] | None = None
        self._heads_asked: set[tuple[str, str]] = set()
        self._heads_coming: set[tuple[str, str]] = set()
        self._heads_heard = 0.0

    # ------------------------------------------------------------------------------------------- what is here
    def here(self, part: Part) -> str | None:
        """Where a part is in the cache, None where it has to be fetched. No network."""
        with self._lock:
            found = self._here.get(part.key)
        if found is None and (found := part.kept()) is not None:
            with self._lock:
                self._here[part.key] = found
        return found

    def require(self, part: Part) -> str:
        """Where a part is in the cache. Raises BeingFetched where it has to be fetched first."""
        if (found := self.here(part)) is None:
            what = "Test pictures" if not part.is_weights else "Weights"
            raise BeingFetched(f"{what} of {part.title} are not here yet: they are being fetched.")
        return found

    def wait_for_head(
        self, base: Part, pictures: Part, job: Job = UNATTENDED, or_until: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait while a base's head of a task is being made ahead: to make it twice takes twice as long.

        Not for ever: a process that others' work keeps from a processor is ended, and the caller makes the head.
        Returns False where `or_until` has ended the wait.
        """
        begun = self._clock()
        while (base.key, pictures.key) in self._heads_coming:
            job.check()
            if or_until():
                return False
            time.sleep(_POLL_SECONDS)
            with self._lock:
                silent = self._clock() - max(begun, self._heads_heard)
                if silent > _HEAD_SECONDS and self._making_heads is not None:
                    self._making_heads.kill()
        return True

    # ------------------------------------------------------------------------------------------- what is wanted
    def want(self, who: str, parts: Sequence[Part], is_there: Presence = always) -> Fetching | None:
        """Fetch `parts` for a visitor, and nothing else any more; None where all of them are here.

        `is_there` tells whether the visitor may still be waiting.
        """
        missing = [part for part in parts if self.here(part) is None]
        with self._lock:
            known = self._wishes.get(who)
            if not missing:
                self._wishes.pop(who, None)
                return None
            same = known is not None and known.parts == tuple(parts)
            wish = known if known is not None and same else _Wish(tuple(parts), is_there)
            if wish is not known:
                self._forgive(parts)
            self._wishes[who] = wish
            if not wish.stopped:
                self._begin(missing)
        return self.state(who)

    def state(self, who: str) -> Fetching | None:
        """How far what a visitor wants is; None where nothing is wanted."""
        with self._lock:
            wish = self._wishes.get(who)
            if wish is None:
                return None
            items = tuple(self._item(part) for part in wish.parts)
            return Fetching(items, wish.stopped, self._rate())

    def stop(self, who: str) -> None:
        """The visitor has stopped it: what nobody else wants ends at once, and is kept as far as it came."""
        with self._lock:
            if (wish := self._wishes.get(who)) is not None:
                wish.stopped = True
            self._end_unwanted(0.0)

    def resume(self, who: str) -> None:
        """Go on, and try again what failed."""
        with self._lock:
            wish = self._wishes.get(who)
            if wish is None:
                return
            wish.stopped = False
            self._forgive(wish.parts)
            self._begin([part for part in wish.parts if part.key not in self._here])

    def forget(self, who: str) -> None:
        """The visitor has left."""
        with self._lock:
            self._wishes.pop(who, None)

    def close(self) -> None:
        """Stop everything."""
        with self._lock:
            self._wishes.clear()
            self._end_unwanted(0.0)
            if self._making_heads is not None:
                self._making_heads.kill()

    # ------------------------------------------------------------------------------------------- the work
    # All below is called with the lock held, but for what runs in a thread.

    def _item(self, part: Part) -> Item:
        found = self._downloads.get(part.key)
        if found is not None:
            return found.item()
        return Item(part, "done" if part.key in self._here else "waiting")

    def _forgive(self, parts: Sequence[Part]) -> None:
        """What failed may be tried again."""
        for part in parts:
            found = self._downloads.get(part.key)
            if found is not None and found.state == "failed":
                del self._downloads[part.key]

    def _begin(self, parts: Sequence[Part]) -> None:
        fresh = [part for part in parts if part.key not in self._downloads]
        for part in fresh:
            self._downloads[part.key] = _Download(part, "asking" if part.is_weights else "waiting")
        unlisted = [self._downloads[part.key] for part in fresh if part.is_weights]
        if unlisted:
            self._start("list", unlisted)
        self._dispatch()
        self._make_heads()
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, name="neuromerge-downloads", daemon=True).start()

    def _dispatch(self) -> None:
        """Start what waits, as far as there is room."""
        for weights, most in _AT_ONCE.items():
            lane = [each for each in self._downloads.values() if each.part.is_weights == weights]
            free = most - sum(each.state == "running" for each in lane)
            wanted = self._wanted()
            waiting = [each for each in lane if each.state == "waiting" and each.part.key in wanted]
            for download in waiting[: max(0, free)]:
                download.state = "running"
                self._start("fetch", [download])

    def _process(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "neuromerge.engine.fetcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=inherited(PYTHONPATH=os.pathsep.join(path for path in sys.path if path)),
        )

    def _start(self, order: str, downloads: list[_Download]) -> None:
        process = self._process()
        for download in downloads:
            download.process, download.why = process, ""
        parts = [as_json(download.part, download.listing) for download in downloads]
        told = json.dumps({"order": order, "parts": parts})
        threading.Thread(target=self._follow, args=(process, told, downloads), daemon=True).start()

    def _follow(self, process: subprocess.Popen[str], order: str, downloads: list[_Download]) -> None:
        """In a thread: give the order, and note what the process tells until it ends."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(order + "\n")
            process.stdin.flush()
            for line in process.stdout:
                with self._lock:
                    told = json.loads(line)
                    self._note(downloads[told["at"]], told)
        except (OSError, ValueError):
            pass  # it was killed in the middle of a line
        process.wait()
        process.stdin.close()
        found = {each.part.key: each.part.kept() for each in downloads if each.state == "done"}
        with self._lock:
            self._here.update({key: place for key, place in found.items() if place is not None})
            for download in downloads:
                if self._downloads.get(download.part.key) is download:
                    self._ended(download, process)
            self._dispatch()
            self._make_heads()

    def _make_heads(self) -> None:
        """Make the heads of tasks that are wanted with a base that is here, one base at a time, each head once."""
        if self._making_heads is not None:
            return
        wanted = [part for wish in self._wishes.values() if not wish.stopped for part in wish.parts]
        for base in (part for part in wanted if part.is_base and part.key in self._here):
            tasks = {
                part.key: part
                for part in wanted
                if not part.is_weights and part.family == base.family and (base.key, part.key) not in self._heads_asked
            }
            if tasks:
                coming = [(base.key, key) for key in tasks]
                self._heads_asked.update(coming)
                self._heads_coming = set(coming)
                self._making_heads = process = self._process()
                parts = [as_json(part, None) for part in (base, *tasks.values())]
                told = json.dumps({"order": "heads", "parts": parts})
                seen = (process, told, coming)
                threading.Thread(target=self._see_heads_made, args=seen, daemon=True).start()
                return

    def _see_heads_made(self, process: subprocess.Popen[str], order: str, coming: Sequence[tuple[str, str]]) -> None:
        """In a thread: give the order and wait for its end. What is not made then is made where it is needed."""
        assert process.stdin is not None
        assert process.stdout is not None
        with process, contextlib.suppress(OSError, ValueError):  # it may be killed in the middle of a line
            process.stdin.write(order + "\n")
            process.stdin.flush()
            for line in process.stdout:
                told = json.loads(line)
                with self._lock:
                    self._heads_heard = self._clock()
                    if "finished" in told:
                        self._heads_coming.discard(coming[told["at"] - 1])
            process.wait()
        with self._lock:
            self._making_heads, self._heads_coming = None, set()
            self._make_heads()

    def _note(self, download: _Download, told: Mapping[str, Any]) -> None:
        if "listing" in told:
            _, download.listing = from_json({**as_json(download.part, None), "listing": told["listing"]})
            download.total = download.listing.nbytes if download.listing else 0
            download.state = "waiting"
        elif "done" in told:
            if download.part.is_weights:
                came = int(told["done"]) - download.done
                if came < _NO_STEP:  # else what an earlier try left was found
                    self._speed.append((self._clock(), came))
            download.done, download.total, download.why = int(told["done"]), int(told["total"]), ""
        elif "wait" in told:
            download.why = f"{told['why']}: waiting {float(told['wait']):.0f} s."
        elif "failed" in told:
            download.state, download.why = "failed", str(told["failed"])
        elif "finished" in told:
            download.state, download.why = "done", ""
            download.done = download.total

    def _ended(self, download: _Download, process: subprocess.Popen[str]) -> None:
        if download.process is process:
            download.process = None
        if download.state in ("asking", "running") and download.process is None:
            download.state, download.why = "failed", "The download was interrupted. Try again."

    def _wanted(self) -> set[str]:
        return {part.key for wish in self._wishes.values() if not wish.stopped for part in wish.parts}

    def _end_unwanted(self, grace: float) -> None:
        """Stop what nobody has wanted for `grace` seconds."""
        wanted, now = self._wanted(), self._clock()
        for key, download in list(self._downloads.items()):
            if key in wanted or download.state in ("done", "failed"):
                download.unwanted_since = None
                continue
            if download.unwanted_since is None:
                download.unwanted_since = now
            if now - download.unwanted_since < grace:
                continue
            del self._downloads[key]
            others = [each for each in self._downloads.values() if each.process is download.process]
            if download.process is not None and not others:
                download.process.kill()

    def _rate(self) -> float:
        """Bytes a second over the last seconds."""
        now = self._clock()
        while self._speed and now - self._speed[0][0] > _SPEED_SECONDS:
            self._speed.popleft()
        if not self._speed:
            return 0.0
        return sum(count for _, count in self._speed) / max(1.0, now - self._speed[0][0])

    def _watch(self) -> None:
        """In a thread: drop the wishes of those who have left, as long as something is under way."""
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._lock:
                for who in [who for who, wish in self._wishes.items() if not wish.is_there()]:
                    del self._wishes[who]
                self._end_unwanted(_GRACE_SECONDS)
                if all(each.state in ("done", "failed") for each in self._downloads.values()):
                    self._watching = False
                    return
