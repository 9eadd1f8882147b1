"""Searching good coefficients on validation data, with Optuna; alone, resumed, or on several machines.

A search varies some of a method's hyperparameters and scores each setting by the mean validation accuracy of the
merged tasks. Test data are never touched. With a `storage` (a database URL, or the path of an SQLite file)
the study outlives the process: start it again and it goes on; start it on several machines and they share it.
A trial whose process died is noticed by its missing heartbeat and its place is given away.
"""

from __future__ import annotations

import csv
import io
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from neuromerge.errors import Cancelled, NeuroMergeError, SettingError, StorageError
from neuromerge.exploration.results import Trial
from neuromerge.merging import registry
from neuromerge.merging.registry import Hyperparameter
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.choices import check_seed, family_of, make_setting, quoted
from neuromerge.settings.setting import Setting, Value

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

SAMPLERS = ("tpe", "grid")
MAX_TRIALS = 10_000
HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
_OPEN_ATTEMPTS = 6
_RACE = re.compile("unique constraint|already exists|duplicate|locked|no such table|no such revision", re.IGNORECASE)
_PREFERRED_AXES = ("lambda_parallel", "lambda_orthogonal", "trim_ratio")

Objective = Callable[[Setting, Job], Mapping[str, float]]
"""Validation accuracy in [0, 1] of every merged task under a setting."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One searched parameter: a numeric range [low, high], or a set of choices."""

    name: str
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def grid(self, points: int) -> list[Value]:
        """About `points` evenly spread values, ends included; all of the choices."""
        if self.choices:
            return list(self.choices)
        if points < 2 or self.low == self.high:
            return [self._tidy((self.low + self.high) / 2)]
        values = [self._tidy(self.low + (self.high - self.low) * i / (points - 1)) for i in range(points)]
        return list(dict.fromkeys(values))

    def _tidy(self, value: float) -> Value:
        return round(value) if self.whole else round(value, 4)


def axes_of(
    method: str, names: Sequence[str] | None = None, ranges: Mapping[str, Sequence[float]] | None = None
) -> tuple[Axis, ...]:
    """The axes of a search over `method`'s hyperparameters.

    `names` None takes lambda_1, lambda_2 and the trim ratio where the method has them, else all its
    hyperparameters. `ranges` narrows a numeric parameter to (low, high) or widens it within what is legal.

    Raises SettingError for a name the method does not have, or an illegal or empty range.
    """
    specs = {spec.name: spec for spec in registry.get_method(method).hyperparameters}
    ranges = dict(ranges or {})
    if names is None:
        names = list(_PREFERRED_AXES) if set(_PREFERRED_AXES) <= set(specs) else list(specs)
        names = list(dict.fromkeys([*names, *ranges]))
    if not names:
        raise SettingError(f"The method {method} has no parameter to search.")
    unknown = [name for name in (*names, *ranges) if name not in specs]
    if unknown:
        raise SettingError(
            f"The method {method} has no parameter {quoted(unknown[0])}. It has: {', '.join(specs) or 'none'}."
        )
    return tuple(_axis(specs[name], ranges.get(name)) for name in dict.fromkeys(names))


def _axis(spec: Hyperparameter, given: Sequence[float] | None) -> Axis:
    if spec.kind in ("choice", "bool"):
        if given is not None:
            raise SettingError(f"{spec.name} has no range; it is searched over all its choices.")
        return Axis(spec.name, choices=spec.choices if spec.kind == "choice" else (False, True))
    if given is not None and (isinstance(given, str) or len(given) != 2):
        raise SettingError(f"The range of {spec.name} must be two numbers, low and high.")
    if given is None:
        given = spec.slider or (spec.minimum or 0.0, 1.0 if spec.maximum is None else spec.maximum)
        if spec.exclusive_maximum and spec.maximum is not None and given[1] >= spec.maximum:
            given = (given[0], spec.maximum - (spec.step or 0.01))
    low, high = (spec.check(end) for end in given)
    if isinstance(low, str) or isinstance(high, str) or low > high:
        raise SettingError(f"The range of {spec.name} must go from a low to a higher number.")
    return Axis(spec.name, float(low), float(high), spec.kind == "int")


@dataclass(frozen=True)
class SweepResult:
    """What a search found.

    Attributes:
        trials: every trial of the study, in order.
        best: the setting with the highest mean validation accuracy (the earliest of equals), None without any.
        best_value: its mean validation accuracy in [0, 1].
        importances: share of the differences between trials that each parameter explains (sums to 1); empty
            with fewer than four complete trials.
        study_name, storage, seed: how to go on with the study.
    """

    trials: tuple[Trial, ...]
    best: Setting | None
    best_value: float | None
    importances: dict[str, float] = field(default_factory=dict)
    study_name: str = ""
    storage: str | None = None
    seed: int = 0


