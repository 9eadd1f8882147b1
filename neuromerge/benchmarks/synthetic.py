"""Families of random weights in real shapes, for benchmarks where the real ones are not at hand.

What is timed depends on shapes and on nothing else, so random weights and noise for pictures will do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from neuromerge.evaluation.families import Family, local_family

# image, patch, width, layers, head width, embedding; text width, heads, layers
SHAPES: dict[str, tuple[int, int, int, int, int, int, int, int, int]] = {
    "pictoclip": (48, 12, 192, 6, 32, 128, 128, 4, 2),
    "vit-b-32": (224, 32, 768, 12, 64, 512, 512, 8, 12),
    "vit-l-14": (224, 14, 1024, 24, 64, 768, 768, 12, 12),
}
CLASSES = 8
VOCABULARY, CONTEXT = 49_408, 77


def random_family(
    folder: Path, shape: str = "pictoclip", experts: int = 8, images: int = 96, dtype: torch.dtype = torch.float32
) -> Family:
    """A family in `folder`: a random open_clip base, experts near it, and `images` validation pictures a task."""
    image, patch, width, layers, head_width, embedding, text_width, text_heads, text_layers = SHAPES[shape]
    vision = {"image_size": image, "patch_size": patch, "width": width, "layers": layers, "head_width": head_width}
    text = {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": text_width,
        "heads": text_heads,
        "layers": text_layers,
    }
    config: dict[str, Any] = {
        "model_cfg": {"embed_dim": embedding, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"size": [image, image], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    base = folder / "base"
    base.mkdir(parents=True)
    (folder / "experts").mkdir()
    (folder / "tasks").mkdir()
    (base / "open_clip_config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    visual = _tower("visual.", width, layers, generator)
    visual |= {
        "visual.class_embedding": _normal(generator, width),
        "visual.positional_embedding": _normal(generator, (image // patch) ** 2 + 1, width),
        "visual.conv1.weight": _normal(generator, width, 3, patch, patch),
        "visual.proj": _normal(generator, width, embedding),
        **_norm("visual.ln_pre", width),
        **_norm("visual.ln_post", width),
    }
    words = _tower("", text_width, text_layers, generator)
    words |= {
        "token_embedding.weight": _normal(generator, VOCABULARY, text_width),
        "positional_embedding": _normal(generator, CONTEXT, text_width),
        "text_projection": _normal(generator, text_width, embedding),
        "logit_scale": torch.tensor(4.6),
        **_norm("ln_final", text_width),
    }
    save_file({k: v.to(dtype) for k, v in (visual | words).items()}, base / "open_clip_model.safetensors")
    for number in range(experts):
        task = f"task{number}"
        size = 0.001 * (1 + number / experts)
        expert = {
            key: torch.randn(w.shape, generator=generator).mul_(size).add_(w).to(dtype) for key, w in visual.items()
        }
        save_file(expert, folder / "experts" / f"{task}.safetensors")
        names = [f"thing {i}" for i in range(CLASSES)]
        (folder / "tasks" / f"{task}.yaml").write_text(
            json.dumps(
                {"name": task, "classes": names, "templates": ["a photo of a {}"], "samples": {"kind": "folder"}}
            )
        )
        _pictures(folder / "samples" / task, names, images, image, seed=number)
    return local_family(folder, allowed=True)


def _pictures(folder: Path, names: list[str], images: int, size: int, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    for split, count in (("validation", images), ("test", CLASSES)):
        for index in range(count):
            place = folder / split / names[index % CLASSES]
            place.mkdir(parents=True, exist_ok=True)
            noise = numbers.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(noise).save(place / f"{index}.png", compress_level=1)


def _tower(prefix: str, width: int, layers: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for block in range(layers):
        name = f"{prefix}transformer.resblocks.{block}"
        weights |= {
            f"{name}.attn.in_proj_weight": _normal(generator, 3 * width, width),
            f"{name}.attn.in_proj_bias": _normal(generator, 3 * width),
            f"{name}.attn.out_proj.weight": _normal(generator, width, width),
            f"{name}.attn.out_proj.bias": _normal(generator, width),
            f"{name}.mlp.c_fc.weight": _normal(generator, 4 * width, width),
            f"{name}.mlp.c_fc.bias": _normal(generator, 4 * width),
            f"{name}.mlp.c_proj.weight": _normal(generator, width, 4 * width),
            f"{name}.mlp.c_proj.bias": _normal(generator, width),
            **_norm(f"{name}.ln_1", width),
            **_norm(f"{name}.ln_2", width),
        }
    return weights


def _normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator).mul_(shape[-1] ** -0.5)


def _norm(name: str, width: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
