"""Iso-C: the summed task vectors with a flat spectrum."""

from __future__ import annotations

from typing import Any

import torch

from neuromerge.merging.baselines.matrices import FUSED, MatrixMethod
from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.method import Run
from neuromerge.merging.registry import register
from neuromerge.merging.spectra import isotropic


@register
class IsoC(MatrixMethod):
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
        FUSED,
    )

    flat_spectrum = True

    def matrix_change(self, tau: torch.Tensor, run: Run[Any]) -> torch.Tensor:
        """The evened-out sum."""
        return isotropic(tau.sum(0))
