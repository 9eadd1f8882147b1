"""Measures of interference between tasks, per layer and per subspace, from the first pass alone.

Every measure is a function of a few sums over the neurons of a cell (a layer and a matrix): inner products
between tasks, between the merged part and each task, and counts. These sums add up over the parameters of a
cell; no weight is read again, and a change of lambda only rescales the merged part. Definitions: METHOD,
"Interference".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from neuromerge.merging.neuromerging import Coefficients, NeuroMerging, coefficients
from neuromerge.merging.registry import check_values
from neuromerge.merging.staged import FirstPass, NeuronStatistics, PointwiseStatistics, first_pass
from neuromerge.merging.streaming import Source, aligned_sources
from neuromerge.merging.trim import global_thresholds
from neuromerge.merging.vectors import AlignedVectors
from neuromerge.progress import UNATTENDED, Job

if TYPE_CHECKING:
    import pandas as pd

Subspace = Literal["parallel", "orthogonal"]
SUBSPACES: tuple[Subspace, ...] = ("parallel", "orthogonal")


@dataclass(frozen=True)
class Moments:
    """Sums over some neurons (or pointwise entries) of one subspace; they add up over parameters.

    Attributes:
        gram: (T, T) inner products between the tasks' parts.
        merged_dot: (T,) inner product of the merged part with each task's part.
        merged_square: squared norm of the merged part; `base_square`: of the base weights.
        conflicting, voting: coordinates with both signs, and coordinates with at least two tasks.
        margin, weight: weighted sum of election margins, and the sum of weights.
    """

    gram: np.ndarray
    merged_dot: np.ndarray
    merged_square: float
    base_square: float
    conflicting: int
    voting: int
    margin: float
    weight: float

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def scaled(self, coefficient: float) -> Moments:
        """The same sums with the merged part multiplied by `coefficient`."""
        return Moments(
            self.gram,
            self.merged_dot * coefficient,
            self.merged_square * coefficient**2,
            self.base_square,
            self.conflicting,
            self.voting,
            self.margin,
            self.weight,
        )

    @property
    def energy(self) -> float:
        """sum_t |tau_t|^2."""
        return float(np.trace(self.gram))


@dataclass(frozen=True)
class Cell:
    """One cell of the heatmap: a layer and a matrix. A part that does not exist there is None."""

    layer: str
    matrix: str
    parallel: Moments | None
    orthogonal: Moments | None
    pointwise: Moments | None

    def part(self, subspace: Subspace, used: Coefficients) -> Moments | None:
        """The sums of one subspace, the merged part scaled by its coefficient.

        Pointwise parameters have no base direction, so all of their change counts as orthogonal.
        """
        if subspace == "parallel":
            return None if self.parallel is None else self.parallel.scaled(used.parallel)
        parts = []
        if self.orthogonal is not None:
            parts.append(self.orthogonal.scaled(used.orthogonal))
        if self.pointwise is not None:
            parts.append(self.pointwise.scaled(used.pointwise))
        return sum(parts[1:], parts[0]) if parts else None


def cells(first: FirstPass) -> tuple[Cell, ...]:
    """The cells of the interference table, in the order of the model."""
    found: dict[tuple[str, str], dict[str, Moments]] = {}
    for statistics in first.statistics.values():
        cell = found.setdefault((statistics.parameter.layer, statistics.parameter.matrix), {})
        for kind, moments in _moments(statistics):
            cell[kind] = cell[kind] + moments if kind in cell else moments
    return tuple(
        Cell(layer, matrix, kinds.get("parallel"), kinds.get("orthogonal"), kinds.get("pointwise"))
        for (layer, matrix), kinds in found.items()
    )


def measure(name: str, cell: Cell, subspace: Subspace, used: Coefficients) -> float:
    """One measure of one cell; NaN where it does not apply. `name` is a key of `MEASURES`."""
    part = cell.part(subspace, used)
    if part is None:
        return math.nan
    if name == "energy_share":
        parts = (cell.part(other, used) for other in SUBSPACES)
        return _quotient(part.energy, sum(other.energy for other in parts if other is not None))
    return MEASURES[name](part)


def retention(part: Moments) -> np.ndarray:
    """(T,) share of its own part that each task finds in the merge; 1 is whole, NaN where it has none."""
    own = np.diag(part.gram)
    return np.divide(part.merged_dot, own, out=np.full(len(own), math.nan), where=own > 0)


def cosines(part: Moments) -> np.ndarray:
    """(T, T) cosines between the tasks' parts; NaN where a task has none."""
    norms = np.sqrt(np.diag(part.gram))
    scale = np.outer(norms, norms)
    return np.clip(np.divide(part.gram, scale, out=np.full(scale.shape, math.nan), where=scale > 0), -1.0, 1.0)


def _cancellation(part: Moments) -> float:
    norms = np.sqrt(np.clip(np.diag(part.gram), 0.0, None)).sum()
    return 1.0 - _quotient(math.sqrt(max(0.0, float(part.gram.sum()))), norms)


def _mean_cosine(part: Moments) -> float:
    pairs = cosines(part)[np.triu_indices(len(part.gram), 1)]
    return _mean(pairs)


def _sign_conflict(part: Moments) -> float:
    return _quotient(part.conflicting, part.voting)


def _applied_change(part: Moments) -> float:
    return _quotient(math.sqrt(max(0.0, part.merged_square)), math.sqrt(part.base_square))


def _election_margin(part: Moments) -> float:
    return _quotient(part.margin, part.weight)


