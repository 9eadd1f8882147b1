"""Runnable CLIP towers whose weights can be replaced in place.

`VisionModel.weights` holds views of the live weights under the names that merging uses, so that a merge is
written straight into the network and evaluated at once, with no state dict and no module in between.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neuromerge.checkpoints.checkpoint import Checkpoint
from neuromerge.checkpoints.layouts import OPTIONAL_NAMES
from neuromerge.checkpoints.roles import Parameter
from neuromerge.deployment import deployment
from neuromerge.errors import CheckpointError, SettingError
from neuromerge.evaluation import preprocessing, tower
from neuromerge.evaluation.configuration import (
    ClipConfiguration,
    Preprocessing,
    TextSettings,
    TowerSettings,
    configuration_of,
)
from neuromerge.evaluation.tokens import Tokenizer, tokenizer_for
from neuromerge.threads import cores, pool

# Activations of one chunk of images; measured best between 1 and 4 MB on machines with 1 to 2 MB of second-level
# cache. Fewer rows than this make the matrix products themselves slow.
_CHUNK_BYTES = 2_000_000
_MIN_ROWS = 512
_LEAVES = ("weight", "bias")


def bound_threads() -> int:
    """Bound torch's threads to ``$NEUROMERGE_THREADS`` (default: the cores, at most 8). Returns the number in use."""
    most = deployment().threads or min(os.cpu_count() or 1, 8)
    if torch.get_num_threads() > most:
        torch.set_num_threads(most)
    return torch.get_num_threads()


