"""What each stored tensor is: its block, its matrix, and which of its axes counts neurons.

A merge works on `Parameter`s, not on stored tensors, because the same network is stored in different
ways: open_clip fuses q, k and v into one `in_proj_weight`, transformers splits them; `visual.proj` holds
its neurons in columns, `visual_projection.weight` in rows. A `Parameter` names one map or vector of the
network the same way for every layout, and knows how to view it inside the stored tensor, without a copy.

`resolve` finds the parameters of a set of keys and shapes; it reads no weights. The tables it consults are in
`neuromerge.checkpoints.layouts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.parts import ClipPart, Entry, choose_clip, find_clips, is_main_part, plain_keys
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError

_TOWERS = ("vision", "encoder", "model", "decoder", "text")
_TEXT_REASON = "text tower, taken from the base"


SameValues = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One merge unit and its place in a stored tensor.

    Attributes:
        name: canonical name, equal across layouts, e.g. ``vision.blocks.3.q.weight``.
        key: key of the stored tensor that holds it, in the layout it was resolved from.
        tower: ``vision``, ``text``, ``encoder``, ``decoder`` or ``model``.
        layer: row of a heatmap: ``stem``, ``block 0`` ..., ``head`` (prefixed by the tower where there are several);
            for a model without blocks, its module path.
        block: index of the transformer block, None for stem and head.
        matrix: column of a heatmap: ``q k v qkv out fc1 fc2 gate router patch projection embedding norm bias other``.
        kind: ``neurons`` (a linear map: decomposed neuron by neuron) or ``pointwise``.
        shape: (neurons, inputs) for ``neurons``, (entries,) for ``pointwise``.
        axis: axis of the stored tensor that counts neurons (0 rows, 1 columns); 0 for ``pointwise``.
        start, stop: the slice of that axis which belongs to this parameter (fused tensors hold several).
        index: which expert of a stacked (experts, rows, columns) tensor, None otherwise; `axis` then counts
            within the expert.
    """

    name: str
    key: str
    tower: str
    layer: str
    block: int | None
    matrix: str
    kind: Literal["neurons", "pointwise"]
    shape: tuple[int, ...]
    axis: int
    start: int
    stop: int
    index: int | None = None

    @property
    def numel(self) -> int:
        """Number of entries."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    def view(self, stored: torch.Tensor) -> torch.Tensor:
        """The parameter inside its stored tensor: a view of `shape` (writes go through)."""
        if self.index is not None:
            stored = stored.select(0, self.index)
        if self.axis == 0 and stored.shape == self.shape:
            return stored  # nearly always, and a merge asks for thousands
        part = stored.reshape(1) if stored.ndim == 0 else stored.narrow(self.axis, self.start, self.stop - self.start)
        if self.kind == "pointwise":
            return part.reshape(-1)
        return part.movedim(self.axis, 0).flatten(1)


@dataclass(frozen=True, slots=True)
class Roles:
    """What `resolve` found.

    Attributes:
        layout: ``open_clip``, ``transformers-clip``, ``transformers`` or ``state_dict``.
        parameters: the parameters to merge, in the order of the network.
        fixed: stored key -> why it is taken from the base and not merged.
        text: the text tower and logit_scale of a CLIP model as parameters (not merged; needed to change layouts).
        prefix: what stands before every key, e.g. ``module.``.
        clip_complete: every key of the model is one of CLIP's own, so that it can be written in the other layout.
        beside: stored key -> why it is no part of the model: what stands beside a CLIP model in the same file. These
            keys are in `fixed` too.
    """

    layout: str
    parameters: tuple[Parameter, ...]
    fixed: dict[str, str]
    text: tuple[Parameter, ...] = ()
    prefix: str = ""
    clip_complete: bool = False
    beside: dict[str, str] = field(default_factory=dict)


def resolve(
    entries: Mapping[str, Entry],
    config: Mapping[str, Any] | None = None,
    part: str | None = None,
    same: SameValues = lambda one, other: False,
) -> Roles:
    """The parameters held by tensors of these keys, shapes and dtypes.

    A CLIP model is found under whatever prefix it has, and what stands beside it is left out, as long as CLIP is most
    of what the keys hold.

    Args:
        entries: key -> (shape, dtype), in any order.
        config: the model's transformers configuration where there is one; tells the head counts of fused
            attention and that the model is a transformers one.
        part: prefix of the model that is meant, without its last dot; ``.`` for none. Needed where there are two CLIP
            models; with another model, all keys under it.
        same: whether two tensors, named by their keys, hold the same values.

    Raises:
        CheckpointError: integer weight matrices (a quantised model), a fused tensor that is not what its name
            says, two tensors for the same part of the network, or two CLIP models and no choice between them.
    """
    stored_keys = plain_keys(entries)
    plain = {key: entries[stored] for key, stored in stored_keys.items()}
    parts = find_clips(plain)
    chosen = _chosen_clip(plain, parts, part, lambda one, other: same(stored_keys[one], stored_keys[other]))
    beside: dict[str, str] = {}
    if chosen is not None:
        beside = {stored_keys[key]: _beside_reason(key, parts) for key in plain if key not in chosen.keys}
    elif part is not None:
        beside = {stored_keys[key]: _BESIDE for key in plain if not key.startswith(part + ".")}
    mine = {key: entry for key, entry in plain.items() if stored_keys[key] not in beside}
    if chosen is not None:
        prefix = chosen.prefix
    else:
        prefix = _wrapper(mine, "" if part is None else part + ".")
    relative = {key[len(prefix) :]: entry for key, entry in mine.items()}
    clip = _clip_layout(relative) if chosen is None else chosen.layout
    layout = clip or (layouts.TRANSFORMERS if config else layouts.STATE_DICT)
    table = _clip_table(clip, _bare(relative, clip)) if clip else {}
    context = _Context(relative, dict(config or {}), vision_prefix=_vision_prefix(relative, clip))

    ranked: list[tuple[tuple[int, ...], Parameter]] = []
    text: list[Parameter] = []
    fixed: dict[str, str] = dict(beside)
    complete = clip is not None
    for position, (key, (shape, dtype)) in enumerate(relative.items()):
        stored = stored_keys[prefix + key]
        if not dtype.is_floating_point:
            _refuse_quantised(stored, shape, dtype)
            fixed[stored] = "integer or boolean buffer, taken from the base"
        elif rows := table.get(_template(key)):
            for rank, tower, row in rows:
                parameter = _clip_parameter(row, tower, stored, key, shape, clip or "")
                if tower == "vision":
                    ranked.append((_order(parameter, rank), parameter))
                else:
                    text.append(parameter)
                    fixed[stored] = _TEXT_REASON if tower == "text" else "temperature, taken from the base"
        elif clip and not (context.vision_prefix and key.startswith(context.vision_prefix)):
            fixed[stored] = _TEXT_REASON
            complete = False
        else:
            complete = False
            reason = _fixed_reason(key, shape)
            if reason:
                fixed[stored] = reason
            else:
                ranked += [(_order(p, position), p) for p in _generic_parameters(key, stored, shape, context)]
    ranked.sort(key=lambda pair: pair[0])
    parameters = tuple(parameter for _, parameter in ranked)
    _require_unique(parameters + tuple(text))
    return Roles(layout, parameters, fixed, tuple(text), prefix, complete, beside)


def _chosen_clip(
    entries: Mapping[str, Entry], parts: Sequence[ClipPart], part: str | None, same: SameValues
) -> ClipPart | None:
    """The CLIP model that these keys are about; None where they are another model, even with a CLIP tower in it."""

    def copies(one: ClipPart, other: ClipPart) -> bool:
        tower = layouts.CLIP_PREFIX[one.layout]["vision"] if one.bare and not other.bare else ""
        pairs = [(key, other.prefix + tower + key[len(one.prefix) :]) for key in one.keys]
        return one.layout == other.layout and all(theirs in other.keys and same(ours, theirs) for ours, theirs in pairs)

    if part is None and parts and not is_main_part(max(parts, key=lambda p: len(p.keys)), parts, entries):
        return None
    clip_is_meant = part is None or any(part == found.name for found in parts)
    if not clip_is_meant and any(key.startswith(f"{part}.") for key in entries):
        return None  # another model, under that prefix
    return choose_clip(parts, part, copies)


_BESIDE = "beside the model, left out"


def _beside_reason(key: str, parts: Sequence[ClipPart]) -> str:
    owner = next((part for part in parts if key in part.keys), None)
    if owner is None:
        return _BESIDE
    return (
        f"{'averaged copy' if owner.averaged else 'CLIP model'} under {owner.name}, left out (#{owner.name} takes it)"
    )


def _wrapper(entries: Mapping[str, Entry], prefix: str = "") -> str:
    """`prefix`, which all keys share, and the wrappers' prefixes after it."""
    while entries:
        found = next((w for w in layouts.WRAPPERS if all(key.startswith(prefix + w) for key in entries)), None)
        # A model whose one root module is called `model` (a bare `{"model.weight": ...}`) keeps its name.
        if found is None or all("." not in key[len(prefix + found) :] for key in entries):
            return prefix
        prefix += found
    return prefix


