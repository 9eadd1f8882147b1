"""Task vectors: what a method reads, one chunk of rows at a time; those of aligned checkpoints, and views of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.chunks import Scratch
from neuromerge.merging.devices import find_device, room
from neuromerge.merging.kernels.table import Rows, StoredVectors
from neuromerge.merging.profile import TaskWeights

if TYPE_CHECKING:
    from neuromerge.merging.retention import Tally


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

    @property
    def device(self) -> torch.device:
        """Where `read` puts what it reads."""
        ...

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (*shape), tau (T, *shape)) in the working dtype: float32, or float64 where the base is float64.

        `start` and `stop` choose rows: neurons of a linear map, entries of a pointwise parameter. The base must
        not be written to; tau is a scratch tensor that the caller may change and that the next `read` may reuse.
        """
        ...


class Chunk:
    """What is merged at a time: some rows of a parameter, and what every task changed there.

    Attributes:
        parameter: whose rows these are.
        start: the first of the rows, counted in the whole parameter.
        rows: the same as it is stored, for a compiled kernel; None where torch does the work. Who takes it leaves
            `base` and `tau` alone, which are read when they are first asked for.
        tally: who asks what the tasks find of themselves in the merged change; None once it is told, or nobody asks.
    """

    def __init__(self, vectors: TaskVectors, parameter: Parameter, start: int, stop: int | None, fused: bool):
        self.parameter, self.start = parameter, start
        self.rows: Rows | None = None
        self.tally: Tally | None = None
        if fused:
            self.rows = cast(StoredVectors, vectors).stored(parameter, start, stop)  # `served` has looked
        self._read = partial(vectors.read, parameter, start, stop)
        self._found: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def base(self) -> torch.Tensor:
        """(rows, ...) base weights; not to be written to."""
        return self._both()[0]

    @property
    def tau(self) -> torch.Tensor:
        """(T, rows, ...) task vectors, scratch that the method may trim (or change, if it says so: `alters_tau`)."""
        return self._both()[1]

    def tell(self, products: np.ndarray, squares: np.ndarray) -> None:
        """Tell the tally (`Tally.add_rows`): for a pass that comes to know it on its way."""
        if self.tally is not None:
            self.tally.add_rows(products, squares)
            self.tally = None

    def _both(self) -> tuple[torch.Tensor, torch.Tensor]:
        if self._found is None:
            self._found = self._read()
        return self._found


def read_chunk(
    vectors: TaskVectors, parameter: Parameter, start: int = 0, stop: int | None = None, *, fused: bool = False
) -> Chunk:
    """The chunk of rows `start` to `stop` of a parameter; the whole of it by default.

    `fused` lets compiled kernels have it as it is stored (`kernels.table.served`, asked once a pass).
    """
    return Chunk(vectors, parameter, start, stop, fused)


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


_Stored = tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]
"""Base and experts of a parameter, in their stored dtypes."""


_SMALL = 1 << 16
"""Entries of all tasks up to which it is remembered where a parameter lies: to ask takes longer than to work on it."""


class _Last(threading.local):
    """What a thread has read last."""

    name = ""
    stored: _Stored | None = None
    rows: Rows | None = None


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
        self.device = find_device(device)
        self.parameters: tuple[Parameter, ...] = tuple(aligned.parameters)
        self.task_names: tuple[str, ...] = tuple(aligned.task_names)
        wide = any(aligned.base_tensor(p).dtype == torch.float64 for p in self.parameters)
        self.dtype = torch.float64 if wide else torch.float32
        self._scratch = Scratch()
        self._room = room(self.device)
        self._held: dict[str, _Stored] = {}
        self._small: dict[str, Rows] = {}
        self._last = _Last()

    @cached_property
    def entries(self) -> int:
        """d, the number of merged entries of one task vector."""
        return sum(p.numel for p in self.parameters)

    def base(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows start..stop of the base in the working dtype and on the device (may share memory with the file)."""
        held = self._held.get(parameter.name)
        stored = self.aligned.base_tensor(parameter) if held is None else held[0]
        return stored[start:stop].to(self.device, self.dtype)

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (rows, ...), tau (T, rows, ...)) of rows start..stop; tau is good until this thread's next reading.

        Raises CheckpointError naming the file and the key where a weight is NaN or infinite.
        """
        stored, experts = self._stored(parameter)
        base = stored[start:stop].to(self.device, self.dtype)
        tau = self._scratch.take((len(self.task_names), *base.shape), self.dtype, self.device)
        for vector, expert in zip(tau, experts, strict=True):
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

    def stored(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> Rows:
        """Rows start..stop where they lie: what `read` reads, before anything is widened or subtracted.

        Raises CheckpointError as `read` does.
        """
        if self.are_weighted:
            return self.as_read(parameter, start, stop)
        rows = self._small.get(parameter.name)
        if rows is None:
            base, tasks = self._stored(parameter)
            rows = self._last.rows if self._last.name == parameter.name else None
            if rows is None:
                rows = self._last.rows = Rows(base, tasks, True, self.dtype)
            if parameter.numel * len(self.task_names) <= _SMALL:
                self._small[parameter.name] = rows
        return rows.part(start, stop)

    def _stored(self, parameter: Parameter) -> _Stored:
        """Base and experts of a parameter, as stored: on the accelerator while there is room for them.

        A thread keeps those of its last parameter, whose chunks follow each other: making a view takes as long as
        working on a small chunk, and an adapter's weights are computed. It keeps no more: they may be large.
        """
        found = self._held.get(parameter.name)
        if found is None and self._last.name == parameter.name:
            found = self._last.stored
        if found is None:
            experts = (self.aligned.expert_tensor(task, parameter) for task in range(len(self.task_names)))
            found = (self.aligned.base_tensor(parameter), tuple(experts))
            needed = sum(t.nbytes for t in (found[0], *found[1]) if t is not None and t.device != self.device)
            if 0 < needed <= self._room:
                self._room -= needed
                found = (found[0].to(self.device), tuple(t if t is None else t.to(self.device) for t in found[1]))
                self._held[parameter.name] = found
            else:
                self._last.name, self._last.stored, self._last.rows = parameter.name, found, None
        return found

    @property
    def are_weighted(self) -> bool:
        """Whether any task vector is multiplied by something."""
        return any(weight != 1.0 for weight in self.weights)

    def as_read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> Rows:
        """Rows start..stop as `read` gives them; good until this thread's next reading."""
        base, tau = self.read(parameter, start, stop)
        return Rows(base, tuple(tau), False, self.dtype)


class WatchedVectors:
    """Task vectors that tell of every reading before it is made, from whichever thread reads: for progress and stops.

    Args:
        vectors: what is read.
        before: called with the number of entries of the base that a reading covers; may raise to stop the pass.
    """

    def __init__(self, vectors: AlignedVectors, before: Callable[[int], None]):
        self._vectors, self._before = vectors, before
        self.parameters, self.task_names = vectors.parameters, vectors.task_names
        self.dtype, self.device = vectors.dtype, vectors.device

    def base(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """See `AlignedVectors.base`."""
        return self._vectors.base(parameter, start, stop)

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `TaskVectors.read`."""
        self._tell(parameter, start, stop)
        return self._vectors.read(parameter, start, stop)

    def stored(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> Rows:
        """See `AlignedVectors.stored`."""
        self._tell(parameter, start, stop)
        return self._vectors.stored(parameter, start, stop)

    def _tell(self, parameter: Parameter, start: int, stop: int | None) -> None:
        rows = len(range(*slice(start, stop).indices(parameter.shape[0])))
        self._before(rows * (parameter.numel // max(1, parameter.shape[0])))
