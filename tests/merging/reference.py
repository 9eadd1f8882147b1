"""NeuroMerging written down plainly: whole model in memory, float64, one SVD per neuron, Python loops.

Slow and obvious on purpose; the fast implementation is checked against it.
"""

from __future__ import annotations

import math

import numpy as np


def trim(taus: list[dict[str, np.ndarray]], ratio: float) -> tuple[list[dict[str, np.ndarray]], list[float]]:
    """Globally trimmed task vectors and sigma_t."""
    trimmed, sigmas = [], []
    for tau in taus:
        magnitudes = np.sort(np.concatenate([np.abs(v).ravel() for v in tau.values()]))
        rank = math.floor(ratio * magnitudes.size + 1e-9)
        threshold = magnitudes[rank - 1] if rank else 0.0
        kept = {name: np.where(np.abs(v) >= threshold, v, 0.0) for name, v in tau.items()}
        whole = magnitudes.sum()
        left = sum(np.abs(v).sum() for v in kept.values())
        trimmed.append(kept)
        sigmas.append((whole - left) / whole if whole else 0.0)
    return trimmed, sigmas


def psi(votes: np.ndarray) -> np.ndarray:
    """votes (T, n): elect and mean, ties by majority of the group."""
    sign = np.sign(votes.sum(0))
    majority = np.sign(sign.sum()) or -1.0
    sign[sign == 0] = majority
    out = np.zeros(votes.shape[1])
    for i in range(votes.shape[1]):
        kept = [v for v in votes[:, i] if np.sign(v) == sign[i]]
        out[i] = sum(kept) / max(1, len(kept))
    return out


def orthogonal_merge(parts: np.ndarray) -> np.ndarray:
    """parts (T, n): scores along the right singular vectors, psi per direction, mapped back."""
    if not parts.any():
        return np.zeros(parts.shape[1])
    left, singular, right = np.linalg.svd(parts, full_matrices=False)
    keep = singular**2 > 1e-13 * singular[0] ** 2
    left, singular, right = left[:, keep], singular[keep], right[keep]
    left = np.where(np.abs(left) <= 1e-7, 0.0, left)
    scores = left * singular
    merged = np.zeros(len(singular))
    for r in range(len(singular)):
        column = scores[:, r]
        if abs(left[:, r].sum()) > 1e-6 * np.abs(left[:, r]).sum():
            kept = column[np.sign(column) == np.sign(column.sum())]
            merged[r] = kept.mean()
    return merged @ right


def neuromerging(
    base: dict[str, np.ndarray],
    experts: list[dict[str, np.ndarray]],
    ratio: float,
    lambda_parallel: float,
    lambda_orthogonal: float | None,
) -> dict[str, np.ndarray]:
    """The merged model; lambda_orthogonal None is the automatic 1 / (1 - sigma)."""
    taus = [{name: expert[name] - base[name] for name in base} for expert in experts]
    taus, sigmas = trim(taus, ratio)
    if lambda_orthogonal is None:
        lambda_orthogonal = 1.0 / (1.0 - max(sigmas))
    merged = {}
    for name, weight in base.items():
        tau = np.stack([t[name] for t in taus])
        if weight.ndim < 2:
            flat = psi(tau.reshape(len(taus), -1)).reshape(weight.shape)
            merged[name] = weight + lambda_orthogonal * flat
            continue
        square = (weight**2).sum(1)
        c = np.zeros((len(taus), len(weight)))
        alive = square > 0
        c[:, alive] = np.einsum("tkn,kn->tk", tau, weight)[:, alive] / square[alive]
        c_bar = psi(c)
        out = weight * (1.0 + lambda_parallel * c_bar)[:, None]
        for k in range(len(weight)):
            out[k] += lambda_orthogonal * orthogonal_merge(tau[:, k] - c[:, k, None] * weight[k])
        merged[name] = out
    return merged


def balanced_lipschitz(tasks: int, ridge: float) -> float:
    """C with |O(M') - O(M)| <= C |M' - M| for the balanced merge O of `tasks` parts M (Frobenius norms).

    With A = G + ridge * mean(diag G) * I and q = tasks / ridge: |A^-1| <= q / |M|^2, |M^T A^-1| <= sqrt(q) / |M| and
    |alpha| <= q, and diag(G) and A change by at most 2 |M| |dM| and (2 + 2 / q) |M| |dM|. So the derivative of
    O = M^T A^-1 diag(G) is at most q + sqrt(q) (2 + (2 + 2 / q) q). The published vote has no such C.
    """
    q = tasks / ridge
    return q + math.sqrt(q) * (4.0 + 2.0 * q)
