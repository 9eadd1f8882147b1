"""Pictures that a visitor brings, in one folder for each class: how base, experts and merge do on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.models import Models
from neuromerge.errors import LimitError, SettingError, quoted
from neuromerge.evaluation.archives import ArchiveLimits
from neuromerge.evaluation.folders import ClassNames
from neuromerge.evaluation.heads import prompt_notes, zero_shot_head
from neuromerge.evaluation.samples import SampleSet, own_samples, unlabelled_samples
from neuromerge.exploration import regions
from neuromerge.exploration.results import USUAL_PROMPT, OwnBoard
from neuromerge.exploration.scores import certainty_of
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


def certainty(
    models: Models,
    cache: BoundedCache,
    setting: Setting,
    source: str,
    task: str,
    limits: ArchiveLimits | None,
    job: Job,
) -> float:
    """How sure the merge is of what it says of pictures that nobody has labelled: see `Workspace.own_certainty`."""
    known = [name for name in setting.tasks if name in models.family.tasks]
    if task and task not in known:
        raise SettingError(f"{quoted(task)} is no merged task with class names. There are: {', '.join(known)}.")
    if not known:
        raise SettingError("None of the merged tasks has class names to ask with.")
    path = Path(source)
    samples = _kept(cache, path, "unlabelled", lambda: unlabelled_samples(path, limits), job)
    head = torch.cat([models.head(name, job) for name in ([task] if task else known)])
    return certainty_of(
        models.text.logit_scale * (models.embeddings_of(Contents(setting=setting), samples, job) @ head.T)
    )


def _samples(cache: BoundedCache, path: Path, limits: ArchiveLimits | None, job: Job) -> SampleSet:
    return _kept(cache, path, "classes", lambda: own_samples(path, path.name, limits), job)


def _kept(cache: BoundedCache, path: Path, kind: str, read: Callable[[], SampleSet], job: Job) -> SampleSet:
    """The pictures; an archive is read once. What is in a folder may change, so a folder is looked through again."""
    if not path.exists():
        raise SettingError(f"{path.name} is not there, or no longer. Add it again.")
    if path.is_dir():
        return read()
    now = path.stat()
    return cache.get(regions.OWN_PICTURES, (str(path), kind, now.st_mtime_ns, now.st_size), read, job)


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
