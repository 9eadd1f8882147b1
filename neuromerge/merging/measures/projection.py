"""What any method's merged change shares with the tasks' parts, for methods that do not merge part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.chunks import row_chunks
from neuromerge.merging.kernels.table import StoredVectors, served
from neuromerge.merging.linear import Components, Part, rows, total
from neuromerge.merging.measures.cells import Cell
from neuromerge.merging.staged import FirstPass, PointwiseStatistics, Statistics
from neuromerge.merging.trim import Thresholds, apply_trim
from neuromerge.merging.vectors import TaskVectors
from neuromerge.progress import UNATTENDED, Job
from neuromerge.threads import between_steps

_Shared = tuple[np.ndarray, float]
"""(T,) inner products of the change with each task's part, and the squared norm of the change there."""


def with_merged(
    found: tuple[Cell, ...],
    first: FirstPass,
    vectors: TaskVectors,
    components: Mapping[str, Components],
    job: Job = UNATTENDED,
) -> tuple[Cell, ...]:
    """`found` with another merged part: that of `components` (by parameter name) for coefficients of 1.

    One reading of the task vectors.
    """
    tasks = len(first.task_names)
    sums: dict[tuple[str, str, Part], _Shared] = {}
    for name, statistics in first.statistics.items():
        job.check()
        between_steps()
        parameter = statistics.parameter
        for part, (dots, square) in _shared(vectors, first.thresholds, statistics, components[name]).items():
            key = (parameter.layer, parameter.matrix, part)
            before = sums.get(key, (np.zeros(tasks), 0.0))
            sums[key] = (before[0] + dots, before[1] + square)

    def moved(cell: Cell) -> Cell:
        parts = {}
        for part, moments in cell.parts.items():
            dots, square = sums[cell.layer, cell.matrix, part]
            parts[part] = replace(moments, merged_dot=dots, merged_square=square)
        return replace(cell, parts=parts)

    return tuple(map(moved, found))


def _shared(
    vectors: TaskVectors, thresholds: Thresholds, statistics: Statistics, components: Components
) -> dict[Part, _Shared]:
    parameter = statistics.parameter
    if isinstance(statistics, PointwiseStatistics):
        base, tau = vectors.read(parameter)
        change = total(components, base).to(base)
        dots = apply_trim(tau, thresholds) @ change
        return {"pointwise": (dots.double().numpy(), float(change.double().square().sum()))}
    tasks = len(vectors.task_names)
    parallel, orthogonal = torch.zeros(tasks, dtype=torch.float64), torch.zeros(tasks, dtype=torch.float64)
    parallel_square = orthogonal_square = 0.0
    products = _fused_products if served(vectors) else _products
    for start, stop in row_chunks(parameter, tasks, vectors.device):
        dots, along, length = products(vectors, thresholds, parameter, rows(components, start, stop), start, stop)
        square = statistics.base_square[start:stop]
        shared = torch.where(square > 0, along / square, torch.zeros_like(along))
        own = shared.unsqueeze(1) * statistics.parallel[start:stop] * square.unsqueeze(1)
        parallel += own.sum(0)
        orthogonal += (dots - own).sum(0)
        own_square = float((shared.square() * square).sum())
        parallel_square += own_square
        orthogonal_square += float(length.sum()) - own_square
    return {
        "parallel": (parallel.numpy(), parallel_square),
        "orthogonal": (orthogonal.numpy(), max(0.0, orthogonal_square)),
    }


_Products = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""<change, tau_t> (k, T), <change, w_0> (k,) and |change|^2 (k,) of k neurons, float64."""


def _products(
    vectors: TaskVectors, thresholds: Thresholds, parameter: Parameter, components: Components, start: int, stop: int
) -> _Products:
    base, tau = vectors.read(parameter, start, stop)
    apply_trim(tau, thresholds)
    change = total(components, base).to(base)
    dots = torch.bmm(tau.movedim(0, 1), change.unsqueeze(2)).squeeze(2).double()
    return dots, (change * base).sum(1).double(), change.square().sum(1).double()


def _fused_products(
    vectors: TaskVectors, thresholds: Thresholds, parameter: Parameter, components: Components, start: int, stop: int
) -> _Products:
    """`_products` by a compiled kernel, in one reading of the rows."""
    from neuromerge.merging.kernels import calls

    assert isinstance(vectors, StoredVectors)
    stored = vectors.stored(parameter, start, stop)
    change = total(components, stored.base.to(stored.dtype))
    found = calls.inner_products(stored, thresholds.value, change)
    return found.dots, found.along, found.square
