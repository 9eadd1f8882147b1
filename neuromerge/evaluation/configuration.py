"""What the weights of a CLIP model do not say: heads, activations, pooling, preprocessing, tokenizer.

Read from open_clip's `open_clip_config.json` or from transformers' `config.json` and
`preprocessor_config.json`. Sizes are not read here: they follow from the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neuromerge.checkpoints.checkpoint import Checkpoint
from neuromerge.errors import CheckpointError

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP_VOCABULARY = 49_408
_LEGACY_EOS = 2  # early transformers configurations of CLIP carry this wrong id; the model then pools at the largest


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes pixels: resized, cropped to `size` x `size`, scaled by `mean` and `std` (of [0, 1])."""

    size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill: int = 0


@dataclass(frozen=True, slots=True)
class TowerSettings:
    """What a transformer tower needs beside its weights.

    `head_width` or `heads` is known, the other None. `activation` is a key of `towers.blocks.ACTIVATIONS`.
    """

    activation: str
    heads: int | None = None
    head_width: int | None = None
    eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class TextSettings:
    """The text tower's settings beside those of every tower.

    `pool` says which token is read: ``argmax`` (the largest id), ``eos`` (the first `eos`), ``first``, ``last``.
    `tokenizer` is ``stock`` (CLIP's own vocabulary) or ``folder`` (the tokenizer files beside the weights).
    `clean` is applied to a text before it is split: ``none``, ``whitespace``, ``lower`` or ``canonicalize``.
    """

    tower: TowerSettings
    context: int
    pool: str = "argmax"
    eos: int | None = None
    pad: int = 0
    tokenizer: Literal["stock", "folder"] = "stock"
    clean: str = "none"
    causal: bool = True


@dataclass(frozen=True, slots=True)
class ClipConfiguration:
    """Everything about a CLIP model that is not a weight. `folder` is where it was read, None when unknown."""

    vision: TowerSettings
    text: TextSettings | None
    preprocessing: Preprocessing
    folder: Path | None = None


def configuration_of(checkpoint: Checkpoint) -> ClipConfiguration | None:
    """The configuration beside a checkpoint's weights, None where there is none.

    Raises CheckpointError for a file that cannot be read, or a model of a kind that cannot be run here.
    """
    files = checkpoint.config_files
    path = files.get("open_clip_config.json") or files.get("config.json")
    if path is None:
        return None
    try:
        if path.name == "open_clip_config.json":
            return from_open_clip(_json(path), path.parent)
        preprocessor = _json(files["preprocessor_config.json"]) if "preprocessor_config.json" in files else {}
        return from_transformers(_json(path), preprocessor, path.parent)
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a configuration of a CLIP model: {error}.") from None


def from_open_clip(data: Mapping[str, Any], folder: Path | None = None) -> ClipConfiguration:
    """From the content of `open_clip_config.json`. Raises CheckpointError for what is not a plain CLIP ViT."""
    model = data.get("model_cfg", data)
    vision, text = dict(model.get("vision_cfg") or {}), dict(model.get("text_cfg") or {})
    where = f"{folder / 'open_clip_config.json' if folder else 'open_clip_config.json'}"
    if not vision:
        raise CheckpointError(f"{where} has no vision_cfg: it does not describe a CLIP model.")
    _refuse(
        where,
        vision,
        {
            "timm_model_name": None,
            "ls_init_value": None,
            "attentional_pool": False,
            "no_ln_pre": False,
            "pool_type": "tok",
            "final_ln_after_pool": None,  # the same for one token
            "qk_norm": False,
            "scaled_cosine_attn": False,
            "scale_heads": False,
            "scale_attn_inner": False,
            "scale_attn": False,
            "scale_fc": False,
            "act_kwargs": None,
        },
    )
    if isinstance(vision.get("layers"), list):
        raise CheckpointError(f"{where}: the vision tower is a ResNet; only vision transformers can be run here.")
    quick = "quick_gelu" if model.get("quick_gelu") else "gelu"
    preprocess = dict(data.get("preprocess_cfg") or {})
    size = preprocess.get("size", vision.get("image_size", 224))
    return ClipConfiguration(
        vision=TowerSettings(quick, head_width=int(vision.get("head_width", 64)), eps=_eps(vision)),
        text=_open_clip_text(where, text, quick) if text else None,
        preprocessing=Preprocessing(
            size=_square(size, where),
            mean=_three(preprocess.get("mean", OPENAI_MEAN), where),
            std=_three(preprocess.get("std", OPENAI_STD), where, positive=True),
            interpolation="bilinear" if preprocess.get("interpolation") == "bilinear" else "bicubic",
            resize_mode=_choice(preprocess.get("resize_mode", "shortest"), ("shortest", "longest", "squash"), where),
            fill=int(preprocess.get("fill_color", 0) or 0),
        ),
        folder=folder,
    )


