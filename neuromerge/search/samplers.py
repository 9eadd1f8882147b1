"""Two Optuna samplers whose draws depend on the seed and the trial's number alone.

Optuna's own are seeded once per process, so two processes that start a study together would draw the same
points, and a resumed study would not repeat what an uninterrupted one had drawn. Imported only where a search
runs: importing Optuna takes most of a second.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of trials that were scored: to the end, or until they were seen to be worse than others."""
_TAKEN = (*ENDED, TrialState.RUNNING)


class NumberedTPE(BaseSampler):
    """Tree-structured Parzen estimator, seeded anew for every trial from (seed, trial number)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inner = TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Seed the draws of this trial."""
        # Multiplying by a large odd number keeps neighbouring seeds from sharing trials.
        self._inner = TPESampler(seed=(self._seed * 2_654_435_761 + trial.number) % 2**32)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE does."""
        return dict(self._inner.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE does."""
        return dict(self._inner.sample_relative(study, trial, search_space))

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """As TPE does."""
        return self._inner.sample_independent(study, trial, name, distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """As TPE does."""
        self._inner.after_trial(study, trial, state, values)


class StagedGrid(BaseSampler):
    """Every point of a grid once, in a seeded order that keeps points with the same values of `staged` together.

    A change of those (the trim ratio, say) costs a merge of its own, the others only another sum. A point counts
    as taken when a trial with exactly its values is scored or running; one whose trial failed or was killed is
    drawn again. When all are taken but some still run elsewhere, one of those is evaluated twice rather than
    waited for: the other process may be dead.
    """

    def __init__(self, values: Mapping[str, Sequence[Any]], seed: int, staged: Sequence[str] = ()) -> None:
        self._names = tuple(values)
        points = [dict(zip(self._names, point, strict=True)) for point in itertools.product(*values.values())]
        shuffle = random.Random(seed)
        shuffle.shuffle(points)

        def stage(point: Mapping[str, Any]) -> tuple[Any, ...]:
            return tuple(point[name] for name in staged)

        rank = {found: place for place, found in enumerate(dict.fromkeys(map(stage, points)))}
        self._points = sorted(points, key=lambda point: rank[stage(point)])
        self._current: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._points)

    def visited(self, study: Study) -> int:
        """The number of points that have a scored trial; two processes may have taken one both."""
        return len(self) - len(self._open_points(study, ENDED))

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose this trial's point."""
        free = self._open_points(study, _TAKEN) or self._open_points(study, ENDED) or self._points
        self._current = free[0]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: all values come one by one."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: all values come one by one."""
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """The chosen point's value of `name`."""
        return self._current[name]

    def _open_points(self, study: Study, taken: tuple[TrialState, ...]) -> list[dict[str, Any]]:
        done = {tuple(t.params.get(name) for name in self._names) for t in study.get_trials(False, taken)}
        return [point for point in self._points if tuple(point[name] for name in self._names) not in done]


def quiet() -> None:
    """Keep Optuna's own progress lines and experimental notes out of the user's terminal."""
    import warnings

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a trial that fails raises: no need of a line more
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