class VisionModel:
    """A CLIP vision transformer with its projection, in float32 on the CPU.

    Attributes:
        weights: canonical name -> live tensor of that parameter's shape ((neurons, inputs) or (entries,));
            writing into it changes the model.
        parameters: the parameters in the order of the network, as resolved from the checkpoint.
        preprocessing: how pictures become pixels.
        lock: hold it while writing weights and encoding where several threads share one model.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        settings: TowerSettings,
        preprocess: Preprocessing,
        parameters: Sequence[Parameter] = (),
    ) -> None:
        """A model with zero weights of these shapes, by canonical name. Raises CheckpointError if they misfit."""
        bound_threads()
        self.settings, self.preprocessing = settings, preprocess
        self.parameters = tuple(parameters)
        self.lock = threading.RLock()
        self.weights: dict[str, Tensor] = {}
        self._shapes = dict(shapes)
        blocks = _count_blocks(shapes, "vision")
        _require(shapes, _vision_names(blocks), "vision")
        self.width = shapes["vision.stem.class_embedding"][0]
        self.dimensions = shapes["vision.head.projection"][0]
        self.patch = math.isqrt(shapes["vision.stem.patch.weight"][-1] // 3)
        self.tokens = shapes["vision.stem.position_embedding"][0] // self.width
        expected = {
            "vision.stem.patch.weight": (self.width, 3 * self.patch**2),
            "vision.stem.position_embedding": (self.tokens * self.width,),
            "vision.head.projection": (self.dimensions, self.width),
            **{
                f"vision.{norm}.{leaf}": (self.width,)
                for norm in ("stem.norm_pre", "head.norm_post")
                for leaf in _LEAVES
            },
        }
        _require_shapes(shapes, expected | _block_shapes(shapes, "vision", blocks, self.width))
        self.heads = _heads(settings, self.width)
        if (preprocess.size // self.patch) ** 2 + 1 != self.tokens or preprocess.size % self.patch:
            raise CheckpointError(
                f"The model has positions for {self.tokens - 1} patches of {self.patch} x {self.patch} pixels, but its "
                f"configuration says pictures of {preprocess.size} x {preprocess.size}."
            )
        self._activation = tower.ACTIVATIONS[settings.activation]
        self._stem = {
            name: self._new(f"vision.stem.{name}")
            for name in ("patch.weight", "class_embedding", "position_embedding", "norm_pre.weight", "norm_pre.bias")
        }
        self._blocks = [_new_block(self.weights, shapes, "vision", number) for number in range(blocks)]
        self._head = {
            name: self._new(f"vision.head.{name}") for name in ("norm_post.weight", "norm_post.bias", "projection")
        }

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, base: Checkpoint | None = None) -> VisionModel:
        """The vision tower of an open_clip or transformers CLIP checkpoint, of any size.

        Args:
            checkpoint: what `load_checkpoint` returns.
            base: a checkpoint that supplies what this one lacks: an expert often holds the vision tower alone,
                without configuration or projection.

        Raises:
            CheckpointError: not a CLIP vision transformer, or no configuration was found.
        """
        found = _resolved(checkpoint, "vision")
        if "vision.stem.class_embedding" not in found:
            raise CheckpointError(
                f"{checkpoint.source} holds no CLIP vision tower in the layout of open_clip or transformers, so its "
                "pictures cannot be evaluated."
            )
        filled = dict(found)
        configuration = configuration_of(checkpoint)
        if base is not None:
            configuration = configuration_of(base) or configuration
            filled = {name: found.get(name, own) for name, own in _resolved(base, "vision").items()} | found
        if configuration is None:
            raise CheckpointError(
                f"{checkpoint.name}: there is no open_clip_config.json or config.json beside the weights, and without "
                "one the number of attention heads is unknown. Put the base model's file beside it, or name the base."
            )
        if "vision.head.projection" not in filled:
            raise CheckpointError(
                f"{checkpoint.name} is a vision tower without projection, so its pictures cannot be compared with "
                "texts. Name the base model, which has it."
            )
        model = cls(
            {name: parameter.shape for name, parameter in filled.items()},
            configuration.vision,
            configuration.preprocessing,
            tuple(filled.values()),
        )
        model.load(checkpoint, base=base)
        return model

    def load(self, checkpoint: Checkpoint, *, base: Checkpoint | None = None) -> None:
        """Write the vision weights of `checkpoint` into this model; a projection it lacks is read from `base`.

        Raises CheckpointError when a shape differs or a weight is missing.
        """
        found = _resolved(checkpoint, "vision")
        spare = {name: p for name, p in _resolved(base, "vision").items() if name in OPTIONAL_NAMES} if base else {}
        missing = [name for name in self.weights if name not in found and name not in spare]
        if missing:
            raise CheckpointError(f"{checkpoint.source} lacks {_listed(missing)}.")
        with self.lock:
            if base is not None:
                _write(self.weights, {name: p for name, p in spare.items() if name not in found}, base)
            _write(self.weights, found, checkpoint)

    def copy(self) -> VisionModel:
        """Another model with the same weights in memory of its own."""
        twin = VisionModel(self._shapes, self.settings, self.preprocessing, self.parameters)
        for name, weight in self.weights.items():
            twin.weights[name].copy_(weight)
        return twin

    @property
    def size_bytes(self) -> int:
        """Memory of the weights."""
        return sum(weight.numel() * weight.element_size() for weight in self.weights.values())

    def crop(self, images: Any) -> Tensor:
        """Pictures (PIL, or uint8 of any size) as uint8 (N, size, size, 3); see `preprocessing.crop`."""
        return preprocessing.crop(images, self.preprocessing)

    def preprocess(self, images: Any) -> Tensor:
        """Pictures (PIL, or uint8 of any size) as float32 pixels (N, 3, size, size), as open_clip makes them."""
        return preprocessing.normalise(self.crop(images), self.preprocessing)

    @torch.no_grad()
    def encode(self, pixels: Tensor, *, normalised: bool = True) -> Tensor:
        """Image embeddings (N, dimensions), L2-normalised unless told otherwise.

        Args:
            pixels: float32 (N, 3, size, size) from `preprocess`, or uint8 (N, size, size, 3) from `crop`.
        """
        threads = cores()
        if threads < 2 or len(pixels) < threads:
            chunks = [self._embed_pixels(part) for part in pixels.split(self.chunk)]
        else:
            # A core takes some images through the whole network: splitting each operation costs a fifth more.
            parts = pixels.split(min(self.chunk, math.ceil(len(pixels) / (2 * threads))))
            chunks = list(pool(threads).map(self._embed_pixels, parts))
        result = torch.cat(chunks) if chunks else torch.empty((0, self.dimensions))
        return F.normalize(result, dim=-1) if normalised else result

    @property
    def chunk(self) -> int:
        """How many images go through the network at a time."""
        hidden = self._shapes["vision.blocks.0.fc1.weight"][0] if self._blocks else self.width
        rows = max(_CHUNK_BYTES // (4 * hidden), _MIN_ROWS)
        return max(rows // self.tokens, 1)

    def inputs_of(self, block: int | None, matrix: str, pixels: Tensor) -> Tensor:
        """Inputs of one linear map for every token: (N, L, inputs).

        Args:
            block: number of the block, None outside of them.
            matrix: ``q k v out fc1 fc2`` in a block; ``patch`` or ``projection`` outside (L = patches, L = 1).

        Raises:
            SettingError: there is no such map.
        """
        parts = [self._inputs(block, matrix, self._pixels(part)) for part in pixels.split(self.chunk)]
        return torch.cat(parts)

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        return self._embed(self._pixels(pixels))

    @torch.no_grad()
    def _embed(self, pixels: Tensor) -> Tensor:
        x = self._embedded(pixels)
        for weights in self._blocks[:-1]:
            x = tower.block(x, weights, self.heads, self._activation, self.settings.eps)
        if self._blocks:
            first = torch.zeros(len(x), dtype=torch.long)
            x = tower.block(x, self._blocks[-1], self.heads, self._activation, self.settings.eps, only=first)
        else:
            x = x[:, 0]
        return F.linear(self._norm(x, self._head, "norm_post"), self._head["projection"])

    @torch.no_grad()
    def _inputs(self, block: int | None, matrix: str, pixels: Tensor) -> Tensor:
        if block is None and matrix == "patch":
            return tower.patches(pixels, self.patch)
        if block is None and matrix != "projection":
            raise SettingError(f"Outside the blocks there is no linear map {matrix!r}, only patch and projection.")
        if block is not None and (
            not 0 <= block < len(self._blocks) or matrix not in ("q", "k", "v", "out", "fc1", "fc2")
        ):
            raise SettingError(
                f"There is no linear map {matrix!r} in block {block}: blocks run from 0 to {len(self._blocks) - 1} and "
                "hold q, k, v, out, fc1, fc2."
            )
        x = self._embedded(pixels)
        seen: dict[str, Tensor] = {}
        for number, weights in enumerate(self._blocks):
            capture = seen.__setitem__ if number == block else None
            x = tower.block(x, weights, self.heads, self._activation, self.settings.eps, capture=capture)
            if number == block:
                return seen["qkv" if matrix in ("q", "k", "v") else matrix]
        return self._norm(x[:, :1], self._head, "norm_post")

    def _embedded(self, pixels: Tensor) -> Tensor:
        """Tokens (N, L, width) that enter the first block."""
        x = torch.empty((len(pixels), self.tokens, self.width))
        x[:, 0] = self._stem["class_embedding"]
        x[:, 1:] = F.linear(tower.patches(pixels, self.patch), self._stem["patch.weight"])
        x += self._stem["position_embedding"].view(self.tokens, self.width)
        return self._norm(x, self._stem, "norm_pre")

    def _norm(self, x: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
        return F.layer_norm(x, (self.width,), weights[f"{name}.weight"], weights[f"{name}.bias"], self.settings.eps)

    def _pixels(self, part: Tensor) -> Tensor:
        size = self.preprocessing.size
        if part.dtype == torch.uint8 and tuple(part.shape[1:]) == (size, size, 3):
            return preprocessing.normalise(part, self.preprocessing)
        if part.dtype == torch.float32 and tuple(part.shape[1:]) == (3, size, size):
            return part
        raise SettingError(
            f"Pixels must be float32 (N, 3, {size}, {size}) or uint8 (N, {size}, {size}, 3), not {part.dtype} "
            f"{tuple(part.shape)}."
        )

    def _new(self, name: str) -> Tensor:
        self.weights[name] = torch.zeros(self._shapes[name])
        return self.weights[name]


class TextModel:
    """A CLIP text transformer with its projection and tokenizer, in float32 on the CPU.

    Attributes:
        digest: a fingerprint of its weights; heads are cached under it.
        logit_scale: the factor on cosine similarities (already exponentiated).
        context: how many tokens a text may have; what is longer is cut.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        settings: TextSettings,
        tokenizer: Tokenizer,
    ) -> None:
        """A model with zero weights of these shapes. Raises CheckpointError if they misfit."""
        bound_threads()
        self.settings, self.tokenizer, self.digest = settings, tokenizer, ""
        self.weights: dict[str, Tensor] = {}
        blocks = _count_blocks(shapes, "text")
        _require(shapes, _text_names(blocks), "text")
        self.vocabulary, self.width = _pair(shapes, "text.stem.token_embedding")
        self.context = shapes["text.stem.position_embedding"][0] // self.width
        self.dimensions = shapes["text.head.projection"][0]
        expected = {
            "text.stem.position_embedding": (self.context * self.width,),
            "text.head.projection": (self.dimensions, self.width),
            **{f"text.head.norm_final.{leaf}": (self.width,) for leaf in _LEAVES},
        }
        _require_shapes(shapes, expected | _block_shapes(shapes, "text", blocks, self.width))
        self.heads = _heads(settings.tower, self.width)
        self.logit_scale = 100.0
        self._activation = tower.ACTIVATIONS[settings.tower.activation]
        self._blocks = [_new_block(self.weights, shapes, "text", number) for number in range(blocks)]
        for name in _text_names(0):
            self.weights[name] = torch.zeros(shapes[name])

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> TextModel:
        """The text tower of an open_clip or transformers CLIP checkpoint.

        Raises CheckpointError when the checkpoint has no text tower, configuration or tokenizer.
        """
        found = _resolved(checkpoint, "text")
        configuration: ClipConfiguration | None = configuration_of(checkpoint)
        if not any(name.startswith("text.") for name in found):
            raise CheckpointError(
                f"{checkpoint.name} holds no text tower, so class names cannot be read. Use the base model's."
            )
        if configuration is None or configuration.text is None:
            raise CheckpointError(f"{checkpoint.name}: there is no configuration of the text tower beside the weights.")
        scale = found.pop("logit_scale", None)
        found.pop("logit_bias", None)
        shapes = {name: parameter.shape for name, parameter in found.items()}
        vocabulary = shapes.get("text.stem.token_embedding", (0,))[0]
        tokenizer = tokenizer_for(configuration.text, configuration.folder, vocabulary)
        model = cls(shapes, configuration.text, tokenizer)
        _write(model.weights, found, checkpoint)
        model.digest = _fingerprint(model.weights)
        if scale is not None:
            model.logit_scale = float(checkpoint.tensor(scale.key).float().exp())
        return model

    @property
    def size(self) -> int:
        """Number of weights in the transformer's blocks."""
        return sum(weight.numel() for name, weight in self.weights.items() if ".blocks." in name)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, normalised: bool = True) -> Tensor:
        """Text embeddings (N, dimensions), L2-normalised unless told otherwise.

        Texts are sorted by length and cut after the token that is read: with causal attention the later ones
        change nothing, and class names are short.
        """
        ids = self.tokenizer(list(texts), self.context)
        if ids.numel() and int(ids.max()) >= self.vocabulary:
            raise CheckpointError(
                "The tokenizer's vocabulary is larger than the text tower's: they do not belong together."
            )
        read = self._read(ids)
        order = read.argsort(stable=True) if self.settings.causal else torch.arange(len(ids))
        result = torch.empty((len(ids), self.dimensions))
        for rows in order.split(self._chunk(ids)):
            length = int(read[rows].max()) + 1 if self.settings.causal else ids.shape[1]
            result[rows] = self._embed(ids[rows, :length], read[rows])
        return F.normalize(result, dim=-1) if normalised else result

    def _embed(self, ids: Tensor, read: Tensor) -> Tensor:
        eps, causal = self.settings.tower.eps, self.settings.causal
        length = ids.shape[1]
        x = self.weights["text.stem.token_embedding"][ids]
        x += self.weights["text.stem.position_embedding"].view(self.context, self.width)[:length]
        for weights in self._blocks[:-1]:
            x = tower.block(x, weights, self.heads, self._activation, eps, causal=causal)
        if self._blocks:
            x = tower.block(x, self._blocks[-1], self.heads, self._activation, eps, causal=causal, only=read)
        else:
            x = x[torch.arange(len(x)), read]
        weight, bias = self.weights["text.head.norm_final.weight"], self.weights["text.head.norm_final.bias"]
        return F.linear(F.layer_norm(x, (self.width,), weight, bias, eps), self.weights["text.head.projection"])

    def _read(self, ids: Tensor) -> Tensor:
        """(N,) position of the token whose embedding stands for the text."""
        if self.settings.pool == "first":
            return torch.zeros(len(ids), dtype=torch.long)
        if self.settings.pool == "last":
            return torch.full((len(ids),), ids.shape[1] - 1)
        if self.settings.pool == "eos":
            return ids.eq(self.settings.eos or 0).int().argmax(dim=-1)
        return ids.argmax(dim=-1)

    def _chunk(self, ids: Tensor) -> int:
        return max(_MIN_ROWS * 2 // max(ids.shape[1], 1), 8)


def _resolved(checkpoint: Checkpoint, towers: str) -> dict[str, Parameter]:
    """Canonical name -> parameter of the vision tower, or of the text tower with logit_scale."""
    if towers == "text":
        return {parameter.name: parameter for parameter in checkpoint.roles.text}
    return {parameter.name: parameter for parameter in checkpoint.parameters if parameter.tower == "vision"}


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A hash over names, shapes and sums of all weights: equal for the same tower in any checkpoint and layout."""
    mark = hashlib.sha256()
    for name in sorted(weights):
        weight = weights[name].double()
        mark.update(f"{name}|{tuple(weight.shape)}|{weight.sum():.17g}|{weight.square().sum():.17g}".encode())
    return mark.hexdigest()[:16]


def _write(weights: Mapping[str, Tensor], found: Mapping[str, Parameter], checkpoint: Checkpoint) -> None:
    """Copy the parameters `found` in `checkpoint` into `weights`; each stored tensor is read once."""
    by_key: dict[str, list[Parameter]] = {}
    for name, parameter in found.items():
        if name in weights:
            by_key.setdefault(parameter.key, []).append(parameter)
    for key, parameters in by_key.items():
        stored = checkpoint.tensor(key)
        for parameter in parameters:
            target = weights[parameter.name]
            if tuple(target.shape) != parameter.shape:
                raise CheckpointError(
                    f"{checkpoint.name}: {key} gives {parameter.name} the shape {parameter.shape}, but the model's is "
                    f"{tuple(target.shape)}."
                )
            target.copy_(parameter.view(stored))


def _new_block(
    weights: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]], side: str, number: int
) -> tower.BlockWeights:
    """Zero weights of one block, with views under their canonical names put into `weights`."""
    start = f"{side}.blocks.{number}."
    width = shapes[start + "q.weight"][1]
    qkv, qkv_bias = torch.zeros(3 * width, width), torch.zeros(3 * width)
    for third, name in enumerate("qkv"):
        weights[f"{start}{name}.weight"] = qkv[third * width : (third + 1) * width]
        weights[f"{start}{name}.bias"] = qkv_bias[third * width : (third + 1) * width]
    for name in ("norm1", "out", "norm2", "fc1", "fc2"):
        for leaf in _LEAVES:
            weights[f"{start}{name}.{leaf}"] = torch.zeros(shapes[f"{start}{name}.{leaf}"])
    own = {name: weights[start + name] for name in _block_leaves() if not name.startswith(("q.", "k.", "v."))}
    return tower.BlockWeights(
        qkv=qkv,
        qkv_bias=qkv_bias,
        **{name.removesuffix(".weight").replace(".", "_"): weight for name, weight in own.items()},
    )


def _require(shapes: Mapping[str, Any], names: Sequence[str], side: str) -> None:
    """Raise CheckpointError unless the tower has just these parameters."""
    if missing := [name for name in names if name not in shapes]:
        raise CheckpointError(f"The {side} tower lacks {_listed(missing)}.")
    if unknown := sorted(set(shapes) - set(names)):
        raise CheckpointError(f"The {side} tower has parameters that CLIP does not know: {_listed(unknown)}.")


def _require_shapes(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError where the parameters do not fit one another."""
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape or 0 in shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(shapes[name])}, but the rest of the network needs {shape}."
            )


