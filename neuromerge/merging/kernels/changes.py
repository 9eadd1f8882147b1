"""Merges that treat every entry by itself: their change of a chunk, written in one reading of every byte.

One kernel serves them all, the rule chosen by number: what differs is a few lines on a block that is in the cache.
Sums go over the tasks in their order: whether a vote is tied must not depend on how vectors are cut.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.blocks import ADDRESS, BLOCK, PIECE, aside_for, four, keep, set_aside, trim
from neuromerge.merging.kernels.codes import CONSENSUS, MEAN, MEAN_OF_ELECTED, PCB, SUM_OF_ELECTED
from neuromerge.merging.kernels.lanes import LANES, add_product, bits, load, number, ones, spread, store, total, where
from neuromerge.merging.kernels.rows import EXACT, locate, numbers_at, on_lines, scratch_for
from neuromerge.merging.kernels.scores import compete, scales


@njit(**EXACT)
def _elect(kept, tasks, majority, mean, merged):  # type: ignore[no-untyped-def]
    """merged = mean or sum of the entries that carry the elected sign (`election.mean_of_elected`).

    kept (T, BLOCK) and merged (BLOCK,), their sum, are addresses, as of `keep`. majority: +-1 in the working dtype.
    """
    one = spread(majority * majority)
    zero, tied = one - one, spread(majority)
    for e in range(0, BLOCK, LANES):
        votes = load(merged, e, majority)
        sign = where(votes > zero, one, where(zero > votes, zero - one, tied))
        agreeing = voters = zero
        for t in range(tasks):
            along = load(kept, t * BLOCK + e, majority) * sign
            agrees = along > zero
            # A chosen sum, not the sum of what is chosen: one masked addition.
            agreeing, voters = where(agrees, agreeing + along, agreeing), where(agrees, voters + one, voters)
        if mean:
            agreeing = agreeing / where(voters > one, voters, one)
        store(agreeing * sign, merged, e)


@njit(**EXACT)
def _agree(kept, tasks, least, reference, threshold, merged):  # type: ignore[no-untyped-def]
    """merged = sum over tasks where at least `least` tasks need the entry (`baselines.consensus`), else 0.

    kept, merged: as in `_elect`; least, reference, threshold: in the working dtype.
    """
    zero, one, enough = spread(least - least), spread(type(least)(1)), spread(least)
    share, limit = spread(reference), spread(threshold)
    for e in range(0, BLOCK, LANES):
        whole = load(merged, e, least)
        joint, need = share * whole, zero
        for t in range(tasks):
            own = load(kept, t * BLOCK + e, least)
            need = need + where(abs(own) > abs(own - joint) * limit, one, zero)
        store(where(need >= enough, whole, zero), merged, e)


@njit(**EXACT)
def _weigh(base, entry, own, factor, merged, target):  # type: ignore[no-untyped-def]
    """merged (BLOCK,) = own w_0 + factor merged, also written to a target; addresses."""
    keeps, times = spread(own), spread(factor)
    for e in range(0, BLOCK, LANES):
        weights = keeps * load(base, entry + e, own) + times * load(merged, e, own)
        store(weights, merged, e)
        store(weights, target, e)


@njit(**EXACT)
def _share(base, entry, kept, tasks, merged, sums, like):  # type: ignore[no-untyped-def]
    """Add <merged - w_0, tau_t> and |tau_t|^2 of a block to sums (T, 2, LANES); kept (T, BLOCK) is tau. Addresses."""
    w, x, y, z = four(base, entry, like)
    p, q, r, s = four(merged, 0, like)
    p, q, r, s = p - w, q - x, r - y, s - z
    for t in range(tasks):
        a, b, c, d = four(kept, t * BLOCK, like)
        product, square = load(sums, 2 * t * LANES, like), load(sums, (2 * t + 1) * LANES, like)
        product = add_product(add_product(add_product(add_product(product, a, p), b, q), c, r), d, s)
        square = add_product(add_product(add_product(add_product(square, a, a), b, b), c, c), d, d)
        store(product, sums, 2 * t * LANES)
        store(square, sums, (2 * t + 1) * LANES)


@njit(**EXACT)
def _collect(sums, products, squares):  # type: ignore[no-untyped-def]
    """Move what `_share` has added up to (T,) float64."""
    added = sums.ctypes.data
    for t in range(len(sums)):
        products[t] += np.float64(total(load(added, 2 * t * LANES, sums)))
        squares[t] += np.float64(total(load(added, (2 * t + 1) * LANES, sums)))
    sums[:] = 0


@njit(**EXACT)
def _survivors(drops, row, first, count, spare, addresses):  # type: ignore[no-untyped-def]
    """Addresses (T,) of what a drop (T, k, n) leaves of a block; where that is no whole block, of copies in `spare`."""
    for t in range(len(drops)):
        some = drops[t, row, first : first + count]
        if count < BLOCK:
            spare[t, :count] = some
            some = spare[t]
        addresses[t] = some.ctypes.data


@njit(**EXACT)
def combine(  # type: ignore[no-untyped-def]
    table, width, bounds, subtract, drops, rule, numbers, limits, own, factor, out, seen, products, squares
):  # fmt: skip
    """out (k, n) = own w_0 + factor times the change of a rule.

    Args:
        table, width, bounds, subtract: as for `neurons.merge_rows`.
        drops: (T, k, n) bool, which entries survive, or empty: DARE. What survives is multiplied by numbers[0].
        rule: a code; numbers: (4,) in the working dtype, what it wants to know: [1] the majority of tied votes, or
            how many tasks must agree, [2] and [3] the scale of the reference sum and the threshold of `_agree`.
        limits: (4, T) of `compete`, else (0, 0); own, factor: coefficients of w_0 and of the change.
        seen: (T,) thresholds of the task vectors that are compared with out - w_0, or empty; products, squares: (T,)
            float64 of these, added to: <out - w_0, tau_t> and |tau_t|^2.
    """
    tasks, rows, kind = len(bounds), len(out), out.dtype.type
    scratch, places = scratch_for(tasks, PIECE, out), np.zeros(tasks + 2, np.int64)
    spare, aside = aside_for(tasks, out)
    marks, survivors = np.zeros((len(drops), BLOCK), np.bool_), np.empty(len(drops), np.int64)
    # The working room: kept and shares (T, BLOCK) each, then what is merged.
    room, sums = on_lines(2 * tasks + 1, BLOCK, out), on_lines(len(seen), 2 * LANES, out)
    lengths = scales(limits)
    keeps, times = kind(own), kind(factor / tasks if rule == MEAN else factor)
    least = bounds.ctypes.data if bounds.any() else 0
    kept_is_seen = len(drops) == 0 and np.array_equal(bounds, seen)
    for i in range(rows):
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            locate(table, i, start, size, subtract, scratch, places)
            # Asked for here: numba frees an array after the last line that names it, whoever has its address.
            kept, shares, merged = room.ctypes.data, room[tasks:].ctypes.data, room[2 * tasks :].ctypes.data
            target = out[i].ctypes.data + start * out.itemsize
            for entry in range(0, size, BLOCK):
                here, at, wanted, count = places.ctypes.data, entry, target + entry * out.itemsize, size - entry
                if count < BLOCK:
                    set_aside(places, entry, count, spare, aside)
                    here, at, wanted = aside.ctypes.data, 0, merged
                if len(drops):
                    _survivors(drops, i, start + entry, min(BLOCK, count), marks, survivors)
                keep(
                    here, tasks, at, least, survivors.ctypes.data if len(drops) else 0, numbers[0], kept, merged
                )  # fmt: skip
                if rule in (MEAN_OF_ELECTED, SUM_OF_ELECTED):
                    _elect(kept, tasks, numbers[1], rule == MEAN_OF_ELECTED, merged)
                elif rule == CONSENSUS:
                    _agree(kept, tasks, numbers[1], numbers[2], numbers[3], merged)
                elif rule == PCB:
                    compete(kept, tasks, limits.ctypes.data, lengths.ctypes.data, shares, merged, keeps)
                _weigh(number(here, tasks, ADDRESS), at, keeps, times, merged, wanted)
                if count < BLOCK:
                    out[i, start + entry : start + size] = numbers_at(merged, count, out)
                if len(seen):
                    if not kept_is_seen:
                        trim(here, tasks, at, seen.ctypes.data, keeps, kept, shares)
                    _share(number(here, tasks, ADDRESS), at, kept, tasks, merged, sums.ctypes.data, keeps)
            _collect(sums, products, squares)


@njit(**EXACT)
def _won(merged, like):  # type: ignore[no-untyped-def]
    """Entries of a block, at an address, above zero less entries below."""
    zero, won = spread(like - like), 0
    for e in range(0, BLOCK, LANES):
        votes = load(merged, e, like)
        won += ones(bits(votes > zero)) - ones(bits(zero > votes))
    return won


@njit(**EXACT)
def balance(table, rows, width, bounds, subtract):  # type: ignore[no-untyped-def]
    """Votes won by + less votes won by -, over all entries of a chunk, of the trimmed task vectors."""
    tasks, one = len(bounds), bounds.dtype.type(1)
    scratch, places = scratch_for(tasks, PIECE, bounds), np.zeros(tasks + 2, np.int64)
    spare, aside = aside_for(tasks, bounds)
    room, result = on_lines(tasks + 1, BLOCK, bounds), 0
    for i in range(rows):
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            locate(table, i, start, size, subtract, scratch, places)
            kept, merged = room.ctypes.data, room[tasks:].ctypes.data  # here, as in `combine`
            for entry in range(0, size, BLOCK):
                here, at = places.ctypes.data, entry
                if size - entry < BLOCK:
                    set_aside(places, entry, size - entry, spare, aside)
                    here, at = aside.ctypes.data, 0
                keep(here, tasks, at, bounds.ctypes.data, 0, one, kept, merged)
                result += _won(merged, one)
    return result
