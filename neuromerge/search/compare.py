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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.models import BASE, Contents
from neuromerge.errors import SettingError
from neuromerge.evaluation.families import Family
from neuromerge.merging import methods
from neuromerge.merging.linear import SCALE
from neuromerge.merging.registry import MergeMethod, get_method
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.objective import mean_score
from neuromerge.settings.choices import make_setting, order_tasks, short
from neuromerge.settings.setting import Setting, Value

BUDGET = 72
LARGEST_SCALE = 2.88


class Scorer(Protocol):
    """What measures base, experts and merges on the same pictures, such as `engine.models.Models`."""

    @property
    def family(self) -> Family:
        """Whose tasks and experts they are."""
        ...

    def scores(
        self, contents: Contents, tasks: Sequence[str], split: str, job: Job = UNATTENDED
    ) -> Mapping[str, Accuracy]:
        """Accuracy of what `contents` names on a split, by task."""
        ...


def grid(method: MergeMethod) -> tuple[dict[str, float], ...]:
    """The settings that are tried on validation: `BUDGET` of them, none for a method without coefficients.

    The method's specification says which values of its hyperparameters are worth trying. Where one coefficient
    multiplies the whole change, what is left of the budget goes to it, in even steps up to `LARGEST_SCALE`.
    """
    if not method.coefficients:
        return ()
    values = {spec.name: spec.grid for spec in method.hyperparameters if spec.grid and spec.name != SCALE}
    if method.coefficients == (SCALE,):
        steps = BUDGET // math.prod(map(len, values.values()))
        values[SCALE] = tuple(round(LARGEST_SCALE * step / steps, 4) for step in range(1, steps + 1))
    return tuple(dict(zip(values, point, strict=True)) for point in itertools.product(*values.values()))


@dataclass(frozen=True)
class ComparedRow:
    """One line of the table: a model and how it does on every task (shares in [0, 1], 95 % intervals).

    Attributes:
        kind: ``base``, ``expert``, ``default`` or ``validation`` (coefficients chosen there).
        normalised: mean over tasks of the share of its expert's accuracy that is reached; None where it is unknown.
        validation: the mean validation accuracy that chose the coefficients, of `tried` settings.
    """

    name: str
    title: str
    kind: str
    hyperparameters: dict[str, Value]
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
        plain = asdict(self)
        for row in plain["rows"]:
            row["parameters"] = row.pop("hyperparameters")  # the word of recipes and of the other commands
        return json.dumps(plain, indent=2)

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
    scorer: Scorer,
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
        scorer: measures them.
        tasks: which experts are merged and evaluated; all of the family that can be evaluated when None.
        method_names: which methods, all registered ones when None.
        tuned: whether the coefficients are chosen on validation as well, for a second row a method.
        split: where the rows are evaluated, ``test`` unless for trying this out.
        seed: for methods that draw at random.
        job: told how far it is; stops it.

    Raises:
        SettingError: unknown task or method. SourceUnavailableError, CheckpointError: as `load_checkpoint`.
    """
    family = scorer.family
    chosen = tuple(tasks) if tasks is not None else tuple(task for task in family.tasks if task in family.experts)
    if not chosen:
        raise SettingError("Name at least one task to compare on.")
    names = order_tasks(family, chosen)
    listed = [get_method(name) for name in (method_names if method_names is not None else methods())]
    steps = 2 + sum(1 + (len(grid(method)) if tuned else 0) for method in listed)
    done = itertools.count(1)
    quiet = Job(check=job.check)  # progress counts settings, not pictures

    def scores(contents: Contents, on: Sequence[str], where: str, what: str) -> Mapping[str, Accuracy]:
        found = scorer.scores(contents, on, where, quiet)
        if what:
            job.report(next(done), steps, what)
        return found

    def setting(method: MergeMethod, values: Mapping[str, Any]) -> Setting:
        return make_setting(family, names, method.name, values, seed)

    base = scores(BASE, names, split, "base")
    experts = {task: scores(Contents(task=task), (task,), split, "")[task] for task in names}
    job.report(next(done), steps, "experts")
    rows = [
        _row("base", "Base (zero-shot)", "base", {}, base),
        _row("experts", "Experts (one model a task)", "expert", {}, experts),
    ]
    for method in listed:
        default = setting(method, {})
        found = scores(Contents(setting=default), names, split, f"{method.title}, default")
        rows.append(_row(method.name, method.title, "default", dict(default.hyperparameters), found))
        tried = grid(method) if tuned else ()
        if not tried:
            continue

        def on_validation(values: Mapping[str, Any], method: MergeMethod = method) -> float:
            contents = Contents(setting=setting(method, values))
            return _mean(scores(contents, names, "validation", f"{method.title}, validation"))

        best, value = _first_best(tried, on_validation)
        found = scores(Contents(setting=setting(method, best)), names, split, "")
        row = _row(method.name, method.title, "validation", best, found)
        rows.append(replace(row, validation=value, tried=len(tried)))
    shares = {task: accuracy.value for task, accuracy in experts.items()}
    counted = {task: accuracy.n for task, accuracy in base.items()}
    finished = tuple(replace(row, normalised=_normalised(row, shares)) for row in rows)
    return Comparison(family.name, names, split, counted, seed, finished)


def _first_best(
    tried: Sequence[dict[str, float]], score: Callable[[Mapping[str, float]], float]
) -> tuple[dict[str, float], float]:
    """The values with the highest score, the first of equals, and that score."""
    scored = [(values, score(values)) for values in tried]
    return max(scored, key=lambda pair: pair[1])


def _row(
    name: str, title: str, kind: str, hyperparameters: Mapping[str, Value], scores: Mapping[str, Accuracy]
) -> ComparedRow:
    shares = {task: accuracy.value for task, accuracy in scores.items()}
    return ComparedRow(
        name=name,
        title=title,
        kind=kind,
        hyperparameters=dict(hyperparameters),
        accuracy=shares,
        interval={task: (accuracy.low, accuracy.high) for task, accuracy in scores.items()},
        mean=mean_score(shares),
        mean_interval=mean_interval(shares, {task: accuracy.n for task, accuracy in scores.items()}),
        normalised=None,
    )


def _mean(scores: Mapping[str, Accuracy]) -> float:
    return mean_score({task: accuracy.value for task, accuracy in scores.items()})


def mean_interval(shares: Mapping[str, float], n: Mapping[str, int]) -> tuple[float, float]:
    """95 % interval of a mean of independent tasks' accuracies (normal approximation), within [0, 1]."""
    mean = mean_score(shares)
    half = 1.959964 * math.sqrt(sum(share * (1 - share) / n[task] for task, share in shares.items())) / len(shares)
    return max(mean - half, 0.0), min(mean + half, 1.0)


def _normalised(row: ComparedRow, experts: Mapping[str, float]) -> float | None:
    shares = [row.accuracy[task] / expert for task, expert in experts.items() if expert]
    return sum(shares) / len(shares) if shares else None


def _percent(share: float, interval: tuple[float, float]) -> str:
    return f"{100 * share:.1f} [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]"


def _setting(row: ComparedRow) -> str:
    if not row.hyperparameters:
        return ""
    values = ", ".join(f"{name} {short(value)}" for name, value in row.hyperparameters.items())
    return f"*validation*: {values}" if row.kind == "validation" else f"default: {values}"