class Search:
    """One search: a study that varies some hyperparameters of a starting setting.

    Args:
        objective: scores a setting; see `Objective`. Called in the thread that iterates `run`.
        start: family, tasks, method, seed, and the values of hyperparameters that are not searched.
        axes: what is searched (`axes_of`).
        trials: how many complete trials the study shall have in all, other processes' included.
        sampler: ``tpe`` or ``grid``. A grid has as many points as fit into `trials`.
        storage: database URL or path of an SQLite file; None keeps the study in memory.
        study_name: the study's name in the storage; made from the search when None.
        seed: of the sampler.

    Raises SettingError for illegal values or when the stored study searches something else, StorageError when
    the storage cannot be used.
    """

    def __init__(
        self,
        objective: Objective,
        start: Setting,
        *,
        axes: Sequence[Axis] | None = None,
        trials: int = 40,
        sampler: str = "tpe",
        storage: str | None = None,
        study_name: str | None = None,
        seed: int = 0,
        family: Family | str | None = None,
    ) -> None:
        if sampler not in SAMPLERS:
            raise SettingError(f"The sampler must be one of {', '.join(SAMPLERS)}, not {quoted(sampler)}.")
        if isinstance(trials, bool) or not isinstance(trials, int) or not 1 <= trials <= MAX_TRIALS:
            raise SettingError(f"The number of trials must be from 1 to {MAX_TRIALS}, not {quoted(trials)}.")
        self._objective = objective
        self._start = start
        self._family = family or start.family
        self._axes = tuple(axes) if axes is not None else axes_of(start.method)
        self._sampler_name = sampler
        self._seed = check_seed(seed)
        self.study_name = study_name or _default_name(start)
        self.storage = storage
        self._sampler = self._make_sampler(trials)
        self.total = min(trials, len(self._sampler)) if sampler == "grid" else trials
        self._study = self._open_study()

    def run(self, job: Job = UNATTENDED) -> Iterator[Trial]:
        """Run trials until the study has `total` complete ones, yielding each of this process's as it ends.

        `check` is called between and during trials; when it raises Cancelled, the trial under way is given
        up, finished ones are kept, and Cancelled goes on to the caller.
        """
        while self.finished < self.total and not self._exhausted():
            job.check()
            ended: list[Any] = []
            with _storage_errors(self.storage):
                self._study.optimize(partial(self._evaluate, job), n_trials=1, callbacks=[partial(_keep, ended)])
            yield from map(self._row, ended)

    @property
    def finished(self) -> int:
        """Number of complete trials in the study."""
        from optuna.trial import TrialState

        with _storage_errors(self.storage):
            return len(self._study.get_trials(False, (TrialState.COMPLETE,)))

    def rows(self) -> tuple[Trial, ...]:
        """Every trial of the study so far, other processes' included, in order of their numbers."""
        with _storage_errors(self.storage):
            return tuple(self._row(frozen) for frozen in self._study.get_trials(deepcopy=False))

    def best(self) -> Trial | None:
        """The complete trial with the highest value, the earliest of equals; None without any."""
        complete = [row for row in self.rows() if row.state == "complete" and row.value is not None]
        return max(complete, key=lambda row: (row.value or 0.0, -row.number), default=None)

    def setting(self, trial: Trial) -> Setting:
        """The whole setting of a trial: apply it and the merge is the one that was scored."""
        return self._setting(trial.hyperparameters)

    def importances(self) -> dict[str, float]:
        """Share of the differences that each parameter explains, largest first; empty with few trials."""
        from optuna.exceptions import OptunaError
        from optuna.importance import get_param_importances

        if self.finished < 4 or len(self._axes) < 2:
            return {}
        try:
            with _storage_errors(self.storage):
                found = get_param_importances(self._study)
        except (OptunaError, ValueError, RuntimeError):
            return {}  # all trials scored the same, or drew too few different values: nothing to explain
        return {name: float(value) for name, value in found.items() if math.isfinite(value)}

    def result(self) -> SweepResult:
        """The state of the study as one value."""
        best = self.best()
        return SweepResult(
            trials=self.rows(),
            best=None if best is None else self.setting(best),
            best_value=None if best is None else best.value,
            importances=self.importances(),
            study_name=self.study_name,
            storage=self.storage,
            seed=self._seed,
        )

    # ------------------------------------------------------------------------------------------ internals

    def _make_sampler(self, trials: int) -> Any:
        from neuromerge.search import samplers

        samplers.quiet()
        if self._sampler_name == "tpe":
            return samplers.NumberedTPE(self._seed)
        fixed = math.prod(len(axis.choices) for axis in self._axes if axis.choices)
        ranges = sum(1 for axis in self._axes if not axis.choices)
        points = max(2, math.floor((trials / fixed) ** (1 / ranges) + 1e-9)) if ranges else 1
        return samplers.StagedGrid({axis.name: axis.grid(points) for axis in self._axes}, self._seed)

    def _open_study(self) -> Any:
        study = self._create_study()
        with _storage_errors(self.storage):
            described = self._description()
            known = study.user_attrs.get("search")
            if known is None:
                study.set_user_attr("search", described)
            elif known != described:
                different = ", ".join(key for key in described if known.get(key) != described[key])
                raise SettingError(
                    f"The study {self.study_name!r} in this storage searches something else (different: "
                    f"{different}). Choose another study name."
                )
        return study

    def _create_study(self) -> Any:
        import optuna

        for attempt in range(_OPEN_ATTEMPTS):
            try:
                with _storage_errors(self.storage):
                    return optuna.create_study(
                        storage=_open_storage(self.storage),
                        study_name=self.study_name,
                        sampler=self._sampler,
                        direction="maximize",
                        load_if_exists=True,
                    )
            except StorageError as error:
                # Several machines that start together all try to make the tables; the losers find them made.
                if attempt + 1 == _OPEN_ATTEMPTS or not _RACE.search(str(error)):
                    raise
                time.sleep(0.2 * (attempt + 1))
        raise AssertionError("the last attempt returns or raises")

    def _description(self) -> dict[str, Any]:
        """What trials of one study must share to be comparable. Ranges may differ: a search may be refined."""
        searched = {axis.name for axis in self._axes}
        return {
            "family": self._start.family,
            "tasks": list(self._start.tasks),
            "method": self._start.method,
            "seed": self._start.seed if registry.get_method(self._start.method).stochastic else 0,
            "searched": sorted(searched),
            "fixed": {name: value for name, value in self._start.hyperparameters if name not in searched},
        }

    def _exhausted(self) -> bool:
        if self._sampler_name != "grid":
            return False
        with _storage_errors(self.storage):
            return bool(self._sampler.is_exhausted(self._study))

    def _evaluate(self, job: Job, trial: Any) -> float:
        trial.set_user_attr("origin", self._sampler_name)
        setting = self._setting({axis.name: _suggest(trial, axis) for axis in self._axes})
        scores = self._objective(setting, job)
        trial.set_user_attr("per_task", dict(scores))
        return sum(scores.values()) / len(scores)

    def _setting(self, searched: Mapping[str, Any]) -> Setting:
        values = {**dict(self._start.hyperparameters), **searched}
        return make_setting(self._family, self._start.tasks, self._start.method, values, self._start.seed)

    def _row(self, frozen: Any) -> Trial:
        started, ended = frozen.datetime_start, frozen.datetime_complete
        return Trial(
            number=frozen.number,
            origin=str(frozen.user_attrs.get("origin", self._sampler_name)),
            hyperparameters={name: _tidied(value) for name, value in frozen.params.items()},
            value=frozen.values[0] if frozen.values else None,
            seconds=(ended - started).total_seconds() if started and ended else 0.0,
            state={"FAIL": "failed", "COMPLETE": "complete", "PRUNED": "pruned"}.get(frozen.state.name, "running"),
            per_task=dict(frozen.user_attrs.get("per_task", {})),
        )