def _require_unique(parameters: Sequence[Parameter]) -> None:
    """Raise CheckpointError where two tensors claim the same place (block ``1`` and block ``01``, say)."""
    seen: dict[str, str] = {}
    for parameter in parameters:
        if parameter.name in seen:
            raise CheckpointError(
                f"{shown(seen[parameter.name])} and {shown(parameter.key)} are the same part of the network "
                f"({shown(parameter.name)}). Remove one of them."
            )
        seen[parameter.name] = parameter.key


def _clip_layout(entries: Mapping[str, Entry]) -> str | None:
    """The CLIP layout these keys are in, None when they are another model."""
    words = {key.split(".", 1)[0] for key in entries}
    if "visual" in words and words <= layouts.OPEN_CLIP_TOP_WORDS:
        return layouts.OPEN_CLIP
    if "conv1.weight" in entries and "ln_pre.weight" in entries and "class_embedding" in entries:
        return layouts.OPEN_CLIP
    if "vision_model" in words and words <= layouts.TRANSFORMERS_CLIP_TOP_WORDS:
        return layouts.TRANSFORMERS_CLIP
    if words <= layouts.TRANSFORMERS_VISION_TOP_WORDS and "pre_layrnorm.weight" in entries:
        return layouts.TRANSFORMERS_CLIP
    return None


