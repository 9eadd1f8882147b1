"""The vote of every neuron: a small symmetric eigenproblem (published), or a small solve (balanced). float64.

The mathematics is that of `neuromerge.merging.subspaces.orthogonal_vote`; here each neuron is a loop of its own,
because T x T matrices are far too small for a library call each.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neuromerge.merging.election import TIE_RELATIVE
from neuromerge.merging.kernels.rows import EXACT
from neuromerge.merging.subspaces import ILL_EIGENGAP, ILL_ENTRY, ILL_MARGIN, RANK_RELATIVE, ZERO_VOTE

_EPSILON = 2.0**-52
_ROUNDS = 60  # of QL per eigenvalue: two are usual
_TINY = 2.0**-1022


@njit(**EXACT)
def _tridiagonalise(matrix, vectors, diagonal, beside, reflector, product):  # type: ignore[no-untyped-def]
    """Householder's reduction: matrix = vectors^T tridiagonal vectors. `matrix` (T, T) is used up."""
    size = len(matrix)
    vectors[:] = 0.0
    for i in range(size):
        vectors[i, i] = 1.0
    for k in range(size - 1):
        rest = 0.0
        for i in range(k + 2, size):
            rest += matrix[k, i] * matrix[k, i]
        head = matrix[k, k + 1]
        diagonal[k], beside[k] = matrix[k, k], head
        if rest == 0.0:
            continue
        length = -math.copysign(math.sqrt(head * head + rest), head)
        beside[k] = length
        for i in range(k + 1, size):
            reflector[i] = matrix[k, i]
        reflector[k + 1] = head - length
        factor = 1.0 / (length * (length - head))  # 2 / |reflector|^2
        along = 0.0
        for i in range(k + 1, size):
            total = 0.0
            for j in range(k + 1, size):
                total += matrix[i, j] * reflector[j]
            product[i] = factor * total
            along += product[i] * reflector[i]
        along *= 0.5 * factor
        for i in range(k + 1, size):
            product[i] -= along * reflector[i]
        for i in range(k + 1, size):
            for j in range(k + 1, size):
                matrix[i, j] -= reflector[i] * product[j] + product[i] * reflector[j]
        product[:] = 0.0
        for i in range(k + 1, size):
            for j in range(size):
                product[j] += reflector[i] * vectors[i, j]
        for i in range(k + 1, size):
            for j in range(size):
                vectors[i, j] -= factor * reflector[i] * product[j]
    diagonal[size - 1], beside[size - 1] = matrix[size - 1, size - 1], 0.0


@njit(**EXACT)
def _diagonalise(vectors, diagonal, beside):  # type: ignore[no-untyped-def]
    """Implicit QL on a tridiagonal matrix; the rows of `vectors` become the eigenvectors."""
    size = len(diagonal)
    for low in range(size):
        for _ in range(_ROUNDS):
            high = low
            while high < size - 1:
                if abs(beside[high]) <= _EPSILON * (abs(diagonal[high]) + abs(diagonal[high + 1])):
                    break
                high += 1
            if high == low:
                break
            shift = (diagonal[low + 1] - diagonal[low]) / (2.0 * beside[low])
            length = math.sqrt(shift * shift + 1.0)
            g = diagonal[high] - diagonal[low] + beside[low] / (shift + math.copysign(length, shift))
            sine, cosine, carried = 1.0, 1.0, 0.0
            whole = True
            for i in range(high - 1, low - 1, -1):
                f, b = sine * beside[i], cosine * beside[i]
                length = math.sqrt(f * f + g * g)
                beside[i + 1] = length
                if length == 0.0:  # the matrix falls apart here
                    diagonal[i + 1] -= carried
                    beside[high] = 0.0
                    whole = False
                    break
                sine, cosine = f / length, g / length
                g = diagonal[i + 1] - carried
                turned = (diagonal[i] - g) * sine + 2.0 * cosine * b
                carried = sine * turned
                diagonal[i + 1] = g + carried
                g = cosine * turned - b
                for j in range(size):
                    upper, lower = vectors[i, j], vectors[i + 1, j]
                    vectors[i + 1, j] = sine * upper + cosine * lower
                    vectors[i, j] = cosine * upper - sine * lower
            if whole:
                diagonal[low] -= carried
                beside[low] = g
                beside[high] = 0.0


