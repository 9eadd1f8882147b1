"""One table of every method: base, experts, and each method by three ways to its coefficients.

The ways are the published default, retention 1 (no data) and the best on validation. The rules that make the table
fair are few and fixed. Every tuned method gets the same number of settings (`entries.BUDGET`), laid out before
anything is seen; the best mean accuracy on the validation split decides, the first of equals; the test split is looked
at once, for the settings that are in the table. Whatever comes out is the table.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.contents import BASE, Contents
from neuromerge.errors import Cancelled, SettingError
from neuromerge.evaluation.families import Family
from neuromerge.merging.registry import check_values
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.entries import BUDGET, Entry, Kind, Values, entries
from neuromerge.search.objective import mean_score
from neuromerge.settings.choices import make_setting, order_tasks, short
from neuromerge.settings.setting import Setting, Value

COLUMNS: dict[Kind, str] = {
    "default": "published default",
    "retention": "retention 1",
    "validation": "chosen on validation",
}
"""The three ways to coefficients, by kind of row."""


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

    def notes(self, tasks: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
        """Sentences about pictures of some splits that were sampled or left out."""
        ...


@dataclass(frozen=True)
class ComparedRow:
    """One line of the table: a model and how it does on every task (shares in [0, 1], 95 % intervals).

    Attributes:
        kind: what it is, or where its coefficients come from.
        normalised: mean over tasks of the share of its expert's accuracy that is reached; None where it is unknown.
        validation: the mean validation accuracy that chose the coefficients, of `tried` settings.
        method: what merges; "" for base and experts.
    """

    name: str
    title: str
    kind: Kind
    hyperparameters: dict[str, Value]
    accuracy: dict[str, float]
    interval: dict[str, tuple[float, float]]
    mean: float
    mean_interval: tuple[float, float]
    normalised: float | None
    validation: float | None = None
    tried: int = 0
    method: str = ""


def as_json(comparison: dict[str, Any]) -> str:
    """A comparison's fields as JSON. Hyperparameters are called as in recipes and in the other commands."""
    for row in comparison["rows"]:
        row["parameters"] = row.pop("hyperparameters")
    return json.dumps(comparison, indent=2)


def looked_at(split: str, tuned: bool) -> tuple[str, ...]:
    """The splits that a comparison looks at."""
    return (split, "validation") if tuned and split != "validation" else (split,)


def as_lines(notes: Sequence[str]) -> list[str]:
    """Sentences below a table, as paragraphs of Markdown."""
    return [f"\nNote: {note}" for note in notes]


@dataclass(frozen=True)
class Comparison:
    """The table, with everything that is needed to make it again.

    `done` of `entries` methods and variants are in it. `sources` are those of base and experts, with the commits that
    branches of the Hub stood for. `refined_on` counts the pictures of the table that is to follow a whole one of fewer
    pictures, which stays until then: `done` counts the methods of that; 0 where none is.
    """

    family: str
    tasks: tuple[str, ...]
    split: str
    n: dict[str, int]
    seed: int
    rows: tuple[ComparedRow, ...] = field(default=())
    notes: tuple[str, ...] = ()
    done: int = 0
    entries: int = 0
    sources: dict[str, str] = field(default_factory=dict)
    refined_on: int = 0

    def to_json(self) -> str:
        """As JSON."""
        return as_json(asdict(self))

    def to_text(self) -> str:
        """As text: the Markdown table."""
        return self.to_markdown()

    def to_markdown(self) -> str:
        """As two Markdown tables in percent: means by where coefficients come from, and all rows by task."""
        return "\n".join([*self._columns(), "", *self._rows(), "", self._note(), *as_lines(self.notes)])

    def _columns(self) -> list[str]:
        """The mean of every method at each of the three ways to its coefficients."""
        methods: dict[str, dict[str, ComparedRow]] = {}
        for row in self.rows:
            methods.setdefault(row.title, {})[row.kind] = row
        lines = [f"| model | {' | '.join(COLUMNS.values())} |", f"|{'---|' * (1 + len(COLUMNS))}"]
        for title, kinds in methods.items():
            alone = kinds.get("base") or kinds.get("expert") or kinds.get("given")
            found = [alone] if alone else [kinds.get(kind) for kind in COLUMNS]
            cells = ["" if row is None else _percent(row.mean, row.mean_interval) for row in found]
            lines.append(f"| {' | '.join([title, *cells, *[''] * (len(COLUMNS) - len(cells))])} |")
        return lines

    def _rows(self) -> list[str]:
        head = ["model", "coefficients", *self.tasks, "mean", "of experts"]
        lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---' for _ in head)}|"]
        for row in self.rows:
            cells = [_percent(row.accuracy[task], row.interval[task]) for task in self.tasks]
            share = "" if row.normalised is None else f"{100 * row.normalised:.1f}"
            cells = [row.title, _setting(row), *cells, f"**{_percent(row.mean, row.mean_interval)}**", share]
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def _note(self) -> str:
        pictures = ", ".join(f"{task} {self.n[task]}" for task in self.tasks)
        tried = max((row.tried for row in self.rows), default=0)
        chosen = (
            f"*validation*: the best of {tried} settings by mean accuracy on the validation split; " if tried else ""
        )
        stopped = "" if self.done == self.entries else f"Stopped after {self.done} of {self.entries} methods. "
        return (
            f"{stopped}Zero-shot top-1 accuracy in percent on the {self.split} split of {self.family} with its 95 % "
            f"interval (Wilson; of the mean: normal, over tasks). Pictures: {pictures}. Coefficients: {chosen}"
            "*retention*: what leaves the tasks, on average, all of what they learned, without data; *default*: as "
            f"published, or the natural value of a method of ours. Seed {self.seed}."
        )


