"""Weight averaging and task arithmetic: the sum of the task vectors, times a coefficient."""

from __future__ import annotations

from typing import Any, ClassVar

from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.kernels import codes
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.linear import SCALE, UNIT, Components
from neuromerge.merging.method import MergeMethod, Run
from neuromerge.merging.registry import register
from neuromerge.merging.vectors import Chunk


@register
class Average(MergeMethod):
    """theta_0 + mean of tau: the mean of the experts' weights."""

    name = "average"
    title = "Weight averaging"
    summary = "Takes the mean of the experts' weights."
    citation = "Wortsman et al., Model soups, ICML 2022, arXiv:2203.05482"
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]] = ()
    coefficients = ()
    by_rows = True

    def components(self, chunk: Chunk, run: Run[Any]) -> Components:
        """Mean over tasks."""
        return {UNIT: chunk.tau.mean(0)}

    def rule(self, chunk: Chunk, run: Run[Any]) -> Rule:
        """The same mean."""
        return Rule(codes.MEAN)


@register
class TaskArithmetic(MergeMethod):
    """theta_0 + lambda * sum of tau."""

    name = "task_arithmetic"
    title = "Task arithmetic"
    summary = "Adds up what every expert changed, and scales the sum."
    citation = "Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, arXiv:2212.04089"
    hyperparameters = (
        scale_spec(
            0.3,
            "How much of the summed change is added to the base model. 0 leaves the base as it is, 1 adds every "
            "expert's change whole, one over the number of tasks is the average. The paper uses 0.3 for CLIP.",
            slider=(0.0, 1.5),
        ),
    )
    by_rows = True

    def components(self, chunk: Chunk, run: Run[Any]) -> Components:
        """Sum over tasks."""
        return {SCALE: chunk.tau.sum(0)}

    def rule(self, chunk: Chunk, run: Run[Any]) -> Rule:
        """The same sum."""
        return Rule(codes.SUM)