def _bare(entries: Mapping[str, Entry], clip: str | None) -> bool:
    """Whether the keys are a vision tower without its prefix (`conv1.weight`, `encoder.layers...`)."""
    return clip is not None and not any(k.startswith(layouts.CLIP_PREFIX[clip]["vision"]) for k in entries)


def _vision_prefix(entries: Mapping[str, Entry], clip: str | None) -> str:
    return "" if clip is None or _bare(entries, clip) else layouts.CLIP_PREFIX[clip]["vision"]


_ClipTable = dict[str, list[tuple[int, str, layouts.ClipRow]]]


@lru_cache(maxsize=8)
def _clip_table(layout: str, bare: bool) -> _ClipTable:
    """Key template -> the rows it holds, as (rank in the network, tower, row)."""
    prefixes = layouts.CLIP_PREFIX[layout]
    rows = [("vision", "" if bare else prefixes["vision"], row) for row in layouts.CLIP_VISION]
    if not bare:
        rows += [("text", prefixes["text"], row) for row in layouts.CLIP_TEXT]
    rows += [(tower, "", row) for tower, row in layouts.CLIP_TOP]
    table: _ClipTable = {}
    for rank, (tower, prefix, row) in enumerate(rows):
        table.setdefault(prefix + clip_key(row, layout), []).append((rank, tower, row))
    if bare and layout == layouts.OPEN_CLIP:
        table["proj"] = table.pop("visual.proj")
    return table


