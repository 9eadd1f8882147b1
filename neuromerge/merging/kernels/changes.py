"""Merges that treat every entry by itself: their change of a chunk, written in one reading of every byte.

One kernel serves them all, the rule chosen by number: what differs is a few lines on a piece that is in the cache.
Task vectors are formed in registers, four at a time, as often as they are needed: that is cheaper than to keep them.
Sums go over the tasks in their order: whether a vote is tied must not depend on how vectors are cut.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from neuromerge.merging.kernels.codes import CONSENSUS, MEAN, MEAN_OF_ELECTED, SUM, SUM_OF_ELECTED
from neuromerge.merging.kernels.lanes import lowest_bit
from neuromerge.merging.kernels.rows import (
    EXACT,
    FOUR,
    SUMS,
    float_of_bits,
    four_at,
    fours,
    locate,
    numbers_at,
    padded_to_fours,
    scratch_for,
    trimmed,
)

PIECE = 256
"""Entries of a row that are worked on at a time: of all tasks they fit the first cache, to be read twice."""
_LOG2_E, _LN2_UPPER, _LN2_LOWER = np.float32(1.44269504), np.float32(0.693359375), np.float32(-2.12194440e-4)
_E2, _E3, _E4, _E5, _E6, _E7 = (np.float32(1.0 / math.factorial(k)) for k in range(2, 8))
# tanh(x) / x as a polynomial in x^2 up to 0.36, where Chebyshev's interpolation is good to 3e-9.
_SMALL = np.float32(0.6)
_T1, _T2, _T3, _T4, _T5 = (
    np.float32(c) for c in (-0.33333282834, 0.13331679634, -0.05376798350, 0.02075134909, -0.00584964390)
)
_ONE, _ROUNDER = np.float32(1.0), np.float32(1.5 * 2**23)


@njit(**EXACT)
def _exp_single(x):  # type: ignore[no-untyped-def]
    """exp of a float32 within +-87, good to a unit in the last place, free of branches and so in vectors."""
    power = (x * _LOG2_E + _ROUNDER) - _ROUNDER  # to the nearest whole number
    r = (x - power * _LN2_UPPER) - power * _LN2_LOWER
    total = _ONE + r * (_ONE + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * (_E6 + r * _E7))))))
    return total * float_of_bits(np.uint32(np.uint32(np.int32(power) + np.int32(127)) << np.uint32(23)))


@njit(**EXACT)
def _tanh_near(x):  # type: ignore[no-untyped-def]
    """tanh of a float32 below `_SMALL`."""
    square = x * x
    return x + x * square * (_T1 + square * (_T2 + square * (_T3 + square * (_T4 + square * _T5))))


@njit(**EXACT)
def _tanh_single(x):  # type: ignore[no-untyped-def]
    """tanh of a float32, without branches."""
    near = _tanh_near(x)
    size = min(abs(x), np.float32(40.0))
    far = _ONE - np.float32(2.0) / (_exp_single(size + size) + _ONE)
    return near if abs(x) < _SMALL else (far if x > 0 else -far)


def _exp(x):  # type: ignore[no-untyped-def]
    """exp in the dtype of x: float32 by a polynomial, which the compiler turns into vectors; float64 by the library."""


def _tanh(x):  # type: ignore[no-untyped-def]
    """tanh, as `_exp`."""


def _small_tanh(x):  # type: ignore[no-untyped-def]
    """tanh below `_SMALL`, to the same last bit."""


@overload(_exp)
def _choose_exp(x):  # type: ignore[no-untyped-def]
    return (lambda x: _exp_single(x)) if x == types.float32 else (lambda x: math.exp(x))


@overload(_tanh)
def _choose_tanh(x):  # type: ignore[no-untyped-def]
    return (lambda x: _tanh_single(x)) if x == types.float32 else (lambda x: math.tanh(x))


@overload(_small_tanh)
def _choose_small_tanh(x):  # type: ignore[no-untyped-def]
    return (lambda x: _tanh_near(x)) if x == types.float32 else (lambda x: math.tanh(x))


@njit(**EXACT)
def _sum(places, bounds, lower, total):  # type: ignore[no-untyped-def]
    """total (n,) = sum over tasks. places, bounds: whole fours, as of `rows.locate`; lower (n,) is subtracted."""
    size = len(total)
    total[:] = 0
    for t in range(0, len(bounds), FOUR):
        p, q, r, s = four_at(places, t, size, total)
        a, b, c, d = bounds[t], bounds[t + 1], bounds[t + 2], bounds[t + 3]
        for j in range(size):
            own = lower[j]
            so_far = total[j] + trimmed(p[j] - own, a)
            so_far = so_far + trimmed(q[j] - own, b)
            so_far = so_far + trimmed(r[j] - own, c)
            total[j] = so_far + trimmed(s[j] - own, d)


@njit(**EXACT)
def _elect(places, bounds, lower, majority, mean, total, spare):  # type: ignore[no-untyped-def]
    """total = mean or sum of the entries that carry the elected sign (`election.mean_of_elected`); spare (2, n)."""
    size = len(total)
    kind = total.dtype.type
    zero, one, tied = kind(0), kind(1), kind(majority)
    sign, count = spare[0, :size], spare[1, :size]
    _sum(places, bounds, lower, sign)
    for j in range(size):
        sign[j] = one if sign[j] > zero else (-one if sign[j] < zero else tied)
        total[j] = zero
        count[j] = zero
    for t in range(0, len(bounds), FOUR):
        p, q, r, s = four_at(places, t, size, total)
        a, b, c, d = bounds[t], bounds[t + 1], bounds[t + 2], bounds[t + 3]
        for j in range(size):
            own, side = lower[j], sign[j]
            v, w = max(trimmed(p[j] - own, a) * side, zero), max(trimmed(q[j] - own, b) * side, zero)
            x, y = max(trimmed(r[j] - own, c) * side, zero), max(trimmed(s[j] - own, d) * side, zero)
            total[j] = (((total[j] + v) + w) + x) + y
            voters = count[j]
            voters = voters + one if v > zero else voters
            voters = voters + one if w > zero else voters
            voters = voters + one if x > zero else voters
            count[j] = voters + one if y > zero else voters
    for j in range(size):
        total[j] *= sign[j]
        if mean:
            total[j] /= max(count[j], one)


@njit(**EXACT)
def _agreed(places, bounds, lower, least, reference, threshold, total, count):  # type: ignore[no-untyped-def]
    """total = sum over tasks where at least `least` tasks need the entry (`baselines.consensus`), else 0."""
    size = len(total)
    kind = total.dtype.type
    zero, one, share, limit = kind(0), kind(1), kind(reference), kind(threshold)
    _sum(places, bounds, lower, total)
    count[:] = zero
    for t in range(0, len(bounds), FOUR):
        p, q, r, s = four_at(places, t, size, total)
        a, b, c, d = bounds[t], bounds[t + 1], bounds[t + 2], bounds[t + 3]
        for j in range(size):
            own, joint = lower[j], share * total[j]
            v, w, x, y = trimmed(p[j] - own, a), trimmed(q[j] - own, b), trimmed(r[j] - own, c), trimmed(s[j] - own, d)
            count[j] += (
                (one if abs(v) > abs(v - joint) * limit else zero)
                + (one if abs(w) > abs(w - joint) * limit else zero)
                + (one if abs(x) > abs(x - joint) * limit else zero)
                + (one if abs(y) > abs(y - joint) * limit else zero)
            )
    enough = kind(least)
    for j in range(size):
        total[j] = total[j] if count[j] >= enough else zero


@njit(**EXACT)
def _clamped(size, low, high):  # type: ignore[no-untyped-def]
    return min(max(size, low), high)


@njit(**SUMS)
def _far(angle):  # type: ignore[no-untyped-def]
    """How many are not below `_SMALL`."""
    kind = angle.dtype.type
    count, small = kind(0), kind(_SMALL)
    for j in range(len(angle)):
        count += kind(not abs(angle[j]) < small)
    return count


@njit(**EXACT)
def _changes(task, lower, change):  # type: ignore[no-untyped-def]
    for j in range(len(change)):
        change[j] = task[j] - lower[j]


@njit(**EXACT)
def _scores(places, lower, lows, highs, agreement, angle, scores):  # type: ignore[no-untyped-def]
    """Intra- times inter-task competition of every entry (`baselines.pcb.scores`): scores (T, n) or wider."""
    tasks, size = len(scores), len(lower)
    kind = agreement.dtype.type
    zero, many = kind(0), kind(tasks)
    agreement[:] = zero
    for t in range(tasks):
        _changes(numbers_at(places[t], size, lower), lower, angle)
        score, low, high = scores[t, :size], lows[t], highs[t]
        span = high - low if high > low else kind(math.inf)
        for j in range(size):
            share = (_clamped(abs(angle[j]), low, high) - low) / span
            score[j] = share
            agreement[j] += share if angle[j] > zero else (-share if angle[j] < zero else zero)
    for t in range(tasks):
        score = scores[t, :size]
        for j in range(size):
            score[j] = _exp(score[j] * score[j] * many)
        _changes(numbers_at(places[t], size, lower), lower, angle)
        for j in range(size):
            angle[j] *= agreement[j]
        if _far(angle) == zero:
            for j in range(size):
                score[j] *= _small_tanh(angle[j])
        else:
            for j in range(size):
                score[j] *= _tanh(angle[j])


@njit(**EXACT)
def _compete(places, lower, limits, scores, total, spare):  # type: ignore[no-untyped-def]
    """total = mean of the clamped entries weighted by their scores (`baselines.pcb`); limits (4, T), see `Competition`.

    `spare` is scratch, (2, n) at least.
    """
    tasks, size = len(scores), len(total)
    kind = total.dtype.type
    zero, one = kind(0), kind(1)
    weights, change = spare[0, :size], spare[1, :size]
    _scores(places, lower, limits[0], limits[1], total, change, scores)
    total[:] = zero
    weights[:] = zero
    for t in range(tasks):
        _changes(numbers_at(places[t], size, lower), lower, change)
        score, low, high = scores[t, :size], limits[0, t], limits[1, t]
        least, most = limits[2, t], limits[3, t]
        span = most - least if most > least else kind(math.inf)
        for j in range(size):
            weight = max((score[j] - least) / span, zero)
            weights[j] += weight
            part = weight * _clamped(abs(change[j]), low, high)
            total[j] += part if change[j] > zero else (-part if change[j] < zero else zero)
    for j in range(size):
        total[j] /= weights[j] if weights[j] > zero else one


@njit(**EXACT)
def _thin(places, lower, drops, row, start, enlarged, kept, thinned):  # type: ignore[no-untyped-def]
    """What a drop leaves of every task vector, enlarged: kept (T, n or more), its addresses `thinned` (whole fours)."""
    size = len(lower)
    zero = lower.dtype.type(0)
    for t in range(len(kept)):
        survives, target = drops[t, row, start : start + size], kept[t, :size]
        task = numbers_at(places[t], size, lower)
        for j in range(size):
            target[j] = (task[j] - lower[j]) * enlarged if survives[j] else zero
        thinned[t] = target.ctypes.data


@njit(**SUMS)
def _share(places, bounds, lower, change, products, squares):  # type: ignore[no-untyped-def]
    """Add <change, tau_t> and |tau_t|^2 of a piece to (T,) float64, T whole fours; sums of a piece are narrower."""
    size = len(change)
    kind = change.dtype.type
    for t in range(0, len(bounds), FOUR):
        p, q, r, s = four_at(places, t, size, change)
        a, b, c, d = bounds[t], bounds[t + 1], bounds[t + 2], bounds[t + 3]
        with_p = with_q = with_r = with_s = of_p = of_q = of_r = of_s = kind(0)
        for j in range(size):
            own, merged = lower[j], change[j]
            v, w, x, y = trimmed(p[j] - own, a), trimmed(q[j] - own, b), trimmed(r[j] - own, c), trimmed(s[j] - own, d)
            with_p += v * merged
            with_q += w * merged
            with_r += x * merged
            with_s += y * merged
            of_p += v * v
            of_q += w * w
            of_r += x * x
            of_s += y * y
        products[t] += np.float64(with_p)
        products[t + 1] += np.float64(with_q)
        products[t + 2] += np.float64(with_r)
        products[t + 3] += np.float64(with_s)
        squares[t] += np.float64(of_p)
        squares[t + 1] += np.float64(of_q)
        squares[t + 2] += np.float64(of_r)
        squares[t + 3] += np.float64(of_s)


@njit(**EXACT)
def combine(  # type: ignore[no-untyped-def]
    table, width, bounds, subtract, drops, rule, numbers, limits, own, factor, out, seen, products, squares
):  # fmt: skip
    """out (k, n) = own w_0 + factor times the change of a rule.

    Args:
        table, width, bounds, subtract: as for `neurons.merge_rows`.
        drops: (T, k, n) bool, which entries survive, or empty: DARE. What survives is multiplied by numbers[0].
        rule: a code; numbers: (4,) float64, what it wants to know: [1] the majority of tied votes, or
            how many tasks must agree, [2] and [3] the scale of the reference sum and the threshold of `_agreed`.
        limits: (4, T) of `_compete`, else (0, 0); own, factor: coefficients of w_0 and of the change.
        seen: (T,) thresholds of the task vectors that are compared with out - w_0, or empty; products, squares: (T,)
            float64 of these, added to: <out - w_0, tau_t> and |tau_t|^2.
    """
    tasks, rows = len(bounds), len(out)
    kind = out.dtype.type
    scratch, places = scratch_for(tasks, PIECE, out), np.zeros(fours(tasks) + 2, np.int64)
    kept = np.zeros((tasks if len(drops) else 0, PIECE), out.dtype)
    scores = np.empty((tasks if len(limits) else 0, PIECE), out.dtype)
    spare = np.empty((5, PIECE), out.dtype)
    zeros = scratch[tasks + 1]
    thinned = np.full(len(places), zeros.ctypes.data, np.int64)
    least, compared = padded_to_fours(bounds), padded_to_fours(seen)
    dots, norms = np.zeros((2, len(compared)))
    keeps, times, enlarged = kind(own), kind(factor / tasks if rule == MEAN else factor), kind(numbers[0])
    for i in range(rows):
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            locate(table, i, start, size, subtract, scratch, places)
            base, lower = numbers_at(places[-2], size, out), numbers_at(places[-1], size, out)
            sources, below = places, lower
            if len(drops):
                _thin(places, lower, drops, i, start, enlarged, kept, thinned)
                sources, below = thinned, numbers_at(zeros.ctypes.data, size, out)
            total = spare[4, :size]
            if rule in (SUM, MEAN):
                _sum(sources, least, below, total)
            elif rule in (MEAN_OF_ELECTED, SUM_OF_ELECTED):
                _elect(sources, least, below, numbers[1], rule == MEAN_OF_ELECTED, total, spare)
            elif rule == CONSENSUS:
                _agreed(sources, least, below, numbers[1], numbers[2], numbers[3], total, spare[0, :size])
            else:
                _compete(sources, below, limits, scores, total, spare)
            target = out[i, start : start + size]
            for j in range(size):
                target[j] = keeps * base[j] + times * total[j]
            if len(seen):
                for j in range(size):
                    total[j] = target[j] - base[j]
                _share(places, compared, lower, total, dots, norms)
    for t in range(len(seen)):
        products[t] += dots[t]
        squares[t] += norms[t]


@njit(**SUMS)
def _won(total):  # type: ignore[no-untyped-def]
    """Entries above zero less entries below."""
    kind = total.dtype.type
    won = kind(0)
    for j in range(len(total)):
        won += kind(total[j] > kind(0)) - kind(total[j] < kind(0))
    return int(won)


@njit(**EXACT)
def balance(table, rows, width, bounds, subtract):  # type: ignore[no-untyped-def]
    """Votes won by + less votes won by -, over all entries of a chunk, of the trimmed task vectors."""
    scratch, places = scratch_for(len(bounds), PIECE, bounds), np.zeros(fours(len(bounds)) + 2, np.int64)
    total, least = np.empty(PIECE, bounds.dtype), padded_to_fours(bounds)
    result = 0
    for i in range(rows):
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            locate(table, i, start, size, subtract, scratch, places)
            _sum(places, least, numbers_at(places[-1], size, bounds), total[:size])
            result += _won(total[:size])
    return result


@njit(**SUMS)
def _reach(values, low, high, marks, most):  # type: ignore[no-untyped-def]
    """(entries >= low, entries > high); `marks` as of `_collect`, most (n,) becomes the larger of both."""
    kind = values.dtype.type
    reached = above = kind(0)
    for j in range(len(values)):
        value = values[j]
        reached += kind(value >= low)
        above += kind(value > high)
        marks[j] = np.uint8((value >= low) & (value <= high))
        most[j] = value if value > most[j] else most[j]
    return int(reached), int(above)


@njit(**EXACT)
def _collect(values, marks, found, filled):  # type: ignore[no-untyped-def]
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
            found[filled] = values[8 * k + (lowest_bit(bits) >> 3)]
            filled += 1
            bits &= bits - np.uint64(1)
    return filled


@njit(**EXACT)
def count_scores(  # type: ignore[no-untyped-def]
    table, rows, width, subtract, limits, lows, highs, collects, first, reached, above, most, found, filled
):  # fmt: skip
    """As `magnitudes.count`, of the scores of every task: limits (2, T) as in `_scores`, most (T,) the largest."""
    tasks = len(lows)
    scratch, places = scratch_for(tasks, PIECE, lows), np.zeros(fours(tasks) + 2, np.int64)
    scores, spare = np.empty((tasks, PIECE), lows.dtype), np.empty((2, PIECE), lows.dtype)
    marks, largest = np.empty(PIECE, np.uint8), np.full((tasks, PIECE), -np.inf, lows.dtype)
    done = rows
    for i in range(first, rows):
        for t in range(tasks):
            if collects[t] and filled[t] + width > found.shape[1]:
                done = i
        if done == i:
            break
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            locate(table, i, start, size, subtract, scratch, places)
            lower = numbers_at(places[-1], size, lows)
            _scores(places, lower, limits[0], limits[1], spare[0, :size], spare[1, :size], scores)
            for t in range(tasks):
                score = scores[t, :size]
                at_least, beyond = _reach(score, lows[t], highs[t], marks, largest[t, :size])
                reached[t] += at_least
                above[t] += beyond
                if collects[t] and at_least > beyond:
                    filled[t] = _collect(score, marks, found[t], filled[t])
    for t in range(tasks):
        most[t] = max(most[t], largest[t].max())
    return done