def sweep(
    family: Family | str,
    tasks: Sequence[str] | None = None,
    method: str = "neuromerging",
    *,
    trials: int = 40,
    sampler: str = "tpe",
    storage: str | None = None,
    study_name: str | None = None,
    seed: int = 0,
    hyperparameters: Mapping[str, Any] | None = None,
    search: Sequence[str] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    on_trial: Callable[[Trial, int], None] | None = None,
    job: Job = UNATTENDED,
    objective: Objective | None = None,
) -> SweepResult:
    """Search a method's hyperparameters on the validation split; what `neuromerge sweep` runs.

    Args:
        family, tasks: what to merge (None: every task of the family).
        method: name of the merge method.
        trials: complete trials that the study shall have in the end, earlier and other processes' included.
        sampler: ``tpe`` or ``grid``.
        storage, study_name: where the study is kept, so that it can be resumed and shared; see `Search`.
        seed: of the sampler, and of methods that use chance.
        hyperparameters: values of hyperparameters that are not searched.
        search, ranges: which hyperparameters to search and within which (low, high); see `axes_of`.
        on_trial: called with each finished trial and the number of trials aimed at.
        job: stopping it (or Ctrl-C) ends the search and keeps what is done.
        objective: scores a setting; the validation accuracy of the real merge when None.

    Returns the study's state. Raises SettingError or StorageError.
    """
    family = family_of(family)
    start = make_setting(family, tasks, method, hyperparameters, seed)
    searching = Search(
        objective or _validation_objective(family),
        start,
        axes=axes_of(method, search, ranges),
        trials=trials,
        sampler=sampler,
        storage=storage,
        study_name=study_name,
        seed=seed,
        family=family,
    )
    try:
        for row in searching.run(job):
            if on_trial is not None:
                on_trial(row, searching.total)
    except (Cancelled, KeyboardInterrupt):
        if searching.finished == 0:
            raise
    return searching.result()


