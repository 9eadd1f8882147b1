"""The comparison over many sets of tasks: the same random subsets for every method, and paired differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from neuromerge.engine.contents import BASE, Contents
from neuromerge.errors import SettingError
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.compare import COLUMNS, Scorer, as_json, as_lines, first_best, looked_at, mean_of
from neuromerge.search.entries import Entry, Kind, Values, entries
from neuromerge.search.subsets import Difference, paired_difference, random_subsets, share_of_the_way
from neuromerge.settings.choices import make_setting, order_tasks

SUBSETS = 20
BUDGET = 6
"""Settings that every entry may try on validation, for each subset."""
REFERENCE = ("task_arithmetic", "default")
"""What differences are taken to, where it is among the rows: the method everybody knows, as published."""


@dataclass(frozen=True)
class SubsetRow:
    """One method by one way to its coefficients, over all subsets (shares in [0, 1]).

    Attributes:
        name, title, kind: as in `compare.ComparedRow`.
        accuracy: mean accuracy over the tasks of each subset.
        way: how far from the base to the experts, for each subset.
        hyperparameters: in use, for each subset.
        mean, mean_way: over subsets.
        difference: of `way` to the reference, subset by subset; None for the reference.
    """

    name: str
    title: str
    kind: Kind
    accuracy: tuple[float, ...]
    way: tuple[float, ...]
    hyperparameters: tuple[Values, ...]
    mean: float
    mean_way: float
    difference: Difference | None = None


@dataclass(frozen=True)
class SubsetComparison:
    """The rows, with everything that is needed to make them again."""

    family: str
    subsets: tuple[tuple[str, ...], ...]
    split: str
    seed: int
    budget: int
    reference: str
    rows: tuple[SubsetRow, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As JSON."""
        return as_json(asdict(self))

    def to_text(self) -> str:
        """As text: the Markdown table."""
        return self.to_markdown()

    def to_markdown(self) -> str:
        """As a Markdown table: the share of the way to the experts in percent, and differences to the reference."""
        methods: dict[str, dict[str, SubsetRow]] = {}
        for row in self.rows:
            methods.setdefault(row.title, {})[row.kind] = row
        lines = [f"| model | {' | '.join(COLUMNS.values())} |", f"|{'---|' * (1 + len(COLUMNS))}"]
        for title, kinds in methods.items():
            cells = [_cell(kinds.get(kind)) for kind in COLUMNS]
            lines.append(f"| {' | '.join([title, *cells])} |")
        sizes = ", ".join(str(len(subset)) for subset in self.subsets)
        lines += [
            "",
            "How far merges get from the base (0) to one expert a task (100), by mean accuracy on the "
            f"{self.split} split of {self.family}; mean over {len(self.subsets)} random subsets of {sizes} tasks, the "
            f"same for all. In brackets the difference to {self.reference} on the same subset with its 95 % interval "
            f"(bootstrap over subsets). Chosen on validation: the best of {self.budget} settings for each subset. "
            f"Seed {self.seed}.",
            *as_lines(self.notes),
        ]
        return "\n".join(lines)


