"""The engine: the stages and models of every family, over one cache and one executor."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuromerge.engine.cache import BoundedCache, CacheStatistics, shared_cache
from neuromerge.engine.downloads import Downloads
from neuromerge.engine.executor import Executor, shared_executor
from neuromerge.engine.models import Models
from neuromerge.engine.stages import Stages
from neuromerge.errors import SettingError, quoted

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family


@dataclass(frozen=True, slots=True)
class FamilyEngine:
    """What works on one family: the stages of its merges, and the models that hold them."""

    stages: Stages
    models: Models
    cache: BoundedCache


class Engine:
    """Serves every family of the process. Thread-safe; knows nothing of sessions.

    Args:
        families: the families known at first, by name, before those of the registry. `add` makes one more known.
        cache: where results are kept; the process's own when None.
        executor: who computes; the process's own when None.
        downloads: who fetches from the Hub; when None, whoever asks for what is not here waits until it is fetched.
    """

    def __init__(
        self,
        families: Mapping[str, Family] | None = None,
        *,
        cache: BoundedCache | None = None,
        executor: Executor | None = None,
        downloads: Downloads | None = None,
    ) -> None:
        self._families = dict(families or {})
        self.cache = shared_cache() if cache is None else cache
        self.executor = shared_executor() if executor is None else executor
        self.downloads = downloads
        self._lock = threading.Lock()
        self._open: dict[str, FamilyEngine] = {}

    def add(self, family: Family) -> None:
        """Make a family known that the registry does not list, such as a folder of the user's own.

        A family of the same name is replaced; one that is being worked with keeps its opened checkpoints.
        """
        with self._lock:
            self._families[family.name] = family

    def forget(self, name: str) -> None:
        """Drop a family that was added, with its opened checkpoints and models; what is under way ends with its own."""
        with self._lock:
            self._families.pop(name, None)
            self._open.pop(name, None)

    def family(self, name: str) -> Family:
        """The family called `name`. Raises SettingError for an unknown one."""
        with self._lock:
            known = self._families.get(name)
        if known is not None:
            return known
        from neuromerge.evaluation.families import families

        registered = families()
        if name not in registered:
            raise SettingError(f"There is no model family {quoted(name)}. Known: {', '.join(registered)}.")
        return registered[name]

    def of(self, name: str) -> FamilyEngine:
        """Stages and models of the family called `name`. Raises SettingError for an unknown one."""
        family = self.family(name)
        with self._lock:
            if name not in self._open:
                stages = Stages(family, self.cache, self.executor, self.downloads)
                models = Models(family, stages, self.cache, self.executor, downloads=self.downloads)
                self._open[name] = FamilyEngine(stages, models, self.cache)
            return self._open[name]

    def statistics(self) -> CacheStatistics:
        """What the cache holds and how it has fared."""
        return self.cache.statistics()
