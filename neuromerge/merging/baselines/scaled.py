"""What most baselines share: the hyperparameters ``scale`` and ``trim_ratio``, and plain passes over chunks of rows."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from neuromerge.merging.chunks import row_chunks
from neuromerge.merging.hyperparameters import AUTO, Hyperparameter
from neuromerge.merging.linear import SCALE
from neuromerge.merging.vectors import TaskVectors


def scale_spec(default: float | str, description: str, *, slider: tuple[float, float] = (0.0, 2.0)) -> Hyperparameter:
    """The coefficient of a method that has one for its whole change."""
    return Hyperparameter(
        name=SCALE,
        label="Scale λ",
        kind="float",
        default=default,
        description=description,
        minimum=0.0,
        maximum=10.0,
        step=0.01,
        auto=default == AUTO,
        slider=slider,
        retention=True,
    )


def trim_ratio_spec(
    description: str,
    name: str = "trim_ratio",
    label: str = "Trim ratio r",
    grid: tuple[float, ...] = (0.7, 0.8, 0.9),
) -> Hyperparameter:
    """A trim ratio, as NeuroMerging has it: the share of entries REMOVED.

    Only a trim of the task vectors themselves is called ``trim_ratio``: pictures of interference trim alike.
    """
    return Hyperparameter(
        name=name,
        label=label,
        kind="float",
        default=0.8,
        description=description,
        minimum=0.0,
        maximum=1.0,
        exclusive_maximum=True,
        step=0.01,
        slider=(0.0, 0.99),
        grid=grid,
    )


def task_vector_chunks(vectors: TaskVectors) -> Iterator[torch.Tensor]:
    """Every task vector, chunk by chunk: tau (T, rows, ...), scratch until the next chunk."""
    for parameter in vectors.parameters:
        for start, stop in row_chunks(parameter, len(vectors.task_names), vectors.device):
            yield vectors.read(parameter, start, stop)[1]
