"""Searching good coefficients on validation data: what `neuromerge sweep` runs.

A search varies some of a method's hyperparameters and scores each setting by the mean validation accuracy of the
merged tasks. Test data are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuromerge.errors import Cancelled
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.axes import axes_of
from neuromerge.search.objective import GOALS, Goal, Growing, Objective
from neuromerge.search.shape import shape_axes
from neuromerge.search.study import Search, SweepResult
from neuromerge.search.trials import Trial
from neuromerge.settings.choices import DEFAULT_METHOD, family_of, make_setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family


def sweep(
    family: Family | str,
    tasks: Sequence[str] | None = None,
    method: str = DEFAULT_METHOD,
    *,
    objective: Objective | Growing,
    goal: Goal = GOALS["mean"],
    scored: str = "",
    shape: str = "",
    groups: Sequence[Sequence[str]] = (),
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
) -> SweepResult:
    """Search a method's hyperparameters.

    Args:
        family, tasks: what to merge (None: every task of the family).
        method: name of the merge method.
        objective: scores a setting, such as `Workspace.objective`; see `Search`.
        goal: what of the scores is made large; `GOALS`, or `weighted_score` of tasks.
        scored: name of that, where it is not the mean accuracy; see `Search`.
        shape, groups: what of the profile is searched too; see `SHAPES` and `shape_axes`.
        trials: scored trials that the study shall have in the end, earlier and other processes' included.
        sampler: ``tpe`` or ``grid``.
        storage, study_name: where the study is kept, so that it can be resumed and shared; see `Search`.
        seed: of the sampler, and of methods that use chance.
        hyperparameters: values of hyperparameters that are not searched.
        search, ranges: which hyperparameters to search and within which (low, high); see `axes_of`. One that has a
            value in `hyperparameters` is not searched, and naming it here too is an error.
        on_trial: called with each finished trial and the number of trials aimed at.
        job: stopping it (or Ctrl-C) ends the search and keeps what is done.

    Returns the study's state. Raises SettingError or StorageError.
    """
    family = family_of(family)
    start = make_setting(family, tasks, method, hyperparameters, seed)
    searching = Search(
        objective,
        start,
        goal=goal,
        scored=scored,
        axes=(*axes_of(method, search, ranges, fixed=hyperparameters or ()), *shape_axes(shape, groups)),
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
