"""Inner products of a few long rows, in float64, by tiles that stay in registers."""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.blocks import change
from neuromerge.merging.kernels.lanes import (
    LANES,
    LINE,
    WIDE,
    add_product,
    foresee,
    load,
    load_wide,
    number,
    spread,
    store,
    total,
    widened,
)
from neuromerge.merging.kernels.rows import EXACT, on_lines, trimmed

COLUMNS = 192
"""Entries of a row that are multiplied at a time: T rows of them in float64, and their sums, fit the first cache."""
TILE = 3


@njit(**EXACT)
def workspace(rows):  # type: ignore[no-untyped-def]
    """What the products of `rows` rows, R in whole tiles, are made in: zeros.

    wide (R, COLUMNS), sums (R, R WIDE), total (R, R).
    """
    size = (rows + TILE - 1) // TILE * TILE
    total = np.zeros((size, size))
    return on_lines(size, COLUMNS, total), on_lines(size, size * WIDE, total), total


@njit(**EXACT)
def _add_tile(a, b, count, sums, rows):  # type: ignore[no-untyped-def]
    """sums += products of the three rows at an address with the three at another; `rows` of sums as of `workspace`."""
    below, far = rows * WIDE, 2 * rows * WIDE
    s00, s01, s02 = load_wide(sums, 0), load_wide(sums, WIDE), load_wide(sums, 2 * WIDE)
    s10, s11, s12 = load_wide(sums, below), load_wide(sums, below + WIDE), load_wide(sums, below + 2 * WIDE)
    s20, s21, s22 = load_wide(sums, far), load_wide(sums, far + WIDE), load_wide(sums, far + 2 * WIDE)
    for j in range(0, count, WIDE):
        x0, x1, x2 = load_wide(a, j), load_wide(a, COLUMNS + j), load_wide(a, 2 * COLUMNS + j)
        y = load_wide(b, j)
        s00, s10, s20 = add_product(s00, x0, y), add_product(s10, x1, y), add_product(s20, x2, y)
        y = load_wide(b, COLUMNS + j)
        s01, s11, s21 = add_product(s01, x0, y), add_product(s11, x1, y), add_product(s21, x2, y)
        y = load_wide(b, 2 * COLUMNS + j)
        s02, s12, s22 = add_product(s02, x0, y), add_product(s12, x1, y), add_product(s22, x2, y)
    store(s00, sums, 0)
    store(s01, sums, WIDE)
    store(s02, sums, 2 * WIDE)
    store(s10, sums, below)
    store(s11, sums, below + WIDE)
    store(s12, sums, below + 2 * WIDE)
    store(s20, sums, far)
    store(s21, sums, far + WIDE)
    store(s22, sums, far + 2 * WIDE)


@njit(**EXACT)
def _add_corner(a, count, sums, rows):  # type: ignore[no-untyped-def]
    """sums, on and below the diagonal, += products of the three rows at an address with each other."""
    below, far = rows * WIDE, 2 * rows * WIDE
    s00, s10, s11 = load_wide(sums, 0), load_wide(sums, below), load_wide(sums, below + WIDE)
    s20, s21, s22 = load_wide(sums, far), load_wide(sums, far + WIDE), load_wide(sums, far + 2 * WIDE)
    for j in range(0, count, WIDE):
        x0, x1, x2 = load_wide(a, j), load_wide(a, COLUMNS + j), load_wide(a, 2 * COLUMNS + j)
        s00, s10, s20 = add_product(s00, x0, x0), add_product(s10, x1, x0), add_product(s20, x2, x0)
        s11, s21, s22 = add_product(s11, x1, x1), add_product(s21, x2, x1), add_product(s22, x2, x2)
    store(s00, sums, 0)
    store(s10, sums, below)
    store(s11, sums, below + WIDE)
    store(s20, sums, far)
    store(s21, sums, far + WIDE)
    store(s22, sums, far + 2 * WIDE)


@njit(**EXACT)
def _add_products(wide, count, sums, rows):  # type: ignore[no-untyped-def]
    """sums += wide wide^T over the first `count` columns, on and below the diagonal; addresses as of `workspace`."""
    for a in range(0, rows, TILE):
        first, line = wide + 8 * a * COLUMNS, sums + 8 * a * rows * WIDE
        for b in range(0, a, TILE):
            _add_tile(first, wide + 8 * b * COLUMNS, count, line + 8 * b * WIDE, rows)
        _add_corner(first, count, line + 8 * a * WIDE, rows)


@njit(**EXACT)
def _put_base(place, count, like, along):  # type: ignore[no-untyped-def]
    """The base's piece at a place, in float64; addresses, `like` of the working dtype."""
    for j in range(0, count, LANES):
        store(widened(load(place, j, like)), along, j)


@njit(**EXACT)
def _put_task(place, lower, bound, share, along, count, target):  # type: ignore[no-untyped-def]
    """A trimmed task vector less its share of the base `along`, in float64; the bound in the working dtype."""
    least, part = spread(bound), spread(-share)
    for j in range(0, count, LANES):
        value = widened(change(load(place, j, bound), load(lower, j, bound), least))
        if share != 0.0:
            value = add_product(value, part, load(along, j, share))
        store(value, target, j)


@njit(**EXACT)
def products(places, bounds, width, shares, space, ahead):  # type: ignore[no-untyped-def]
    """Inner products of T trimmed task vectors, each less its share (T,) of the base, and the base as row T.

    Args:
        places, bounds, width: of the row, as of `rows.locate`, `rows.trim_rows`.
        space: of `workspace`, for T + 1 rows; its total (R, R) is overwritten.
        ahead: bytes from here to the row that comes next.
    """
    wide, sums, found = space
    tasks, size, rows, like = len(bounds), bounds.itemsize, len(found), bounds.dtype.type(0)
    sums[:] = 0.0
    for start in range(0, width, COLUMNS):
        count, skipped = min(COLUMNS, width - start), start * size
        whole = count // LANES * LANES
        base, lower, along = places[tasks] + skipped, places[tasks + 1] + skipped, wide[tasks].ctypes.data
        _put_base(base, whole, like, along)
        for j in range(whole, count):
            wide[tasks, j] = number(base, j, like)
        _foresee(base + ahead, count * size)
        for t in range(tasks):
            place, bound, share = places[t] + skipped, bounds[t], shares[t]
            _put_task(place, lower, bound, share, along, whole, wide[t].ctypes.data)
            for j in range(whole, count):
                value = trimmed(number(place, j, like) - number(lower, j, like), bound)
                wide[t, j] = np.float64(value) - share * wide[tasks, j]
            _foresee(place + ahead, count * size)
        end = (count + WIDE - 1) // WIDE * WIDE
        if end > count:
            wide[:, count:end] = 0.0
        _add_products(wide.ctypes.data, end, sums.ctypes.data, rows)
    for s in range(tasks + 1):
        for t in range(s + 1):
            found[s, t] = total(load_wide(sums[s].ctypes.data, t * WIDE))


@njit(**EXACT)
def _foresee(address, size):  # type: ignore[no-untyped-def]
    for line in range(address, address + size, LINE):
        foresee(line)
