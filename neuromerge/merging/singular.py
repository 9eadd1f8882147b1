"""Singular vectors and polar factors of one matrix, by eigenvectors of the Gram matrix of its shorter side.

That is several times faster than an SVD where one side is longer. float64 matrices get the SVD itself. For matrices of
float32 squaring costs half of the digits of the Gram matrix, so there are two ways:

    exact       Gram matrix and eigenvectors in float64: all directions but those below about 1e-6 of the largest,
                which are rounding noise of float32 and are dropped.
    corrected   eigenvectors in float32, half the price, and one step of first-order perturbation theory. The step tells
                how large it is, and leaves its square: where that is not small, the exact way is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuromerge.errors import CheckpointError

_NULL = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Singular values at most this share of the largest are none: their singular vectors are arbitrary."""
_NULL_DERIVED = 1e-7  # the same for float64 matrices that were made from float32: singular vectors keep more digits
_GRAM_LEAF = 192  # rows from which on a Gram matrix is computed by halves
_SMALL = 128  # matrices with a side shorter than this are cheap either way, and go the exact one
_FEW = 4  # as many triplets as 1 / _FEW of the shorter side are found faster by correction
_LEVEL = 1 / 50  # eigenvalues that differ by no more: the Gram matrix has lost no digit of what float32 has to give
_WEAK = 2e-2  # singular values below this share of the largest are lost in a float32 Gram matrix
_LARGEST_CORRECTION = 1e-3  # what a correction of first order leaves is its square
_HOPELESS = 1e-5  # eigenvalues as close as this, relative to the largest, would need a larger one

Triplets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""u (m, k), s (k,) falling, v (n, k), float64: the matrix (m, n) is about u @ diag(s) @ v.T."""


def leading_triplets(matrix: torch.Tensor, rank: int | None = None, precision: torch.dtype | None = None) -> Triplets:
    """The singular triplets of the largest singular values, null ones left out, in float64.

    Args:
        matrix: (m, n), float32 or float64.
        rank: how many at most; all of them by default.
        precision: float32 or float64, the precision of what the matrix was made from; its own dtype by default.
    """
    precision = precision or matrix.dtype
    rank = min(matrix.shape) if rank is None else rank
    if matrix.shape[0] > matrix.shape[1]:
        v, s, u = _triplets_of_wide(matrix.mT, rank, precision)
    else:
        u, s, v = _triplets_of_wide(matrix, rank, precision)
    count = _significant(s, _null(matrix, precision))
    return u[:, :count], s[:count], v[:, :count]


def split_triplets(matrix: torch.Tensor, rank: int) -> tuple[Triplets, torch.Tensor]:
    """The leading triplets of a matrix (m, n), m <= n, and a basis (m, m - k) of what their left vectors leave over."""
    _scale(matrix)
    wide = matrix.double()
    exact = matrix.dtype == torch.float64
    basis = torch.linalg.svd(wide, full_matrices=False)[0] if exact else _eigenvectors(lower_gram(wide))
    u, s, v = _along(basis[:, :rank], wide)
    count = _significant(s, _null(matrix, matrix.dtype))
    return (u[:, :count], s[:count], v[:, :count]), basis[:, count:]


def leading_triplets_outside(matrix: torch.Tensor, space: torch.Tensor, rank: int) -> Triplets:
    """`leading_triplets` of (1 - space space^T) matrix, which is not formed where float32 will do.

    Args:
        matrix: (m, n), m >= n.
        space: (m, k) float64, orthonormal columns.
    """
    scale = _scale(matrix)
    matrix = matrix / scale
    single = space.to(matrix.dtype)
    inside = single.mT @ matrix
    if matrix.dtype == torch.float32 and _few(rank, matrix.shape[1]):
        tall = matrix.double()

        def outside(basis: torch.Tensor) -> torch.Tensor:
            image = tall @ basis
            return image - space @ (space.mT @ image)

        gram = lower_gram(matrix.mT) - lower_gram(inside.mT)
        v = _corrected_eigenvectors(gram, rank, lambda basis: tall.mT @ outside(basis))
        if v is not None:
            image = matrix @ v.float()
            u = (image - single @ (single.mT @ image)).double()
            s = torch.linalg.vector_norm(u, dim=0)
            return u / s, s * scale.double(), v
    u, s, v = leading_triplets(matrix - single @ inside, rank)
    return u, s * scale.double(), v


def polar_factor(matrix: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """The nearest matrix whose singular values are all 1: U V^T of the SVD. (m, n) -> (m, n) of dtype `precision`.

    Null directions, where that factor is arbitrary, are left out; `precision` as in `leading_triplets`.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return polar_factor(matrix.mT, precision).mT
    scale = _scale(matrix)
    if precision == torch.float32 and len(matrix) >= _SMALL:
        factor = _corrected_polar_factor(matrix / scale, _null(matrix, precision))
        if factor is not None:
            return factor
    u, _, v = leading_triplets(matrix, precision=precision)
    return u.to(precision) @ v.to(precision).mT


