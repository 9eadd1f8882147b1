"""Small families are held whole in memory, so that the trim slider is live too.

Reading task vectors from mapped half-precision files and finding thresholds by counting costs about a third of
a trim change. A family as small as the bundled one fits in memory: its task vectors in float32, and once per
task their magnitudes sorted. Then a threshold for any trim ratio is one look-up, exact, and does not depend on
which other tasks are merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.kernels.table import Rows
from neuromerge.merging.profile import TaskWeights
from neuromerge.merging.trim import Thresholds, keep_everything
from neuromerge.merging.vectors import AlignedVectors

RESIDENT_BYTES = 128 * 1024**2
"""Families whose base and task vectors together are larger than this stay in their files."""
_STRIDE = 4096


class SortedMagnitudes:
    """The magnitudes of one task vector in rising order (float32), with their L1 norms from the top."""

    def __init__(self, tau: Mapping[str, torch.Tensor]) -> None:
        flat = torch.cat([part.abs().reshape(-1) for part in tau.values()])
        self._sorted = np.sort(flat.numpy())
        whole = len(self._sorted) // _STRIDE * _STRIDE
        blocks = self._sorted[:whole].reshape(-1, _STRIDE).sum(1, dtype=np.float64)
        if whole < len(self._sorted):
            blocks = np.append(blocks, self._sorted[whole:].sum(dtype=np.float64))
        self._from_block = np.append(np.cumsum(blocks[::-1])[::-1], 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self._sorted.nbytes + self._from_block.nbytes)

    def threshold(self, rank: int, scale: float = 1.0) -> tuple[float, int, float, float]:
        """(the rank-th smallest magnitude, entries at least that large, their L1 norm, L1 norm of all); rank >= 1.

        The first is that of the magnitudes times `scale` > 0, rounded as they are, so that equal entries stay equal.
        """
        value = self._sorted[rank - 1]
        first = int(np.searchsorted(self._sorted, value, side="left"))
        block = -(-first // _STRIDE)
        inside = float(self._sorted[first : block * _STRIDE].sum(dtype=np.float64))
        return (
            float(value * self._sorted.dtype.type(scale)),
            len(self._sorted) - first,
            inside + float(self._from_block[block]),
            float(self._from_block[0]),
        )


def thresholds(
    magnitudes: Sequence[SortedMagnitudes], entries: int, ratio: float, weights: TaskWeights = ()
) -> Thresholds:
    """The thresholds of the global trim at `ratio` for tasks with `entries` entries each (METHOD, section 1).

    A task's weight scales its threshold, and leaves the shares as they are; of a task weighted by 0 nothing goes.
    """
    rank = math.floor(ratio * entries + 1e-9)
    if rank == 0:
        return keep_everything(len(magnitudes))
    scales = weights or (1.0,) * len(magnitudes)
    found = [
        task.threshold(rank, abs(scale)) if scale != 0.0 else (0.0, entries, 0.0, 0.0)
        for task, scale in zip(magnitudes, scales, strict=True)
    ]
    kept_l1 = torch.tensor(
        [kept / whole if whole > 0.0 and count < entries else 1.0 for _, count, kept, whole in found],
        dtype=torch.float64,
    ).clamp_(max=1.0)
    return Thresholds(
        value=torch.tensor([value for value, *_ in found], dtype=torch.float64),
        removed_share=1.0 - kept_l1,
        kept_l1_share=kept_l1,
        kept_share=torch.tensor([count / entries for _, count, *_ in found], dtype=torch.float64),
        ratio=ratio,
    )


class ResidentVectors(AlignedVectors):
    """Task vectors of aligned checkpoints, read once and kept in float32."""

    def __init__(self, aligned: AlignedVectors, tau: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """`aligned` supplies base, weights and parameters; `tau` holds task vectors by parameter name, in its order."""
        super().__init__(aligned.aligned, aligned.device, aligned.weights)
        self._base = {parameter.name: aligned.base(parameter) for parameter in aligned.parameters}
        self._tau = tuple(tau)
        self._rows: dict[str, Rows] = {}

    def base(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Rows start..stop of the base: a view, not to be written to."""
        return self._base[parameter.name][start:stop]

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (rows, ...), tau (T, rows, ...)) of rows start..stop; tau is good until this thread's next reading."""
        base = self.base(parameter, start, stop)
        tau = self._scratch.take((len(self._tau), *base.shape), self.dtype, self.device)
        torch.stack([task[parameter.name][start:stop] for task in self._tau], out=tau)
        return base, self.weighted(tau)

    def stored(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> Rows:
        """Rows start..stop where they lie, unless tasks are weighted."""
        if self.are_weighted:
            return self.as_read(parameter, start, stop)
        rows = self._rows.get(parameter.name)
        if rows is None:
            tau = tuple(task[parameter.name] for task in self._tau)
            rows = self._rows[parameter.name] = Rows(self.base(parameter), tau, False, self.dtype)
        return rows.part(start, stop)


@dataclass(frozen=True)
class ResidentTask:
    """One expert in memory: its task vector by parameter name, and its magnitudes in order."""

    tau: dict[str, torch.Tensor]
    magnitudes: SortedMagnitudes

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(part.numel() * part.element_size() for part in self.tau.values()) + self.magnitudes.nbytes


def task_vector(aligned: AlignedVectors) -> dict[str, torch.Tensor]:
    """The only task vector of `aligned`, by parameter name. Raises CheckpointError where it is not finite."""
    return {parameter.name: aligned.read(parameter)[1][0].clone() for parameter in aligned.parameters}
