"""LoRA adapters as experts: W + scale * B A, worked out for one stored tensor when it is read.

An adapter as PEFT writes it (Hu et al. 2021, arXiv 2106.09685; `adapter_config.json` and
`adapter_model.safetensors`) holds two thin matrices for each map it changes, A (r, inputs) and B (outputs, r). The
scale is alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (arXiv 2312.03732).

An adapter names the maps of the model it was trained on, in that model's layout. They are found in the base by
the names that parameters have in every layout, so that an adapter of a transformers CLIP fits an open_clip base,
whose q, k and v lie in one tensor.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.parts import Entry, plain_keys
from neuromerge.checkpoints.roles import Parameter, clip_places
from neuromerge.checkpoints.text import shown
from neuromerge.errors import AlignmentError, CheckpointError
from neuromerge.hub.weight_files import ADAPTER_CONFIG
from neuromerge.json_files import read_json

if TYPE_CHECKING:
    from neuromerge.checkpoints.checkpoint import Checkpoint
    from neuromerge.checkpoints.storage import Storage


_KEPT_MATRICES = 4

# `module.lora_A.weight`, or `module.lora_A.default.weight` where the live model's state dict was saved.
_FACTOR = re.compile(
    r"^(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.(?P<adapter>(?!weight$)[^.]+))?(?:\.weight)?$"
)
_VARIANTS = (
    (re.compile(r"lora_magnitude_vector"), "DoRA (use_dora)"),
    (re.compile(r"\.lora_[AB](?:\.[^.]+)?\.bias$"), "LoRA with biases of its own (lora_bias)"),
    (re.compile(r"\.hada_w"), "LoHa"),
    (re.compile(r"\.lokr_w"), "LoKr"),
    (re.compile(r"\.oft_[rsR]"), "OFT"),
    (re.compile(r"\.vera_lambda"), "VeRA"),
    (re.compile(r"\.ia3_l"), "(IA)^3"),
    (re.compile(r"\.lora_(?:up|down)\."), "the LoRA of image generators (lora_up, lora_down)"),
    (re.compile(r"\.lora_E(?:\.|$)"), "AdaLoRA"),
    (re.compile(r"(?:^|\.)prompt_embeddings?$"), "a learned prompt"),
    # PEFT applies the change of such an out_proj twice, in training too, so the plain formula would give another model.
    (re.compile(r"\.base_layer\.out_proj\.lora_"), "LoRA of a torch.nn.MultiheadAttention"),
    (re.compile(r"token_adapter|trainable_tokens"), "trainable tokens (trainable_token_indices)"),
)
_WRAPPERS = re.compile(r"^(?:base_model\.model\.|base_model\.|module\.)+")

# Fields of adapter_config.json that say nothing about the change itself, or are read below.
_PLAIN_FIELDS = frozenset(
    [
        "peft_type",
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "fan_in_fan_out",
        "base_model_name_or_path",
        "revision",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "modules_to_save",
        "bias",
        "lora_dropout",
        "task_type",
        "inference_mode",
        "auto_mapping",
        "peft_version",
        "init_lora_weights",
        "runtime_config",
        "ephemeral_gpu_offload",
        "megatron_core",
        "ensure_weight_tying",
        "eva_config",
    ]
)
# Starting points that change nothing in the base. Others (PiSSA, OLoRA, CorDA, LoftQ) train beside a changed base.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_NEUTRAL_FIELDS: Mapping[str, tuple[Any, ...]] = {"qalora_group_size": (16,)}


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What `adapter_config.json` says about the scale, and the base that the adapter was trained on."""

    alpha: float
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False
    base: str | None = None
    revision: str | None = None

    def base_source(self, from_hub: bool) -> str | None:
        """The base as `load_checkpoint` takes it: a path that is there, else a repository of the Hub.

        An adapter that came from the Hub names repositories only: a stranger's file must not choose a path here.
        """
        if self.base is None:
            return None
        if re.fullmatch(r"[\w.-]+/[\w.-]+", self.base) and (from_hub or not Path(self.base).exists()):
            return f"hub:{self.base}" + (f"@{self.revision}" if self.revision else "")
        return None if from_hub else self.base

    def scale(self, module: str, rank: int) -> float:
        """The factor on B A: alpha / r, or alpha / sqrt(r)."""
        alpha = next(
            (value for name, value in self.alpha_pattern.items() if re.fullmatch(rf"(?:.*\.)?(?:{name})", module)),
            self.alpha,
        )
        return alpha / (rank**0.5 if self.rank_stabilised else rank)


