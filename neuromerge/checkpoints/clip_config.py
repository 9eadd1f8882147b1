"""What the weights of a CLIP model do not say: heads, activations, pooling, pictures, tokenizer.

Read from open_clip's `open_clip_config.json` or from transformers' `config.json` with its image processor. Sizes
of the network are not read here: they follow from the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neuromerge.checkpoints import image_processing, layouts
from neuromerge.checkpoints.fields import Fields
from neuromerge.checkpoints.image_processing import Preprocessing
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError
from neuromerge.hub.weight_files import OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG
from neuromerge.json_files import read_json

if TYPE_CHECKING:
    from neuromerge.checkpoints.checkpoint import Checkpoint

CLIP_VOCABULARY = 49_408
LEGACY_EOS = 2  # with this wrong id of early configurations, transformers reads a text at its largest token

ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quick_gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
"""Name in transformers -> name here."""


@dataclass(frozen=True, slots=True)
class TowerSettings:
    """What a transformer tower needs beside its weights.

    `head_width` or `heads` is known, the other None. `activation` is ``gelu``, ``quick_gelu`` or ``gelu_tanh``.
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
    """Everything about a CLIP model that is not a weight.

    `pictures_described` is False where `preprocessing` is only the library's default, because no file describes it.
    `folder` is where it was read, None when unknown.
    """

    vision: TowerSettings
    text: TextSettings | None
    preprocessing: Preprocessing
    pictures_described: bool = True
    folder: Path | None = None


def configuration_of(checkpoint: Checkpoint) -> ClipConfiguration | None:
    """The configuration beside a checkpoint's weights, None where there is none.

    Of two configurations that lie side by side, that of the weights' own layout is read.

    Raises CheckpointError for a file that cannot be read, a setting that cannot be honoured, or a model of a kind
    that cannot be run here.
    """
    files = checkpoint.config_files
    names = [OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG]
    if checkpoint.layout == layouts.TRANSFORMERS_CLIP:
        names.reverse()
    found = next((name for name in names if name in files), None)
    if found is None:
        return None
    path = files[found]
    content = read_json(path)
    if found == OPEN_CLIP_CONFIG:
        return from_open_clip(content, path.parent)
    return from_transformers(content, image_processing.image_processor_in(files), path.parent)


# ------------------------------------------------------------------------------------------------- open_clip

_NETWORK = "and only CLIP's own network is supported."
_SIZES = ("layers", "width", "mlp_ratio", "norm_kwargs", "act_kwargs")
# Without effect on a network that is evaluated, or on one that has not the part they belong to.
_ALWAYS: tuple[Any, ...] = ()
_TOWER_NEUTRAL: dict[str, tuple[Any, ...]] = dict.fromkeys(
    ("block_type", "output_tokens", "final_ln_after_pool"), _ALWAYS
)
_VISION_NEUTRAL = _TOWER_NEUTRAL | dict.fromkeys(
    (
        "attn_pooler_heads",
        "attn_pooler_queries",
        "patch_dropout",
        "pos_embed_type",
        "timm_drop",
        "timm_drop_path",
        "timm_model_pretrained",
        "timm_pool",
        "timm_proj",
        "timm_proj_bias",
    ),
    _ALWAYS,
)
_TEXT_NEUTRAL = (
    _TOWER_NEUTRAL
    | dict.fromkeys(("hf_model_pretrained", "hf_pooler_type", "hf_proj_type"), _ALWAYS)
    | {"proj_type": ("linear",)}
)
_MODEL_NEUTRAL = dict.fromkeys(
    ("cast_dtype", "custom_text", "init_logit_bias", "init_logit_scale", "nonscalar_logit_scale", "output_dict"),
    _ALWAYS,
)
_CLEANING = ("none", "whitespace", "lower", "canonicalize")


