"""`neuromerge compare`: every method on the same experts and the same pictures."""

from __future__ import annotations

import argparse
from typing import Any

from neuromerge.cli.options import SPLITS, Names, as_names, as_seed, family_options, json_option, quiet_option
from neuromerge.cli.printing import progress_bar
from neuromerge.errors import SettingError

SUMMARY = "compare methods on the tasks of a family"
EPILOG = """\
examples
  neuromerge compare
  neuromerge compare --tasks digits,flags --methods neuromerging,ties,task_arithmetic --no-tuned --markdown

  neuromerge compare --subsets 20 --markdown
      on 20 random subsets of the tasks, the same for every method: one set of tasks is one sample

Every method merges the same experts and is measured on the same pictures, by three ways to its coefficients: the
published default; retention, which needs no data; and validation pictures, with the same budget for each method.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    family_options(parser)
    parser.add_argument(
        "--methods", metavar="M1,M2", nargs="+", type=as_names, action=Names, help="methods to compare (all)"
    )
    parser.add_argument(
        "--tuned",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a row with coefficients tuned on validation",
    )
    parser.add_argument(
        "--budget", type=int, metavar="N", help="settings that each method may try on validation (72; with --subsets 6)"
    )
    parser.add_argument(
        "--subsets",
        type=int,
        metavar="N",
        help="compare on N random subsets of 2 tasks to all, with paired differences",
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--split", choices=sorted(SPLITS), default="test", help="which pictures (test)")
    parser.add_argument("--seed", type=as_seed, default=0, metavar="N", help="seed of methods that draw at random (0)")
    json_option(parser)
    quiet_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.engine.engine import Engine
    from neuromerge.search.compare import Comparison, compare
    from neuromerge.search.many import SubsetComparison, compare_subsets
    from neuromerge.settings.choices import family_of

    if options.budget is not None and options.budget < 1:
        raise SettingError("--budget must be at least 1; --no-tuned leaves out the rows that are tuned.")
    given: dict[str, Any] = {"tuned": options.tuned, "split": SPLITS[options.split], "seed": options.seed}
    if options.budget is not None:
        given["budget"] = options.budget
    family = family_of(options.family)
    models = Engine({family.name: family}).of(family.name).models
    table: Comparison | SubsetComparison
    with progress_bar(options.quiet) as job:
        if options.subsets is None:
            table = compare(models, options.tasks, options.methods, job=job, **given)
        else:
            table = compare_subsets(models, options.tasks, options.methods, subsets=options.subsets, job=job, **given)
    if options.json:
        print(table.to_json())
    else:
        print(table.to_markdown() if options.markdown else table.to_text())
    return 0
