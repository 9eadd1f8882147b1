"""One study: a search with Optuna over some hyperparameters; alone, resumed, or on several machines.

With a `storage` (a database URL, or the path of an SQLite file) the study outlives the process: start it again and
it goes on; start it on several machines and they share it. A trial whose process died is noticed by its missing
heartbeat and its place is given away.

Where looking at all pictures takes long, trials race (asynchronous successive halving, Li et al., MLSys 2020): each is
scored on a few pictures, goes on to twice as many while it is in the better half of all that came so far, and is given
up otherwise.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from neuromerge.errors import SettingError, StorageError, quoted
from neuromerge.merging import registry
from neuromerge.merging.profile import as_mapping
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.axes import Axis, axes_of
from neuromerge.search.objective import Goal, Growing, Objective, as_growing, mean_score
from neuromerge.search.shape import is_shape, split_shape
from neuromerge.search.storage import open_storage, storage_errors
from neuromerge.search.trials import Trial
from neuromerge.settings.choices import change, check_profile, check_seed
from neuromerge.settings.setting import Setting, Value

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

SAMPLERS = ("tpe", "grid")
MAX_TRIALS = 10_000
_OPEN_ATTEMPTS = 6
_HALVING = 2
_RACE = re.compile("unique constraint|already exists|duplicate|locked|no such table|no such revision", re.IGNORECASE)


@dataclass(frozen=True)
class SweepResult:
    """What a search found.

    Attributes:
        trials: every trial of the study, in order.
        best: the setting with the highest mean validation accuracy (the earliest of equals), None without any.
        best_value: its mean validation accuracy in [0, 1].
        importances: share of the differences between trials that each parameter explains (sums to 1); empty
            with fewer than four scored trials.
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
        objective: scores a setting; see `Objective`. Called in the thread that iterates `run`. One that is `Growing`
            is asked on more pictures only where fewer speak for the setting.
        start: family, tasks, method, seed, and the values of hyperparameters that are not searched.
        goal: what of the scores is made large: their mean unless given.
        scored: name of what is maximised, where it is not the mean accuracy: a stored study holds one kind of score.
        axes: what is searched: hyperparameters (`axes_of`), the profile (`shape_axes`), or both.
        trials: how many scored trials the study shall have in all, given up early or not, other processes' included.
        sampler: ``tpe`` or ``grid``. A grid has as many points as fit into `trials`.
        storage: database URL or path of an SQLite file; None keeps the study in memory.
        study_name: the study's name in the storage; made from the search when None.
        seed: of the sampler.

    Raises SettingError for illegal values or when the stored study searches something else, StorageError when
    the storage cannot be used.
    """

    def __init__(
        self,
        objective: Objective | Growing,
        start: Setting,
        *,
        goal: Goal = mean_score,
        scored: str = "",
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
        self._objective, self._goal, self._scored = as_growing(objective), goal, scored
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
        """Run trials until the study has `total` scored ones, yielding each of this process's as it ends.

        `check` is called between and during trials; when it raises Cancelled, the trial under way is given
        up, finished ones are kept, and Cancelled goes on to the caller.
        """
        while self._visited() < self.total:
            job.check()
            ended: list[Any] = []
            with storage_errors(self.storage):
                self._study.optimize(partial(self._evaluate, job), n_trials=1, callbacks=[partial(_keep, ended)])
            yield from map(self._row, ended)

    @property
    def finished(self) -> int:
        """Number of scored trials in the study, those that were given up early included."""
        from neuromerge.search.samplers import ENDED

        with storage_errors(self.storage):
            return len(self._study.get_trials(False, ENDED))

    def rows(self) -> tuple[Trial, ...]:
        """Every trial of the study so far, other processes' included, in order of their numbers."""
        with storage_errors(self.storage):
            return tuple(self._row(frozen) for frozen in self._study.get_trials(deepcopy=False))

    def best(self) -> Trial | None:
        """The complete trial with the highest value, the earliest of equals; None without any."""
        complete = [row for row in self.rows() if row.state == "complete" and row.value is not None]
        return max(complete, key=lambda row: (row.value or 0.0, -row.number), default=None)

    def setting(self, trial: Trial) -> Setting:
        """The whole setting of a trial: apply it and the merge is the one that was scored."""
        return self._setting(trial.hyperparameters)

    def importances(self) -> dict[str, float]:
        """Share of the differences that each parameter explains, largest first; empty with few trials.

        Where trials race, those are differences on the first pictures, which all of them have seen: the few that saw
        everything are good ones, and hardly differ.
        """
        from optuna.exceptions import OptunaError
        from optuna.importance import get_param_importances

        if self.finished < 4 or len(self._axes) < 2:
            return {}
        try:
            with storage_errors(self.storage):
                found = get_param_importances(self._first_scores())
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

    def _first_scores(self) -> Any:
        """The study, each trial with its score on the first pictures; the study itself where no trial was given up."""
        import optuna

        from neuromerge.search.samplers import ENDED

        trials = self._study.get_trials(False, ENDED)
        if all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials):
            return self._study
        first = optuna.create_study(direction="maximize")
        for trial in trials:
            seen = trial.intermediate_values
            first.add_trial(
                optuna.trial.create_trial(
                    params=trial.params,
                    distributions=trial.distributions,
                    value=seen[min(seen)] if seen else trial.value,
                )
            )
        return first

    def _make_sampler(self, trials: int) -> Any:
        from neuromerge.search import samplers

        samplers.quiet()
        if self._sampler_name == "tpe":
            return samplers.NumberedTPE(self._seed)
        fixed = math.prod(len(axis.choices) for axis in self._axes if axis.choices)
        ranges = sum(1 for axis in self._axes if not axis.choices)
        points = max(2, math.floor((trials / fixed) ** (1 / ranges) + 1e-9)) if ranges else 1
        coefficients = registry.get_method(self._start.method).coefficients
        staged = [axis.name for axis in self._axes if axis.name not in coefficients and not is_shape(axis.name)]
        return samplers.StagedGrid({axis.name: axis.grid(points) for axis in self._axes}, self._seed, staged)

    def _open_study(self) -> Any:
        study = self._create_study()
        with storage_errors(self.storage):
            described = self._description()
            known = study.user_attrs.get("search")
            if known is None:
                study.set_user_attr("search", described)
            elif known != described:
                keys = dict.fromkeys((*described, *known))
                different = ", ".join(key for key in keys if known.get(key) != described.get(key))
                raise SettingError(
                    f"The study {self.study_name!r} in this storage searches something else (different: "
                    f"{different}). Choose another study name."
                )
        return study

    def _create_study(self) -> Any:
        import optuna

        for attempt in range(_OPEN_ATTEMPTS):
            try:
                with storage_errors(self.storage):
                    return optuna.create_study(
                        storage=open_storage(self.storage),
                        study_name=self.study_name,
                        sampler=self._sampler,
                        pruner=optuna.pruners.SuccessiveHalvingPruner(self._objective.levels[0], _HALVING),
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
        shaped = any(map(is_shape, searched))
        return {
            "family": self._start.family,
            "tasks": list(self._start.tasks),
            "method": self._start.method,
            "seed": self._start.seed if registry.get_method(self._start.method).stochastic else 0,
            "searched": sorted(searched),
            "fixed": {name: value for name, value in self._start.hyperparameters if name not in searched},
            **({"profile": as_mapping(self._start.profile)} if self._start.profile and not shaped else {}),
            **({"scored": self._scored} if self._scored else {}),
            **({"task_weights": list(self._start.task_weights)} if self._start.task_weights else {}),
        }

    def _visited(self) -> int:
        """What counts towards `total`: scored trials, of a grid each point once."""
        if self._sampler_name != "grid":
            return self.finished
        with storage_errors(self.storage):
            return int(self._sampler.visited(self._study))

    def _evaluate(self, job: Job, trial: Any) -> float:
        from optuna import TrialPruned

        trial.set_user_attr("origin", self._sampler_name)
        setting = self._setting({axis.name: _suggest(trial, axis) for axis in self._axes})
        levels = self._objective.levels
        value = math.nan
        for level, pictures in zip(levels, self._objective.pictures, strict=True):
            scores = self._objective.scores(setting, job, level)
            value = self._goal(scores)
            trial.set_user_attr("per_task", dict(scores))
            trial.set_user_attr("pictures", pictures)
            if level < levels[-1]:
                trial.report(value, level)
                if trial.should_prune():
                    raise TrialPruned
        return value

    def _setting(self, searched: Mapping[str, Any]) -> Setting:
        values, shaped = split_shape(searched)
        setting = change(self._start, self._family, **values)
        if not shaped:
            return setting
        return replace(setting, profile=check_profile(registry.get_method(setting.method), shaped))

    def _row(self, frozen: Any) -> Trial:
        started, ended = frozen.datetime_start, frozen.datetime_complete
        searched = {name: _tidied(value) for name, value in frozen.params.items()}
        return Trial(
            number=frozen.number,
            origin=str(frozen.user_attrs.get("origin", self._sampler_name)),
            hyperparameters=searched,
            value=frozen.values[0] if frozen.values else None,
            seconds=(ended - started).total_seconds() if started and ended else 0.0,
            state={"FAIL": "failed", "COMPLETE": "complete", "PRUNED": "pruned"}.get(frozen.state.name, "running"),
            per_task=dict(frozen.user_attrs.get("per_task", {})),
            setting=self._setting(searched),
            pictures=int(frozen.user_attrs.get("pictures", 0)),
        )


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
