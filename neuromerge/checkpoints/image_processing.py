"""How a picture becomes a model's pixels, read from and written to the files of open_clip and transformers.

Every setting of either library is honoured, or refused by its name. Where a file is silent, the library's own
default holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neuromerge.checkpoints.fields import Fields
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError
from neuromerge.json_files import read_json

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_HALF = (0.5, 0.5, 0.5)

Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
_PILLOW_NUMBERS: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")

PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes pixels: resized, cropped to `size` x `size`, times `scale`, less `mean`, over `std`.

    Attributes:
        size: side of the square that the network takes.
        mean, std: of each channel, applied after `scale`.
        interpolation: Pillow's filter for resizing.
        resize_mode: what is brought to `edge` before the crop: the ``shortest`` or ``longest`` edge, both
            (``squash``), or ``none``.
        fill: grey level of the margin where a picture is smaller than the square.
        edge: the length for `resize_mode`, None for `size`.
        scale: factor on the 8-bit values.
        crop_offset: how half a pixel is rounded when a crop or margin is centred: to the ``nearest`` (open_clip)
            or ``down`` (transformers).
    """

    size: int
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash", "none"] = "shortest"
    fill: int = 0
    edge: int | None = None
    scale: float = 1 / 255
    crop_offset: Literal["nearest", "down"] = "nearest"

    @property
    def resized_edge(self) -> int:
        """What an edge is resized to."""
        return self.edge or self.size


# ------------------------------------------------------------------------------------------------- open_clip

_OPEN_CLIP_KNOWN = ("size", "mean", "std", "interpolation", "resize_mode", "fill_color")


def from_open_clip(fields: Fields, size: int) -> Preprocessing:
    """From `preprocess_cfg` of a model whose pictures have this size.

    Raises CheckpointError for a setting that is of another type, or that open_clip does not know.
    """
    fields.refuse_others(_OPEN_CLIP_KNOWN, {"mode": ("RGB",)}, "which is none of open_clip's settings of pictures.")
    interpolation = fields.choice("interpolation", "bicubic", ("bicubic", "bilinear", "random"))
    resize_mode: Any = fields.choice("resize_mode", "shortest", ("shortest", "longest", "squash"))
    fill = fields.whole("fill_color", 0, least=0)
    if fill > 255:
        raise fields.wrong("fill_color", "a grey level from 0 to 255")
    return Preprocessing(
        size=fields.side("size", size),
        mean=fields.three("mean", OPENAI_MEAN),
        std=fields.three("std", OPENAI_STD, above=0.0),
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",  # random is for training
        resize_mode=resize_mode,
        fill=fill,
    )


def to_open_clip(how: Preprocessing, size: int) -> dict[str, Any]:
    """`preprocess_cfg` that makes the same pixels for a model of this size, which open_clip takes from the model.

    Another factor than 1/255 goes into mean and std, which gives the same pixels to rounding. Raises CheckpointError
    for what open_clip has no word for.
    """
    if how.size != size:
        raise _no_word(f"crop_size = {how.size} for a model of image_size = {size}", "open_clip", "one size")
    if how.interpolation not in ("bicubic", "bilinear"):
        raise _no_word(f"resample = {how.interpolation}", "open_clip", "bicubic and bilinear")
    if how.resize_mode == "none":
        raise _no_word("do_resize = false", "open_clip", "resizing to the model's size")
    if how.resized_edge != how.size:
        raise _no_word(f"size = {how.resized_edge} with crop_size = {how.size}", "open_clip", "one size")
    factor = 255 * how.scale
    exact = math.isclose(factor, 1.0, rel_tol=1e-12)
    return {
        "mean": list(how.mean if exact else (value / factor for value in how.mean)),
        "std": list(how.std if exact else (value / factor for value in how.std)),
        "interpolation": how.interpolation,
        "resize_mode": how.resize_mode,
    }


