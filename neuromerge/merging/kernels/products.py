"""Inner products of a few long rows, in float64, by tiles that stay in registers."""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.rows import SUMS

COLUMNS = 256
"""Entries of a row that are multiplied at a time: T rows of them, in float64, fit the first cache."""
TILE = 3


@njit(**SUMS)
def padded(rows):  # type: ignore[no-untyped-def]
    """`rows` rounded up to whole tiles."""
    return (rows + TILE - 1) // TILE * TILE


@njit(**SUMS)
def add_products(wide, width, total):  # type: ignore[no-untyped-def]
    """total += wide wide^T over the first `width` columns; wide (R, COLUMNS), total (R, R), R whole tiles.

    Only tiles on and below the diagonal are computed.
    """
    for a in range(0, len(wide), TILE):
        for b in range(0, a + 1, TILE):
            a0, a1, a2 = wide[a], wide[a + 1], wide[a + 2]
            b0, b1, b2 = wide[b], wide[b + 1], wide[b + 2]
            s00 = s01 = s02 = s10 = s11 = s12 = s20 = s21 = s22 = 0.0
            for j in range(width):
                x0, x1, x2, y0, y1, y2 = a0[j], a1[j], a2[j], b0[j], b1[j], b2[j]
                s00 += x0 * y0
                s01 += x0 * y1
                s02 += x0 * y2
                s10 += x1 * y0
                s11 += x1 * y1
                s12 += x1 * y2
                s20 += x2 * y0
                s21 += x2 * y1
                s22 += x2 * y2
            total[a, b] += s00
            total[a, b + 1] += s01
            total[a, b + 2] += s02
            total[a + 1, b] += s10
            total[a + 1, b + 1] += s11
            total[a + 1, b + 2] += s12
            total[a + 2, b] += s20
            total[a + 2, b + 1] += s21
            total[a + 2, b + 2] += s22


@njit(**SUMS)
def products(base, kept, shares, wide, total):  # type: ignore[no-untyped-def]
    """Inner products of T task vectors (T, n), each less its share (T,) of the base, and the base (n,) as row T.

    wide: (R, COLUMNS) float64 scratch whose rows beyond T are zero; total (R, R) is overwritten.
    """
    tasks, width = kept.shape
    total[:] = 0.0
    for start in range(0, width, COLUMNS):
        count = min(COLUMNS, width - start)
        along, piece = wide[tasks], base[start : start + count]
        for j in range(count):
            along[j] = piece[j]
        for t in range(tasks):
            target, source, share = wide[t], kept[t, start : start + count], shares[t]
            if share != 0.0:
                for j in range(count):
                    target[j] = np.float64(source[j]) - share * along[j]
            else:
                for j in range(count):
                    target[j] = source[j]
        add_products(wide, count, total)
