"""The sums behind every measure of interference, cell by cell, from the first pass alone.

Every measure is a function of a few sums over the neurons of a cell (a layer and a matrix): inner products
between tasks, between the merged part and each task, and counts. These sums add up over the parameters of a
cell; no weight is read again, and a change of lambda only rescales the merged part. Definitions: METHOD,
section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from neuromerge.merging.linear import Coefficients, Part
from neuromerge.merging.staged import FirstPass, PointwiseStatistics, Statistics

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
        return replace(
            self,
            merged_dot=self.merged_dot * coefficient,
            merged_square=self.merged_square * coefficient**2,
        )

    @property
    def energy(self) -> float:
        """sum_t |tau_t|^2."""
        return float(np.trace(self.gram))


@dataclass(frozen=True)
class Cell:
    """One cell of the heatmap: a layer and a matrix, and the sums of those parts that exist there.

    The merged part in the sums is that for coefficients of 1.
    """

    layer: str
    matrix: str
    parts: Mapping[Part, Moments]

    @property
    def energy(self) -> float:
        """sum_t |tau_t|^2 over all that changes in this cell."""
        return sum(moments.energy for moments in self.parts.values())

    def part(self, subspace: Subspace, used: Coefficients) -> Moments | None:
        """The sums of one subspace, the merged part scaled by its coefficient.

        Pointwise parameters have no base direction, so all of their change counts as orthogonal.
        """
        parts = [
            moments.scaled(used.of(name, self))
            for name, moments in self.parts.items()
            if (name == "parallel") == (subspace == "parallel")
        ]
        return sum(parts[1:], parts[0]) if parts else None


def cells(first: FirstPass) -> tuple[Cell, ...]:
    """The cells of the interference table, in the order of the model."""
    found: dict[tuple[str, str], dict[Part, Moments]] = {}
    for statistics in first.statistics.values():
        cell = found.setdefault((statistics.parameter.layer, statistics.parameter.matrix), {})
        for part, moments in _moments(statistics):
            cell[part] = cell[part] + moments if part in cell else moments
    return tuple(Cell(layer, matrix, parts) for (layer, matrix), parts in found.items())


def retention(part: Moments) -> np.ndarray:
    """(T,) share of its own part that each task finds in the merge; 1 is whole, NaN where it has none."""
    own = np.diag(part.gram)
    return np.divide(part.merged_dot, own, out=np.full(len(own), math.nan), where=own > 0)


def cosines(gram: np.ndarray) -> np.ndarray:
    """(T, T) cosines from inner products (T, T) of the tasks' parts; NaN where a task has none."""
    norms = np.sqrt(np.clip(np.diag(gram), 0.0, None))
    scale = np.outer(norms, norms)
    return np.clip(np.divide(gram, scale, out=np.full(scale.shape, math.nan), where=scale > 0), -1.0, 1.0)


def _moments(statistics: Statistics) -> Iterator[tuple[Part, Moments]]:
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
