"""`neuromerge evaluate`: the accuracy of a checkpoint on the tasks of its family."""

from __future__ import annotations

import argparse

from neuromerge.cli.options import SPLITS, as_names, as_pair, as_path, json_option, quiet_option
from neuromerge.cli.printing import progress_bar
from neuromerge.errors import SettingError

SUMMARY = "measure accuracy on every task"
EPILOG = """\
examples
  neuromerge evaluate merged
  neuromerge evaluate merged --tasks digits,flags --split test --json
  neuromerge evaluate merged --family clip-vit-b-32 --images mnist=pictures/mnist
      pictures of your own: a folder with one subfolder for each class, or a zip archive of one
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="what to evaluate")
    parser.add_argument("--tasks", metavar="T1,T2", type=as_names, help="tasks to evaluate (all of the family)")
    parser.add_argument("--split", choices=sorted(SPLITS), default="test", help="which pictures (test)")
    parser.add_argument("--family", metavar="NAME", help="family of the checkpoint (found by its shapes)")
    parser.add_argument(
        "--images", metavar="TASK=PATH", type=as_pair, action="append", default=[], help="your own pictures for a task"
    )
    parser.add_argument(
        "--experts", action=argparse.BooleanOptionalAction, help="evaluate the experts too, for the share they reach"
    )
    json_option(parser)
    quiet_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    import neuromerge

    pictures = {task: as_path(folder) for task, folder in options.images}
    if len(pictures) < len(options.images):
        raise SettingError("--images names a task twice. Give one folder or archive for each task.")
    with progress_bar(options.quiet) as job:
        table = neuromerge.evaluate(
            options.checkpoint,
            options.tasks,
            SPLITS[options.split],
            options.family,
            experts=options.experts,
            samples=pictures or None,
            job=job,
        )
    print(table.to_json() if options.json else table.to_text())
    return 0
