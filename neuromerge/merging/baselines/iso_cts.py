"""Iso-CTS: common directions of all tasks and directions of each, all of the same strength."""

from __future__ import annotations

from typing import Any

import torch

from neuromerge.merging.baselines.matrices import FUSED, MatrixMethod
from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.method import Run
from neuromerge.merging.registry import register
from neuromerge.merging.spectra import common_and_specific


@register
class IsoCts(MatrixMethod):
    """Iso-CTS: the sum's strongest directions, and each task's own among what those leave over."""

    name = "iso_cts"
    title = "Iso-CTS"
    summary = (
        "Keeps the strongest directions of the experts' sum and a few that are each expert's own, all equally strong."
    )
    citation = "Marczak et al., No Task Left Behind: Isotropic Model Merging, ICML 2025, arXiv:2502.04959"
    hyperparameters = (
        Hyperparameter(
            name="common_fraction",
            label="Share of common directions",
            kind="float",
            default=0.8,
            description="Share of the directions of every matrix that is taken from the experts' sum; the experts "
            "divide the rest among them. 1 is Iso-C. The paper uses 0.8.",
            minimum=0.0,
            maximum=1.0,
            step=0.05,
            grid=(0.6, 0.8, 0.9),
        ),
        scale_spec(
            1.0,
            "How much of the merged change is added to the base model. The paper chooses it on validation data.",
        ),
        FUSED,
    )

    flat_spectrum = True

    def matrix_change(self, tau: torch.Tensor, run: Run[Any]) -> torch.Tensor:
        """Common and own directions, evened out."""
        return common_and_specific(tau, run.values["common_fraction"])
