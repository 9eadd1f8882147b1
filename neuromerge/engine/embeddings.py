"""Embeddings of some pictures of a split: they grow as more pictures are looked at, and some are kept on disk.

What the base or an expert says of a picture never changes, so it is kept for the next start of the app, too, under
marks of the weights and of the pictures: commits of the Hub, or hashes of their content. The folder's size is bounded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neuromerge.atomic import replacing
from neuromerge.deployment import deployment
from neuromerge.evaluation.picture_files import DAMAGE
from neuromerge.folder_bounds import keep_within, mark_used

MOST_BYTES = 400_000_000
"""Of all embeddings on disk; those used longest ago are dropped first."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Unit-length embeddings `values` (k, D) of the pictures `rows` (k,) of a split, rows ascending."""

    rows: np.ndarray
    values: torch.Tensor

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of `rows` that are not here, ascending."""
        return np.setdiff1d(rows, self.rows)

    def at(self, rows: np.ndarray) -> torch.Tensor:
        """Embeddings (len(rows), D) of rows that are here, in the order given."""
        return self.values[torch.from_numpy(np.searchsorted(self.rows, rows))]

    def and_those(self, more: Embeddings) -> Embeddings:
        """Both together."""
        fresh = np.flatnonzero(~np.isin(more.rows, self.rows))
        rows = np.concatenate([self.rows, more.rows[fresh]])
        return in_order(rows, torch.cat([self.values, more.values[torch.from_numpy(fresh)]]))

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.rows.nbytes + self.values.nbytes


def in_order(rows: np.ndarray, values: torch.Tensor) -> Embeddings:
    """Embeddings of rows in any order."""
    order = np.argsort(rows, kind="stable")
    return Embeddings(rows[order], values[torch.from_numpy(order)])


def kept_at(*marks: object) -> Path:
    """The file that keeps embeddings which depend on all of `marks` and on nothing else."""
    name = hashlib.sha256("\n".join(map(str, marks)).encode()).hexdigest()[:32]
    return deployment().cache / "embeddings" / f"{name}.npz"


def read(path: Path) -> Embeddings | None:
    """What is kept in a file; None where there is nothing, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            rows, values = kept["rows"].astype(np.int64), torch.from_numpy(kept["values"])
    except DAMAGE:
        return None
    if values.ndim != 2 or rows.shape != values.shape[:1] or values.dtype != torch.float32 or np.any(np.diff(rows) < 1):
        return None
    mark_used(path)
    return Embeddings(rows, values)


def write(path: Path, found: Embeddings) -> None:
    """Keep embeddings in a file, as far as the disk takes them: without it they are only computed again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(file, rows=found.rows, values=found.values.numpy())
        keep_within(path.parent, MOST_BYTES, path)
    except OSError:
        return
