"""The whole path of a neuron in one reading: trim, decompose, vote, and write what is merged.

The mathematics is that of `subspaces.decompose`, `subspaces.orthogonal_vote` and `staged.merge_neurons`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels import votes
from neuromerge.merging.kernels.blocks import ADDRESS, change
from neuromerge.merging.kernels.lanes import LANES, add_product, bits, load, number, ones, spread, store
from neuromerge.merging.kernels.products import products, workspace
from neuromerge.merging.kernels.rows import (
    EXACT,
    SUMS,
    locate,
    numbers_at,
    on_lines,
    scratch_for,
    trim_rows,
    trimmed,
)
from neuromerge.merging.subspaces import SAFE_ORTHOGONAL_SHARE


@njit(**SUMS)
def _split(places, bounds, width, space, shares, parallel, gram, ahead):  # type: ignore[no-untyped-def]
    """One neuron's |w_0|^2 (returned), c (T,) and Gram matrix (T, T) of its orthogonal parts, in float64.

    places, bounds, width, ahead and the scratch `space`: see `products`.
    """
    tasks, total = len(bounds), space[2]
    shares[:] = 0.0
    products(places, bounds, width, shares, space, ahead)
    square = total[tasks, tasks]
    whole = remains = 0.0
    for t in range(tasks):
        parallel[t] = total[tasks, t] / square if square > 0.0 else 0.0
    for s in range(tasks):
        for t in range(s + 1):
            gram[s, t] = total[s, t] - square * parallel[s] * parallel[t]
        whole, remains = max(whole, total[s, s]), max(remains, gram[s, s])
    if remains < SAFE_ORTHOGONAL_SHARE * whole:
        # The difference has cancelled: form the orthogonal parts themselves.
        shares[:] = parallel
        products(places, bounds, width, shares, space, 0)
        gram[:, :] = total[:tasks, :tasks]
    for s in range(tasks):
        for t in range(s):
            gram[t, s] = gram[s, t]
    return square


@njit(**SUMS)
def _conflict(places, bounds, shares, width):  # type: ignore[no-untyped-def]
    """(entries whose orthogonal parts have both signs, entries with at least two tasks) of one neuron.

    places of `rows.locate`; bounds (T,) and shares (T,), which are -c_t, in the working dtype. A part is rounded once:
    where little is left of a task vector, twice would make it 0.
    """
    tasks, like = len(bounds), bounds.dtype.type(0)
    base, lower = places[tasks], places[tasks + 1]
    sources, least, along = places.ctypes.data, bounds.ctypes.data, shares.ctypes.data
    whole, zero = width // LANES * LANES, spread(like)
    none, both, several = zero > zero, 0, 0
    for e in range(0, whole, LANES):
        own, below = load(base, e, like), load(lower, e, like)
        up = down = once = twice = none
        for t in range(tasks):
            numbers = load(number(sources, t, ADDRESS), e, like)
            value = change(numbers, below, spread(number(least, t, like)))
            part, there = add_product(value, spread(number(along, t, like)), own), abs(value) > zero
            up, down = up | (there & (part > zero)), down | (there & (zero > part))
            once, twice = once | there, twice | (once & there)
        both += ones(bits(up & down))
        several += ones(bits(twice))
    for j in range(whole, width):
        high = low = like
        present = 0
        for t in range(tasks):
            rest = trimmed(number(places[t], j, like) - number(lower, j, like), bounds[t])
            if rest != 0:
                present += 1
                side = rest + shares[t] * number(base, j, like)
                high, low = max(high, side), min(low, side)
        both += high > 0 and low < 0
        several += present > 1
    return both, several


@njit(**EXACT)
def _write(places, bounds, factor, weights, out):  # type: ignore[no-untyped-def]
    """out (n,) = factor w_0 + sum_t weights_t tau_t, trimmed; places of `rows.locate`, weights (T,) as bounds (T,)."""
    tasks, width, own = len(bounds), len(out), out.dtype.type(factor)
    base, lower, target = places[-2], places[-1], out.ctypes.data
    sources, least, shares = places.ctypes.data, bounds.ctypes.data, weights.ctypes.data
    whole = width // LANES * LANES
    for e in range(0, whole, LANES):
        below, merged = load(lower, e, own), spread(own) * load(base, e, own)
        for t in range(tasks):
            numbers = load(number(sources, t, ADDRESS), e, own)
            part = change(numbers, below, spread(number(least, t, own)))
            merged = add_product(merged, part, spread(number(shares, t, own)))
        store(merged, target, e)
    for j in range(whole, width):
        below, rest = number(lower, j, own), own * number(base, j, own)
        for t in range(tasks):
            rest += weights[t] * trimmed(number(places[t], j, own) - below, bounds[t])
        out[j] = rest


@njit(**EXACT)
def _share(square, parallel, gram, factor, weights, products_with, squares_of):  # type: ignore[no-untyped-def]
    """Add <Delta, tau_t> and |tau_t|^2 of one neuron, Delta = factor w_0 + sum_s weights_s tau_s.

    No weight is looked at: <tau_s, tau_t> is gram_st + |w_0|^2 c_s c_t, and <w_0, tau_t> = |w_0|^2 c_t.
    """
    along = factor
    for s in range(len(parallel)):
        along += weights[s] * parallel[s]
    for t in range(len(parallel)):
        across = 0.0
        for s in range(len(parallel)):
            across += weights[s] * gram[s, t]
        products_with[t] += across + along * square * parallel[t]
        squares_of[t] += gram[t, t] + square * parallel[t] * parallel[t]


@njit(**EXACT)
def _elected(parallel):  # type: ignore[no-untyped-def]
    """(elected sign, mean of the c_t that carry it) of one neuron; a tie gives 0."""
    total = 0.0
    for value in parallel:
        total += value
    if total == 0.0:
        return 0.0, 0.0
    agreeing, voters = 0.0, 0
    for value in parallel:
        if value != 0.0 and (value > 0.0) == (total > 0.0):
            agreeing += value
            voters += 1
    return (1.0 if total > 0.0 else -1.0), agreeing / max(voters, 1)


@njit(**EXACT)
def merge_rows(  # type: ignore[no-untyped-def]
    table, width, bounds, subtract, ridge, count_conflict, own, scale_parallel, scale_orthogonal,
    square, parallel, gram, alpha, margin, weight, ill, sign, conflict, out, products_with, squares_of,
):  # fmt: skip
    """Every row of a chunk: statistics and, unless `out` is empty, own w_0 + scales times the merged parts.

    Args:
        table, width, bounds, subtract: where the rows are, their length, thresholds (T,) in the working dtype, and
            whether the sources hold experts (True) or task vectors.
        ridge: of the balanced vote; below 0 the published vote.
        count_conflict: also count sign conflicts of the orthogonal parts.
        own, scale_parallel, scale_orthogonal: coefficients of w_0, P and O in what is written.
        square (k,), parallel (k, T), gram (k, T, T), alpha (k, T), margin (k,), weight (k,), ill (k,), sign (k,):
            filled, as in `staged.NeuronStatistics`; sign is that of the parallel vote, 0 where tied.
        conflict: (2,) int64, added to.
        out: (k, n) in the working dtype, or (0, 0).
        products_with, squares_of: (T,) float64, added to where something is written: <out - w_0, tau_t> and |tau_t|^2;
            or empty.
    """
    tasks = len(bounds)
    scratch, places = scratch_for(tasks, width, bounds), np.zeros(tasks + 2, np.int64)
    shares, space, weights = np.empty(tasks), workspace(tasks + 1), np.empty(tasks)
    polls = votes.scratch(tasks)
    own_weights, own_shares = np.empty((2, tasks), bounds.dtype)
    ahead = width * bounds.itemsize
    for first in range(0, len(square), LANES):
        some = slice(first, min(first + LANES, len(square)))
        for i in range(some.start, some.stop):
            locate(table, i, 0, width, subtract, scratch, places)
            square[i] = _split(places, bounds, width, space, shares, parallel[i], gram[i], ahead)
        votes.vote(gram[some], ridge, polls, alpha[some], margin[some], weight[some], ill[some])
        for i in range(some.start, some.stop):
            sign[i], mean = _elected(parallel[i])
            if not (count_conflict or len(out)):
                continue
            # These rows are still near: to read them again costs less than to keep what was made of them.
            locate(table, i, 0, width, subtract, scratch, places)
            if count_conflict:
                for t in range(tasks):
                    own_shares[t] = -parallel[i, t]
                both, several = _conflict(places, bounds, own_shares, width)
                conflict[0] += both
                conflict[1] += several
            if len(out):
                along = 0.0
                for t in range(tasks):
                    along += alpha[i, t] * parallel[i, t]
                    weights[t] = scale_orthogonal * alpha[i, t]
                factor = own + scale_parallel * mean - scale_orthogonal * along
                own_weights[:] = weights
                _write(places, bounds, factor, own_weights, out[i])
                if len(products_with):
                    _share(square[i], parallel[i], gram[i], factor - 1.0, weights, products_with, squares_of)


@njit(**EXACT)
def write_rows(table, width, bounds, subtract, factor, weights, out):  # type: ignore[no-untyped-def]
    """out (k, n) = factor_i w_0 + sum_t weights_it tau_t, coefficients known: factor (k,), weights (k, T)."""
    tasks = len(bounds)
    scratch, places = scratch_for(tasks, width, bounds), np.zeros(tasks + 2, np.int64)
    own_weights = np.empty(tasks, bounds.dtype)
    for i in range(len(out)):
        locate(table, i, 0, width, subtract, scratch, places)
        own_weights[:] = weights[i]
        _write(places, bounds, factor[i], own_weights, out[i])


@njit(**SUMS)
def inner_products(table, width, bounds, subtract, merged, dots, norms, along, own):  # type: ignore[no-untyped-def]
    """What a change Delta shares with the task vectors, row by row, in float64.

    merged: (k, n) Delta. Filled: dots (k, T) <Delta, tau_t>, norms (k, T) |tau_t|^2, along (k,) <Delta, w_0> and
    own (k,) |Delta|^2.
    """
    tasks = len(bounds)
    scratch, places = scratch_for(tasks, width, bounds), np.zeros(tasks + 2, np.int64)
    kept = on_lines(tasks, width, bounds)
    for i in range(len(merged)):
        locate(table, i, 0, width, subtract, scratch, places)
        base, row = numbers_at(places[-2], width, bounds), merged[i]
        trim_rows(places, bounds, kept)
        square = shared = 0.0
        for j in range(width):
            value = np.float64(row[j])
            square += value * value
            shared += value * np.float64(base[j])
        own[i], along[i] = square, shared
        for t in range(tasks):
            square = shared = 0.0
            for j in range(width):
                value = np.float64(kept[t, j])
                square += value * value
                shared += value * np.float64(row[j])
            dots[i, t], norms[i, t] = shared, square
