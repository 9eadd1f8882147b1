"""Matrices by their singular values: the mathematics of TSV-M, Iso-C, Iso-CTS and of singular value calibration.

Everything here takes whole matrices and knows no methods. How singular vectors and polar factors are found, and how
exact they are, is the affair of `singular`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.singular import (
    Triplets,
    leading_triplets,
    leading_triplets_outside,
    polar_factor,
    polar_factor_beside,
    split_triplets,
)
from neuromerge.threads import between_steps


def is_matrix(parameter: Parameter) -> bool:
    """Whether a parameter is a matrix to these methods: a linear map that is stored as one.

    The patch convolution, stored with four axes, is none, as in the published code.
    """
    return parameter.kind == "neurons" and parameter.matrix != "patch"


def isotropic(total: torch.Tensor) -> torch.Tensor:
    """Iso-C [Marczak 2025, algorithm 1]: every singular value of the summed task vectors (m, n) becomes their mean."""
    factor = polar_factor(total, total.dtype)
    # The sum of the singular values is tr(factor^T total), and an error of the factor enters it squared.
    strength = torch.sum(factor * total, dtype=torch.float64) / max(min(total.shape), 1)
    return factor.mul_(strength.to(total.dtype))


def decorrelated_sum(tau: torch.Tensor) -> torch.Tensor:
    """TSV-M [Gargiulo 2025, algorithm 1] of one matrix: tau (T, m, n) -> (m, n).

    The floor(min(m, n) / T) leading triplets of every task, stacked; U and V replaced by their polar factors, and
    recombined. With more tasks than the matrix has rows or columns that is none, and the result is 0.
    """
    rank = min(tau.shape[1:]) // len(tau)
    u, s, v = _of_tasks(tau, lambda task: leading_triplets(task, rank))
    if not len(s):
        return torch.zeros_like(tau[0])
    left = polar_factor(u, tau.dtype)
    between_steps()
    right = polar_factor(v, tau.dtype)
    return (left * s.to(tau.dtype)) @ right.mT


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
    if rows <= columns:
        # What the common directions leave over is a space of few dimensions: work in coordinates of it.
        (u, s, v), rest = split_triplets(total, shared)
        rest = rest.to(dtype)
        own_u, own_s, own_v = _of_tasks(tau, lambda task: leading_triplets(rest.mT @ task, own))
        own_left = rest @ polar_factor(own_u, dtype)
    else:
        u, s, v = leading_triplets(total, shared)
        own_u, own_s, own_v = _of_tasks(tau, lambda task: leading_triplets_outside(task, u, own))
        own_left = polar_factor(own_u, dtype)
    strength = s.sum() + own_s.sum()
    # Own left directions are orthogonal to the common ones, so the polar factor of all is that of each side by side.
    left = torch.cat([u.to(dtype), own_left], dim=1)
    right = polar_factor_beside(v, own_v, dtype)
    return left.mul_(strength.to(dtype) / min(rows, columns)) @ right.mT


def _of_tasks(tau: torch.Tensor, triplets: Callable[[torch.Tensor], Triplets]) -> Triplets:
    """The triplets of all tasks side by side. Around each of them others are let through (`threads.between_steps`)."""
    found = []
    for task in tau:
        between_steps()
        found.append(triplets(task))
    between_steps()
    u, s, v = zip(*found, strict=True)
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
