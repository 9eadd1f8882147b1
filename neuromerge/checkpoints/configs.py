"""Translating a CLIP configuration between open_clip and transformers.

Only what both libraries compute in the same way is translated. A setting that the other one has no word for
is refused by name, because dropping it would give a model that loads and answers wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuromerge.checkpoints import clip_config, image_processing
from neuromerge.checkpoints.clip_config import (
    ACTIVATIONS,
    CLIP_VOCABULARY,
    LEGACY_EOS,
    TextSettings,
    TowerSettings,
)
from neuromerge.checkpoints.fields import Fields
from neuromerge.errors import CheckpointError
from neuromerge.hub.weight_files import OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG

_DEFAULT_EPS = 1e-5
_IN_TRANSFORMERS = {ours: theirs for theirs, ours in ACTIVATIONS.items()}


def to_transformers(
    config: Mapping[str, Any], *, has_text: bool, has_projection: bool, dtype: str
) -> dict[str, dict[str, Any]]:
    """The transformers files of an open_clip configuration: ``config.json`` and ``preprocessor_config.json``.

    The model is a CLIPModel with a text tower, else a CLIPVisionModelWithProjection, else a CLIPVisionModel.

    Raises:
        CheckpointError: a missing or unreadable field, or a setting that transformers has no word for.
    """
    whole = Fields(config, OPEN_CLIP_CONFIG)
    model = _required(whole, "model_cfg")
    vision, text = _required(model, "vision_cfg"), _required(model, "text_cfg")
    settings = clip_config.from_open_clip(config, text=has_text)
    embed = _size(model, "embed_dim")
    width = vision.whole("width", 768)
    vision_config = {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": _hidden(vision, width),
        "num_hidden_layers": vision.whole("layers", 12),
        "num_attention_heads": max(width // vision.whole("head_width", 64), 1),
        "num_channels": 3,
        "image_size": vision.side("image_size", 224),
        "patch_size": vision.side("patch_size", 16),
        "projection_dim": embed,
        **_tower(settings.vision),
    }
    preprocessor = image_processing.to_transformers(settings.preprocessing)
    if settings.text is None:
        name = "CLIPVisionModelWithProjection" if has_projection else "CLIPVisionModel"
        vision_config |= {"architectures": [name], "dtype": dtype, "torch_dtype": dtype}
        return {TRANSFORMERS_CONFIG: vision_config, image_processing.PREPROCESSOR: preprocessor}
    text_width = text.whole("width", 512)
    vocabulary = text.whole("vocab_size", CLIP_VOCABULARY)
    text_config = {
        "model_type": "clip_text_model",
        "hidden_size": text_width,
        "intermediate_size": _hidden(text, text_width),
        "num_hidden_layers": text.whole("layers", 12),
        "num_attention_heads": text.whole("heads", 8),
        "max_position_embeddings": text.whole("context_length", 77),
        "vocab_size": vocabulary,
        "projection_dim": embed,
        **_tower(settings.text.tower),
        "pad_token_id": settings.text.pad,
        "bos_token_id": max(vocabulary - 2, 0),
        "eos_token_id": _read_at(settings.text, text.where),
    }
    whole_config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": embed,
        "logit_scale_init_value": 2.6592,
        "dtype": dtype,
        "torch_dtype": dtype,
        "text_config": text_config,
        "vision_config": vision_config,
    }
    return {TRANSFORMERS_CONFIG: whole_config, image_processing.PREPROCESSOR: preprocessor}


def to_open_clip(
    config: Mapping[str, Any], pictures: Fields | None, *, has_tokenizer: bool
) -> dict[str, dict[str, Any]]:
    """The open_clip file of a transformers CLIPModel configuration: ``open_clip_config.json``.

    Args:
        config: of a CLIPModel (with both towers).
        pictures: the image processor's settings where there are any; else CLIP's own values are written.
        has_tokenizer: whether tokenizer files stand beside the weights.

    Raises:
        CheckpointError: a missing field, or a setting that open_clip has no word for.
    """
    whole = Fields(config, TRANSFORMERS_CONFIG)
    vision, text = _required(whole, "vision_config"), _required(whole, "text_config")
    settings = clip_config.from_transformers({"model_type": "clip", **config}, pictures)
    if settings.text is None:
        raise CheckpointError(f"{whole.where} describes no text tower. Keep the transformers layout.")
    quick = {settings.vision.activation == "quick_gelu", settings.text.tower.activation == "quick_gelu"}
    if len(quick) != 1:
        raise CheckpointError(
            f"{whole.where}: the activations {settings.vision.activation} (vision) and "
            f"{settings.text.tower.activation} (text) have no equal in open_clip, where quick_gelu holds for both "
            "towers or for none. Keep the transformers layout."
        )
    width, text_width = vision.whole("hidden_size", 768), text.whole("hidden_size", 512)
    heads = vision.whole("num_attention_heads", 12)
    if width % heads:
        raise vision.wrong("num_attention_heads", f"a divisor of hidden_size = {width}")
    vocabulary = text.whole("vocab_size", CLIP_VOCABULARY)
    vision_cfg: dict[str, Any] = {
        "image_size": vision.side("image_size", 224),
        "layers": vision.whole("num_hidden_layers", 12),
        "width": width,
        "head_width": width // heads,
        "patch_size": vision.side("patch_size", 32),
        "mlp_ratio": vision.whole("intermediate_size", 3072) / width,
        **_options(settings.vision),
    }
    text_cfg: dict[str, Any] = {
        "context_length": text.whole("max_position_embeddings", 77),
        "vocab_size": vocabulary,
        "width": text_width,
        "heads": text.whole("num_attention_heads", 8),
        "layers": text.whole("num_hidden_layers", 12),
        "mlp_ratio": text.whole("intermediate_size", 2048) / text_width,
        **_options(settings.text.tower),
    }
    if settings.text.pool == "eos" and settings.text.eos != vocabulary - 1:
        text_cfg |= {"pool_type": "eos", "eos_id": settings.text.eos}  # the last id of all is the largest as well
    if vocabulary != CLIP_VOCABULARY and has_tokenizer:
        text_cfg["hf_tokenizer_name"] = "local"  # any name: open_clip then reads the tokenizer beside the weights
    model: dict[str, Any] = {
        "embed_dim": whole.whole("projection_dim", 512),
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }
    if quick == {True}:
        model["quick_gelu"] = True
    preprocess = image_processing.to_open_clip(settings.preprocessing, vision_cfg["image_size"])
    return {OPEN_CLIP_CONFIG: {"model_cfg": model, "preprocess_cfg": preprocess}}


def _required(fields: Fields, name: str) -> Fields:
    if name not in fields:
        raise CheckpointError(f"The configuration has no {name}. Keep the layout the base is stored in.")
    return fields.section(name)


def _size(fields: Fields, name: str) -> int:
    """A size without a default."""
    if name not in fields:
        raise CheckpointError(f"The configuration needs a positive whole number in {name}, found None.")
    return fields.whole(name, 1)


def _hidden(tower: Fields, width: int) -> int:
    """Width of the MLP's hidden layer."""
    return int(width * tower.number("mlp_ratio", 4.0, above=0.0))