# ---------------------------------------------------------------------------------------------- transformers


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a kind of image processor does where its file is silent."""

    crop: bool
    square: bool  # one number as size means both edges, not the shortest
    interpolation: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_KINDS = {
    "CLIPImageProcessor": _Defaults(True, False, 3, OPENAI_MEAN, OPENAI_STD),
    "CLIPFeatureExtractor": _Defaults(True, False, 3, OPENAI_MEAN, OPENAI_STD),
    "SiglipImageProcessor": _Defaults(False, True, 3, _HALF, _HALF),
    "ViTImageProcessor": _Defaults(False, True, 2, _HALF, _HALF),
}
_TRANSFORMERS_KNOWN = (
    "do_resize",
    "size",
    "default_to_square",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)
_NO_VALUES: tuple[Any, ...] = ()
# Where a processor looks for its class, and how it takes and gives arrays: nothing about the pixels. Pictures are
# RGB before they come here, so do_convert_rgb finds nothing to do.
_TRANSFORMERS_NEUTRAL: dict[str, tuple[Any, ...]] = dict.fromkeys(
    (
        "_processor_class",
        "_valid_kwargs_names",
        "_valid_processor_keys",
        "data_format",
        "device",
        "disable_grouping",
        "do_convert_rgb",
        "feature_extractor_type",
        "image_processor_type",
        "image_seq_length",
        "input_data_format",
        "processor_class",
        "return_tensors",
        "transformers_version",
    ),
    _NO_VALUES,
)


def image_processor_in(files: Mapping[str, Path]) -> Fields | None:
    """The image processor's settings beside the weights, None where there are none.

    As in transformers, `processor_config.json` goes first where it holds an image processor. Raises CheckpointError
    for a file that cannot be read.
    """
    if PROCESSOR in files:
        processor = Fields(read_json(files[PROCESSOR]), str(files[PROCESSOR]))
        if "image_processor" in processor:
            return processor.section("image_processor")
    if PREPROCESSOR in files:
        return Fields(read_json(files[PREPROCESSOR]), str(files[PREPROCESSOR]))
    return None


def from_transformers(fields: Fields, size: int) -> Preprocessing:
    """From an image processor's settings; `size` is the model's, taken where they name none.

    Raises CheckpointError for a setting that cannot be honoured.
    """
    kind = fields.get("image_processor_type", fields.get("feature_extractor_type", "CLIPImageProcessor"))
    plain = kind.removesuffix("Fast").removesuffix("Pil") if isinstance(kind, str) else kind
    if not isinstance(plain, str) or plain not in _KINDS:
        raise fields.wrong(
            "image_processor_type" if "image_processor_type" in fields else "feature_extractor_type",
            f"one of {', '.join(_KINDS)}",
        )
    fields.refuse_others(
        _TRANSFORMERS_KNOWN, _TRANSFORMERS_NEUTRAL, "which is not supported. Remove it if the model does without."
    )
    own = _KINDS[plain]
    crop = fields.flag("do_center_crop", own.crop)
    square = _square_of(fields, "crop_size", size) if crop else None
    mode, edge = _resizing(fields, own, square or size)
    if square is None and mode == "none":
        raise CheckpointError(
            f"{fields.where}: do_resize and do_center_crop are both false, so only pictures of the model's own size "
            "would fit. Set one of them."
        )
    if square is None and mode == "shortest":
        raise CheckpointError(
            f"{fields.where}: do_center_crop is false and size names the shortest edge, so only square pictures would "
            "fit. Name height and width in size."
        )
    scaled, normalised = fields.flag("do_rescale", True), fields.flag("do_normalize", True)
    side = square or edge
    return Preprocessing(
        size=side,
        mean=fields.three("image_mean", own.mean) if normalised else (0.0, 0.0, 0.0),
        std=fields.three("image_std", own.std, above=0.0) if normalised else (1.0, 1.0, 1.0),
        interpolation=_interpolation(fields, own.interpolation),
        resize_mode=mode,
        edge=None if edge == side else edge,
        scale=fields.number("rescale_factor", 1 / 255, above=0.0) if scaled else 1.0,
        crop_offset="down",
    )


def to_transformers(how: Preprocessing) -> dict[str, Any]:
    """`preprocessor_config.json` that makes the same pixels. Raises CheckpointError for what CLIP's has no word for."""
    if how.resize_mode == "longest":
        raise _no_word("resize_mode = longest", "transformers' CLIP", "shortest and squash")
    edge = how.resized_edge
    squash = how.resize_mode == "squash"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": how.resize_mode != "none",
        "size": {"height": edge, "width": edge} if squash else {"shortest_edge": edge},
        "resample": _PILLOW_NUMBERS.index(how.interpolation),
        "do_center_crop": not squash or edge != how.size,
        "crop_size": {"height": how.size, "width": how.size},
        "do_rescale": how.scale != 1.0,
        "rescale_factor": how.scale,
        "do_normalize": how.mean != (0.0, 0.0, 0.0) or how.std != (1.0, 1.0, 1.0),
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }


def _resizing(fields: Fields, own: _Defaults, size: int) -> tuple[Literal["shortest", "squash", "none"], int]:
    """What is resized, and to how much."""
    if not fields.flag("do_resize", True):
        return "none", size
    given = fields.get("size")
    if isinstance(given, Mapping) and set(given) == {"shortest_edge"}:
        return "shortest", fields.section("size").whole("shortest_edge", size)
    both = given is None or isinstance(given, int)
    if both and not fields.flag("default_to_square", own.square):
        return "shortest", fields.whole("size", size)
    return "squash", _square_of(fields, "size", size)


def _square_of(fields: Fields, name: str, default: int) -> int:
    """The side of a square: a number, two equal ones, or height and width. Raises CheckpointError for another form."""
    given = fields.get(name, default)
    if not isinstance(given, Mapping):
        return fields.side(name, default)
    inner = fields.section(name)
    if set(given) != {"height", "width"} or given["height"] != given["width"]:
        raise fields.wrong(name, "one number, or height and width of a square")
    return inner.whole("height", default)


def _interpolation(fields: Fields, default: int) -> Interpolation:
    number = fields.whole("resample", default, least=0)
    if number >= len(_PILLOW_NUMBERS):
        raise fields.wrong("resample", f"a filter of Pillow from 0 to {len(_PILLOW_NUMBERS) - 1}")
    return _PILLOW_NUMBERS[number]


def _no_word(setting: str, library: str, known: str) -> CheckpointError:
    return CheckpointError(
        f"The preparation of pictures has {shown(setting)}, which {library} cannot express (it knows {known}). Keep "
        "the layout the base is stored in."
    )
