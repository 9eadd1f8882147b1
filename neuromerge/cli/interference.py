"""`neuromerge interference`: where the experts disagree, as a table."""

from __future__ import annotations

import argparse

from neuromerge.cli.options import as_path, checkpoint_options, json_option, matching_options, quiet_option
from neuromerge.cli.printing import print_json, print_warnings, progress_bar, require_writable, write_text
from neuromerge.errors import SettingError, quoted

SUMMARY = "table where tasks interfere, layer by layer"
EPILOG = """\
examples
  neuromerge interference --base bundled:pictoclip --task bundled:pictoclip/digits --task bundled:pictoclip/flags
  neuromerge interference --base BASE --task EXPERT1 --task EXPERT2 --measure sign_conflict
  neuromerge interference --base BASE --task EXPERT1 --task EXPERT2 --csv interference.csv

The table has the columns layer, matrix, subspace (parallel or orthogonal), measure and value.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    checkpoint_options(parser)
    matching_options(parser)
    parser.add_argument(
        "--trim-ratio", default="0.8", metavar="R", help="share of each task vector to remove first (0.8)"
    )
    parser.add_argument("--lambda-parallel", default="0", metavar="X", help="lambda_1, a number or auto (0)")
    parser.add_argument("--lambda-orthogonal", default="auto", metavar="X", help="lambda_2, a number or auto (auto)")
    parser.add_argument("--measure", default="cancellation", metavar="NAME", help="measure to print (cancellation)")
    parser.add_argument(
        "--csv", metavar="FILE", type=as_path, help="write the whole table to this file (- for standard output)"
    )
    json_option(parser)
    quiet_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    import neuromerge

    if options.csv != "-":
        require_writable(options.csv)
    if not options.base or not options.task:
        raise SettingError("Name a base and at least one expert: --base B --task T1 --task T2.")
    with progress_bar(options.quiet) as job:
        table = neuromerge.interference(
            options.base,
            options.task,
            options.trim_ratio,  # checked, with its range, by the method's own specification
            lambda_parallel=options.lambda_parallel,
            lambda_orthogonal=options.lambda_orthogonal,
            device=options.device,
            towers=options.towers,
            vocabulary=options.vocabulary,
            job=job,
        )
    print_warnings(table.attrs["warnings"])
    if options.csv:
        text = table.to_csv(index=False)
        if options.csv == "-":
            print(text, end="")
        else:
            write_text(options.csv, text)
            print(f"Wrote {len(table)} rows to {options.csv}")
        return 0
    if options.json:
        print_json(table.to_dict(orient="records"))
        return 0
    known = list(dict.fromkeys(table["measure"]))
    if options.measure not in known:
        raise SettingError(f"There is no measure {quoted(options.measure)}. Known: {', '.join(known)}.")
    for subspace in dict.fromkeys(table["subspace"]):
        part = table[(table["measure"] == options.measure) & (table["subspace"] == subspace)]
        grid = part.pivot(index="layer", columns="matrix", values="value")
        grid = grid.loc[list(dict.fromkeys(part["layer"])), list(dict.fromkeys(part["matrix"]))]
        print(f"{options.measure}, {subspace} part")
        print(
            grid.rename_axis(index=None, columns=None).to_string(float_format="{:.3f}".format, na_rep="-"), end="\n\n"
        )
    return 0
