"""What methods share that look at whole matrices: which parameters those are, and q, k and v taken as one.

What is no matrix (`spectra.is_matrix`) is averaged, as in the published code.

open_clip stores q, k and v as one matrix (3d, d), transformers as three. Published code takes what is stored, so its
result depends on the layout. Here the three are apart by default, whatever the layout; with ``fused`` they are one, as
in the repositories that work on open_clip's checkpoints.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.linear import UNIT, Components
from neuromerge.merging.method import MergeMethod, Run
from neuromerge.merging.spectra import is_matrix
from neuromerge.merging.trim import Thresholds
from neuromerge.merging.vectors import Chunk, TaskVectors

_ATTENTION = ("q", "k", "v")

FUSED = Hyperparameter(
    name="fused",
    label="Take q, k and v as one matrix",
    kind="bool",
    default=False,
    description="Merge the query, key and value maps of a block as the one matrix that open_clip stores, as published "
    "code does on such checkpoints. Otherwise the three are merged apart, and the result is the same for all layouts.",
)


class MatrixMethod(MergeMethod):
    """A method that merges every matrix by itself and averages everything else.

    Its hyperparameters must include `FUSED`.
    """

    @abstractmethod
    def matrix_change(self, tau: torch.Tensor, run: Run[Any]) -> torch.Tensor:
        """The merged change of one matrix for coefficients of 1: tau (T, m, n) -> (m, n), in tau's dtype."""

    def prepare(
        self, vectors: TaskVectors, values: Mapping[str, Any], seed: int, thresholds: Thresholds
    ) -> FusedAttention | None:
        """The q, k and v that are to be merged as one."""
        return FusedAttention(vectors) if values[FUSED.name] else None

    def components(self, chunk: Chunk, run: Run[FusedAttention | None]) -> Components:
        """`matrix_change` of a matrix, the mean over tasks elsewhere."""
        name = self.coefficients[0] if self.coefficients else UNIT
        if not is_matrix(chunk.parameter):
            return {name: chunk.tau.mean(0)}
        group = None if run.prepared is None else run.prepared.group(chunk.parameter)
        if group is None:
            return {name: self.matrix_change(chunk.tau, run)}
        return {name: group.change(chunk, lambda tau: self.matrix_change(tau, run))}


class FusedAttention:
    """The q, k and v of every block as one matrix each, of vectors that hold them apart."""

    def __init__(self, vectors: TaskVectors):
        found: dict[tuple[str, str], dict[str, Parameter]] = {}
        for parameter in vectors.parameters:
            if parameter.matrix in _ATTENTION and is_matrix(parameter):
                found.setdefault((parameter.tower, parameter.layer), {})[parameter.matrix] = parameter
        self._groups: dict[str, _Group] = {}
        for members in found.values():
            if len(members) == len(_ATTENTION) and len({p.shape[1] for p in members.values()}) == 1:
                group = _Group(vectors, [members[name] for name in _ATTENTION])
                self._groups.update({p.name: group for p in members.values()})

    def group(self, parameter: Parameter) -> _Group | None:
        """The matrix that the parameter is a part of; None where it stands alone."""
        return self._groups.get(parameter.name)


class _Group:
    """Merges a whole matrix when the first of its parts is asked for, and keeps the others until they are."""

    def __init__(self, vectors: TaskVectors, parts: Sequence[Parameter]):
        self._vectors, self._parts = vectors, parts
        self._turn = threading.Lock()
        self._ready: dict[str, torch.Tensor] = {}

    def change(self, chunk: Chunk, merge: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """The rows of one part of the merged change."""
        with self._turn:
            if chunk.parameter.name not in self._ready:
                own = chunk.tau.clone()  # reading the others may reuse its memory
                tau = torch.cat(
                    [own if p == chunk.parameter else self._vectors.read(p)[1].clone() for p in self._parts], dim=1
                )
                rows = merge(tau).split([p.shape[0] for p in self._parts])
                self._ready = {p.name: part for p, part in zip(self._parts, rows, strict=True)}
            return self._ready.pop(chunk.parameter.name).clone()
