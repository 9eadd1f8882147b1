"""PCB-Merging: every change competes within its task and between tasks; the winners are merged by weight.

The paper, the repository's stand-alone file and its vision code disagree. This is the vision code: magnitudes
clamped to their 1 % quantiles, and the competition between tasks as the tanh of one product with the sum over
tasks of the normalised changes. Quantiles are entries at int(share * d) of the sorted ones, not interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuromerge.merging.baselines.quantiles import order_statistics
from neuromerge.merging.baselines.scaled import scale_spec, task_vector_chunks
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.linear import SCALE, Components
from neuromerge.merging.method import MergeMethod, Run
from neuromerge.merging.registry import register
from neuromerge.merging.trim import Thresholds
from neuromerge.merging.vectors import Chunk, TaskVectors

_CLAMPED_SHARE = 0.01


@dataclass(frozen=True)
class Competition:
    """What PCB must know of all parameters, per task: (T,) tensors in the working dtype, on the CPU.

    Attributes:
        low, high: the 1 % and 99 % quantiles of |tau|, to which it is clamped.
        score_low, score_high: the score from which an entry gets weight, and the score of weight 1.
    """

    low: torch.Tensor
    high: torch.Tensor
    score_low: torch.Tensor
    score_high: torch.Tensor


def magnitude_ranks(entries: int) -> tuple[int, int]:
    """Ranks (0 the smallest) of the lower and upper clamp among `entries` magnitudes."""
    low = math.floor(_CLAMPED_SHARE * entries + 1e-9)
    high = math.floor((1.0 - _CLAMPED_SHARE) * entries - 1.0 + 1e-9)
    return min(low, entries - 1), max(0, high)


def score_ranks(entries: int, ratio: float) -> tuple[int, int]:
    """Ranks of the score of weight 0 and of weight 1."""
    return min(entries - 1, math.floor((1.0 - ratio) * entries + 1e-9)), entries - 1


def clamped(tau: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """|tau| (T, ...) clamped to each task's [low, high]."""
    return torch.minimum(torch.maximum(tau.abs(), _per_task(low, tau)), _per_task(high, tau))


def normalised(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Map each task's [low, high] to [0, 1]; 0 where both are equal. values (T, ...)."""
    low, high = _per_task(low, values), _per_task(high, values)
    width = high - low
    return (values - low) / torch.where(width > 0, width, torch.full_like(width, math.inf))


def scores(tau: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Intra- times inter-task competition of every entry. tau (T, ...) -> (T, ...), tau unchanged."""
    magnitude = normalised(clamped(tau, low, high), low, high)
    agreement = (tau.sign() * magnitude).sum(0)
    return magnitude.square_().mul_(len(tau)).exp_().mul_((tau * agreement).tanh_())


def _per_task(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return value.to(like).view(-1, *[1] * (like.ndim - 1))


def compete(vectors: TaskVectors, ratio: float) -> Competition:
    """Find the quantiles: exactly, in two passes for |tau| and two for the scores (four each in float64)."""
    tasks = len(vectors.task_names)
    entries = sum(parameter.numel for parameter in vectors.parameters)

    def magnitudes() -> Iterator[Sequence[np.ndarray]]:
        for tau in task_vector_chunks(vectors):
            yield _rows(tau.abs_())

    low, high = torch.from_numpy(order_statistics(magnitudes, tasks, magnitude_ranks(entries))).unbind(1)
    # Where the ranks cross (fewer than about a hundred entries) the upper bound rules, as in torch.clamp.
    low = torch.minimum(low, high)

    def all_scores() -> Iterator[Sequence[np.ndarray]]:
        for tau in task_vector_chunks(vectors):
            yield _rows(scores(tau, low, high))

    score_low, score_high = torch.from_numpy(order_statistics(all_scores, tasks, score_ranks(entries, ratio))).unbind(1)
    return Competition(low, high, score_low, score_high)


def _rows(values: torch.Tensor) -> list[np.ndarray]:
    return list(values.reshape(len(values), -1).cpu().numpy())


@register
class Pcb(MergeMethod):
    """merged = scale * sum of weight * tau / sum of weight, 0 where no entry has weight."""

    name = "pcb"
    title = "PCB-Merging (vision code)"
    summary = "Lets changes compete, within each task by size and between tasks by agreement, and merges the winners."
    citation = (
        "Du et al., Parameter Competition Balancing for Model Merging, NeurIPS 2024, arXiv:2410.02396 "
        "(as in the authors' vision code)"
    )
    hyperparameters = (
        Hyperparameter(
            name="ratio",
            label="Share of winners",
            kind="float",
            default=0.05,
            description="Share of every expert's changes, those with the best scores, that gets any weight.",
            minimum=0.001,
            maximum=1.0,
            step=0.01,
            slider=(0.01, 0.5),
            grid=(0.05, 0.1, 0.2),
        ),
        scale_spec(1.2, "How much of the weighted mean is added to the base model. The authors use 1.2."),
    )
    by_rows = True

    def prepare(
        self, vectors: TaskVectors, values: Mapping[str, Any], seed: int, thresholds: Thresholds
    ) -> Competition:
        """The quantiles of magnitudes and scores."""
        return compete(vectors, values["ratio"])

    def components(self, chunk: Chunk, run: Run[Competition]) -> Components:
        """Weighted mean over tasks of the clamped task vectors."""
        tau, found = chunk.tau, run.prepared
        score = scores(tau, found.low, found.high)
        weight = normalised(score, found.score_low, found.score_high).clamp_(min=0.0)
        total = weight.sum(0)
        merged = weight.mul_(clamped(tau, found.low, found.high)).mul_(tau.sign()).sum(0)
        return {SCALE: merged.div_(torch.where(total > 0, total, torch.ones_like(total)))}