def polar_factor_beside(space: torch.Tensor, more: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """The polar factor (n, k + l) of [space, more]: `space` (n, k) orthonormal, `more` (n, l), float64.

    With more = space M + Z R and M = Q T, both by QR, all but the polar factor of [[1, T], [0, R]] of 2 l rows stays
    as it is: [space, more] = space (1 - Q Q^T) [1, 0] + [space Q, Z] [[1, T], [0, R]] [[Q^T, 0], [0, 1]].
    """
    shared, own = space.shape[1], more.shape[1]
    if precision == torch.float64 or own > shared:
        return polar_factor(torch.cat([space, more], dim=1), precision)
    q, t = torch.linalg.qr(space.mT @ more)
    z, r = torch.linalg.qr(more - space @ (q @ t))
    one = torch.eye(own, dtype=t.dtype, device=t.device)
    core = torch.cat([torch.cat([one, t], dim=1), torch.cat([torch.zeros_like(r), r], dim=1)])
    turned = polar_factor(core, precision)
    turned.diagonal()[:own].sub_(1.0)
    change = torch.cat([turned[:, :own] @ q.mT.to(precision), turned[:, own:]], dim=1)
    basis = torch.cat([space @ q, z], dim=1).to(precision)
    factor = basis @ change
    factor[:, :shared] += space.to(precision)
    return factor


def _scale(matrix: torch.Tensor) -> torch.Tensor:
    """The power of two that brings the largest entry between 1 and 2, so that squares stay in the range of float32.

    1 for zeros. Raises CheckpointError where adding task vectors up overflowed: such a matrix has no singular values.
    """
    largest = matrix.abs().amax() if matrix.numel() else matrix.new_zeros(())
    if not bool(torch.isfinite(largest)):  # the largest of numbers and NaN is NaN
        raise CheckpointError(
            "The changes of these experts add up to more than their number format can hold, so they have no singular "
            "values. Check that the experts were trained from this base."
        )
    return torch.where(largest > 0, torch.exp2(torch.floor(torch.log2(largest))), 1.0)


def _triplets_of_wide(matrix: torch.Tensor, rank: int, precision: torch.dtype) -> Triplets:
    """`rank` leading triplets of a matrix with no more rows than columns, null ones too, in float64."""
    scale = _scale(matrix)
    wide = matrix.double()
    if precision == torch.float64:
        u, s, vh = torch.linalg.svd(wide, full_matrices=False)
        return u[:, :rank], s[:rank], vh[:rank].mT
    if _few(rank, len(wide)):
        gram = lower_gram((matrix / scale).float())
        square = scale.double() ** 2
        u = _corrected_eigenvectors(gram, rank, lambda basis: wide @ (wide.mT @ (basis / square)))
        if u is not None:
            return _along(u, wide)
    return _along(_eigenvectors(lower_gram(wide))[:, :rank], wide)


def _few(rank: int, size: int) -> bool:
    """Whether so many of `size` directions are found faster by correction."""
    return size >= _SMALL and 0 < rank <= size // _FEW


def _along(u: torch.Tensor, wide: torch.Tensor) -> Triplets:
    """The triplets of a matrix, given its left singular vectors."""
    projected = u.mT @ wide
    s = torch.linalg.vector_norm(projected, dim=1)
    return u, s, (projected / torch.where(s > 0, s, 1.0).unsqueeze(1)).mT


def _eigenvectors(gram: torch.Tensor) -> torch.Tensor:
    """All eigenvectors (m, m), strongest first, of a symmetric matrix given by its lower triangle."""
    return torch.linalg.eigh(gram, UPLO="L")[1].flip(1)  # eigh sorts upwards


def _corrected_eigenvectors(
    gram: torch.Tensor, rank: int, product: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor | None:
    """The `rank` strongest eigenvectors, strongest first, float64; None where float32 does not tell them apart.

    Args:
        gram: (m, m) float32, symmetric, given by its lower triangle.
        product: (m, k) -> the same matrix times that, in float64.
    """
    values, vectors = torch.linalg.eigh(gram, UPLO="L")
    if bool(values[-rank] - values[-rank - 1] < _HOPELESS * values[-1]):
        return None
    others, basis = vectors[:, :-rank], vectors[:, -rank:].double()
    image = product(basis)
    values_here, turn = torch.linalg.eigh(basis.mT @ image)
    basis, image = basis @ turn, image @ turn
    # To first order a vector lacks, of every other eigenvector, residual / (difference of the eigenvalues).
    residual = (image - basis * values_here).float()
    missing = (others.mT @ residual) / (values_here.float() - values[:-rank].unsqueeze(1))
    if not bool(missing.abs().amax() <= _LARGEST_CORRECTION):  # nor where it is not a number
        return None
    basis = basis + others @ missing
    # float32 vectors are orthonormal to 1e-6: a Newton step squares that.
    return (1.5 * basis - basis @ (0.5 * (basis.mT @ basis))).flip(1)


def _symmetric(lower: torch.Tensor) -> torch.Tensor:
    """The whole of a symmetric matrix that is given by its lower triangle."""
    return lower.tril() + lower.tril(-1).mT


def _null(matrix: torch.Tensor, precision: torch.dtype) -> float:
    """The share of the largest singular value up to which those of a matrix are none; see `leading_triplets`."""
    return _NULL[precision] if matrix.dtype == precision else _NULL_DERIVED


def _significant(s: torch.Tensor, null: float) -> int:
    """How many of the falling singular values are above rounding."""
    return int((s > null * s[0]).sum()) if len(s) else 0


def lower_gram(matrix: torch.Tensor) -> torch.Tensor:
    """matrix @ matrix.T, of which only the lower triangle is promised: half of the products are never formed."""
    out = matrix.new_empty(len(matrix), len(matrix))
    _fill_lower_gram(matrix, out)
    return out


def _fill_lower_gram(matrix: torch.Tensor, out: torch.Tensor) -> None:
    rows = len(matrix)
    if rows <= _GRAM_LEAF:
        torch.mm(matrix, matrix.mT, out=out)
        return
    half = rows // 2
    _fill_lower_gram(matrix[:half], out[:half, :half])
    torch.mm(matrix[half:], matrix[:half].mT, out=out[half:, :half])
    _fill_lower_gram(matrix[half:], out[half:, half:])


def _corrected_polar_factor(given: torch.Tensor, null: float) -> torch.Tensor | None:
    """The polar factor (m, n) of a matrix, m <= n, in float32; None where that does not tell its directions apart.

    With U from the Gram matrix in float32, U^T matrix = D V^T: D is the norms of its rows, and U and V are orthonormal
    but for 1 + P = U^T U and 1 + Q = V^T V with small P and Q. To first order the polar factor is U (1 - K) V^T,
    K_ij = (P + Q)_ij D_j / (D_i + D_j): that of D (1 + Q) D is the solution of a Sylvester equation with D, and what P
    does to both sides adds up to the same form.
    """
    matrix = given.float()
    values, u = torch.linalg.eigh(lower_gram(matrix), UPLO="L")
    if bool(values[0] > _LEVEL * values[-1]):
        return (u * values.rsqrt()) @ u.mT @ matrix
    if bool(values[len(values) // 2] < _WEAK**2 * values[-1]):
        return None
    projected = u.mT @ matrix
    norms = torch.linalg.vector_norm(projected, dim=1)
    weak = norms < _WEAK * norms.amax()
    v = projected.div_(norms.clamp_min(torch.finfo(norms.dtype).tiny).unsqueeze(1))
    if bool(weak.any()):
        u, norms, v = _weak_resolved(given, u, norms, v, weak, null)
    overlaps = lower_gram(v) + lower_gram(u.mT)
    overlaps.diagonal().sub_(2.0)
    overlaps = _symmetric(overlaps)
    if not bool(overlaps.abs().amax() <= _LARGEST_CORRECTION):
        return None
    return (u - u @ overlaps.mul_(norms / (norms.unsqueeze(1) + norms))) @ v


def _weak_resolved(
    matrix: torch.Tensor, u: torch.Tensor, norms: torch.Tensor, v: torch.Tensor, weak: torch.Tensor, null: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left vectors, norms and right vectors (rows), the `weak` (m,) ones told apart in float64, null ones left out.

    In float32 the weak are mixtures of each other, and lean over to the strong by as many digits as they are weaker.
    Both are turned back, the strong as far as the weak, and the weak diagonalised among themselves.
    """
    strong, left = u[:, ~weak], u[:, weak].double()
    right = left.mT @ matrix.double()
    angle = (right @ v[~weak].double().mT) / norms[~weak]  # by which the weak lean over to the strong
    left -= strong.double() @ angle.mT
    right = left.mT @ matrix.double()
    turn = _eigenvectors(lower_gram(right))
    left, right = left @ turn, turn.mT @ right
    s = torch.linalg.vector_norm(right, dim=1)
    alive = s > null * norms.amax()
    left, s, right = left[:, alive], s[alive], right[alive]
    angle = (turn.mT @ angle)[alive]
    leaning = (norms[~weak].unsqueeze(1) * v[~weak]) + (angle.mT @ right).to(v.dtype)
    strong = strong + (left @ angle).to(u.dtype)
    strong_norms = torch.linalg.vector_norm(leaning, dim=1)
    return (
        torch.cat([strong, left.to(u.dtype)], dim=1),
        torch.cat([strong_norms, s.to(u.dtype)]),
        torch.cat([leaning / strong_norms.unsqueeze(1), (right / s.unsqueeze(1)).to(u.dtype)]),
    )