MEASURES: Mapping[str, Callable[[Moments], float]] = {
    "retention": lambda part: _mean(retention(part)),
    "applied_change": _applied_change,
    "energy_share": lambda part: math.nan,  # needs both subspaces: see `measure`
    "cancellation": _cancellation,
    "cosine": _mean_cosine,
    "sign_conflict": _sign_conflict,
    "election_margin": _election_margin,
}
"""Every measure by key. Those that move with the coefficients come first: retention, applied_change."""


def interference(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    trim_ratio: float = 0.8,
    *,
    lambda_parallel: float | str = 0.0,
    lambda_orthogonal: float | str = "auto",
    lambda_pointwise: float | str = "auto",
    device: str = "cpu",
    job: Job = UNATTENDED,
) -> pd.DataFrame:
    """Tidy table of every measure of interference, for every layer, matrix and subspace.

    Args:
        base, tasks: as in `neuromerge.merge`.
        trim_ratio: r in [0, 1).
        lambda_parallel, lambda_orthogonal, lambda_pointwise: for the measures that move with them.

    Returns:
        DataFrame with the columns layer, matrix, subspace, measure, value. NaN is "not applicable". Beside the
        mean, `retention` has a row per task, named ``retention:<task>``.

    Raises the errors of `neuromerge.merge`.
    """
    import pandas as pd

    first, used = _first_pass(
        base, tasks, trim_ratio, lambda_parallel, lambda_orthogonal, lambda_pointwise, device, job
    )
    columns = ["layer", "matrix", "subspace", "measure", "value"]
    return pd.DataFrame(list(_rows(first, used)), columns=columns)


def task_cosines(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    trim_ratio: float = 0.8,
    *,
    device: str = "cpu",
    job: Job = UNATTENDED,
) -> pd.DataFrame:
    """Pairwise cosines between tasks per layer, matrix and subspace.

    Returns:
        DataFrame with the columns layer, matrix, subspace, task_a, task_b, value; every unordered pair once.
    """
    import pandas as pd

    first, used = _first_pass(base, tasks, trim_ratio, 0.0, "auto", "auto", device, job)
    rows = []
    for cell in cells(first):
        for subspace in SUBSPACES:
            part = cell.part(subspace, used)
            if part is None:
                continue
            matrix = cosines(part)
            for a, name_a in enumerate(first.task_names):
                for b in range(a + 1, len(first.task_names)):
                    rows.append((cell.layer, cell.matrix, subspace, name_a, first.task_names[b], float(matrix[a, b])))
    return pd.DataFrame(rows, columns=["layer", "matrix", "subspace", "task_a", "task_b", "value"])


def _first_pass(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    trim_ratio: float,
    lambda_parallel: float | str,
    lambda_orthogonal: float | str,
    lambda_pointwise: float | str,
    device: str,
    job: Job,
) -> tuple[FirstPass, Coefficients]:
    values = check_values(
        NeuroMerging(),
        {
            "trim_ratio": trim_ratio,
            "lambda_parallel": lambda_parallel,
            "lambda_orthogonal": lambda_orthogonal,
            "lambda_pointwise": lambda_pointwise,
        },
    )
    vectors = AlignedVectors(aligned_sources(base, tasks), device)
    thresholds = global_thresholds(vectors, values["trim_ratio"], job)
    return first_pass(vectors, thresholds, keep_parts=False, job=job), coefficients(values, thresholds)


def _rows(first: FirstPass, used: Coefficients) -> Iterator[tuple[str, str, str, str, float]]:
    for cell in cells(first):
        for subspace in SUBSPACES:
            for name in MEASURES:
                yield cell.layer, cell.matrix, subspace, name, measure(name, cell, subspace, used)
            part = cell.part(subspace, used)
            if part is not None:
                for task, value in zip(first.task_names, retention(part), strict=True):
                    yield cell.layer, cell.matrix, subspace, f"retention:{task}", float(value)


def _moments(statistics: NeuronStatistics | PointwiseStatistics) -> Iterator[tuple[str, Moments]]:
    if isinstance(statistics, PointwiseStatistics):
        yield (
            "pointwise",
            Moments(
                gram=statistics.gram.numpy(),
                merged_dot=statistics.merged_dot.numpy(),
                merged_square=statistics.merged_square,
                base_square=statistics.base_square,
                conflicting=statistics.conflict[0],
                voting=statistics.conflict[1],
                margin=statistics.margin,
                weight=statistics.margin_weight,
            ),
        )
        return
    square, c, merged = statistics.base_square, statistics.parallel, statistics.parallel_merged
    weighted = c * square.unsqueeze(1)
    length = square.sqrt()
    several = (c != 0).sum(1) >= 2
    both = (c > 0).any(1) & (c < 0).any(1)
    yield (
        "parallel",
        Moments(
            gram=(c.T @ weighted).numpy(),
            merged_dot=(merged @ weighted).numpy(),
            merged_square=float((merged.square() * square).sum()),
            base_square=float(square.sum()),
            conflicting=int(both.sum()),
            voting=int(several.sum()),
            margin=float((length * c.sum(1).abs()).sum()),
            weight=float((length * c.abs().sum(1)).sum()),
        ),
    )
    dots = torch.bmm(statistics.gram, statistics.alpha.unsqueeze(2)).squeeze(2)
    conflict = statistics.conflict or (0, 0)
    yield (
        "orthogonal",
        Moments(
            gram=statistics.gram.sum(0).numpy(),
            merged_dot=dots.sum(0).numpy(),
            merged_square=float((statistics.alpha * dots).sum()),
            base_square=float(square.sum()),
            conflicting=conflict[0],
            voting=conflict[1],
            margin=float(statistics.margin.sum()),
            weight=float(statistics.margin_weight.sum()),
        ),
    )


def _quotient(a: float, b: float) -> float:
    return float(a) / float(b) if b > 0 else math.nan


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
