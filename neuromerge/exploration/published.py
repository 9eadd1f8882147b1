"""What others printed, beside what is measured here: is the checkpoint theirs, and how far did they come?"""

from __future__ import annotations

from collections.abc import Mapping

from neuromerge.engine.accuracy import Accuracy
from neuromerge.evaluation.accuracy import differs_from_published
from neuromerge.evaluation.families import Family
from neuromerge.evaluation.samples import SampleSet
from neuromerge.merging import registry
from neuromerge.settings.setting import Setting

_NAMED = 3  # models that are named one by one; more are counted


def remarks(
    family: Family,
    setting: Setting,
    base: Mapping[str, Accuracy],
    expert: Mapping[str, Accuracy],
    pictures: Mapping[str, SampleSet],
) -> tuple[str, ...]:
    """Sentences about published figures: of this suite and method, and of models that are not what was published.

    Tasks whose pictures show few of their classes are named, and not held against a figure over all classes.
    """
    partial = {task: samples for task, samples in pictures.items() if samples.revision and samples.is_partial}
    base, expert = ({task: score for task, score in of.items() if task not in partial} for of in (base, expert))
    told = [_partial(family, task, samples) for task, samples in partial.items()]
    return (
        *published_means(family, setting),
        *differences(family, setting, base, expert),
        *told,
        *other_commits(family, pictures),
    )


def other_commits(family: Family, pictures: Mapping[str, SampleSet]) -> tuple[str, ...]:
    """The tasks whose pictures are of another commit than the pinned one, in one sentence; none where there is none."""
    found = {
        task: samples.revision
        for task, samples in pictures.items()
        if samples.revision and family.tasks[task].samples.revision not in ("", samples.revision)
    }
    if not found:
        return ()
    named = [
        f"{family.tasks[task].title} ({read[:7]} in the place of {family.tasks[task].samples.revision[:7]})"
        for task, read in found.items()
    ]
    return (
        f"Pictures of another commit than the pinned one: {', '.join(named)}. The pinned one is gone from the Hub, or "
        "has no parquet files.",
    )


def _partial(family: Family, task: str, samples: SampleSet) -> str:
    seen, classes = len(samples.classes) - len(samples.empty), len(samples.classes)
    return (
        f"{family.tasks[task].title}: the pictures that were fetched show {seen:,} of {classes:,} classes, because the "
        "data set stands in their order. The score and its interval are of these alone."
    )


def published_means(family: Family, setting: Setting) -> tuple[str, ...]:
    """The mean accuracies that sources printed for the setting's method on exactly its tasks; none for other tasks."""
    found = [
        f"{figures.mean[setting.method]:.1f} % ({figures.source}; {figures.setting})"
        for figures in family.published
        if set(figures.tasks) == set(setting.tasks) and setting.method in figures.mean
    ]
    if not found:
        return ()
    title = registry.get_method(setting.method).title
    return (
        f"Published for {title} on these {len(setting.tasks)} tasks, over whole test sets: {', '.join(found)}. Each "
        "source has its own checkpoints and pictures.",
    )


def differences(
    family: Family, setting: Setting, base: Mapping[str, Accuracy], expert: Mapping[str, Accuracy]
) -> tuple[str, ...]:
    """Models whose published accuracy the interval of the sample excludes, with both numbers."""
    told: list[str] = []
    for task, accepted in family.acceptance.items():
        if task not in setting.tasks:
            continue
        for who, score, published in (
            ("the base", base.get(task), accepted.base),
            ("the expert", expert.get(task), accepted.expert),
        ):
            if score is not None and score.n and (found := differs_from_published(published, score.correct, score.n)):
                title = family.tasks[task].title if task in family.tasks else task
                told.append(f"{title}: {who} {found}.")
    if len(told) <= _NAMED:
        return tuple(told)
    return (
        *told[:_NAMED],
        f"So do {len(told) - _NAMED} more of these models. Where most do, pictures or models are not those published.",
    )
