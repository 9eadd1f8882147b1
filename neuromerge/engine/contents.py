"""What a runnable model holds."""

from __future__ import annotations

from dataclasses import dataclass

from neuromerge.settings.setting import Setting


@dataclass(frozen=True, slots=True)
class Contents:
    """Which weights are in a model: the base's (nothing set), an expert's, or a merge's."""

    task: str | None = None
    setting: Setting | None = None


BASE = Contents()
