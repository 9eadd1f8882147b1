"""Accuracies: of a merge beside base, experts and another setting; and as the objective of a search."""

from __future__ import annotations

import math

import torch

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.models import Models
from neuromerge.errors import AssetError, CheckpointError, SettingError, SourceUnavailableError, quoted
from neuromerge.exploration import published
from neuromerge.exploration.results import AccuracyBoard
from neuromerge.progress import Job
from neuromerge.settings.choices import describe
from neuromerge.settings.setting import Setting

SPLITS = ("quick", "validation", "test")
UNKNOWN_TASK = "It is merged, but there are no labelled pictures of its task here."


def board(
    models: Models,
    setting: Setting,
    split: str,
    pinned: Setting | None,
    previous: Setting | None,
    pinned_label: str,
    job: Job,
) -> AccuracyBoard:
    """Accuracy of every task of the family: see `Workspace.board`."""
    if split not in SPLITS:
        raise SettingError(f"There is no split {quoted(split)}. Known: {', '.join(SPLITS)}.")
    if pinned is not None and pinned.family != setting.family:
        raise SettingError(
            f"The pinned setting belongs to {pinned.family}; it cannot be compared with {setting.family}."
        )
    family = models.family
    shown = [task for task in family.tasks if task in setting.tasks or not family.online]
    if not shown:
        raise SettingError(f"None of the merged tasks of {family.name} has pictures to measure an accuracy on.")
    tasks = models.with_pictures(shown, split)
    # The merge first: it is what everybody waits for, and the rest is usually known.
    merge = models.scores(Contents(setting=setting), tasks, split, job)
    base = models.scores(BASE, tasks, split, job)
    expert = {task: score for task in tasks if (score := _expert_score(models, setting, task, split, job))}
    before = None
    if previous is not None and previous.family == setting.family:
        known = models.known_scores(Contents(setting=previous), tasks, split)
        before = known if len(known) == len(tasks) else None
    return AccuracyBoard(
        split=split,
        tasks=tasks,
        merged=frozenset(setting.tasks),
        base=base,
        expert=expert,
        merge=merge,
        pinned=None if pinned is None else models.scores(Contents(setting=pinned), tasks, split, job),
        pinned_label=pinned_label or ("" if pinned is None else describe(pinned)),
        previous=before,
        remarks=published.remarks(family, setting, base, expert),
        unmeasured={
            **models.without_pictures([task for task in shown if task not in tasks], split),
            **{task: UNKNOWN_TASK for task in setting.tasks if task not in family.tasks},
        },
    )


def merged_scores(models: Models, setting: Setting, split: str, job: Job) -> dict[str, float]:
    """Accuracy in [0, 1] of every merged task that has pictures. Raises SettingError when none has."""
    tasks = measurable(models, setting, split)
    return {task: score.value for task, score in models.scores(Contents(setting=setting), tasks, split, job).items()}


def certainties(models: Models, setting: Setting, split: str, job: Job) -> dict[str, float]:
    """How sure the merge is of what it says of every merged task's pictures, by task, in [0, 1]; labels are not used.

    1 - H / ln C, H the entropy of the C class probabilities, mean over pictures: 1 is certain, 0 is a blind guess.
    Raises SettingError where none of the merged tasks has pictures.
    """
    tasks = measurable(models, setting, split)
    found = models.embeddings(Contents(setting=setting), tasks, split, job)
    return {task: _certainty(models.text.logit_scale * (found[task] @ models.head(task).T)) for task in tasks}


def _certainty(logits: torch.Tensor) -> float:
    """Mean over pictures of 1 - H / ln C of logits (N, C)."""
    log_shares = torch.log_softmax(logits.double(), 1)
    entropy = -(log_shares.exp() * log_shares).sum(1).mean()
    return 1.0 - float(entropy) / math.log(max(2, logits.shape[1]))


def measurable(models: Models, setting: Setting, split: str) -> tuple[str, ...]:
    """The merged tasks that have pictures. Raises SettingError when none has."""
    known = [task for task in setting.tasks if task in models.family.tasks]
    if not known:
        raise SettingError("None of the merged tasks has pictures to measure an accuracy on.")
    return models.with_pictures(known, split)


def _expert_score(models: Models, setting: Setting, task: str, split: str, job: Job) -> Accuracy | None:
    """The score of a task's own expert; None where a task that is not merged has none that can be opened."""
    if task not in models.family.experts:
        return None
    try:
        return models.scores(Contents(task=task), (task,), split, job)[task]
    except (CheckpointError, AssetError, SourceUnavailableError):
        if task in setting.tasks:
            raise
        return None
