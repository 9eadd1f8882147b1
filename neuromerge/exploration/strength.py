"""How strong a merge should be: accuracy against multiples of its coefficients.

Every point is a setting of its own, so what one visitor has measured the next one has at once; components are kept,
and a point costs one sum over them and the quick split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.engine import FamilyEngine
from neuromerge.engine.models import Models
from neuromerge.engine.stages import Stages, tasks_of
from neuromerge.errors import SettingError
from neuromerge.exploration import regions
from neuromerge.exploration.results import StrengthCurve
from neuromerge.exploration.scores import measurable
from neuromerge.merging import registry
from neuromerge.merging.linear import Coefficients
from neuromerge.merging.profile import multiplied
from neuromerge.progress import Job
from neuromerge.search.landscape import levels
from neuromerge.search.objective import mean_score
from neuromerge.settings.choices import change
from neuromerge.settings.setting import Setting

POINTS = 13
STRONGEST = 2.0
SPLIT = "quick"
_DIGITS = 6  # of a multiplied coefficient: what links and sliders can hold


def strength_curve(engine: FamilyEngine, setting: Setting, job: Job) -> Iterator[StrengthCurve]:
    """The curve of a merge, yielded after every point that had to be measured: see `Workspace.strength_curve`."""
    whole = engine.cache.peek(regions.CURVE, setting)
    if whole is not None:
        yield whole
        return
    begun = known_curve(engine, setting, job)
    yield begun
    accuracy = begun.accuracy.copy()
    order, tasks = levels(len(accuracy)), measurable(engine.models, setting, SPLIT)
    for place in sorted(np.flatnonzero(np.isnan(accuracy)).tolist(), key=lambda place: (order[place], place)):
        strength = float(begun.strengths[place])
        holds = _contents(engine.stages, setting, strength, begun.coefficients)
        accuracy[place] = _mean(engine.models.scores(holds, tasks, SPLIT, job))
        grown = replace(begun, accuracy=accuracy.copy())
        if grown.complete:
            engine.cache.put(regions.CURVE, setting, grown)
        yield grown


def known_curve(engine: FamilyEngine, setting: Setting, job: Job) -> StrengthCurve:
    """What of the curve needs no measuring."""
    stages, models = engine.stages, engine.models
    tasks = measurable(models, setting, SPLIT)
    present = stages.coefficients(setting, job)
    if present.values and not any(present.values.values()):
        raise SettingError("Every coefficient is 0: this merge is the base model, and no multiple of it is another.")
    holds = {
        strength: contents
        for strength in np.linspace(0.0, STRONGEST, POINTS).tolist()
        if (contents := _legal(stages, setting, strength, present.values)) is not None
    }
    return StrengthCurve(
        strengths=np.array(list(holds)),
        accuracy=np.array([_known(models, contents, tasks) for contents in holds.values()]),
        images=sum(len(models.samples(task, SPLIT)) for task in tasks),
        coefficients=present.values,
        marks=_marks(stages, setting, present, job),
    )


def at_strength(stages: Stages, setting: Setting, strength: float, coefficients: Mapping[str, float]) -> Setting:
    """The setting whose coefficients are `strength` times as large; a method without any takes it as a profile.

    Raises SettingError where a coefficient may not be so large.
    """
    if strength == 1.0:
        return setting
    if coefficients:
        values = {name: float(f"{value * strength:.{_DIGITS}g}") for name, value in coefficients.items()}
        return change(setting, stages.family, **values)
    parameters = stages.vectors(tasks_of(setting)).parameters
    everywhere = {(parameter.layer, parameter.matrix): strength for parameter in parameters}
    names = registry.get_method(setting.method).component_names
    return replace(setting, profile=multiplied(setting.profile, everywhere, parameters, names))


def _contents(stages: Stages, setting: Setting, strength: float, coefficients: Mapping[str, float]) -> Contents:
    """What a model holds at that strength: at 0 the base."""
    return BASE if strength == 0.0 else Contents(setting=at_strength(stages, setting, strength, coefficients))


def _legal(stages: Stages, setting: Setting, strength: float, coefficients: Mapping[str, float]) -> Contents | None:
    """The same; None where a coefficient would be larger than it may be."""
    try:
        return _contents(stages, setting, strength, coefficients)
    except SettingError:
        return None


def _known(models: Models, contents: Contents, tasks: tuple[str, ...]) -> float:
    """Mean accuracy where it was measured before, else NaN."""
    found = models.known_scores(contents, tasks, SPLIT)
    return _mean(found) if len(found) == len(tasks) else math.nan


def _mean(scores: Mapping[str, Accuracy]) -> float:
    return mean_score({task: score.value for task, score in scores.items()})


def _marks(stages: Stages, setting: Setting, present: Coefficients, job: Job) -> dict[str, float]:
    """The strengths that need no data, as far as they are multiples of the present coefficients."""
    marks: dict[str, float] = {}
    method = registry.get_method(setting.method)
    if method.coefficients:
        defaults = {spec.name: spec.default for spec in method.hyperparameters if spec.name in method.coefficients}
        automatic = stages.coefficients(change(setting, stages.family, **defaults), job)
        here, there = (np.array([found.values[name] for name in method.coefficients]) for found in (present, automatic))
        times = float(here @ there) / float(here @ here)
        if np.allclose(times * here, there, rtol=1e-6, atol=0.0):
            marks["auto"] = times
    kept = [share for share in stages.retention(setting, job).values() if share != 0.0]  # a task that changed nothing
    if kept and (mean := sum(kept) / len(kept)) > 0.0:
        marks["retention"] = 1.0 / mean
    return {name: strength for name, strength in marks.items() if 0.0 <= strength <= STRONGEST}
