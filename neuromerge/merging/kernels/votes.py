"""The vote of every neuron: a small symmetric eigenproblem (published), or a small solve (balanced). float64.

The mathematics is that of `neuromerge.merging.subspaces.orthogonal_vote`. T x T matrices are far too small for a
library call each; here as many neurons as there are lanes go side by side. So Jacobi's method: it takes more arithmetic
than others, but the same steps for every matrix, and it loses no digit of small eigenvalues.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neuromerge.merging.election import TIE_RELATIVE
from neuromerge.merging.kernels.lanes import LANES, bits, load, root, spread, store, where
from neuromerge.merging.kernels.rows import EXACT
from neuromerge.merging.subspaces import ILL_EIGENGAP, ILL_ENTRY, ILL_MARGIN, RANK_RELATIVE, ZERO_VOTE

_EPSILON = 2.0**-52
_SWEEPS = 40  # of Jacobi's method: five are usual
_NONE = 2.0**-56  # beside a trace of 1: what is left off the diagonal when the diagonal holds the eigenvalues
_TINY = 2.0**-1022


@njit(**EXACT)
def scratch(tasks):  # type: ignore[no-untyped-def]
    """What the vote of one neuron, or of `LANES` of them, needs, to be made once for many: (2T + 1, T, LANES)."""
    return np.empty((2 * tasks + 1, tasks, LANES))


@njit(**EXACT)
def _rotation(own, other, between):  # type: ignore[no-untyped-def]
    """(cosine, sine, tangent) of the angle that turns a 2 x 2 matrix diagonal; no turn where it is."""
    zero, one = spread(0.0), spread(1.0)
    gap, twice = other - own, between + between
    length = abs(gap) + root(gap * gap + twice * twice)
    turns = length > zero
    tangent = where(gap >= zero, twice, zero - twice) / where(turns, length, one)
    cosine = one / root(one + tangent * tangent)
    return cosine, cosine * tangent, tangent


@njit(**EXACT)
def _turn(cosine, sine, first, second, like):  # type: ignore[no-untyped-def]
    """Turn two numbers of every neuron, at two addresses, by an angle."""
    a, b = load(first, 0, like), load(second, 0, like)
    store(cosine * a - sine * b, first, 0)
    store(sine * a + cosine * b, second, 0)


@njit(**EXACT)
def _diagonalise(matrix, vectors, tasks, like):  # type: ignore[no-untyped-def]
    """Cyclic Jacobi rotations of symmetric matrices, of which the upper triangle is kept.

    matrix, vectors: addresses of (T, T, LANES) float64. The diagonal becomes the eigenvalues, in no order; the rows of
    `vectors` the eigenvectors.
    """
    step = LANES * like.itemsize
    line = tasks * step
    for p in range(tasks):
        for q in range(tasks):
            store(spread(1.0 if p == q else 0.0), vectors + p * line + q * step, 0)
    none = spread(_NONE)
    for _ in range(_SWEEPS):
        rotated = np.uint64(0)
        for p in range(tasks - 1):
            for q in range(p + 1, tasks):
                place_p, place_q, crossing = matrix + p * line, matrix + q * line, matrix + p * line + q * step
                between = load(crossing, 0, like)
                off = bits(abs(between) > none)
                rotated |= off
                if off == 0:
                    continue
                own, other = load(place_p + p * step, 0, like), load(place_q + q * step, 0, like)
                cosine, sine, tangent = _rotation(own, other, between)
                store(own - tangent * between, place_p + p * step, 0)
                store(other + tangent * between, place_q + q * step, 0)
                store(between - between, crossing, 0)
                for k in range(p):
                    row = matrix + k * line
                    _turn(cosine, sine, row + p * step, row + q * step, like)
                for k in range(p + 1, q):
                    _turn(cosine, sine, place_p + k * step, matrix + k * line + q * step, like)
                for k in range(q + 1, tasks):
                    _turn(cosine, sine, place_p + k * step, place_q + k * step, like)
                for k in range(0, line, step):
                    _turn(cosine, sine, vectors + p * line + k, vectors + q * line + k, like)
        if rotated == 0:
            break


@njit(**EXACT)
def _elect(energy, vectors, weights, tasks, largest, like):  # type: ignore[no-untyped-def]
    """The vote in one singular direction: added to the weights (T, LANES); (margin, singular value, ill-conditioned).

    Of every neuron where the direction is none all three are 0. All but `largest` and numbers are addresses.
    """
    zero, one, step = spread(0.0), spread(1.0), LANES * like.itemsize
    value = load(energy, 0, like)
    lives = value > spread(RANK_RELATIVE) * largest
    singular = root(where(lives, value, zero))
    total = magnitude = zero
    ill = zero > zero
    for t in range(tasks):
        entry = load(vectors + t * step, 0, like)
        size = abs(entry)
        votes = size > spread(ZERO_VOTE)
        total, magnitude = total + where(votes, entry, zero), magnitude + where(votes, size, zero)
        ill = ill | (votes & (spread(ILL_ENTRY) > size))
    margin = abs(total) / where(magnitude > zero, magnitude, one)
    ill = (ill | (spread(ILL_MARGIN) > margin)) & lives
    sign = where(total > zero, one, zero - one)
    sign = where(lives & (abs(total) > spread(TIE_RELATIVE) * magnitude), sign, zero)
    agreeing = voters = zero
    for t in range(tasks):
        along = load(vectors + t * step, 0, like) * sign
        agrees = along > spread(ZERO_VOTE)
        agreeing, voters = agreeing + where(agrees, along, zero), voters + where(agrees, one, zero)
    elected = sign * agreeing / where(voters > zero, voters, one)
    for t in range(tasks):
        entry = load(vectors + t * step, 0, like)
        entry = where(abs(entry) > spread(ZERO_VOTE), entry, zero)
        store(load(weights + t * step, 0, like) + entry * elected, weights + t * step, 0)
    return margin * singular, singular, ill


@njit(**EXACT)
def _crowded(matrix, largest, tasks, like):  # type: ignore[no-untyped-def]
    """Which neurons have two eigenvalues that rounding could take for each other."""
    least, near = spread(RANK_RELATIVE) * largest, spread(ILL_EIGENGAP) * largest
    step = (tasks + 1) * LANES * like.itemsize
    crowded = least > least
    for p in range(tasks):
        one = load(matrix + p * step, 0, like)
        for q in range(p):
            other = load(matrix + q * step, 0, like)
            crowded = crowded | ((one > least) & (other > least) & (near > abs(one - other)))
    return crowded


@njit(**EXACT)
def published(gram, space, alpha, margin, weight, ill):  # type: ignore[no-untyped-def]
    """The vote in the singular directions of at most `LANES` neurons: gram (k, T, T); fills the rest.

    As in `OrthogonalVote`: alpha (k, T), margin (k,), weight (k,), ill (k,). `space` is of `scratch`.
    """
    count, tasks = alpha.shape
    matrices, weights, sizes = space[:tasks], space[2 * tasks], np.ones(LANES)
    for i in range(LANES):
        trace = 0.0
        if i < count:
            for t in range(tasks):
                trace += gram[i, t, t]
        # Squares of what is far from 1 would overflow or vanish. A lane without a neuron holds zeros.
        scale = 1.0 / trace if trace > _TINY else (1.0 if i < count else 0.0)
        sizes[i] = math.sqrt(trace) if trace > _TINY else 1.0
        for s in range(tasks):
            for t in range(s, tasks):
                matrices[s, t, i] = gram[min(i, count - 1), s, t] * scale
    weights[:] = 0.0
    step = LANES * space.itemsize
    matrix, vectors, summed = space.ctypes.data, space[tasks:].ctypes.data, weights.ctypes.data
    _diagonalise(matrix, vectors, tasks, space)
    zero = spread(0.0)
    largest = margins = singulars = zero
    for t in range(tasks):
        value = load(matrix + t * (tasks + 1) * step, 0, space)
        largest = where(value > largest, value, largest)
    arbitrary = _crowded(matrix, largest, tasks, space)
    for r in range(tasks):
        voted, singular, hangs = _elect(
            matrix + r * (tasks + 1) * step, vectors + r * tasks * step, summed, tasks, largest, space
        )
        margins, singulars, arbitrary = margins + voted, singulars + singular, arbitrary | hangs
    marks = bits(arbitrary)
    store(margins, matrix, 0)
    store(singulars, matrix + step, 0)
    sums = space.ravel()
    for i in range(count):
        margin[i], weight[i] = sums[i] * sizes[i], sums[LANES + i] * sizes[i]
        ill[i] = (marks >> np.uint64(i)) & np.uint64(1) != 0
        for t in range(tasks):
            alpha[i, t] = weights[t, i]


@njit(**EXACT)
def balanced(gram, ridge, space, alpha):  # type: ignore[no-untyped-def]
    """alpha = (G + ridge mean(diag G) I)^-1 diag(G) of one neuron, by Cholesky's factorisation; 0 where G is 0."""
    tasks = len(gram)
    factor = space.ravel()[: tasks * tasks].reshape((tasks, tasks))
    mean = 0.0
    for t in range(tasks):
        mean += gram[t, t] / tasks
    alpha[:] = 0.0
    if not mean > 0.0:
        return
    for s in range(tasks):
        for t in range(s + 1):
            total = gram[s, t] / mean
            for k in range(t):
                total -= factor[s, k] * factor[t, k]
            # Rounding can bring a pivot down to nothing only where ridge is nothing beside it.
            factor[s, t] = total / factor[t, t] if s != t else math.sqrt(max(total + ridge, _EPSILON))
    for s in range(tasks):
        total = gram[s, s] / mean
        for k in range(s):
            total -= factor[s, k] * alpha[k]
        alpha[s] = total / factor[s, s]
    for s in range(tasks - 1, -1, -1):
        total = alpha[s]
        for k in range(s + 1, tasks):
            total -= factor[k, s] * alpha[k]
        alpha[s] = total / factor[s, s]


@njit(**EXACT)
def vote(gram, ridge, space, alpha, margin, weight, ill):  # type: ignore[no-untyped-def]
    """`published`, or with a ridge of 0 and more `balanced`, of at most `LANES` neurons."""
    if ridge < 0.0:
        published(gram, space, alpha, margin, weight, ill)
        return
    for i in range(len(gram)):
        balanced(gram[i], ridge, space, alpha[i])
    margin[:] = 0.0
    weight[:] = 0.0
    ill[:] = False


@njit(**EXACT)
def votes(gram, ridge, alpha, margin, weight, ill):  # type: ignore[no-untyped-def]
    """`vote` of any number of neurons."""
    space = scratch(gram.shape[1])
    for start in range(0, len(gram), LANES):
        some = slice(start, start + LANES)
        vote(gram[some], ridge, space, alpha[some], margin[some], weight[some], ill[some])
