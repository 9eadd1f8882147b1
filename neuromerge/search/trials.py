"""Trials: settings that were scored, by a search or by hand, as plain values."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from neuromerge.search.objective import mean_score
from neuromerge.settings.setting import Setting, Value


@dataclass(frozen=True)
class Trial:
    """One visited setting.

    Attributes:
        number: its place in the study, or among the settings visited by hand.
        origin: ``tpe``, ``grid`` or ``hand``.
        hyperparameters: what was searched; all of the setting for a trial by hand.
        value: mean validation accuracy in [0, 1], None where there is none.
        seconds: how long the scoring took.
        state: ``complete``, ``running``, ``failed`` or ``pruned`` (given up early: it did worse than others).
        per_task: validation accuracy in [0, 1] of each merged task.
        pictures: of how many pictures of all tasks the scores are, 0 where that is not known.
        setting: the whole merge that was scored, profile and task weights included; None where it is not known.
    """

    number: int
    origin: str
    hyperparameters: dict[str, Value]
    value: float | None
    seconds: float
    state: str
    per_task: dict[str, float] = field(default_factory=dict)
    setting: Setting | None = None
    pictures: int = 0

    @property
    def is_pruned(self) -> bool:
        """Whether it was given up before it had seen all pictures: its value is of fewer than that of others."""
        return self.state == "pruned"


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Trials with a value from worst to best; those that were pruned are below all others."""
    scored = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
    return sorted(scored, key=lambda trial: (not trial.is_pruned, trial.value or 0.0))


def hand_trial(number: int, setting: Setting, scores: Mapping[str, float], seconds: float, pictures: int = 0) -> Trial:
    """A setting visited by hand as a row beside the search's own: `scores` are accuracies of the merged tasks."""
    value = mean_score(scores) if scores else None
    return Trial(
        number, "hand", dict(setting.hyperparameters), value, seconds, "complete", dict(scores), setting, pictures
    )


def trials_to_csv(trials: Sequence[Trial]) -> str:
    """The trials as CSV, one row each: number, origin, state, value, pictures, seconds, hyperparameters, accuracies."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    tasks = list(dict.fromkeys(task for trial in trials for task in trial.per_task))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fixed = ["number", "origin", "state", "mean_validation_accuracy", "pictures", "seconds"]
    writer.writerow([*fixed, *names, *(f"accuracy_{task}" for task in tasks)])
    for trial in trials:
        writer.writerow(
            [
                trial.number,
                trial.origin,
                trial.state,
                "" if trial.value is None else f"{trial.value:.6g}",
                trial.pictures or "",
                f"{trial.seconds:.3f}",
                *(trial.hyperparameters.get(name, "") for name in names),
                *(f"{trial.per_task[task]:.6g}" if task in trial.per_task else "" for task in tasks),
            ]
        )
    return out.getvalue()
