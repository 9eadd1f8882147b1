"""Measures between the tasks: they depend on the task vectors and the trim, whatever is made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from neuromerge.merging.measures.cells import Cell, Moments, cosines
from neuromerge.merging.measures.measure import Measure, Words, mean, quotient

_NOTHING_TO_DISAGREE_WITH = "Only one task is merged, so there is nothing to disagree with."


@lru_cache(maxsize=32)
def _pairs(tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of all pairs: kept, since a map asks for them twice a cell."""
    return np.triu_indices(tasks, 1)


def _energy_share(part: Moments, cell: Cell) -> float:
    return quotient(part.energy, cell.energy)


def _cancellation(part: Moments, cell: Cell) -> float:
    norms = np.sqrt(np.clip(np.diag(part.gram), 0.0, None)).sum()
    return 1.0 - quotient(math.sqrt(max(0.0, float(part.gram.sum()))), norms)


def _mean_cosine(part: Moments, cell: Cell) -> float:
    return mean(cosines(part.gram)[_pairs(len(part.gram))])


def _conflict(part: Moments, cell: Cell) -> float:
    norms = np.sqrt(np.clip(np.diag(part.gram), 0.0, None))
    pairs = _pairs(len(norms))
    return -quotient(float(part.gram[pairs].sum()), float(np.outer(norms, norms)[pairs].sum()))


def _sign_conflict(part: Moments, cell: Cell) -> float:
    return quotient(part.conflicting, part.voting)


def _election_margin(part: Moments, cell: Cell) -> float:
    return quotient(part.margin, part.weight)


def _cancellation_words(tasks: int) -> Words:
    if tasks < 2:
        return ((0.1, "the tasks agree"), (0.9, "the tasks agree in part"), (None, "the tasks cancel each other"))
    chance = _independent(tasks)
    return (
        (0.1, "the tasks agree: adding them loses almost nothing"),
        (round(0.85 * chance, 4), "the tasks agree in part"),
        (round(min(1.1 * chance, 0.99), 4), f"as for {tasks} independent tasks, which lose {chance:.2f}"),
        (None, "the tasks work against each other"),
    )


def _cancellation_ends(tasks: int) -> Mapping[float, str]:
    return {0.0: "agree", 1.0: "cancel", **({_independent(tasks): "independent"} if tasks > 1 else {})}


def _independent(tasks: int) -> float:
    """Cancellation of independent tasks of equal norm."""
    return 1.0 - 1.0 / math.sqrt(tasks)


ENERGY_SHARE = Measure(
    key="energy_share",
    title="Energy share",
    sentence="Which share of all the change that the tasks ask for lies in this subspace.",
    formula=r"\frac{\sum_t \lVert\tau_{s,t}\rVert^2}{\sum_t \lVert\tau_t\rVert^2}",
    compute=_energy_share,
    words=lambda tasks: (
        (0.05, "almost none of what the tasks change lies here"),
        (0.5, "the smaller part of what the tasks change"),
        (0.95, "the larger part of what the tasks change"),
        (None, "nearly all of what the tasks change lies here"),
    ),
    low=0.0,
    high=1.0,
    ends=lambda tasks: {0.0: "none", 1.0: "all"},
)
CANCELLATION = Measure(
    key="cancellation",
    title="Cancellation",
    sentence="How much the tasks cancel when they are simply added: 0 when all agree, 1 when nothing is left; "
    "independent tasks of equal size give 1 − 1/√T.",
    formula=r"1-\frac{\lVert\sum_t \tau_{s,t}\rVert}{\sum_t \lVert\tau_{s,t}\rVert}",
    compute=_cancellation,
    words=_cancellation_words,
    low=0.0,
    high=1.0,
    ends=_cancellation_ends,
)
CONFLICT = Measure(
    key="conflict",
    title="Conflict",
    sentence="Whether the tasks pull against each other (above 0), independently (0) or together (below 0): minus "
    "their mean cosine, where pairs of large changes count more.",
    formula=r"-\frac{\sum_{t<u}\langle\tau_{s,t},\tau_{s,u}\rangle}"
    r"{\sum_{t<u}\lVert\tau_{s,t}\rVert\,\lVert\tau_{s,u}\rVert}",
    compute=_conflict,
    words=lambda tasks: (
        (-0.3, "the tasks pull the same way"),
        (-0.05, "the tasks pull slightly the same way"),
        (0.05, "the tasks are unrelated here"),
        (0.3, "the tasks pull slightly against each other"),
        (None, "the tasks pull in opposite directions"),
    ),
    low=-1.0,
    high=1.0,
    signed=True,
    against_above=True,
    ends=lambda tasks: {-1.0: "together", 0.0: "independent", 1.0: "against"},
    one_task=_NOTHING_TO_DISAGREE_WITH,
)
COSINE = Measure(
    key="cosine",
    title="Mean cosine",
    sentence="Whether the tasks pull the same way (1), independently (0) or against each other (below 0), "
    "averaged over pairs.",
    formula=r"\frac{2}{T(T-1)}\sum_{t<u}\frac{\langle\tau_{s,t},\tau_{s,u}\rangle}"
    r"{\lVert\tau_{s,t}\rVert\,\lVert\tau_{s,u}\rVert}",
    compute=_mean_cosine,
    words=lambda tasks: (
        (-0.3, "the tasks pull in opposite directions"),
        (-0.05, "the tasks pull slightly against each other"),
        (0.05, "the tasks are unrelated here"),
        (0.3, "the tasks pull slightly the same way"),
        (None, "the tasks pull the same way"),
    ),
    low=-1.0,
    high=1.0,
    signed=True,
    ends=lambda tasks: {-1.0: "opposed", 0.0: "unrelated", 1.0: "aligned"},
    one_task=_NOTHING_TO_DISAGREE_WITH,
)
SIGN_CONFLICT = Measure(
    key="sign_conflict",
    title="Sign conflict",
    sentence="Of the coordinates that at least two tasks change, the share in which they disagree about the sign.",
    formula=r"\frac{\#\{i:\ \exists\,t,u:\ \tau_{s,t,i}>0>\tau_{s,u,i}\}}"
    r"{\#\{i:\ \text{at least two } \tau_{t,i}\neq 0\}}",
    compute=_sign_conflict,
    words=lambda tasks: (
        (0.1, "the tasks nearly always agree on the sign"),
        (0.4, "the tasks often agree on the sign"),
        (0.7, "the tasks disagree on the sign in about half of the places"),
        (None, "in most places some task wants up and another down"),
    ),
    low=0.0,
    high=1.0,
    ends=lambda tasks: {0.0: "agree", 1.0: "conflict"},
    counts_signs=True,
    one_task=_NOTHING_TO_DISAGREE_WITH,
)
ELECTION_MARGIN = Measure(
    key="election_margin",
    title="Election margin",
    sentence="How clear the vote between the tasks was: 1 when they all agree, 0 when both sides weigh the same.",
    formula=r"\frac{\bigl|\sum_{\text{kept}} a_t\bigr|-\bigl|\sum_{\text{dropped}} a_t\bigr|}{\sum_t |a_t|}",
    compute=_election_margin,
    words=lambda tasks: (
        (0.05, "the vote is nearly tied"),
        (0.3, "the vote is contested"),
        (0.7, "the vote is clear"),
        (None, "the vote is nearly unanimous"),
    ),
    low=0.0,
    high=1.0,
    ends=lambda tasks: {0.0: "tied", 1.0: "unanimous"},
)