def clip_places(parameters: Iterable[Parameter]) -> dict[str, tuple[tuple[Parameter, ...], int]]:
    """Key in either CLIP layout, of a whole model or a tower -> the parameters it holds, and their neurons' axis."""
    named = {parameter.name: parameter for parameter in parameters}
    blocks = sorted({parameter.block for parameter in named.values() if parameter.block is not None})
    places: dict[str, tuple[tuple[Parameter, ...], int]] = {}
    for layout in (layouts.TRANSFORMERS_CLIP, layouts.OPEN_CLIP):
        for bare in (False, True):
            for template, rows in _clip_table(layout, bare).items():
                axis = 1 if layout == layouts.OPEN_CLIP and rows[0][2].columns else 0
                for block in map(str, blocks) if "{i}" in template else ("",):
                    names = [row.name if tower == "model" else f"{tower}.{row.name}" for _, tower, row in rows]
                    found = [named.get(name.replace("{i}", block)) for name in names]
                    if all(found):
                        places.setdefault(template.replace("{i}", block), (tuple(p for p in found if p), axis))
    return places


def clip_key(row: layouts.ClipRow, layout: str) -> str:
    """The key of a CLIP row in a layout, without its tower's prefix and with `{i}` for the block."""
    return row.open_clip if layout == layouts.OPEN_CLIP else row.transformers


def _template(key: str) -> str:
    """The key with its first number (the block's) replaced by ``{i}``."""
    return re.sub(r"\.\d+\.", ".{i}.", key, count=1)


def _clip_parameter(
    row: layouts.ClipRow, tower: str, stored: str, key: str, shape: tuple[int, ...], layout: str
) -> Parameter:
    number = re.search(r"\.(\d+)\.", key)
    block = int(number.group(1)) if number and "{i}" in row.name else None
    name = row.name.replace("{i}", str(block))
    section = name.split(".", 1)[0]
    ours = layout == layouts.OPEN_CLIP
    parts = 3 if ours and row.third is not None else 1
    part = row.third or 0 if parts == 3 else 0
    if parts == 3 and (not shape or shape[0] % 3):
        raise CheckpointError(
            f"{shown(stored)} has shape {shape}, but must hold q, k and v stacked, of equal size. Export it again."
        )
    axis = 1 if ours and row.columns and len(shape) == 2 else 0
    return _parameter(
        name=name if tower == "model" else f"{tower}.{name}",
        key=stored,
        tower=tower,
        layer=f"block {block}" if block is not None else section,
        block=block,
        matrix=row.matrix,
        pointwise=row.pointwise,
        shape=shape,
        axis=axis,
        span=_equal_part(shape, axis, part, parts),
    )


def _parameter(
    *,
    name: str,
    key: str,
    tower: str,
    layer: str,
    block: int | None,
    matrix: str,
    pointwise: bool,
    shape: tuple[int, ...],
    axis: int = 0,
    span: tuple[int, int] | None = None,
    index: int | None = None,
) -> Parameter:
    """A Parameter, its own shape worked out from the stored one. One axis or none is always pointwise."""
    within = shape if index is None else shape[1:]
    size = within[axis] if within else 1
    start, stop = span or (0, size)
    rest = 1
    for other, length in enumerate(within):
        rest *= 1 if other == axis else length
    kind: Literal["neurons", "pointwise"] = "pointwise" if pointwise or len(within) < 2 else "neurons"
    own = ((stop - start) * rest,) if kind == "pointwise" else (stop - start, rest)
    return Parameter(name, key, tower, layer, block, matrix, kind, own, axis, start, stop, index)


def _equal_part(shape: tuple[int, ...], axis: int, part: int, parts: int) -> tuple[int, int] | None:
    """Start and stop of one of `parts` equal slices of an axis; None for the whole."""
    if parts == 1 or not shape or shape[axis] % parts:
        return None
    size = shape[axis] // parts
    return part * size, (part + 1) * size