def from_open_clip(content: Mapping[str, Any], folder: Path | None = None, *, text: bool = True) -> ClipConfiguration:
    """From the content of `open_clip_config.json`; with `text` False the text tower is not looked at.

    Raises CheckpointError for what is not a plain CLIP ViT.
    """
    whole = Fields(content, str(folder / OPEN_CLIP_CONFIG) if folder else OPEN_CLIP_CONFIG)
    model = whole.section("model_cfg") if "model_cfg" in whole else whole
    vision, words = model.section("vision_cfg"), model.section("text_cfg")
    if not vision:
        raise CheckpointError(f"{whole.where} has no vision_cfg: it does not describe a CLIP model.")
    if isinstance(vision.get("layers"), list):
        raise CheckpointError(f"{whole.where}: the vision tower is a ResNet; only vision transformers can be run here.")
    known = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "preprocess_cfg")
    model.refuse_others(known, _MODEL_NEUTRAL, _NETWORK)
    vision.refuse_others(
        (*_SIZES, "head_width", "patch_size", "image_size"), _VISION_NEUTRAL | {"pool_type": ("tok",)}, _NETWORK
    )
    quick = model.flag("quick_gelu", False)
    pictures = whole.section("preprocess_cfg")
    return ClipConfiguration(
        vision=TowerSettings(
            _open_clip_activation(vision, quick), head_width=vision.whole("head_width", 64), eps=_open_clip_eps(vision)
        ),
        text=_open_clip_text(words, quick) if text and words else None,
        preprocessing=image_processing.from_open_clip(pictures, vision.side("image_size", 224)),
        pictures_described=bool(pictures),
        folder=folder,
    )


def _open_clip_text(text: Fields, quick: bool) -> TextSettings:
    known = ("context_length", "vocab_size", "hf_tokenizer_name", "tokenizer_kwargs", "heads", "pad_id", "eos_id")
    text.refuse_others((*_SIZES, *known, "no_causal_mask", "pool_type"), _TEXT_NEUTRAL, _NETWORK)
    options = text.section("tokenizer_kwargs")
    options.refuse_others(("clean",), {}, "which is not supported.")
    own = bool(text.get("hf_tokenizer_name"))
    return TextSettings(
        tower=TowerSettings(_open_clip_activation(text, quick), heads=text.whole("heads", 8), eps=_open_clip_eps(text)),
        context=text.whole("context_length", 77),
        pool=text.choice("pool_type", "argmax", ("argmax", "eos", "first", "last")),
        eos=text.whole("eos_id", 2, least=0),
        pad=text.whole("pad_id", 0, least=0),
        tokenizer="folder" if own else "stock",
        clean=options.choice("clean", "whitespace" if own else "lower", _CLEANING),
        causal=not text.flag("no_causal_mask", False),
    )


def _open_clip_activation(tower: Fields, quick: bool) -> str:
    options = tower.section("act_kwargs")
    options.refuse_others(("approximate",), {}, "which is no option of the activations known here.")
    approximate = options.choice("approximate", "none", ("none", "tanh"))
    if approximate == "tanh" and quick:
        raise options.wrong("approximate", "unset with quick_gelu")
    return "quick_gelu" if quick else "gelu_tanh" if approximate == "tanh" else "gelu"


def _open_clip_eps(tower: Fields) -> float:
    options = tower.section("norm_kwargs")
    options.refuse_others(("eps",), {"elementwise_affine": (True,), "bias": (True,)}, _NETWORK)
    return options.number("eps", 1e-5, above=0.0)


# ---------------------------------------------------------------------------------------------- transformers


def from_transformers(
    content: Mapping[str, Any], pictures: Fields | None, folder: Path | None = None
) -> ClipConfiguration:
    """From `config.json` of a CLIPModel or CLIPVisionModel, and its image processor's settings where there are any.

    Raises CheckpointError for another kind of model.
    """
    whole = Fields(content, str(folder / TRANSFORMERS_CONFIG) if folder else TRANSFORMERS_CONFIG)
    kind = whole.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise CheckpointError(
            f"{whole.where} describes a model of type {shown(kind)}. Pictures can be evaluated with CLIP models (clip, "
            "clip_vision_model) only; merging works for any."
        )
    vision = whole if kind == "clip_vision_model" else whole.section("vision_config")
    size = vision.side("image_size", 224)
    if vision.get("num_channels", 3) != 3:
        raise vision.wrong("num_channels", "3")
    return ClipConfiguration(
        vision=_transformers_tower(vision, heads=12),
        text=_transformers_text(whole.section("text_config")) if kind == "clip" else None,
        preprocessing=image_processing.from_transformers(pictures or Fields({}, whole.where), size),
        pictures_described=pictures is not None,
        folder=folder,
    )


def _transformers_text(text: Fields) -> TextSettings:
    eos = text.whole("eos_token_id", CLIP_VOCABULARY - 1, least=0)
    return TextSettings(
        tower=_transformers_tower(text, heads=8),
        context=text.whole("max_position_embeddings", 77),
        pool="argmax" if eos == LEGACY_EOS else "eos",
        eos=eos,
        pad=text.whole("pad_token_id", 1, least=0),
        tokenizer="folder",
    )


