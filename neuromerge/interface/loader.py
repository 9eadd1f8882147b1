"""The workspace behind the page, made in the background so that the server is up at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from neuromerge.errors import NeuroMergeError

if TYPE_CHECKING:
    from neuromerge.exploration.protocol import Explorer

logger = logging.getLogger(__name__)


def make_workspace() -> Explorer:
    """The process's workspace. Imports torch, which is why it happens here and late."""
    from neuromerge.exploration.workspace import shared_workspace

    return shared_workspace()


class WorkspaceLoader:
    """Hands out the workspace; the first caller waits until it is made.

    `warm_up` makes it in a background thread and then runs `first`, the merge every new page opens with, so
    that the first visitor finds it done. A workspace that cannot be made says why to every caller and is
    tried again, so that restoring a missing file needs no restart.
    """

    def __init__(self, make: Callable[[], Explorer] = make_workspace) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._workspace: Explorer | None = None

    def workspace(self) -> Explorer:
        """The workspace. Raises NeuroMergeError when its assets are missing or damaged."""
        with self._lock:
            if self._workspace is None:
                self._workspace = self._make()
            return self._workspace

    def warm_up(self, first: Callable[[Explorer], object]) -> threading.Thread:
        """Start making the workspace and running `first` in the background; returns the thread."""

        def work() -> None:
            try:
                first(self.workspace())
            except NeuroMergeError as error:
                logger.warning("The first merge could not be made: %s", error)
            except Exception:
                logger.exception("the warm-up failed")

        thread = threading.Thread(target=work, name="neuromerge-warm-up", daemon=True)
        thread.start()
        return thread
