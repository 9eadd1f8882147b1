"""The `neuromerge` command: merge, evaluate and inspect checkpoints from a terminal or a script.

Results go to standard output, everything else (progress, warnings, errors) to standard error. Exit codes:
0 done, 2 bad input with one line that says what is wrong, 130 stopped with Ctrl-C. Heavy imports happen inside
the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from neuromerge import __version__
from neuromerge.deployment import deployment
from neuromerge.errors import NeuroMergeError, SettingError, StorageError, out_of_memory
from neuromerge.progress import UNATTENDED, Job

if TYPE_CHECKING:
    from neuromerge.exploration.results import Trial
    from neuromerge.merging import MergeMethod, MergeResult

_STOPPED = 130
_BAD_INPUT = 2
_SPLITS = {"val": "validation", "validation": "validation", "test": "test", "quick": "quick"}

_MAIN_EPILOG = """\
checkpoints (BASE, TASK, CHECKPOINT) are named by
  a file            expert.safetensors, expert.pt (a PyTorch state dict; code in it never runs)
  a folder          as written by transformers (also sharded) or open_clip
  bundled:FAMILY    a bundled base; bundled:FAMILY/TASK one of its experts (see `neuromerge models`)
  hub:ORG/NAME      the Hugging Face Hub, optionally hub:ORG/NAME@REVISION; fetched once, then cached

start here
  neuromerge models
  neuromerge merge --base bundled:pictoclip --task bundled:pictoclip/digits --task bundled:pictoclip/flags --out merged
  neuromerge evaluate merged
  neuromerge app
"""

_MERGE_EPILOG = """\
examples
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --out merged
      NeuroMerging without validation data: trim ratio 0.8, lambda_1 = 0, lambda_2 = 1 / (1 - sigma)
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --lambda-parallel 0.2 --lambda-orthogonal 1.4 --out merged
  neuromerge merge --base BASE --task EXPERT1 --task EXPERT2 --method ties --trim-ratio 0.9 --out merged
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

_EVALUATE_EPILOG = """\
examples
  neuromerge evaluate merged
  neuromerge evaluate merged --tasks digits,flags --split test --json
  neuromerge evaluate merged --family clip-vit-b-32 --images mnist=pictures/mnist
      pictures of your own: a folder with one subfolder for each class
"""

_INTERFERENCE_EPILOG = """\
examples
  neuromerge interference --base bundled:pictoclip --task bundled:pictoclip/digits --task bundled:pictoclip/flags
  neuromerge interference --base BASE --task EXPERT1 --task EXPERT2 --measure sign_conflict
  neuromerge interference --base BASE --task EXPERT1 --task EXPERT2 --csv interference.csv

The table has the columns layer, matrix, subspace (parallel or orthogonal), measure and value.
"""

_SWEEP_EPILOG = """\
examples
  neuromerge sweep --trials 40
  neuromerge sweep --family pictoclip --tasks digits,flags --range lambda_orthogonal=0.5:3 --set lambda_parallel=0
  neuromerge sweep --method ties --sampler grid --trials 25 --recipe best.yaml
  neuromerge sweep --trials 200 --storage study.db
      run the same line on several machines (with a database URL) and they share the work; run it again to go on

Settings are scored on validation pictures only. `neuromerge merge best.yaml --out merged` makes the best one.
"""

