"""Counting magnitudes around a bracket: the pass behind the exact thresholds of `neuromerge.merging.trim`."""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.rows import (
    EXACT,
    SUMS,
    change,
    fours,
    locate,
    lowest_bit,
    numbers_at,
    scratch_for,
    widen,
)

PIECE = 1024
"""Entries whose sums are taken in the working dtype before float64 takes over."""


@njit(**SUMS)
def _sums(task, lower, low, high, sizes, marks):  # type: ignore[no-untyped-def]
    """(entries >= low, entries > high, L1 norm, L1 norm above high) of task - lower.

    Filled: `sizes` with the magnitudes, `marks` (uint8) with 1 where they lie within [low, high].
    """
    kind = sizes.dtype.type
    # Counts, too, in the working dtype: they go up to PIECE, and vectors want one dtype.
    reached = above = whole = whole_above = kind(0)
    for j in range(len(sizes)):
        size = abs(task[j] - lower[j])
        sizes[j] = size
        beyond = kind(size > high)
        reached += kind(size >= low)
        above += beyond
        whole += size
        whole_above += size * beyond
        marks[j] = np.uint8((size >= low) & (size <= high))
    return int(reached), int(above), np.float64(whole), np.float64(whole_above)


@njit(**EXACT)
def collect(values, marks, found, filled):  # type: ignore[no-untyped-def]
    """Append the marked entries to `found`; returns how many it then holds.

    marks: uint8, 0 or 1, a multiple of eight at least as long as `values`. Few are marked: eight are looked at as one
    number.
    """
    width = len(values)
    whole = (width + 7) // 8
    marks[width : 8 * whole] = 0
    eights = marks.view(np.uint64)
    for k in range(whole):
        bits = eights[k]
        while bits != 0:
            found[filled] = values[8 * k + np.int64(lowest_bit(bits) >> np.uint64(3))]
            filled += 1
            bits &= bits - np.uint64(1)
    return filled


@njit(**EXACT)
def count(  # type: ignore[no-untyped-def]
    table, rows, width, subtract, tasks, lows, highs, collects, first, reached, above, whole, whole_above, found, filled
):  # fmt: skip
    """Count rows `first` to `rows` of some tasks; returns the row at which `found` was full, or `rows`.

    Args:
        tasks: (m,) which lines of the table; the arrays that follow have an entry for each.
        lows, highs: (m,) brackets in the working dtype. collects: (m,) whether entries inside are wanted.
        reached, above, whole, whole_above: (m,) added to, see `_sums`.
        found: (m, capacity) the entries inside; filled: (m,) how many. A row more than it can take is not begun.
    """
    sources = len(table) - 1
    scratch, places = scratch_for(sources, PIECE, lows), np.zeros(fours(sources) + 2, np.int64)
    sizes, marks = np.empty(PIECE, lows.dtype), np.empty(PIECE, np.uint8)
    for i in range(first, rows):
        for m in range(len(tasks)):
            if collects[m] and filled[m] + width > found.shape[1]:
                return i
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            locate(table, i, start, size, subtract, scratch, places)
            lower = numbers_at(places[-1], size, lows)
            for m in range(len(tasks)):
                task = numbers_at(places[tasks[m]], size, lows)
                at_least, beyond, l1, l1_above = _sums(task, lower, lows[m], highs[m], sizes[:size], marks)
                reached[m] += at_least
                above[m] += beyond
                whole[m] += l1
                whole_above[m] += l1_above
                if collects[m] and at_least > beyond:
                    filled[m] = collect(sizes[:size], marks, found[m], filled[m])
    return rows


@njit(**EXACT)
def sample(table, subtract, rows, starts, run, out):  # type: ignore[no-untyped-def]
    """Runs of `run` neighbouring entries of every task vector: out (T, places, run) for rows, starts (places,)."""
    tasks = len(out)
    base = np.empty(run, out.dtype)
    for p in range(len(rows)):
        widen(table, tasks, rows[p], starts[p], base)
        for t in range(tasks):
            change(table, t, rows[p], starts[p], base, out.dtype.type(0), subtract, out[t, p])
