"""`neuromerge merge`: checkpoints or a recipe in, one merged checkpoint out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromerge.cli.options import (
    as_factor,
    as_path,
    as_seed,
    as_weight,
    checkpoint_options,
    json_option,
    matching_options,
    profile_from,
    quiet_option,
)
from neuromerge.cli.printing import number, print_json, progress_bar
from neuromerge.errors import SettingError

if TYPE_CHECKING:
    from neuromerge.merging import MergeMethod, MergeResult
    from neuromerge.merging.profile import Profile

SUMMARY = "merge checkpoints into one"
EPILOG = """\
examples
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --out merged
      NeuroMerging without validation data: trim ratio 0.8, lambda_1 = 0, lambda_2 = 1 / (1 - sigma)
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --lambda-parallel 0.2 --lambda-orthogonal 1.4 --out merged
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --method ties --trim-ratio 0.9 --out merged
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --vote balanced --trim-ratio 0 --out merged
      the balanced vote: every expert finds its own change whole; its natural lambda_2 is 1
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --method tsv_m --scale retention:0.85 --then svc --out m
      the scale that leaves the experts 85 % of what they learned, on average; then calibrated singular values
  neuromerge merge --task LORA1 LORA2 --out merged
      LoRA adapters name their base themselves
  neuromerge merge recipe.yaml --out merged
      the same written down; the app exports this file:
        merge_method: neuromerging
        base_model: bundled:pictoclip
        models:
          - model: bundled:pictoclip/digits
          - model: bundled:pictoclip/flags
        parameters:
          trim_ratio: 0.8
          lambda_parallel: 0.0
          lambda_orthogonal: auto

