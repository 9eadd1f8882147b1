"""The weights of a tower: which there must be, how their shapes depend on one another, and where they are read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neuromerge.checkpoints.checkpoint import Checkpoint
from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import CheckpointError
from neuromerge.evaluation.configuration import TowerSettings
from neuromerge.evaluation.towers.blocks import BlockWeights
from neuromerge.threads import in_threads

Shapes = Mapping[str, tuple[int, ...]]
"""Canonical name -> shape."""

_LARGEST = 1e16
"""A float32 network has no use for larger numbers: the sum of some thousand squares of such is almost infinite."""
_LEAVES = ("weight", "bias")
_MATRICES = ("q", "k", "v", "out", "fc1", "fc2")
_BLOCK = tuple(f"{part}.{leaf}" for part in ("norm1", *_MATRICES[:4], "norm2", *_MATRICES[4:]) for leaf in _LEAVES)


def block_names(side: str, blocks: int) -> list[str]:
    """The names of all weights in the blocks of the tower `side` (``vision`` or ``text``)."""
    return [f"{side}.blocks.{number}.{name}" for number in range(blocks) for name in _BLOCK]


def block_shapes(shapes: Shapes, side: str, blocks: int, width: int) -> dict[str, tuple[int, ...]]:
    """The shapes that the weights of all blocks must have in a tower of this width."""
    expected: dict[str, tuple[int, ...]] = {}
    for number in range(blocks):
        start = f"{side}.blocks.{number}."
        hidden = shapes[f"{start}fc1.weight"][0]
        for matrix in _MATRICES:
            rows, inputs = hidden if matrix == "fc1" else width, hidden if matrix == "fc2" else width
            expected |= {f"{start}{matrix}.weight": (rows, inputs), f"{start}{matrix}.bias": (rows,)}
        expected |= norm_shapes((f"{start}norm1", f"{start}norm2"), width)
    return expected


def norm_shapes(names: Sequence[str], width: int) -> dict[str, tuple[int, ...]]:
    """The shapes of layer norms of this width."""
    return {f"{name}.{leaf}": (width,) for name in names for leaf in _LEAVES}


def count_blocks(shapes: Shapes, side: str) -> int:
    """How many blocks the tower has: the highest number, and one more."""
    numbers = [int(name.split(".")[2]) for name in shapes if name.startswith(f"{side}.blocks.")]
    return max(numbers, default=-1) + 1


def head_count(settings: TowerSettings, width: int) -> int:
    """Attention heads in a tower of this width. Raises CheckpointError where they do not divide it."""
    heads = settings.heads or width // (settings.head_width or 64)
    if heads < 1 or width % heads:
        raise CheckpointError(
            f"A width of {width} cannot be split over {heads} attention heads; check the configuration."
        )
    return heads


def require_names(shapes: Shapes, names: Sequence[str], side: str) -> None:
    """Raise CheckpointError unless the tower has just these weights."""
    if missing := [name for name in names if name not in shapes]:
        raise CheckpointError(f"The {side} tower lacks {listed(missing)}.")
    if unknown := sorted(set(shapes) - set(names)):
        raise CheckpointError(f"The {side} tower has parameters that CLIP does not know: {listed(unknown)}.")


def require_shapes(shapes: Shapes, expected: Shapes) -> None:
    """Raise CheckpointError where weights do not fit one another."""
    for name, shape in expected.items():
        if tuple(shapes[name]) != shape or 0 in shape:
            raise CheckpointError(
                f"{name} has the shape {tuple(shapes[name])}, but the rest of the network needs {shape}."
            )


def matrix_shape(shapes: Shapes, name: str) -> tuple[int, int]:
    """A matrix's shape. Raises CheckpointError for what is no matrix or is empty."""
    shape = tuple(shapes[name])
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"{name} has the shape {shape}, which is not that of a matrix.")
    return shape[0], shape[1]


def new_block(weights: dict[str, Tensor], shapes: Shapes, side: str, number: int) -> BlockWeights:
    """Zero weights of one block, with views under their canonical names put into `weights`."""
    start = f"{side}.blocks.{number}."
    width = shapes[f"{start}q.weight"][1]
    qkv, qkv_bias = torch.zeros(3 * width, width), torch.zeros(3 * width)
    for third, name in enumerate("qkv"):
        weights[f"{start}{name}.weight"] = qkv[third * width : (third + 1) * width]
        weights[f"{start}{name}.bias"] = qkv_bias[third * width : (third + 1) * width]
    own: dict[str, Tensor] = {}
    for name in _BLOCK:
        if name.startswith(("q.", "k.", "v.")):
            continue
        weights[start + name] = torch.zeros(shapes[start + name])
        own[name.removesuffix(".weight").replace(".", "_")] = weights[start + name]
    return BlockWeights(qkv=qkv, qkv_bias=qkv_bias, **own)


def copy_weights(weights: Mapping[str, Tensor], found: Mapping[str, Parameter], checkpoint: Checkpoint) -> None:
    """Copy the parameters `found` in `checkpoint` into `weights`; each stored tensor is read once.

    Raises CheckpointError where a shape differs.
    """
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


def require_bounded(values: Tensor, weights: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError where values of a network are too large for float32, NaN or infinite.

    Their answers would look like chance: an argmax over NaN is class 0, and so is what a layer norm makes of values
    whose variance overflows.

    Args:
        values: what a network works with, or what it says.
        weights: its weights by canonical name. One that is not finite is named, else the largest.
        source: whose weights they are.
    """
    if not bool((values.abs() < _LARGEST).all()):
        sizes = {name: float(weight.abs().max()) for name, weight in weights.items()}
        name = next(
            (name for name, size in sizes.items() if not math.isfinite(size)), max(sizes, key=sizes.__getitem__)
        )
        raise CheckpointError(
            f"{source}: numbers in the network become too large, NaN or infinite, so nothing can be measured. The "
            f"largest weight is {sizes[name]:.3g}, in {name}."
        )


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A hash over names, shapes and values of all weights: equal for the same tower in any checkpoint and layout."""

    def own(name: str) -> bytes:
        weight = weights[name].contiguous()
        mark = hashlib.sha256(f"{name}|{weight.dtype}|{tuple(weight.shape)}|".encode())
        mark.update(weight.reshape(-1).view(torch.uint8).numpy().data)
        return mark.digest()

    return hashlib.sha256(b"".join(in_threads(own, sorted(weights)))).hexdigest()[:16]


def listed(names: Sequence[Any]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(map(str, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
