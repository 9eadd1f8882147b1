"""Merges that treat every entry by itself: their change of a chunk, written in one reading of every byte.

One kernel serves them all, the rule chosen by number: what differs is a few lines on a piece that is in the cache.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from neuromerge.merging.kernels.codes import CONSENSUS, MEAN, MEAN_OF_ELECTED, SUM, SUM_OF_ELECTED
from neuromerge.merging.kernels.magnitudes import collect
from neuromerge.merging.kernels.rows import EXACT, SUMS, change, float_of_bits, widen

PIECE = 512
"""Entries of a row that are worked on at a time."""
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
def _tanh_single(x):  # type: ignore[no-untyped-def]
    """tanh of a float32, without branches."""
    square = x * x
    near = x + x * square * (_T1 + square * (_T2 + square * (_T3 + square * (_T4 + square * _T5))))
    size = min(abs(x), np.float32(40.0))
    far = _ONE - np.float32(2.0) / (_exp_single(size + size) + _ONE)
    return near if abs(x) < _SMALL else (far if x > 0 else -far)


def _exp(x):  # type: ignore[no-untyped-def]
    """exp in the dtype of x: float32 by a polynomial, which the compiler turns into vectors; float64 by the library."""


def _tanh(x):  # type: ignore[no-untyped-def]
    """tanh, as `_exp`."""


@overload(_exp)
def _choose_exp(x):  # type: ignore[no-untyped-def]
    return (lambda x: _exp_single(x)) if x == types.float32 else (lambda x: math.exp(x))


@overload(_tanh)
def _choose_tanh(x):  # type: ignore[no-untyped-def]
    return (lambda x: _tanh_single(x)) if x == types.float32 else (lambda x: math.tanh(x))


@njit(**EXACT)
def _sum(kept, width, total):  # type: ignore[no-untyped-def]
    """total = sum over tasks, in their order: whether a vote is tied must not depend on how vectors are cut."""
    total[:width] = 0
    for t in range(len(kept)):
        task = kept[t]
        for j in range(width):
            total[j] += task[j]


@njit(**EXACT)
def _elect(kept, width, majority, mean, sign, total, count):  # type: ignore[no-untyped-def]
    """total = mean or sum of the entries that carry the elected sign (`election.mean_of_elected`)."""
    kind = total.dtype.type
    zero, one, tied = kind(0), kind(1), kind(majority)
    _sum(kept, width, sign)
    for j in range(width):
        sign[j] = one if sign[j] > zero else (-one if sign[j] < zero else tied)
        total[j] = zero
        count[j] = zero
    for t in range(len(kept)):
        task = kept[t]
        for j in range(width):
            agreeing = max(task[j] * sign[j], zero)
            total[j] += agreeing
            count[j] += one if agreeing > zero else zero
    for j in range(width):
        total[j] *= sign[j]
        if mean:
            total[j] /= max(count[j], one)


@njit(**EXACT)
def _agreed(kept, width, least, reference, threshold, total, count):  # type: ignore[no-untyped-def]
    """total = sum over tasks where at least `least` tasks need the entry (`baselines.consensus`), else 0."""
    kind = total.dtype.type
    zero, one, share, limit = kind(0), kind(1), kind(reference), kind(threshold)
    _sum(kept, width, total)
    count[:width] = 0
    for t in range(len(kept)):
        task = kept[t]
        for j in range(width):
            count[j] += one if abs(task[j]) > abs(task[j] - share * total[j]) * limit else zero
    enough = kind(least)
    for j in range(width):
        total[j] = total[j] if count[j] >= enough else zero


@njit(**EXACT)
def _clamped(size, low, high):  # type: ignore[no-untyped-def]
    return min(max(size, low), high)


@njit(**EXACT)
def _scores(kept, width, lows, highs, agreement, scores):  # type: ignore[no-untyped-def]
    """Intra- times inter-task competition of every entry (`baselines.pcb.scores`): scores (T, n)."""
    tasks = len(kept)
    kind = agreement.dtype.type
    zero = kind(0)
    agreement[:width] = zero
    for t in range(tasks):
        task, score, low, high = kept[t], scores[t], lows[t], highs[t]
        span = high - low if high > low else kind(math.inf)
        for j in range(width):
            size = (_clamped(abs(task[j]), low, high) - low) / span
            score[j] = size
            agreement[j] += size if task[j] > zero else (-size if task[j] < zero else zero)
    many = kind(tasks)
    for t in range(tasks):
        task, score = kept[t], scores[t]
        for j in range(width):
            score[j] = _exp(score[j] * score[j] * many) * _tanh(task[j] * agreement[j])


@njit(**EXACT)
def _compete(kept, width, limits, scores, total, weights):  # type: ignore[no-untyped-def]
    """total = mean of the clamped entries weighted by their scores (`baselines.pcb`); limits (4, T), see `Competition`.

    `weights` is scratch of the size of `total`.
    """
    kind = total.dtype.type
    zero, one = kind(0), kind(1)
    _scores(kept, width, limits[0], limits[1], total, scores)
    total[:width] = zero
    weights[:width] = zero
    for t in range(len(kept)):
        task, score, low, high = kept[t], scores[t], limits[0, t], limits[1, t]
        least, most = limits[2, t], limits[3, t]
        span = most - least if most > least else kind(math.inf)
        for j in range(width):
            weight = max((score[j] - least) / span, zero)
            weights[j] += weight
            size = weight * _clamped(abs(task[j]), low, high)
            total[j] += size if task[j] > zero else (-size if task[j] < zero else zero)
    for j in range(width):
        total[j] /= weights[j] if weights[j] > zero else one


@njit(**EXACT)
def combine(table, width, bounds, subtract, drops, rule, numbers, limits, own, factor, out):  # type: ignore[no-untyped-def]
    """out (k, n) = own w_0 + factor times the change of a rule.

    Args:
        table, width, bounds, subtract: as for `neurons.merge_rows`.
        drops: (T, k, n) bool, which entries survive, or empty: DARE. What survives is multiplied by numbers[0].
        rule: a code; numbers: (4,) float64, what it wants to know: [1] the majority of tied votes, or
            how many tasks must agree, [2] and [3] the scale of the reference sum and the threshold of `_agreed`.
        limits: (4, T) of `_compete`, else (0, 0); own, factor: coefficients of w_0 and of the change.
    """
    tasks, rows = len(bounds), len(out)
    kind = out.dtype.type
    base, kept = np.empty(PIECE, out.dtype), np.empty((tasks, PIECE), out.dtype)
    scores = np.empty((tasks if len(limits) else 0, PIECE), out.dtype)
    spare = np.empty((3, PIECE), out.dtype)
    keeps, times, enlarged = kind(own), kind(factor / tasks if rule == MEAN else factor), kind(numbers[0])
    for i in range(rows):
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            widen(table, tasks, i, start, base[:size])
            for t in range(tasks):
                piece = kept[t, :size]
                if len(drops):
                    change(table, t, i, start, base, kind(0), subtract, piece)
                    survives = drops[t, i, start : start + size]
                    for j in range(size):
                        value = piece[j] * enlarged if survives[j] else kind(0)
                        piece[j] = value if abs(value) >= bounds[t] else kind(0)
                else:
                    change(table, t, i, start, base, bounds[t], subtract, piece)
            total = spare[0]
            if rule in (SUM, MEAN):
                _sum(kept, size, total)
            elif rule in (MEAN_OF_ELECTED, SUM_OF_ELECTED):
                _elect(kept, size, numbers[1], rule == MEAN_OF_ELECTED, spare[1], total, spare[2])
            elif rule == CONSENSUS:
                _agreed(kept, size, numbers[1], numbers[2], numbers[3], total, spare[1])
            else:
                _compete(kept, size, limits, scores, total, spare[1])
            target = out[i, start : start + size]
            for j in range(size):
                target[j] = keeps * base[j] + times * total[j]


@njit(**SUMS)
def balance(table, rows, width, bounds, subtract):  # type: ignore[no-untyped-def]
    """Votes won by + less votes won by -, over all entries of a chunk, of the trimmed task vectors."""
    tasks = len(bounds)
    base, kept = np.empty(PIECE, bounds.dtype), np.empty((tasks, PIECE), bounds.dtype)
    total = np.empty(PIECE, bounds.dtype)
    kind = bounds.dtype.type
    result = 0
    for i in range(rows):
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            widen(table, tasks, i, start, base[:size])
            for t in range(tasks):
                change(table, t, i, start, base, bounds[t], subtract, kept[t, :size])
            _sum(kept, size, total)
            won = kind(0)
            for j in range(size):
                won += kind(total[j] > kind(0)) - kind(total[j] < kind(0))
            result += int(won)
    return result


@njit(**SUMS)
def _reach(values, low, high):  # type: ignore[no-untyped-def]
    """(entries >= low, entries > high, the largest)."""
    kind = values.dtype.type
    reached = above = kind(0)
    most = values[0]
    for j in range(len(values)):
        reached += kind(values[j] >= low)
        above += kind(values[j] > high)
        most = max(most, values[j])
    return int(reached), int(above), most


@njit(**EXACT)
def count_scores(  # type: ignore[no-untyped-def]
    table, rows, width, subtract, limits, lows, highs, collects, first, reached, above, most, found, filled
):  # fmt: skip
    """As `magnitudes.count`, of the scores of every task: limits (2, T) as in `_scores`, most (T,) the largest."""
    tasks = len(lows)
    base, kept = np.empty(PIECE, lows.dtype), np.empty((tasks, PIECE), lows.dtype)
    scores, agreement = np.empty((tasks, PIECE), lows.dtype), np.empty(PIECE, lows.dtype)
    marks = np.empty(PIECE, np.uint8)
    for i in range(first, rows):
        for t in range(tasks):
            if collects[t] and filled[t] + width > found.shape[1] - 1:
                return i
        for start in range(0, width, PIECE):
            size = min(PIECE, width - start)
            widen(table, tasks, i, start, base[:size])
            for t in range(tasks):
                change(table, t, i, start, base, lows.dtype.type(0), subtract, kept[t, :size])
            _scores(kept, size, limits[0], limits[1], agreement, scores)
            for t in range(tasks):
                at_least, beyond, largest = _reach(scores[t, :size], lows[t], highs[t])
                reached[t] += at_least
                above[t] += beyond
                most[t] = max(most[t], largest)
                if collects[t] and at_least > beyond:
                    filled[t] = collect(scores[t, :size], lows[t], highs[t], marks, found[t], filled[t])
    return rows
