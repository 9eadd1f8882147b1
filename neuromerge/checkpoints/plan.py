"""What a written checkpoint will hold: every tensor, its bytes, and which parameters fill it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuromerge.checkpoints import configs, layouts
from neuromerge.checkpoints.checkpoint import Checkpoint
from neuromerge.checkpoints.image_processing import PREPROCESSOR, PROCESSOR, image_processor_in
from neuromerge.checkpoints.parts import Entry
from neuromerge.checkpoints.roles import Parameter, clip_key, resolve
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError, SettingError, quoted
from neuromerge.hub.weight_files import OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG
from neuromerge.json_files import read_json

_CLIP_LAYOUTS = (layouts.OPEN_CLIP, layouts.TRANSFORMERS_CLIP)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True, slots=True)
class Target:
    """One tensor to write. `pieces` are the parameters inside it; a tensor without pieces is copied from the base."""

    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[Parameter, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        count = self.dtype.itemsize
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Plan:
    """The tensors of the output, the configurations to write, and the layout."""

    layout: str
    targets: tuple[Target, ...]
    configs: Mapping[str, Mapping[str, Any]]
    copied: Mapping[str, Path]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(target.nbytes for target in self.targets)


def check_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A floating dtype by its name. Raises SettingError naming the legal ones."""
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    try:
        return DTYPES[dtype.removeprefix("torch.")]
    except (KeyError, AttributeError):
        raise SettingError(f"dtype must be one of {', '.join(DTYPES)}, not {quoted(dtype)}.") from None


def make_plan(
    base: Checkpoint, layout: str | None = None, dtype: torch.dtype | None = None, *, with_configs: bool = True
) -> Plan:
    """What writing `base`, or a merge on it, in `layout` takes.

    Args:
        base: gives the tensors, their dtypes and the configuration.
        layout: ``open_clip`` or ``transformers``; None keeps the base's, with its keys as they are.
        dtype: for all floating tensors; None keeps the base's.
        with_configs: whether configurations are wanted (a single file has none).

    Raises:
        SettingError: an unknown layout.
        CheckpointError: the model or its configuration cannot be expressed in that layout.
    """
    if layout == "transformers" and base.layout in (layouts.TRANSFORMERS, layouts.TRANSFORMERS_CLIP):
        layout = base.layout
    elif layout == "transformers":
        layout = layouts.TRANSFORMERS_CLIP
    if layout in (None, base.layout):
        entries = {key: (base.shape(key), base.dtype(key)) for key in base}
        roles = base.roles
        # Who names the layout wants what its library loads: the model's own keys, without a trainer's prefix or a head.
        if layout is not None and roles.clip_complete and (roles.prefix or roles.beside):
            entries = _converted_entries(base, base.layout)
            roles = resolve(entries)
        targets = _targets(entries, roles.parameters + roles.text, dtype)
        return Plan(base.layout, targets, _same_configs(base, dtype), base.config_files)
    if layout not in _CLIP_LAYOUTS:
        raise SettingError(f"layout must be open_clip or transformers, not {quoted(layout)}.")
    if base.layout not in _CLIP_LAYOUTS or not base.roles.clip_complete:
        raise CheckpointError(
            f"{base.source} is no CLIP model in a form that {layout} shares; it can only be written as it is "
            f"({base.layout})."
        )
    entries = _converted_entries(base, layout)
    roles = resolve(entries)
    _require_same_parts(base, roles.parameters + roles.text)
    targets = _targets(entries, roles.parameters + roles.text, dtype)
    made = _converted_configs(base, layout, dtype or _main_dtype(base)) if with_configs else {}
    kept = {
        name: path
        for name, path in base.config_files.items()
        if name not in (OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG, PREPROCESSOR, PROCESSOR, *made)
    }
    return Plan(layout, targets, made, kept)


def _targets(
    entries: Mapping[str, Entry], parameters: tuple[Parameter, ...], dtype: torch.dtype | None
) -> tuple[Target, ...]:
    pieces: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        pieces.setdefault(parameter.key, []).append(parameter)
    return tuple(
        Target(
            key,
            tuple(shape),
            dtype if dtype is not None and stored.is_floating_point else stored,
            tuple(pieces.get(key, ())),
        )
        for key, (shape, stored) in entries.items()
    )


