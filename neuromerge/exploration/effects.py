"""The effect map: where the merge helps and where it hurts, measured on pictures and not guessed from the weights.

From coarse to fine: every layer left at the base's weights, halved and doubled; then every matrix of every layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neuromerge.engine.contents import Contents
from neuromerge.engine.effects import Trial, outcomes
from neuromerge.engine.engine import Engine, FamilyEngine
from neuromerge.engine.stages import tasks_of
from neuromerge.errors import Cancelled, SettingError, quoted
from neuromerge.exploration import regions
from neuromerge.exploration.heatmaps import heatmap
from neuromerge.exploration.results import CHANGES, Effect, EffectMap
from neuromerge.exploration.scores import measurable
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.choices import DEFAULT_METHOD, family_of, make_setting
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

SPLITS = ("quick", "validation")
"""Where effects are measured: a map is there to be acted on, so never on test."""


def effect_map(
    family: Family | str = "pictoclip",
    tasks: Sequence[str] | None = None,
    method: str = DEFAULT_METHOD,
    *,
    changes: Sequence[float] = CHANGES,
    matrices: bool = True,
    split: str = "quick",
    profile: Mapping[str, Any] | None = None,
    task_weights: Mapping[str, float] | None = None,
    seed: int = 0,
    job: Job = UNATTENDED,
    **hyperparameters: Any,
) -> EffectMap:
    """What each part of a merge does to accuracy, measured on the same pictures with and without it.

    Args:
        family: of models; tasks (None: all of the family), method, profile, task_weights, seed, hyperparameters: the
            merge, as `neuromerge.merge` takes it.
        changes: what a part's coefficients are multiplied by; 0 leaves it at the base's weights.
        matrices: whether single matrices are measured after the whole layers.
        split: ``quick`` or ``validation``.
        job: told how far it is; when it stops, what is measured is returned.

    Raises SettingError for what is not legal, and what opening checkpoints and pictures raises.
    """
    known = family_of(family)
    setting = make_setting(known, tasks, method, hyperparameters, seed, profile=profile, task_weights=task_weights)
    return measured(Engine({known.name: known}).of(known.name), setting, changes, split, matrices=matrices, job=job)


def measured(
    engine: FamilyEngine, setting: Setting, changes: Sequence[float], split: str, *, matrices: bool, job: Job
) -> EffectMap:
    """The whole map; what there is of it where `job` is stopped. Raises Cancelled where that is nothing."""
    found: EffectMap | None = None
    try:
        for found in grow(engine, setting, changes, split, matrices=matrices, job=job):
            job.report(len(found.effects), found.total, "measuring effects")
    except Cancelled:
        if found is None or not found.effects:
            raise
    assert found is not None, "a map is there before anything is measured"
    return found


def grow(
    engine: FamilyEngine,
    setting: Setting,
    changes: Sequence[float],
    split: str,
    *,
    matrices: bool = True,
    job: Job = UNATTENDED,
) -> Iterator[EffectMap]:
    """The map: first what was measured before, then after every further effect. See `effect_map`."""
    if split not in SPLITS:
        raise SettingError(f"Effects are measured on {' or '.join(SPLITS)} pictures, not on {quoted(split)}.")
    if not changes or not all(isinstance(times, int | float) and math.isfinite(times) for times in changes):
        raise SettingError("Give at least one number that strengths are multiplied by, such as 0, 0.5 or 2.")
    stages, models, cache = engine.stages, engine.models, engine.cache
    quiet = job.quiet()  # progress counts effects, not pictures
    tasks = measurable(models, setting, split)
    held, known = Contents(setting=setting), (setting, split)
    scores = models.scores(held, tasks, split, quiet)
    conflict = heatmap(stages, setting, "conflict", quiet)
    there = models.vision.weights
    parameters = [p for p in stages.vectors(tasks_of(setting)).parameters if p.name in there]
    levels = _levels([(p.layer, p.matrix) for p in parameters], [float(times) for times in changes], matrices=matrices)
    found = {
        trial: effect
        for level in levels
        for trial in level
        if (effect := cache.peek(regions.EFFECT, (*known, trial))) is not None
    }
    growing = EffectMap(
        rows=tuple(layer for layer in conflict.rows if any(p.layer == layer for p in parameters)),
        columns=conflict.columns,
        split=split,
        images=sum(len(models.samples(task, split)) for task in tasks),
        before={task: score.value for task, score in scores.items()},
        conflict=conflict.orthogonal[[any(p.layer == layer for p in parameters) for layer in conflict.rows]],
        total=sum(map(len, levels)),
    )
    yield replace(growing, effects=tuple(found.values()))
    for level in levels:
        missing = [trial for trial in level if trial not in found]
        before: Mapping[str, np.ndarray] = {}
        for outcome in outcomes(models, stages, setting, tasks, split, missing, quiet) if missing else ():
            if outcome.trial is None:
                before = outcome.right
                continue
            effect = _effect(outcome.trial, before, outcome.right)
            found[outcome.trial] = effect
            cache.put(regions.EFFECT, (*known, outcome.trial), effect)
            yield replace(growing, effects=tuple(found.values()))


def _levels(cells: Sequence[tuple[str, str]], changes: Sequence[float], *, matrices: bool) -> list[list[Trial]]:
    """What is measured together, from coarse to fine: all layers; then all matrices, one change after the other."""
    layers = list(dict.fromkeys(layer for layer, _ in cells))
    levels = [[Trial(layer, "", times) for layer in layers for times in changes]]
    if matrices:
        levels += [[Trial(*cell, times) for cell in dict.fromkeys(cells)] for times in changes]
    return levels


def _effect(trial: Trial, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> Effect:
    """The paired difference of which pictures are right."""
    turned = {task: after[task].astype(np.int64) - before[task] for task in before}
    variance = sum(float(own.var(ddof=1)) / len(own) for own in turned.values() if len(own) > 1)
    every = np.concatenate(list(turned.values()))
    by_task = {task: float(own.mean()) for task, own in turned.items()}
    return Effect(
        layer=trial.layer,
        matrix=trial.matrix,
        times=trial.times,
        difference=sum(by_task.values()) / len(by_task),
        error=math.sqrt(variance) / len(turned),
        by_task=by_task,
        gained=int((every > 0).sum()),
        lost=int((every < 0).sum()),
    )
