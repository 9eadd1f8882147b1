"""`neuromerge inspect`: what is in a checkpoint, and does it fit a base."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
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
_KEYS = 4


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
    blocks = ", ".join(
        f"{count} blocks" if len(found.blocks) < 2 else f"{count} {tower} blocks"
        for tower, count in found.blocks.items()
    )
    towers = ", ".join(f"{_count(count)} in {tower}" for tower, count in found.towers.items())
    rows = [
        ("file", f"{found.kind}, {found.nbytes / 1e6:.1f} MB of weights"),
        (
            "model",
            found.model + (f", {blocks}" if blocks else "") + (f", under {found.prefix}" if found.prefix else ""),
        ),
        ("weights", f"{found.tensors} tensors: {towers}"),
        ("stored as", ", ".join(found.dtypes)),
        ("merged", f"{_count(found.merged)} weights"),
    ]
    lines = [f"{found.name}  {found.source}" + (f"@{found.revision}" if found.revision else "")]
    lines += [f"  {name:<10} {text}" for name, text in rows]
    lines += _by_reason("base's", found.from_base)
    lines += _by_reason("left out", found.left_out)
    if found.problem is not None:
        lines.append(f"  does not fit {found.base}: {one_line(found.problem)}")
    elif found.base is not None:
        lines.append(f"  fits {found.base}; change of each layer (norm, and share of the base's norm):")
        width = max((len(change.layer) for change in found.changes), default=0)
        lines += [f"    {c.layer:<{width}}  {c.change:10.4g}  {100 * c.relative:8.3f} %" for c in found.changes]
    lines += [f"  warning: {text}" for text in found.warnings]
    return "\n".join(lines)


def _by_reason(title: str, keys: Mapping[str, str]) -> list[str]:
    """One line a reason, the first few keys named."""
    by_reason: dict[str, list[str]] = {}
    for key, reason in keys.items():
        by_reason.setdefault(reason, []).append(key)
    lines: list[str] = []
    for reason, found in by_reason.items():
        more = f" and {len(found) - _KEYS} more" if len(found) > _KEYS else ""
        lines.append(f"  {title:<10} {', '.join(found[:_KEYS])}{more}: {reason}")
    return lines


def _count(number: int) -> str:
    """A number of weights in thousands or millions."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return str(number)
