"""Command line of the model zoo: `python -m neuromerge.zoo build-data | train | publish`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from neuromerge.errors import NeuroMergeError, SettingError

log = logging.getLogger("neuromerge.zoo")

DEFAULT_CACHE = Path.home() / ".cache" / "neuromerge" / "zoo"
BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "pictoclip"
_BASE_SHARE = 0.62  # of a time budget; the rest, less a margin for measuring, goes to the experts
_EXPERT_SHARE = 0.33


def parser() -> argparse.ArgumentParser:
    """The argument parser, also read by tests."""
    top = argparse.ArgumentParser(
        prog="python -m neuromerge.zoo",
        description="Build the picture data set, train PictoCLIP and its eight experts, and write the model folder.",
        epilog="A whole run: build-data, then train. Interrupt at any time; the same command goes on.",
    )
    commands = top.add_subparsers(dest="command", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="working folder (default: %(default)s)")

    build = commands.add_parser("build-data", parents=[common], help="fetch the sources and draw every picture")
    build.add_argument("--workers", type=int, default=2, help="drawing processes (default: %(default)s)")

    train = commands.add_parser("train", parents=[common], help="train the base and the experts, resuming if possible")
    publish = commands.add_parser("publish", parents=[common], help="write figures, manifest and model card again")
    for command in (train, publish):
        command.add_argument("--out", type=Path, help="model folder to write (default: CACHE/pictoclip)")
        command.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    train.add_argument(
        "--only", nargs="+", metavar="STAGE", help="only these: base, or task names; experts start from the base in "
        "--out, or else from the bundled one",
    )  # fmt: skip
    train.add_argument(
        "--budget-minutes", type=float, metavar="M", help="fit base and experts into about M minutes on this machine"
    )
    train.add_argument("--base-steps", type=int, help="batches of base training")
    train.add_argument("--expert-steps", type=int, help="batches per expert, whatever the size of its task")
    train.add_argument("--expert-rate", type=float, help="peak learning rate of the experts")
    train.add_argument(
        "--expert-keep", type=float, help="how firmly experts are held to the base on other tasks' pictures (0: not)"
    )
    train.add_argument("--seed", type=int, help="seed of every random choice (default: 0)")
    train.add_argument("--threads", type=int, help="CPU threads (default: 2)")
    train.add_argument("--fresh", action="store_true", help="forget earlier runs in this cache and start anew")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (2 for errors that the user can mend)."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        if options.command == "build-data":
            _build(options)
        elif options.command == "train":
            _train(options)
        else:
            _publish(options)
    except NeuroMergeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. Run the same command to go on.\n")
        return 130
    return 0


def _build(options: argparse.Namespace) -> None:
    from neuromerge.zoo import build

    for name, count in build.build(options.cache, options.workers).items():
        sys.stdout.write(f"{name:28} {count:6}\n")


def _device(options: argparse.Namespace) -> Any:
    import torch

    from neuromerge.zoo import train

    return torch.device(options.device) if options.device else train.pick_device()


def _train(options: argparse.Namespace) -> None:
    from neuromerge.zoo import build, model, publish, train

    out = options.out or options.cache / "pictoclip"
    run = options.cache / "run"
    if options.fresh:
        shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True, exist_ok=True)
    data = build.load(options.cache)
    stages = options.only or ["base", *data.tasks]
    unknown = sorted(set(stages) - {"base", *data.tasks})
    if unknown:
        raise SettingError(f"Unknown stage {', '.join(unknown)}. Choose from: base, {', '.join(data.tasks)}.")
    device = _device(options)
    recipe = _recipe(options, run, data, device, stages)
    log.info("device %s, %s", device, recipe)
    if "base" in stages:
        tokenizer = _tokenizer(run, data)
        state = train.train_base(data, tokenizer, run, recipe, device, _progress)
        model.save_base(out, state, tokenizer)
    elif not (out / "open_clip_model.safetensors").exists():
        log.info("no base in %s: starting from the bundled one", out)
        _copy_base(BUNDLED, out)
    base = publish.read_state(out / "open_clip_model.safetensors")
    tokenizer = publish.load_tokenizer(out)
    publish.write_samples(data, out)
    for name in [stage for stage in stages if stage != "base"]:
        marker = {"base": publish.fingerprint(base), **_expert_settings(recipe)}
        file, note = out / "experts" / f"{name}.safetensors", run / f"{name}.json"
        if file.exists() and note.exists() and json.loads(note.read_text()) == marker:
            log.info("%s: finished before", name)
            continue
        started = time.monotonic()
        state = train.train_expert(data, data.tasks[name], base, tokenizer, recipe, device, _progress)
        model.save_expert(file, state)
        note.write_text(json.dumps(marker))
        log.info("%s: %.0f s, moved %.2f %%", name, time.monotonic() - started, 100 * train.movement(base, state))
    write_card(out, data, device, dataclasses.asdict(recipe))


def _expert_settings(recipe: Any) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(recipe).items() if key.startswith(("expert", "seed"))}


def _recipe(options: argparse.Namespace, run: Path, data: Any, device: Any, stages: list[str]) -> Any:
    """The recipe from the options; a time budget is turned into steps once and then kept, so that runs resume."""
    from neuromerge.zoo import train

    given = {
        key: value
        for key in ("base_steps", "expert_steps", "expert_rate", "expert_keep", "seed", "threads")
        if (value := getattr(options, key)) is not None
    }
    if "expert_steps" in given or options.budget_minutes:
        given["expert_passes"] = 0.0  # the number of steps is then what was asked for
    recipe = train.Recipe(**given)
    plan = run / "plan.json"
    if options.budget_minutes:
        seconds = 60 * options.budget_minutes
        kept = json.loads(plan.read_text()) if plan.exists() else {}
        if kept.get("budget_minutes") != options.budget_minutes:
            base_step, expert_step = train.step_seconds(data, _tokenizer(run, data), recipe, device)
            experts = max(1, len([stage for stage in stages if stage != "base"]))
            kept = {
                "budget_minutes": options.budget_minutes,
                "base_steps": max(20, int(_BASE_SHARE * seconds / base_step)),
                "expert_steps": max(5, int(_EXPERT_SHARE * seconds / experts / expert_step)),
            }
            plan.write_text(json.dumps(kept))
        recipe = dataclasses.replace(recipe, base_steps=kept["base_steps"], expert_steps=kept["expert_steps"])
    warmup = min(recipe.warmup, max(1, recipe.base_steps // 10))
    return dataclasses.replace(recipe, warmup=warmup)


def _tokenizer(run: Path, data: Any) -> Any:
    """The tokenizer of this run, learnt from the captions once."""
    from neuromerge.zoo import captions, model, publish

    folder = run / "tokenizer"
    if not folder.exists():
        texts = [c for p in data.pictures if p.split == "train" for c in captions.captions(p, data.tasks)]
        prompts = [t.format(name) for task in data.tasks.values() for name in task.classes for t in task.templates]
        model.build_tokenizer(texts, prompts).save_pretrained(str(folder))
    return publish.load_tokenizer(folder)


def _copy_base(source: Path, target: Path) -> None:
    if not (source / "open_clip_model.safetensors").exists():
        raise SettingError("There is no base to start from. Run `python -m neuromerge.zoo train --only base` first.")
    target.mkdir(parents=True, exist_ok=True)
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(source / name, target / name)


def _publish(options: argparse.Namespace) -> None:
    from neuromerge.zoo import build, publish

    out = options.out or options.cache / "pictoclip"
    data = build.load(options.cache)
    publish.write_samples(data, out)
    figures = out / "figures.json"
    recipe = json.loads(figures.read_text()).get("recipe", {}) if figures.exists() else {}
    write_card(out, data, _device(options), recipe)


def write_card(out: Path, data: Any, device: Any, recipe: dict[str, Any]) -> None:
    """Measure the models in `out` and write their manifest, figures and model card there."""
    from neuromerge.zoo import card, publish

    publish.write_manifest(data, out)
    figures = publish.measure(data, out, device)
    publish.write_figures(out, figures, recipe)
    card.write(out, data, figures, recipe)
    for name, entry in figures.items():
        base, expert = entry["base"]["test"], entry["expert"]["test"]
        sys.stdout.write(
            f"{name:10} zero-shot {100 * base['accuracy']:5.1f}  expert {100 * expert['accuracy']:5.1f}  "
            f"(n = {base['n']}, moved {100 * entry['movement']:.1f} %)\n"
        )


def _progress(stage: str, step: int, steps: int, loss: float) -> None:
    """A one-line progress display for terminals; logs carry the same figures elsewhere."""
    if sys.stderr.isatty():
        done = int(30 * step / steps)
        sys.stderr.write(f"\r{stage:10} [{'#' * done}{'.' * (30 - done)}] {step}/{steps} loss {loss:.3f}  ")
        if step >= steps:
            sys.stderr.write("\n")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
