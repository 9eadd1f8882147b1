"""Coefficients written mergekit's way: a list of values over depth, or entries with a `filter`.

    scale: [0.2, 0.5, 0.8]                 from the first block to the last; the ends hold for stem and head
    scale:
      - filter: mlp                        the first entry whose filter matches holds
        value: [0.5, 1.0]
      - filter: q_proj
        value: 0.3
      - value: 0.7                         everything else

Here the same is one coefficient and a profile of factors on it (see `neuromerge.merging.profile`). Filters of
mergekit are parts of names of weights. Here they name a matrix, or the matrices of attention or MLP; biases and
norms are parts of their own (``bias``, ``norm``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuromerge.errors import RecipeError, quoted
from neuromerge.merging.hyperparameters import AUTO, Hyperparameter
from neuromerge.merging.profile import GROUPS, REST, Profile

_MATRICES = (
    "q",
    "k",
    "v",
    "qkv",
    "out",
    "fc1",
    "fc2",
    "gate",
    "router",
    "patch",
    "projection",
    "embedding",
    "norm",
    "bias",
    "other",
)
_FILTERS: Mapping[str, str] = {
    **{name: name for name in (*_MATRICES, *GROUPS)},
    "self_attn": "attention",
    "attn": "attention",
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "o_proj": "out",
    "out_proj": "out",
    "up_proj": "fc1",
    "down_proj": "fc2",
    "gate_proj": "gate",
    "embed_tokens": "embedding",
    "layernorm": "norm",
}
"""mergekit's names of parts of a model, and ours, to ours."""

Curve = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Shaped:
    """A coefficient that differs from place to place: a number, and the factors on it by part."""

    value: float
    factors: dict[str, list[float]]


def read_shaped(spec: Hyperparameter, given: Sequence[Any]) -> Shaped:
    """A coefficient given as a list of values, or of entries with filters.

    Raises RecipeError where an entry can never hold, or names what is not known.
    """
    if not given:
        raise RecipeError(f"{spec.name} in the recipe is an empty list; give it values.")
    if not any(isinstance(entry, Mapping) for entry in given):
        return Shaped(1.0, {REST: list(_values(spec, given))})
    found: dict[str, Curve] = {}
    fallback: Curve | None = None
    for entry in given:
        if not isinstance(entry, Mapping) or "value" not in entry or set(entry) - {"filter", "value"}:
            raise RecipeError(f"Each entry of {spec.name} in the recipe needs `value`, and `filter` but for the last.")
        if fallback is not None:
            raise RecipeError(f"{spec.name} in the recipe: an entry after the one without a filter never holds.")
        curve = _values(spec, entry["value"])
        if entry.get("filter") in (None, "", "*"):
            fallback = curve
            continue
        part = _FILTERS.get(str(entry["filter"]))
        if part is None:
            raise RecipeError(
                f"{spec.name} in the recipe has the filter {entry['filter']!r:.60}. Known: {', '.join(_FILTERS)}. "
                "Blocks and cells are written under `profile`."
            )
        if part in found or any(part in GROUPS.get(group, ()) for group in found):
            raise RecipeError(f"{spec.name} in the recipe: the entry for {quoted(entry['filter'])} never holds.")
        found[part] = curve
    if fallback is None:
        if spec.default == AUTO:
            raise RecipeError(f"{spec.name} in the recipe needs an entry without a filter, for everything else.")
        fallback = (float(spec.default),)
    found = _apart(spec, found)
    if len(fallback) > 1 or fallback[0] == 0.0:
        return Shaped(1.0, {**{part: list(curve) for part, curve in found.items()}, REST: list(fallback)})
    value = fallback[0]
    return Shaped(value, {part: [entry / value for entry in curve] for part, curve in found.items()})


def write_shaped(value: float, profile: Profile, coefficient: str) -> list[Any] | None:
    """A coefficient and the factors on it as mergekit writes them; None where it has no words for one of the parts."""
    own = [factor for factor in profile if factor.coefficient == coefficient]
    if not own or any(factor.part not in (REST, *_MATRICES, *GROUPS) for factor in own):
        return None
    curves = {factor.part: [value * entry for entry in factor.curve] for factor in own}
    rest = curves.pop(REST, [value])
    if not curves:
        return rest
    # A group comes after its matrices: the first entry that matches holds.
    ordered = sorted(curves, key=lambda part: part in GROUPS)
    entries: list[Any] = [{"filter": part, "value": _plain(curves[part])} for part in ordered]
    return [*entries, {"value": _plain(rest)}]


def _apart(spec: Hyperparameter, found: Mapping[str, Curve]) -> dict[str, Curve]:
    """The same, with what a group says taken out of the matrices named before it: factors multiply, filters do not."""
    apart = dict(found)
    for group in set(found) & set(GROUPS):
        for matrix in set(found) & set(GROUPS[group]):
            shared = found[group]
            if len(shared) > 1 or shared[0] == 0.0:
                raise RecipeError(
                    f"{spec.name} in the recipe: {matrix} and {group} overlap. Name the matrices of {group} one by one."
                )
            apart[matrix] = tuple(entry / shared[0] for entry in found[matrix])
    return apart


def _values(spec: Hyperparameter, given: Any) -> Curve:
    entries = given if isinstance(given, list) else [given]
    numbers = []
    for entry in entries:
        try:
            number = float(entry)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        low = -math.inf if spec.minimum is None else spec.minimum
        high = math.inf if spec.maximum is None else spec.maximum
        if not low <= number <= high:
            raise RecipeError(
                f"{spec.name} in the recipe must be numbers from {low:g} to {high:g} where it differs from place to "
                f"place, not {entry!r:.60}."
            )
        numbers.append(number)
    if not numbers:
        raise RecipeError(f"{spec.name} in the recipe has an empty list of values.")
    return tuple(numbers)


def _plain(curve: list[float]) -> float | list[float]:
    return curve[0] if len(curve) == 1 else curve
