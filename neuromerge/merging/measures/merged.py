"""Measures of the merge itself: what it keeps of the tasks, and how far it moves the weights."""

from __future__ import annotations

import math

from neuromerge.merging.measures.cells import Cell, Moments, retention
from neuromerge.merging.measures.measure import Measure, mean, quotient

_MOVES_WITH = ("tasks", "trim", "coefficients")


def _retention(part: Moments, cell: Cell) -> float:
    return mean(retention(part))


def _applied_change(part: Moments, cell: Cell) -> float:
    return quotient(math.sqrt(max(0.0, part.merged_square)), math.sqrt(part.base_square))


RETENTION = Measure(
    key="retention",
    title="Retention",
    sentence="How much of its own change each task finds again in the merge, averaged over tasks: "
    "1 is all of it, 0 none, below 0 the opposite.",
    formula=r"\frac{1}{T}\sum_t \lambda_s\,\frac{\langle \Delta_s, \tau_{s,t}\rangle}{\lVert\tau_{s,t}\rVert^2}",
    compute=_retention,
    words=lambda tasks: (
        (-0.05, "the merge works against the tasks’ own parts"),
        (0.05, "the tasks keep almost nothing of their own part"),
        (0.5, "the tasks keep less than half of their own part"),
        (0.95, "the tasks keep most of their own part"),
        (1.05, "the tasks keep their own part whole"),
        (None, "the merge overshoots the tasks’ own parts"),
    ),
    low=0.0,
    high=None,
    signed=True,
    moves_with=_MOVES_WITH,
    ends=lambda tasks: {0.0: "lost", 1.0: "kept whole"},
)
APPLIED_CHANGE = Measure(
    key="applied_change",
    title="Applied change",
    sentence="How far the merge moves the weights here, as a share of the base weights' own length.",
    formula=r"\frac{|\lambda_s|\,\lVert\Delta_s\rVert}{\lVert w_0\rVert}",
    compute=_applied_change,
    words=lambda tasks: (
        (0.001, "the weights hardly move"),
        (0.01, "a small change beside the weights"),
        (0.05, "a clear change beside the weights"),
        (None, "a large change beside the weights"),
    ),
    low=0.0,
    high=None,
    moves_with=_MOVES_WITH,
)
