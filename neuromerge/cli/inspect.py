"""`neuromerge inspect`: what is in a checkpoint, and does it fit a base."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from neuromerge.cli.options import json_option, matching_options
from neuromerge.cli.printing import one_line, print_json

if TYPE_CHECKING:
    from neuromerge.checkpoints.inspection import Inspection

SUMMARY = "show what is in a checkpoint, and whether it fits a base"
EPILOG = """\
examples
  neuromerge inspect expert.pt
  neuromerge inspect expert.pt --base BASE
      what would be merged, what is left out, and how far each block moved from the base
  neuromerge inspect training.ckpt#teacher
      one of several models in a file

Nothing in a file is executed. The exit code is 2 where the checkpoint does not fit the base.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="what to look into")
    parser.add_argument("--base", metavar="BASE", help="the model that it was fine-tuned from")
    matching_options(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.checkpoints.inspection import inspect_checkpoint

    found = inspect_checkpoint(options.checkpoint, options.base, towers=options.towers, vocabulary=options.vocabulary)
    if options.json:
        changes = [{**asdict(change), "relative": change.relative} for change in found.changes]
        print_json({**asdict(found), "changes": changes})
    else:
        print(_as_text(found))
    return 0 if found.problem is None else 2


def _as_text(found: Inspection) -> str:
    lines = [f"{found.name}  {found.source}" + (f"@{found.revision}" if found.revision else "")]
    lines += [f"  {name:<10} {text}" for name, text in found.facts]
    if found.problem is not None:
        lines.append(f"  does not fit {found.base}: {one_line(found.problem)}")
    elif found.base is not None:
        lines.append(f"  fits {found.base}; change of each layer (norm, and share of the base's norm):")
        width = max((len(change.layer) for change in found.changes), default=0)
        lines += [f"    {c.layer:<{width}}  {c.change:10.4g}  {100 * c.relative:8.3f} %" for c in found.changes]
    lines += [f"  warning: {text}" for text in found.warnings]
    return "\n".join(lines)
