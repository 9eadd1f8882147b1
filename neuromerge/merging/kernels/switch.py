"""Whether passes take the compiled kernels: those of a working dtype that is loaded, while they are switched on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

_loaded: set[torch.dtype] = set()
_on = True


def in_use(dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> bool:
    """Whether passes in this working dtype should take the compiled kernels; decides once for a whole pass."""
    return _on and is_loaded(dtype) and torch.device(device).type == "cpu"


def is_on() -> bool:
    """Whether kernels may be used at all."""
    return _on


def is_loaded(dtype: torch.dtype) -> bool:
    """Whether the kernels of a working dtype can be called."""
    return dtype in _loaded


def mark_loaded(dtype: torch.dtype) -> None:
    """Say that the kernels of a working dtype can be called from now on."""
    _loaded.add(dtype)


@contextlib.contextmanager
def switched(on: bool) -> Iterator[None]:
    """Turn the compiled kernels off (or on again) for a while, in the whole process: for comparisons."""
    global _on
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before
