"""Fused passes over weights for the CPU, compiled for the machine at hand by numba.

A chain of torch calls goes through memory once for every call; these kernels go through it once for a whole pass.
They are the same mathematics: whatever they do, torch does too, on accelerators, where numba is missing, and until
they are compiled. `in_use` says which of both a pass should take; it is asked once at the beginning of a pass.

    kernels (numba)   lanes, rows, blocks, products, votes, neurons, magnitudes, changes, scores, masks
    tensors -> kernels  table (where rows lie), calls (one function per kernel), rules (data for one of them)
    when              loading (compile elsewhere, load from the disk)
"""

from __future__ import annotations

from neuromerge.merging.kernels.loading import DTYPES, load, load_in_background, prepare
from neuromerge.merging.kernels.switch import in_use, switched

__all__ = ["DTYPES", "in_use", "load", "load_in_background", "prepare", "switched"]
