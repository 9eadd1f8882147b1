"""CLIP's vision tower: pictures to embeddings, by a forward pass whose weights can be replaced in place.

`VisionModel.weights` holds views of the live weights under the names that merging uses. A merge is written
straight into the network and evaluated at once, with no state dict and no module in between.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from neuromerge.checkpoints.checkpoint import Checkpoint
from neuromerge.checkpoints.layouts import OPTIONAL_NAMES
from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import CheckpointError, SettingError, quoted
from neuromerge.evaluation import preprocessing
from neuromerge.evaluation.configuration import Preprocessing, TowerSettings, configuration_of
from neuromerge.evaluation.towers.blocks import ACTIVATIONS, MIN_ROWS, block_forward, bound_threads, patches
from neuromerge.evaluation.towers.weights import (
    Shapes,
    block_names,
    block_shapes,
    copy_weights,
    count_blocks,
    fingerprint,
    head_count,
    listed,
    new_block,
    norm_shapes,
    require_bounded,
    require_names,
    require_shapes,
)
from neuromerge.threads import cores, pool

# Activations of one chunk of images; measured best between 1 and 4 MB on machines with 1 to 2 MB of second-level
# cache.
_CHUNK_BYTES = 2_000_000
_WORTHWHILE_ROWS = 150  # tokens of all images of a chunk
T = TypeVar("T")

_STEM = ("patch.weight", "class_embedding", "position_embedding", "norm_pre.weight", "norm_pre.bias")
_HEAD = ("norm_post.weight", "norm_post.bias", "projection")


States = tuple[Tensor, ...]
"""What enters a block, in the parts in which pictures go through the network: (n, L, width), after the last (n, width).
"""


class VisionModel:
    """A CLIP vision transformer with its projection, in float32 on the CPU.

    Attributes:
        weights: canonical name -> live tensor of that parameter's shape ((neurons, inputs) or (entries,));
            writing into it changes the model.
        source: whose weights they are, as messages name them.
        parameters: the parameters in the order of the network, as resolved from the checkpoint.
        preprocessing: how pictures become pixels.
        lock: hold it while writing weights and encoding where several threads share one model.
    """

    def __init__(
        self,
        shapes: Shapes,
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
        self.source = "The model"
        self._shapes = dict(shapes)
        blocks = count_blocks(shapes, "vision")
        stem, head = ([f"vision.{part}.{name}" for name in names] for part, names in (("stem", _STEM), ("head", _HEAD)))
        require_names(shapes, [*stem, *block_names("vision", blocks), *head], "vision")
        self.width = shapes["vision.stem.class_embedding"][0]
        self.dimensions = shapes["vision.head.projection"][0]
        self.patch = math.isqrt(shapes["vision.stem.patch.weight"][-1] // 3)
        self.tokens = shapes["vision.stem.position_embedding"][0] // self.width
        expected = {
            "vision.stem.patch.weight": (self.width, 3 * self.patch**2),
            "vision.stem.position_embedding": (self.tokens * self.width,),
            "vision.head.projection": (self.dimensions, self.width),
            **norm_shapes(["vision.stem.norm_pre", "vision.head.norm_post"], self.width),
        }
        require_shapes(shapes, expected | block_shapes(shapes, "vision", blocks, self.width))
        self.heads = head_count(settings, self.width)
        if (preprocess.size // self.patch) ** 2 + 1 != self.tokens or preprocess.size % self.patch:
            raise CheckpointError(
                f"The model has positions for {self.tokens - 1} patches of {self.patch} x {self.patch} pixels, but its "
                f"configuration says pictures of {preprocess.size} x {preprocess.size}."
            )
        self._activation = ACTIVATIONS[settings.activation]
        self._stem = {name: self._new(f"vision.stem.{name}") for name in _STEM}
        self._blocks = [new_block(self.weights, shapes, "vision", number) for number in range(blocks)]
        self._head = {name: self._new(f"vision.head.{name}") for name in _HEAD}

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, base: Checkpoint | None = None) -> VisionModel:
        """The vision tower of an open_clip or transformers CLIP checkpoint, of any size.

        Args:
            checkpoint: what `load_checkpoint` returns.
            base: a checkpoint that supplies what this one lacks: an expert often holds the vision tower alone,
                without configuration or projection. A configuration of its own goes first.

        Raises:
            CheckpointError: not a CLIP vision transformer, or no configuration was found.
        """
        found = _vision_parameters(checkpoint)
        if "vision.stem.class_embedding" not in found:
            raise CheckpointError(
                f"{checkpoint.source} holds no CLIP vision tower in the layout of open_clip or transformers, so its "
                "pictures cannot be evaluated."
            )
        filled = dict(found)
        if base is not None:
            filled = {name: found.get(name, own) for name, own in _vision_parameters(base).items()} | found
        settings, preprocess = vision_settings(checkpoint, base=base)
        if "vision.head.projection" not in filled:
            raise CheckpointError(
                f"{checkpoint.name} is a vision tower without projection, so its pictures cannot be compared with "
                "texts. Name the base model, which has it."
            )
        model = cls(
            {name: parameter.shape for name, parameter in filled.items()},
            settings,
            preprocess,
            tuple(filled.values()),
        )
        model.load(checkpoint, base=base)
        return model

    def load(self, checkpoint: Checkpoint, *, base: Checkpoint | None = None) -> None:
        """Write the vision weights of `checkpoint` into this model; a projection it lacks is read from `base`.

        Raises CheckpointError when a shape differs or a weight is missing.
        """
        found = _vision_parameters(checkpoint)
        spare = {name: p for name, p in _vision_parameters(base).items() if name in OPTIONAL_NAMES} if base else {}
        missing = [name for name in self.weights if name not in found and name not in spare]
        if missing:
            raise CheckpointError(f"{checkpoint.source} lacks {listed(missing)}.")
        with self.lock:
            self.source = checkpoint.source
            if base is not None:
                copy_weights(self.weights, {name: p for name, p in spare.items() if name not in found}, base)
            copy_weights(self.weights, found, checkpoint)

    def copy(self) -> VisionModel:
        """Another model with the same weights in memory of its own."""
        twin = VisionModel(self._shapes, self.settings, self.preprocessing, self.parameters)
        twin.source = self.source
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

        Raises:
            CheckpointError: the weights make numbers that are too large or not finite.
        """
        self._require_stem()
        chunks = self._in_chunks(self._embed_pixels, pixels)
        return self._sound(torch.cat(chunks) if chunks else torch.empty((0, self.dimensions)), normalised)

    @torch.no_grad()
    def enter(self, pixels: Tensor) -> States:
        """What enters the first block, for `through` and `embed_from`: pictures as `encode` takes them.

        Raises as `encode`.
        """
        self._require_stem()
        return tuple(self._in_chunks(lambda part: self._embedded(self._pixels(part)), pixels))

    @torch.no_grad()
    def through(self, states: States, block: int) -> States:
        """What leaves a block, given what enters it; after the last one only the token that is read is left."""
        last = block == len(self._blocks) - 1
        return tuple(_each(lambda x: self._block(x.clone(), block, last=last), states))

    @torch.no_grad()
    def embed_from(self, states: States, block: int) -> Tensor:
        """Embeddings (N, dimensions), L2-normalised, given what enters a block (their number: what enters the head).

        Equal to `encode` bit by bit: blocks below need not be computed again where only weights above have changed.
        Raises as `encode`.
        """
        return self._sound(torch.cat(_each(lambda x: self._embed(x.clone(), block), states)))

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    @torch.no_grad()
    def encode_blocks(self, pixels: Tensor, *, normalised: bool = True) -> tuple[Tensor, Tensor]:
        """What `encode` returns, and the class token after every block (N, blocks, width), from the same pass.

        Raises as `encode`.
        """

        def look(part: Tensor) -> tuple[Tensor, Tensor]:
            tokens = torch.empty((len(part), len(self._blocks), self.width))
            return self._embed(self._embedded(self._pixels(part)), 0, tokens), tokens

        self._require_stem()
        chunks = self._in_chunks(look, pixels)
        if not chunks:
            return torch.empty((0, self.dimensions)), torch.empty((0, len(self._blocks), self.width))
        result, tokens = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        return self._sound(result, normalised), tokens

    def _require_stem(self) -> None:
        """Raise CheckpointError where what enters the first layer norm would be too large."""
        for weight in self._stem.values():
            require_bounded(weight, self.weights, self.source)

    def _sound(self, result: Tensor, normalised: bool = True) -> Tensor:
        """Embeddings as they are given away. Raises CheckpointError where they are no numbers to work with."""
        require_bounded(result, self.weights, self.source)
        return F.normalize(result, dim=-1) if normalised else result

    def _in_chunks(self, look: Callable[[Tensor], T], pixels: Tensor) -> list[T]:
        """`look` at a few images at a time, in order."""
        threads = cores()
        if threads < 2 or len(pixels) < threads:
            return [look(part) for part in pixels.split(self.chunk)] if len(pixels) else []
        # A core takes some images through the whole network: splitting each operation costs a fifth more.
        fair = math.ceil(len(pixels) / (2 * threads))
        parts = pixels.split(min(self.chunk, max(fair, min(self.worthwhile, math.ceil(len(pixels) / threads)))))
        return list(pool(threads).map(look, parts))

    @property
    def block_layers(self) -> tuple[str, ...]:
        """The names of the blocks as layers, such as ``block 3``; by number where no checkpoint named them."""
        named = {parameter.name: parameter.layer for parameter in self.parameters}
        blocks = range(len(self._blocks))
        return tuple(named.get(f"vision.blocks.{number}.fc1.weight", f"block {number}") for number in blocks)

    @property
    def worthwhile(self) -> int:
        """How many images a core should take at a time, at least: products of fewer rows are a fifth slower."""
        return math.ceil(_WORTHWHILE_ROWS / self.tokens)

    @property
    def chunk(self) -> int:
        """How many images go through the network at a time."""
        hidden = self._shapes["vision.blocks.0.fc1.weight"][0] if self._blocks else self.width
        rows = max(_CHUNK_BYTES // (4 * hidden), MIN_ROWS)
        return max(rows // self.tokens, 1)

    def inputs_of(self, block: int | None, matrix: str, pixels: Tensor) -> Tensor:
        """Inputs of one linear map for every token: (N, L, inputs).

        Args:
            block: number of the block, None outside of them.
            matrix: ``q k v out fc1 fc2`` in a block; ``patch`` or ``projection`` outside (L = patches, L = 1).

        Raises:
            SettingError: there is no such map.
            CheckpointError: the weights make numbers that are too large or not finite.
        """
        found = torch.cat([self._inputs(block, matrix, self._pixels(part)) for part in pixels.split(self.chunk)])
        require_bounded(found, self.weights, self.source)
        return found

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        return self._embed(self._embedded(self._pixels(pixels)), 0)

    @torch.no_grad()
    def _embed(self, x: Tensor, start: int, tokens: Tensor | None = None) -> Tensor:
        """Embeddings of what enters block `start`; of the read token alone where that is the head.

        The class token after every block goes into `tokens` (N, blocks, width).
        """
        for block in range(start, len(self._blocks)):
            last = block == len(self._blocks) - 1
            x = self._block(x, block, last=last)
            if tokens is not None:
                tokens[:, block] = x if last else x[:, 0]
        if x.dim() == 3:
            x = x[:, 0]
        require_bounded(x, self.weights, self.source)  # blocks add to it: what was too large once stays so
        return F.linear(self._norm(x, self._head, "norm_post"), self._head["projection"])

    def _block(self, x: Tensor, block: int, *, last: bool) -> Tensor:
        only = torch.zeros(len(x), dtype=torch.long) if last else None
        return block_forward(x, self._blocks[block], self.heads, self._activation, self.settings.eps, only=only)

    @torch.no_grad()
    def _inputs(self, block: int | None, matrix: str, pixels: Tensor) -> Tensor:
        if block is None and matrix == "patch":
            return patches(pixels, self.patch)
        if block is None and matrix != "projection":
            raise SettingError(
                f"Outside the blocks there is no linear map {quoted(matrix)}, only patch and projection."
            )
        if block is not None and (
            not 0 <= block < len(self._blocks) or matrix not in ("q", "k", "v", "out", "fc1", "fc2")
        ):
            raise SettingError(
                f"There is no linear map {quoted(matrix)} in block {block}: blocks run from 0 to "
                f"{len(self._blocks) - 1} and hold q, k, v, out, fc1, fc2."
            )
        x = self._embedded(pixels)
        seen: dict[str, Tensor] = {}
        for number, weights in enumerate(self._blocks):
            capture = seen.__setitem__ if number == block else None
            x = block_forward(x, weights, self.heads, self._activation, self.settings.eps, capture=capture)
            if number == block:
                return seen["qkv" if matrix in ("q", "k", "v") else matrix]
        return self._norm(x[:, :1], self._head, "norm_post")

    def _embedded(self, pixels: Tensor) -> Tensor:
        """Tokens (N, L, width) that enter the first block."""
        x = torch.empty((len(pixels), self.tokens, self.width))
        x[:, 0] = self._stem["class_embedding"]
        x[:, 1:] = F.linear(patches(pixels, self.patch), self._stem["patch.weight"])
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


def _each(work: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> list[Tensor]:
    """`work` on every part, on all cores where there are several parts."""
    threads = cores()
    if threads < 2 or len(parts) < 2:
        return [work(part) for part in parts]
    return list(pool(threads).map(work, parts))


def vision_settings(checkpoint: Checkpoint, *, base: Checkpoint | None = None) -> tuple[TowerSettings, Preprocessing]:
    """The vision tower's settings and how its pictures are prepared: the checkpoint's own, else those of its base.

    Raises CheckpointError where neither has a configuration.
    """
    own = configuration_of(checkpoint)
    if own is not None and own.pictures_described:
        return own.vision, own.preprocessing
    inherited = configuration_of(base) if base is not None else None
    found = own or inherited
    if found is None:
        raise CheckpointError(
            f"{checkpoint.name}: there is no open_clip_config.json or config.json beside the weights, and without "
            "one the number of attention heads is unknown. Put the base model's file beside it, or name the base."
        )
    return found.vision, (inherited or found).preprocessing


def vision_fingerprint(checkpoint: Checkpoint) -> str:
    """A hash of the vision tower's weights as they are stored, all of them. Raises CheckpointError."""
    return fingerprint({name: checkpoint.view(found) for name, found in _vision_parameters(checkpoint).items()})


def _vision_parameters(checkpoint: Checkpoint) -> dict[str, Parameter]:
    """Canonical name -> parameter of the vision tower."""
    return {parameter.name: parameter for parameter in checkpoint.parameters if parameter.tower == "vision"}