def _block_shapes(
    shapes: Mapping[str, tuple[int, ...]], side: str, blocks: int, width: int
) -> dict[str, tuple[int, ...]]:
    """The shapes that the parameters of all blocks must have."""
    expected: dict[str, tuple[int, ...]] = {}
    for number in range(blocks):
        hidden = shapes[f"{side}.blocks.{number}.fc1.weight"][0]
        rows = {"fc1": hidden}
        inputs = {"fc2": hidden}
        for name in ("q", "k", "v", "out", "fc1", "fc2"):
            expected[f"{side}.blocks.{number}.{name}.weight"] = (rows.get(name, width), inputs.get(name, width))
            expected[f"{side}.blocks.{number}.{name}.bias"] = (rows.get(name, width),)
        for name in ("norm1", "norm2"):
            expected |= {f"{side}.blocks.{number}.{name}.{leaf}": (width,) for leaf in _LEAVES}
    return expected


def _pair(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, int]:
    """A matrix's shape. Raises CheckpointError for what is no matrix or is empty."""
    shape = tuple(shapes[name])
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"{name} has the shape {shape}, which is not that of a matrix.")
    return shape[0], shape[1]


def _block_leaves() -> list[str]:
    names = ("norm1", "q", "k", "v", "out", "norm2", "fc1", "fc2")
    return [f"{name}.{leaf}" for name in names for leaf in _LEAVES]


