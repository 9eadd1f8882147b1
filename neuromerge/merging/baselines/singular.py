"""TSV-M and Iso-C: merging in the space of singular vectors, matrix by matrix.

Both take matrices apart and average everything else. A matrix is a linear map that is stored as one; the patch
convolution, stored with four axes, is averaged, as in the published code. Fused query-key-value matrices count
as three, so that the result does not depend on the layout.

Singular vectors come from the Gram matrix of the shorter side, in float64. For float32 weights that is faster
than an SVD in float32 (12 times for 768 x 3072 on two cores) and more exact for all but directions below about
1e-6 of the largest, which are rounding noise of float32 and are dropped. float64 weights get the SVD itself.
"""

from __future__ import annotations

from typing import Any

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.linear import SCALE, Components
from neuromerge.merging.method import MergeMethod, Run
from neuromerge.merging.registry import register
from neuromerge.merging.vectors import Chunk

_NULL = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Singular values at most this share of the largest are none: their singular vectors are arbitrary."""


def is_matrix(parameter: Parameter) -> bool:
    """Whether these methods decompose the parameter; all others are averaged."""
    return parameter.kind == "neurons" and parameter.matrix != "patch"


def leading_singular_triplets(
    matrix: torch.Tensor, rank: int | None = None, precision: torch.dtype | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The singular triplets of the largest singular values, null ones left out.

    Args:
        matrix: (m, n), float32 or float64.
        rank: how many at most; all of them by default.
        precision: float32 or float64, the precision of what the matrix was made from; its own dtype by default.

    Returns:
        u (m, k), s (k,) descending, v (n, k), float64: matrix is about u @ diag(s) @ v.T.
    """
    precision = precision or matrix.dtype
    rank = min(matrix.shape) if rank is None else rank
    matrix = matrix.double()
    if precision == torch.float64:
        u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
        v = vh.mT
    elif matrix.shape[0] > matrix.shape[1]:
        v, s, u = _triplets_of_wide(matrix.mT, rank)
    else:
        u, s, v = _triplets_of_wide(matrix, rank)
    count = min(rank, int((s > _NULL[precision] * s[0]).sum())) if len(s) else 0
    return u[:, :count], s[:count], v[:, :count]


def _triplets_of_wide(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`rank` leading triplets of a float64 matrix with no more rows than columns, from its Gram matrix."""
    _, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    u = vectors[:, matrix.shape[0] - rank :].flip(1)  # eigh sorts upwards
    projected = matrix.mT @ u
    s = torch.linalg.vector_norm(projected, dim=0)
    return u, s, projected / torch.where(s > 0, s, torch.ones_like(s))


def polar_factor(matrix: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    """The nearest matrix whose singular values are all 1: U V^T of the SVD, float64.

    Null directions, where that factor is arbitrary, are left out; see `leading_singular_triplets`.
    """
    u, _, v = leading_singular_triplets(matrix, precision=precision)
    return u @ v.mT


@register
class TsvM(MergeMethod):
    """TSV-M: floor(min(m, n) / T) leading triplets per task, decorrelated by polar factors, recombined.

    With more tasks than a matrix has rows or columns that is none, and the matrix stays as the base has it.
    """

    name = "tsv_m"
    title = "TSV-M"
    summary = "Keeps each expert's strongest directions in every matrix and makes them orthogonal to one another."
    citation = "Gargiulo et al., Task Singular Vectors, CVPR 2025, arXiv:2412.00081"
    hyperparameters = (
        scale_spec(1.0, "How much of the merged change is added to the base model (the paper's alpha)."),
    )

    def components(self, chunk: Chunk, run: Run[Any]) -> Components:
        """Recombined singular triplets for a matrix, the mean over tasks elsewhere."""
        tau = chunk.tau
        if not is_matrix(chunk.parameter):
            return {SCALE: tau.mean(0)}
        rank = min(tau.shape[1:]) // len(tau)
        triplets = [leading_singular_triplets(task, rank) for task in tau]
        u = torch.cat([u for u, _, _ in triplets], dim=1)
        s = torch.cat([s for _, s, _ in triplets])
        v = torch.cat([v for _, _, v in triplets], dim=1)
        if not len(s):
            return {SCALE: torch.zeros_like(tau[0])}
        return {SCALE: (polar_factor(u, tau.dtype) * s @ polar_factor(v, tau.dtype).mT).to(tau.dtype)}


@register
class IsoC(MergeMethod):
    """Iso-C: the singular values of the summed task vectors all replaced by their mean."""

    name = "iso_c"
    title = "Iso-C"
    summary = "Adds up the experts' changes in every matrix and gives all directions of the sum the same strength."
    citation = "Marczak et al., No Task Left Behind: Isotropic Model Merging, ICML 2025, arXiv:2502.04959"
    hyperparameters = (
        scale_spec(
            1.0,
            "How much of the merged change is added to the base model. FusionBench's published table uses 1.5.",
        ),
    )

    def components(self, chunk: Chunk, run: Run[Any]) -> Components:
        """The evened-out sum for a matrix, the mean over tasks elsewhere."""
        if not is_matrix(chunk.parameter):
            return {SCALE: chunk.tau.mean(0)}
        total = chunk.tau.sum(0)
        u, s, v = leading_singular_triplets(total)
        if not len(s):
            return {SCALE: torch.zeros_like(total)}
        return {SCALE: (u @ v.mT).mul_(s.sum() / min(total.shape)).to(total.dtype)}