def is_adapter(keys: Collection[str]) -> bool:
    """Whether keys are those of an adapter and not of a model."""
    return any(_FACTOR.match(key) or any(pattern.search(key) for pattern, _ in _VARIANTS) for key in keys)


def read_adapter(keys: Collection[str], path: Path) -> AdapterConfig:
    """The configuration that goes with the adapter of these keys in the file `path`.

    Raises CheckpointError where it is missing or asks for more than plain LoRA, and where the keys are those of a whole
    model that still wears its adapter, naming what.
    """
    modules = {match["module"] for key in keys if (match := _FACTOR.match(key))}
    worn = {key.removesuffix(".base_layer.weight") for key in keys if key.endswith(".base_layer.weight")}
    # An adapter of an embedding carries the embedding itself; a whole model carries every map, and norms besides.
    plain = [key for key in keys if not _FACTOR.match(key) and ".base_layer." not in key]
    if worn and worn >= modules and plain:
        raise CheckpointError(
            f"{path} is a whole model with a LoRA adapter that was not merged into it. Call merge_and_unload() before "
            "saving, or save the adapter alone with save_pretrained()."
        )
    return _read_config(path.parent / ADAPTER_CONFIG)


def _read_config(path: Path) -> AdapterConfig:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} holds a LoRA adapter without its {ADAPTER_CONFIG}, which tells its scale (lora_alpha). Put "
            "it beside the adapter."
        )
    content = read_json(path)
    kind = content.get("peft_type", "LORA")
    if kind != "LORA":
        raise CheckpointError(f"{path}: peft_type is {shown(kind)}; only LORA is read. {_MERGE_IT}")
    start = content.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise CheckpointError(
            f"{path}: init_lora_weights is {shown(start)}: such an adapter belongs to a changed base, not to the "
            f"published one. {_MERGE_IT}"
        )
    for name, value in content.items():
        if name not in _PLAIN_FIELDS and value and value not in _NEUTRAL_FIELDS.get(name, ()):
            raise CheckpointError(f"{path}: {shown(name)} = {shown(value, 60)} is not plain LoRA. {_MERGE_IT}")
    patterns = content.get("alpha_pattern") or {}
    if not isinstance(patterns, Mapping):
        raise CheckpointError(f"{path}: alpha_pattern must map names of modules to numbers, found {shown(patterns)}.")
    base = content.get("base_model_name_or_path")
    revision = content.get("revision")
    return AdapterConfig(
        alpha=_number(content.get("lora_alpha", 8), "lora_alpha", path),
        alpha_pattern={_checked(name, path): _number(value, "alpha_pattern", path) for name, value in patterns.items()},
        rank_stabilised=bool(content.get("use_rslora")),
        base=base if isinstance(base, str) and base else None,
        revision=revision if isinstance(revision, str) and revision != "main" else None,
    )


_MERGE_IT = "Merge it into its base with PEFT (merge_and_unload) and give the result."


