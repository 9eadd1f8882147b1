"""How coefficients and trials are named in the figures of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neuromerge.figures.text import plain
from neuromerge.search.trials import Trial

NAMES = {
    "lambda_parallel": "λ₁ (parallel)",
    "lambda_orthogonal": "λ₂ (orthogonal)",
    "lambda_pointwise": "λ of biases and norms",
    "trim_ratio": "trim ratio",
}
"""Coefficients as the figures write them; others keep their own names."""


def coefficient(key: str) -> str:
    """The name of a hyperparameter as shown; of a group of parts the first one, and how many more there are."""
    first, *more = key.removeprefix("group_").split(" + ")
    if more:
        return f"{plain(first, 16)} and {len(more)} more"
    return NAMES.get(key, plain(key.replace("_", " "), 24))


def brief(key: str) -> str:
    """The same where there is room for a few characters: a symbol, a point of a depth curve, a group's first part."""
    first, *more = key.removeprefix("group_").split(" + ")
    if key in NAMES:
        return NAMES[key].split(" ")[0]
    if key.startswith("group_"):
        return plain(first.replace("block ", "b"), 8) + (f" +{len(more)}" if more else "")
    return plain(key.replace("_", " "), 8) if key.startswith("depth_") else plain(key.split("_")[0], 8)


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """Trials with a value."""
    return [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
