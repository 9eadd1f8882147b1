"""Pictures that a visitor brings, in one folder for each class: how base, experts and merge do on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.models import Models
from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation.archives import ArchiveLimits
from neuromerge.evaluation.folders import ClassNames
from neuromerge.evaluation.heads import prompt_notes, zero_shot_head
from neuromerge.evaluation.samples import SampleSet, own_samples
from neuromerge.exploration import regions
from neuromerge.exploration.results import USUAL_PROMPT, OwnBoard
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family


def board(
    models: Models,
    cache: BoundedCache,
    setting: Setting,
    source: str,
    template: str,
    limits: ArchiveLimits | None,
    most_classes: int | None,
    job: Job,
) -> OwnBoard:
    """Accuracy of base, merged experts and merge: see `Workspace.own_pictures`."""
    samples = _samples(cache, Path(source), limits, job)
    if most_classes is not None and len(samples.classes) > most_classes:
        raise LimitError(
            f"{samples.task} names {len(samples.classes)} classes; at most {most_classes} are possible here."
        )
    names, templates, remark = _asked(models.family, samples, template)
    head = zero_shot_head(models.text, names, templates)
    titles = {task: models.family.tasks[task].title if task in models.family.tasks else task for task in setting.tasks}
    asked = {
        "Base": BASE,
        **{titles[task]: Contents(task=task) for task in setting.tasks},
        "This merge": Contents(setting=setting),
    }
    scores = {}
    for model, held in asked.items():
        right = models.answers(held, samples, head, job) == samples.labels
        scores[model] = Accuracy.of(int(right.sum()), len(samples))
    counts = np.bincount(samples.labels, minlength=len(samples.classes))
    return OwnBoard(
        name=samples.task,
        pictures=dict(zip(samples.classes, counts.tolist(), strict=True)),
        scores=scores,
        notes=(remark, *samples.notes, *prompt_notes(models.text, names, templates)),
    )


def _samples(cache: BoundedCache, path: Path, limits: ArchiveLimits | None, job: Job) -> SampleSet:
    """The pictures; an archive is read once. What is in a folder may change, so a folder is looked through again."""
    if not path.exists():
        raise SettingError(f"{path.name} is not there, or no longer. Add it again.")
    if path.is_dir():
        return own_samples(path, path.name, limits)
    now = path.stat()
    key = (str(path), now.st_mtime_ns, now.st_size)
    return cache.get(regions.OWN_PICTURES, key, lambda: own_samples(path, path.name, limits), job)


def _asked(family: Family, samples: SampleSet, template: str) -> tuple[Sequence[str], Sequence[str], str]:
    """Class names and prompts to ask with, and a sentence about them.

    Without a `template` those of the family's task that has all of the classes, or else the usual prompt.
    """
    if template:
        return samples.classes, (template,), f"Asked with “{template}”."
    for spec in family.tasks.values():
        known = ClassNames(spec.shown_classes)
        numbers = [known.number(name) for name in samples.classes]
        if None not in numbers:
            names = [spec.classes[number] for number in numbers if number is not None]
            return names, spec.templates, f"These are classes of {spec.title}, so its prompts are used."
    return samples.classes, (USUAL_PROMPT,), f"Asked with “{USUAL_PROMPT}”."
