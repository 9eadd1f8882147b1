"""Zero-shot accuracy: one image, one task, many tasks in one batch, and whole checkpoints as a table.

All of it is the same product of image embeddings with a head; what differs is how often it is done. A live merge
goes through `accuracy_of`, which puts the pictures of all tasks through the network at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuromerge.checkpoints.checkpoint import Checkpoint, load_checkpoint
from neuromerge.checkpoints.clip_config import differences
from neuromerge.errors import SettingError, quoted
from neuromerge.evaluation.families import Family, TaskSpec, families, get_family
from neuromerge.evaluation.heads import prompt_notes, zero_shot_head
from neuromerge.evaluation.samples import SPLITS, SampleSet, folder_samples, load_samples, prepared
from neuromerge.evaluation.towers import TextModel, VisionModel
from neuromerge.evaluation.towers.vision import vision_settings
from neuromerge.progress import UNATTENDED, Job

_Z95 = 1.959963984540054  # 97.5 % point of the normal distribution


def accuracy_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share: (low, high) in [0, 1]; (0, 1) for n = 0 (Wilson, 1927)."""
    if not 0 <= correct <= n:
        raise SettingError(f"{correct} correct of {n} is not a share.")
    if n == 0:
        return 0.0, 1.0
    share, z2 = correct / n, _Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # The ends are exact at 0 and 1, where rounding could pass them.
    return (0.0 if correct == 0 else centre - half), (1.0 if correct == n else centre + half)


@dataclass(frozen=True, eq=False)
class Batch:
    """The pictures of several tasks, ready for one pass through the network.

    Attributes:
        pixels: uint8 (N, size, size, 3), task after task.
        rows: task -> its rows of `pixels`.
        samples: task -> the labelled pictures.
        split: ``quick``, ``validation`` or ``test``.
    """

    pixels: Tensor
    rows: dict[str, slice]
    samples: dict[str, SampleSet]
    split: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.rows)

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """Task -> int64 labels."""
        return {task: samples.labels for task, samples in self.samples.items()}


@dataclass(frozen=True, eq=False)
class Counts:
    """What a model got right: per task the number correct, the number asked, and int64 predictions (n,)."""

    correct: dict[str, int]
    n: dict[str, int]
    predictions: dict[str, np.ndarray]

    @property
    def mean(self) -> float:
        """Mean of the tasks' accuracies, in [0, 1]; NaN without tasks."""
        shares = [self.correct[task] / n for task, n in self.n.items() if n]
        return sum(shares) / len(shares) if shares else float("nan")


def make_batch(samples: Mapping[str, SampleSet], model: VisionModel) -> Batch:
    """The pictures of several tasks brought to the model's size (cached) and put behind one another."""
    pixels = [prepared(chosen, model.preprocessing) for chosen in samples.values()]
    rows: dict[str, slice] = {}
    start = 0
    for task, part in zip(samples, pixels, strict=True):
        rows[task] = slice(start, start + len(part))
        start += len(part)
    size = model.preprocessing.size
    together = torch.cat(pixels) if pixels else torch.empty((0, size, size, 3), dtype=torch.uint8)
    splits = {chosen.split for chosen in samples.values()}
    return Batch(together, rows, dict(samples), splits.pop() if len(splits) == 1 else "mixed")


