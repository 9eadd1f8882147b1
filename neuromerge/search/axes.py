"""Which hyperparameters are searched, and within which values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from neuromerge.errors import SettingError, quoted
from neuromerge.merging import registry
from neuromerge.merging.registry import Hyperparameter
from neuromerge.settings.setting import Value


@dataclass(frozen=True, slots=True)
class Axis:
    """One searched parameter: a numeric range [low, high], or a set of choices."""

    name: str
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def grid(self, points: int) -> list[Value]:
        """About `points` evenly spread values, ends included; all of the choices."""
        if self.choices:
            return list(self.choices)
        if points < 2 or self.low == self.high:
            return [self._tidy((self.low + self.high) / 2)]
        values = [self._tidy(self.low + (self.high - self.low) * i / (points - 1)) for i in range(points)]
        return list(dict.fromkeys(values))

    def _tidy(self, value: float) -> Value:
        return round(value) if self.whole else round(value, 4)


def axes_of(
    method: str,
    names: Sequence[str] | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    *,
    fixed: Collection[str] = (),
) -> tuple[Axis, ...]:
    """The axes of a search over `method`'s hyperparameters.

    `names` None takes what the method's specification marks as searched, coefficients first, and leaves out those in
    `fixed`: they have a value already. `ranges` narrows a numeric
    hyperparameter to (low, high) or widens it within what is legal.

    Raises SettingError for a name the method does not have, one that is searched and fixed at once, an illegal or
    empty range, and where nothing is left to search.
    """
    chosen = registry.get_method(method)
    specs = {spec.name: spec for spec in chosen.hyperparameters}
    ranges = dict(ranges or {})
    if not specs:
        raise SettingError(f"The method {method} has no parameter to search.")
    for name in (*(names or ()), *ranges):
        if name not in specs:
            raise SettingError(f"The method {method} has no parameter {quoted(name)}. It has: {', '.join(specs)}.")
        if name in fixed:
            raise SettingError(f"{name} is to be searched and has a fixed value too. Give one of them.")
    if names is None:
        wanted = [name for name in (*chosen.coefficients, *specs) if specs[name].searched]
        names = [name for name in dict.fromkeys([*wanted, *ranges]) if name not in fixed]
    if not names:
        raise SettingError(f"Nothing is left to search: all that is searched of {method} has a fixed value.")
    return tuple(_axis(specs[name], ranges.get(name)) for name in dict.fromkeys(names))


def _axis(spec: Hyperparameter, given: Sequence[float] | None) -> Axis:
    if spec.kind in ("choice", "bool"):
        if given is not None:
            raise SettingError(f"{spec.name} has no range; it is searched over all its choices.")
        return Axis(spec.name, choices=spec.choices if spec.kind == "choice" else (False, True))
    if given is not None and (isinstance(given, str) or len(given) != 2):
        raise SettingError(f"The range of {spec.name} must be two numbers, low and high.")
    if given is None:
        given = spec.slider or (spec.minimum or 0.0, 1.0 if spec.maximum is None else spec.maximum)
        if spec.exclusive_maximum and spec.maximum is not None and given[1] >= spec.maximum:
            given = (given[0], spec.maximum - (spec.step or 0.01))
    low, high = (spec.check(end) for end in given)
    if isinstance(low, str) or isinstance(high, str) or low > high:
        raise SettingError(f"The range of {spec.name} must go from a low to a higher number.")
    return Axis(spec.name, float(low), float(high), spec.kind == "int")