def _transformers_tower(tower: Fields, heads: int) -> TowerSettings:
    return TowerSettings(
        activation=ACTIVATIONS[tower.choice("hidden_act", "quick_gelu", ACTIVATIONS)],
        heads=tower.whole("num_attention_heads", heads),
        eps=tower.number("layer_norm_eps", 1e-5, above=0.0),
    )


# ------------------------------------------------------------------------------------------------ comparison

# What changes the answers of a language model or of another transformers model with the same weights.
_COMPUTATION = (
    "model_type",
    "activation_function",
    "attn_logit_softcapping",
    "embedding_multiplier",
    "final_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "image_size",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "layer_types",
    "logits_scaling",
    "max_position_embeddings",
    "norm_epsilon",
    "num_attention_heads",
    "num_key_value_heads",
    "partial_rotary_factor",
    "patch_size",
    "position_embedding_type",
    "query_pre_attn_scalar",
    "residual_multiplier",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "scale_attn_weights",
    "sliding_window",
    "use_sliding_window",
)
_SECTIONS = ("text_config", "vision_config", "audio_config")


_MERGED = "The merge keeps the base's, under which this expert was not trained; check which one is right."


def differences(base: Checkpoint, expert: Checkpoint, consequence: str = _MERGED) -> tuple[str, ...]:
    """Sentences for people about settings in which an expert's configuration differs from its base's.

    A merge has the base's configuration. An expert that was trained under another one does not do there what it
    did, however well the weights fit. What one of the two does not describe is not compared. `consequence` is the
    sentence that says what follows.
    """
    own = base.layout if base.layout == expert.layout else None
    clip = (layouts.OPEN_CLIP, layouts.TRANSFORMERS_CLIP)
    try:
        if base.layout in clip and expert.layout in clip:
            first, second = (dict(_described(checkpoint)) for checkpoint in (base, expert))
        elif own is not None:
            first, second = (dict(_computation(checkpoint.config)) for checkpoint in (base, expert))
        else:
            return ()
    except CheckpointError as error:
        return (f"{expert.name}: its configuration was not compared with the base's. {error}",)
    changed = [
        f"{name} {_plain(second[name])} (base: {_plain(value)})"
        for name, value in first.items()
        if name in second and second[name] != value
    ]
    if not changed:
        return ()
    return (f"{expert.name}: its configuration differs from the base's in {', '.join(changed)}. {consequence}",)


def _described(checkpoint: Checkpoint) -> Iterator[tuple[str, Any]]:
    """The settings of a CLIP model under names that are the same in both layouts."""
    found = configuration_of(checkpoint)
    if found is None:
        return
    shapes = {parameter.name: parameter.shape for parameter in checkpoint.parameters}
    width = shapes.get("vision.stem.class_embedding", (0,))[0]
    yield from _tower("vision", found.vision, width)
    if found.text is not None:
        yield from _tower("text", found.text.tower, 0)
        yield "context length", found.text.context
        yield "causal attention of the text tower", found.text.causal
    if not found.pictures_described:
        return
    how = found.preprocessing
    yield "image size", how.size
    yield "image mean", how.mean
    yield "image std", how.std
    yield "interpolation", how.interpolation
    yield "resize mode", how.resize_mode
    yield "resized edge", how.resized_edge
    yield "rescale factor", how.scale
    if how.resize_mode == "longest":
        yield "fill colour", how.fill


def _tower(side: str, settings: TowerSettings, width: int) -> Iterator[tuple[str, Any]]:
    yield f"activation of the {side} tower", settings.activation
    heads = settings.heads or (width // settings.head_width if settings.head_width else 0)
    if heads:
        yield f"attention heads of the {side} tower", heads
    yield f"layer norm eps of the {side} tower", settings.eps


def _computation(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in _COMPUTATION:
        if config.get(name) is not None:
            yield prefix + name, config[name]
    for section in _SECTIONS:
        if isinstance(config.get(section), Mapping):
            yield from _computation(config[section], f"{section}.")


def _plain(value: Any) -> str:
    """A value for a sentence."""
    if isinstance(value, tuple):
        return ", ".join(_plain(each) for each in value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value if isinstance(value, str) else shown(value)
    return f"{value:.6g}"
