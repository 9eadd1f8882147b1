"""`neuromerge sweep`: the best hyperparameters of a method by validation accuracy."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromerge.cli.options import (
    Names,
    as_names,
    as_path,
    as_range,
    as_seed,
    as_weight,
    family_options,
    json_option,
    quiet_option,
    set_option,
)
from neuromerge.cli.printing import number, print_json, progress_bar, require_writable, write_text
from neuromerge.errors import SettingError
from neuromerge.progress import Job
from neuromerge.search.objective import Goal, Growing, Objective, get_goal, scored_as, scored_as_own, weighted_score

if TYPE_CHECKING:
    from neuromerge.exploration.workspace import Workspace
    from neuromerge.search.study import SweepResult
    from neuromerge.search.trials import Trial
    from neuromerge.settings.setting import Setting

GOAL_HELP = (
    "what is made large: mean accuracy, that of the worst task, or the certainty of predictions, which needs no labels "
    "(on validation pictures, or with --pictures on your own)"
)
SUMMARY = "search the best parameters on validation data"
EPILOG = """\
examples
  neuromerge sweep --trials 40
  neuromerge sweep --family pictoclip --tasks digits,flags --range lambda_orthogonal=0.5:3 --set lambda_parallel=0
  neuromerge sweep --method ties --sampler grid --trials 25 --recipe best.yaml
  neuromerge sweep --trials 200 --storage study.db
      run the same line on several machines (with a database URL) and they share the work; run it again to go on
  neuromerge sweep --group "block 1/fc1,block 2/fc1" --group q,k
      one factor on each group of parts, beside the coefficients
  neuromerge sweep --goal certainty --pictures ~/holidays.zip
      without labels: the merge that is surest of what it sees in your own pictures

Settings are scored on validation pictures only, or on your own. Of large models each is scored on a few pictures first,
and given up where others do better on the same ones; every trial says on how many it was scored. A parameter with --set
is not searched.
`neuromerge merge best.yaml --out merged` makes the best one.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    family_options(parser)
    parser.add_argument("--method", default="neuromerging", metavar="NAME", help="merge method (neuromerging)")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="trials in the study at the end (40)")
    parser.add_argument("--sampler", choices=("tpe", "grid"), default="tpe", help="how to choose trials (tpe)")
    parser.add_argument("--storage", metavar="URL", help="database URL or SQLite file: resume the study, or share it")
    parser.add_argument("--study", metavar="NAME", help="name of the study in the storage")
    parser.add_argument(
        "--search", metavar="P1,P2", nargs="+", type=as_names, action=Names, help="parameters to search"
    )
    parser.add_argument(
        "--range",
        metavar="P=LOW:HIGH",
        nargs="+",
        type=as_range,
        action="extend",
        default=[],
        help="search a parameter within this",
    )
    set_option(parser, "fix a parameter at this value instead of searching it")
    parser.add_argument(
        "--shape",
        default="",
        metavar="SHAPE",
        help="search the profile too: a depth curve of 2 to 6 points (depth:2 to depth:6), or groups of matrices "
        "(groups)",
    )
    parser.add_argument(
        "--group",
        type=as_names,
        action="append",
        default=[],
        metavar="P1,P2",
        help="search one factor on these parts together, such as block 1/fc1,block 2/fc1; may be given again",
    )
    parser.add_argument("--goal", choices=("mean", "worst", "certainty"), default="mean", help=GOAL_HELP)
    parser.add_argument(
        "--goal-weight",
        type=as_weight,
        action="append",
        default=[],
        metavar="TASK=W",
        help="count a task more or less in the mean (1); may be given again",
    )
    parser.add_argument(
        "--pictures",
        type=as_path,
        metavar="PATH",
        help="with --goal certainty: a folder or zip archive of your own pictures, which need no labels",
    )
    parser.add_argument(
        "--classes-of",
        default="",
        metavar="TASK",
        help="with --pictures: the merged task whose classes they show (all merged tasks together)",
    )
    parser.add_argument("--seed", type=as_seed, default=0, metavar="N", help="seed of the search (0)")
    parser.add_argument("--csv", metavar="FILE", type=as_path, help="write every trial to this file")
    parser.add_argument("--recipe", metavar="FILE", type=as_path, help="write the best setting to this recipe")
    json_option(parser)
    quiet_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.exploration.workspace import Workspace
    from neuromerge.search.sweep import sweep
    from neuromerge.search.trials import trials_to_csv
    from neuromerge.settings.choices import family_of, make_setting
    from neuromerge.settings.recipes import dump_recipe, recipe_of

    for path in (options.csv, options.recipe):
        require_writable(path)
    family = family_of(options.family)
    start = make_setting(family, options.tasks, options.method, dict(options.set))
    if options.recipe:  # what cannot be written down is said before the search, not after it
        dump_recipe(recipe_of(start, family))
    workspace = Workspace({family.name: family})
    with progress_bar(options.quiet) as job:
        found = sweep(
            family,
            options.tasks,
            options.method,
            objective=_objective(options, workspace, start),
            goal=_goal(options),
            scored=_scored(options),
            shape=options.shape or ("own" if options.group else ""),
            groups=options.group,
            trials=options.trials,
            sampler=options.sampler,
            storage=options.storage,
            study_name=options.study,
            seed=options.seed,
            hyperparameters=dict(options.set),
            search=options.search,
            ranges=dict(options.range),
            on_trial=_teller(job),
        )
    # Printed before anything is written: a full disk must not cost the result.
    if options.json:
        print_json({**_as_dict(found), "sources": family.commits(start.tasks)})
    else:
        print(_as_text(found))
    if options.csv:
        write_text(options.csv, trials_to_csv(found.trials))
    if options.recipe and found.best is not None:
        notes = [] if found.best_value is None else [f"mean validation accuracy {found.best_value:.4f}"]
        write_text(options.recipe, dump_recipe(recipe_of(found.best, family), notes=notes))
    return 0