def _block_names(side: str, blocks: int) -> list[str]:
    return [f"{side}.blocks.{number}.{leaf}" for number in range(blocks) for leaf in _block_leaves()]


def _vision_names(blocks: int) -> list[str]:
    stem = ("patch.weight", "class_embedding", "position_embedding", "norm_pre.weight", "norm_pre.bias")
    head = ("norm_post.weight", "norm_post.bias", "projection")
    return [
        *(f"vision.stem.{name}" for name in stem),
        *_block_names("vision", blocks),
        *(f"vision.head.{name}" for name in head),
    ]


def _text_names(blocks: int) -> list[str]:
    return [
        "text.stem.token_embedding",
        "text.stem.position_embedding",
        *_block_names("text", blocks),
        "text.head.norm_final.weight",
        "text.head.norm_final.bias",
        "text.head.projection",
    ]


def _count_blocks(names: Mapping[str, Any], side: str) -> int:
    numbers = [int(name.split(".")[2]) for name in names if name.startswith(f"{side}.blocks.")]
    return max(numbers, default=-1) + 1


def _heads(settings: TowerSettings, width: int) -> int:
    heads = settings.heads or width // (settings.head_width or 64)
    if heads < 1 or width % heads:
        raise CheckpointError(
            f"A width of {width} cannot be split over {heads} attention heads; check the configuration."
        )
    return heads


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
