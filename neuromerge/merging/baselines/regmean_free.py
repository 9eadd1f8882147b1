"""Data-free regression: RegMean with the task vectors' own Gram matrices in the place of data."""

from __future__ import annotations

from typing import Any

import torch

from neuromerge.merging.baselines.matrices import FUSED, MatrixMethod
from neuromerge.merging.baselines.regression import regression
from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.method import Run
from neuromerge.merging.registry import register


@register
class RegmeanFree(MatrixMethod):
    """The minimum of WUDI's loss with a ridge, in closed form: one linear system a matrix."""

    name = "regmean_free"
    title = "Data-free regression"
    summary = (
        "Finds the change that does what every expert's change does, on the inputs that its own changes point to: "
        "the exact solution of what WUDI descends to."
    )
    citation = (
        "Jin et al., RegMean, ICLR 2023, arXiv:2212.09849, with the loss of WUDI, arXiv:2503.08099 "
        "(cf. ACE-Merging, arXiv:2603.02945)"
    )
    hyperparameters = (
        Hyperparameter(
            name="ridge",
            label="Ridge",
            kind="float",
            default=0.1,
            description="How strongly directions that the experts hardly use are held back, relative to those of "
            "mean strength.",
            minimum=1e-3,
            maximum=10.0,
            step=0.01,
            slider=(0.01, 1.0),
            grid=(0.03, 0.1, 0.3),
        ),
        scale_spec(1.0, "How much of the merged change is added to the base model. 1 is what the regression says."),
        FUSED,
    )

    def matrix_change(self, tau: torch.Tensor, run: Run[Any]) -> torch.Tensor:
        """The solution of the regression."""
        return regression(tau, run.values["ridge"])