def _order(parameter: Parameter, rank: int) -> tuple[int, ...]:
    """Sort key: tower, then stem, blocks, head, then the order within."""
    if parameter.block is not None:
        section = 1
    else:
        section = 0 if parameter.layer.endswith("stem") else 2
    return (_TOWERS.index(parameter.tower), section, parameter.block or 0, rank)


# --------------------------------------------------------------------------------------------------------
# Models without a table of their own
# --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Context:
    """What the classification of one key needs to know about the others."""

    entries: Mapping[str, Entry]
    config: Mapping[str, Any]
    vision_prefix: str = ""
    conv1d: bool = field(init=False)
    towers: bool = field(init=False)
    blocks: bool = field(init=False)
    names: set[str] = field(init=False)

    def __post_init__(self) -> None:
        wide = [shape for key, (shape, _) in self.entries.items() if key.endswith("c_attn.weight") and len(shape) == 2]
        self.conv1d = any(shape[1] > shape[0] for shape in wide)
        self.towers = any(".decoder." in "." + key for key in self.entries) and any(
            ".encoder." in "." + key for key in self.entries
        )
        self.blocks = any(layouts.BLOCK.search(key) for key in self.entries)
        self.names = {layouts.TRUNKS.sub("", key) for key in self.entries}

    def name(self, key: str) -> str:
        """The key without the trunk's prefix, where that leaves every name its own."""
        return layouts.TRUNKS.sub("", key) if len(self.names) == len(self.entries) else key

    def sibling(self, key: str, ending: str, replacement: str) -> tuple[int, ...] | None:
        """Shape of the tensor whose key differs from `key` by its ending."""
        entry = self.entries.get(key.replace(ending, replacement)) if ending in key else None
        return entry[0] if entry else None


def _fixed_reason(key: str, shape: tuple[int, ...]) -> str | None:
    """Why a floating tensor is not merged; None when it is."""
    if layouts.CAUSAL_MASK.search(key) and len(shape) > 2:
        return "attention mask, taken from the base"
    if 0 in shape:
        return "empty tensor, taken from the base"
    return next((reason for pattern, reason in layouts.FIXED if pattern.search(key)), None)


