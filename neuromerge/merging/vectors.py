"""Task vectors: what a method reads, one chunk of rows at a time; those of aligned checkpoints, and views of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.chunks import Scratch
from neuromerge.merging.profile import TaskWeights


class TaskVectors(Protocol):
    """What a method reads: parameters, their base values and their task vectors, one parameter at a time."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """The merge units, in the base's order."""
        ...

    @property
    def task_names(self) -> Sequence[str]:
        """One name per task vector, in the order of `tau`'s first axis."""
        ...

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (*shape), tau (T, *shape)) in the working dtype: float32, or float64 where the base is float64.

        `start` and `stop` choose rows: neurons of a linear map, entries of a pointwise parameter. The base must
        not be written to; tau is a scratch tensor that the caller may change and that the next `read` may reuse.
        """
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is merged at a time: some rows of a parameter, and what every task changed there.

    Attributes:
        parameter: whose rows these are.
        base: (rows, ...) base weights; not to be written to.
        tau: (T, rows, ...) task vectors, scratch that the method may trim (or change, if it says so: `alters_tau`).
        start: the first of the rows, counted in the whole parameter.
    """

    parameter: Parameter
    base: torch.Tensor
    tau: torch.Tensor
    start: int = 0


def read_chunk(vectors: TaskVectors, parameter: Parameter, start: int = 0, stop: int | None = None) -> Chunk:
    """The chunk of rows `start` to `stop` of a parameter; the whole of it by default."""
    return Chunk(parameter, *vectors.read(parameter, start, stop), start)


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

    Args:
        aligned: base and experts.
        device: where task vectors are computed.
        weights: of the tasks, which multiply their vectors; all 1 when empty.
    """

    def __init__(self, aligned: AlignedWeights, device: str | torch.device = "cpu", weights: TaskWeights = ()):
        self.aligned = aligned
        self.weights = weights
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
        return self.aligned.base_tensor(parameter)[start:stop].to(self.device, self.dtype)

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (rows, ...), tau (T, rows, ...)) of rows start..stop; tau is good until this thread's next reading.

        Raises CheckpointError naming the file and the key where a weight is NaN or infinite.
        """
        base = self.base(parameter, start, stop)
        tau = self._scratch.take((len(self.task_names), *base.shape), self.dtype, self.device)
        for task, vector in enumerate(tau):
            expert = self.aligned.expert_tensor(task, parameter)
            if expert is None:
                vector.zero_()
            elif expert.dtype == self.dtype and expert.device == self.device:
                torch.sub(expert[start:stop], base, out=vector)
            else:
                vector.copy_(expert[start:stop]).sub_(base)
        return base, self.weighted(tau)

    def weighted(self, tau: torch.Tensor) -> torch.Tensor:
        """tau (T, ...) times the weights of the tasks; in place, returns tau."""
        for vector, weight in zip(tau, self.weights, strict=False):
            if weight != 1.0:
                vector.mul_(weight)
        return tau


class WatchedVectors:
    """Task vectors that tell of every reading before it is made, from whichever thread reads: for progress and stops.

    Args:
        vectors: what is read.
        before: called with the number of entries of the base that a reading covers; may raise to stop the pass.
    """

    def __init__(self, vectors: AlignedVectors, before: Callable[[int], None]):
        self._vectors, self._before = vectors, before
        self.parameters, self.task_names = vectors.parameters, vectors.task_names

    def base(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """See `AlignedVectors.base`."""
        return self._vectors.base(parameter, start, stop)

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `TaskVectors.read`."""
        rows = len(range(*slice(start, stop).indices(parameter.shape[0])))
        self._before(rows * (parameter.numel // max(1, parameter.shape[0])))
        return self._vectors.read(parameter, start, stop)
