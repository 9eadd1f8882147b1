"""`neuromerge models`: the model families that are known, and fetching one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from neuromerge.cli.options import as_names, json_option
from neuromerge.cli.printing import print_json
from neuromerge.errors import CheckpointError, NeuroMergeError, SettingError, SourceUnavailableError
from neuromerge.json_files import read_json

SUMMARY = "list the known model families, their accuracy and their licences"
EPILOG = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--fetch", metavar="FAMILY", help="fetch a family's weights and test pictures from the Hub")
    parser.add_argument(
        "--tasks", metavar="T1,T2", type=as_names, help="tasks to fetch (those that the family opens with; all: all)"
    )
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.evaluation.families import families, get_family

    if options.fetch:
        return _fetch(options.fetch, options.tasks)
    if options.tasks:
        raise SettingError("--tasks names what --fetch fetches: give both.")
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
    print(_kept())
    return 0


def _kept() -> str:
    """How much of the disk fetched pictures and what was measured of them take, and what they may take."""
    from neuromerge.deployment import deployment
    from neuromerge.engine import embeddings
    from neuromerge.evaluation import picture_files
    from neuromerge.folder_bounds import nbytes

    folder = deployment().cache
    pictures, measured = (nbytes(folder / name) / 1e6 for name in ("samples", "embeddings"))
    return (
        f"Kept in {folder}: test pictures {pictures:,.0f} MB of at most {picture_files.MOST_KEPT / 1e6:,.0f}, what "
        f"base and experts said of them {measured:,.0f} MB of at most {embeddings.MOST_BYTES / 1e6:,.0f}."
    )


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


def _fetch(name: str, tasks: Sequence[str] | None) -> int:
    """Fetch the base, and experts and test pictures of some tasks; one that cannot be had does not stop the rest."""
    from neuromerge.checkpoints import load_checkpoint
    from neuromerge.evaluation import load_samples
    from neuromerge.evaluation.families import get_family
    from neuromerge.settings.choices import order_tasks

    family = get_family(name)
    wanted = order_tasks(family, None if tasks == ["all"] else tasks or family.default_tasks or None)
    failed: list[str] = []

    def fetched(what: str, fetch: Callable[[], str]) -> None:
        try:
            print(f"{what}  {fetch()}")
        except NeuroMergeError as error:
            failed.append(f"{what}: {error}")

    def weights(source: str) -> str:
        checkpoint = load_checkpoint(source)
        return f"{checkpoint.nbytes / 1e6:.0f} MB" + (f"  {checkpoint.revision}" if checkpoint.revision else "")

    def pictures(task: str) -> str:
        return f"{len(load_samples(family, task, 'test'))} test pictures"

    for source in (family.base, *(family.source(task) for task in wanted)):
        fetched(source, partial(weights, source))
    for task in wanted:
        if task in family.tasks:
            fetched(task, partial(pictures, task))
    if failed:
        raise SourceUnavailableError("\n".join(failed))
    return 0
