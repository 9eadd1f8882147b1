"""Accuracies: of a merge beside base, experts and another setting; and as the objective of a search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.models import Models
from neuromerge.errors import AssetError, CheckpointError, SettingError, SourceUnavailableError, quoted
from neuromerge.exploration import published
from neuromerge.exploration.results import AccuracyBoard
from neuromerge.progress import Job
from neuromerge.search.objective import Growing
from neuromerge.settings.choices import describe
from neuromerge.settings.setting import Setting

SPLITS = ("quick", "validation", "test")
_GROWTH = 4
_RACE_GROWTH, _RACE_START = 2, 16
"""Settings race on twice as many pictures each time, from so many a task on: fewer tell too little."""
_NO_MODEL = CheckpointError, AssetError, SourceUnavailableError
"""What an expert raises that cannot be opened."""
UNKNOWN_TASK = "It is merged, but there are no labelled pictures of its task here."


def board(
    models: Models,
    setting: Setting,
    split: str,
    pinned: Setting | None,
    previous: Setting | None,
    pinned_label: str,
    job: Job,
    glance: _Glance | None = None,
) -> AccuracyBoard:
    """Accuracy of every task of the family: see `Workspace.board`; the merge's on some pictures alone for a glance."""
    shown = _shown(models, setting, split, pinned)
    # The merge first: it is what everybody waits for, and the rest is usually known.
    most = None if glance is None else glance.pictures
    merge = models.scores(Contents(setting=setting), shown, split, job, most)
    base = models.scores(BASE, shown, split, job)
    expert = {task: score for task in shown if (score := _expert_score(models, setting, task, split, job))}
    compared = None if pinned is None else models.scores(Contents(setting=pinned), shown, split, job)
    before = _before(models, setting, previous, shown, split)
    found = _assembled(models, setting, split, (base, expert, merge, compared), before, pinned, pinned_label)
    if glance is None:
        return found
    whole, part = (models.scores(Contents(setting=glance.beside), shown, split, job, of) for of in (None, most))
    return replace(found, is_glance=True, paired=(whole, part))


def growing_board(
    models: Models,
    setting: Setting,
    pinned: Setting | None,
    previous: Setting | None,
    pinned_label: str,
    job: Job,
    split: str = "validation",
    beside: Setting | None = None,
) -> Iterator[AccuracyBoard]:
    """Accuracy on ever more pictures of a split, of every task: see `Workspace.growing_board`."""
    shown = _shown(models, setting, split, pinned)
    if not _is_grown(models, shown, split):
        if split == "quick" and (glance := _glance(models, setting, beside, shown)):
            yield board(models, setting, split, pinned, previous, pinned_label, job, glance)
        yield board(models, setting, split, pinned, previous, pinned_label, job)
        return
    whole = max(len(models.samples(task, split)) for task in shown)
    held = {"merge": Contents(setting=setting), "base": BASE}
    if pinned is not None:
        held["pinned"] = Contents(setting=pinned)
    with_expert = _openable(models, setting, shown)

    def known(contents: Contents, tasks: Sequence[str]) -> dict[str, Accuracy]:
        seen = {task: models.seen(contents, task, split) for task in tasks}
        return {
            task: models.scores(contents, (task,), split, job, most=count)[task]
            for task, count in seen.items()
            if count
        }

    def so_far() -> AccuracyBoard | None:
        merge = known(held["merge"], [task for task in shown if task in judged])
        if not any(task in setting.tasks for task in merge):
            return None
        found = {name: known(contents, tuple(merge)) for name, contents in held.items() if name != "merge"}
        of_its_own = [task for task in with_expert if task in merge]
        expert = {task: score for task in of_its_own for score in known(Contents(task=task), (task,)).values()}
        parts = found["base"], expert, merge, found.get("pinned")
        to_come = [task for task in shown if task not in merge]
        before = _before(models, setting, previous, tuple(merge), split)
        return _assembled(models, setting, split, parts, before, pinned, pinned_label, of_its_own, to_come)

    def is_stale() -> bool:
        """Whether pictures of another task have come, whose classifier may be there sooner."""
        return len(_shown(models, setting, split, pinned)) > len(shown)

    def merged_first(task: str) -> tuple[bool, int]:
        return task not in setting.tasks, models.task(task).prompts

    judged = {task for task in shown if models.has_head(task)}
    begun = so_far()
    if begun is not None:
        yield begun
    for most in _levels(max(len(models.samples(task, "quick")) for task in shown), whole):
        steps = [(contents, shown) for contents in held.values()]
        steps += [(Contents(task=task), (task,)) for task in with_expert]
        for contents, tasks in steps:
            try:
                for task in _looked(models, contents, sorted(tasks, key=merged_first), split, most, job, is_stale):
                    if task is None:
                        yield from growing_board(models, setting, pinned, previous, pinned_label, job, split)
                        return
                    judged.add(task)
                    if (grown := so_far()) is not None:
                        yield grown
            except _NO_MODEL:
                if contents.task is None or contents.task in setting.tasks:
                    raise
                with_expert.remove(contents.task)


