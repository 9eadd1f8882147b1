"""Neuron by neuron: parallel and orthogonal parts, and the closed form of their merge.

Shapes throughout: k neurons of n inputs, T tasks. `tau` is the trimmed task vector.

The orthogonal merge of the paper takes an SVD of the T orthogonal parts of every neuron. It is not needed:
psi commutes with the positive scale of each singular direction, so with M = U S V^T and e_r = psi(U[:, r])
the merged part is sum_t alpha_t M_t with alpha = U e, and U are the eigenvectors of the T x T Gram matrix
M M^T (METHOD, section 4). One small symmetric eigenproblem per neuron replaces the SVD; V is never formed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import torch

from neuromerge.merging.election import TIE_RELATIVE

RANK_RELATIVE = 1e-13
"""Directions whose eigenvalue is below this share of the largest are null directions, and dropped."""
ZERO_VOTE = 1e-7
"""Entries of U up to this magnitude are rounding, and must not vote."""
_CHUNK_ENTRIES = 1 << 17  # float64 entries worked on at a time
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
class OrthogonalVote:
    """The vote in the singular directions of k neurons. float64; null directions hold zeros.

    Attributes:
        alpha: (k, T) how much of each task's orthogonal part enters the merge.
        left: (k, T, T) U, columns by falling singular value, entries that are rounding set to 0.
        singular: (k, T) singular values S.
        elected: (k, T) e_r = psi(U[:, r]).
        margin: (k,) election margin, mean over directions weighted by S_r, times `weight`.
        weight: (k,) sum of S_r over the directions that vote.
        ill_conditioned: (k,) bool, METHOD section 4.
    """

    alpha: torch.Tensor
    left: torch.Tensor
    singular: torch.Tensor
    elected: torch.Tensor
    margin: torch.Tensor
    weight: torch.Tensor
    ill_conditioned: torch.Tensor


def decompose(base: torch.Tensor, tau: torch.Tensor) -> Decomposition:
    """Split every task vector of every neuron. base (k, n), tau (T, k, n).

    A neuron whose base row is zero has c = 0: all of tau is orthogonal.
    """
    inner = _inner_products(base, tau)
    base_square = inner[:, 0, 0].clone()
    alive = base_square.unsqueeze(1) > 0
    parallel = torch.where(alive, inner[:, 1:, 0] / base_square.unsqueeze(1), 0.0)
    whole = inner[:, 1:, 1:]
    gram = torch.addcmul(whole, (base_square.unsqueeze(1) * parallel).unsqueeze(2), parallel.unsqueeze(1), value=-1.0)
    # Subtracting the parallel part cancels where it dominates. There the orthogonal parts themselves are formed.
    kept = torch.diagonal(gram, dim1=1, dim2=2).amax(1)
    dominated = torch.nonzero(kept < SAFE_ORTHOGONAL_SHARE * torch.diagonal(whole, dim1=1, dim2=2).amax(1)).squeeze(1)
    for rows in dominated.split(_CHUNK_NEURONS):
        parts = orthogonal_parts(base[rows].double(), tau[:, rows].movedim(0, 1).double(), parallel[rows])
        gram[rows] = torch.bmm(parts, parts.transpose(1, 2))
    return Decomposition(base_square, parallel, gram)


def _inner_products(base: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """(k, T + 1, T + 1) inner products of each neuron's base row and task vectors, in float64.

    In float64 the product of two float32 is exact. Chunks keep the wide copies in the cache.
    """
    tasks, neurons, width = tau.shape
    inner = torch.empty(neurons, tasks + 1, tasks + 1, dtype=torch.float64, device=tau.device)
    step = max(1, min(neurons, _CHUNK_ENTRIES // ((tasks + 1) * width)))
    stacked = torch.empty(step, tasks + 1, width, dtype=torch.float64, device=tau.device)
    for start in range(0, neurons, step):
        stop = min(start + step, neurons)
        rows = stacked[: stop - start]
        rows[:, 0].copy_(base[start:stop])
        rows[:, 1:].copy_(tau[:, start:stop].movedim(0, 1))
        torch.bmm(rows, rows.transpose(1, 2), out=inner[start:stop])
    return inner


def orthogonal_parts(base: torch.Tensor, tau: torch.Tensor, parallel: torch.Tensor) -> torch.Tensor:
    """M = tau_t - c_t w_0. base (k, n), tau (k, T, n), parallel (k, T) -> (k, T, n)."""
    return torch.addcmul(tau, parallel.unsqueeze(2), base.unsqueeze(1), value=-1.0)


def orthogonal_vote(gram: torch.Tensor) -> OrthogonalVote:
    """Merge coefficients of the orthogonal parts from their Gram matrices (k, T, T)."""
    eigenvalues, vectors = _eigh(gram)
    eigenvalues = eigenvalues.flip(-1).clamp_(min=0.0)
    vectors = vectors.flip(-1)
    largest = eigenvalues[:, :1]
    lives = (eigenvalues > RANK_RELATIVE * largest) & (largest > 0)
    magnitude = vectors.abs()
    votes_count = (magnitude > ZERO_VOTE) & lives.unsqueeze(1)
    left = vectors * votes_count
    singular = torch.where(lives, eigenvalues, torch.zeros_like(eigenvalues)).sqrt_()

    total = left.sum(1)
    size = left.abs().sum(1)
    tied = total.abs() <= TIE_RELATIVE * size
    sign = torch.where(tied, torch.zeros_like(total), torch.sign(total))
    agreeing = torch.relu(left * sign.unsqueeze(1))
    count = (agreeing > 0).sum(1).clamp_(min=1)
    elected = sign * agreeing.sum(1) / count
    alpha = torch.bmm(left, elected.unsqueeze(2)).squeeze(2)

    relative_margin = total.abs() / size.clamp(min=torch.finfo(size.dtype).tiny)
    faint = (votes_count & (magnitude < ILL_ENTRY)).flatten(1).any(1)
    contested = (lives & (relative_margin < ILL_MARGIN)).any(1)
    gap = eigenvalues[:, :-1] - eigenvalues[:, 1:]
    crowded = ((gap < ILL_EIGENGAP * largest) & lives[:, :-1] & lives[:, 1:]).any(1)
    return OrthogonalVote(
        alpha=alpha,
        left=left,
        singular=singular,
        elected=elected,
        margin=(relative_margin * singular).sum(1),
        weight=singular.sum(1),
        ill_conditioned=faint | contested | crowded,
    )


def _eigh(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Batched symmetric eigenproblem; on the CPU split over threads, because LAPACK runs one matrix at a time."""
    workers = min(torch.get_num_threads(), os.cpu_count() or 1, len(gram) // 64)
    if gram.device.type != "cpu" or workers < 2:
        return torch.linalg.eigh(gram)
    solve: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]] = torch.linalg.eigh
    parts = list(_pool().map(solve, gram.chunk(workers)))
    return torch.cat([values for values, _ in parts]), torch.cat([vectors for _, vectors in parts])


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="eigh")
