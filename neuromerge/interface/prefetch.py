"""Families that a deployment fetches before anybody asks for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from neuromerge.engine.downloads import Fetching
from neuromerge.errors import NeuroMergeError, SettingError, quoted
from neuromerge.evaluation.families import Family
from neuromerge.interface.components.fetching import size
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.settings.choices import opening_setting

logger = logging.getLogger(__name__)
_LOOK_SECONDS = 2.0


def require_known(names: Iterable[str], families: Mapping[str, Family]) -> None:
    """Raise SettingError for a family that is not there."""
    for name in names:
        if name not in families:
            raise SettingError(
                f"NEUROMERGE_PREFETCH names {quoted(name)}, which is no model family. Known: {', '.join(families)}."
            )


def prefetch(loader: WorkspaceLoader, families: Mapping[str, Family], names: Iterable[str]) -> threading.Thread:
    """Fetch the tasks that each family opens with, one family after the other, in the background; logs what came."""

    def work() -> None:
        for name in names:
            try:
                _one(loader, families[name])
            except NeuroMergeError as error:
                logger.warning("%s is not fetched: %s", name, error)

    thread = threading.Thread(target=work, name="neuromerge-prefetch", daemon=True)
    thread.start()
    return thread


def _one(loader: WorkspaceLoader, family: Family) -> None:
    workspace, who, told = loader.workspace(), f"prefetch {family.name}", False
    fetching = workspace.want(opening_setting(family), who)
    while fetching is not None and not fetching.is_over:
        if not told and fetching.total is not None:
            told = True
            logger.warning("fetching %s: %s of models, and test pictures", family.name, size(fetching.total))
        time.sleep(_LOOK_SECONDS)
        fetching = workspace.fetching(who)
    logger.warning("%s", _outcome(family, fetching))


def _outcome(family: Family, fetching: Fetching | None) -> str:
    failed = [] if fetching is None else [f"{item.part.title}: {item.why}" for item in fetching.failed]
    return f"{family.name} is here" + (f", but for {'; '.join(failed)}" if failed else "")