def from_transformers(
    data: Mapping[str, Any], preprocessor: Mapping[str, Any], folder: Path | None = None
) -> ClipConfiguration:
    """From `config.json` of a CLIPModel or CLIPVisionModel, and `preprocessor_config.json` (may be empty).

    Raises CheckpointError for another kind of model.
    """
    where = f"{folder / 'config.json' if folder else 'config.json'}"
    kind = data.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise CheckpointError(
            f"{where} describes a model of type {kind!r}. Pictures can be evaluated with CLIP models (clip, "
            "clip_vision_model) only; merging works for any."
        )
    vision = dict(data if kind == "clip_vision_model" else data.get("vision_config") or {})
    text = dict(data.get("text_config") or {}) if kind == "clip" else {}
    size = preprocessor.get("crop_size", preprocessor.get("size", vision.get("image_size", 224)))
    return ClipConfiguration(
        vision=_transformers_tower(where, vision, 12),
        text=_transformers_text(where, text) if kind == "clip" else None,
        preprocessing=Preprocessing(
            size=_square(size, where),
            mean=_three(preprocessor.get("image_mean", OPENAI_MEAN), where),
            std=_three(preprocessor.get("image_std", OPENAI_STD), where, positive=True),
            interpolation="bilinear" if preprocessor.get("resample") == 2 else "bicubic",  # PIL's numbers
        ),
        folder=folder,
    )


def _open_clip_text(where: str, text: dict[str, Any], activation: str) -> TextSettings:
    _refuse(
        where,
        text,
        {
            "hf_model_name": None,
            "ls_init_value": None,
            "embed_cls": False,
            "proj_bias": False,
            "qk_norm": False,
            "scaled_cosine_attn": False,
            "scale_heads": False,
            "scale_attn_inner": False,
            "scale_attn": False,
            "scale_fc": False,
            "act_kwargs": None,
            "tokenizer_mode": None,
        },
    )
    options = dict(text.get("tokenizer_kwargs") or {})
    own = bool(text.get("hf_tokenizer_name"))
    unknown = set(options) - {"clean"}
    if unknown:
        raise CheckpointError(f"{where}: tokenizer_kwargs {', '.join(sorted(unknown))} are not supported.")
    return TextSettings(
        tower=TowerSettings(activation, heads=int(text.get("heads", 8)), eps=_eps(text)),
        context=int(text.get("context_length", 77)),
        pool=_choice(text.get("pool_type", "argmax"), ("argmax", "eos", "first", "last"), where),
        eos=int(text.get("eos_id", 2)),
        pad=int(text.get("pad_id", 0)),
        tokenizer="folder" if own else "stock",
        clean=_choice(options.get("clean", "whitespace" if own else "lower"), _CLEANING, where),
        causal=not text.get("no_causal_mask", False),
    )


def _transformers_text(where: str, text: dict[str, Any]) -> TextSettings:
    eos = int(text.get("eos_token_id", CLIP_VOCABULARY - 1))
    return TextSettings(
        tower=_transformers_tower(where, text, 8),
        context=int(text.get("max_position_embeddings", 77)),
        pool="argmax" if eos == _LEGACY_EOS else "eos",
        eos=eos,
        pad=int(text.get("pad_token_id", 1)),
        tokenizer="folder",
    )


def _transformers_tower(where: str, tower: dict[str, Any], heads: int) -> TowerSettings:
    names = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
    activation = str(tower.get("hidden_act", "quick_gelu"))
    if activation not in names:
        raise CheckpointError(f"{where}: the activation {activation!r} is not one of {', '.join(names)}.")
    return TowerSettings(
        activation=names[activation],
        heads=int(tower.get("num_attention_heads", heads)),
        eps=float(tower.get("layer_norm_eps", 1e-5)),
    )


_CLEANING = ("none", "whitespace", "lower", "canonicalize")


def _refuse(where: str, given: Mapping[str, Any], supported: Mapping[str, Any]) -> None:
    """Raise CheckpointError for an option whose value asks for another network than CLIP's own."""
    for key, value in supported.items():
        if key != "final_ln_after_pool" and given.get(key, value) != value and given.get(key):
            raise CheckpointError(f"{where}: {key} = {given[key]!r} is not supported; only CLIP's own network is.")


def _choice(value: Any, choices: Iterable[str], where: str) -> Any:
    if value not in choices:
        raise CheckpointError(f"{where}: {value!r} is not one of {', '.join(choices)}.")
    return value


def _eps(tower: Mapping[str, Any]) -> float:
    return float((tower.get("norm_kwargs") or {}).get("eps", 1e-5))


def _square(size: Any, where: str) -> int:
    if isinstance(size, Mapping):
        size = size.get("shortest_edge", [size.get("height", 0), size.get("width", 0)])
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if len(sides) != 1 or not isinstance(next(iter(sides)), int) or next(iter(sides)) < 1:
        raise CheckpointError(f"{where}: the image size {size!r} is not one positive whole number.")
    return int(sides.pop())


def _three(values: Any, where: str, *, positive: bool = False) -> tuple[float, float, float]:
    if isinstance(values, (int, float)):
        values = [values] * 3
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise CheckpointError(f"{where}: mean and std need three numbers, not {values!r}.")
    first, second, third = (float(value) for value in values)
    for value in (first, second, third):
        if not math.isfinite(value) or (positive and value <= 0):
            raise CheckpointError(f"{where}: mean and std need finite numbers, std above 0, not {values!r}.")
    return first, second, third


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return data
