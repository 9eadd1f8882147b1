"""PCB-Merging: every change competes within its task and between tasks; the winners are merged by weight.

The paper, the repository's stand-alone file and its vision code disagree. This is the vision code: magnitudes
clamped to their 1 % quantiles, and the competition between tasks as the tanh of one product with the sum over
tasks of the normalised changes. Quantiles are entries at int(share * d) of the sorted ones, not interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.baselines.scaled import scale_spec, task_vector_chunks
from neuromerge.merging.chunks import as_they_are, map_chunks, row_chunks
from neuromerge.merging.counting import count_around
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.kernels import codes
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.kernels.table import Counted, StoredVectors, served
from neuromerge.merging.linear import SCALE, Components
from neuromerge.merging.method import MergeMethod, Run
from neuromerge.merging.quantiles import Inside, Sample, bracketed, order_statistics
from neuromerge.merging.registry import register
from neuromerge.merging.trim import Thresholds, sampled
from neuromerge.merging.vectors import Chunk, TaskVectors

_CLAMPED_SHARE = 0.01
_MOST_EXPONENT = 80  # of exp in float32, which ends at 88
_SAMPLED_FROM = 1 << 20  # entries of a task vector from which compiled kernels and a sample find the quantiles


@dataclass(frozen=True)
class Competition:
    """What PCB must know of all parameters, per task: (T,) tensors in the working dtype, on the CPU.

    Attributes:
        low, high: the 1 % and 99 % quantiles of |tau|, to which it is clamped.
        score_low, score_high: the score from which an entry gets weight, and the score of weight 1.
        by_kernel: whether a compiled kernel computed the scores. An entry just at the limit has weight 0, so whoever
            computes the scores again must come to the same last bit.
    """

    low: torch.Tensor
    high: torch.Tensor
    score_low: torch.Tensor
    score_high: torch.Tensor
    by_kernel: bool = False


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
    """Intra- times inter-task competition of every entry. tau (T, ...) -> (T, ...), tau unchanged.

    Of more than 80 tasks all scores are smaller by one factor, which no weight depends on: exp would overflow.
    """
    magnitude = normalised(clamped(tau, low, high), low, high)
    agreement = (tau.sign() * magnitude).sum(0)
    exponent = magnitude.square_().mul_(len(tau))
    if len(tau) > _MOST_EXPONENT:
        exponent.sub_(len(tau) - _MOST_EXPONENT)
    return exponent.exp_().mul_((tau * agreement).tanh_())


def _per_task(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return value.to(like).view(-1, *[1] * (like.ndim - 1))


def compete(vectors: TaskVectors, ratio: float) -> Competition:
    """Find the quantiles: exactly, in two passes for |tau| and two for the scores (four each in float64)."""
    tasks = len(vectors.task_names)
    entries = sum(parameter.numel for parameter in vectors.parameters)
    if entries >= _SAMPLED_FROM and (served(vectors) or vectors.device.type != "cpu"):
        found = _compete_sampled(vectors, entries, ratio)
        if found is not None:
            return found

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


def _compete_sampled(vectors: TaskVectors, entries: int, ratio: float) -> Competition | None:
    """The same where counting is fast, in one pass for |tau| and one for the scores; None where a sample misled."""
    tasks = len(vectors.task_names)
    counts = _by_kernel(vectors) if served(vectors) and tasks <= _MOST_EXPONENT else _by_torch(vectors)
    sample = sampled(vectors, entries)
    limit = max(1 << 16, entries // 50)  # collected per task: more means equal values, and another way

    def passed(count: Callable[[_Span, Sequence[bool]], list[Counted]], queries: int) -> list[_Sum]:
        sums = [_Sum(limit) for _ in range(queries)]

        def work(parameter: Parameter, start: int, stop: int) -> list[Counted]:
            return count((parameter, start, stop), [of.collects for of in sums])

        def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
            return row_chunks(parameter, tasks, vectors.device, fused=counts.by_kernel)

        for _, pieces in map_chunks(work, vectors.parameters, split, as_they_are, device=vectors.device):
            for piece in pieces:
                for of, counted in zip(sums, piece, strict=True):
                    of.add(counted)
        return sums

    def magnitudes(brackets: Sequence[tuple[float, float]]) -> list[Inside]:
        lines = [*range(tasks)] * 2
        sums = passed(lambda rows, wanted: counts.magnitudes(rows, lines, brackets, wanted), 2 * tasks)
        return [of.inside() for of in sums]

    lower, upper = magnitude_ranks(entries)
    sizes = [Sample(size) for size in (*np.abs(sample),) * 2]
    found = bracketed(sizes, [lower] * tasks + [upper] * tasks, entries, magnitudes)
    if found is None:
        return None
    dtype = vectors.read(vectors.parameters[0], 0, 0)[1].dtype
    low, high = torch.tensor(found, dtype=dtype).view(2, tasks)
    low = torch.minimum(low, high)
    most = torch.full((tasks,), -math.inf, dtype=dtype)
    limits = torch.stack([low, high])

    def all_scores(brackets: Sequence[tuple[float, float]]) -> list[Inside]:
        sums = passed(lambda rows, wanted: counts.scores(rows, limits, brackets, wanted), tasks)
        most.copy_(torch.tensor([of.most for of in sums]))
        return [of.inside() for of in sums]

    winners, _ = score_ranks(entries, ratio)
    values = [Sample(of_task) for of_task in scores(torch.from_numpy(sample), low, high).numpy()]
    found = bracketed(values, [winners] * tasks, entries, all_scores)
    if found is None:
        return None
    return Competition(low, high, torch.tensor(found, dtype=dtype), most, by_kernel=counts.by_kernel)


_Span = tuple[Parameter, int, int]
"""Rows of a parameter: from, to."""


@dataclass(frozen=True)
class _Counts:
    """How entries are counted in one reading of some rows: magnitudes of some tasks, scores of every task."""

    magnitudes: Callable[[_Span, Sequence[int], Sequence[tuple[float, float]], Sequence[bool]], list[Counted]]
    scores: Callable[[_Span, torch.Tensor, Sequence[tuple[float, float]], Sequence[bool]], list[Counted]]
    by_kernel: bool


def _by_kernel(vectors: StoredVectors) -> _Counts:
    from neuromerge.merging.kernels import calls

    return _Counts(
        lambda span, *asked: calls.count_magnitudes(vectors.stored(*span), *asked),
        lambda span, *asked: calls.count_scores(vectors.stored(*span), *asked),
        by_kernel=True,
    )


def _by_torch(vectors: TaskVectors) -> _Counts:
    tasks = range(len(vectors.task_names))

    def magnitudes(
        span: _Span, lines: Sequence[int], brackets: Sequence[tuple[float, float]], wanted: Sequence[bool]
    ) -> list[Counted]:
        return count_around(vectors.read(*span)[1].abs_().flatten(1), lines, brackets, wanted)

    def of_scores(
        span: _Span, limits: torch.Tensor, brackets: Sequence[tuple[float, float]], wanted: Sequence[bool]
    ) -> list[Counted]:
        return count_around(scores(vectors.read(*span)[1], *limits).flatten(1), tasks, brackets, wanted)

    return _Counts(magnitudes, of_scores, by_kernel=False)


class _Sum:
    """The chunks of one stream, added up: see `Inside`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries = self._reached = self._above = 0
        self._found: list[np.ndarray] = []
        self.most = -math.inf

    @property
    def collects(self) -> bool:
        """Whether what lies inside is still wanted."""
        return self._reached - self._above <= self._limit

    def add(self, counted: Counted) -> None:
        """Take a chunk into account."""
        self._entries += counted.entries
        self._reached += counted.reached
        self._above += counted.above
        self.most = max(self.most, counted.most)
        self._found = [*self._found, counted.found] if self.collects else []

    def inside(self) -> Inside:
        """What the pass saw."""
        found = np.concatenate(self._found) if self.collects and self._found else None
        return Inside(self._entries - self._reached, self._reached - self._above, found)


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

    def rule(self, chunk: Chunk, run: Run[Competition]) -> Rule | None:
        """The same."""
        found = run.prepared
        if not found.by_kernel:
            return None
        return Rule(codes.PCB, limits=torch.stack([found.low, found.high, found.score_low, found.score_high]))