def trials_to_csv(trials: Sequence[Trial]) -> str:
    """The trials as CSV, one row each: number, origin, state, value, seconds, hyperparameters, accuracy per task."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.hyperparameters))
    tasks = list(dict.fromkeys(task for trial in trials for task in trial.per_task))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["number", "origin", "state", "mean_validation_accuracy", "seconds", *names, *(f"accuracy_{t}" for t in tasks)]
    )
    for trial in trials:
        writer.writerow(
            [
                trial.number,
                trial.origin,
                trial.state,
                "" if trial.value is None else f"{trial.value:.6g}",
                f"{trial.seconds:.3f}",
                *(trial.hyperparameters.get(name, "") for name in names),
                *(f"{trial.per_task[task]:.6g}" if task in trial.per_task else "" for task in tasks),
            ]
        )
    return out.getvalue()


def hand_trial(number: int, setting: Setting, scores: Mapping[str, float], seconds: float) -> Trial:
    """A setting visited by hand as a row beside the search's own: `scores` are accuracies of the merged tasks."""
    mean = sum(scores.values()) / len(scores) if scores else None
    return Trial(number, "hand", dict(setting.hyperparameters), mean, seconds, "complete", dict(scores))


def _validation_objective(family: Family) -> Objective:
    from neuromerge.exploration.workspace import shared_workspace

    workspace = shared_workspace()
    workspace.add(family)
    return workspace.validation_scores


def _keep(ended: list[Any], study: Any, trial: Any) -> None:
    ended.append(trial)


def _suggest(trial: Any, axis: Axis) -> Value:
    if axis.choices:
        return trial.suggest_categorical(axis.name, list(axis.choices))
    if axis.whole:
        return int(trial.suggest_int(axis.name, int(axis.low), int(axis.high)))
    # Four decimals say all that a validation split can tell, and read well in recipes and links.
    return _tidied(trial.suggest_float(axis.name, axis.low, axis.high))


def _tidied(value: Any) -> Value:
    return round(value, 4) if isinstance(value, float) else value


def _default_name(setting: Setting) -> str:
    return f"{setting.family}-{setting.method}-{'+'.join(setting.tasks)}"[:200]


def _open_storage(storage: str | None) -> Any:
    """An Optuna storage with heartbeats; None (in memory) for None."""
    if storage is None:
        return None
    if not isinstance(storage, str) or not storage.strip() or "\0" in storage:
        raise SettingError("The storage must be a database URL such as sqlite:///study.db.")
    from optuna.storages import RDBStorage

    url = storage if "://" in storage else f"sqlite:///{storage}"
    return RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 30}} if url.startswith("sqlite") else None,
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
    )


class _storage_errors:
    """Turns what a database driver raises into a StorageError that never shows a password."""

    def __init__(self, storage: str | None) -> None:
        self._storage = storage

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or self._storage is None or isinstance(error, NeuroMergeError):
            return
        module = type(error).__module__.split(".")[0]
        if module in ("sqlalchemy", "sqlite3", "alembic") or type(error).__name__ in (
            "StorageInternalError",
            "ModuleNotFoundError",
        ):
            shown = re.sub(r"//([^:/@]+):[^@]*@", r"//\1:***@", self._storage)
            reason = str(getattr(error, "orig", None) or error).splitlines()[0][:200].replace(self._storage, shown)
            raise StorageError(f"The study storage {shown!r} cannot be used: {reason}.") from None
