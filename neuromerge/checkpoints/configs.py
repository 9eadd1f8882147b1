"""Translating a CLIP configuration between open_clip and transformers.

Only what both libraries compute in the same way is translated. A setting that the other one has no word for
is refused by name, because dropping it would give a model that loads and answers wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuromerge.errors import CheckpointError

_MEAN = [0.48145466, 0.4578275, 0.40821073]
_STD = [0.26862954, 0.26130258, 0.27577711]
_STANDARD_VOCABULARY = 49408
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}

# Settings of open_clip that change nothing at these values (and what else may stand there).
_VISION_NEUTRAL: dict[str, tuple[Any, ...]] = {"pool_type": ("tok",), "pos_embed_type": ("learnable",)}
_TEXT_NEUTRAL: dict[str, tuple[Any, ...]] = {"pool_type": ("argmax",), "proj_type": ("linear",)}
_VISION_KNOWN = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "norm_kwargs"}
_VISION_IGNORED = {"patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads", "timm_pool"}
_TEXT_KNOWN = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs"}
_TEXT_IGNORED = {"hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "pad_id", "eos_id", "output_tokens"}
_MODEL_KNOWN = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
_MODEL_IGNORED = {"init_logit_scale", "init_logit_bias", "cast_dtype", "nonscalar_logit_scale"}


def to_transformers(
    config: Mapping[str, Any], *, has_text: bool, has_projection: bool, dtype: str
) -> dict[str, dict[str, Any]]:
    """The transformers files of an open_clip configuration: ``config.json`` and ``preprocessor_config.json``.

    The model is a CLIPModel with a text tower, else a CLIPVisionModelWithProjection, else a CLIPVisionModel.

    Raises:
        CheckpointError: a missing or unreadable field, or a setting that transformers has no word for.
    """
    model = _section(config, "model_cfg")
    vision, text = _section(model, "vision_cfg"), _section(model, "text_cfg")
    _require_plain(model, "model_cfg", _MODEL_KNOWN, _MODEL_IGNORED, {})
    _require_plain(vision, "vision_cfg", _VISION_KNOWN, _VISION_IGNORED, _VISION_NEUTRAL)
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    embed = _whole(model, "embed_dim")
    width = _whole(vision, "width", 768)
    image = _square(vision, "image_size", 224)
    vision_config = {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": int(width * float(vision.get("mlp_ratio", 4.0))),
        "num_hidden_layers": _whole(vision, "layers", 12),
        "num_attention_heads": width // _whole(vision, "head_width", 64),
        "num_channels": 3,
        "image_size": image,
        "patch_size": _square(vision, "patch_size", 16),
        "projection_dim": embed,
        "hidden_act": activation,
        "layer_norm_eps": _epsilon(vision),
        "attention_dropout": 0.0,
    }
    preprocessor = _preprocessor(config.get("preprocess_cfg") or {}, image)
    if not has_text:
        name = "CLIPVisionModelWithProjection" if has_projection else "CLIPVisionModel"
        vision_config |= {"architectures": [name], "dtype": dtype, "torch_dtype": dtype}
        return {"config.json": vision_config, "preprocessor_config.json": preprocessor}
    _require_plain(text, "text_cfg", _TEXT_KNOWN, _TEXT_IGNORED, _TEXT_NEUTRAL)
    text_width = _whole(text, "width", 512)
    vocabulary = _whole(text, "vocab_size", _STANDARD_VOCABULARY)
    text_config = {
        "model_type": "clip_text_model",
        "hidden_size": text_width,
        "intermediate_size": int(text_width * float(text.get("mlp_ratio", 4.0))),
        "num_hidden_layers": _whole(text, "layers", 12),
        "num_attention_heads": _whole(text, "heads", 8),
        "max_position_embeddings": _whole(text, "context_length", 77),
        "vocab_size": vocabulary,
        "projection_dim": embed,
        "hidden_act": activation,
        "layer_norm_eps": _epsilon(text),
        "attention_dropout": 0.0,
        "pad_token_id": int(text.get("pad_id", 0)),
        "bos_token_id": max(vocabulary - 2, 0),
        # With 2, transformers reads the text at the highest token id, which is what open_clip does.
        "eos_token_id": 2,
    }
    whole = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": embed,
        "logit_scale_init_value": 2.6592,
        "dtype": dtype,
        "torch_dtype": dtype,
        "text_config": text_config,
        "vision_config": vision_config,
    }
    return {"config.json": whole, "preprocessor_config.json": preprocessor}


def to_open_clip(
    config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None, *, has_tokenizer: bool
) -> dict[str, dict[str, Any]]:
    """The open_clip file of a transformers CLIPModel configuration: ``open_clip_config.json``.

    Args:
        config: of a CLIPModel (with both towers).
        preprocessor: the image processor's configuration where there is one; else CLIP's own values are written.
        has_tokenizer: whether tokenizer files stand beside the weights.

    Raises:
        CheckpointError: a missing field, or a setting that open_clip has no word for.
    """
    vision, text = _section(config, "vision_config"), _section(config, "text_config")
    activations = {str(vision.get("hidden_act", "quick_gelu")), str(text.get("hidden_act", "quick_gelu"))}
    if len(activations) != 1 or not activations <= {"quick_gelu", "gelu"}:
        raise CheckpointError(
            f"config.json: the activations {sorted(activations)} have no equal in open_clip (quick_gelu or gelu in "
            "both towers). Keep the transformers layout."
        )
    width, heads = _whole(vision, "hidden_size", 768), _whole(vision, "num_attention_heads", 12)
    vocabulary = _whole(text, "vocab_size", _STANDARD_VOCABULARY)
    text_width = _whole(text, "hidden_size", 512)
    vision_cfg: dict[str, Any] = {
        "image_size": _whole(vision, "image_size", 224),
        "layers": _whole(vision, "num_hidden_layers", 12),
        "width": width,
        "head_width": width // heads,
        "patch_size": _whole(vision, "patch_size", 32),
        "mlp_ratio": _whole(vision, "intermediate_size", 3072) / width,
        **_norm_kwargs(vision),
    }
    text_cfg: dict[str, Any] = {
        "context_length": _whole(text, "max_position_embeddings", 77),
        "vocab_size": vocabulary,
        "width": text_width,
        "heads": _whole(text, "num_attention_heads", 8),
        "layers": _whole(text, "num_hidden_layers", 12),
        "mlp_ratio": _whole(text, "intermediate_size", 2048) / text_width,
        **_norm_kwargs(text),
    }
    if vocabulary != _STANDARD_VOCABULARY and has_tokenizer:
        text_cfg["hf_tokenizer_name"] = "local"  # any name: open_clip then reads the tokenizer beside the weights
    model: dict[str, Any] = {
        "embed_dim": _whole(config, "projection_dim", 512),
        "vision_cfg": vision_cfg,
        "text_cfg": text_cfg,
    }
    if activations == {"quick_gelu"}:
        model["quick_gelu"] = True
    given = preprocessor or {}
    resample = {number: name for name, number in _RESAMPLE.items()}.get(given.get("resample", 3), "bicubic")
    preprocess = {
        "mean": given.get("image_mean", _MEAN),
        "std": given.get("image_std", _STD),
        "interpolation": resample,
        "resize_mode": "shortest" if given.get("do_center_crop", True) else "squash",
    }
    return {"open_clip_config.json": {"model_cfg": model, "preprocess_cfg": preprocess}}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    if not isinstance(section, Mapping):
        raise CheckpointError(f"The configuration has no {name}. Keep the layout the base is stored in.")
    return section


def _require_plain(
    section: Mapping[str, Any],
    name: str,
    known: set[str],
    ignored: set[str],
    neutral: Mapping[str, tuple[Any, ...]],
) -> None:
    """Raise where a section sets something that is neither translated nor without effect."""
    for field, value in section.items():
        harmless = value in (None, False) or value in neutral.get(field, ()) or field in known | ignored
        if not harmless:
            raise CheckpointError(
                f"open_clip_config.json: {name} sets {field} = {value!r}, which transformers' CLIP cannot express. "
                "Keep the open_clip layout."
            )


def _whole(section: Mapping[str, Any], field: str, default: int | None = None) -> int:
    value = section.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise CheckpointError(f"The configuration needs a positive whole number in {field}, found {value!r}.")
    return value


def _square(section: Mapping[str, Any], field: str, default: int) -> int:
    """A size that may be written as one number or as two equal ones."""
    value = section.get(field, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return _whole({field: value}, field)


def _epsilon(section: Mapping[str, Any]) -> float:
    return float((section.get("norm_kwargs") or {}).get("eps", 1e-5))


def _norm_kwargs(section: Mapping[str, Any]) -> dict[str, Any]:
    epsilon = float(section.get("layer_norm_eps") or 1e-5)
    return {} if epsilon == 1e-5 else {"norm_kwargs": {"eps": epsilon}}


def _preprocessor(preprocess: Mapping[str, Any], image: int) -> dict[str, Any]:
    squash = preprocess.get("resize_mode") == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": image, "width": image} if squash else {"shortest_edge": image},
        "resample": _RESAMPLE.get(str(preprocess.get("interpolation", "bicubic")), 3),
        "do_center_crop": not squash,
        "crop_size": {"height": image, "width": image},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": preprocess.get("mean", _MEAN),
        "image_std": preprocess.get("std", _STD),
    }
