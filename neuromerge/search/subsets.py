"""Comparing methods over many sets of tasks: which sets, and what the differences say.

One set of eight tasks is one sample: which method is ahead there says little of the next user's three. So methods are
run on the same random subsets, and what is judged is the difference of two methods on the same subset. Differences
vary far less than accuracies do, because some subsets are hard for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuromerge.errors import SettingError

_RESAMPLES = 10_000


def random_subsets(tasks: Sequence[str], count: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """`count` subsets of 2 to T tasks: sizes are equally likely, tasks in their given order, none twice.

    Fewer than `count` where there are no more. Raises SettingError for fewer than two tasks.
    """
    if len(tasks) < 2:
        raise SettingError("Subsets need at least two tasks to choose from.")
    drawn: dict[tuple[str, ...], None] = {}
    numbers = np.random.default_rng(seed)
    possible = 2 ** len(tasks) - len(tasks) - 1
    while len(drawn) < min(count, possible):
        size = int(numbers.integers(2, len(tasks) + 1))
        members = set(numbers.choice(len(tasks), size=size, replace=False).tolist())
        drawn.setdefault(tuple(task for place, task in enumerate(tasks) if place in members))
    return tuple(drawn)


@dataclass(frozen=True)
class Difference:
    """Mean difference of two methods on the same subsets, with its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> Difference:
    """ours - theirs, subset by subset: the mean and the 95 % bootstrap interval over subsets.

    Subsets share tasks, so the interval speaks of other subsets of these tasks, not of other tasks.
    """
    differences = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(differences), (_RESAMPLES, len(differences)))
    low, high = np.percentile(differences[draws].mean(1), [2.5, 97.5])
    return Difference(float(differences.mean()), float(low), float(high))


def share_of_the_way(accuracy: float, zero_shot: float, experts: float) -> float:
    """How far a merge is from the base (0) to one expert a task (1), by mean accuracy; NaN where both are equal."""
    return (accuracy - zero_shot) / (experts - zero_shot) if experts != zero_shot else float("nan")
