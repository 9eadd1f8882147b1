"""`neuromerge effect`: what each part of a merge does to accuracy, measured."""

from __future__ import annotations

import argparse
import csv
import io
from typing import TYPE_CHECKING, Any

from neuromerge.cli.options import (
    as_factor,
    as_names,
    as_path,
    as_seed,
    family_options,
    json_option,
    profile_from,
    quiet_option,
    set_option,
)
from neuromerge.cli.printing import print_json, progress_bar, require_writable, write_text
from neuromerge.errors import SettingError, quoted

if TYPE_CHECKING:
    from neuromerge.exploration.results import EffectMap
    from neuromerge.settings.setting import Setting

SUMMARY = "measure what each part of a merge does to accuracy"
EPILOG = """\
examples
  neuromerge effect
      every layer and every matrix of NeuroMerging on the bundled models: left at the base, halved, doubled
  neuromerge effect --method tsv_m --set scale=retention --profile fc1=0.5 --layers --changes 0
  neuromerge effect recipe.yaml --split validation --csv effects.csv

Differences are between the merge with the part changed and the merge as it is, on the same pictures. A star marks
those that chance alone does not explain (McNemar's exact test at 5 %: of twenty parts without an effect, one has a
star all the same).
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("recipe", nargs="?", type=as_path, metavar="RECIPE", help="the merge as a recipe")
    family_options(parser)
    parser.add_argument("--method", default="neuromerging", metavar="NAME", help="merge method (neuromerging)")
    set_option(parser, "parameters of the method")
    parser.add_argument(
        "--profile",
        metavar="PART=F",
        type=as_factor,
        action="append",
        default=[],
        help="a factor on the coefficients of a part, as for merge; may be given again",
    )
    parser.add_argument("--seed", type=as_seed, default=0, metavar="N", help="seed of methods that use chance (0)")
    parser.add_argument(
        "--changes", metavar="X,Y", type=_numbers, default=[0.0, 0.5, 2.0], help="multiply strengths by these (0,0.5,2)"
    )
    parser.add_argument("--layers", action="store_true", help="measure whole layers only")
    parser.add_argument("--split", choices=("quick", "validation"), default="quick", help="which pictures (quick)")
    parser.add_argument("--csv", metavar="FILE", type=as_path, help="write every effect to this file")
    json_option(parser)
    quiet_option(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.engine.engine import Engine
    from neuromerge.evaluation.families import families
    from neuromerge.exploration.effects import measured
    from neuromerge.settings.recipes import load_recipe, setting_of

    require_writable(options.csv)
    if options.recipe:
        if options.set or options.profile or options.tasks:
            raise SettingError("A recipe says which tasks are merged and how: leave out --tasks, --set and --profile.")
        setting = setting_of(load_recipe(options.recipe), families().values())
    else:
        setting = _setting(options)
    engine = Engine().of(setting.family)
    with progress_bar(options.quiet) as job:
        found = measured(engine, setting, options.changes, options.split, matrices=not options.layers, job=job)
    if options.json:
        print_json({**_as_dict(found), "sources": engine.models.family.commits(setting.tasks)})
    else:
        print(_as_text(found, options.changes))
    if options.csv:
        write_text(options.csv, _as_csv(found))
    return 0


def _setting(options: argparse.Namespace) -> Setting:
    from neuromerge.settings.choices import make_setting

    profile = profile_from(options.profile) or None
    return make_setting(options.family, options.tasks, options.method, dict(options.set), options.seed, profile=profile)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in as_names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers separated by commas, found {quoted(text)}") from None


def _as_dict(found: EffectMap) -> dict[str, Any]:
    ranked = found.agreement(found.effects[0].times) if found.effects else None
    return {
        "split": found.split,
        "images": found.images,
        "before": dict(found.before),
        "effects": found.records(),
        "rank_correlation_with_conflict": None if ranked is None else ranked[0],
        "cells": None if ranked is None else ranked[1],
        "complete": found.complete,
    }


def _as_csv(found: EffectMap) -> str:
    records, out = found.records(), io.StringIO()
    writer = csv.DictWriter(out, list(records[0]) if records else ["layer"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def _as_text(found: EffectMap, changes: list[float]) -> str:
    mean = sum(found.before.values()) / len(found.before)
    lines = [f"{100 * mean:.1f} % mean accuracy on {found.images:,} pictures ({found.split}). Differences in points:"]
    for times in changes:
        effects = found.at(times)
        columns = ["", *(matrix for matrix in found.columns if any(key[1] == matrix for key in effects))]
        lines += ["", {0.0: "left at the base"}.get(times, f"strength times {times:g}")]
        lines.append(" " * 12 + "".join(f"{name or 'whole layer':>12} " for name in columns))
        for layer in found.rows:
            written = (_points(effects.get((layer, matrix))) for matrix in columns)
            lines.append(f"{layer:>12}" + "".join(f"{text:>13}" for text in written))
    ranked = found.agreement(changes[0])
    if ranked is not None:
        said = f"Rank correlation of conflict with the change of accuracy: {ranked[0]:+.2f} over {ranked[1]} cells."
        lines += ["", said]
    return "\n".join(lines)


def _points(effect: Any) -> str:
    return "-" if effect is None else f"{100 * effect.difference:+.1f}{' ' if effect.is_noise else '*'}"
