"""PCB: entries that compete by a score, counted and merged (`neuromerge.merging.baselines.pcb`).

The scores of a block come of its task vectors (`blocks.keep`), in the working dtype.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import overload

from neuromerge.merging.kernels.blocks import BLOCK, PIECE, aside_for, four, joined, keep, set_aside, valid
from neuromerge.merging.kernels.lanes import (
    LANES,
    add_product,
    bits,
    by_library,
    load,
    lowest_bit,
    number,
    ones,
    power_of_two,
    signed,
    spread,
    store,
    where,
)
from neuromerge.merging.kernels.rows import EXACT, locate, on_lines, scratch_for

_LOG2_E, _LN2_UPPER, _LN2_LOWER = np.float32(1.44269504), np.float32(-0.693359375), np.float32(2.12194440e-4)
# Chebyshev's interpolations: (exp(r) - 1 - r) / r^2 up to log(2) / 2, good to 1.1e-8 of exp; and of x^2, from the
# second term on, tanh(x) / x up to 0.1 (good to 7e-9) and up to 0.6 (3e-9).
_E2, _E3, _E4, _E5, _E6 = (
    np.float32(c) for c in (0.5, 0.16666577026, 0.04166655466, 0.00836317307, 0.00139261761)
)  # fmt: skip
_TINY, _SMALL = np.float32(0.1), np.float32(0.6)
_T1, _T2 = np.float32(-0.33333266145), np.float32(0.13279555775)
_S1, _S2, _S3, _S4, _S5 = (
    np.float32(c) for c in (-0.33333282834, 0.13331679634, -0.05376798350, 0.02075134909, -0.00584964390)
)
_ONE, _TWO, _ROUNDER, _MOST = (np.float32(number) for number in (1.0, 2.0, 1.5 * 2**23 + 127, 40.0))


@njit(**EXACT)
def _exp_single(x):  # type: ignore[no-untyped-def]
    """exp of float32 within +-87, good to a unit in the last place."""
    one, rounder = spread(_ONE), spread(_ROUNDER)
    rounded = add_product(rounder, x, spread(_LOG2_E))  # the power in its last bits
    power = rounded - rounder
    r = add_product(add_product(x, power, spread(_LN2_UPPER)), power, spread(_LN2_LOWER))
    sum_ = add_product(spread(_E4), r, add_product(spread(_E5), r, spread(_E6)))
    sum_ = add_product(spread(_E2), r, add_product(spread(_E3), r, sum_))
    return add_product(one, r, add_product(one, r, sum_)) * power_of_two(rounded)


@njit(**EXACT)
def _tanh_single(x):  # type: ignore[no-untyped-def]
    """tanh of float32."""
    square, tiny = x * x, spread(_TINY) > abs(x)
    near = add_product(x, x * square, add_product(spread(_T1), square, spread(_T2)))
    if bits(tiny) == np.uint64((1 << LANES) - 1):  # nearly always
        return near
    return where(tiny, near, _tanh_beyond(x, square))


@njit(**EXACT)
def _tanh_beyond(x, square):  # type: ignore[no-untyped-def]
    """tanh of float32 from `_TINY` on."""
    sum_ = add_product(spread(_S3), square, add_product(spread(_S4), square, spread(_S5)))
    sum_ = add_product(spread(_S1), square, add_product(spread(_S2), square, sum_))
    near, size, one, most = add_product(x, x * square, sum_), abs(x), spread(_ONE), spread(_MOST)
    size = where(size > most, most, size)
    far = one - spread(_TWO) / (_exp_single(size + size) + one)
    return where(spread(_SMALL) > size, near, signed(far, x))


_exp_double, _tanh_double = by_library("exp"), by_library("tanh")


def _exp(x):  # type: ignore[no-untyped-def]
    """exp in the dtype of x: float32 by a polynomial, float64 by the library."""


def _tanh(x):  # type: ignore[no-untyped-def]
    """tanh, as `_exp`."""


@overload(_exp)
def _choose_exp(x):  # type: ignore[no-untyped-def]
    return (lambda x: _exp_single(x)) if x.dtype == types.float32 else (lambda x: _exp_double(x))


@overload(_tanh)
def _choose_tanh(x):  # type: ignore[no-untyped-def]
    return (lambda x: _tanh_single(x)) if x.dtype == types.float32 else (lambda x: _tanh_double(x))


@njit(**EXACT)
def _clamped(size, low, high):  # type: ignore[no-untyped-def]
    size = where(low > size, low, size)
    return where(size > high, high, size)


@njit(**EXACT)
def scales(limits):  # type: ignore[no-untyped-def]
    """What maps each pair [low, high] of limits (2 P, T) to a length of 1, (P, T); 0 where both are equal.

    Once for all entries: a division for every few of them would take as long as a score.
    """
    lows, highs = limits[::2], limits[1::2]
    found = np.zeros(lows.shape, limits.dtype)
    for p in range(found.shape[0]):
        for t in range(found.shape[1]):
            if highs[p, t] > lows[p, t]:
                found[p, t] = limits.dtype.type(1) / (highs[p, t] - lows[p, t])
    return found


@njit(**EXACT)
def _shares(kept, tasks, limits, lengths, e, shares, like):  # type: ignore[no-untyped-def]
    """Magnitudes of a few entries mapped from [low, high] to [0, 1]: into shares (T, BLOCK); returns their signed sum.

    kept (T, BLOCK), limits (2, T), their `scales` and shares are addresses.
    """
    agreement = spread(like - like)
    for t in range(tasks):
        value = load(kept, t * BLOCK + e, like)
        low, high = spread(number(limits, t, like)), spread(number(limits, tasks + t, like))
        share = (_clamped(abs(value), low, high) - low) * spread(number(lengths, t, like))
        store(share, shares, t * BLOCK + e)
        agreement = agreement + signed(share, value)  # of an entry that is 0 the share is
    return agreement


@njit(**EXACT)
def _score(value, share, agreement, many):  # type: ignore[no-untyped-def]
    """Intra- times inter-task competition of a few entries (`baselines.pcb.scores`)."""
    return _exp(share * share * many) * _tanh(value * agreement)


@njit(**EXACT)
def compete(kept, tasks, limits, lengths, shares, merged, like):  # type: ignore[no-untyped-def]
    """merged (BLOCK,) = mean of clamped entries, kept (T, BLOCK), weighted by their scores (`baselines.pcb`).

    limits: (4, T), see `Competition`; lengths: their `scales`; shares: (T, BLOCK) scratch. Addresses.
    """
    zero, one, many = spread(like - like), spread(type(like)(1)), spread(type(like)(tasks))
    for e in range(0, BLOCK, LANES):
        agreement = _shares(kept, tasks, limits, lengths, e, shares, like)
        total = weights = zero
        for t in range(tasks):
            value, share = load(kept, t * BLOCK + e, like), load(shares, t * BLOCK + e, like)
            least = spread(number(limits, 2 * tasks + t, like))
            weight = (_score(value, share, agreement, many) - least) * spread(number(lengths, tasks + t, like))
            weight = where(weight > zero, weight, zero)
            low, high = spread(number(limits, t, like)), spread(number(limits, tasks + t, like))
            size = abs(value)
            part = signed(where(size > zero, _clamped(size, low, high), zero), value)
            weights, total = weights + weight, add_product(total, weight, part)
        store(total / where(weights > zero, weights, one), merged, e)


@njit(**EXACT)
def _block_scores(kept, tasks, limits, lengths, shares, like):  # type: ignore[no-untyped-def]
    """The scores of a block, (T, BLOCK), written where the shares were."""
    many = spread(type(like)(tasks))
    for e in range(0, BLOCK, LANES):
        agreement = _shares(kept, tasks, limits, lengths, e, shares, like)
        for t in range(tasks):
            value, share = load(kept, t * BLOCK + e, like), load(shares, t * BLOCK + e, like)
            store(_score(value, share, agreement, many), shares, t * BLOCK + e)


@njit(**EXACT)
def _reach(scores, low, high, most):  # type: ignore[no-untyped-def]
    """(a bit for each score (BLOCK,) >= low, a bit for each > high); most (LANES,) becomes the larger of both."""
    least, above = spread(low), spread(high)
    a, b, c, d = four(scores, 0, low)
    largest = load(most, 0, low)
    for some in (a, b, c, d):
        largest = where(some > largest, some, largest)
    store(largest, most, 0)
    return (
        joined(bits(a >= least), bits(b >= least), bits(c >= least), bits(d >= least)),
        joined(bits(a > above), bits(b > above), bits(c > above), bits(d > above)),
    )


@njit(**EXACT)
def count_scores(  # type: ignore[no-untyped-def]
    table, rows, width, subtract, limits, lows, highs, collects, first, reached, above, most, found, filled
):  # fmt: skip
    """As `magnitudes.count`, of the scores of every task: limits (2, T) as in `compete`, most (T,) the largest."""
    tasks, one = len(lows), lows.dtype.type(1)
    scratch, places = scratch_for(tasks, PIECE, lows), np.zeros(tasks + 2, np.int64)
    spare, aside = aside_for(tasks, lows)
    kept, scores, merged = on_lines(tasks, BLOCK, lows), on_lines(tasks, BLOCK, lows), on_lines(1, BLOCK, lows)
    largest, lengths = on_lines(tasks, LANES, lows), scales(limits)
    largest[:] = -np.inf
    entry = first
    while entry < rows * width:
        row, start = entry // width, entry % width
        size = min(PIECE, width - start)
        if (collects & (filled + size > found.shape[1])).any():
            break
        locate(table, row, start, size, subtract, scratch, places)
        for at in range(0, size, BLOCK):
            here, begin, count = places.ctypes.data, at, min(BLOCK, size - at)
            if count < BLOCK:
                set_aside(places, at, count, spare, aside)
                here, begin = aside.ctypes.data, 0
            keep(here, tasks, begin, 0, 0, one, kept.ctypes.data, merged.ctypes.data)
            _block_scores(
                kept.ctypes.data, tasks, limits.ctypes.data, lengths.ctypes.data, scores.ctypes.data, one
            )  # fmt: skip
            if count < BLOCK:
                scores[:, count:] = -np.inf
            for t in range(tasks):
                at_least, beyond = _reach(
                    scores.ctypes.data + t * BLOCK * scores.itemsize, lows[t], highs[t],
                    largest.ctypes.data + t * LANES * largest.itemsize,
                )  # fmt: skip
                at_least, beyond = at_least & valid(count), beyond & valid(count)
                reached[t] += ones(at_least)
                above[t] += ones(beyond)
                marks = at_least ^ beyond
                while collects[t] and marks != 0:
                    found[t, filled[t]] = scores[t, lowest_bit(marks)]
                    filled[t] += 1
                    marks &= marks - np.uint64(1)
        entry += size
    for t in range(tasks):
        most[t] = max(most[t], largest[t].max())
    return entry
