"""The interference map's numbers, split the way it is drawn: two panels of neurons, and a strip of single numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.numbers import minus, robust_bound, robust_range, short
from neuromerge.merging.measures import Measure


@dataclass(frozen=True)
class Panel:
    """Some columns of one subspace of the map.

    Attributes:
        name: how the panel is called.
        source: the subspace that clicks name: single numbers have no direction, so they count as orthogonal.
        places: the columns of the heatmap that are drawn.
        values: (rows, places), NaN where there is no value.
        exists: (rows, places), whether the layer has such a matrix.
        factors: (rows, places), what the profile makes of the coefficient; NaN where there is no such part.
        reason: why the whole panel is flat; "" where it is not.
        beside: the same panel's values of another map that shares the colour scale; empty without one.
    """

    name: str
    source: str
    places: tuple[int, ...]
    values: np.ndarray
    exists: np.ndarray
    factors: np.ndarray
    reason: str = ""
    beside: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def not_applicable(self) -> np.ndarray:
        """Cells whose matrix exists but has no value."""
        return self.exists & ~np.isfinite(self.values)

    @property
    def marks(self) -> dict[tuple[int, int], str]:
        """The cells with a factor of their own, and how it is written: "×0.5"."""
        moved = np.isfinite(self.factors) & (self.factors != 1.0)
        return {(row, at): written_factor(self.factors[row, at]) for row, at in np.argwhere(moved).tolist()}

    @property
    def mean(self) -> float | None:
        """Mean over the cells with a value; None without any."""
        known = self.values[np.isfinite(self.values)]
        return float(known.mean()) if known.size else None


def written_factor(factor: float) -> str:
    """A factor as cells and tables write it."""
    return f"×{minus(short(factor, 2))}"


def columns_of_neurons(heatmap: Heatmap) -> np.ndarray:
    """Which columns are matrices made of neurons, (columns,) bool; the others hold single numbers."""
    has_neurons: np.ndarray = np.isfinite(heatmap.parallel).any(0)
    # Where nothing tells the columns apart, the measure does not apply anywhere.
    return has_neurons if has_neurons.any() else np.ones_like(has_neurons)


def panels(heatmap: Heatmap, beside: Heatmap | None = None) -> tuple[Panel, ...]:
    """Parallel and orthogonal over the matrices made of neurons, then, where there are any, the single numbers.

    `beside` is another map of the same cells that shares the colour scales.
    """
    exists = np.isfinite(heatmap.parallel) | np.isfinite(heatmap.orthogonal)
    has_neurons = columns_of_neurons(heatmap)
    neurons = tuple(np.flatnonzero(has_neurons).tolist())
    single = tuple(np.flatnonzero(~has_neurons).tolist())

    across = heatmap.factor("orthogonal")
    factors = {
        "parallel": heatmap.factor("parallel"),
        "orthogonal": np.where(np.isnan(across), heatmap.factor("pointwise"), across),
    }

    def panel(name: str, source: str, values: np.ndarray, places: tuple[int, ...], reason: str) -> Panel:
        shared = np.empty(0)
        if beside is not None:
            shared = (beside.parallel if source == "parallel" else beside.orthogonal)[:, places]
        own = factors[source][:, places]
        return Panel(name, source, places, values[:, places], exists[:, places], own, reason, shared)

    found = (
        panel("parallel", "parallel", heatmap.parallel, neurons, heatmap.note_parallel),
        panel("orthogonal", "orthogonal", heatmap.orthogonal, neurons, heatmap.note_orthogonal),
    )
    return (*found, panel("single numbers", "orthogonal", heatmap.orthogonal, single, "")) if single else found


def limits(panel: Panel, measure: Measure) -> tuple[float, float]:
    """Ends of a panel's colour scale: round numbers around its own values, about 0 where the sign is what counts."""
    values = np.concatenate([panel.values.ravel(), panel.beside.ravel()])
    if measure.signed:
        bound = robust_bound(values, np.inf if measure.high is None else max(abs(measure.low), measure.high))
        return -bound, bound
    return robust_range(values, measure.low, np.inf if measure.high is None else measure.high)
