"""Inner products of a few long rows, in float64, by tiles that stay in registers."""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.lanes import LINE, foresee
from neuromerge.merging.kernels.rows import SUMS, numbers_at, on_lines, trimmed

COLUMNS = 384
"""Entries of a row that are multiplied at a time: T rows of them, in float64, fit the first cache."""
TILE = 3


@njit(**SUMS)
def workspace(rows):  # type: ignore[no-untyped-def]
    """(wide (R, COLUMNS), total (R, R)) for the products of `rows` rows, R whole tiles; zeros."""
    size = (rows + TILE - 1) // TILE * TILE
    total = np.zeros((size, size))
    return on_lines(size, COLUMNS, total), total


@njit(**SUMS)
def _add_tile(a0, a1, a2, b0, b1, b2, width, total):  # type: ignore[no-untyped-def]
    """total (3, 3) += products of three rows with three others."""
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
    total[0, 0] += s00
    total[0, 1] += s01
    total[0, 2] += s02
    total[1, 0] += s10
    total[1, 1] += s11
    total[1, 2] += s12
    total[2, 0] += s20
    total[2, 1] += s21
    total[2, 2] += s22


@njit(**SUMS)
def _add_corner(a0, a1, a2, width, total):  # type: ignore[no-untyped-def]
    """total (3, 3), on and below the diagonal, += products of three rows with each other."""
    s00 = s10 = s11 = s20 = s21 = s22 = 0.0
    for j in range(width):
        x0, x1, x2 = a0[j], a1[j], a2[j]
        s00 += x0 * x0
        s10 += x1 * x0
        s11 += x1 * x1
        s20 += x2 * x0
        s21 += x2 * x1
        s22 += x2 * x2
    total[0, 0] += s00
    total[1, 0] += s10
    total[1, 1] += s11
    total[2, 0] += s20
    total[2, 1] += s21
    total[2, 2] += s22


@njit(**SUMS)
def add_products(wide, width, total):  # type: ignore[no-untyped-def]
    """total += wide wide^T over the first `width` columns; wide (R, COLUMNS), total (R, R), R whole tiles.

    Only what is on and below the diagonal is computed.
    """
    for a in range(0, len(wide), TILE):
        for b in range(0, a, TILE):
            tile = total[a : a + TILE, b : b + TILE]
            _add_tile(wide[a], wide[a + 1], wide[a + 2], wide[b], wide[b + 1], wide[b + 2], width, tile)
        _add_corner(wide[a], wide[a + 1], wide[a + 2], width, total[a : a + TILE, a : a + TILE])


@njit(**SUMS)
def products(places, bounds, width, shares, wide, total, ahead):  # type: ignore[no-untyped-def]
    """Inner products of T trimmed task vectors, each less its share (T,) of the base, and the base as row T.

    Args:
        places, bounds, width: of the row, as of `rows.locate`, `rows.trim_rows`.
        wide: (R, COLUMNS) float64 scratch whose rows beyond T are zero; total (R, R) is overwritten.
        ahead: bytes from here to the row that comes next.
    """
    tasks, size = len(bounds), bounds.itemsize
    total[:] = 0.0
    for start in range(0, width, COLUMNS):
        count = min(COLUMNS, width - start)
        along, piece = wide[tasks], numbers_at(places[-2] + start * size, count, bounds)
        for j in range(count):
            along[j] = piece[j]
        _foresee(places[-2] + start * size + ahead, count * size)
        lower = numbers_at(places[-1] + start * size, count, bounds)
        for t in range(tasks):
            source, bound = numbers_at(places[t] + start * size, count, bounds), bounds[t]
            target, share = wide[t], shares[t]
            if share != 0.0:
                for j in range(count):
                    target[j] = np.float64(trimmed(source[j] - lower[j], bound)) - share * along[j]
            else:
                for j in range(count):
                    target[j] = trimmed(source[j] - lower[j], bound)
            _foresee(places[t] + start * size + ahead, count * size)
        add_products(wide, count, total)


@njit(**SUMS)
def _foresee(address, size):  # type: ignore[no-untyped-def]
    for line in range(address, address + size, LINE):
        foresee(line)
