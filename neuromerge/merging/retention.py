"""Retention: how much of what a task learned is left in a merge, and the coefficient that keeps a wanted share.

The retention of task t in a merged change Delta is <Delta, tau_t> / |tau_t|^2 over the whole model, tau_t as the
method sees it (trimmed where it trims). 1 means that the merge moves as far along tau_t as the expert itself. It is
linear in Delta: a method that is linear in its coefficient reaches any mean retention by one division, without data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuromerge.errors import SettingError

RETENTION = "retention"
"""How a coefficient asks to be resolved by retention: ``retention``, or ``retention:0.85`` for another target."""


def retention_target(value: object) -> float | None:
    """The mean retention that a coefficient asks for: 1 for ``retention``, x for ``retention:x``; None for others.

    Raises SettingError where x is no number above 0.
    """
    if not isinstance(value, str):
        return None
    word, colon, number = value.strip().lower().partition(":")
    if word.strip() != RETENTION:
        return None
    if not colon:
        return 1.0
    try:
        target = float(number)
    except ValueError:
        target = math.nan
    if not 0.0 < target < math.inf:
        raise SettingError(
            f"{value!r} is not understood: write retention, or retention:x with x above 0, such as retention:0.85."
        )
    return target


@dataclass(frozen=True)
class InnerProducts:
    """Inner products of merged changes with task vectors, over some part of a model. Adding joins parts.

    Attributes:
        with_tasks: (components, T) <component_c, tau_t>; a merged change is the sum of coefficient_c * component_c.
        task_squares: (T,) |tau_t|^2.
    """

    with_tasks: np.ndarray
    task_squares: np.ndarray

    def __add__(self, other: InnerProducts) -> InnerProducts:
        return InnerProducts(self.with_tasks + other.with_tasks, self.task_squares + other.task_squares)

    def retention(self, coefficients: Sequence[float]) -> np.ndarray:
        """(T,) retention of every task at these coefficients; 0 for a task that changed nothing."""
        return self._shares() @ np.asarray(coefficients, np.float64)

    def resolve(self, coefficients: Sequence[float | None], target: float = 1.0) -> float:
        """The value for all coefficients that are None which makes the mean retention equal to `target`.

        Tasks that changed nothing do not count. Raises SettingError where no value does: there, the components keep
        nothing of the tasks.
        """
        shares = self._shares()[self.task_squares > 0]
        if not len(shares):
            return target  # nothing changed: any value gives the same merge
        mean = shares.mean(0)
        free = [c for c, value in enumerate(coefficients) if value is None]
        fixed = sum(float(mean[c]) * value for c, value in enumerate(coefficients) if value is not None)
        per_unit = float(mean[free].sum())
        value = (target - fixed) / per_unit if per_unit else math.inf
        if not math.isfinite(value):
            raise SettingError(
                "No coefficient reaches that retention: what the method merges has nothing in common with the task "
                "vectors. Set the coefficient to a number."
            )
        return value

    def _shares(self) -> np.ndarray:
        """(T, components) retention per unit of each coefficient."""
        squares = np.where(self.task_squares > 0, self.task_squares, 1.0)
        return (self.with_tasks / squares).T


def inner_products(components: Sequence[torch.Tensor], tau: torch.Tensor) -> InnerProducts:
    """Of the merged components, each shaped like one task vector, with tau (T, ...), in float64."""
    flat = tau.flatten(1)
    # Products of float32 entries are summed by BLAS in pieces short enough to lose nothing that matters.
    with_tasks = np.stack([_dots(flat, part.flatten()) for part in components])
    squares = np.array([_dots(task.unsqueeze(0), task)[0] for task in flat])
    return InnerProducts(with_tasks, squares)


_PIECE = 1 << 14  # entries added up in the working dtype before float64 takes over


def _dots(rows: torch.Tensor, vector: torch.Tensor) -> np.ndarray:
    """rows (T, d) @ vector (d,), float64."""
    total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for part, piece in zip(rows.split(_PIECE, dim=1), vector.split(_PIECE), strict=True):
        total += (part @ piece).double()
    return total.cpu().numpy()