@dataclass(frozen=True)
class _Glance:
    """On how many pictures of each task a merge is shown first, and the merge that it is compared with there."""

    pictures: int
    beside: Setting


def _glance(models: Models, setting: Setting, beside: Setting | None, tasks: Sequence[str]) -> _Glance | None:
    """How the merge is shown before it has seen all quick pictures; None where not at all.

    Few pictures tell a change from what is known of another merge, but little of a merge by itself.
    """
    if beside is None or beside.family != setting.family:
        return None
    first, whole = models.glance(len(tasks)), {task: len(models.samples(task, "quick")) for task in tasks}

    def has_seen(chosen: Setting, least: dict[str, int]) -> bool:
        return all(models.seen(Contents(setting=chosen), task, "quick") >= count for task, count in least.items())

    is_short = first < min(whole.values()) and not has_seen(setting, dict.fromkeys(tasks, first))
    return _Glance(first, beside) if is_short and has_seen(beside, whole) else None


def _before(
    models: Models, setting: Setting, previous: Setting | None, tasks: Sequence[str], split: str
) -> dict[str, Accuracy] | None:
    """What the merge before scores on these pictures, where that is known."""
    if previous is None or previous.family != setting.family:
        return None
    known = models.known_scores(Contents(setting=previous), tasks, split)
    return known if len(known) == len(tasks) else None


def _is_grown(models: Models, tasks: Sequence[str], split: str) -> bool:
    """Whether models are measured one after the other, on ever more pictures: looking at all would take too long."""
    part = "validation" if split == "quick" else split  # of which the quick pictures are a part
    return len(tasks) * max(len(models.samples(task, part)) for task in tasks) > models.pictures_at_once


def _openable(models: Models, setting: Setting, tasks: Sequence[str]) -> list[str]:
    """Those of `tasks` whose own expert can be opened. Raises where that of a merged one cannot."""
    found = []
    for task in tasks:
        if task in models.family.experts:
            try:
                models.checkpoint(task)
            except _NO_MODEL:
                if task in setting.tasks:
                    raise
            else:
                found.append(task)
    return found


