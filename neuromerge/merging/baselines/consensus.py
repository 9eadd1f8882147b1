"""Consensus task arithmetic: keep only the weights that several tasks need (from TALL masks)."""

from __future__ import annotations

from typing import Any

import torch

from neuromerge.merging.baselines.scaled import scale_spec
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.kernels import codes
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.linear import SCALE, Components
from neuromerge.merging.method import MergeMethod, Run
from neuromerge.merging.registry import register
from neuromerge.merging.vectors import Chunk


@register
class Consensus(MergeMethod):
    """mask_t = |tau_t| > l |theta_MTL - theta_t| with theta_MTL = theta_0 + reference_scale * sum of tau.

    An entry is kept where at least `min_tasks` masks hold; with fewer tasks than that, where all of them do.
    """

    name = "consensus"
    title = "Consensus task arithmetic"
    summary = "Adds up the experts' changes, but only at weights that matter to several tasks."
    citation = (
        "Wang et al., Localizing Task Information for Improved Model Merging and Compression, ICML 2024, "
        "arXiv:2405.07813 (default values ours)"
    )
    hyperparameters = (
        Hyperparameter(
            name="threshold",
            label="Threshold l",
            kind="float",
            default=0.4,
            description="A task needs a weight when its own change there is larger than this many times the gap "
            "between it and the plain sum. Larger values leave fewer weights. The paper searches 0.2 to 0.6.",
            minimum=0.0,
            maximum=10.0,
            step=0.05,
            slider=(0.0, 1.0),
            grid=(0.2, 0.4, 0.6),
        ),
        Hyperparameter(
            name="min_tasks",
            label="Tasks that must need a weight",
            kind="int",
            default=2,
            description="How many tasks must need a weight for it to change: 1 drops only what nobody needs, 2 also "
            "drops what a single task needs. Never more than the tasks merged.",
            minimum=1,
            maximum=64,
            step=1,
            slider=(1, 8),
        ),
        Hyperparameter(
            name="reference_scale",
            label="Scale of the reference sum",
            kind="float",
            default=0.3,
            description="The plain sum that each task is compared with is scaled by this, as in task arithmetic.",
            minimum=0.0,
            maximum=10.0,
            step=0.01,
            slider=(0.0, 1.5),
        ),
        scale_spec(0.3, "How much of the remaining summed change is added to the base model.", slider=(0.0, 1.5)),
    )
    by_rows = True

    def components(self, chunk: Chunk, run: Run[Any]) -> Components:
        """Sum over tasks, zero where too few tasks need the entry."""
        tau, values = chunk.tau, run.values
        total = tau.sum(0)
        needed = torch.zeros_like(total, dtype=torch.uint8)
        for task in tau:
            distance = torch.sub(task, total, alpha=values["reference_scale"]).abs_()
            needed += task.abs() > distance.mul_(values["threshold"])
        return {SCALE: total.mul_(needed >= min(values["min_tasks"], len(tau)))}

    def rule(self, chunk: Chunk, run: Run[Any]) -> Rule:
        """The same."""
        least = min(run.values["min_tasks"], len(run.task_names))
        return Rule(codes.CONSENSUS, numbers=(least, run.values["reference_scale"], run.values["threshold"]))