def heads_of(family: Family | str, text_model: TextModel, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Task -> zero-shot head (C, dimensions), with the family's own class names and templates."""
    chosen = get_family(family) if isinstance(family, str) else family
    specs = [chosen.task(task) for task in (chosen.tasks if tasks is None else tasks)]
    return {spec.name: zero_shot_head(text_model, spec.classes, spec.templates, keep=True) for spec in specs}


def accuracy_of(model: VisionModel, heads: Mapping[str, Tensor], batch: Batch, job: Job = UNATTENDED) -> Counts:
    """How the model, with the weights it has now, does on every task of the batch.

    Each image goes through the network once and through its own task's head. Hold `model.lock` where another
    thread may write weights meanwhile.

    Args:
        job: told how far it is; stops it.
    """
    if not job.watched:
        features = model.encode(batch.pixels)
    else:
        parts = []
        for part in batch.pixels.split(max(8 * model.chunk, 1)):
            parts.append(model.encode(part))
            job.report(sum(map(len, parts)), len(batch.pixels), "pictures")
        features = torch.cat(parts) if parts else model.encode(batch.pixels)
    correct: dict[str, int] = {}
    predictions: dict[str, np.ndarray] = {}
    for task, rows in batch.rows.items():
        predicted = (features[rows] @ heads[task].t()).argmax(dim=1).numpy()
        predictions[task] = predicted
        correct[task] = int((predicted == batch.samples[task].labels).sum())
    return Counts(correct, {task: rows.stop - rows.start for task, rows in batch.rows.items()}, predictions)


def confusion_counts(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts (classes, classes), int64: rows are the truth, columns what was predicted."""
    pairs = np.asarray(labels, np.int64) * classes + np.asarray(predictions, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """Accuracy on one task: shares in [0, 1], `low` to `high` the 95 % interval.

    `expert` is the accuracy of the task's own expert on the same pictures and `normalised` the share of it that
    is reached; None where the expert was not evaluated.
    """

    task: str
    title: str
    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    expert: float | None = None
    normalised: float | None = None


@dataclass(frozen=True)
class AccuracyTable:
    """Accuracies of one checkpoint, a row a task.

    `notes` are sentences for people: pictures that were sampled or left out, prompts that were cut, settings in which
    the checkpoint differs from its base.
    """

    checkpoint: str
    revision: str | None
    family: str
    split: str
    rows: tuple[AccuracyRow, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, task: str) -> AccuracyRow:
        """The row of a task. Raises KeyError."""
        for row in self.rows:
            if row.task == task:
                return row
        raise KeyError(task)

    @property
    def mean(self) -> float:
        """Mean accuracy over tasks."""
        return sum(row.accuracy for row in self.rows) / len(self.rows)

    @property
    def mean_normalised(self) -> float | None:
        """Mean normalised accuracy over tasks; None where it is not known for all."""
        shares = [row.normalised for row in self.rows if row.normalised is not None]
        return sum(shares) / len(shares) if len(shares) == len(self.rows) else None

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary a task."""
        return [asdict(row) for row in self.rows]

    def to_json(self) -> str:
        """As JSON, with the means and where everything came from."""
        return json.dumps(
            {
                "checkpoint": self.checkpoint,
                "revision": self.revision,
                "family": self.family,
                "split": self.split,
                "mean": self.mean,
                "mean_normalised": self.mean_normalised,
                "tasks": self.to_rows(),
                "notes": list(self.notes),
            },
            indent=2,
        )

    def to_text(self) -> str:
        """As a table for a terminal, in percent."""
        width = max([len(row.task) for row in self.rows] + [len("task")])
        lines = [f"{'task':<{width}}      n  accuracy    95 % interval  of expert"]
        for row in self.rows:
            share = "" if row.normalised is None else f"{100 * row.normalised:9.1f}"
            interval = f"{100 * row.low:5.1f} to {100 * row.high:5.1f}"
            lines.append(f"{row.task:<{width}}  {row.n:5d}  {100 * row.accuracy:8.1f}   {interval}  {share}".rstrip())
        share = "" if self.mean_normalised is None else f"{100 * self.mean_normalised:9.1f}"
        lines.append(f"{'mean':<{width}}  {'':5}  {100 * self.mean:8.1f}   {'':14}  {share}".rstrip())
        lines.append(f"{self.checkpoint} on {self.split} pictures of {self.family}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def evaluate(
    checkpoint: Any,
    tasks: Sequence[str] | None = None,
    split: str = "test",
    family: Family | str | None = None,
    *,
    experts: bool | None = None,
    samples: Mapping[str, SampleSet | str | Path] | None = None,
    job: Job = UNATTENDED,
) -> AccuracyTable:
    """Zero-shot accuracy of a checkpoint on the tasks of its family.

    Args:
        checkpoint: what `load_checkpoint` takes (a source, a state dict, a Checkpoint), or a merge's result.
        tasks: names of the tasks, None for all that the family can evaluate.
        split: ``test``, ``validation`` or ``quick``.
        family: supplies the text tower, class names and pictures; by default the one whose base or expert the
            checkpoint is, or whose base has its shapes.
        experts: whether the experts are evaluated too, for the normalised accuracy; by default where they are on
            this machine (bundled and local families).
        samples: pictures of one's own for some tasks: a SampleSet, or a folder with one subfolder a class, or a zip
            archive of one.
        job: told how far it is; stops it.

    Raises:
        SettingError: unknown family, task or split. CheckpointError: the weights are not a CLIP model of this family.
        SourceUnavailableError: weights or pictures are on the Hub and it cannot be reached.
    """
    if split not in SPLITS:
        raise SettingError(f"There is no split {quoted(split)}. Known: {', '.join(SPLITS)}.")
    opened = open_checkpoint(checkpoint)
    chosen = _family_of(opened, family)
    if isinstance(tasks, str):
        tasks = (tasks,)
    names = tuple(tasks) if tasks is not None else tuple(chosen.tasks)
    if not names:
        raise SettingError("Name at least one task to evaluate.")
    if unused := [task for task in samples or () if task not in names]:
        raise SettingError(
            f"Pictures were given for {', '.join(unused)}, which is not evaluated. Evaluated: {', '.join(names)}."
        )
    base = opened if chosen.is_source(opened.source) else load_checkpoint(chosen.base)
    text_model = TextModel.from_checkpoint(base)
    model = VisionModel.from_checkpoint(opened, base=base)
    batch = make_batch(samples_for(chosen, names, split, samples), model)
    heads = heads_of(chosen, text_model, names)
    counts = accuracy_of(model, heads, batch, job)
    compared = (not chosen.online) if experts is None else experts
    reached = expert_accuracies(chosen, model, heads, batch, base, job) if compared else {}
    return AccuracyTable(
        checkpoint=opened.source,
        revision=opened.revision,
        family=chosen.name,
        split=split,
        rows=tuple(_row(chosen.task(task).title, task, counts, reached.get(task)) for task in names),
        notes=(
            *differences(base, opened, "It is evaluated under its own."),
            *(note for task in names for note in _notes_of(chosen.task(task), batch.samples[task], text_model)),
            *(note for task in names if (note := _check(chosen, opened.source, task, counts))),
        ),
    )


def differs_from_published(published: float, correct: int, n: int) -> str:
    """``"differs from the published 90.3: ..."`` where the interval of the sample excludes it, else empty.

    `published` in [0, 1]. A whole test set was published, so only the error of this sample counts; the last printed
    digit (0.01 points) may be rounded.
    """
    low, high = accuracy_interval(correct, n)
    if low - 5e-5 <= published <= high + 5e-5:
        return ""
    return (
        f"differs from the published {100 * published:.1f}: {100 * correct / n:.1f} on {n:,} pictures (95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f})"
    )


def _check(family: Family, source: str, task: str, counts: Counts) -> str:
    """A note where the base, or the expert on its own task, is not what its publisher measured."""
    accepted = family.acceptance.get(task)
    if accepted is None:
        return ""
    if family.is_source(source):
        found = differs_from_published(accepted.base, counts.correct[task], counts.n[task])
        return f"{task}: the base {found}." if found else ""
    if family.is_source(source, task):
        found = differs_from_published(accepted.expert, counts.correct[task], counts.n[task])
        return f"{task}: the expert {found}." if found else ""
    return ""


def _notes_of(spec: TaskSpec, samples: SampleSet, text_model: TextModel) -> list[str]:
    """What a reader of a task's accuracy should know about its pictures and prompts."""
    return [
        *samples.notes,
        *([samples.division] if samples.division else []),
        *(f"{spec.name}: {note}" for note in prompt_notes(text_model, spec.classes, spec.templates)),
    ]


def expert_accuracies(
    family: Family,
    model: VisionModel,
    heads: Mapping[str, Tensor],
    batch: Batch,
    base: Checkpoint,
    job: Job = UNATTENDED,
) -> dict[str, float]:
    """Accuracy of every task's own expert on that task's pictures.

    `model` is left with the weights of the last expert whose settings are the same.
    """
    reached: dict[str, float] = {}
    for number, task in enumerate(batch.tasks):
        if task not in family.experts:
            continue
        expert = load_checkpoint(family.experts[task])
        alone = {task: batch.samples[task]}
        if vision_settings(expert, base=base) == (model.settings, model.preprocessing):
            model.load(expert, base=base)
            counts = accuracy_of(model, heads, make_batch(alone, model))
        else:
            own = VisionModel.from_checkpoint(expert, base=base)
            counts = accuracy_of(own, heads, make_batch(alone, own))
        reached[task] = counts.correct[task] / max(counts.n[task], 1)
        job.report(number + 1, len(batch.tasks), "experts")
    return reached


def samples_for(
    family: Family,
    tasks: Iterable[str],
    split: str,
    own: Mapping[str, SampleSet | str | Path] | None = None,
) -> dict[str, SampleSet]:
    """Task -> pictures: the user's own where given, else the family's. Raises as `load_samples`."""
    result: dict[str, SampleSet] = {}
    for task in tasks:
        given = (own or {}).get(task)
        if isinstance(given, SampleSet):
            result[task] = given
        elif given is not None:
            result[task] = folder_samples(given, family.task(task).shown_classes, task, split)
        else:
            result[task] = load_samples(family, task, split)
    return result


def open_checkpoint(checkpoint: Any) -> Checkpoint:
    """A Checkpoint from a source, a state dict, a Checkpoint, or anything with a `state_dict` (a merge's result)."""
    state = getattr(checkpoint, "state_dict", None)
    if isinstance(checkpoint, (str, Path, Mapping, Checkpoint)) or state is None:
        return load_checkpoint(checkpoint)
    return load_checkpoint(state() if callable(state) else state, name="merge")


def family_of(checkpoint: Checkpoint) -> Family:
    """The family whose base or expert this is, else the first on this machine whose base has the same shapes.

    Raises SettingError when none fits.
    """
    known = families()
    for family in known.values():
        if any(family.is_source(checkpoint.source, task) for task in (None, *family.experts)):
            return family
    shapes = {parameter.name: parameter.shape for parameter in checkpoint.parameters}
    for family in known.values():
        if not family.online and _fits(shapes, load_checkpoint(family.base)):
            return family
    raise SettingError(
        f"{checkpoint.source} fits none of the families on this machine, so its tasks are unknown. Name its family: "
        f"{', '.join(known)}."
    )


def _family_of(checkpoint: Checkpoint, family: Family | str | None) -> Family:
    if family is None:
        return family_of(checkpoint)
    return get_family(family) if isinstance(family, str) else family


def _fits(shapes: Mapping[str, tuple[int, ...]], base: Checkpoint) -> bool:
    wanted = {parameter.name: parameter.shape for parameter in base.parameters}
    return bool(shapes) and all(wanted.get(name) == shape for name, shape in shapes.items())


def _row(title: str, task: str, counts: Counts, expert: float | None) -> AccuracyRow:
    correct, n = counts.correct[task], counts.n[task]
    low, high = accuracy_interval(correct, n)
    share = correct / n if n else float("nan")
    return AccuracyRow(task, title, n, correct, share, low, high, expert, share / expert if expert else None)