def compare(
    scorer: Scorer,
    tasks: Sequence[str] | None = None,
    method_names: Sequence[str] | None = None,
    *,
    tuned: bool = True,
    budget: int = BUDGET,
    split: str = "test",
    seed: int = 0,
    job: Job = UNATTENDED,
) -> Comparison:
    """Base, experts and merge methods on the same pictures, in one run: the last table of `growing`.

    When `job` is stopped (or with Ctrl-C) what is measured is returned, once there is a method in it.
    """
    last: Comparison | None = None
    try:
        for table in growing(scorer, tasks, method_names, tuned=tuned, budget=budget, split=split, seed=seed, job=job):
            last = table
    except (Cancelled, KeyboardInterrupt):
        if last is None or not last.done:
            raise
    assert last is not None, "a table is there before anything is merged"
    return last


def growing(
    scorer: Scorer,
    tasks: Sequence[str] | None = None,
    method_names: Sequence[str] | None = None,
    *,
    given: Setting | None = None,
    tuned: bool = True,
    budget: int = BUDGET,
    split: str = "test",
    seed: int = 0,
    job: Job = UNATTENDED,
) -> Iterator[Comparison]:
    """Base, experts and merge methods on the same pictures, in one run; the table after each method.

    Args:
        scorer: measures them.
        tasks: which experts are merged and evaluated; all of the family that can be evaluated when None.
        method_names: which methods and variants, all there are when None.
        given: a merge of somebody's own, for a row beside them.
        tuned: whether the coefficients are chosen on validation as well, for a row more a method.
        budget: how many settings each may try there.
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
    listed = entries(method_names)
    grids = {entry.name: entry.grid(budget) if tuned else () for entry in listed}
    steps = 2 + sum(1 + (entry.retention is not None) + len(grids[entry.name]) for entry in listed)
    done = itertools.count(1)
    quiet = job.quiet()  # progress counts settings, not pictures

    def scores(contents: Contents, on: Sequence[str], where: str, what: str) -> Mapping[str, Accuracy]:
        found = scorer.scores(contents, on, where, quiet)
        if what:
            job.report(next(done), steps, what)
        return found

    def merged(entry: Entry, values: Values) -> Contents:
        return Contents(setting=make_setting(family, names, entry.method.name, values, seed))

    base = scores(BASE, names, split, "base")
    experts = {task: scores(Contents(task=task), (task,), split, "")[task] for task in names}
    job.report(next(done), steps, "experts")
    rows = [
        _row("base", "Base (zero-shot)", "base", {}, base),
        _row("experts", "Experts (one model a task)", "expert", {}, experts),
    ]
    if given is not None:
        found = scores(Contents(setting=given), names, split, "")
        rows.append(_row("given", "This merge", "given", dict(given.hyperparameters), found, given.method))
    shares = {task: accuracy.value for task, accuracy in experts.items()}
    counted = {task: accuracy.n for task, accuracy in base.items()}
    notes = scorer.notes(names, looked_at(split, tuned))
    sources = family.commits(names)

    def table(finished: int) -> Comparison:
        complete = tuple(replace(row, normalised=_normalised(row, shares)) for row in rows)
        return Comparison(family.name, names, split, counted, seed, complete, notes, finished, len(listed), sources)

    yield table(0)
    for number, entry in enumerate(listed, start=1):
        method = entry.method
        found = scores(merged(entry, entry.own), names, split, f"{entry.title}, default")
        rows.append(_row(entry.name, entry.title, "default", check_values(method, entry.own), found, method.name))
        if entry.retention is not None:
            found = scores(merged(entry, entry.retention), names, split, f"{entry.title}, retention")
            rows.append(_row(entry.name, entry.title, "retention", entry.retention, found, method.name))
        if tried := grids[entry.name]:

            def on_validation(values: Values, entry: Entry = entry) -> float:
                return mean_of(scores(merged(entry, values), names, "validation", f"{entry.title}, validation"))

            best, value = first_best(tried, on_validation)
            found = scores(merged(entry, best), names, split, "")
            row = _row(entry.name, entry.title, "validation", best, found, method.name)
            rows.append(replace(row, validation=value, tried=len(tried)))
        yield table(number)


def first_best(tried: Sequence[Values], score: Callable[[Values], float]) -> tuple[Values, float]:
    """The values with the highest score, the first of equals, and that score."""
    scored = [(values, score(values)) for values in tried]
    return max(scored, key=lambda pair: pair[1])


def _row(
    name: str,
    title: str,
    kind: Kind,
    hyperparameters: Mapping[str, Value],
    scores: Mapping[str, Accuracy],
    method: str = "",
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
        method=method,
    )


def mean_of(scores: Mapping[str, Accuracy]) -> float:
    """Mean accuracy over tasks."""
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
    return f"*{row.kind}*: {values}"
