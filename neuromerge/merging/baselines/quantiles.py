"""Exact order statistics of streams that never fit in memory: radix selection over the bits of floats.

The bit patterns of floats, with the sign bit flipped (and all bits flipped where negative), sort as the
numbers do. One pass counts the values by their upper 16 bits; the next counts, by the next 16 bits, those
that share the upper bits of the value sought: 2 passes for float32, 4 for float64, 65,536 counters each.
Streams short enough to be held are simply sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

_DIGIT = 16
_BATCH = 1 << 18  # values counted at a time: far more than there are counters


def order_statistics(
    stream: Callable[[], Iterable[Sequence[np.ndarray]]], rows: int, ranks: Sequence[int]
) -> np.ndarray:
    """The values of the given ranks in each of several streams.

    Args:
        stream: starts a pass; yields chunks, a chunk being one flat float32 or float64 array per row. Every pass
            must yield the same values; how they are cut into chunks does not matter.
        rows: number of streams.
        ranks: 0 is the smallest value, the number of values less one the largest.

    Returns:
        (rows, len(ranks)) in the dtype of the stream. Raises IndexError for a rank outside a stream.
    """
    head = list(islice(_batches(stream()), 2))
    if len(head) == 1:  # all of it fits into one batch
        return np.stack([np.sort(values)[list(ranks)] for values in head[0]])
    dtype = head[0][0].dtype
    found = np.zeros((rows, len(ranks)), dtype=np.uint64)  # the bits known so far
    remaining = np.tile(np.asarray(ranks, dtype=np.int64), (rows, 1))  # rank among the values that share them
    level = 0
    while True:
        counts: dict[tuple[int, int], np.ndarray] = {
            (row, int(prefix)): np.zeros(1 << _DIGIT, dtype=np.int64) for row in range(rows) for prefix in found[row]
        }
        for chunk in _batches(stream()):
            for row, values in enumerate(chunk):
                for prefix in np.unique(found[row]):
                    digits = _digits(values, level, int(prefix))
                    counts[row, int(prefix)] += np.bincount(digits, minlength=1 << _DIGIT)
        for row in range(rows):
            for column in range(len(ranks)):
                running = np.cumsum(counts[row, int(found[row, column])])
                if not 0 <= remaining[row, column] < running[-1]:
                    raise IndexError(f"rank {ranks[column]} is outside stream {row}")
                digit = int(np.searchsorted(running, remaining[row, column], side="right"))
                remaining[row, column] -= running[digit - 1] if digit else 0
                found[row, column] = (int(found[row, column]) << _DIGIT) | digit
        level += 1
        if level * _DIGIT >= dtype.itemsize * 8:
            return _floats(found, dtype)


def _batches(chunks: Iterable[Sequence[np.ndarray]]) -> Iterator[Sequence[np.ndarray]]:
    """The same values in chunks of at least `_BATCH` values (but for the last), copied where they are gathered."""
    held: list[list[np.ndarray]] = []
    count = 0
    for chunk in chunks:
        size = len(chunk[0])
        if not held and size >= _BATCH:
            yield chunk
            continue
        held.append([row.copy() for row in chunk])
        count += size
        if count >= _BATCH:
            yield [np.concatenate(rows) for rows in zip(*held, strict=True)]
            held, count = [], 0
    if held:
        yield [np.concatenate(rows) for rows in zip(*held, strict=True)]


def _digits(values: np.ndarray, level: int, prefix: int) -> np.ndarray:
    """The `level`-th 16 bits (0 the uppermost) of those values whose bits above equal `prefix`."""
    keys = _sortable_bits(values)
    shift = keys.dtype.itemsize * 8 - _DIGIT * (level + 1)
    if level:
        keys = keys[(keys >> keys.dtype.type(shift + _DIGIT)) == prefix]
    return ((keys >> keys.dtype.type(shift)) & keys.dtype.type((1 << _DIGIT) - 1)).astype(np.int64)


def _sortable_bits(values: np.ndarray) -> np.ndarray:
    """Unsigned integers that sort as the floats do."""
    bits = values.view(f"u{values.dtype.itemsize}")
    top = bits.dtype.type(1 << (values.dtype.itemsize * 8 - 1))
    # All bits flip where negative, the sign bit alone elsewhere; the arithmetic shift spreads the sign.
    spread = (values.view(f"i{values.dtype.itemsize}") >> (values.dtype.itemsize * 8 - 1)).view(bits.dtype)
    return bits ^ (spread | top)


def _floats(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Inverse of `_sortable_bits`."""
    bits = keys.astype(f"u{dtype.itemsize}")
    top = bits.dtype.type(1 << (dtype.itemsize * 8 - 1))
    return np.where(bits & top, bits ^ top, ~bits).astype(bits.dtype).view(dtype)
