"""Retention: how much of what a task learned is left in a merge, and the coefficient that keeps a wanted share.

The retention of task t in a merged change Delta is <Delta, tau_t> / |tau_t|^2 over the whole model, tau_t as the
method sees it (trimmed where it trims). 1 means that the merge moves as far along tau_t as the expert itself. It is
linear in Delta: a method that is linear in its coefficient reaches any mean retention by one division, without data.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from neuromerge.errors import SettingError, quoted
from neuromerge.merging.devices import stride
from neuromerge.merging.linear import AlongBase, Coefficients, Component, Place

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
            f"{quoted(value)} is not understood: write retention, or retention:x with x above 0, such as "
            "retention:0.85."
        )
    return target


def asking_for(target: float) -> str:
    """The value that asks for a mean retention, written one way."""
    return RETENTION if target == 1.0 else f"{RETENTION}:{target:g}"


@dataclass(frozen=True)
class Products:
    """Inner products of the components of a merge with the task vectors. float64.

    They depend on no coefficient, so any coefficients are judged by them without another look at the weights.

    Attributes:
        places: of every parameter, in the order of the model.
        with_tasks: one mapping for each of them: component -> (T,) <component, tau_t>.
        squares: (T,) |tau_t|^2 over the whole model.
    """

    places: tuple[Place, ...]
    with_tasks: tuple[Mapping[str, np.ndarray], ...]
    squares: np.ndarray

    def retention(self, coefficients: Coefficients) -> np.ndarray:
        """(T,) retention of every task at these coefficients; 0 for a task that changed nothing."""
        total = np.zeros_like(self.squares)
        for place, products in zip(self.places, self.with_tasks, strict=True):
            here = coefficients.at(place)
            for name, product in products.items():
                total += here[name] * product
        return retained(total, self.squares)

    def solve(self, at: Callable[[float], Coefficients], target: float) -> float:
        """The x for which the mean retention at `at(x)` is `target`; the coefficients must be linear in x.

        Tasks that changed nothing do not count. Raises SettingError where there is no such x.
        """
        alive = self.squares > 0
        if not alive.any():
            return target  # nothing changed: any value gives the same merge
        without, with_one = (float(self.retention(at(x))[alive].mean()) for x in (0.0, 1.0))
        value = (target - without) / (with_one - without) if with_one != without else math.inf
        if not math.isfinite(value):
            raise SettingError(
                "No coefficient reaches that retention: what the method merges has nothing in common with the task "
                "vectors. Set the coefficient to a number."
            )
        return value


def retained(products: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """(T,) retention from <Delta, tau_t> and |tau_t|^2; 0 for a task that changed nothing."""
    return np.where(squares > 0, products / np.where(squares > 0, squares, 1.0), 0.0)


class Tally:
    """Adds up <Delta, tau_t> and |tau_t|^2 over the chunks of a merge, from any thread."""

    def __init__(self, tasks: int):
        self._turn = threading.Lock()
        self._products, self._squares = np.zeros(tasks), np.zeros(tasks)

    def add(self, change: torch.Tensor, tau: torch.Tensor, *, new: bool = True) -> None:
        """Count a change (...) of weights whose task vectors are tau (T, ...).

        `new` says that these weights were not counted yet; False adds to the change that was.
        """
        self.add_rows(dots(tau, change), squares(tau) if new else np.zeros(len(tau)))

    def add_rows(self, products: np.ndarray, own: np.ndarray) -> None:
        """Count <change, tau_t> and |tau_t|^2 of some weights, (T,) both."""
        with self._turn:
            self._products += products
            self._squares += own

    def retention(self) -> np.ndarray:
        """(T,) retention of every task in what was counted."""
        return retained(self._products, self._squares)


def component_products(component: Component, base: torch.Tensor, tau: torch.Tensor) -> np.ndarray:
    """(T,) <component, tau_t> of a chunk: base (rows, ...), tau (T, rows, ...)."""
    if isinstance(component, torch.Tensor):
        return dots(tau, component)
    return _along(component, base, tau)


def _along(component: AlongBase, base: torch.Tensor, tau: torch.Tensor) -> np.ndarray:
    along = torch.stack([(task * base).flatten(1).sum(1, dtype=torch.float64) for task in tau])
    return (along @ component.factor.to(along)).cpu().numpy()


def dots(tau: torch.Tensor, change: torch.Tensor) -> np.ndarray:
    """(T,) <tau_t, change>, float64: tau (T, ...), change (...)."""
    total = torch.zeros(len(tau), dtype=torch.float64, device=tau.device)
    for part, piece in zip(_pieces(tau, len(tau)), _pieces(change.unsqueeze(0), len(tau)), strict=True):
        total += (part @ piece[0]).double()
    return total.cpu().numpy()


def squares(tau: torch.Tensor) -> np.ndarray:
    """(T,) |tau_t|^2, float64: tau (T, ...)."""
    total = torch.zeros(len(tau), dtype=torch.float64, device=tau.device)
    for part in _pieces(tau, len(tau)):
        total += torch.linalg.vector_norm(part, dim=1).double().square_()
    return total.cpu().numpy()


def _pieces(values: torch.Tensor, tasks: int) -> Iterator[torch.Tensor]:
    """values (m, ...) as (m, n) pieces that may be added up; in float64 where the device adds up whole parameters."""
    flat, pace = values.reshape(len(values), -1), stride(values.device)
    if pace.sums is not None:
        return iter(flat.split(pace.sums, dim=1))
    return (piece.double() for piece in flat.split(max(1, pace.wide // tasks), dim=1))