def _converted_entries(base: Checkpoint, layout: str) -> dict[str, Entry]:
    """Keys, shapes and dtypes of the base's tensors in the other CLIP layout."""
    prefixes = layouts.CLIP_PREFIX[layout]
    rows = {f"vision.{row.name}": (prefixes["vision"], row) for row in layouts.CLIP_VISION}
    rows |= {f"text.{row.name}": (prefixes["text"], row) for row in layouts.CLIP_TEXT}
    rows |= {(row.name if tower == "model" else f"{tower}.{row.name}"): ("", row) for tower, row in layouts.CLIP_TOP}
    ours = layout == layouts.OPEN_CLIP
    entries: dict[str, Entry] = {}
    for parameter in base.parameters + base.roles.text:
        prefix, row = rows[parameter.name.replace(f".{parameter.block}.", ".{i}.", 1)]
        key = prefix + clip_key(row, layout).replace("{i}", str(parameter.block))
        # Both libraries read one number without an axis; open_clip can also store it as (1,).
        scalar = parameter.tower == "model" and parameter.numel == 1
        shape = () if scalar else _row_shape(base.shape(parameter.key), parameter)
        if ours and row.third is not None:
            shape = (3 * shape[0], *shape[1:]) if shape else shape
        if ours and row.columns:
            shape = shape[::-1]
        entries[key] = (shape, base.dtype(parameter.key))
    return entries


def _require_same_parts(base: Checkpoint, converted: tuple[Parameter, ...]) -> None:
    """Raise CheckpointError where the base lacks a part of CLIP (k beside q, say), or has one in another shape."""
    converted_shapes = {parameter.name: parameter.shape for parameter in converted}
    own = {parameter.name: parameter for parameter in base.parameters + base.roles.text}
    for name in converted_shapes.keys() - own.keys():
        raise CheckpointError(f"{base.source} lacks {shown(name)}, which the other layout needs. Keep its layout.")
    for name, parameter in own.items():
        if converted_shapes.get(name) != parameter.shape:
            raise CheckpointError(
                f"{base.where(parameter.key)}: {shown(parameter.key)} of shape {base.shape(parameter.key)} is no part "
                "of a whole CLIP model. Keep the layout the base is stored in."
            )


def _row_shape(stored: tuple[int, ...], parameter: Parameter) -> tuple[int, ...]:
    """Shape of the parameter as a tensor of its own with the neurons first (a convolution keeps its axes)."""
    if not stored:
        return stored
    rest = stored[: parameter.axis] + stored[parameter.axis + 1 :]
    return (parameter.stop - parameter.start, *rest)


def _main_dtype(base: Checkpoint) -> torch.dtype:
    """The dtype of most of the base's floating bytes."""
    counts: dict[torch.dtype, int] = {}
    for parameter in base.parameters:
        dtype = base.dtype(parameter.key)
        counts[dtype] = counts.get(dtype, 0) + parameter.numel
    return max(counts, key=lambda dtype: counts[dtype])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _same_configs(base: Checkpoint, dtype: torch.dtype | None) -> dict[str, dict[str, Any]]:
    """The base's own configuration, rewritten only where another dtype is written."""
    if dtype is None or not base.config:
        return {}
    return {TRANSFORMERS_CONFIG: {**base.config, "dtype": _name(dtype), "torch_dtype": _name(dtype)}}


def _converted_configs(base: Checkpoint, layout: str, dtype: torch.dtype) -> dict[str, dict[str, Any]]:
    """The configuration, translated into the other layout."""
    names = {parameter.name for parameter in base.parameters}
    has_text = any(parameter.tower == "text" for parameter in base.roles.text)
    if layout == layouts.TRANSFORMERS_CLIP:
        if OPEN_CLIP_CONFIG not in base.config_files:
            raise CheckpointError(
                f"{base.source} has no {OPEN_CLIP_CONFIG}, so its heads and its activation are unknown. Write "
                "a single .safetensors file, or keep the open_clip layout."
            )
        return configs.to_transformers(
            read_json(base.config_files[OPEN_CLIP_CONFIG]),
            has_text=has_text,
            has_projection="vision.head.projection" in names,
            dtype=_name(dtype),
        )
    if not has_text:
        raise CheckpointError(
            f"An open_clip folder needs a text tower, which {base.source} lacks. Keep the transformers layout, or "
            "write a single .safetensors file."
        )
    if not base.config:
        raise CheckpointError(
            f"{base.source} has no {TRANSFORMERS_CONFIG}, so its heads and its activation are unknown. Write "
            "a single .safetensors file, or keep the transformers layout."
        )
    return configs.to_open_clip(
        base.config,
        image_processor_in(base.config_files),
        has_tokenizer="tokenizer.json" in base.config_files,
    )
