"""Whole passes of a method over task vectors: its components, or its merged weights, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging import linear
from neuromerge.merging.chunks import as_they_are, map_chunks, merge_units
from neuromerge.merging.kernels.table import StoredVectors, served
from neuromerge.merging.linear import AlongBase, Coefficients, Components, change, joined
from neuromerge.merging.method import BrokenTies, Findings, MergeMethod, Run, component_rows
from neuromerge.merging.profile import Factors
from neuromerge.merging.retention import Products, Tally, component_products, squares
from neuromerge.merging.spectra import calibrated, is_matrix
from neuromerge.merging.trim import apply_trim
from neuromerge.merging.vectors import AlignedVectors, Chunk, TaskVectors, WatchedVectors, read_chunk


def components(vectors: TaskVectors, method: MergeMethod, run: Run[Any]) -> Iterator[tuple[Parameter, Components]]:
    """The components of every parameter, in the order of the model, ties broken.

    With them any coefficients are merged by `linear.combine`; they hold about as much as the model each.
    """

    fused = served(vectors)

    def work(parameter: Parameter, start: int, stop: int) -> Components:
        return chunk_components(method, read_chunk(vectors, parameter, start, stop, fused=fused), run)

    def finish(parameter: Parameter, pieces: list[Components]) -> Components:
        return joined(pieces)

    for parameter, found in map_chunks(
        work, vectors.parameters, _split(vectors, method), finish, device=vectors.device
    ):
        ties = method.break_ties(parameter, run)
        yield parameter, found if ties is None else _with_ties(found, ties)


def chunk_components(method: MergeMethod, chunk: Chunk, run: Run[Any]) -> Components:
    """The components of a chunk: by a compiled kernel where it has the rows and the method a rule for it."""
    rule = method.rule(chunk, run) if chunk.rows is not None else None
    return method.components(chunk, run) if rule is None else {method.component: component_rows(chunk, rule)}


def findings(vectors: TaskVectors, method: MergeMethod, run: Run[Any], factors: Factors | None = None) -> Findings:
    """What a run knows of its coefficients; the products are found by one pass, if they are asked for."""
    return replace(run.findings(factors), products=lambda: products(vectors, method, run))


def products(
    vectors: TaskVectors, method: MergeMethod, run: Run[Any], kept: Mapping[str, Components] | None = None
) -> Products:
    """The inner products of the components of every parameter with the task vectors as the method sees them.

    Components are formed chunk by chunk and given up again, unless they are `kept` already, by parameter name.
    """
    norms = np.zeros(len(vectors.task_names))

    def work(parameter: Parameter, start: int, stop: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        chunk = read_chunk(vectors, parameter, start, stop)
        if kept is None:
            found = method.components(chunk, run)
            tau = _seen(vectors, method, run, chunk)
        else:
            found = linear.rows(kept[parameter.name], start, stop)
            tau = apply_trim(chunk.tau, run.thresholds)
        return {n: component_products(part, chunk.base, tau) for n, part in found.items()}, squares(tau)

    def finish(
        parameter: Parameter, pieces: list[tuple[dict[str, np.ndarray], np.ndarray]]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        names = pieces[0][0]
        return {n: np.sum([piece[0][n] for piece in pieces], axis=0) for n in names}, np.sum(
            [piece[1] for piece in pieces], axis=0
        )

    with_tasks = []
    for parameter, (found, own) in map_chunks(
        work, vectors.parameters, _split(vectors, method), finish, device=vectors.device
    ):
        ties = None if kept else method.break_ties(parameter, run)
        if ties is not None:
            base, tau = _rows(vectors, method, run, parameter, ties.rows)
            found[ties.coefficient] += component_products(AlongBase(ties.factor), base, tau)
        with_tasks.append(found)
        norms += own
    return Products(tuple(vectors.parameters), tuple(with_tasks), norms)


def merged_weights(
    vectors: AlignedVectors | WatchedVectors,
    method: MergeMethod,
    run: Run[Any],
    coefficients: Coefficients,
    target: Callable[[Parameter], torch.Tensor],
    parameters: Iterable[Parameter] | None = None,
    *,
    svc: float | None = None,
    tally: Tally | None = None,
) -> Iterator[tuple[Parameter, torch.Tensor]]:
    """The merged weights of every parameter, in the order of the model; one chunk a core is held beside them.

    Args:
        target: gives the tensor (*shape) that a parameter's weights are written to, in any floating dtype.
        parameters: which to merge; all of them when None.
        svc: calibrate the singular values of every matrix afterwards, with this alpha (`spectra.calibrated`).
        tally: adds up what the tasks find of themselves in the change.
    """
    begun: dict[str, torch.Tensor] = {}
    fused = served(vectors)
    split = _split(vectors, method, fused)

    def opened(parameter: Parameter) -> Iterator[tuple[int, int]]:
        begun[parameter.name] = target(parameter)
        if svc is not None and is_matrix(parameter):
            return iter([(0, parameter.shape[0])])
        return split(parameter)

    def work(parameter: Parameter, start: int, stop: int) -> None:
        chunk = read_chunk(vectors, parameter, start, stop, fused=fused)
        chunk.tally = tally
        wanted, here = begun[parameter.name][start:stop], coefficients.at(parameter)
        # Where weights are merged they are also looked at again: they travel once.
        out = wanted if wanted.device == vectors.device else torch.empty_like(wanted, device=vectors.device)
        if svc is not None and is_matrix(parameter):
            _calibrate(vectors, method, run, chunk, here, svc, out)
        else:
            method.merge_chunk(chunk, run, here, out)
        if out is not wanted:
            wanted.copy_(out)
        asking = chunk.tally
        if asking is None:  # nobody asks, or the merge has told it on its way
            return
        if chunk.rows is not None:
            asking.add_rows(*_shared_rows(vectors, run, chunk, out))
            return
        change = torch.sub(out.to(chunk.base), chunk.base)
        asking.add(change, _seen(vectors, method, run, chunk))

    for parameter, _ in map_chunks(work, parameters or vectors.parameters, opened, as_they_are, device=vectors.device):
        out = begun.pop(parameter.name)
        ties = method.break_ties(parameter, run)
        if ties is not None and svc is None and coefficients.at(parameter)[ties.coefficient] != 0.0:
            base, tau = _rows(vectors, method, run, parameter, ties.rows)
            change = (coefficients.at(parameter)[ties.coefficient] * ties.factor).to(base).unsqueeze(1) * base
            _add_rows(out, ties.rows, change)
            if tally is not None:
                tally.add(change, tau, new=False)
        yield parameter, out


def _shared_rows(vectors: TaskVectors, run: Run[Any], chunk: Chunk, out: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(T,) <change, tau_t> and |tau_t|^2 of a merged chunk by a compiled kernel, tau as the method sees it."""
    from neuromerge.merging.kernels import calls

    rows = chunk.rows
    assert rows is not None
    if not rows.subtract and isinstance(vectors, StoredVectors):
        rows = vectors.stored(chunk.parameter, chunk.start, chunk.start + len(out))  # what was read may be used up
    change = torch.sub(out.to(rows.dtype), rows.base.to(rows.dtype))
    found = calls.inner_products(rows, run.thresholds.value, change)
    return found.dots.sum(0).numpy(), found.norms.sum(0).numpy()


