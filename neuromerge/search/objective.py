"""What a search maximises."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

Objective = Callable[[Setting, Job], Mapping[str, float]]
"""Accuracy in [0, 1] of every merged task under a setting, on pictures that the final test never sees."""


def mean_score(scores: Mapping[str, float]) -> float:
    """The mean over tasks, each counting the same; NaN without tasks."""
    return sum(scores.values()) / len(scores) if scores else float("nan")
