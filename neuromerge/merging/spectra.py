"""Matrices by their singular values: the mathematics of TSV-M, Iso-C, Iso-CTS and of singular value calibration.

Everything here takes whole matrices and knows no methods. Singular vectors of float32 matrices come from the Gram
matrix of the shorter side, in float64: squaring costs half of the 16 digits, which leaves more than float32 has. That
is several times faster than an SVD in float32, and as exact for all but the directions below about 1e-6 of the
largest, which are rounding noise of float32 and are dropped. float64 matrices get the SVD itself.
"""

from __future__ import annotations

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import CheckpointError

_NULL = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Singular values at most this share of the largest are none: their singular vectors are arbitrary."""
_GRAM_LEAF = 192  # rows from which on a Gram matrix is computed by halves

Triplets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""u (m, k), s (k,) falling, v (n, k), float64: the matrix (m, n) is about u @ diag(s) @ v.T."""


def is_matrix(parameter: Parameter) -> bool:
    """Whether a parameter is a matrix to these methods: a linear map that is stored as one.

    The patch convolution, stored with four axes, is none, as in the published code.
    """
    return parameter.kind == "neurons" and parameter.matrix != "patch"


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
        v, s, u = _triplets_of_wide(matrix.mT.double(), rank, precision)
    else:
        u, s, v = _triplets_of_wide(matrix.double(), rank, precision)
    count = _significant(s, precision)
    return u[:, :count], s[:count], v[:, :count]


def _require_finite(matrix: torch.Tensor) -> None:
    """Raise CheckpointError where adding task vectors up overflowed: such a matrix has no singular values."""
    if not bool(torch.isfinite(matrix).all()):
        raise CheckpointError(
            "The changes of these experts add up to more than their number format can hold, so they have no singular "
            "values. Check that the experts were trained from this base."
        )


def _triplets_of_wide(matrix: torch.Tensor, rank: int, precision: torch.dtype) -> Triplets:
    """`rank` leading triplets of a float64 matrix with no more rows than columns, null ones too."""
    _require_finite(matrix)
    if precision == torch.float64:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        return u[:, :rank], s[:rank], vh[:rank].mT
    u = _left_basis(matrix, precision)[:, :rank]
    projected = u.mT @ matrix
    s = torch.linalg.vector_norm(projected, dim=1)
    return u, s, (projected / torch.where(s > 0, s, 1.0).unsqueeze(1)).mT


