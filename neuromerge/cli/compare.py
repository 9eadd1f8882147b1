"""`neuromerge compare`: every method on the same experts and the same pictures."""

from __future__ import annotations

import argparse

from neuromerge.cli.options import SPLITS, Names, as_names, as_seed, family_options, json_option, quiet_option
from neuromerge.cli.printing import progress_bar

SUMMARY = "compare methods on the tasks of a family"
EPILOG = """\
examples
  neuromerge compare
  neuromerge compare --tasks digits,flags --methods neuromerging,ties,task_arithmetic --no-tuned --markdown

Every method merges the same experts and is measured on the same pictures. Tuned rows choose their coefficients on
validation pictures, with the same budget for each method.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    family_options(parser)
    parser.add_argument(
        "--methods", metavar="M1,M2", nargs="+", type=as_names, action=Names, help="methods to compare (all)"
    )
    parser.add_argument(
        "--tuned", action=argparse.BooleanOptionalAction, default=True, help="a second row with coefficients tuned"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--split", choices=sorted(SPLITS), default="test", help="which pictures (test)")
    parser.add_argument("--seed", type=as_seed, default=0, metavar="N", help="seed of methods that draw at random (0)")
    json_option(parser)
    quiet_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.engine.engine import Engine
    from neuromerge.search.compare import compare
    from neuromerge.settings.choices import family_of

    family = family_of(options.family)
    models = Engine({family.name: family}).of(family.name).models
    with progress_bar(options.quiet) as job:
        table = compare(
            models,
            options.tasks,
            options.methods,
            tuned=options.tuned,
            split=SPLITS[options.split],
            seed=options.seed,
            job=job,
        )
    if options.json:
        print(table.to_json())
    else:
        print(table.to_markdown() if options.markdown else table.to_text())
    return 0
