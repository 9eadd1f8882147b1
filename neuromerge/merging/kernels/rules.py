"""What a compiled kernel is told of a merge that treats every entry by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rule:
    """How the change of an entry follows from its task vectors.

    Attributes:
        code: of `kernels.codes`.
        bounds: (T,) thresholds of a trim before it; None for none.
        numbers: what the code wants to know, see `changes.combine`.
        limits: (4, T) the limits of PCB's competition.
        drops: (T, *shape) bool, which entries survive a drop before the trim; None where nothing is dropped.
        enlarged: what those that survive are multiplied by.
    """

    code: int
    bounds: torch.Tensor | None = None
    numbers: tuple[float, ...] = ()
    limits: torch.Tensor | None = None
    drops: torch.Tensor | None = None
    enlarged: float = 1.0
