"""A merge as a sum: merged = base + sum over c of coefficient_c * component_c.

Components depend on everything but the coefficients, so whoever keeps them answers a new coefficient with one
fused pass over the weights. Streaming merge, live merge, landscapes and comparisons all add up by `combine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from neuromerge.merging.chunks import chunks
from neuromerge.merging.profile import Factors

Part = Literal["parallel", "orthogonal", "pointwise"]
"""Where a change lies: along a neuron's base weights, across them, or in a parameter without neurons."""

UNIT = "unit"
"""Name of the component of a method without coefficients; its coefficient is 1."""
SCALE = "scale"
"""The coefficient of a method that has one for its whole change."""
LAMBDAS: Mapping[Part, str] = {
    "parallel": "lambda_parallel",
    "orthogonal": "lambda_orthogonal",
    "pointwise": "lambda_pointwise",
}
"""The coefficients of a method that treats the parts apart: which part each multiplies."""


class Place(Protocol):
    """Where in a model something is; a parameter, or a cell of the heatmap."""

    @property
    def layer(self) -> str:
        """Row of the heatmap, such as ``block 3``, ``stem`` or ``head``."""
        ...

    @property
    def matrix(self) -> str:
        """Column of the heatmap, such as ``fc1``."""
        ...


@dataclass(frozen=True, slots=True)
class AlongBase:
    """A change along the base weights: row k changes by ``factor[k] * base[k]``. factor (rows,), float64."""

    factor: torch.Tensor


Component = torch.Tensor | AlongBase
"""The change that one coefficient multiplies: a tensor shaped as the base, or a multiple of each row of it."""
Components = Mapping[str, Component]
"""Components of a chunk by the name of their coefficient (`UNIT` where the method has none)."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The coefficients of one merge, as numbers.

    Attributes:
        values: by name of the hyperparameter; empty where the method has none.
        warnings: sentences that whoever reads the numbers should see.
        factors: of a profile, by (layer, matrix) and name of the coefficient; 1 where nothing is said.
    """

    values: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    factors: Factors = field(default_factory=dict)

    def at(self, place: Place) -> Mapping[str, float]:
        """What the components of one parameter are multiplied by, by the components' names."""
        return {name: self._at(place, name) for name in self.values or (UNIT,)}

    def of(self, part: Part, place: Place) -> float:
        """The coefficient of one part of the change at a place; the whole change's own where parts are not apart."""
        return self._at(place, self.name_of(part))

    def name_of(self, part: Part) -> str:
        """Which coefficient multiplies a part of the change."""
        return next((name for name in (LAMBDAS[part], SCALE) if name in self.values), UNIT)

    def _at(self, place: Place, name: str) -> float:
        here = self.factors.get((place.layer, place.matrix), {})
        return self.values.get(name, 1.0) * here.get(name, 1.0)


def combine(
    base: torch.Tensor,
    components: Components,
    coefficients: Mapping[str, float],
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """base + sum of coefficient * component, of one parameter or some of its rows, in one pass over the weights.

    Args:
        base: (rows, ...) base weights.
        components: by name, each shaped as `base`, or a factor a row.
        coefficients: by the same names.
        out: where to write, shaped as `base`, in any floating dtype and on any device; new memory when None.
    """
    if out is not None and (out.dtype, out.device) != (base.dtype, base.device):
        return out.copy_(combine(base, components, coefficients))
    out = torch.empty_like(base) if out is None else out
    used = [(component, coefficients[name]) for name, component in components.items() if coefficients[name] != 0.0]
    dense = [(component, value) for component, value in used if isinstance(component, torch.Tensor)]
    along = [value * component.factor for component, value in used if isinstance(component, AlongBase)]
    if not along:
        if not dense:
            return out.copy_(base)
        torch.add(base, dense[0][0], alpha=dense[0][1], out=out)
        for component, value in dense[1:]:
            out.add_(component, alpha=value)
        return out
    scale = sum(along[1:], 1.0 + along[0]).to(base)
    scale = scale.view(-1, *[1] * (base.ndim - 1))
    row_entries = base.numel() // max(1, len(base))
    for start, stop in chunks(len(base), row_entries, base.device):  # each stays in the cache meanwhile
        piece = torch.mul(base[start:stop], scale[start:stop], out=out[start:stop])
        for component, value in dense:
            piece.add_(component[start:stop], alpha=value)
    return out


def change(base: torch.Tensor, components: Components, coefficients: Mapping[str, float]) -> torch.Tensor:
    """The sum of coefficient * component by itself, shaped as `base`: no digits are lost to the weights."""
    merged = torch.zeros_like(base)
    for name, component in components.items():
        if isinstance(component, torch.Tensor):
            merged.add_(component, alpha=coefficients[name])
        else:
            factor = coefficients[name] * component.factor
            merged.addcmul_(factor.to(base).view(-1, *[1] * (base.ndim - 1)), base)
    return merged


def nbytes(components: Components) -> int:
    """Bytes that components hold."""
    held = (c.factor if isinstance(c, AlongBase) else c for c in components.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in held)


def joined(pieces: list[Components]) -> Components:
    """The components of consecutive chunks as those of all their rows."""
    if len(pieces) == 1:
        return pieces[0]
    whole: dict[str, Component] = {}
    for name, first in pieces[0].items():
        if isinstance(first, AlongBase):
            whole[name] = AlongBase(torch.cat([_along(piece[name]).factor for piece in pieces]))
        else:
            whole[name] = torch.cat([_dense(piece[name]) for piece in pieces])
    return whole


def rows(components: Components, start: int, stop: int) -> Components:
    """The components of some rows; views."""
    return {
        name: AlongBase(c.factor[start:stop]) if isinstance(c, AlongBase) else c[start:stop]
        for name, c in components.items()
    }


def total(components: Components, base: torch.Tensor) -> torch.Tensor:
    """The sum of all components with coefficients of 1, shaped as `base`."""
    parts = [
        c.factor.to(base).view(-1, *[1] * (base.ndim - 1)) * base if isinstance(c, AlongBase) else c
        for c in components.values()
    ]
    return sum(parts[1:], parts[0])


def _along(component: Component) -> AlongBase:
    assert isinstance(component, AlongBase), "a component has one form in all chunks of a parameter"
    return component


def _dense(component: Component) -> torch.Tensor:
    assert isinstance(component, torch.Tensor), "a component has one form in all chunks of a parameter"
    return component
