"""Whole passes of a method over task vectors: its components, or its merged weights, parameter by parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.chunks import as_they_are, map_chunks, merge_units
from neuromerge.merging.linear import AlongBase, Coefficients, Components, joined
from neuromerge.merging.method import BrokenTies, MergeMethod, Run
from neuromerge.merging.vectors import AlignedVectors, TaskVectors, WatchedVectors, read_chunk


def components(vectors: TaskVectors, method: MergeMethod, run: Run[Any]) -> Iterator[tuple[Parameter, Components]]:
    """The components of every parameter, in the order of the model, ties broken.

    With them any coefficients are merged by `linear.combine`; they hold about as much as the model each.
    """

    def work(parameter: Parameter, start: int, stop: int) -> Components:
        return method.components(read_chunk(vectors, parameter, start, stop), run)

    def finish(parameter: Parameter, pieces: list[Components]) -> Components:
        return joined(pieces)

    for parameter, found in map_chunks(work, vectors.parameters, _split(vectors, method), finish, _threads(method)):
        ties = method.break_ties(parameter, run)
        yield parameter, found if ties is None else _with_ties(found, ties)


def merged_weights(
    vectors: AlignedVectors | WatchedVectors,
    method: MergeMethod,
    run: Run[Any],
    coefficients: Coefficients,
    target: Callable[[Parameter], torch.Tensor],
    parameters: Iterable[Parameter] | None = None,
) -> Iterator[tuple[Parameter, torch.Tensor]]:
    """The merged weights of every parameter, in the order of the model; one chunk a core is held beside them.

    Args:
        target: gives the tensor (*shape) that a parameter's weights are written to, in any floating dtype.
        parameters: which to merge; all of them when None.
    """
    begun: dict[str, torch.Tensor] = {}
    split = _split(vectors, method)

    def opened(parameter: Parameter) -> Iterator[tuple[int, int]]:
        begun[parameter.name] = target(parameter)
        return split(parameter)

    def work(parameter: Parameter, start: int, stop: int) -> None:
        chunk = read_chunk(vectors, parameter, start, stop)
        method.merge_chunk(chunk, run, coefficients.at(parameter), begun[parameter.name][start:stop])

    for parameter, _ in map_chunks(work, parameters or vectors.parameters, opened, as_they_are, _threads(method)):
        out = begun.pop(parameter.name)
        ties = method.break_ties(parameter, run)
        if ties is not None:
            _break(out, vectors.base(parameter), ties, coefficients.at(parameter))
        yield parameter, out


def _split(vectors: TaskVectors, method: MergeMethod) -> Callable[[Parameter], Iterator[tuple[int, int]]]:
    return lambda parameter: merge_units(parameter, len(vectors.task_names), method.by_rows)


def _threads(method: MergeMethod) -> int | None:
    # What looks at whole matrices (singular values, say) wants all of torch's threads for one of them.
    return None if method.by_rows else 1


def _with_ties(found: Components, ties: BrokenTies) -> Components:
    component = found[ties.coefficient]
    assert isinstance(component, AlongBase), "ties are broken along the base weights"
    factor = component.factor.index_add(0, ties.rows, ties.factor.to(component.factor))
    return {**found, ties.coefficient: AlongBase(factor)}


def _break(out: torch.Tensor, base: torch.Tensor, ties: BrokenTies, coefficients: Mapping[str, float]) -> None:
    coefficient = coefficients[ties.coefficient]
    if coefficient == 0.0:
        return
    rows_index = ties.rows.to(out.device)
    rows = base.to(out.device)[rows_index]
    change = (coefficient * ties.factor).to(rows).unsqueeze(1) * rows
    out[rows_index] = (out[rows_index].to(rows.dtype) + change).to(out.dtype)