def _objective(options: argparse.Namespace, workspace: Workspace, start: Setting) -> Objective | Growing:
    if options.goal != "certainty":
        if options.pictures or options.classes_of:
            raise SettingError("Your own pictures have no labels: give --goal certainty with --pictures.")
        return workspace.objective(start)
    if not options.pictures:
        if options.classes_of:
            raise SettingError("--classes-of says what --pictures show: give both.")
        return workspace.objective(start, certain=True)
    if options.goal_weight:
        raise SettingError("Your own pictures are no task that could have a weight: leave out --goal-weight.")
    source, task = options.pictures, options.classes_of
    return lambda setting, job: {Path(source).name: workspace.own_certainty(setting, source, task, job=job)}


def _goal(options: argparse.Namespace) -> Goal:
    if not options.goal_weight:
        return get_goal("mean" if options.goal == "certainty" else options.goal)
    if options.goal == "worst":
        raise SettingError("The worst task has no weights: leave out --goal-weight or --goal worst.")
    return weighted_score(dict(options.goal_weight))


def _scored(options: argparse.Namespace) -> str:
    if options.pictures:
        return scored_as_own(Path(options.pictures).name, options.classes_of)
    return scored_as(options.goal, dict(options.goal_weight))


def _teller(job: Job) -> Callable[[Trial, int], None]:
    def tell(trial: Trial, total: int) -> None:
        value = "failed" if trial.value is None else f"{100 * trial.value:.1f} %{_on(trial.pictures)}"
        value += ", given up" if trial.is_pruned else ""
        job.report(min(trial.number + 1, total), total, f"trial {trial.number}: {value}")

    return tell


def _on(pictures: int) -> str:
    return f" on {pictures:,} pictures" if pictures else ""


def _as_dict(found: SweepResult) -> dict[str, Any]:
    best = found.best
    return {
        "best": None if best is None else {"method": best.method, "parameters": dict(best.hyperparameters)},
        "best_value": found.best_value,
        "importances": found.importances,
        "trials": [_trial_as_dict(trial) for trial in found.trials],
        "study_name": found.study_name,
        "storage": found.storage,
        "seed": found.seed,
    }


def _trial_as_dict(trial: Trial) -> dict[str, Any]:
    plain = asdict(replace(trial, setting=None))
    del plain["setting"]  # the parameters say what differs between the trials
    return {"parameters": plain.pop("hyperparameters"), **plain}  # the word of recipes and of the other commands


def _as_text(found: SweepResult) -> str:
    if found.best is None or found.best_value is None:
        return f"No trial of {found.study_name} is complete."
    scored = [trial for trial in found.trials if trial.state in ("complete", "pruned")]
    early = sum(trial.is_pruned for trial in scored)
    seen = max(trial.pictures for trial in scored if not trial.is_pruned)
    lines = [
        f"Best of {len(scored)} trials{f' ({early} given up early)' if early else ''}: "
        f"{100 * found.best_value:.1f} % mean validation accuracy{_on(seen)}",
        "  " + ", ".join(f"{name} {number(value)}" for name, value in found.best.hyperparameters),
    ]
    for name, share in sorted(found.importances.items(), key=lambda item: -item[1]):
        lines.append(f"  {name} explains {100 * share:.0f} % of the differences")
    where = f" in {found.storage}" if found.storage else ""
    lines.append(f"  study {found.study_name}{where}, seed {found.seed}")
    return "\n".join(lines)