@njit(**EXACT)
def _sort(vectors, values):  # type: ignore[no-untyped-def]
    """Largest eigenvalue first."""
    for i in range(1, len(values)):
        j = i
        while j > 0 and values[j - 1] < values[j]:
            values[j - 1], values[j] = values[j], values[j - 1]
            for k in range(len(values)):
                vectors[j - 1, k], vectors[j, k] = vectors[j, k], vectors[j - 1, k]
            j -= 1


@njit(**EXACT)
def scratch(tasks):  # type: ignore[no-untyped-def]
    """What the vote of one neuron needs, to be made once for many of them."""
    return np.empty((2 * tasks + 4, tasks))


@njit(**EXACT)
def eigen(gram, space):  # type: ignore[no-untyped-def]
    """(eigenvalues (T,) falling, eigenvectors in rows (T, T)) of a symmetric matrix; views of `space`."""
    tasks = len(gram)
    matrix, vectors, values = space[:tasks], space[tasks : 2 * tasks], space[2 * tasks]
    trace = 0.0
    for t in range(tasks):
        trace += gram[t, t]
    # Squares of what is far from 1 would overflow or vanish.
    scale = 1.0 / trace if trace > _TINY else 1.0
    for s in range(tasks):
        for t in range(tasks):
            matrix[s, t] = gram[s, t] * scale
    _tridiagonalise(matrix, vectors, values, space[2 * tasks + 1], space[2 * tasks + 2], space[2 * tasks + 3])
    _diagonalise(vectors, values, space[2 * tasks + 1])
    _sort(vectors, values)
    for t in range(tasks):
        values[t] /= scale
    return values, vectors


@njit(**EXACT)
def published(gram, space, alpha):  # type: ignore[no-untyped-def]
    """The vote in the singular directions of one neuron: fills alpha (T,); returns (margin, weight, ill-conditioned).

    Margin and weight as in `OrthogonalVote`.
    """
    tasks = len(gram)
    values, vectors = eigen(gram, space)
    alpha[:] = 0.0
    largest = max(values[0], 0.0)
    margins = weight = 0.0
    ill = False
    for r in range(tasks):
        energy = max(values[r], 0.0)
        if not energy > RANK_RELATIVE * largest:
            break  # so are all that follow
        if r and max(values[r - 1], 0.0) - energy < ILL_EIGENGAP * largest:
            ill = True
        total = magnitude = 0.0
        for t in range(tasks):
            size = abs(vectors[r, t])
            if size > ZERO_VOTE:
                total += vectors[r, t]
                magnitude += size
                if size < ILL_ENTRY:
                    ill = True
        margin = abs(total) / max(magnitude, _TINY)
        if margin < ILL_MARGIN:
            ill = True
        singular = math.sqrt(energy)
        margins += margin * singular
        weight += singular
        if abs(total) <= TIE_RELATIVE * magnitude:
            continue
        agreeing, voters = 0.0, 0
        for t in range(tasks):
            if abs(vectors[r, t]) > ZERO_VOTE and (vectors[r, t] > 0.0) == (total > 0.0):
                agreeing += vectors[r, t]
                voters += 1
        for t in range(tasks):
            if abs(vectors[r, t]) > ZERO_VOTE:
                alpha[t] += vectors[r, t] * (agreeing / voters)
    return margins, weight, ill


@njit(**EXACT)
def balanced(gram, ridge, space, alpha):  # type: ignore[no-untyped-def]
    """alpha = (G + ridge mean(diag G) I)^-1 diag(G) of one neuron, by Cholesky's factorisation; 0 where G is 0."""
    tasks = len(gram)
    factor = space[:tasks]
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
def published_votes(gram, alpha, margin, weight, ill):  # type: ignore[no-untyped-def]
    """`published` of k neurons: gram (k, T, T); the rest is filled, as in `OrthogonalVote`."""
    space = scratch(gram.shape[1])
    for i in range(len(gram)):
        margin[i], weight[i], ill[i] = published(gram[i], space, alpha[i])


@njit(**EXACT)
def balanced_votes(gram, ridge, alpha):  # type: ignore[no-untyped-def]
    """`balanced` of k neurons: gram (k, T, T) -> alpha (k, T)."""
    space = scratch(gram.shape[1])
    for i in range(len(gram)):
        balanced(gram[i], ridge, space, alpha[i])
