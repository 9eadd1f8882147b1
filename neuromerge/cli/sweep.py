"""`neuromerge sweep`: the best hyperparameters of a method by validation accuracy."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from neuromerge.cli.options import as_names, as_pair, as_range, as_seed, family_options, json_option, quiet_option
from neuromerge.cli.printing import number, print_json, progress_bar, require_writable, write_text

if TYPE_CHECKING:
    from neuromerge.exploration.results import Trial

SUMMARY = "search the best parameters on validation data"
EPILOG = """\
examples
  neuromerge sweep --trials 40
  neuromerge sweep --family pictoclip --tasks digits,flags --range lambda_orthogonal=0.5:3 --set lambda_parallel=0
  neuromerge sweep --method ties --sampler grid --trials 25 --recipe best.yaml
  neuromerge sweep --trials 200 --storage study.db
      run the same line on several machines (with a database URL) and they share the work; run it again to go on

Settings are scored on validation pictures only. `neuromerge merge best.yaml --out merged` makes the best one.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    family_options(parser)
    parser.add_argument("--method", default="neuromerging", metavar="NAME", help="merge method (neuromerging)")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="trials in the study at the end (40)")
    parser.add_argument("--sampler", choices=("tpe", "grid"), default="tpe", help="how to choose trials (tpe)")
    parser.add_argument("--storage", metavar="URL", help="database URL or SQLite file: resume the study, or share it")
    parser.add_argument("--study", metavar="NAME", help="name of the study in the storage")
    parser.add_argument("--search", metavar="P1,P2", type=as_names, help="parameters to search")
    parser.add_argument(
        "--range",
        metavar="P=LOW:HIGH",
        type=as_range,
        action="append",
        default=[],
        help="search a parameter within this",
    )
    parser.add_argument(
        "--set", metavar="P=VALUE", type=as_pair, action="append", default=[], help="fix a parameter at this value"
    )
    parser.add_argument("--seed", type=as_seed, default=0, metavar="N", help="seed of the search (0)")
    parser.add_argument("--csv", metavar="FILE", help="write every trial to this file")
    parser.add_argument("--recipe", metavar="FILE", help="write the best setting to this recipe")
    json_option(parser)
    quiet_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.search.sweep import sweep, trials_to_csv
    from neuromerge.settings.recipes import dump_recipe, recipe_of

    for path in (options.csv, options.recipe):
        require_writable(path)
    with progress_bar(options.quiet) as job:

        def told(trial: Trial, total: int) -> None:
            value = "failed" if trial.value is None else f"{100 * trial.value:.1f} %"
            job.report(min(trial.number + 1, total), total, f"trial {trial.number}: {value}")

        found = sweep(
            options.family,
            options.tasks,
            options.method,
            trials=options.trials,
            sampler=options.sampler,
            storage=options.storage,
            study_name=options.study,
            seed=options.seed,
            hyperparameters=dict(options.set),
            search=options.search,
            ranges=dict(options.range),
            on_trial=told,
        )
    if options.csv:
        write_text(options.csv, trials_to_csv(found.trials))
    if options.recipe and found.best is not None:
        value = f"mean validation accuracy {found.best_value:.4f}" if found.best_value is not None else ""
        write_text(options.recipe, dump_recipe(recipe_of(found.best), notes=[value] if value else []))
    if options.json:
        best = found.best
        print_json(
            {
                "best": None if best is None else {"method": best.method, "parameters": dict(best.hyperparameters)},
                "best_value": found.best_value,
                "importances": found.importances,
                "trials": [vars(trial) for trial in found.trials],
                "study_name": found.study_name,
                "storage": found.storage,
                "seed": found.seed,
            }
        )
    elif found.best is None or found.best_value is None:
        print(f"No trial of {found.study_name} is complete.")
    else:
        complete = sum(trial.state == "complete" for trial in found.trials)
        print(f"Best of {complete} trials: {100 * found.best_value:.1f} % mean validation accuracy")
        print("  " + ", ".join(f"{name} {number(value)}" for name, value in found.best.hyperparameters))
        for name, share in sorted(found.importances.items(), key=lambda item: -item[1]):
            print(f"  {name} explains {100 * share:.0f} % of the differences")
        print(
            f"  study {found.study_name}" + (f" in {found.storage}" if found.storage else "") + f", seed {found.seed}"
        )
    return 0
