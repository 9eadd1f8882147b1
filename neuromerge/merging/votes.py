"""The balanced vote: how much of every task's part a merge takes, as a continuous function of those parts.

The published vote elects a sign in every singular direction. It jumps: the smallest overlap between two parts lets
one vote in the other's direction and halves it. The balanced vote asks for a merge in which every task finds its own
part whole instead. With M the parts as rows, G = M M^T and O = sum_t alpha_t M_t the merge, <O, M_t> = |M_t|^2 for
all t reads G alpha = diag(G). A ridge keeps the answer safe where parts nearly coincide or cancel:

    alpha = (G + ridge * mean(diag G) * I)^-1 diag(G)

Orthogonal parts are added whole, T identical ones are averaged, opposed ones cancel. The rule is ours, not the
paper's.
"""

from __future__ import annotations

import math

import torch

DEFAULT_RIDGE = 0.1
RIDGE_RANGE = (1e-3, 10.0)


def balanced_vote(gram: torch.Tensor, ridge: float = DEFAULT_RIDGE) -> torch.Tensor:
    """The coefficients alpha (..., T) of the parts whose Gram matrices are `gram` (..., T, T).

    Equal-norm orthogonal parts get 1 / (1 + ridge), T identical ones 1 / (T + ridge). No part, no coefficient: alpha
    is 0 where a task has none. Computed in float64; alpha does not change when all parts are scaled together.

    Args:
        gram: inner products of the parts: of one neuron each, or summed over a matrix or the whole model.
        ridge: above 0, `RIDGE_RANGE` is sensible. The larger, the closer the merge is to a small plain sum.
    """
    gram = gram.double()
    energy = torch.diagonal(gram, dim1=-2, dim2=-1)
    mean = energy.mean(-1, keepdim=True)
    # Relative to the mean energy, so that neither tiny nor huge parts leave the range of float64.
    scale = torch.where(mean > 0, mean, 1.0)
    system = gram / scale.unsqueeze(-1)
    torch.diagonal(system, dim1=-2, dim2=-1).add_(ridge)
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve((energy / scale).unsqueeze(-1), factor).squeeze(-1)


def balanced_lipschitz(tasks: int, ridge: float = DEFAULT_RIDGE) -> float:
    """C with |O(M') - O(M)| <= C |M' - M| for the balanced merge O of `tasks` parts M (Frobenius norms).

    With A = G + ridge * mean(diag G) * I and q = tasks / ridge: |A^-1| <= q / |M|^2, |M^T A^-1| <= sqrt(q) / |M| and
    |alpha| <= q, and diag(G) and A change by at most 2 |M| |dM| and (2 + 2 / q) |M| |dM|. So the derivative of
    O = M^T A^-1 diag(G) is at most q + sqrt(q) (2 + (2 + 2 / q) q). The published vote has no such C.
    """
    q = tasks / ridge
    return q + math.sqrt(q) * (4.0 + 2.0 * q)
