"""Task vectors read from aligned checkpoints, one chunk of rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.chunks import Scratch


class AlignedWeights(Protocol):
    """What `neuromerge.checkpoints.align` returns, as far as merging needs it."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What is merged, in the order of the base."""
        ...

    @property
    def task_names(self) -> Sequence[str]:
        """T names, one per expert."""
        ...

    def base_tensor(self, parameter: Parameter) -> torch.Tensor:
        """(*shape) in the stored dtype."""
        ...

    def expert_tensor(self, task: int, parameter: Parameter) -> torch.Tensor | None:
        """(*shape) in the stored dtype; None where the expert has no such part, so that its task vector is 0."""
        ...


class AlignedVectors:
    """The task vectors of aligned checkpoints: theta_t - theta_0, computed when read, never stored.

    The working dtype is float32, or float64 where the base holds float64. Safe to read from several threads
    at once.
    """

    def __init__(self, aligned: AlignedWeights, device: str | torch.device = "cpu"):
        self._aligned = aligned
        self.device = torch.device(device)
        self.parameters: tuple[Parameter, ...] = tuple(aligned.parameters)
        self.task_names: tuple[str, ...] = tuple(aligned.task_names)
        wide = any(aligned.base_tensor(p).dtype == torch.float64 for p in self.parameters)
        self.dtype = torch.float64 if wide else torch.float32
        self._scratch = Scratch()

    @property
    def entries(self) -> int:
        """d, the number of merged entries of one task vector."""
        return sum(p.numel for p in self.parameters)

    def base(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows start..stop of the base in the working dtype and on the device (may share memory with the file)."""
        return self._aligned.base_tensor(parameter)[start:stop].to(self.device, self.dtype)

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (rows, ...), tau (T, rows, ...)) of rows start..stop; tau is good until this thread's next reading.

        Raises CheckpointError naming the file and the key where a weight is NaN or infinite.
        """
        base = self.base(parameter, start, stop)
        tau = self._scratch.take((len(self.task_names), *base.shape), self.dtype, self.device)
        for task, vector in enumerate(tau):
            expert = self._aligned.expert_tensor(task, parameter)
            if expert is None:
                vector.zero_()
            elif expert.dtype == self.dtype and expert.device == self.device:
                torch.sub(expert[start:stop], base, out=vector)
            else:
                vector.copy_(expert[start:stop]).sub_(base)
        return base, tau
