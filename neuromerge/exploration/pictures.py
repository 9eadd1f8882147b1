"""What base, experts and merge say of pictures: the gallery, the confusion matrix, a visitor's own picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.models import Models
from neuromerge.errors import SettingError, quoted
from neuromerge.evaluation import heads
from neuromerge.evaluation.accuracy import confusion_counts
from neuromerge.evaluation.samples import SampleSet
from neuromerge.exploration.results import GALLERY_FILTERS, Confusion, Example, GalleryItem, GalleryPage, Prediction
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

TOP_K = 5


def gallery(
    models: Models,
    setting: Setting,
    task: str,
    split: str,
    which: str,
    page: int,
    per_page: int,
    job: Job,
) -> GalleryPage:
    """Sample pictures with what base, expert and merge say: see `Workspace.gallery`."""
    if which not in GALLERY_FILTERS:
        raise SettingError(f"The gallery can show {', '.join(GALLERY_FILTERS)}, not {quoted(which)}.")
    samples = models.samples(task, split)
    mixed = _class_by_class(samples.labels)
    notes = samples.notes
    if which == "all":
        rows = mixed
    else:
        rows, looked = _passing(models, setting, task, split, which, mixed, (page + 2) * per_page, job)
        if looked < len(mixed):
            notes = (*notes, f"{task}: the first {looked:,} of {len(mixed):,} pictures were looked through.")
    pages = max(1, -(-len(rows) // per_page))
    page = min(max(0, int(page)), pages - 1)
    shown = rows[page * per_page : (page + 1) * per_page]
    said = [models.predictions(contents, task, split, job, shown) for contents in _asked(models, setting, task)]
    items = tuple(_item(samples, int(row), *names) for row, *names in zip(shown, *said, strict=True))
    return GalleryPage(items, len(rows), page, pages, notes)


def _asked(models: Models, setting: Setting, task: str) -> tuple[Contents, Contents, Contents]:
    """Base, expert, merge."""
    return BASE, _expert(models, task), Contents(setting=setting)


def _passing(
    models: Models, setting: Setting, task: str, split: str, which: str, rows: np.ndarray, enough: int, job: Job
) -> tuple[np.ndarray, int]:
    """Those of `rows` that pass a filter, `enough` of them where there are more; how many were looked at."""
    _, expert, merge = _asked(models, setting, task)
    labels, looked = models.samples(task, split).labels, 0
    passing = np.arange(0)
    while looked < len(rows) and len(passing) < enough:
        part = rows[looked : looked + models.pictures_at_once]
        right, expert_right = (
            models.predictions(contents, task, split, job, part) == labels[part] for contents in (merge, expert)
        )
        found = ~right & expert_right if which == "merge_wrong" else right & ~expert_right
        passing, looked = np.concatenate([passing, part[found]]), looked + len(part)
    return passing, looked


def examples(models: Models, setting: Setting, job: Job) -> tuple[Example, ...]:
    """Two pictures that tell base, expert and merge apart: see `Workspace.examples`."""
    split = "quick"
    tasks = [task for task in setting.tasks if task in models.family.tasks]
    tasks = list(models.with_pictures(tasks, split)) if tasks else []
    # Of two kinds of pictures: neighbours in a family are alike.
    middle = max(1, len(tasks) // 2)
    found: list[Example] = []
    for task in (*tasks[:1], *tasks[middle : middle + 1]):
        samples = models.samples(task, split)
        base = models.predictions(BASE, task, split, job)
        expert = models.predictions(_expert(models, task), task, split, job)
        telling = (base != samples.labels) & (expert == samples.labels)
        mixed = _class_by_class(samples.labels)
        if telling.any():
            merge = models.predictions(Contents(setting=setting), task, split, job)
            row = int(mixed[telling[mixed]][0])
            found.append(Example(task, _item(samples, row, base[row], expert[row], merge[row])))
    return tuple(found)


def confusion(models: Models, setting: Setting, task: str, split: str, job: Job) -> Iterator[Confusion]:
    """What the merge takes for what, on one task: see `Workspace.confusion`."""
    samples, held = models.samples(task, split), Contents(setting=setting)
    order, step = models.order(task, split), models.pictures_at_once
    known = len(order) if len(order) <= step else models.seen(held, task, split) or step
    while True:
        rows = order[:known]
        predicted = models.predictions(held, task, split, job, rows)
        counts = confusion_counts(samples.labels[rows], predicted, len(samples.classes))
        yield Confusion(task, samples.classes, counts, len(order))
        if known >= len(order):
            return
        known = min(known + step, len(order))


def classify(
    models: Models,
    setting: Setting,
    image: Any,
    class_names: Sequence[str],
    template: str | Sequence[str],
    job: Job,
) -> tuple[Prediction, ...]:
    """The most probable of the visitor's own classes: see `Workspace.classify`."""
    names = [" ".join(str(name).split()) for name in class_names]
    head = heads.zero_shot_head(models.text, names, (template,) if isinstance(template, str) else template)
    picture = models.vision.crop(image)[:1]
    asked = [("Base", BASE), *((task, Contents(task=task)) for task in setting.tasks)]
    predictions = []
    for title, held in (*asked, ("This merge", Contents(setting=setting))):
        probabilities = models.probabilities(held, picture, head, job)
        best = np.argsort(-probabilities, kind="stable")[:TOP_K]
        predictions.append(
            Prediction(title, tuple(names[i] for i in best), tuple(float(probabilities[i]) for i in best))
        )
    return tuple(predictions)


def prompt_notes(models: Models, class_names: Sequence[str], template: str | Sequence[str]) -> tuple[str, ...]:
    """What the text tower misses in a visitor's own classes: see `Workspace.prompt_notes`."""
    return heads.prompt_notes(models.text, class_names, (template,) if isinstance(template, str) else template)


def _item(samples: SampleSet, row: int, base: int, expert: int, merge: int) -> GalleryItem:
    """One picture with the classes that the models name."""
    names = samples.classes
    return GalleryItem(
        index=row,
        image=np.asarray(samples.images[row]),
        truth=names[samples.labels[row]],
        base=names[base],
        expert=names[expert],
        merge=names[merge],
    )


def _expert(models: Models, task: str) -> Contents:
    return Contents(task=task) if task in models.family.experts else BASE


def _class_by_class(labels: np.ndarray) -> np.ndarray:
    """Rows (N,) ordered so that every class shows its first picture, then its second, and so on."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    turn = np.empty(len(labels), dtype=np.int64)
    turn[order] = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return np.lexsort((labels, turn))