def compare_subsets(
    scorer: Scorer,
    tasks: Sequence[str] | None = None,
    compared: Sequence[str | Entry] | None = None,
    *,
    subsets: int = SUBSETS,
    tuned: bool = True,
    budget: int = BUDGET,
    split: str = "test",
    seed: int = 0,
    job: Job = UNATTENDED,
) -> SubsetComparison:
    """Merge methods on random subsets of tasks, the same for every method.

    Args:
        scorer: measures base, experts and merges.
        tasks: which tasks subsets are drawn from; all of the family that can be evaluated when None.
        compared: which methods and variants, by name or as entries of one's own; all there are when None.
        subsets: how many, of 2 tasks to all of them.
        tuned: whether coefficients are chosen on validation as well.
        budget: how many settings each method may try there, for each subset.
        split: where merges are evaluated.
        seed: of the subsets, and of methods that draw at random.
        job: told how far it is; stops it.

    Raises:
        SettingError: unknown task or method, or fewer than two tasks. Others as `load_checkpoint`.
    """
    family = scorer.family
    names = tuple(tasks) if tasks is not None else tuple(task for task in family.tasks if task in family.experts)
    names = order_tasks(family, names)
    if subsets < 1:
        raise SettingError("Ask for at least one subset.")
    drawn = random_subsets(names, subsets, seed)
    listed = entries() if compared is None else [e if isinstance(e, Entry) else entries([e])[0] for e in compared]
    ways = {entry.name: _settings(entry, budget if tuned else 0) for entry in listed}
    steps = 1 + len(drawn) * sum(len(found) for kinds in ways.values() for found in kinds.values())
    done, quiet = itertools.count(1), job.quiet()  # progress counts settings, not pictures
    base = {task: accuracy.value for task, accuracy in scorer.scores(BASE, names, split, quiet).items()}
    experts = {task: scorer.scores(Contents(task=task), (task,), split, quiet)[task].value for task in names}
    job.report(next(done), steps, "base and experts")
    found: dict[tuple[str, Kind], list[tuple[float, float, Values]]] = {}
    for subset in drawn:
        zero, full = (sum(known[task] for task in subset) / len(subset) for known in (base, experts))
        for entry in listed:

            def score(values: Values, where: str, entry: Entry = entry, subset: tuple[str, ...] = subset) -> float:
                setting = make_setting(family, subset, entry.method.name, values, seed)
                return mean_of(scorer.scores(Contents(setting=setting), subset, where, quiet))

            for kind, settings in ways[entry.name].items():

                def tried(values: Values, score: Callable[..., float] = score, what: str = entry.title) -> float:
                    value = score(values, "validation")
                    job.report(next(done), steps, f"{what}, validation")
                    return value

                best = first_best(settings, tried)[0] if kind == "validation" else settings[0]
                accuracy = score(best, split)
                if kind != "validation":
                    job.report(next(done), steps, f"{entry.title}, {kind}")
                found.setdefault((entry.name, kind), []).append(
                    (accuracy, share_of_the_way(accuracy, zero, full), best)
                )
    table = _collected(family.name, drawn, split, seed, budget, listed, found)
    return replace(table, notes=scorer.notes(names, looked_at(split, tuned)))


def _settings(entry: Entry, budget: int) -> dict[Kind, Sequence[Values]]:
    """The settings to try by each way to coefficients."""
    ways: dict[Kind, Sequence[Values]] = {"default": (entry.own,)}
    if entry.retention is not None:
        ways["retention"] = (entry.retention,)
    if budget and (settings := entry.grid(budget)):
        ways["validation"] = settings
    return ways


def _collected(
    family: str,
    subsets: tuple[tuple[str, ...], ...],
    split: str,
    seed: int,
    budget: int,
    listed: Sequence[Entry],
    found: Mapping[tuple[str, Kind], list[tuple[float, float, Values]]],
) -> SubsetComparison:
    """The rows in the order of the entries, with differences to the reference."""
    keys = [(entry, kind) for entry in listed for kind in COLUMNS if (entry.name, kind) in found]
    names = [(entry.name, kind) for entry, kind in keys]
    reference = REFERENCE if REFERENCE in names else names[0]
    theirs = [way for _, way, _ in found[reference]]
    rows = []
    for entry, kind in keys:
        results = found[entry.name, kind]
        accuracy, way, settings = (tuple(column) for column in zip(*results, strict=True))
        difference = None if (entry.name, kind) == reference else paired_difference(way, theirs)
        mean, mean_way = sum(accuracy) / len(accuracy), sum(way) / len(way)
        rows.append(SubsetRow(entry.name, entry.title, kind, accuracy, way, settings, mean, mean_way, difference))
    title = next(entry.title for entry in listed if entry.name == reference[0])
    return SubsetComparison(family, subsets, split, seed, budget, f"{title} ({COLUMNS[reference[1]]})", tuple(rows))


def _cell(row: SubsetRow | None) -> str:
    if row is None:
        return ""
    share = f"{100 * row.mean_way:.0f}"
    if row.difference is None:
        return f"{share} (reference)"
    return f"{share} [{100 * row.difference.low:+.0f}, {100 * row.difference.high:+.0f}]"
