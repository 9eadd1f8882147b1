"""The forward pass of a transformer block as a plain function of its weights, and what both towers share.

A merge is a new set of weights for the same network, and the app needs its accuracy within a slider's move.
So the network here is not a module but a function of its weights, fused where fusing pays on a CPU: q, k and v
in one product, residuals added by the product itself, images in chunks whose activations stay in cache, and the
last block computed for the one token that is read. Equal to open_clip's and transformers' models to rounding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neuromerge.deployment import deployment

# Fewer rows (tokens of all images or texts of a chunk) than this make the matrix products themselves slow.
MIN_ROWS = 512
_LARGEST_SCORE = 1e38


@dataclass(slots=True)
class BlockWeights:
    """Weights of one transformer block. `qkv` are the three projections stacked: (3 width, width)."""

    norm1: Tensor
    norm1_bias: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    out_bias: Tensor
    norm2: Tensor
    norm2_bias: Tensor
    fc1: Tensor
    fc1_bias: Tensor
    fc2: Tensor
    fc2_bias: Tensor


Capture = Callable[[str, Tensor], None]
"""Called as capture(matrix, inputs) with the (N, L, inputs) inputs of each linear map of a block."""


def bound_threads() -> int:
    """Bound torch's threads to ``$NEUROMERGE_THREADS`` (default: the cores, at most 8). Returns the number in use."""
    most = deployment().threads or min(os.cpu_count() or 1, 8)
    if torch.get_num_threads() > most:
        torch.set_num_threads(most)
    return torch.get_num_threads()


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), OpenAI's approximation of GELU."""
    return torch.sigmoid(1.702 * x).mul_(x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "quick_gelu": quick_gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def block_forward(
    x: Tensor,
    weights: BlockWeights,
    heads: int,
    activation: Callable[[Tensor], Tensor],
    eps: float,
    *,
    causal: bool = False,
    only: Tensor | None = None,
    capture: Capture | None = None,
) -> Tensor:
    """One pre-norm transformer block.

    Args:
        x: (N, L, width), overwritten.
        heads: number of attention heads; width is divisible by it.
        activation: of the hidden layer of the MLP.
        causal: whether a token sees only those before it.
        only: (N,) positions; when given, the block is computed for that one token of every sequence (it still
            attends to all), and the result is (N, width).
        capture: receives the inputs of every linear map; not together with `only`.

    Returns:
        (N, L, width), or (N, width) with `only`.
    """
    count, length, width = x.shape
    size = width // heads
    normed = F.layer_norm(x, (width,), weights.norm1, weights.norm1_bias, eps)
    if capture is not None:
        capture("qkv", normed)
    if only is None:
        qkv = F.linear(normed, weights.qkv, weights.qkv_bias).view(count, length, 3, heads, size)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = _attention(q, k, v, causal=causal).transpose(1, 2).reshape(-1, width)
        stream = x.view(-1, width)
    else:
        rows = torch.arange(count)
        kv = F.linear(normed, weights.qkv[width:], weights.qkv_bias[width:]).view(count, length, 2, heads, size)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        q = F.linear(normed[rows, only], weights.qkv[:width], weights.qkv_bias[:width]).view(count, heads, 1, size)
        seen = (torch.arange(length) <= only[:, None])[:, None, None, :] if causal else None
        mixed = _attention(q, k, v, seen).reshape(-1, width)
        stream = x[rows, only]
    if capture is not None:
        capture("out", mixed.view(count, length, width))
    stream = torch.addmm(stream, mixed, weights.out.t()).add_(weights.out_bias)
    normed = F.layer_norm(stream, (width,), weights.norm2, weights.norm2_bias, eps)
    if capture is not None:
        capture("fc1", normed.view(count, length, width))
    hidden = activation(torch.addmm(weights.fc1_bias, normed, weights.fc1.t()))
    if capture is not None:
        capture("fc2", hidden.view(count, length, -1))
    stream = torch.addmm(stream, hidden, weights.fc2.t()).add_(weights.fc2_bias)
    return stream if only is not None else stream.view(count, length, width)


def _attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Scaled dot-product attention that is NaN, not zero as torch's, where the scores overflow.

    One sequence speaks for all: scores overflow for the weights' sake.
    """
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal)
    largest = float(q[:1].abs().max()) * float(k[:1].abs().max()) * q.shape[-1] if len(q) else 0.0
    return mixed if largest < _LARGEST_SCORE else torch.full_like(mixed, math.nan)


def patches(pixels: Tensor, size: int) -> Tensor:
    """Non-overlapping patches of (N, 3, H, W), flattened as a convolution's kernel is: (N, patches, 3 size²).

    H and W are multiples of `size`; patches run along rows.
    """
    count, channels, height, width = pixels.shape
    rows, columns = height // size, width // size
    grid = pixels.view(count, channels, rows, size, columns, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(count, rows * columns, channels * size * size)
