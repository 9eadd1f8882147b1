"""Stored rows as a kernel finds them: views of tensors where they lie, and the table of their addresses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.kernels.codes import ABSENT, BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from neuromerge.merging.kernels.switch import in_use

_CODES = {torch.float32: FLOAT32, torch.float64: FLOAT64, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16}


class Rows:
    """Some rows of a parameter, as they are stored. Keeps the tensors alive.

    Args:
        base: (rows, ...) base weights in their stored dtype.
        tasks: T tensors of the same shape, of any floating dtype each; None for a task vector of zeros.
        subtract: whether `tasks` hold experts, from which the base is subtracted, or task vectors.
        dtype: the working dtype, in which task vectors are what `TaskVectors.read` gives.
    """

    def __init__(
        self, base: torch.Tensor, tasks: tuple[torch.Tensor | None, ...], subtract: bool, dtype: torch.dtype
    ) -> None:
        self.subtract, self.dtype = subtract, dtype
        self._base, self._tasks = base, tasks
        self._start, self._stop = 0, len(base)
        self._held: tuple[torch.Tensor | None, ...] = (*tasks, base)
        self._lines = _lines(self._held) if all(t is None or _lies_in_rows(t) for t in self._held) else None

    @property
    def base(self) -> torch.Tensor:
        """The base weights of these rows."""
        return self._base[self._start : self._stop]

    @property
    def tasks(self) -> tuple[torch.Tensor | None, ...]:
        """The experts, or task vectors, of these rows."""
        return tuple(t if t is None else t[self._start : self._stop] for t in self._tasks)

    @property
    def task_count(self) -> int:
        """T."""
        return len(self._tasks)

    @property
    def shape(self) -> torch.Size:
        """That of the base weights of these rows."""
        return torch.Size((self._stop - self._start, *self._base.shape[1:]))

    def part(self, start: int, stop: int | None) -> Rows:
        """Those from `start` to `stop`.

        Where the rows lie as a kernel takes them, no tensor is touched: for few rows that takes longer than the kernel.
        """
        if self._lines is None:  # only what is asked for is copied
            tasks = tuple(t if t is None else t[start:stop] for t in self.tasks)
            return Rows(self.base[start:stop], tasks, self.subtract, self.dtype)
        span = range(self._start, self._stop)[start:stop]
        if len(span) == self._stop - self._start:
            return self
        chosen = copy(self)
        chosen._start, chosen._stop = span.start, max(span.start, span.stop)
        return chosen

    def matrix(self, neurons: bool) -> tuple[np.ndarray, int, int]:
        """Where a kernel finds these rows, and how many of what width: see `Table`."""
        if self._lines is None:
            self._held = tuple(t if t is None else _in_rows(t, self.dtype) for t in self._held)
            self._lines = _lines(self._held)
        rows, lines = self._stop - self._start, self._lines.copy()
        lines[:, 0] += self._start * lines[:, 1]
        width = math.prod(self._base.shape[1:])
        pointwise = self._base.ndim == 1
        if pointwise or (not neurons and all(t is None or t.is_contiguous() for t in self._held)):
            return lines, 1, rows * width
        return lines, rows, width


@runtime_checkable
class StoredVectors(Protocol):
    """Task vectors that show their rows as they are stored, so that a kernel reads them where they lie."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """The merge units, in the base's order."""
        ...

    @property
    def task_names(self) -> Sequence[str]:
        """T names."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The working dtype."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        ...

    def stored(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> Rows:
        """Rows start..stop, nothing widened, copied or subtracted. Good until this thread's next reading."""
        ...


@dataclass(frozen=True, slots=True)
class Counted:
    """Entries of one task around a bracket [low, high], of some rows.

    Attributes:
        entries: all of them; `reached`: those >= low; `above`: those > high.
        l1, l1_above: sums of all magnitudes, and of those > high (of scores: not summed, 0).
        most: the largest (of magnitudes: not looked for, 0).
        found: those inside, in any order; empty where they were not wanted.
    """

    entries: int
    reached: int
    above: int
    l1: float
    l1_above: float
    most: float
    found: np.ndarray


def served(vectors: object) -> TypeGuard[StoredVectors]:
    """Whether a pass over these task vectors should take the compiled kernels; asked once, at its beginning."""
    return isinstance(vectors, StoredVectors) and in_use(vectors.dtype, vectors.device)


class Table:
    """Where the rows of `Rows` are: what a kernel takes.

    Attributes:
        lines: (T + 1, 3) int64, the base last: address, bytes from row to row, code of the dtype.
        rows, width: of the matrix that a kernel goes through; a pointwise parameter is one row, and so is, where the
            kernel does not ask for neurons, everything that lies in one piece.
        subtract: see `Rows`.
    """

    def __init__(self, rows: Rows, neurons: bool) -> None:
        """`neurons` keeps rows apart even where they lie in one piece."""
        self._held = rows
        self.lines, self.rows, self.width = rows.matrix(neurons)
        self.subtract = rows.subtract

    def out(self, tensor: torch.Tensor) -> np.ndarray:
        """A contiguous tensor of the rows' shape as the (rows, width) matrix that a kernel fills."""
        return tensor.view(self.rows, self.width).numpy()


def _lies_in_rows(tensor: torch.Tensor) -> bool:
    """Whether a kernel takes the tensor as it is stored: each row in one piece, every number where it may be read."""
    in_one_piece = tensor.is_contiguous() or (tensor.ndim > 1 and tensor[:1].is_contiguous())
    return in_one_piece and tensor.dtype in _CODES and tensor.data_ptr() % tensor.element_size() == 0


def _in_rows(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor, or a copy that lies in rows."""
    if _lies_in_rows(tensor):
        return tensor
    own = tensor if tensor.dtype in _CODES else tensor.to(dtype)
    return own.clone(memory_format=torch.contiguous_format)


def _lines(tensors: tuple[torch.Tensor | None, ...]) -> np.ndarray:
    return np.array(
        [
            (0, 0, ABSENT) if t is None else (t.data_ptr(), t.stride(0) * t.element_size(), _CODES[t.dtype])
            for t in tensors
        ],
        dtype=np.int64,
    )