_COMPARE_EPILOG = """\
examples
  neuromerge compare
  neuromerge compare --tasks digits,flags --methods neuromerging,ties,task_arithmetic --no-tuned --markdown

Every method merges the same experts and is measured on the same pictures. Tuned rows choose their coefficients on
validation pictures, with the same budget for each method.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"{self.prog}: {_one_line(message)} Try {self.prog} --help.\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode, a path that is no text
    try:
        deployment()  # a word in the environment that cannot be read is an error of every command
        options = _parser(arguments).parse_args(arguments)
        with warnings.catch_warnings():
            # What a user should know is part of the result and printed from there.
            warnings.simplefilter("ignore")
            return int(options.run(options) or 0)
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else _BAD_INPUT
    except NeuroMergeError as error:
        return _complain(str(error))
    except (MemoryError, RuntimeError) as error:
        too_large = out_of_memory(error)
        if too_large is None:
            raise
        return _complain(str(too_large))
    except KeyboardInterrupt:
        print("neuromerge: stopped.", file=sys.stderr)
        return _STOPPED
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(message: str) -> int:
    print(f"neuromerge: {_one_line(message)}", file=sys.stderr)
    return _BAD_INPUT


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if line.endswith((".", "!", "?")) else line + "."


# ------------------------------------------------------------------------------------------------ the parser


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The whole parser. The options of merge methods need the registry, which is loaded only for their commands."""
    parser = _Parser(
        prog="neuromerge",
        description="Merge fine-tuned models of one base neuron by neuron, and see where their tasks interfere.",
        epilog=_MAIN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"neuromerge {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    chosen = next((word for word in arguments if not word.startswith("-")), "")

    def command(name: str, run: Callable[[argparse.Namespace], int | None], summary: str, epilog: str = "") -> _Parser:
        made: _Parser = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=run)
        return made

    _merge_options(command("merge", _merge, "merge checkpoints into one", _MERGE_EPILOG), chosen == "merge")
    _evaluate_options(command("evaluate", _evaluate, "measure accuracy on every task", _EVALUATE_EPILOG))
    _interference_options(
        command("interference", _interference, "table where tasks interfere, layer by layer", _INTERFERENCE_EPILOG)
    )
    _sweep_options(command("sweep", _sweep, "search the best parameters on validation data", _SWEEP_EPILOG))
    _compare_options(command("compare", _compare, "compare methods on the tasks of a family", _COMPARE_EPILOG))
    _convert_options(command("convert", _convert, "write a checkpoint in another layout or precision"))

    models = command("models", _models, "list the known model families, their accuracy and their licences")
    models.add_argument("--fetch", metavar="FAMILY", help="fetch a family's weights and test pictures from the Hub")
    _json_option(models)
    methods = command("methods", _methods, "list the merge methods and their parameters")
    methods.add_argument("name", nargs="?", metavar="METHOD", help="show this method only")
    _json_option(methods)

    app = command("app", _app, "open the app in the browser")
    app.add_argument("--port", type=_port, metavar="P", help="port to listen on (the first free one from 7860)")
    app.add_argument("--host", metavar="ADDRESS", help="address to listen on (this machine only; 0.0.0.0 for all)")
    return parser


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _quiet_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", "-q", action="store_true", help="show no progress")


def _checkpoint_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", metavar="BASE", help="the model that all experts were fine-tuned from")
    parser.add_argument("--task", metavar="EXPERT", action="append", default=[], help="one expert; give it for each")
    parser.add_argument("--device", default="cpu", metavar="D", help="where to compute: cpu (default) or cuda")


def _merge_options(parser: argparse.ArgumentParser, with_parameters: bool) -> None:
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a YAML recipe, instead of --base and --task")
    _checkpoint_options(parser)
    parser.add_argument("--method", metavar="NAME", help="merge method (neuromerging); see `neuromerge methods`")
    parser.add_argument("--seed", type=_seed, metavar="N", help="seed of methods that draw at random (0)")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, or a file ending in .safetensors")
    parser.add_argument("--layout", choices=("open_clip", "transformers"), help="write a CLIP model in this layout")
    parser.add_argument("--dtype", metavar="TYPE", help="write floats as float32, float16 or bfloat16 (as the base)")
    parser.add_argument("--force", action="store_true", help="write into a folder that holds something else")
    _json_option(parser)
    _quiet_option(parser)
    if with_parameters:
        _parameter_options(parser)


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


def _evaluate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="what to evaluate")
    parser.add_argument("--tasks", metavar="T1,T2", type=_words, help="tasks to evaluate (all of the family)")
    parser.add_argument("--split", choices=sorted(_SPLITS), default="test", help="which pictures (test)")
    parser.add_argument("--family", metavar="NAME", help="family of the checkpoint (found by its shapes)")
    parser.add_argument(
        "--images", metavar="TASK=DIR", type=_pair, action="append", default=[], help="your own pictures for a task"
    )
    parser.add_argument(
        "--experts", action=argparse.BooleanOptionalAction, help="evaluate the experts too, for the share they reach"
    )
    _json_option(parser)
    _quiet_option(parser)


def _interference_options(parser: argparse.ArgumentParser) -> None:
    _checkpoint_options(parser)
    parser.add_argument(
        "--trim-ratio", default="0.8", metavar="R", help="share of each task vector to remove first (0.8)"
    )
    parser.add_argument("--lambda-parallel", default="0", metavar="X", help="lambda_1, a number or auto (0)")
    parser.add_argument("--lambda-orthogonal", default="auto", metavar="X", help="lambda_2, a number or auto (auto)")
    parser.add_argument("--measure", default="cancellation", metavar="NAME", help="measure to print (cancellation)")
    parser.add_argument("--csv", metavar="FILE", help="write the whole table to this file (- for standard output)")
    _json_option(parser)
    _quiet_option(parser)


