"""TSV-M: merging in the space of singular vectors, every task at its share of the rank."""

from __future__ import annotations

from typing import Any

import torch

from neuromerge.merging.baselines.matrices import FUSED, MatrixMethod
from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.method import Run
from neuromerge.merging.registry import register
from neuromerge.merging.spectra import decorrelated_sum


@register
class TsvM(MatrixMethod):
    """TSV-M: floor(min(m, n) / T) leading triplets per task, decorrelated by polar factors, recombined.

    With more tasks than a matrix has rows or columns that is none, and the matrix stays as the base has it.
    """

    name = "tsv_m"
    title = "TSV-M"
    summary = "Keeps each expert's strongest directions in every matrix and makes them orthogonal to one another."
    citation = "Gargiulo et al., Task Singular Vectors, CVPR 2025, arXiv:2412.00081"
    hyperparameters = (
        scale_spec(1.0, "How much of the merged change is added to the base model (the paper's alpha)."),
        FUSED,
    )

    def matrix_change(self, tau: torch.Tensor, run: Run[Any]) -> torch.Tensor:
        """Recombined singular triplets."""
        return decorrelated_sum(tau)