def _looked(
    models: Models,
    contents: Contents,
    tasks: Sequence[str],
    split: str,
    most: int,
    job: Job,
    is_stale: Callable[[], bool],
) -> Iterator[str | None]:
    """Look at the first `most` pictures of each task, some seconds' worth at a time; yields each task that has a score.

    The pictures of all tasks go through the network together, then task after task gets its score: a classifier of
    many prompts takes longer to make than all the others, which do not wait for it where it comes last. Ends with
    None where `is_stale` while it waits for one.
    """
    step = max(1, models.pictures_at_once // len(tasks))
    known = min(models.seen(contents, task, split) for task in tasks)
    most = min(most, max(len(models.samples(task, split)) for task in tasks))
    while known < most:
        known = min(known + step, most)
        models.embeddings(contents, tasks, split, job, {task: models.order(task, split)[:known] for task in tasks})
        for task in tasks:
            if not models.wait_for_head(task, job, is_stale):
                yield None
                return
            models.scores(contents, (task,), split, job, most=known)
            yield task


def levels_of(models: Models, tasks: Sequence[str], split: str) -> tuple[int | None, ...]:
    """Pictures a task on which many models are measured one after the other; None for all of a split that is small."""
    counts = [len(models.samples(task, split)) for task in tasks]
    if sum(counts) <= models.pictures_at_once:
        return (None,)
    return tuple(_levels(max(len(models.samples(task, "quick")) for task in tasks), max(counts)))


def _levels(first: int, whole: int, growth: int = _GROWTH) -> Iterator[int]:
    """Numbers of pictures a task up to which all models are measured before any is measured on more."""
    count = first
    while count < whole:
        yield count
        count *= growth
    yield whole


def _shown(models: Models, setting: Setting, split: str, pinned: Setting | None) -> tuple[str, ...]:
    """The tasks of a board: those of the family (of one on the Hub the merged ones) that have pictures."""
    if split not in SPLITS:
        raise SettingError(f"There is no split {quoted(split)}. Known: {', '.join(SPLITS)}.")
    if pinned is not None and pinned.family != setting.family:
        raise SettingError(
            f"The pinned setting belongs to {pinned.family}; it cannot be compared with {setting.family}."
        )
    if not (wanted := _wanted(models, setting)):
        raise SettingError(f"None of the merged tasks of {models.family.name} has pictures to measure an accuracy on.")
    return models.with_pictures(wanted, split)


def _wanted(models: Models, setting: Setting) -> list[str]:
    family = models.family
    return [task for task in family.tasks if task in setting.tasks or not family.online]


_Scores = dict[str, Accuracy]


def _assembled(
    models: Models,
    setting: Setting,
    split: str,
    scores: tuple[_Scores, _Scores, _Scores, _Scores | None],
    before: _Scores | None,
    pinned: Setting | None,
    pinned_label: str,
    with_expert: Sequence[str] = (),
    to_come: Sequence[str] = (),
) -> AccuracyBoard:
    """The board of these scores of base, experts, merge and pinned merge, and of the merge `before`.

    Those of `with_expert` have an expert; the merge has yet to be measured on those `to_come`.
    """
    base, expert, merge, compared = scores
    family, tasks = models.family, tuple(merge)
    pictures = {task: len(models.samples(task, split)) for task in (*tasks, *to_come)}
    given = [each for each in scores if each is not None]
    seen = {task: models.samples(task, split) for task in tasks if task in setting.tasks}
    wanted = (("base", tasks, base), ("expert", with_expert, expert), ("pinned", tasks, compared))
    awaited = {
        name: coming
        for name, of, found in (("merge", (*tasks, *to_come), merge), *wanted)
        if found is not None and (coming := tuple(task for task in of if task not in found))
    }
    return AccuracyBoard(
        split=split,
        tasks=tasks,
        merged=frozenset(setting.tasks),
        base=base,
        expert=expert,
        merge=merge,
        pinned=compared,
        pinned_label=pinned_label or ("" if pinned is None else describe(pinned)),
        previous=before,
        remarks=published.remarks(family, setting, base, expert, seen),
        unmeasured={
            **models.without_pictures(
                [task for task in _wanted(models, setting) if task not in (*tasks, *to_come)], split
            ),
            **{task: UNKNOWN_TASK for task in setting.tasks if task not in family.tasks},
        },
        pictures=sum(count for task, count in pictures.items() if task in setting.tasks),
        is_glance=bool(to_come),
        is_growing=bool(awaited) or any(score.n < pictures[task] for each in given for task, score in each.items()),
        awaited=awaited,
    )


def objective(models: Models, setting: Setting, split: str, *, certain: bool = False, first: int = 0) -> Growing:
    """Accuracy (or certainty) of the merged tasks as what a search or a map makes large, for settings like `setting`.

    Of a family whose pictures take more than a few seconds it is asked on growing parts of them, beginning with `first`
    pictures a task (as many as tell settings apart when 0). Raises as `merged_scores`.
    """
    tasks = measurable(models, setting, split)
    counts = [len(models.samples(task, split)) for task in tasks]
    whole, score = max(counts), certainties if certain else merged_scores
    start = first or max(_RACE_START, models.pictures_at_once // len(tasks))
    levels = tuple(_levels(start, whole, _RACE_GROWTH)) if sum(counts) > models.pictures_at_once else (whole,)
    is_grown = len(levels) > 1
    return Growing(
        lambda setting, job, most: score(models, setting, split, job, most if is_grown else None),
        levels,
        tuple(sum(min(level, count) for count in counts) for level in levels),
    )


def merged_scores(models: Models, setting: Setting, split: str, job: Job, most: int | None = None) -> dict[str, float]:
    """Accuracy in [0, 1] of every merged task that has pictures; `most`: on the first so many of each.

    Raises SettingError when none has.
    """
    tasks = measurable(models, setting, split)
    found = models.scores(Contents(setting=setting), tasks, split, job, most)
    return {task: score.value for task, score in found.items()}


def certainties(models: Models, setting: Setting, split: str, job: Job, most: int | None = None) -> dict[str, float]:
    """How sure the merge is of what it says of every merged task's pictures, by task, in [0, 1]; labels are not used.

    1 - H / ln C, H the entropy of the C class probabilities, mean over pictures: 1 is certain, 0 is a blind guess.
    `most`: on the first so many pictures of each task. Raises SettingError where none of the merged tasks has pictures.
    """
    tasks = measurable(models, setting, split)
    rows = None if most is None else {task: models.order(task, split)[:most] for task in tasks}
    found = models.embeddings(Contents(setting=setting), tasks, split, job, rows)
    return {task: certainty_of(models.text.logit_scale * (found[task] @ models.head(task, job).T)) for task in tasks}


def certainty_of(logits: torch.Tensor) -> float:
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
    except _NO_MODEL:
        if task in setting.tasks:
            raise
        return None