def _number(value: Any, name: str, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9:
        raise CheckpointError(f"{path}: {name} must be a number, found {shown(value)}.")
    return float(value)


def _checked(pattern: str, path: Path) -> str:
    """A pattern of module names that compiles. PEFT reads these names as regular expressions too."""
    try:
        re.compile(pattern)
    except re.error:
        raise CheckpointError(f"{path}: alpha_pattern names {shown(pattern)}, which is no pattern.") from None
    return pattern


@dataclass(frozen=True, slots=True)
class _Place:
    """The parameters of the base that one tensor of the adapter's model holds, in the order of their rows.

    `axis` counts neurons in the adapter's layout, which may be another than the base's.
    """

    parameters: tuple[Parameter, ...]
    axis: int

    @property
    def rows(self) -> int:
        """Neurons of all of them."""
        return sum(parameter.stop - parameter.start for parameter in self.parameters)


@dataclass(frozen=True, slots=True)
class _Change:
    """What an adapter does to one parameter of the base: rows of scale * B A, or of a tensor in its place.

    `down`, `up` and `whole` are keys of the adapter's tensors; `axis` counts neurons in `whole`.
    """

    parameter: Parameter
    rows: slice
    scale: float = 1.0
    down: str = ""
    up: str = ""
    embedding: bool = False
    whole: str = ""
    axis: int = 0


class AdapterStorage:
    """The weights of a base with an adapter in them, in the base's layout.

    Tensors that the adapter changes are float32 (float64 where the base is): a small change would be lost in the
    rounding of half precision.

    Raises:
        CheckpointError: not plain LoRA.
        AlignmentError: a map that the base has not, or has in another shape.
    """

    def __init__(self, adapter: Storage, config: AdapterConfig, base: Checkpoint):
        self._adapter = adapter
        self._base = base
        self.kind = f"LoRA adapter ({adapter.kind}) on {base.source}"
        self.paths = adapter.paths
        self.left_out: dict[str, str] = dict(base.left_out)
        self._changes: dict[str, list[_Change]] = {}
        self._recent: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._turn = Lock()
        self._find_changes(config)
        self.entries: dict[str, Entry] = {
            key: (base.shape(key), _wide(base.dtype(key)) if key in self._changes else base.dtype(key)) for key in base
        }

    def _find_changes(self, config: AdapterConfig) -> None:
        where = str(self.paths[0]) if self.paths else "the adapter"
        places = _places(self._base)
        factors: dict[str, dict[str, str]] = {}
        names: set[str] = set()
        for key in self._adapter.entries:
            for pattern, variant in _VARIANTS:
                if pattern.search(key):
                    raise CheckpointError(f"{where}: {shown(key)} belongs to {variant}, which is not read. {_MERGE_IT}")
            match = _FACTOR.match(key)
            if match is None:
                self._replace(key, places, where)
                continue
            names.add(match["adapter"] or "default")
            module = _WRAPPERS.sub("", match["module"])
            found = factors.setdefault(module, {})
            found[match["side"]] = key
            if match["embedding"]:
                found["embedding"] = key
        if len(names) > 1:
            raise CheckpointError(
                f"{where} holds {len(names)} adapters ({', '.join(sorted(names))}). Save one of them."
            )
        for module, found in factors.items():
            if "A" not in found or "B" not in found:
                raise CheckpointError(f"{where}: {shown(module)} has only one of lora_A and lora_B. Save it again.")
            place = places.get(module + ".weight")
            if place is None:
                raise AlignmentError(
                    f"{where} changes {shown(module)}, which the base {self._base.source} has not (it has "
                    f"{_first_keys(self._base)}). Give the base that the adapter was trained on"
                    + (f" ({config.base})." if config.base else ".")
                )
            self._add_factors(module, found, place, config, where)

    def _replace(self, key: str, places: Mapping[str, _Place], where: str) -> None:
        """A tensor that was trained whole (`modules_to_save`, biases) stands in the place of the base's."""
        plain = _WRAPPERS.sub("", key).replace(".modules_to_save", "").replace(".base_layer", "")
        plain = plain.replace(".original_module", "")
        place = places.get(plain) or places.get(plain.replace(".default.", "."))
        if place is None:
            self.left_out[key] = "beside the model, left out"
            return
        shape = self._adapter.entries[key][0]
        first = place.parameters[0]
        if _product(shape) != sum(p.numel for p in place.parameters) or (shape and shape[place.axis] != place.rows):
            raise AlignmentError(
                f"{where}: {shown(key)} has shape {shape}, the base's {shown(first.key)} has "
                f"{self._base.shape(first.key)}. Give the base that the adapter was trained on."
            )
        for parameter, rows in _with_rows(place):
            self._note(_Change(parameter, rows, whole=key, axis=place.axis))

    def _note(self, change: _Change) -> None:
        self._changes.setdefault(change.parameter.key, []).append(change)

    def _add_factors(
        self, module: str, found: Mapping[str, str], place: _Place, config: AdapterConfig, where: str
    ) -> None:
        down, up = self._adapter.entries[found["A"]][0], self._adapter.entries[found["B"]][0]
        embedding = "embedding" in found
        # An embedding's A is (r, tokens) and its B (inputs, r): the change is (B A)^T.
        outputs, inputs = (down[1:], up[:1]) if embedding else (up[:1], down[1:])
        columns, first = _product(inputs), place.parameters[0]
        fits = len(down) >= 2 and len(up) >= 2 and down[0] == up[1] and _product(outputs) == place.rows
        fits = fits and all(p.numel == (p.stop - p.start) * columns for p in place.parameters)
        if not fits or _product(up[2:]) != 1:
            raise AlignmentError(
                f"{where}: {shown(module)} has factors of shape {down} and {up}, which do not fit "
                f"{shown(first.key)} of shape {self._base.shape(first.key)} in the base. Give the base that the "
                "adapter was trained on."
            )
        scale = config.scale(module, down[0])
        for parameter, rows in _with_rows(place):
            self._note(_Change(parameter, rows, scale, found["A"], found["B"], embedding))

    def read(self, key: str) -> torch.Tensor:
        """The base's tensor with the adapter's change in it, not to be written to."""
        if key not in self._changes:
            return self._base.tensor(key)
        with self._turn:
            if key in self._recent:
                self._recent.move_to_end(key)
                return self._recent[key]
        stored = self._base.tensor(key).to(self.entries[key][1], copy=True, memory_format=torch.contiguous_format)
        # Whole replacements first: a module may be replaced and changed.
        for change in sorted(self._changes[key], key=lambda change: not change.whole):
            self._apply(change, change.parameter.view(stored))
        with self._turn:
            self._recent[key] = stored
            while len(self._recent) > _KEPT_MATRICES:
                self._recent.popitem(last=False)
        return stored

    def _apply(self, change: _Change, view: torch.Tensor) -> None:
        if change.whole:
            values = self._adapter.read(change.whole)
            values = values.reshape(1) if values.ndim == 0 else values.movedim(change.axis, 0)
            view.copy_(values[change.rows].reshape(view.shape))
            return
        down = self._adapter.read(change.down).to(view.dtype).flatten(1)
        up = self._adapter.read(change.up).to(view.dtype).flatten(1)
        outputs, inputs = (down.T, up.T) if change.embedding else (up, down)
        view.add_((outputs[change.rows] @ inputs).reshape(view.shape), alpha=change.scale)

    def where(self, key: str) -> str:
        """The file that holds the key, for messages."""
        return str(self.paths[0]) if key in self._changes and self.paths else self._base.where(key)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype.is_floating_point and dtype.itemsize < 4 else dtype


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _first_keys(base: Checkpoint) -> str:
    return ", ".join(shown(parameter.key) for parameter in base.parameters[:2]) + " ..."


def _with_rows(place: _Place) -> list[tuple[Parameter, slice]]:
    """Each parameter of a place with its rows there."""
    found: list[tuple[Parameter, slice]] = []
    start = 0
    for parameter in place.parameters:
        stop = start + parameter.stop - parameter.start
        found.append((parameter, slice(start, stop)))
        start = stop
    return found


def _places(base: Checkpoint) -> dict[str, _Place]:
    """Key in any layout that an adapter may use -> the parameters of the base that it stands for."""
    parameters = [*base.parameters, *base.roles.text]
    places: dict[str, _Place] = {}
    held: dict[str, list[Parameter]] = {}
    for parameter in sorted(parameters, key=lambda p: p.start):
        if parameter.index is None:
            held.setdefault(parameter.key, []).append(parameter)
    plain = {stored: key for key, stored in plain_keys(list(base)).items()}
    for stored, own in held.items():
        place = _Place(tuple(own), own[0].axis)
        key = plain[stored].removeprefix(base.roles.prefix)
        places[stored] = places[key] = place
        bare = layouts.TRUNKS.sub("", key)
        # PEFT names the module it wrapped: a causal model holds its trunk as `model.`, a bare trunk does not.
        for alias in (bare, f"model.{bare}", f"transformer.{bare}"):
            places.setdefault(alias, place)
    for key, (found, axis) in clip_places(parameters).items():
        places.setdefault(key, _Place(found, axis))
    return places
