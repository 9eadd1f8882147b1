"""One table of every method: base, experts, each method at its published default and at its best on validation.

The rules that make the table fair are few and fixed. Every tuned method gets the same number of settings
(`BUDGET`), laid out before anything is seen; the best mean accuracy on the validation split decides, the first
of equals; the test split is looked at once, for the settings that are in the table. Whatever comes out is the
table.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from neuromerge.checkpoints import Aligned, align, load_checkpoint
from neuromerge.errors import SettingError
from neuromerge.evaluation.accuracy import (
    Batch,
    Counts,
    accuracy_interval,
    accuracy_of,
    expert_accuracies,
    heads_of,
    make_batch,
    samples_for,
)
from neuromerge.evaluation.families import Family, get_family
from neuromerge.evaluation.towers import TextModel, VisionModel
from neuromerge.merging import methods
from neuromerge.merging.linear import combine
from neuromerge.merging.passes import components
from neuromerge.merging.registry import AUTO, MergeMethod, check_values, get_method
from neuromerge.merging.streaming import merge_aligned
from neuromerge.merging.vectors import AlignedVectors
from neuromerge.progress import UNATTENDED, Job

BUDGET = 72
_SCALES_ONLY = tuple(round(0.04 * step, 2) for step in range(1, BUDGET + 1))  # 0.04 to 2.88
_SCALES = tuple(round(0.12 * step, 2) for step in range(1, BUDGET // 3 + 1))  # 0.12 to 2.88
_STRUCTURE: dict[str, tuple[str, tuple[float, ...]]] = {
    "ties": ("trim_ratio", (0.7, 0.8, 0.9)),
    "dare": ("drop_rate", (0.5, 0.7, 0.9)),
    "pcb": ("ratio", (0.05, 0.1, 0.2)),
    "consensus": ("threshold", (0.2, 0.4, 0.6)),
}
_NEUROMERGING = {
    "trim_ratio": (0.7, 0.8, 0.9),
    "lambda_parallel": (0.0, 0.5, 1.0),
    "lambda_orthogonal": (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0),
}


def grid(method: MergeMethod) -> tuple[dict[str, float], ...]:
    """The settings that are tried on validation: `BUDGET` of them, none for a method without coefficients."""
    known = {spec.name for spec in method.hyperparameters}
    if set(_NEUROMERGING) <= known:
        return tuple(
            dict(zip(_NEUROMERGING, values, strict=True)) for values in itertools.product(*_NEUROMERGING.values())
        )
    if "scale" not in known:
        return ()
    if method.name in _STRUCTURE:
        name, choices = _STRUCTURE[method.name]
        return tuple({name: choice, "scale": scale} for choice in choices for scale in _SCALES)
    return tuple({"scale": scale} for scale in _SCALES_ONLY)


@dataclass(frozen=True)
class ComparedRow:
    """One line of the table: a model and how it does on every task (shares in [0, 1], 95 % intervals)."""

    name: str
    title: str
    kind: str  # base | expert | default | validation
    hyperparameters: dict[str, Any]
    accuracy: dict[str, float]
    interval: dict[str, tuple[float, float]]
    mean: float
    mean_interval: tuple[float, float]
    normalised: float | None
    validation: float | None = None
    tried: int = 0


@dataclass(frozen=True)
class Comparison:
    """The table, with everything that is needed to make it again."""

    family: str
    tasks: tuple[str, ...]
    split: str
    n: dict[str, int]
    seed: int
    rows: tuple[ComparedRow, ...] = field(default=())

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=2)

    def to_text(self) -> str:
        """As text: the Markdown table."""
        return self.to_markdown()

    def to_markdown(self) -> str:
        """As a Markdown table in percent, with the 95 % interval of every figure."""
        head = ["model", "coefficients", *self.tasks, "mean", "of experts"]
        lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
        for row in self.rows:
            cells = [_percent(row.accuracy[task], row.interval[task]) for task in self.tasks]
            share = "" if row.normalised is None else f"{100 * row.normalised:.1f}"
            cells = [row.title, _setting(row), *cells, f"**{_percent(row.mean, row.mean_interval)}**", share]
            lines.append(f"| {' | '.join(cells)} |")
        pictures = ", ".join(f"{task} {self.n[task]}" for task in self.tasks)
        lines += [
            "",
            f"Zero-shot top-1 accuracy in percent on the {self.split} split of {self.family} with its 95 % interval "
            f"(Wilson; of the mean: normal, over tasks). Pictures: {pictures}. Coefficients marked *validation* are "
            f"the best of {BUDGET} settings by mean accuracy on the validation split; the others are the published "
            f"defaults. Seed {self.seed}.",
        ]
        return "\n".join(lines)


def compare(
    family: Family | str = "pictoclip",
    tasks: Sequence[str] | None = None,
    method_names: Sequence[str] | None = None,
    *,
    tuned: bool = True,
    split: str = "test",
    seed: int = 0,
    job: Job = UNATTENDED,
) -> Comparison:
    """Base, experts and merge methods on the same pictures, in one run.

    Args:
        tasks: which experts are merged and evaluated; all of the family that can be evaluated when None.
        method_names: which methods, all registered ones when None.
        tuned: whether the coefficients are chosen on validation as well, for a second row a method.
        split: where the rows are evaluated, ``test`` unless for trying this out.
        seed: for methods that draw at random.
        job: told how far it is; stops it.

    Raises:
        SettingError: unknown family, task or method. SourceUnavailableError, CheckpointError: as `load_checkpoint`.
    """
    chosen = get_family(family) if isinstance(family, str) else family
    names = tuple(tasks) if tasks is not None else tuple(task for task in chosen.tasks if task in chosen.experts)
    if not names:
        raise SettingError("Name at least one task to compare on.")
    listed = [get_method(name) for name in (method_names if method_names is not None else methods())]
    bench = _Bench.open(chosen, names, split, tuned, seed)
    steps = 2 + sum(1 + (len(grid(method)) if tuned else 0) for method in listed)
    done = itertools.count(1)

    def report(what: str) -> None:
        job.report(next(done), steps, what)

    rows = [bench.row("base", "Base (zero-shot)", "base", {})]
    report("base")
    experts = expert_accuracies(chosen, bench.model, bench.heads, bench.final, bench.aligned.base)
    rows.append(_expert_row(experts, bench))
    report("experts")
    for method in listed:
        bench.merge(method, {})
        rows.append(bench.row(method.name, method.title, "default", check_values(method, {})))
        report(f"{method.title}, default")
        settings = grid(method) if tuned else ()
        if not settings:
            continue
        best, score = bench.search(method, settings, report)
        bench.merge(method, best)
        rows.append(bench.row(method.name, method.title, "validation", best, score, len(settings)))
    finished = tuple(_normalised(row, experts) for row in rows)
    counted = {task: len(samples) for task, samples in bench.final.samples.items()}
    return Comparison(chosen.name, names, split, counted, seed, finished)


@dataclass
class _Bench:
    """The one model that every merge is written into, with the pictures and heads it is tried on."""

    aligned: Aligned
    exact: Aligned  # the same with a base in float32, so that changes keep their small digits
    model: VisionModel
    heads: dict[str, Tensor]
    final: Batch
    validation: Batch | None
    seed: int

    @classmethod
    def open(cls, family: Family, tasks: Sequence[str], split: str, tuned: bool, seed: int) -> _Bench:
        base = load_checkpoint(family.base)
        experts = [load_checkpoint(family.source(task), name=task) for task in tasks]
        aligned = align(base, experts)
        wide = {key: value.float() if value.is_floating_point() else value for key, value in base.items()}
        exact = align(load_checkpoint(wide, name="base"), experts) if tuned else aligned
        model = VisionModel.from_checkpoint(base)
        heads = heads_of(family, TextModel.from_checkpoint(base), tasks)
        final = make_batch(samples_for(family, tasks, split), model)
        validation = make_batch(samples_for(family, tasks, "validation"), model) if tuned else None
        return cls(aligned, exact, model, heads, final, validation, seed)

    def merge(self, method: MergeMethod, values: Mapping[str, Any]) -> None:
        """Write the merge itself, in the precision it would be saved in, into the model."""
        merge_aligned(self.aligned, method, check_values(method, values), self._write, self.seed)

    def search(
        self, method: MergeMethod, settings: Sequence[Mapping[str, float]], report: Callable[[str], None]
    ) -> tuple[dict[str, float], float]:
        """The setting with the best mean accuracy on validation, and that accuracy; the first of equals."""
        assert self.validation is not None
        best: tuple[dict[str, float], float] = ({}, -1.0)
        for setting in self._written(method, settings):
            score = accuracy_of(self.model, self.heads, self.validation).mean
            if score > best[1]:
                best = (dict(setting), score)
            report(f"{method.title}, validation")
        return best

    def _written(self, method: MergeMethod, settings: Sequence[Mapping[str, float]]) -> Iterator[Mapping[str, float]]:
        """Each setting in turn, with its merge in the model: components are made once for all their coefficients."""
        vectors = AlignedVectors(self.exact)
        kept: tuple[Any, Any] = (None, None)
        for setting in settings:
            values = check_values(method, setting)
            structure = method.structure(values)
            if kept[0] != structure:
                run = method.begin(vectors, values, self.seed)
                kept = structure, (run, dict(components(vectors, method, run)))
            run, found = kept[1]
            used = method.resolve(replace(run, values=values).findings())
            for parameter, parts in found.items():
                combine(vectors.base(parameter), parts, used.at(parameter), self.model.weights[parameter.name])
            yield setting

    def _write(self, name: str, merged: Tensor) -> None:
        self.model.weights[name].copy_(merged)

    def row(
        self,
        name: str,
        title: str,
        kind: str,
        hyperparameters: Mapping[str, Any],
        validation: float | None = None,
        tried: int = 0,
    ) -> ComparedRow:
        """The model as it is now on the final pictures."""
        return _row(
            name, title, kind, hyperparameters, accuracy_of(self.model, self.heads, self.final), validation, tried
        )


def _row(
    name: str,
    title: str,
    kind: str,
    hyperparameters: Mapping[str, Any],
    counts: Counts,
    validation: float | None = None,
    tried: int = 0,
) -> ComparedRow:
    shares = {task: counts.correct[task] / n for task, n in counts.n.items()}
    return ComparedRow(
        name=name,
        title=title,
        kind=kind,
        hyperparameters=dict(hyperparameters),
        accuracy=shares,
        interval={task: accuracy_interval(counts.correct[task], n) for task, n in counts.n.items()},
        mean=counts.mean,
        mean_interval=mean_interval(shares, counts.n),
        normalised=None,
        validation=validation,
        tried=tried,
    )


def mean_interval(shares: Mapping[str, float], n: Mapping[str, int]) -> tuple[float, float]:
    """95 % interval of a mean of independent tasks' accuracies (normal approximation), within [0, 1]."""
    mean = sum(shares.values()) / len(shares)
    half = 1.959964 * math.sqrt(sum(share * (1 - share) / n[task] for task, share in shares.items())) / len(shares)
    return max(mean - half, 0.0), min(mean + half, 1.0)


def _expert_row(experts: Mapping[str, float], bench: _Bench) -> ComparedRow:
    n = {task: len(samples) for task, samples in bench.final.samples.items()}
    correct = {task: round(share * n[task]) for task, share in experts.items()}
    counts = Counts(correct, n, {task: np.empty(0, np.int64) for task in n})
    return _row("experts", "Experts (one model a task)", "expert", {}, counts)


def _normalised(row: ComparedRow, experts: Mapping[str, float]) -> ComparedRow:
    shares = [row.accuracy[task] / expert for task, expert in experts.items() if expert]
    return ComparedRow(**{**asdict(row), "normalised": sum(shares) / len(shares) if shares else None})


def _percent(share: float, interval: tuple[float, float]) -> str:
    return f"{100 * share:.1f} [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"


def _setting(row: ComparedRow) -> str:
    if row.kind in ("base", "expert") or not row.hyperparameters:
        return ""
    values = ", ".join(
        f"{name} {value if value == AUTO or isinstance(value, str) else format(value, 'g')}"
        for name, value in row.hyperparameters.items()
    )
    return f"*validation*: {values}" if row.kind == "validation" else f"default: {values}"
