"""The compiled kernels behind tensors: what the merging code calls where `kernels.in_use` says that it may.

Importing this module needs numba. Every function works on one chunk of rows, without the interpreter's lock, so
that a thread per core can call it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuromerge.merging.kernels import blocks, changes, magnitudes, masks, neurons, scores, votes
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.kernels.table import Counted, Rows, Table
from neuromerge.merging.subspaces import Decomposition, Voted

_FOUND = 1 << 15  # entries inside a bracket that a buffer takes at least
_NO_LIMITS = {kind: np.zeros((0, 0), kind) for kind in (np.dtype(np.float32), np.dtype(np.float64))}
_NO_BOUNDS = {kind: limits[0:0].reshape(0) for kind, limits in _NO_LIMITS.items()}
_NO_SUMS = np.zeros(0)
_NO_DROPS = np.zeros((0, 0, 0), np.bool_)
_PUBLISHED = -1.0


@dataclass(frozen=True, slots=True)
class NeuronRows:
    """What `merge_neurons` leaves of k neurons.

    Attributes:
        decomposition, vote: as in `subspaces`.
        sign: (k,) what the votes over c_t elected, 0 where tied.
        conflict: (entries with both signs, entries with at least two tasks); None where it was not counted.
    """

    decomposition: Decomposition
    vote: Voted
    sign: torch.Tensor
    conflict: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Found:
    """What the tasks find of themselves in a merged change Delta, added up over all entries. (T,) float64.

    Attributes:
        bounds: thresholds of the task vectors tau_t that are compared with it, 0 where there is none.
        products: <Delta, tau_t>; `squares`: |tau_t|^2.
    """

    bounds: torch.Tensor
    products: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, bounds: torch.Tensor) -> Found:
        """Nothing yet."""
        return cls(bounds, *np.zeros((2, len(bounds))))


def merge_neurons(
    rows: Rows,
    bounds: torch.Tensor,
    *,
    ridge: float | None = None,
    count_conflict: bool = False,
    own: float = 0.0,
    parallel: float = 0.0,
    orthogonal: float = 1.0,
    out: torch.Tensor | None = None,
    found: Found | None = None,
) -> NeuronRows:
    """Decompose and merge k neurons in one reading.

    Args:
        rows: of a linear map.
        bounds: (T,) thresholds of the trim, 0 where there is none.
        ridge: of the balanced vote; the published vote when None.
        count_conflict: also count sign conflicts of the orthogonal parts.
        own, parallel, orthogonal: coefficients of w_0 and of the merged parts in what is written.
        out: (k, n) contiguous, in the working dtype: own w_0 + parallel P + orthogonal O. Nothing when None.
        found: added to, with what is written less w_0 for the change; its bounds must be those given.
    """
    table = Table(rows, neurons=True)
    k, tasks = table.rows, len(bounds)
    square, margin, weight, sign = np.empty((4, k))
    c, alpha = np.empty((2, k, tasks))
    gram, ill, conflict = np.empty((k, tasks, tasks)), np.empty(k, np.bool_), np.zeros(2, np.int64)
    working = _numpy(bounds, rows.dtype)
    neurons.merge_rows(
        table.lines, table.width, working, table.subtract, _PUBLISHED if ridge is None else float(ridge),
        count_conflict, float(own), float(parallel), float(orthogonal),
        square, c, gram, alpha, margin, weight, ill, sign, conflict,
        _NO_LIMITS[working.dtype] if out is None else table.out(out),
        *((_NO_SUMS, _NO_SUMS) if found is None else (found.products, found.squares)),
    )  # fmt: skip
    return NeuronRows(
        Decomposition(*map(torch.from_numpy, (square, c, gram))),
        Voted(*map(torch.from_numpy, (alpha, margin, weight, ill))),
        torch.from_numpy(sign),
        (int(conflict[0]), int(conflict[1])) if count_conflict else None,
    )


def write_neurons(
    rows: Rows, bounds: torch.Tensor, factor: torch.Tensor, weights: torch.Tensor, out: torch.Tensor
) -> None:
    """out = factor w_0 + sum_t weights_t tau_t, coefficients known.

    factor (k,) and weights (k, T) float64; out (k, n) as in `merge_neurons`.
    """
    table = Table(rows, neurons=True)
    neurons.write_rows(
        table.lines, table.width, _numpy(bounds, rows.dtype), table.subtract,
        np.ascontiguousarray(factor.numpy()), np.ascontiguousarray(weights.numpy()), table.out(out),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shared:
    """What a change Delta of k neurons shares with T task vectors; float64.

    Attributes:
        dots: (k, T) <Delta, tau_t>; `norms`: (k, T) |tau_t|^2.
        along: (k,) <Delta, w_0>; `square`: (k,) |Delta|^2.
    """

    dots: torch.Tensor
    norms: torch.Tensor
    along: torch.Tensor
    square: torch.Tensor


def inner_products(rows: Rows, bounds: torch.Tensor, change: torch.Tensor) -> Shared:
    """Inner products of a change (k, n) with the trimmed task vectors, neuron by neuron."""
    table = Table(rows, neurons=True)
    dots, norms = np.empty((2, table.rows, len(bounds)))
    along, square = np.empty((2, table.rows))
    delta = table.out(change.to(rows.dtype).contiguous())
    neurons.inner_products(
        table.lines, table.width, _numpy(bounds, rows.dtype), table.subtract, delta, dots, norms, along, square
    )
    return Shared(*(torch.from_numpy(array) for array in (dots, norms, along, square)))


def combine(
    rows: Rows,
    rule: Rule,
    *,
    own: float = 0.0,
    factor: float = 1.0,
    out: torch.Tensor | None = None,
    found: Found | None = None,
) -> torch.Tensor:
    """own w_0 + factor times what a rule makes of the task vectors, shaped as the rows.

    Args:
        out: written to, contiguous and in the working dtype; new memory when None.
        found: added to, with what is written less w_0 for the change.
    """
    out = torch.empty(rows.shape, dtype=rows.dtype) if out is None else out
    table = Table(rows, neurons=False)
    tasks = rows.task_count
    target = table.out(out)
    changes.combine(
        table.lines, table.width,
        _numpy(torch.zeros(tasks) if rule.bounds is None else rule.bounds, rows.dtype), table.subtract,
        _NO_DROPS if rule.drops is None else rule.drops.view(tasks, table.rows, table.width).numpy(),
        rule.code, np.array([rule.enlarged, *rule.numbers, 0.0, 0.0, 0.0][:4], target.dtype),
        _NO_LIMITS[target.dtype] if rule.limits is None else _numpy(rule.limits, rows.dtype),
        float(own), float(factor), target,
        *((_NO_BOUNDS[target.dtype], _NO_SUMS, _NO_SUMS) if found is None
          else (_numpy(found.bounds, rows.dtype), found.products, found.squares)),
    )  # fmt: skip
    return out


def balance(rows: Rows, bounds: torch.Tensor) -> int:
    """Votes won by + less votes won by - over the entries of some rows, after the trim."""
    table = Table(rows, neurons=False)
    return int(changes.balance(table.lines, table.rows, table.width, _numpy(bounds, rows.dtype), table.subtract))


def count_magnitudes(
    rows: Rows, tasks: Sequence[int], brackets: Sequence[tuple[float, float]], wanted: Sequence[bool]
) -> list[Counted]:
    """Count the magnitudes of some tasks (one may come again) around a bracket each; collect where `wanted`."""
    table, working = Table(rows, neurons=False), _numpy_dtype(rows.dtype)
    lows, highs = np.array(brackets, dtype=working).T.copy()
    lines, collects = np.array(tasks, dtype=np.int64), np.array(wanted, dtype=np.bool_)
    reached, above = np.zeros((2, len(tasks)), np.int64)
    l1, l1_above = np.zeros((2, len(tasks)))
    buffer = _Buffer(len(tasks), magnitudes.PIECE, table.rows * table.width, working)
    entry = 0
    while entry < table.rows * table.width:
        entry = magnitudes.count(
            table.lines, table.rows, table.width, table.subtract, lines, lows, highs, collects, entry,
            reached, above, l1, l1_above, buffer.found, buffer.filled,
        )  # fmt: skip
        buffer.drain()
    return [
        Counted(table.rows * table.width, at_least, beyond, whole, whole_above, 0.0, found)
        for at_least, beyond, whole, whole_above, found in zip(
            reached.tolist(), above.tolist(), l1.tolist(), l1_above.tolist(), buffer.collected(), strict=True
        )
    ]


def count_scores(
    rows: Rows, limits: torch.Tensor, brackets: Sequence[tuple[float, float]], wanted: Sequence[bool]
) -> list[Counted]:
    """Count the PCB scores of every task around a bracket each. limits (2, T): what magnitudes are clamped to."""
    table, working = Table(rows, neurons=False), _numpy_dtype(rows.dtype)
    lows, highs = np.array(brackets, dtype=working).T.copy()
    tasks, collects = rows.task_count, np.array(wanted, dtype=np.bool_)
    reached, above = np.zeros((2, tasks), np.int64)
    most, clamps = np.full(tasks, -np.inf, dtype=working), _numpy(limits, rows.dtype)
    buffer = _Buffer(tasks, blocks.PIECE, table.rows * table.width, working)
    entry = 0
    while entry < table.rows * table.width:
        entry = scores.count_scores(
            table.lines, table.rows, table.width, table.subtract, clamps, lows, highs, collects, entry,
            reached, above, most, buffer.found, buffer.filled,
        )  # fmt: skip
        buffer.drain()
    return [
        Counted(table.rows * table.width, int(reached[t]), int(above[t]), 0.0, 0.0, float(most[t]), found)
        for t, found in enumerate(buffer.collected())
    ]


class _Buffer:
    """Room for what a count of some entries collects, emptied as often as it is full; a piece fits in any case."""

    def __init__(self, tasks: int, piece: int, entries: int, dtype: np.dtype) -> None:
        self.found = np.empty((tasks, max(piece, min(_FOUND, entries))), dtype)
        self.filled = np.zeros(tasks, np.int64)
        self._parts: list[list[np.ndarray]] = [[] for _ in range(tasks)]

    def drain(self) -> None:
        """Put aside what was found."""
        for parts, found, filled in zip(self._parts, self.found, self.filled.tolist(), strict=True):
            if filled:
                parts.append(found[:filled].copy())
        self.filled[:] = 0

    def collected(self) -> list[np.ndarray]:
        """All that was found, per task."""
        empty = self.found[0, :0]
        return [(parts[0] if len(parts) == 1 else np.concatenate(parts)) if parts else empty for parts in self._parts]


def sample(rows: Rows, places: np.ndarray, run: int) -> np.ndarray:
    """Task vectors at places (m, 2), each a row and a column: (T, m, run), `run` neighbours within the row."""
    table = Table(rows, neurons=True)
    out = np.empty((rows.task_count, len(places), run), _numpy_dtype(rows.dtype))
    magnitudes.sample(
        table.lines, table.subtract, np.ascontiguousarray(places[:, 0]), np.ascontiguousarray(places[:, 1]), run, out
    )
    return out


def published_votes(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(alpha (k, T), margin (k,), weight (k,), ill-conditioned (k,)) of Gram matrices (k, T, T), float64.

    As `subspaces.orthogonal_vote`.
    """
    matrices = np.ascontiguousarray(gram.numpy())
    k, tasks = matrices.shape[:2]
    alpha, margin, weight, ill = np.empty((k, tasks)), np.empty(k), np.empty(k), np.empty(k, np.bool_)
    votes.votes(matrices, _PUBLISHED, alpha, margin, weight, ill)
    return torch.from_numpy(alpha), torch.from_numpy(margin), torch.from_numpy(weight), torch.from_numpy(ill)


def balanced_votes(gram: torch.Tensor, ridge: float) -> torch.Tensor:
    """alpha (k, T) of the balanced vote over Gram matrices (k, T, T), float64."""
    matrices = np.ascontiguousarray(gram.numpy())
    k, tasks = matrices.shape[:2]
    alpha, margin, weight, ill = np.empty((k, tasks)), np.empty(k), np.empty(k), np.empty(k, np.bool_)
    votes.votes(matrices, float(ridge), alpha, margin, weight, ill)
    return torch.from_numpy(alpha)


def random_at_least(seed: int, bound: float, out: torch.Tensor) -> None:
    """out (n,) bool = torch.rand(n, generator=torch.Generator().manual_seed(seed)) >= bound, drawn faster."""
    least = int(np.ceil(float(np.float32(bound)) * 2.0**24))
    masks.at_least(np.uint32(seed & 0xFFFFFFFF), least, out.numpy())


def _numpy_dtype(dtype: torch.dtype) -> np.dtype:
    return np.dtype(np.float64 if dtype == torch.float64 else np.float32)


def _numpy(values: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    return np.ascontiguousarray(values.to(dtype).numpy())
