"""What a measure of interference is: everything that a menu, a figure, a table and a link need to know of one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from neuromerge.merging.linear import Coefficients
from neuromerge.merging.measures.cells import Cell, Moments, Subspace

Words = tuple[tuple[float | None, str], ...]
"""What values mean: (upper bound, phrase) in rising order, the last one open (None)."""


def no_ends(tasks: int) -> Mapping[float, str]:
    """For a measure without marks on its colour bar."""
    return {}


@dataclass(frozen=True)
class Measure:
    """One measure of interference: of one subspace of one cell (every neuron of one matrix of one layer).

    Attributes:
        key: its name in links, tables and scripts.
        title, sentence: its name on the page, and what it says in one plain sentence.
        formula: in LaTeX. ``t`` runs over tasks, ``s`` is the subspace, norms and inner products are over the cell,
            ``\\tau_{s,t}`` is what the trim has left of task t's vector there.
        compute: its value from the sums of one subspace of a cell, and the cell; NaN where it does not apply.
        words: what values mean, for a number of tasks.
        low, high: the range of its values; None without a bound.
        signed: whether its sign carries the meaning, so that colours diverge from 0.
        against_above: whether values above 0 mean tasks against each other, and not those below 0: the colours are
            turned over then, so that one colour means against everywhere.
        moves_with: what it depends on, of ``tasks``, ``trim`` and ``coefficients``.
        ends: marks of the colour bar in words, by value, for a number of tasks.
        counts_signs: whether it needs the sign conflicts counted, which costs half of a first pass more.
        one_task: why it says nothing of a single task; empty where it does.
    """

    key: str
    title: str
    sentence: str
    formula: str
    compute: Callable[[Moments, Cell], float]
    words: Callable[[int], Words]
    low: float
    high: float | None
    signed: bool = False
    against_above: bool = False
    moves_with: tuple[str, ...] = ("tasks", "trim")
    ends: Callable[[int], Mapping[float, str]] = no_ends
    counts_signs: bool = False
    one_task: str = ""

    @property
    def moves_with_lambda(self) -> bool:
        """Whether a change of a coefficient changes it."""
        return "coefficients" in self.moves_with

    def of(self, cell: Cell, subspace: Subspace, used: Coefficients) -> float:
        """Its value in one subspace of a cell; NaN where there is no such part."""
        part = cell.part(subspace, used)
        return math.nan if part is None else self.compute(part, cell)

    def phrase(self, value: float, tasks: int) -> str:
        """What a value means, in words; "" where nothing is said about it."""
        for bound, words in self.words(tasks):
            if bound is None or value <= bound:
                return words
        return ""


def quotient(a: float, b: float) -> float:
    """a / b; NaN where b is not positive."""
    return float(a) / float(b) if b > 0 else math.nan


def mean(values: np.ndarray) -> float:
    """Mean of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