def _sweep_options(parser: argparse.ArgumentParser) -> None:
    _family_options(parser)
    parser.add_argument("--method", default="neuromerging", metavar="NAME", help="merge method (neuromerging)")
    parser.add_argument("--trials", type=int, default=40, metavar="N", help="trials in the study at the end (40)")
    parser.add_argument("--sampler", choices=("tpe", "grid"), default="tpe", help="how to choose trials (tpe)")
    parser.add_argument("--storage", metavar="URL", help="database URL or SQLite file: resume the study, or share it")
    parser.add_argument("--study", metavar="NAME", help="name of the study in the storage")
    parser.add_argument("--search", metavar="P1,P2", type=_words, help="parameters to search")
    parser.add_argument(
        "--range", metavar="P=LOW:HIGH", type=_range, action="append", default=[], help="search a parameter within this"
    )
    parser.add_argument(
        "--set", metavar="P=VALUE", type=_pair, action="append", default=[], help="fix a parameter at this value"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of the search (0)")
    parser.add_argument("--csv", metavar="FILE", help="write every trial to this file")
    parser.add_argument("--recipe", metavar="FILE", help="write the best setting to this recipe")
    _json_option(parser)
    _quiet_option(parser)


def _family_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", default="pictoclip", metavar="NAME", help="model family (pictoclip)")
    parser.add_argument("--tasks", metavar="T1,T2", type=_words, help="tasks to merge (all of the family)")


def _compare_options(parser: argparse.ArgumentParser) -> None:
    _family_options(parser)
    parser.add_argument("--methods", metavar="M1,M2", type=_words, help="methods to compare (all)")
    parser.add_argument(
        "--tuned", action=argparse.BooleanOptionalAction, default=True, help="a second row with coefficients tuned"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--split", choices=sorted(_SPLITS), default="test", help="which pictures (test)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of methods that draw at random (0)")
    _json_option(parser)
    _quiet_option(parser)


def _convert_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="what to convert")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, or a file ending in .safetensors")
    parser.add_argument("--layout", choices=("open_clip", "transformers"), help="layout of a CLIP model (as it is)")
    parser.add_argument("--dtype", metavar="TYPE", help="write floats as float32, float16 or bfloat16 (as they are)")
    parser.add_argument("--force", action="store_true", help="write into a folder that holds something else")


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise argparse.ArgumentTypeError("expected names separated by commas")
    return words


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
    return name.strip().replace("-", "_"), value.strip()


def _range(text: str) -> tuple[str, tuple[float, float]]:
    try:
        name, value = _pair(text)
        low, high = (float(bound) for bound in value.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=LOW:HIGH, found {text!r}") from None
    return name, (low, high)


def _whole(text: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, found {text!r}")
    return number


def _port(text: str) -> int:
    return _whole(text, 1, 65535)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**63 - 1)


# ---------------------------------------------------------------------------------------------- the commands


def _merge(options: argparse.Namespace) -> int:
    import neuromerge

    given = {
        name.removeprefix("parameter_"): value
        for name, value in vars(options).items()
        if name.startswith("parameter_") and value is not None
    }
    base, tasks, method, values, seed = _what_to_merge(options, given)
    with _job(options.quiet) as job:
        result = neuromerge.merge(
            base,
            tasks,
            method,
            seed=seed,
            out=options.out,
            layout=options.layout,
            dtype=options.dtype,
            force=options.force,
            device=options.device,
            job=job,
            **values,
        )
    if options.json:
        _print_json(result.summary())
    else:
        print(_merge_text(result))
    return 0


def _what_to_merge(
    options: argparse.Namespace, given: Mapping[str, str]
) -> tuple[str, Sequence[str] | dict[str, str], str, dict[str, Any], int]:
    """Base, experts, method, parameters and seed: from the recipe where there is one, else from the options."""
    if options.recipe is None:
        if not options.base or not options.task:
            raise SettingError("Name a base and at least one expert (--base B --task T1 --task T2), or a recipe file.")
        return options.base, options.task, options.method or "neuromerging", dict(given), options.seed or 0
    if options.base or options.task:
        raise SettingError("Give a recipe or --base and --task, not both.")
    from neuromerge.settings.recipes import load_recipe

    recipe = load_recipe(Path(options.recipe))
    method = options.method or recipe.method
    own = dict(recipe.hyperparameters) if method == recipe.method else {}
    names = [entry.name for entry in recipe.models]
    sources = [entry.model for entry in recipe.models]
    named = all(names) and len(set(names)) == len(names)
    tasks: Sequence[str] | dict[str, str] = dict(zip(names, sources, strict=True)) if named else sources
    seed = recipe.seed if options.seed is None else options.seed
    return recipe.base, tasks, method, {**own, **given}, seed


def _merge_text(result: MergeResult) -> str:
    lines = [f"Merged {len(result.task_names)} experts with {result.method} into {result.path}"]
    used = {
        "lambda_parallel": result.lambda_parallel,
        "lambda_orthogonal": result.lambda_orthogonal,
        "scale": result.scale,
    }
    shown = {**result.parameters, **{name: value for name, value in used.items() if value is not None}}
    if shown:
        lines.append("  " + ", ".join(f"{name} {_number(value)}" for name, value in shown.items()))
    if result.sigma is not None:
        lines.append(f"  sigma {result.sigma:.4f} (share of the L1 norm that the trim removed, largest over tasks)")
    for task, kept in result.kept_share.items():
        lines.append(f"  {task}: {100 * kept:.1f} % of its entries kept")
    if result.neurons:
        lines.append(f"  {result.ill_conditioned} of {result.neurons} neurons are ill-conditioned")
    if result.from_base:
        lines.append(f"  {len(result.from_base)} tensors come from the base unchanged (--json lists them)")
    lines += [f"  warning: {text}" for text in result.warnings]
    return "\n".join(lines)


def _evaluate(options: argparse.Namespace) -> int:
    import neuromerge

    with _job(options.quiet) as job:
        table = neuromerge.evaluate(
            options.checkpoint,
            options.tasks,
            _SPLITS[options.split],
            options.family,
            experts=options.experts,
            samples=dict(options.images) or None,
            job=job,
        )
    print(table.to_json() if options.json else table.to_text())
    return 0


def _interference(options: argparse.Namespace) -> int:
    import neuromerge

    if not options.base or not options.task:
        raise SettingError("Name a base and at least one expert: --base B --task T1 --task T2.")
    with _job(options.quiet) as job:
        table = neuromerge.interference(
            options.base,
            options.task,
            options.trim_ratio,  # checked, with its range, by the method's own specification
            lambda_parallel=options.lambda_parallel,
            lambda_orthogonal=options.lambda_orthogonal,
            device=options.device,
            job=job,
        )
    if options.csv:
        text = table.to_csv(index=False)
        if options.csv == "-":
            print(text, end="")
        else:
            _write_text(options.csv, text)
            print(f"Wrote {len(table)} rows to {options.csv}")
        return 0
    if options.json:
        _print_json(table.to_dict(orient="records"))
        return 0
    known = list(dict.fromkeys(table["measure"]))
    if options.measure not in known:
        raise SettingError(f"There is no measure {options.measure!r}. Known: {', '.join(known)}.")
    for subspace in dict.fromkeys(table["subspace"]):
        part = table[(table["measure"] == options.measure) & (table["subspace"] == subspace)]
        grid = part.pivot(index="layer", columns="matrix", values="value")
        grid = grid.loc[list(dict.fromkeys(part["layer"])), list(dict.fromkeys(part["matrix"]))]
        print(f"{options.measure}, {subspace} part")
        print(
            grid.rename_axis(index=None, columns=None).to_string(float_format="{:.3f}".format, na_rep="-"), end="\n\n"
        )
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from neuromerge.search.sweep import sweep, trials_to_csv
    from neuromerge.settings.recipes import dump_recipe, recipe_of

    for path in (options.csv, options.recipe):
        _require_writable(path)
    with _job(options.quiet) as job:

        def told(trial: Trial, total: int) -> None:
            value = "failed" if trial.value is None else f"{100 * trial.value:.1f} %"
            job.report(min(trial.number + 1, total), total, f"trial {trial.number}: {value}")

        found = sweep(
            options.family,
            options.tasks,
            options.method,
            trials=options.trials,
            sampler=options.sampler,
            storage=options.storage,
            study_name=options.study,
            seed=options.seed,
            hyperparameters=dict(options.set),
            search=options.search,
            ranges=dict(options.range),
            on_trial=told,
        )
    if options.csv:
        _write_text(options.csv, trials_to_csv(found.trials))
    if options.recipe and found.best is not None:
        value = f"mean validation accuracy {found.best_value:.4f}" if found.best_value is not None else ""
        _write_text(options.recipe, dump_recipe(recipe_of(found.best), notes=[value] if value else []))
    if options.json:
        best = found.best
        _print_json(
            {
                "best": None if best is None else {"method": best.method, "parameters": dict(best.hyperparameters)},
                "best_value": found.best_value,
                "importances": found.importances,
                "trials": [vars(trial) for trial in found.trials],
                "study_name": found.study_name,
                "storage": found.storage,
                "seed": found.seed,
            }
        )
    elif found.best is None or found.best_value is None:
        print(f"No trial of {found.study_name} is complete.")
    else:
        complete = sum(trial.state == "complete" for trial in found.trials)
        print(f"Best of {complete} trials: {100 * found.best_value:.1f} % mean validation accuracy")
        print("  " + ", ".join(f"{name} {_number(value)}" for name, value in found.best.hyperparameters))
        for name, share in sorted(found.importances.items(), key=lambda item: -item[1]):
            print(f"  {name} explains {100 * share:.0f} % of the differences")
        print(
            f"  study {found.study_name}" + (f" in {found.storage}" if found.storage else "") + f", seed {found.seed}"
        )
    return 0


def _compare(options: argparse.Namespace) -> int:
    from neuromerge.search.compare import compare

    with _job(options.quiet) as job:
        table = compare(
            options.family,
            options.tasks,
            options.methods,
            tuned=options.tuned,
            split=_SPLITS[options.split],
            seed=options.seed,
            job=job,
        )
    if options.json:
        print(table.to_json())
    else:
        print(table.to_markdown() if options.markdown else table.to_text())
    return 0


def _convert(options: argparse.Namespace) -> int:
    from neuromerge.checkpoints import save_checkpoint

    files = save_checkpoint(options.checkpoint, options.out, options.layout, dtype=options.dtype, force=options.force)
    for path in files:
        print(path)
    return 0


def _models(options: argparse.Namespace) -> int:
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
        _print_json(described)
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
    path = folder / "figures.json" if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        return {
            task: {model: float(entry[model]["test"]["accuracy"]) for model in ("base", "expert")}
            for task, entry in tasks.items()
        }
    except (OSError, ValueError, KeyError, TypeError):
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


def _methods(options: argparse.Namespace) -> int:
    from neuromerge.merging import methods
    from neuromerge.merging.registry import get_method

    chosen = [get_method(options.name)] if options.name else list(methods().values())
    if options.json:
        _print_json([_method_as_dict(method) for method in chosen])
        return 0
    for method in chosen:
        print(f"{method.name}  {method.title}: {method.summary}")
        for spec in method.hyperparameters:
            legal = ", ".join(spec.choices) if spec.choices else spec.range_text()
            print(f"  --{spec.name.replace('_', '-')}  {legal} (default {spec.default}). {spec.description}")
        print(f"  {method.citation}\n")
    return 0


def _method_as_dict(method: MergeMethod) -> dict[str, Any]:
    names = ("name", "kind", "default", "minimum", "maximum", "exclusive_maximum", "choices", "auto", "description")
    return {
        "name": method.name,
        "title": method.title,
        "summary": method.summary,
        "citation": method.citation,
        "parameters": [{name: getattr(spec, name) for name in names} for spec in method.hyperparameters],
    }


def _app(options: argparse.Namespace) -> int:
    from neuromerge.interface.launch import launch

    launch(port=options.port, host=options.host)
    return 0


# --------------------------------------------------------------------------------------------------- printing


@contextlib.contextmanager
def _job(quiet: bool) -> Iterator[Job]:
    """A job that draws a bar on standard error, or tells nobody where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield UNATTENDED
        return
    from tqdm import tqdm

    bar: Any = tqdm(total=1, unit="", unit_scale=True, leave=False, file=sys.stderr, dynamic_ncols=True)

    def update(done: int, total: int, what: str) -> None:
        if bar.total != total or done < bar.n:
            bar.reset(total=total)
        bar.set_description(what, refresh=False)
        bar.update(done - bar.n)

    try:
        yield Job(update)
    finally:
        bar.close()


def _print_json(value: Any) -> None:
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become null, unknown things their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    return str(value)


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _require_writable(path: str | None) -> None:
    """Raise StorageError now rather than after an hour of searching."""
    if path is not None and not Path(path).resolve().parent.is_dir():
        raise StorageError(f"{path} cannot be written: its folder does not exist. Make it first.")


def _write_text(path: str, text: str) -> None:
    """Write a small text file beside its target, then move it there."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from None


if __name__ == "__main__":
    sys.exit(main())