Checkpoints larger than memory are no problem: one parameter is held at a time. The result loads again in the library
that the base came from; --layout changes a CLIP model to the other one.
"""


@dataclass(frozen=True)
class _Asked:
    """One merge as the user asked for it; `notes` say how a recipe was read."""

    base: str | None
    tasks: Sequence[str] | dict[str, str]
    method: str
    values: dict[str, Any]
    seed: int
    then: tuple[str, ...] = ()
    dtype: str | None = None
    notes: tuple[str, ...] = ()
    profile: Profile = ()
    task_weights: tuple[float, ...] = ()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "recipe", nargs="?", type=as_path, metavar="RECIPE", help="a YAML recipe, instead of --base and --task"
    )
    checkpoint_options(parser)
    matching_options(parser)
    parser.add_argument("--method", metavar="NAME", help="merge method (neuromerging); see `neuromerge methods`")
    parser.add_argument(
        "--profile",
        type=as_factor,
        action="append",
        default=[],
        metavar="PART=F",
        help="a factor on the coefficients of a part: fc1=0.5, 'block 3=0', a curve over depth fc1=0.5,1,1.5, one "
        "coefficient 'block 3/fc1:lambda_parallel=0'; may be given again",
    )
    parser.add_argument(
        "--weight",
        type=as_weight,
        action="append",
        default=[],
        metavar="TASK=W",
        help="multiply the task vector of an expert; may be given again",
    )
    parser.add_argument(
        "--then",
        metavar="STEP",
        action="append",
        help="step after the merge, once each: svc or svc:ALPHA (calibrate singular values, 0.1), lines or "
        "lines:ALPHA:BETA (weaken early blocks: ALPHA + BETA * l / (L - 1) at block l of L)",
    )
    parser.add_argument("--seed", type=as_seed, metavar="N", help="seed of methods that draw at random (0)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, or a file ending in .safetensors")
    parser.add_argument("--layout", choices=("open_clip", "transformers"), help="write a CLIP model in this layout")
    parser.add_argument("--dtype", metavar="TYPE", help="write floats as float32, float16 or bfloat16 (as the base)")
    parser.add_argument("--force", action="store_true", help="write into a folder that holds something else")
    json_option(parser)
    quiet_option(parser)
    _parameter_options(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    import neuromerge

    given = {
        name.removeprefix("parameter_"): value
        for name, value in vars(options).items()
        if name.startswith("parameter_") and value is not None
    }
    asked = _asked(options, given)
    with progress_bar(options.quiet) as job:
        result = neuromerge.merge(
            asked.base,
            asked.tasks,
            asked.method,
            profile=profile_from(options.profile) if options.profile else asked.profile,
            task_weights=dict(options.weight) or asked.task_weights,
            then=asked.then,
            seed=asked.seed,
            out=options.out,
            layout=options.layout,
            dtype=options.dtype or asked.dtype,
            force=options.force,
            device=options.device,
            towers=options.towers,
            vocabulary=options.vocabulary,
            job=job,
            **asked.values,
        )
    if options.json:
        print_json({**result.summary(), "notes": list(asked.notes)})
    else:
        print(_merge_text(result))
        for note in asked.notes:
            print(f"  note: {note}")
    return 0


def _parameter_options(parser: argparse.ArgumentParser) -> None:
    """One option for every parameter that a method has, in the words of the registry."""
    from neuromerge.merging import methods

    group = parser.add_argument_group("parameters of the method (default in brackets)")
    owners: dict[str, list[tuple[MergeMethod, Any]]] = {}
    for method in methods().values():
        for spec in method.hyperparameters:
            owners.setdefault(spec.name, []).append((method, spec))
    for name, uses in owners.items():
        spec = uses[0][1]
        values = "|".join(spec.choices) or ("true|false" if spec.kind == "bool" else "X")
        defaults = ", ".join(f"{method.name} {use.default}" for method, use in uses)
        text = f"{spec.description} [{defaults}]"
        group.add_argument(
            f"--{name.replace('_', '-')}", dest=f"parameter_{name}", metavar=values, help=text.replace("%", "%%")
        )


def _asked(options: argparse.Namespace, given: Mapping[str, str]) -> _Asked:
    """What to merge: from the recipe where there is one, else from the options."""
    then = tuple(options.then or ())
    if options.recipe is None:
        if not options.task:
            raise SettingError("Name a base and at least one expert (--base B --task T1 --task T2), or a recipe file.")
        return _Asked(
            options.base, options.task, options.method or "neuromerging", dict(given), options.seed or 0, then
        )
    if options.base or options.task:
        raise SettingError(
            f"Give a recipe ({options.recipe}) or --base and --task, not both. If it is an expert, write --task before "
            "it."
        )
    from neuromerge.settings.recipes import load_recipe

    recipe = load_recipe(Path(options.recipe))
    method, own, notes = options.method or recipe.method, dict(recipe.hyperparameters), list(recipe.notes)
    if method != recipe.method:
        own = {}
        notes.append(f"the recipe's parameters are those of {recipe.method} and are not used for {method}")
    names = [entry.name for entry in recipe.models]
    sources = [entry.model for entry in recipe.models]
    named = all(names) and len(set(names)) == len(names)
    tasks: Sequence[str] | dict[str, str] = dict(zip(names, sources, strict=True)) if named else sources
    seed = recipe.seed if options.seed is None else options.seed
    return _Asked(
        recipe.base,
        tasks,
        method,
        {**own, **given},
        seed,
        then or recipe.then,
        recipe.dtype,
        tuple(notes),
        recipe.profile,
        tuple(entry.weight for entry in recipe.models),
    )


def _merge_text(result: MergeResult) -> str:
    lines = [f"Merged {len(result.task_names)} experts with {result.method} into {result.path}"]
    shown = {**result.parameters, **result.coefficients}
    if shown:
        lines.append("  " + ", ".join(f"{name} {number(value)}" for name, value in shown.items()))
    if result.sigma is not None:
        lines.append(f"  sigma {result.sigma:.4f} (share of the L1 norm that the trim removed, largest over tasks)")
    for task, kept in result.kept_share.items():
        lines.append(f"  {task}: {100 * kept:.1f} % of its entries kept")
    if result.then:
        lines.append(f"  then {', '.join(result.then)}")
    for task, share in result.retention.items():
        lines.append(f"  {task}: {100 * share:.0f} % of what it learned retained")
    if result.neurons:
        lines.append(
            f"  {result.ill_conditioned} of {result.neurons} neurons are close calls: "
            "a tiny change of the weights could turn their vote"
        )
    if result.from_base:
        lines.append(f"  {len(result.from_base)} tensors come from the base unchanged (--json lists them)")
    lines += [f"  warning: {text}" for text in result.warnings]
    return "\n".join(lines)
