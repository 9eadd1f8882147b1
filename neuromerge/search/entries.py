"""What a comparison has rows for: methods and named variants of them, and the settings that each may try.

Every entry gets the same number of settings on validation, laid out before anything is seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from neuromerge.errors import SettingError
from neuromerge.merging import methods
from neuromerge.merging.linear import SCALE
from neuromerge.merging.registry import MergeMethod, get_method
from neuromerge.merging.retention import RETENTION

BUDGET = 72
"""Settings that are tried on validation, for every entry."""
LARGEST_SCALE = 2.88
Kind = Literal["base", "expert", "given", "default", "retention", "validation"]
"""Where the coefficients of a row come from: somebody's own, the published defaults, retention 1, or validation."""
Values = Mapping[str, Any]
"""Some of a method's hyperparameters; the others have their defaults."""


@dataclass(frozen=True)
class Entry:
    """One method of a comparison, or a variant of it.

    Attributes:
        name: the method's, or the variant's.
        title: for people.
        method: what merges.
        own: hyperparameters that differ from the method's defaults in all of the entry's rows, unless they are tuned.
        tuned: hyperparameter -> values worth trying, where they differ from those of the method.
    """

    name: str
    title: str
    method: MergeMethod
    own: Values = field(default_factory=dict)
    tuned: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def retention(self) -> Values | None:
        """The entry with the coefficient that retention 1 asks for; None for a method without coefficients."""
        asking = {spec.name: RETENTION for spec in self.method.hyperparameters if spec.retention}
        return {**self.own, **asking} if asking else None

    def grid(self, budget: int = BUDGET) -> tuple[Values, ...]:
        """The settings that are tried on validation: `budget` of them, none for a method without coefficients.

        The method's specification says which values of its hyperparameters are worth trying. Where one coefficient
        multiplies the whole change, what is left of `BUDGET` goes to it, in even steps up to `LARGEST_SCALE`. A
        smaller budget is spread evenly over the same settings.
        """
        if not self.method.coefficients:
            return ()
        axes = {spec.name: spec.grid for spec in self.method.hyperparameters if spec.grid and spec.name != SCALE}
        axes |= self.tuned
        if self.method.coefficients == (SCALE,):
            steps = BUDGET // math.prod(map(len, axes.values()))
            axes[SCALE] = tuple(round(LARGEST_SCALE * step / steps, 4) for step in range(1, steps + 1))
        points = itertools.product(*axes.values())
        whole = tuple({**self.own, **dict(zip(axes, point, strict=True))} for point in points)
        if budget >= len(whole):
            return whole
        return tuple(whole[int((place + 0.5) * len(whole) / budget)] for place in range(budget))


def entries(names: Sequence[str] | None = None) -> tuple[Entry, ...]:
    """The entries of these names, of methods or variants; of all of them when None.

    Raises SettingError listing what there is.
    """
    known: dict[str, Entry] = {}
    for method in methods().values():
        known[method.name] = Entry(method.name, method.title, method)
        for variant in method.variants:
            known[variant.name] = Entry(variant.name, variant.title, method, variant.values, variant.tuned)
    if names is None:
        return tuple(known.values())
    variants = ", ".join(name for name, entry in known.items() if entry.own)
    try:
        return tuple(known[name] if name in known else known[get_method(name).name] for name in names)
    except SettingError as error:
        raise SettingError(f"{error} A comparison also knows {variants}.") from None
