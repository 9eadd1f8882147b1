"""`neuromerge methods`: the merge methods and their hyperparameters, from the registry."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from neuromerge.cli.options import json_option
from neuromerge.cli.printing import print_json

if TYPE_CHECKING:
    from neuromerge.merging import MergeMethod

SUMMARY = "list the merge methods and their parameters"
EPILOG = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("name", nargs="?", metavar="METHOD", help="show this method only")
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.merging import methods
    from neuromerge.merging.registry import get_method

    chosen = [get_method(options.name)] if options.name else list(methods().values())
    if options.json:
        print_json([_method_as_dict(method) for method in chosen])
        return 0
    for method in chosen:
        print(f"{method.name}  {method.title}: {method.summary}")
        for spec in method.hyperparameters:
            legal = ", ".join(spec.choices) if spec.choices else spec.range_text()
            print(f"  --{spec.name.replace('_', '-')}  {legal} (default {spec.default}). {spec.description}")
        print(f"  {method.citation}\n")
    return 0


def _method_as_dict(method: MergeMethod) -> dict[str, Any]:
    limits = ("minimum", "maximum", "exclusive_maximum", "choices", "auto", "retention")
    names = ("name", "kind", "default", *limits, "description")
    return {
        "name": method.name,
        "title": method.title,
        "summary": method.summary,
        "citation": method.citation,
        "parameters": [{name: getattr(spec, name) for name in names} for spec in method.hyperparameters],
    }
