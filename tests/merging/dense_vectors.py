"""Task vectors held in memory, and small random models made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.kernels.table import Rows, served
from neuromerge.merging.linear import Component
from neuromerge.merging.passes import chunk_components
from neuromerge.merging.registry import check_values, get_method
from neuromerge.merging.vectors import read_chunk


class DenseVectors:
    """`TaskVectors` over plain tensors; every read is a copy, so that a caller who writes harms nobody."""

    def __init__(
        self,
        base: Mapping[str, torch.Tensor],
        tau: Mapping[str, torch.Tensor],
        task_names: Sequence[str],
        parameters: Sequence[Parameter],
    ):
        self.base, self.tau = dict(base), dict(tau)
        self.task_names, self.parameters = tuple(task_names), tuple(parameters)

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        return self.base[parameter.name][start:stop], self.tau[parameter.name][:, start:stop].clone()

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.tau.values())).dtype

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def stored(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> Rows:
        base, tau = self.read(parameter, start, stop)
        return Rows(base, tuple(tau), False, self.dtype)

    def permuted(self, order: Sequence[int], parameters: Sequence[int] | None = None) -> DenseVectors:
        """The same vectors with tasks, and perhaps parameters, in another order."""
        return DenseVectors(
            self.base,
            {name: tau[list(order)] for name, tau in self.tau.items()},
            [self.task_names[i] for i in order],
            self.parameters if parameters is None else [self.parameters[i] for i in parameters],
        )

    def mapped(self, change: Any) -> DenseVectors:
        """The same model with `change` applied to every tau (T, ...)."""
        tau = {name: change(tau) for name, tau in self.tau.items()}
        return DenseVectors(self.base, tau, self.task_names[: len(next(iter(tau.values())))], self.parameters)

    def flat(self) -> torch.Tensor:
        """All task vectors, (T, d), in the order of `parameters`."""
        return torch.cat([self.tau[p.name].flatten(1) for p in self.parameters], dim=1)

    def unflat(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """(d,) -> one tensor per parameter."""
        parts = flat.split([p.numel for p in self.parameters])
        return {p.name: part.view(p.shape) for p, part in zip(self.parameters, parts, strict=True)}


def parameter(name: str, shape: tuple[int, ...], matrix: str = "fc1") -> Parameter:
    kind: Literal["neurons", "pointwise"] = "neurons" if len(shape) == 2 else "pointwise"
    return Parameter(name, name, "model", "block 0", 0, matrix, kind, shape, 0, 0, shape[0])


SHAPES: dict[str, tuple[int, ...]] = {
    "patch.weight": (6, 12),
    "q.weight": (12, 12),
    "fc1.weight": (20, 12),
    "fc2.weight": (12, 20),
    "norm.weight": (12,),
    "fc1.bias": (20,),
    "scalar": (1,),
}


def random_vectors(
    tasks: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    stored: torch.dtype | None = None,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    scale: float = 0.1,
) -> DenseVectors:
    """A random model. `stored`: round base and experts to this dtype first, as checkpoints in half precision do."""
    generator = torch.Generator().manual_seed(seed)
    base, tau = {}, {}
    for name, shape in shapes.items():
        weights = torch.randn(shape, generator=generator, dtype=torch.float64)
        # Heavy tails, as real task vectors have them.
        change = scale * torch.randn((tasks, *shape), generator=generator, dtype=torch.float64) ** 3
        if stored is not None:
            experts = (weights + change).to(stored).to(dtype)
            weights = weights.to(stored).to(dtype)
            change = experts - weights
        base[name], tau[name] = weights.to(dtype), change.to(dtype)
    parameters = [
        parameter(name, shape, {"patch": "patch", "q": "q", "norm": "norm"}.get(name.split(".")[0], "fc1"))
        for name, shape in shapes.items()
    ]
    return DenseVectors(base, tau, [f"task{t}" for t in range(tasks)], parameters)


def run(vectors: DenseVectors, method: str, *, seed: int = 0, **given: Any) -> dict[str, torch.Tensor]:
    """The merged change of every parameter."""
    return run_by_rows(vectors, method, None, seed=seed, **given)


def run_by_rows(
    vectors: DenseVectors, method: str, rows: int | None, *, seed: int = 0, **given: Any
) -> dict[str, torch.Tensor]:
    """As `run`, with linear maps merged in chunks of `rows` neurons where the method allows it."""
    chosen = get_method(method)
    values = check_values(chosen, given)
    begun = chosen.begin(vectors, values, seed)
    used = chosen.resolve(begun.findings())
    merged = {}
    for p in vectors.parameters:
        step = rows if rows is not None and chosen.by_rows and p.kind == "neurons" else p.shape[0]
        changes = []
        for start in range(0, p.shape[0], step):
            chunk = read_chunk(vectors, p, start, start + step, fused=served(vectors))
            components = chunk_components(chosen, chunk, begun).items()
            changes.append(sum(used.at(p)[name] * _dense(component, chunk.base) for name, component in components))
        merged[p.name] = torch.cat(changes)
    return merged


def _dense(component: Component, base: torch.Tensor) -> torch.Tensor:
    if isinstance(component, torch.Tensor):
        return component
    return component.factor.to(base).unsqueeze(1) * base
