"""WUDI: gradient descent on the interference between the task vectors of a matrix."""

from __future__ import annotations

from typing import Any

import torch

from neuromerge.merging.baselines.matrices import FUSED, MatrixMethod
from neuromerge.merging.baselines.regression import descent
from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.method import Run
from neuromerge.merging.registry import register


@register
class Wudi(MatrixMethod):
    """WUDI, as published: Adam from the sum of the task vectors, stopped after some hundred steps.

    Everything that is no matrix is averaged, as in FusionBench; the authors leave it as the base has it.
    """

    name = "wudi"
    title = "WUDI"
    summary = (
        "Starts from the sum of the experts' changes and descends, step by step, to where they disturb each other "
        "least; data-free regression solves the same problem at once."
    )
    citation = "Cheng et al., Whoever Started the Interference Should End It, ICML 2025, arXiv:2503.08099"
    hyperparameters = (
        Hyperparameter(
            name="steps",
            label="Steps",
            kind="int",
            default=300,
            description="Steps of the descent in every matrix. The authors make 300, FusionBench 400.",
            minimum=1,
            maximum=10_000,
            step=1,
            slider=(1, 1000),
        ),
        Hyperparameter(
            name="learning_rate",
            label="Learning rate",
            kind="float",
            default=1e-5,
            description="How far a weight moves at each step, about. The authors use 0.00001.",
            minimum=1e-8,
            maximum=1.0,
            step=1e-6,
            slider=(1e-6, 1e-3),
        ),
        scale_spec(1.0, "How much of the merged change is added to the base model. The authors use 1."),
        FUSED,
    )

    def matrix_change(self, tau: torch.Tensor, run: Run[Any]) -> torch.Tensor:
        """Where the descent ends."""
        return descent(tau, run.values["steps"], run.values["learning_rate"], lambda done, steps: run.job.check())
