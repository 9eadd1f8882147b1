"""Merging a matrix by least squares on the task vectors themselves: the mathematics of WUDI and data-free regression.

Both want the merged change M (m, n) of a matrix to do what every task's change does, on inputs like those the task
moved its weights for. The rows of tau_t are such inputs (a gradient step adds multiples of inputs to rows), so

    loss(M) = sum_t |(M - tau_t) tau_t^T|^2 / |tau_t|^2 = sum_t tr((M - tau_t) A_t (M - tau_t)^T),
    A_t = tau_t^T tau_t / |tau_t|^2.

WUDI descends it from M = sum_t tau_t for a few hundred steps and stops early. The loss is quadratic and every row of M
shares the same n x n system, so its minimum is one solve; a ridge there does what stopping early does.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from neuromerge.merging.singular import lower_gram

Step = Callable[[int, int], None]
"""Called as step(done, total) after every step of a descent; may raise to stop it."""


def regression(tau: torch.Tensor, ridge: float) -> torch.Tensor:
    """M = (sum_t tau_t A_t) (sum_t A_t + ridge * mean eigenvalue * I)^-1 of one matrix: tau (T, m, n) -> (m, n).

    RegMean [Jin 2023] with the task vectors' own Gram matrices in the place of data. In float64: the system is as ill
    conditioned as the ridge is small. Tasks that changed nothing do not count; the result is 0 where none did.

    Args:
        ridge: above 0, relative to the mean eigenvalue of sum_t A_t.
    """
    rows, inputs = tau.shape[1:]
    norms = [float(torch.linalg.vector_norm(task, dtype=torch.float64)) for task in tau]
    parts = [task.double() / norm for task, norm in zip(tau, norms, strict=True) if norm > 0]
    lengths = [norm for norm in norms if norm > 0]
    if not parts:
        return torch.zeros_like(tau[0])
    # Every A_t has trace 1, so the mean eigenvalue of their sum is their number over n.
    shift = ridge * len(parts) / inputs
    # With X the parts, stacked: sum A_t = X^T X and sum tau_t A_t = C X, C = [|tau_t| X_t X_t^T]_t. The smaller of the
    # two systems, (X^T X + shift) of inputs or (X X^T + shift) of rows, gives the same M.
    if len(parts) * rows < inputs:
        stacked = torch.cat(parts)
        factor = _shifted_factor(stacked, shift)
        targets = torch.cat([length * (part @ part.mT) for length, part in zip(lengths, parts, strict=True)], dim=1)
        return (torch.cholesky_solve(targets.mT, factor).mT @ stacked).to(tau.dtype)
    factor = _shifted_factor(torch.cat(parts).mT, shift)
    targets = torch.zeros(rows, inputs, dtype=torch.float64, device=tau.device)
    for length, part in zip(lengths, parts, strict=True):
        if rows <= inputs:
            targets.addmm_(part @ part.mT, part, alpha=length)
        else:
            targets.addmm_(part, part.mT @ part, alpha=length)
    return torch.cholesky_solve(targets.mT, factor).mT.to(tau.dtype)


def _shifted_factor(matrix: torch.Tensor, shift: float) -> torch.Tensor:
    """The lower Cholesky factor of matrix @ matrix.T + shift * I."""
    system = lower_gram(matrix)
    system.diagonal().add_(shift)
    return torch.linalg.cholesky(system)  # reads the lower triangle alone


def descent(tau: torch.Tensor, steps: int, rate: float, step: Step | None = None) -> torch.Tensor:
    """WUDI [Cheng 2025, arXiv 2503.08099]: `steps` Adam steps down the loss from sum_t tau_t. tau (T, m, n) -> (m, n).

    The gradient is 2 (M A - B) with A = sum_t A_t and B = sum_t tau_t A_t, both formed once: a step costs one product
    instead of the 4 T of automatic differentiation.

    Args:
        rate: the learning rate of Adam (betas 0.9 and 0.999, epsilon 1e-8).
        step: called after every step.
    """
    total = tau.sum(0)
    squares = [float(torch.linalg.vector_norm(task, dtype=torch.float64)) ** 2 for task in tau]
    inputs = tau.shape[2]
    system = torch.zeros(inputs, inputs, dtype=tau.dtype, device=tau.device)
    targets = torch.zeros_like(total)
    for task, square in zip(tau, squares, strict=True):
        if square == 0.0:
            continue
        gram = task.mT @ task
        system.add_(gram, alpha=1.0 / square)
        targets.addmm_(task, gram, alpha=1.0 / square)
    merged = total.clone()
    optimizer = torch.optim.Adam([merged], lr=rate)
    gradient = torch.empty_like(merged)
    for done in range(1, steps + 1):
        torch.sub(torch.mm(merged, system, out=gradient), targets, out=gradient).mul_(2.0)
        merged.grad = gradient
        optimizer.step()
        if step is not None:
            step(done, steps)
    return merged
