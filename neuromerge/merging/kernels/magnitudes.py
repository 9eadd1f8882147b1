"""Counting magnitudes around a bracket: the pass behind the exact thresholds of `neuromerge.merging.trim`."""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.rows import EXACT, SUMS, change, widen

PIECE = 1024
"""Entries whose sums are taken in the working dtype before float64 takes over."""


@njit(**SUMS)
def _sums(values, low, high):  # type: ignore[no-untyped-def]
    """(entries >= low, entries > high, L1 norm, L1 norm above high); `values` becomes its magnitudes."""
    kind = values.dtype.type
    # Counts, too, in the working dtype: they go up to PIECE, and vectors want one dtype.
    reached = above = whole = whole_above = kind(0)
    for j in range(len(values)):
        size = abs(values[j])
        values[j] = size
        beyond = kind(size > high)
        reached += kind(size >= low)
        above += beyond
        whole += size
        whole_above += size * beyond
    return int(reached), int(above), np.float64(whole), np.float64(whole_above)


@njit(**EXACT)
def collect(values, low, high, marks, found, filled):  # type: ignore[no-untyped-def]
    """Append the entries within [low, high] to `found`; returns how many it then holds.

    marks: uint8 scratch, a multiple of eight at least as long as `values`. Few entries lie inside: eight marks are
    looked at as one number.
    """
    width = len(values)
    whole = (width + 7) // 8
    for j in range(width):
        marks[j] = np.uint8((values[j] >= low) & (values[j] <= high))
    marks[width : 8 * whole] = 0
    eights = marks.view(np.uint64)
    for k in range(whole):
        if eights[k] != 0:
            for j in range(8 * k, min(8 * k + 8, width)):
                found[filled] = values[j]  # overwritten by the next where it does not stay
                filled += marks[j]
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
    base, values, marks = np.empty(PIECE, lows.dtype), np.empty(PIECE, lows.dtype), np.empty(PIECE, np.uint8)
    last = len(table) - 1
    for i in range(first, rows):
        for m in range(len(tasks)):
            if collects[m] and filled[m] + width > found.shape[1] - 1:
                return i
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            if subtract:
                widen(table, last, i, start, base[:size])
            for m in range(len(tasks)):
                piece = values[:size]
                change(table, tasks[m], i, start, base, lows.dtype.type(0), subtract, piece)
                at_least, beyond, l1, l1_above = _sums(piece, lows[m], highs[m])
                reached[m] += at_least
                above[m] += beyond
                whole[m] += l1
                whole_above[m] += l1_above
                if collects[m] and at_least > beyond:
                    filled[m] = collect(piece, lows[m], highs[m], marks, found[m], filled[m])
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
