"""Stored rows as a kernel finds them: views of tensors where they lie, and the table of their addresses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.kernels.codes import ABSENT, BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from neuromerge.merging.kernels.switch import in_use

_CODES = {torch.float32: FLOAT32, torch.float64: FLOAT64, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16}


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a parameter, as they are stored.

    Attributes:
        base: (rows, ...) base weights in their stored dtype.
        tasks: T tensors of the same shape, of any floating dtype each; None for a task vector of zeros.
        subtract: whether `tasks` hold experts, from which the base is subtracted, or task vectors.
        dtype: the working dtype, in which task vectors are what `TaskVectors.read` gives.
    """

    base: torch.Tensor
    tasks: tuple[torch.Tensor | None, ...]
    subtract: bool
    dtype: torch.dtype


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
    """Where the rows of `Rows` are: what a kernel takes. Keeps the tensors alive.

    Attributes:
        lines: (T + 1, 3) int64, the base last: address, bytes from row to row, code of the dtype.
        rows, width: of the matrix that a kernel goes through; a pointwise parameter is one row, and so is, where the
            kernel does not ask for neurons, everything that lies in one piece.
        subtract: see `Rows`.
    """

    def __init__(self, rows: Rows, neurons: bool) -> None:
        """`neurons` keeps rows apart even where they lie in one piece."""
        self._held = [None if t is None else _in_rows(t, rows.dtype) for t in (*rows.tasks, rows.base)]
        base = self._held[-1]
        assert base is not None
        self.rows, self.width = base.shape
        self.subtract = rows.subtract
        if not neurons and self.rows > 1 and all(t is None or t.is_contiguous() for t in self._held):
            self.rows, self.width = 1, self.rows * self.width
        self.lines = np.array([_line(tensor) for tensor in self._held], dtype=np.int64)

    def out(self, tensor: torch.Tensor) -> np.ndarray:
        """A contiguous tensor of the rows' shape as the (rows, width) matrix that a kernel fills."""
        return tensor.view(self.rows, self.width).numpy()


def _in_rows(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor as (rows, width), each row in one piece: itself, or a copy where it is stored otherwise."""
    matrix = tensor.unsqueeze(0) if tensor.ndim == 1 else tensor.flatten(1)
    if matrix.dtype not in _CODES:
        matrix = matrix.to(dtype)
    in_pieces = matrix.shape[1] > 1 and matrix.stride(1) != 1
    if in_pieces or matrix.data_ptr() % matrix.element_size():
        return matrix.clone(memory_format=torch.contiguous_format)
    return matrix


def _line(tensor: torch.Tensor | None) -> tuple[int, int, int]:
    if tensor is None:
        return 0, 0, ABSENT
    return tensor.data_ptr(), tensor.stride(0) * tensor.element_size(), _CODES[tensor.dtype]
