"""`neuromerge models`: the model families that are known, and fetching one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from neuromerge.cli.options import json_option
from neuromerge.cli.printing import print_json
from neuromerge.errors import CheckpointError
from neuromerge.json_files import read_json

SUMMARY = "list the known model families, their accuracy and their licences"
EPILOG = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--fetch", metavar="FAMILY", help="fetch a family's weights and test pictures from the Hub")
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.evaluation.families import families, get_family

    if options.fetch:
        return _fetch(options.fetch)
    described: list[dict[str, Any]] = []
    for family in families().values():
        described.append(
            {
                "name": family.name,
                "title": family.title,
                "description": family.description,
                "base": family.base,
                "online": family.online,
                "licence": family.licence,
                "tasks": {task: family.experts.get(task) for task in family.tasks},
                "untried": sorted(name for name, entry in family.entries.items() if not entry.tried),
                "accuracy": _recorded_accuracy(family.folder),
            }
        )
    if options.json:
        print_json(described)
        return 0
    for entry in described:
        where = "from the Hugging Face Hub" if entry["online"] else "on this machine"
        print(f"{entry['name']}  {entry['title']} ({where}; licence: {entry['licence'] or 'not stated'})")
        print(f"  base  {entry['base']}")
        for task, source in entry["tasks"].items():
            accuracy = entry["accuracy"].get(task, {})
            figures = ", ".join(f"{name} {100 * value:.1f} % on test" for name, value in accuracy.items())
            untried = "  (not tried online)" if task in entry["untried"] else ""
            print(f"  {task}  {source or 'no expert'}" + (f"  {figures}" if figures else "") + untried)
        if entry["online"]:
            print(f"  fetch it with: {get_family(entry['name']).fetch_command}")
        print()
    return 0


def _recorded_accuracy(folder: Path | None) -> dict[str, dict[str, float]]:
    """Test accuracies noted beside a bundled family, {task: {model: share}}; {} where none are."""
    if folder is None:
        return {}
    try:
        tasks = read_json(folder / "figures.json")["tasks"]
        return {
            task: {model: float(entry[model]["test"]["accuracy"]) for model in ("base", "expert")}
            for task, entry in tasks.items()
        }
    except (CheckpointError, AttributeError, KeyError, TypeError, ValueError):
        return {}


def _fetch(name: str) -> int:
    """Fetch the weights and the test pictures of a family."""
    from neuromerge.checkpoints import load_checkpoint
    from neuromerge.evaluation import load_samples
    from neuromerge.evaluation.families import get_family

    family = get_family(name)
    for source in (family.base, *family.experts.values()):
        checkpoint = load_checkpoint(source)
        print(
            f"{source}  {checkpoint.nbytes / 1e6:.0f} MB" + (f"  {checkpoint.revision}" if checkpoint.revision else "")
        )
    for task in family.tasks:
        print(f"{task}  {len(load_samples(family, task, 'test'))} test pictures")
    return 0