def _calibrate(
    vectors: TaskVectors,
    method: MergeMethod,
    run: Run[Any],
    chunk: Chunk,
    coefficients: Mapping[str, float],
    alpha: float,
    out: torch.Tensor,
) -> None:
    """Write a whole matrix with its merged change calibrated."""
    found, ties = method.components(chunk, run), method.break_ties(chunk.parameter, run)
    merged = change(chunk.base, found if ties is None else _with_ties(found, ties), coefficients)
    _, tau = vectors.read(chunk.parameter)  # as it is: the step knows nothing of the method's trim
    out.copy_(calibrated(merged, tau, alpha).add_(chunk.base))


def _seen(vectors: TaskVectors, method: MergeMethod, run: Run[Any], chunk: Chunk) -> torch.Tensor:
    """The task vectors of a chunk as the method sees them, after it has merged them: trimmed where it trims."""
    tau = chunk.tau
    if method.alters_tau:
        tau = vectors.read(chunk.parameter, chunk.start, chunk.start + len(chunk.base))[1]
    return apply_trim(tau, run.thresholds)


def _rows(
    vectors: TaskVectors, method: MergeMethod, run: Run[Any], parameter: Parameter, rows: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(base (m, n), tau (T, m, n)) of a few rows, as the method sees them."""
    base, tau = vectors.read(parameter)
    index = rows.to(base.device)
    return base[index], apply_trim(tau[:, index], run.thresholds)


def _add_rows(out: torch.Tensor, rows: torch.Tensor, change: torch.Tensor) -> None:
    index = rows.to(out.device)
    out[index] = (out[index].to(change.dtype) + change.to(out.device)).to(out.dtype)


def _split(
    vectors: TaskVectors, method: MergeMethod, fused: bool = False
) -> Callable[[Parameter], Iterator[tuple[int, int]]]:
    tasks = len(vectors.task_names)
    return lambda parameter: merge_units(parameter, tasks, method.by_rows, vectors.device, fused=fused)


def _with_ties(found: Components, ties: BrokenTies) -> Components:
    component = found[ties.coefficient]
    assert isinstance(component, AlongBase), "ties are broken along the base weights"
    factor = component.factor.index_add(0, ties.rows, ties.factor.to(component.factor))
    return {**found, ties.coefficient: AlongBase(factor)}
