"""One layer and one neuron, from the statistics of the first pass: what the close-up views draw.

Pure functions; whoever calls them has read what they need.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from neuromerge.errors import SettingError, quoted
from neuromerge.exploration.results import SORTS, ContestedNeuron, LayerDetail, NeuronDetail
from neuromerge.merging import election
from neuromerge.merging.measures import cosines
from neuromerge.merging.staged import NeuronStatistics, PointwiseStatistics
from neuromerge.merging.subspaces import (
    Decomposition,
    OrthogonalVote,
    decompose,
    orthogonal_parts,
    orthogonal_vote,
)

MAX_BINS = 64
MAX_CONTESTED = 24
ALPHA_BINS = 40


def check_sort(sort: str) -> str:
    """`sort` when it is a known order. Raises SettingError listing them."""
    if sort not in SORTS:
        raise SettingError(f"Neurons can be sorted by {', '.join(SORTS)}, not {quoted(sort)}.")
    return sort


def layer_of_neurons(
    layer: str, matrix: str, tasks: tuple[str, ...], maps: Sequence[NeuronStatistics], sort: str
) -> LayerDetail:
    """A cell of linear maps: every neuron's task vectors, vote and merge coefficients.

    Neurons count on over the maps of the cell where it holds several. A margin without a vote (no task has an
    orthogonal part) counts as unanimous.
    """
    square = _joined([m.base_square for m in maps])
    parallel = _joined([m.parallel for m in maps])
    own = np.clip(_joined([torch.diagonal(m.gram, dim1=1, dim2=2) for m in maps]), 0.0, None)
    alpha = _joined([m.alpha for m in maps])
    margin = _quotient(_joined([m.margin for m in maps]), _joined([m.margin_weight for m in maps]), 1.0)
    ill = _joined([m.ill_conditioned for m in maps]).astype(bool)
    strength = np.sqrt(_quotient(parallel**2 * square[:, None] + own, square[:, None], 0.0))
    orthogonal_norm = np.sqrt(_quotient(own.sum(1), square, 0.0))

    order = _order(sort, margin, strength)
    edges = _edges(len(order))
    most_contested = [k for k in np.argsort(margin, kind="stable") if own[k].sum() > 0][:MAX_CONTESTED]
    low, high = _alpha_range(alpha)
    bins = np.linspace(low, high, ALPHA_BINS + 1)
    return LayerDetail(
        layer=layer,
        matrix=matrix,
        kind="neurons",
        tasks=tasks,
        neurons=len(order),
        inputs=maps[0].parameter.shape[1],
        sort=sort,
        strength=_binned(strength[order], edges),
        margin=_binned(margin[order, None], edges)[:, 0],
        bin_edges=edges,
        cosine_parallel=cosines((parallel * square[:, None]).T @ parallel),
        cosine_orthogonal=cosines(np.sum([m.gram.sum(0).numpy() for m in maps], axis=0)),
        alpha_edges=bins,
        alpha_counts=np.stack([np.histogram(np.clip(alpha[:, t], low, high), bins)[0] for t in range(len(tasks))]),
        contested=tuple(
            ContestedNeuron(int(k), float(margin[k]), float(alpha[k].mean()), float(orthogonal_norm[k]), bool(ill[k]))
            for k in most_contested
        ),
        ill_conditioned=int(ill.sum()),
    )


def layer_of_entries(
    layer: str,
    matrix: str,
    tasks: tuple[str, ...],
    parameters: Sequence[PointwiseStatistics],
    base: np.ndarray,
    tau: np.ndarray,
    sort: str,
) -> LayerDetail:
    """A cell of pointwise parameters: each entry stands where a neuron stands elsewhere.

    base (E,), tau (T, E) trimmed. Entries have no base direction, so there is no alpha and no parallel part;
    strength is relative to the root mean square of the base's entries.
    """
    scale = float(np.sqrt(np.mean(base**2))) or 1.0
    strength = np.abs(tau).T / scale
    kept, total = election.margin(torch.from_numpy(tau))
    margin = _quotient(kept.numpy(), total.numpy(), 1.0)
    order = _order(sort, margin, strength)
    edges = _edges(len(order))
    most_contested = [k for k in np.argsort(margin, kind="stable") if strength[k].any()][:MAX_CONTESTED]
    return LayerDetail(
        layer=layer,
        matrix=matrix,
        kind="pointwise",
        tasks=tasks,
        neurons=len(order),
        inputs=1,
        sort=sort,
        strength=_binned(strength[order], edges),
        margin=_binned(margin[order, None], edges)[:, 0],
        bin_edges=edges,
        cosine_parallel=np.full((len(tasks), len(tasks)), np.nan),
        cosine_orthogonal=cosines(np.sum([p.gram.numpy() for p in parameters], axis=0)),
        alpha_edges=np.linspace(0.0, 1.0, 2),
        alpha_counts=np.zeros((len(tasks), 1), dtype=np.int64),
        contested=tuple(
            ContestedNeuron(int(k), float(margin[k]), float("nan"), float(np.linalg.norm(strength[k])), False)
            for k in most_contested
        ),
        ill_conditioned=0,
    )


def neuron(
    layer: str,
    matrix: str,
    index: int,
    tasks: tuple[str, ...],
    base: torch.Tensor,
    tau: torch.Tensor,
    c_merged: float,
    alpha: torch.Tensor,
    used: tuple[float, float],
    inputs: np.ndarray,
    labels: tuple[str, ...],
) -> NeuronDetail:
    """One neuron in the coordinates of its own decomposition.

    base (n,) and trimmed tau (T, n) in float64; `alpha` (T,) is what the merge's own vote gave; `used` are the
    coefficients of the two parts; inputs (N, n), or (0, n) where none are known. Directions v_r in which no task moves
    are left out.
    """
    parts, vote, alive, directions = _axes(base, tau)
    singular, left = vote.singular[0][alive], vote.left[0][:, alive]
    norm = float(parts.base_square[0].sqrt())
    seen = torch.from_numpy(np.ascontiguousarray(inputs)).double()
    along = seen @ base / norm if norm > 0 else torch.zeros(len(seen), dtype=torch.float64)
    return NeuronDetail(
        layer=layer,
        matrix=matrix,
        index=index,
        tasks=tasks,
        base_norm=norm,
        c=parts.parallel[0].numpy(),
        c_merged=c_merged,
        scores=(left * singular).numpy(),
        singular=singular.numpy(),
        left=left.numpy(),
        elected=vote.elected[0][alive].numpy(),
        alpha=alpha.numpy(),
        tau_norm=tau.norm(dim=1).numpy(),
        lambda_parallel=used[0],
        lambda_orthogonal=used[1],
        along_base=along.numpy(),
        along_direction=(seen @ directions.T).numpy(),
        image_labels=labels,
        ill_conditioned=bool(vote.ill_conditioned[0]),
    )


def in_own_coordinates(base: torch.Tensor, tau: torch.Tensor, change: torch.Tensor) -> tuple[float, np.ndarray]:
    """A change (n,) of a neuron: along w_0 in units of |w_0|, and along each singular direction v_r (R,)."""
    square = float(base @ base)
    return float(change @ base) / square if square > 0 else 0.0, (_axes(base, tau)[3] @ change).numpy()


def _axes(base: torch.Tensor, tau: torch.Tensor) -> tuple[Decomposition, OrthogonalVote, torch.Tensor, torch.Tensor]:
    """Decomposition, published vote, which directions live (T,) and these (R, n), of one neuron (n,), (T, n)."""
    parts = decompose(base[None], tau[:, None])
    orthogonal = orthogonal_parts(base[None], tau[None], parts.parallel)
    vote = orthogonal_vote(parts.gram)
    alive = vote.singular[0] > 0
    directions = (vote.left[0][:, alive] / vote.singular[0][alive]).T @ orthogonal[0]  # rows v_r = M^T u_r / s_r
    return parts, vote, alive, directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-300)


def _joined(parts: Sequence[torch.Tensor]) -> np.ndarray:
    return torch.cat(list(parts)).numpy()


def _quotient(a: np.ndarray, b: np.ndarray, otherwise: float) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, otherwise), where=np.broadcast_to(b, a.shape) > 0)


def _order(sort: str, margin: np.ndarray, strength: np.ndarray) -> np.ndarray:
    if sort == "contested":
        return np.argsort(margin, kind="stable")
    if sort == "strength":
        return np.argsort(-np.linalg.norm(strength, axis=1), kind="stable")
    return np.arange(len(margin))


def _edges(count: int) -> np.ndarray:
    return np.linspace(0, count, min(count, MAX_BINS) + 1).round().astype(np.int64)


def _binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Means of the rows between edges: values (K, C), edges (B + 1,) -> (B, C)."""
    sums = np.add.reduceat(values, edges[:-1], axis=0)
    return sums / np.diff(edges)[:, None]


def _alpha_range(alpha: np.ndarray) -> tuple[float, float]:
    """A range that holds all but the rarest alphas, and always 0 to 1; outliers count in the end bins."""
    low, high = np.quantile(alpha, (0.002, 0.998)) if alpha.size else (0.0, 1.0)
    return min(-0.1, float(low)), max(1.1, float(high))
