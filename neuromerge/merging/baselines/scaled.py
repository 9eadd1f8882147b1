"""What most baselines share: a change that one coefficient multiplies, and plain row-wise passes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from neuromerge.merging.chunks import row_chunks
from neuromerge.merging.registry import AUTO, Chunk, Hyperparameter, MergeMethod, Run, TaskVectors
from neuromerge.merging.trim import Thresholds


class ScaledMethod(MergeMethod):
    """A method whose parameter ``scale`` merely multiplies the merged change.

    So whoever keeps `unit_change` answers a new scale with one multiplication: it depends on every other
    parameter, never on ``scale``.
    """

    def factor(self, values: Mapping[str, Any]) -> float:
        """The coefficient that these values ask for. Methods with an automatic one say here what it is."""
        return float(values["scale"])

    @abstractmethod
    def unit_change(self, chunk: Chunk, run: Run[Any]) -> torch.Tensor:
        """The change of a chunk for a scale of 1, a tensor of its own: shaped as its base, in tau's dtype."""

    def merge_chunk(self, chunk: Chunk, run: Run[Any]) -> torch.Tensor:
        """`unit_change` times `factor`."""
        return self.unit_change(chunk, run).mul_(self.factor(run.values))

    def report(self, run: Run[Any]) -> dict[str, Any]:
        """The coefficient used."""
        return {"scale": self.factor(run.values)}


def scale_spec(default: float | str, description: str, *, slider: tuple[float, float] = (0.0, 2.0)) -> Hyperparameter:
    """The parameter ``scale`` of a `ScaledMethod`."""
    return Hyperparameter(
        name="scale",
        label="Scale λ",
        kind="float",
        default=default,
        description=description,
        minimum=0.0,
        maximum=10.0,
        step=0.01,
        auto=default == AUTO,
        slider=slider,
    )


def trim_ratio_spec(description: str, name: str = "trim_ratio", label: str = "Trim ratio r") -> Hyperparameter:
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
    )


def trim_report(task_names: Sequence[str], thresholds: Thresholds) -> dict[str, Any]:
    """What a trim did, per task: for the result."""
    return {
        "sigma": thresholds.sigma,
        "sigma_per_task": dict(zip(task_names, thresholds.removed_share.tolist(), strict=True)),
        "kept_share": dict(zip(task_names, thresholds.kept_share.tolist(), strict=True)),
    }


def task_vector_chunks(vectors: TaskVectors) -> Iterator[torch.Tensor]:
    """Every task vector, chunk by chunk: tau (T, rows, ...), scratch until the next chunk."""
    for parameter in vectors.parameters:
        for start, stop in row_chunks(parameter, len(vectors.task_names)):
            yield vectors.read(parameter, start, stop)[1]
