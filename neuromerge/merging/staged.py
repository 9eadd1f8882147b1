"""The staged merge behind live use: what depends on the trim, and what depends on the coefficients.

    thresholds (trim ratio) -> first pass -> statistics per neuron, merged parts -> lambda_1, lambda_2 -> weights

The first pass reads every task vector once and keeps T + T^2 numbers per neuron and the merged orthogonal
part. From there a change of lambda is one fused pass over the weights (`linear.combine`), and nearly every measure
of interference needs no weights at all.

`merge_neurons` is the one place where neurons are merged; the streaming merge of `neuromerging` uses it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging import election
from neuromerge.merging.chunks import map_chunks, merge_units
from neuromerge.merging.kernels.table import Rows, StoredVectors, served
from neuromerge.merging.subspaces import Decomposition, Voted, decompose
from neuromerge.merging.trim import Thresholds, apply_trim
from neuromerge.merging.vectors import TaskVectors
from neuromerge.merging.votes import PUBLISHED, Vote, is_per_neuron, ridge_of, shared_votes
from neuromerge.pages import own_pages
from neuromerge.progress import UNATTENDED, Job

_ALIGNED = 16  # entries: of float32 as many as a processor reads at once


@dataclass(frozen=True)
class NeuronStatistics:
    """What the first pass leaves of one linear map with k neurons. float64 on the CPU.

    Attributes:
        parameter: which map.
        base_square: (k,) |w_0|^2.
        parallel: (k, T) c_t.
        gram: (k, T, T) Gram matrices of the orthogonal parts.
        alpha: (k, T) merge coefficients of the orthogonal parts.
        margin, margin_weight: (k,) election margin of the orthogonal vote times its weight, and the weight.
        ill_conditioned: (k,) bool.
        parallel_merged: (k,) c_bar = psi(c).
        conflict: (entries with both signs, entries with at least two tasks) of the orthogonal parts; None where
            it was not counted.
    """

    parameter: Parameter
    base_square: torch.Tensor
    parallel: torch.Tensor
    gram: torch.Tensor
    alpha: torch.Tensor
    margin: torch.Tensor
    margin_weight: torch.Tensor
    ill_conditioned: torch.Tensor
    parallel_merged: torch.Tensor
    conflict: tuple[int, int] | None


@dataclass(frozen=True)
class PointwiseStatistics:
    """What the first pass leaves of one pointwise parameter: sums over its entries. float64 on the CPU.

    Attributes:
        base_square: |theta_0|^2.
        gram: (T, T) inner products of the trimmed task vectors.
        merged_dot: (T,) <psi(tau), tau_t>; `merged_square`: |psi(tau)|^2.
        margin, margin_weight: sum over entries of |kept| - |dropped|, and of all magnitudes.
        conflict: as in `NeuronStatistics`.
    """

    parameter: Parameter
    base_square: float
    gram: torch.Tensor
    merged_dot: torch.Tensor
    merged_square: float
    margin: float
    margin_weight: float
    conflict: tuple[int, int]


Statistics = NeuronStatistics | PointwiseStatistics


@dataclass(frozen=True)
class FirstPass:
    """Everything that depends on the tasks and the trim ratio, and on no coefficient.

    Attributes:
        task_names: T names.
        thresholds: of the global trim.
        statistics: by parameter name, in the order of the base.
        orthogonal: by parameter name, the merged orthogonal part sum_t alpha_t (tau_t - c_t w_0) (k, n), or
            psi(tau) for pointwise parameters; empty where the pass was asked for statistics alone.
    """

    task_names: tuple[str, ...]
    thresholds: Thresholds
    statistics: dict[str, Statistics]
    orthogonal: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def neurons(self) -> int:
        """Number of neurons decomposed."""
        return sum(len(s.base_square) for s in self.statistics.values() if isinstance(s, NeuronStatistics))

    @property
    def ill_conditioned(self) -> int:
        """Number of ill-conditioned neurons."""
        return sum(int(s.ill_conditioned.sum()) for s in self.statistics.values() if isinstance(s, NeuronStatistics))

    @property
    def nbytes(self) -> int:
        """Bytes held, for caches."""
        held = sum(part.numel() * part.element_size() for part in self.orthogonal.values())
        for statistics in self.statistics.values():
            for value in vars(statistics).values():
                if isinstance(value, torch.Tensor):
                    held += value.numel() * value.element_size()
        return held


@dataclass(frozen=True)
class MergedChunk:
    """The numbers of one chunk of neurons: see `merge_neurons`."""

    decomposition: Decomposition
    vote: Voted
    conflict: tuple[int, int] | None


def merge_neurons(
    base: torch.Tensor, tau: torch.Tensor, count_conflict: bool = False, by: Vote = PUBLISHED
) -> tuple[MergedChunk, torch.Tensor]:
    """Decompose and merge the orthogonal parts of k neurons.

    Args:
        base: (k, n) base weights in the working dtype.
        tau: (T, k, n) trimmed task vectors in the working dtype.
        count_conflict: also count the sign conflicts of the orthogonal parts (costs about one more pass).
        by: the rule that merges the orthogonal parts.

    Returns:
        The decomposition and the vote; and the merged orthogonal part (k, n) in the working dtype.
    """
    decomposition = decompose(base, tau)
    vote = by(decomposition.gram)
    merged = weighed(base, tau, vote.alpha.to(tau.device), decomposition.parallel)
    conflict = _sign_conflict(base, tau, decomposition.parallel.T) if count_conflict else None
    return MergedChunk(decomposition, vote, conflict), merged


def weighed(base: torch.Tensor, tau: torch.Tensor, alpha: torch.Tensor, parallel: torch.Tensor) -> torch.Tensor:
    """O = sum_t alpha_t (tau_t - c_t w_0) of k neurons: base (k, n), tau (T, k, n), alpha and c (k, T) -> (k, n)."""
    merged = torch.bmm(alpha.to(tau.dtype).unsqueeze(1), tau.movedim(0, 1)).squeeze(1)
    along_base = (alpha * parallel).sum(1, keepdim=True).to(tau.dtype)
    return merged.addcmul_(along_base, base, value=-1.0)


def first_pass(
    vectors: TaskVectors,
    thresholds: Thresholds,
    *,
    keep_parts: bool = True,
    count_conflict: bool = True,
    by: Vote = PUBLISHED,
    job: Job = UNATTENDED,
) -> FirstPass:
    """Read every task vector once; keep the statistics of every neuron and the merged parts.

    Args:
        vectors: task vectors.
        thresholds: of the global trim (`trim.MagnitudeSample.thresholds`).
        keep_parts: hold the merged orthogonal parts (d entries); without them only statistics are kept.
        count_conflict: count sign conflicts of the orthogonal parts.
        by: the rule that merges the orthogonal parts. One that is coarser than a neuron costs a pass of its own.
        job: told how far it is; stops it.
    """
    total = sum(p.numel for p in vectors.parameters)
    statistics: dict[str, Statistics] = {}
    parts = _room_for_parts(vectors) if keep_parts else {}

    rules = rules_of(vectors, thresholds, by)

    fused = _fused(vectors, thresholds, by, count_conflict) if served(vectors) and is_per_neuron(by) else None

    def work(parameter: Parameter, start: int, stop: int) -> MergedChunk | PointwiseStatistics:
        part = parts[parameter.name][start:stop] if parts else None
        if fused is not None and parameter.kind == "neurons":
            return fused(parameter, start, stop, part)
        base, tau = vectors.read(parameter, start, stop)
        apply_trim(tau, thresholds)
        found: MergedChunk | PointwiseStatistics
        if parameter.kind == "pointwise":
            found, merged = _pointwise_pass(parameter, base, tau)
        else:
            found, merged = merge_neurons(base, tau, count_conflict, rules.get(parameter.name, by))
        if part is not None:
            part.copy_(merged)
        return found

    def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
        return merge_units(parameter, len(vectors.task_names), device=vectors.device, fused=fused is not None)

    def finish(parameter: Parameter, results: list[MergedChunk | PointwiseStatistics]) -> Statistics:
        if isinstance(results[0], PointwiseStatistics):
            return results[0]
        return _collect(parameter, [chunk for chunk in results if isinstance(chunk, MergedChunk)])

    done = 0
    for parameter, of_parameter in map_chunks(work, vectors.parameters, split, finish, device=vectors.device):
        statistics[parameter.name] = of_parameter
        done += parameter.numel
        job.report(done, total, "decomposing neurons")
    return FirstPass(tuple(vectors.task_names), thresholds, statistics, parts)


def _room_for_parts(vectors: TaskVectors) -> dict[str, torch.Tensor]:
    """By parameter name, uninitialised tensors of the parameters' shapes in the working dtype, in one block of memory.

    One by one they would lie among what lives shorter, and be holes in the C library's heaps when they are given up: a
    process would hold half as much again as its merges.
    """
    starts, entries = [], 0
    for parameter in vectors.parameters:
        starts.append(entries)
        entries += -(-parameter.numel // _ALIGNED) * _ALIGNED
    if not entries:
        return {}
    like = vectors.read(vectors.parameters[0], 0, 0)[0]
    block = own_pages((entries,), like.dtype) if like.device.type == "cpu" else like.new_empty(entries)
    return {
        parameter.name: block[start : start + parameter.numel].view(parameter.shape)
        for start, parameter in zip(starts, vectors.parameters, strict=True)
    }


def _fused(
    vectors: StoredVectors, thresholds: Thresholds, by: Vote, count_conflict: bool
) -> Callable[[Parameter, int, int, torch.Tensor | None], MergedChunk]:
    """`merge_neurons` of rows start..stop by a compiled kernel; the merged part is written into the last argument."""
    from neuromerge.merging.kernels import calls

    bounds, ridge = thresholds.value, ridge_of(by)

    def work(parameter: Parameter, start: int, stop: int, part: torch.Tensor | None) -> MergedChunk:
        rows = vectors.stored(parameter, start, stop)
        found = calls.merge_neurons(rows, bounds, ridge=ridge, count_conflict=count_conflict, out=part)
        return MergedChunk(found.decomposition, found.vote, found.conflict)

    return work


def revoted(first: FirstPass, by: Vote) -> FirstPass:
    """The same pass by another rule: votes need the Gram matrices alone, so no weights are looked at (no parts)."""
    maps = {n: s for n, s in first.statistics.items() if isinstance(s, NeuronStatistics)}
    rules: Mapping[str, Vote] = {}
    if by.level != "neuron":
        rules = shared_votes(by, ((name, s.gram.sum(0)) for name, s in maps.items()))
    statistics: dict[str, Statistics] = dict(first.statistics)
    for name, found in maps.items():
        voted = rules.get(name, by)(found.gram)
        statistics[name] = replace(
            found,
            alpha=voted.alpha,
            margin=voted.margin,
            margin_weight=voted.weight,
            ill_conditioned=voted.ill_conditioned,
        )
    return replace(first, statistics=statistics, orthogonal={})


def merged_parts(vectors: TaskVectors, first: FirstPass, job: Job = UNATTENDED) -> dict[str, torch.Tensor]:
    """The merged orthogonal parts (psi of pointwise parameters) that belong to statistics: `FirstPass.orthogonal`."""

    fused = vectors if served(vectors) else None

    def work(parameter: Parameter, start: int, stop: int) -> torch.Tensor:
        job.check()
        found = first.statistics[parameter.name]
        if fused is not None and isinstance(found, NeuronStatistics):
            return _fused_parts(fused.stored(parameter, start, stop), first.thresholds, found, start, stop)
        base, tau = vectors.read(parameter, start, stop)
        apply_trim(tau, first.thresholds)
        if isinstance(found, PointwiseStatistics):
            return election.psi(tau.double()).to(base.dtype)
        alpha, parallel = (part[start:stop].to(tau.device) for part in (found.alpha, found.parallel))
        return weighed(base, tau, alpha, parallel)

    def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
        return merge_units(parameter, len(vectors.task_names), device=vectors.device, fused=fused is not None)

    def finish(parameter: Parameter, pieces: list[torch.Tensor]) -> torch.Tensor:
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    return {p.name: merged for p, merged in map_chunks(work, vectors.parameters, split, finish, device=vectors.device)}


def _fused_parts(rows: Rows, thresholds: Thresholds, found: NeuronStatistics, start: int, stop: int) -> torch.Tensor:
    """`weighed` by a compiled kernel."""
    from neuromerge.merging.kernels import calls

    alpha, parallel = found.alpha[start:stop], found.parallel[start:stop]
    merged = torch.empty(rows.shape, dtype=rows.dtype)
    calls.write_neurons(rows, thresholds.value, -(alpha * parallel).sum(1), alpha, merged)
    return merged


def rules_of(vectors: TaskVectors, thresholds: Thresholds, by: Vote) -> Mapping[str, Vote]:
    """Parameter -> the rule of its neurons, where `by` is coarser than a neuron: one pass that adds up Gram matrices.

    Empty, without any pass, where every neuron votes by itself.
    """
    if by.level == "neuron":
        return {}

    def work(parameter: Parameter, start: int, stop: int) -> torch.Tensor:
        base, tau = vectors.read(parameter, start, stop)
        return decompose(base, apply_trim(tau, thresholds)).gram.sum(0)

    def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
        return merge_units(parameter, len(vectors.task_names), device=vectors.device)

    def finish(parameter: Parameter, pieces: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(pieces).sum(0)

    maps = [parameter for parameter in vectors.parameters if parameter.kind == "neurons"]
    summed = map_chunks(work, maps, split, finish, device=vectors.device)
    return shared_votes(by, ((p.name, gram) for p, gram in summed))


def _collect(parameter: Parameter, done: list[MergedChunk]) -> NeuronStatistics:
    """Join the chunks of one linear map; c_bar needs the whole layer, because ties follow its majority."""
    parallel = torch.cat([b.decomposition.parallel for b in done])
    conflicts = [b.conflict for b in done if b.conflict is not None]
    return NeuronStatistics(
        parameter=parameter,
        base_square=torch.cat([b.decomposition.base_square for b in done]).cpu(),
        parallel=parallel.cpu(),
        gram=torch.cat([b.decomposition.gram for b in done]).cpu(),
        alpha=torch.cat([b.vote.alpha for b in done]),
        margin=torch.cat([b.vote.margin for b in done]),
        margin_weight=torch.cat([b.vote.weight for b in done]),
        ill_conditioned=torch.cat([b.vote.ill_conditioned for b in done]),
        parallel_merged=election.psi(parallel.T).cpu(),
        conflict=(sum(c[0] for c in conflicts), sum(c[1] for c in conflicts)) if conflicts else None,
    )


def _pointwise_pass(
    parameter: Parameter, base: torch.Tensor, tau: torch.Tensor
) -> tuple[PointwiseStatistics, torch.Tensor]:
    wide = tau.double()
    merged = election.psi(wide)
    margin, weight = election.margin(wide)
    statistics = PointwiseStatistics(
        parameter=parameter,
        base_square=float(base.double().square().sum()),
        gram=(wide @ wide.T).cpu(),
        merged_dot=(wide @ merged).cpu(),
        merged_square=float(merged.square().sum()),
        margin=float(margin.sum()),
        margin_weight=float(weight.sum()),
        conflict=_sign_conflict(base, tau),
    )
    return statistics, merged.to(base.dtype)


def _sign_conflict(base: torch.Tensor, tau: torch.Tensor, parallel: torch.Tensor | None = None) -> tuple[int, int]:
    """(entries whose parts have both signs, entries with at least two tasks).

    Only tasks whose trimmed entry is nonzero count: after the projection every entry is nonzero.

    Args:
        base: (k, n), tau: (T, k, n) trimmed, parallel: (T, k) c_t; None for pointwise parameters.
    """
    present = torch.sign(tau).abs_()  # float arithmetic: on the CPU it is several times faster than boolean
    if parallel is None:
        part = tau
    else:
        part = torch.addcmul(tau, parallel.to(tau.dtype).unsqueeze(2), base, value=-1.0).mul_(present)
    both = (part.amax(0) > 0) & (part.amin(0) < 0)
    return int(torch.count_nonzero(both)), int(torch.count_nonzero(present.sum(0) > 1.5))
