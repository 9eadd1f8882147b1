"""Neuron by neuron: parallel and orthogonal parts, and the closed form of their merge.

Shapes throughout: k neurons of n inputs, T tasks. `tau` is the trimmed task vector.

The orthogonal merge of the paper takes an SVD of the T orthogonal parts of every neuron. It is not needed:
psi commutes with the positive scale of each singular direction, so with M = U S V^T and e_r = psi(U[:, r])
the merged part is sum_t alpha_t M_t with alpha = U e, and U are the eigenvectors of the T x T Gram matrix
M M^T (METHOD, section 4). One small symmetric eigenproblem per neuron replaces the SVD; V is never formed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neuromerge.merging.devices import stride
from neuromerge.merging.election import TIE_RELATIVE, mean_of_elected

RANK_RELATIVE = 1e-13
"""Directions whose eigenvalue is below this share of the largest are null directions, and dropped."""
ZERO_VOTE = 1e-7
"""Entries of U up to this magnitude are rounding, and must not vote."""
_PRODUCT_ENTRIES = 1 << 14  # of these in one matrix that is multiplied
_CHUNK_NEURONS = 64
SAFE_ORTHOGONAL_SHARE = 0.1
"""Where less than this share of the largest |tau_t|^2 is orthogonal, the orthogonal parts are formed one by one."""
ILL_EIGENGAP = 1e-3
ILL_MARGIN = 1e-3
ILL_ENTRY = 1e-3
"""A neuron is ill-conditioned below any of these three: relative eigengap, vote margin, size of a vote."""


@dataclass(frozen=True)
class Decomposition:
    """What one pass over k neurons leaves: all that the coefficients and most measures need. float64.

    Attributes:
        base_square: (k,) |w_0|^2.
        parallel: (k, T) c_t, the parallel coefficients.
        gram: (k, T, T) G = M M^T, inner products of the orthogonal parts.
    """

    base_square: torch.Tensor
    parallel: torch.Tensor
    gram: torch.Tensor


@dataclass(frozen=True)
class Voted:
    """How k neurons merge their orthogonal parts, by whatever rule. float64 on the CPU.

    Attributes:
        alpha: (k, T) how much of each task's orthogonal part enters the merge.
        margin: (k,) election margin times `weight`; 0 where the rule elects nothing.
        weight: (k,) how much the margin of a neuron counts.
        ill_conditioned: (k,) bool, the merge hangs on rounding.
    """

    alpha: torch.Tensor
    margin: torch.Tensor
    weight: torch.Tensor
    ill_conditioned: torch.Tensor


@dataclass(frozen=True)
class OrthogonalVote(Voted):
    """The published vote in the singular directions of k neurons. float64 on the CPU; null directions hold zeros.

    The margin is the mean over directions weighted by S_r, its weight the sum of S_r over the directions that vote;
    ill conditioned as in METHOD, section 4.

    Attributes:
        left: (k, T, T) U, columns by falling singular value, entries that are rounding set to 0.
        singular: (k, T) singular values S.
        elected: (k, T) e_r = psi(U[:, r]).
    """

    left: torch.Tensor
    singular: torch.Tensor
    elected: torch.Tensor


def decompose(base: torch.Tensor, tau: torch.Tensor) -> Decomposition:
    """Split every task vector of every neuron. base (k, n), tau (T, k, n).

    A neuron whose base row is zero has c = 0: all of tau is orthogonal.
    """
    base_square, along, whole = _inner_products(base, tau)
    alive = base_square.unsqueeze(1) > 0
    parallel = torch.where(alive, along / base_square.unsqueeze(1), 0.0)
    gram = torch.addcmul(whole, (base_square.unsqueeze(1) * parallel).unsqueeze(2), parallel.unsqueeze(1), value=-1.0)
    # Subtracting the parallel part cancels where it dominates. There the orthogonal parts themselves are formed.
    kept = torch.diagonal(gram, dim1=1, dim2=2).amax(1)
    dominated = torch.nonzero(kept < SAFE_ORTHOGONAL_SHARE * torch.diagonal(whole, dim1=1, dim2=2).amax(1)).squeeze(1)
    for rows in dominated.split(_CHUNK_NEURONS):
        parts = orthogonal_parts(base[rows].double(), tau[:, rows].movedim(0, 1).double(), parallel[rows])
        gram[rows] = torch.bmm(parts, parts.transpose(1, 2))
    return Decomposition(base_square, parallel, gram)


def _inner_products(base: torch.Tensor, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """|w_0|^2 (k,), <tau_t, w_0> (k, T) and <tau_s, tau_t> (k, T, T), in float64.

    In float64 the product of two float32 is exact. Wide copies are made of a few rows at a time.
    """
    tasks, neurons, width = tau.shape
    wide_base = base.double()
    square = wide_base.square().sum(1)
    along = torch.empty(neurons, tasks, 1, dtype=torch.float64, device=tau.device)
    whole = torch.empty(neurons, tasks, tasks, dtype=torch.float64, device=tau.device)
    rows = max(1, min(neurons, stride(tau.device).wide // (tasks * width)))
    wide = torch.empty(rows, tasks, width, dtype=torch.float64, device=tau.device)
    columns = max(1, _PRODUCT_ENTRIES // tasks)
    for start in range(0, neurons, rows):
        stop = min(start + rows, neurons)
        m = wide[: stop - start].copy_(tau[:, start:stop].movedim(0, 1))
        _products(m, wide_base[start:stop].unsqueeze(2), columns, along[start:stop])
        _products(m, m.transpose(1, 2), columns, whole[start:stop])
    return square, along.squeeze(2), whole


def _products(left: torch.Tensor, right: torch.Tensor, columns: int, out: torch.Tensor) -> None:
    """Batched products of float64 matrices, summed over pieces of `columns` columns of `left`.

    On the CPU by numpy: it sees that m m^T is symmetric, and its BLAS was measured twice as fast on such long, flat
    matrices as torch's. From wider pieces that BLAS would start threads of its own.
    """
    if left.device.type != "cpu":
        torch.bmm(left, right, out=out)
        return
    a, b, total = left.numpy(), right.numpy(), out.numpy()
    np.matmul(a[..., :columns], b[:, :columns], out=total)
    for start in range(columns, a.shape[2], columns):
        total += np.matmul(a[..., start : start + columns], b[:, start : start + columns])


def orthogonal_parts(base: torch.Tensor, tau: torch.Tensor, parallel: torch.Tensor) -> torch.Tensor:
    """M = tau_t - c_t w_0. base (k, n), tau (k, T, n), parallel (k, T) -> (k, T, n)."""
    return torch.addcmul(tau, parallel.unsqueeze(2), base.unsqueeze(1), value=-1.0)


def orthogonal_vote(gram: torch.Tensor) -> OrthogonalVote:
    """Merge coefficients of the orthogonal parts from their Gram matrices (k, T, T)."""
    eigenvalues, vectors = torch.linalg.eigh(gram)
    # Directions by falling singular value. Neurons come last, so that sums over tasks run along the memory.
    energy = eigenvalues.T.flip(0).clamp(min=0.0)  # (R, k)
    left = vectors.permute(1, 2, 0).flip(1)  # (T, R, k)
    largest = energy[0]
    lives = (energy > RANK_RELATIVE * largest) & (largest > 0)
    size = left.abs()
    votes = size > ZERO_VOTE
    faint = ((size < ILL_ENTRY) & votes).any(0)
    left = left * (votes & lives)
    singular = torch.sqrt(energy * lives)

    total, magnitude = left.sum(0), left.abs().sum(0)
    sign = torch.sign(total) * (total.abs() > TIE_RELATIVE * magnitude)
    elected = mean_of_elected(left, sign)
    alpha = (left * elected).sum(1)

    margin = total.abs() / magnitude.clamp(min=torch.finfo(torch.float64).tiny)
    crowded = (energy[:-1] - energy[1:] < ILL_EIGENGAP * largest) & lives[:-1] & lives[1:]
    ill_conditioned = ((faint | (margin < ILL_MARGIN)) & lives).any(0) | crowded.any(0)
    return OrthogonalVote(
        alpha=alpha.T.cpu(),
        left=left.permute(2, 0, 1).cpu(),
        singular=singular.T.cpu(),
        elected=elected.T.cpu(),
        margin=(margin * singular).sum(0).cpu(),
        weight=singular.sum(0).cpu(),
        ill_conditioned=ill_conditioned.cpu(),
    )