def _refuse_quantised(key: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if len(shape) >= 2 and dtype != torch.bool and layouts.QUANTISED.search(key):
        raise CheckpointError(
            f"{shown(key)} is stored as {str(dtype).removeprefix('torch.')}: quantised weights cannot be "
            "merged. Use the unquantised checkpoint (float16, bfloat16 or float32)."
        )


def _generic_parameters(key: str, stored: str, shape: tuple[int, ...], context: _Context) -> list[Parameter]:
    """The parameters of one tensor, stored under `stored`, classified by its name in the model."""
    path, _, leaf = key.rpartition(".")
    if leaf not in ("weight", "bias"):
        path = key
    block = layouts.BLOCK.search(key)
    number = int(block.group(1)) if block else None
    tower = _tower(key, context)
    layer = _layer(key, path, number, tower, context)
    pointwise = len(shape) < 2 or bool(layouts.POINTWISE.search(key))
    stacked = len(shape) == 3 and bool(layouts.STACKED_EXPERTS.search(key))
    axis = _neuron_axis(key, shape, stacked, context)
    name = context.name(key)
    if context.vision_prefix:
        name = "vision." + name.removeprefix(context.vision_prefix)

    parameters: list[Parameter] = []
    for index in range(shape[0]) if stacked else (None,):
        for part, span in _parts(key, shape if index is None else shape[1:], axis, context):
            parameters.append(
                _parameter(
                    name=_part_name(name, index, part),
                    key=stored,
                    tower=tower,
                    layer=layer,
                    block=number,
                    matrix=_matrix(path, leaf, part, len(shape) < 2),
                    pointwise=pointwise,
                    shape=shape,
                    axis=axis,
                    span=span,
                    index=index,
                )
            )
    return parameters


def _tower(key: str, context: _Context) -> str:
    if context.vision_prefix:
        return "vision"
    for tower in ("encoder", "decoder"):
        if context.towers and re.search(rf"(?:^|\.){tower}\.", key):
            return tower
    return "model"


def _layer(key: str, path: str, number: int | None, tower: str, context: _Context) -> str:
    if not context.blocks:
        return path
    plain = f"block {number}" if number is not None else ("stem" if layouts.STEM.search(key) else "head")
    return f"{tower} {plain}" if context.towers and tower != "model" else plain


def _neuron_axis(key: str, shape: tuple[int, ...], stacked: bool, context: _Context) -> int:
    """Which axis counts neurons (within one expert, where experts are stacked)."""
    if stacked:
        return 1 if _experts_transposed(key, shape, context) else 0
    return 1 if context.conv1d and len(shape) == 2 and layouts.CONV1D.search(key) else 0


def _experts_transposed(key: str, shape: tuple[int, ...], context: _Context) -> bool:
    """Whether a stacked tensor is (experts, inputs, neurons): told by the sizes of the pair up and down.

    Rows: up (2 f, h) and down (h, f). Columns: up (h, 2 f) and down (f, h).
    """
    up = shape if "gate_up_proj" in key else context.sibling(key, "down_proj", "gate_up_proj")
    down = shape if "down_proj" in key else context.sibling(key, "gate_up_proj", "down_proj")
    if up is None or down is None:
        return False
    return up[2] == 2 * down[1] and up[1] == down[2]


def _parts(
    key: str, shape: tuple[int, ...], axis: int, context: _Context
) -> Sequence[tuple[str, tuple[int, int] | None]]:
    """The parts of a fused tensor as (name, span); one nameless part for a tensor that is not fused."""
    if not shape:
        return [("", None)]
    names: tuple[str, ...] = ()
    if context.conv1d and layouts.CONV1D_ATTENTION.search(key):
        names = ("q", "k", "v")
    elif layouts.FUSED_ATTENTION.search(key):
        return _attention_parts(shape[axis], context.config) or [("", None)]
    elif not _interleaved(key, context):
        names = next((parts for pattern, parts in layouts.FUSED if pattern.search(key)), ())
    if not names or shape[axis] % len(names):
        return [("", None)]
    return [(name, _equal_part(shape, axis, part, len(names))) for part, name in enumerate(names)]


def _interleaved(key: str, context: _Context) -> bool:
    """gpt-oss stacks gate and up alternately; told by the bias that only it has."""
    return key.endswith("experts.gate_up_proj") and f"{key}_bias" in context.entries


def _attention_parts(rows: int, config: Mapping[str, Any]) -> list[tuple[str, tuple[int, int] | None]]:
    """q, k and v of a fused projection with grouped key and value heads; empty when the configuration does not fit."""
    try:
        heads = int(config["num_attention_heads"])
        size = int(config.get("head_dim") or config["hidden_size"] // heads)
        groups = int(config.get("num_key_value_heads") or heads)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return []
    queries, keys = heads * size, groups * size
    if queries <= 0 or keys <= 0 or queries + 2 * keys != rows:
        return []
    return [("q", (0, queries)), ("k", (queries, queries + keys)), ("v", (queries + keys, rows))]


def _part_name(name: str, index: int | None, part: str) -> str:
    path, _, leaf = name.rpartition(".")
    if leaf not in ("weight", "bias"):
        path, leaf = name, ""
    return ".".join(piece for piece in (path, "" if index is None else str(index), part, leaf) if piece)


def _matrix(path: str, leaf: str, part: str, vector: bool) -> str:
    """Column of the heatmap."""
    if vector and layouts.NORM.search(path):
        return "norm"
    if leaf == "bias" or path.endswith("bias"):
        return "embedding" if "relative" in path else "bias"
    if layouts.POINTWISE.search(path) or (vector and layouts.EMBEDDING.search(path)):
        return "embedding"
    if vector:
        return "other"
    return part or next((matrix for pattern, matrix in layouts.MATRICES if pattern.search(path)), "other")
