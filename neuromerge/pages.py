"""Tensors in pages of their own: large ones where the system has them, given back with the last view.

In the C library's heap, what is given back leaves holes among what lives on, too small for the next large block; and a
processor that writes to fresh memory stops for every page, of 4 KiB by default, longer than a merge takes to fill it.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Sequence
from typing import Any

import torch

LARGE = 1 << 21
"""Bytes of a large page, on x86 and on most ARM machines. One stands only for memory that begins where it does."""

# What a fork shares would not be anonymous memory, and is never given large pages unless an administrator says so.
_OWN: dict[str, Any] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
_ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)


def own_pages(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Zeros of that shape, on the CPU. Raises MemoryError where the system has no room."""
    entries = math.prod(shape)
    size = entries * dtype.itemsize
    if not size:
        return torch.zeros(tuple(shape), dtype=dtype)
    aligned = _ADVICE is not None and size >= LARGE
    try:
        pages = mmap.mmap(-1, size + LARGE if aligned else size, **_OWN)
    except OSError as error:
        raise MemoryError(f"no room for {size} bytes") from error
    first = 0
    if aligned:
        assert _ADVICE is not None
        first = -torch.frombuffer(pages, dtype=torch.uint8, count=1).data_ptr() % LARGE
        with contextlib.suppress(OSError):  # a system without large pages
            # No more than what is filled: the end of a large page that nobody writes to would be held, too.
            pages.madvise(_ADVICE, first, size // LARGE * LARGE)
    return torch.frombuffer(pages, dtype=dtype, count=entries, offset=first).view(tuple(shape))
