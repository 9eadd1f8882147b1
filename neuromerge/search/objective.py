"""What a search maximises."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from neuromerge.errors import SettingError, quoted
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

Objective = Callable[[Setting, Job], Mapping[str, float]]
"""A score in [0, 1] of every merged task under a setting, on pictures that the final test never sees: accuracy, or
without labels the certainty of predictions."""


@dataclass(frozen=True)
class Growing:
    """An objective that is asked on ever more pictures, so that a poor setting costs no more than a look.

    Attributes:
        scores: those of a setting, on the first so many pictures of every task.
        levels: pictures a task, rising; the last is the whole.
        pictures: pictures of all tasks at each level, 0 where that is not known.
    """

    scores: Callable[[Setting, Job, int], Mapping[str, float]]
    levels: tuple[int, ...]
    pictures: tuple[int, ...]


def as_growing(objective: Objective | Growing) -> Growing:
    """Any objective as one that grows; one that does not is asked once."""
    if isinstance(objective, Growing):
        return objective
    return Growing(lambda setting, job, most: objective(setting, job), (1,), (0,))


Goal = Callable[[Mapping[str, float]], float]
"""One number of the scores of all tasks: what a search makes as large as it can."""


def mean_score(scores: Mapping[str, float]) -> float:
    """The mean over tasks, each counting the same; NaN without tasks."""
    return sum(scores.values()) / len(scores) if scores else float("nan")


def worst_score(scores: Mapping[str, float]) -> float:
    """The score of the task that fares worst; NaN without tasks."""
    return min(scores.values(), default=float("nan"))


def weighted_score(weights: Mapping[str, float]) -> Goal:
    """The mean over tasks, each counting as much as its weight (1 where it has none).

    Raises SettingError for weights that are no numbers from 0 on, or all 0.
    """
    for task, weight in weights.items():
        if not 0.0 <= weight < math.inf:
            raise SettingError(f"The weight of {quoted(task)} must be a number from 0 on, not {quoted(weight)}.")

    def score(scores: Mapping[str, float]) -> float:
        unknown = set(weights) - set(scores)
        if unknown:
            raise SettingError(f"There is no score of {', '.join(sorted(unknown))}. Scored: {', '.join(scores)}.")
        total = sum(weights.get(task, 1.0) for task in scores)
        if not total:
            raise SettingError("Every task has the weight 0: nothing is left to score.")
        return sum(weights.get(task, 1.0) * value for task, value in scores.items()) / total

    return score


def read_weights(text: str, tasks: Collection[str]) -> dict[str, float]:
    """Weights as a person types them: ``digits=2, flags=0.5``; a task that is not named counts 1.

    Raises SettingError for what is no weight of one of the `tasks`.
    """
    weights: dict[str, float] = {}
    for entry in filter(None, (entry.strip() for entry in text.replace("\n", ",").split(","))):
        task, equals, value = (word.strip() for word in entry.partition("="))
        if not equals or task not in tasks:
            raise SettingError(
                f"{quoted(entry)} is no weight of a merged task. Write task=weight, with commas between. Tasks: "
                f"{', '.join(tasks)}."
            )
        if task in weights:
            raise SettingError(f"{quoted(task)} has two weights.")
        try:
            weights[task] = float(value)
        except ValueError:
            raise SettingError(f"The weight of {quoted(task)} must be a number, not {quoted(value)}.") from None
    return weights


def scored_as(goal: str, weights: Mapping[str, float] | None = None) -> str:
    """The name of a score, so that a stored study holds one kind: empty for the mean accuracy."""
    told = [f"{task}={weight:g}" for task, weight in sorted((weights or {}).items())]
    return " ".join([*([goal] if goal != "mean" else []), *told])


def scored_as_own(pictures: str, task: str = "") -> str:
    """The same for the certainty on a person's own pictures: what they are called, and whose classes are asked for."""
    return f"certainty on {pictures}" + (f" of {task}" if task else "")


GOALS: Mapping[str, Goal] = {"mean": mean_score, "worst": worst_score}
"""Goals by name."""


def get_goal(name: str) -> Goal:
    """The goal called `name`. Raises SettingError listing the known ones."""
    if name not in GOALS:
        raise SettingError(f"There is no goal {quoted(name)}. Known: {', '.join(GOALS)}.")
    return GOALS[name]


def selection_noise(pictures: int, trials: int, accuracy: float = 0.5) -> tuple[float, float]:
    """(standard error of one mean accuracy, by how much the best of `trials` equal settings looks too good), shares.

    For `pictures` pictures and accuracies about `accuracy`; the second from the expected maximum of independent normal
    numbers. Trials share their pictures, so it is the most that selection alone can feign.
    """
    error = math.sqrt(accuracy * (1.0 - accuracy) / max(1, pictures))
    return error, error * math.sqrt(2.0 * math.log(trials)) if trials > 1 else 0.0
