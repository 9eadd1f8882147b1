"""A pretended accelerator: tensors that say they live elsewhere, compute on the CPU, and refuse to be mixed with it.

It finds what a real one would refuse (operands on two devices, a hidden trip through NumPy) where there is none.
It does not find operations that a real one lacks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy:0")  # one that PyTorch knows by name and does not try to start

_aten = torch.ops.aten
_MAY_CROSS = {_aten._to_copy.default, _aten.copy_.default, _aten.is_same_size.default}


class There(torch.Tensor):
    """A tensor elsewhere; `inner` is the CPU tensor that holds its values."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> There:
        there = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        there.inner = inner
        return there

    def __repr__(self, **_: Any) -> str:
        return f"There({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """While it is active, tensors can be made and moved elsewhere. `ran` counts the operations that ran there."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.ran += any(isinstance(leaf, There) for leaf in tree_flatten((args, kwargs))[0])
        return _run(function, args, kwargs)


def _run(function: Any, args: Any, kwargs: Any) -> Any:
    tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    here = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.ndim]
    if there and here and function not in _MAY_CROSS:
        raise RuntimeError(f"{function}: tensors on two devices, {DEVICE} and cpu")
    target = kwargs.get("device")
    goes_there = bool(there) if target is None else torch.device(target).type == DEVICE.type
    if function is _aten.copy_.default:
        goes_there = isinstance(args[0], There)
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(tensor.inner): tensor for tensor in there}
    strip = lambda leaf: leaf.inner if isinstance(leaf, There) else leaf  # noqa: E731
    result = function(*tree_map(strip, args), **tree_map(strip, kwargs))

    def dress(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not goes_there:
            return leaf
        return known[id(leaf)] if id(leaf) in known else There(leaf)

    return tree_map(dress, result)