def _left_basis(matrix: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """All left singular vectors (m, m), strongest first, of a float64 matrix (m, n) with m <= n."""
    if precision == torch.float64:
        return torch.linalg.svd(matrix, full_matrices=False)[0]
    return torch.linalg.eigh(lower_gram(matrix), UPLO="L")[1].flip(1)  # eigh sorts upwards


def _significant(s: torch.Tensor, precision: torch.dtype) -> int:
    """How many of the falling singular values are above rounding."""
    return int((s > _NULL[precision] * s[0]).sum()) if len(s) else 0


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


def polar_factor(matrix: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """The nearest matrix whose singular values are all 1: U V^T of the SVD, float64.

    Null directions, where that factor is arbitrary, are left out; `precision` as in `leading_triplets`.
    """
    u, _, v = leading_triplets(matrix, precision=precision)
    return u @ v.mT


def isotropic(total: torch.Tensor) -> torch.Tensor:
    """Iso-C [Marczak 2025, algorithm 1]: every singular value of the summed task vectors (m, n) becomes their mean."""
    if total.shape[0] > total.shape[1]:
        return isotropic(total.mT).mT
    wide = total.double()
    _require_finite(wide)
    u = _left_basis(wide, total.dtype)
    projected = u.mT @ wide  # the weakest directions need all the digits: each is divided by its singular value
    s = torch.linalg.vector_norm(projected, dim=1)
    alive = s > _NULL[total.dtype] * s.amax()
    factor = torch.where(alive, (s * alive).sum() / (len(s) * torch.where(alive, s, 1.0)), 0.0)
    return u.to(total.dtype) @ projected.mul_(factor.unsqueeze(1)).to(total.dtype)


def decorrelated_sum(tau: torch.Tensor) -> torch.Tensor:
    """TSV-M [Gargiulo 2025, algorithm 1] of one matrix: tau (T, m, n) -> (m, n).

    The floor(min(m, n) / T) leading triplets of every task, stacked; U and V replaced by their polar factors, and
    recombined. With more tasks than the matrix has rows or columns that is none, and the result is 0.
    """
    rank = min(tau.shape[1:]) // len(tau)
    u, s, v = _stacked([leading_triplets(task, rank) for task in tau])
    if not len(s):
        return torch.zeros_like(tau[0])
    left, right = polar_factor(u, tau.dtype), polar_factor(v, tau.dtype)
    return (left * s).to(tau.dtype) @ right.to(tau.dtype).mT


def common_and_specific(tau: torch.Tensor, common: float) -> torch.Tensor:
    """Iso-CTS [Marczak 2025, algorithm 2] of one matrix: tau (T, m, n) -> (m, n).

    The strongest directions of the summed task vectors; every task's own strongest directions among what their left
    space leaves over; U and V replaced by their polar factors, every singular value by the mean.

    Args:
        common: share of min(m, n) that the common directions take, in [0, 1]; rounded so that every task gets the
            same number of the others.
    """
    rows, columns = tau.shape[1:]
    own, shared = split_directions(min(rows, columns), len(tau), common)
    if not own:
        return isotropic(tau.sum(0))
    total, dtype = tau.sum(0), tau.dtype
    u, s, v = leading_triplets(total, shared)
    if rows <= columns:
        # What the common directions leave over is a space of few dimensions: work in coordinates of it.
        rest = torch.linalg.qr(u, mode="complete")[0][:, len(s) :]
        own_u, own_s, own_v = _stacked([leading_triplets(rest.mT @ task.double(), own, dtype) for task in tau])
        own_left = rest @ polar_factor(own_u, dtype)
    else:
        common_space = u.to(dtype)
        outside = (task - common_space @ (common_space.mT @ task) for task in tau)
        own_u, own_s, own_v = _stacked([leading_triplets(task, own) for task in outside])
        own_left = polar_factor(own_u, dtype)
    strength = s.sum() + own_s.sum()
    # Own left directions are orthogonal to the common ones, so the polar factor of all is that of each side by side.
    left = torch.cat([u, own_left], dim=1)
    right = polar_factor(torch.cat([v, own_v], dim=1), dtype)
    return (left * (strength / min(rows, columns))).to(dtype) @ right.to(dtype).mT


def _stacked(triplets: list[Triplets]) -> Triplets:
    """The triplets of all tasks side by side."""
    u, s, v = zip(*triplets, strict=True)
    return torch.cat(u, dim=1), torch.cat(s), torch.cat(v, dim=1)


def split_directions(size: int, tasks: int, common: float) -> tuple[int, int]:
    """(directions of its own that every task gets, common directions) out of `size`, as the authors round them."""
    own = round((size - int(size * common)) / tasks)
    return own, size - own * tasks


def calibrated(change: torch.Tensor, tau: torch.Tensor, alpha: float) -> torch.Tensor:
    """Singular value calibration (SVC, arXiv 2602.05536, algorithm 1) of a merged change (m, n).

    Along every left singular direction u_r of the change, s_tr = <u_r^T change, u_r^T tau_t> / |u_r^T tau_t|^2 says
    how often the merge counts what task t does there. The singular value is multiplied by
    T / sum_t max(alpha, s_tr).

    Args:
        change: merged change of one matrix.
        tau: (T, m, n) task vectors.
        alpha: above 0. A task that a direction serves less than this counts as served this much, so that no singular
            value grows by more than 1 / alpha.
    """
    u = leading_triplets(change)[0].to(change.dtype)
    response = u.mT @ change
    served = torch.stack([_served(response, u.mT @ task, alpha) for task in tau])
    factor = len(tau) / served.clamp_min(alpha).sum(0)
    return u @ (factor.to(change.dtype).unsqueeze(1) * response)


def _served(response: torch.Tensor, own: torch.Tensor, alpha: float) -> torch.Tensor:
    """(k,) s_tr of one task, float64; alpha where the task does nothing in a direction."""
    square = own.double().square().sum(1)
    along = (response.double() * own.double()).sum(1)
    return torch.where(square > 0, along / torch.where(square > 0, square, 1.0), alpha)