def _tower(settings: TowerSettings) -> dict[str, Any]:
    """What transformers says of a tower beside its sizes."""
    return {
        "hidden_act": _IN_TRANSFORMERS[settings.activation],
        "layer_norm_eps": settings.eps,
        "attention_dropout": 0.0,
    }


def _options(settings: TowerSettings) -> dict[str, Any]:
    """What open_clip says of a tower beside its sizes, where it differs from its defaults."""
    options: dict[str, Any] = {}
    if settings.eps != _DEFAULT_EPS:
        options["norm_kwargs"] = {"eps": settings.eps}
    if settings.activation == "gelu_tanh":
        options["act_kwargs"] = {"approximate": "tanh"}
    return options


def _read_at(text: TextSettings, where: str) -> int:
    """`eos_token_id` with which transformers reads a text at the same token as open_clip."""
    if not text.causal:
        raise CheckpointError(f"{where} sets no_causal_mask, which transformers' CLIP cannot express.")
    if text.pool == "argmax":
        return LEGACY_EOS
    if text.pool == "eos" and text.eos is not None and text.eos != LEGACY_EOS:
        return text.eos
    raise CheckpointError(
        f"{where} sets pool_type = {text.pool!r}, which transformers' CLIP cannot express. Keep the open_clip layout."
    )
