"""What really arrives at a neuron: the inputs of one linear map of the base model on sample pictures."""

from __future__ import annotations

from typing import Literal

import numpy as np
from torch import Tensor

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError, quoted
from neuromerge.evaluation.towers import VisionModel

Tokens = Literal["class", "all"]


def layer_inputs(
    model: VisionModel,
    layer: str | Parameter,
    matrix: str = "",
    pixels: Tensor | None = None,
    *,
    tokens: Tokens = "class",
) -> np.ndarray:
    """Inputs of one linear map, float32.

    Args:
        model: the base model; its present weights make the inputs.
        layer: ``stem``, ``block 0`` ..., ``head``; or a `Parameter`, which names its matrix itself.
        matrix: ``q k v out fc1 fc2`` in a block, ``patch`` in the stem, ``projection`` in the head.
        pixels: what `VisionModel.encode` takes.
        tokens: ``class``: the class token's input, one row an image, (N, n). For ``patch``, which the class token
            never enters, it is the patch at the centre. ``all``: every token's (or patch's), (N * L, n), image
            after image.

    Raises:
        SettingError: there is no such map.
    """
    if isinstance(layer, Parameter):
        parameter = layer
        if parameter.kind != "neurons":
            raise SettingError(f"{parameter.name} is no linear map, so it has no inputs.")
        layer, matrix = parameter.layer, parameter.matrix
    if pixels is None:
        raise SettingError("Pictures are needed to see a layer's inputs.")
    if tokens not in ("class", "all"):
        raise SettingError(f'tokens must be "class" or "all", not {quoted(tokens)}.')
    inputs = model.inputs_of(_block_of(layer, matrix), matrix, pixels)
    if tokens == "all":
        return inputs.flatten(0, 1).numpy()
    position = _centre(inputs.shape[1]) if matrix == "patch" else 0
    return inputs[:, position].contiguous().numpy()


def _block_of(layer: str, matrix: str) -> int | None:
    name = layer.removeprefix("vision ").strip()
    if name.startswith("block "):
        try:
            return int(name.removeprefix("block "))
        except ValueError:
            pass
    elif (name, matrix) in (("stem", "patch"), ("head", "projection")):
        return None
    raise SettingError(f"There is no linear map {quoted(matrix)} in layer {quoted(layer)}.")


def _centre(patches: int) -> int:
    """Number of the patch at (or just after) the middle of a square grid."""
    side = round(patches**0.5)
    return (side // 2) * side + side // 2
