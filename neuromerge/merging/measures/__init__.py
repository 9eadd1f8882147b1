"""Measures of interference between tasks: one object a measure, in one list that menus, figures and tables follow.

To add one, write a `Measure` and put it into the list below.
"""

from __future__ import annotations

from neuromerge.errors import SettingError, quoted
from neuromerge.merging.measures.between import (
    CANCELLATION,
    CONFLICT,
    COSINE,
    ELECTION_MARGIN,
    ENERGY_SHARE,
    SIGN_CONFLICT,
)
from neuromerge.merging.measures.cells import SUBSPACES, Cell, Moments, Subspace, cells, cosines, retention
from neuromerge.merging.measures.measure import Measure, Words
from neuromerge.merging.measures.merged import APPLIED_CHANGE, RETENTION

__all__ = [
    "SUBSPACES",
    "Cell",
    "Measure",
    "Moments",
    "Subspace",
    "Words",
    "cells",
    "cosines",
    "get_measure",
    "measures",
    "register",
    "retention",
    "unregister",
]

_MEASURES: dict[str, Measure] = {}


def register(measure: Measure) -> Measure:
    """Make a measure known. Raises ValueError where its key is taken."""
    if measure.key in _MEASURES:
        raise ValueError(f"the measure {measure.key!r} is registered twice")
    _MEASURES[measure.key] = measure
    return measure


def unregister(key: str) -> None:
    """Forget a measure again, as tests of their own measures do. Raises SettingError for an unknown one."""
    get_measure(key)
    del _MEASURES[key]


def measures() -> tuple[Measure, ...]:
    """Every measure, in the order of the menu."""
    return tuple(_MEASURES.values())


def get_measure(key: str) -> Measure:
    """The measure called `key`. Raises SettingError listing the known ones."""
    try:
        return _MEASURES[key]
    except (KeyError, TypeError):
        raise SettingError(f"There is no measure {quoted(key)}. Known: {', '.join(_MEASURES)}.") from None


# The order of the menu; the map opens on the first one.
for _measure in (
    CONFLICT,
    RETENTION,
    APPLIED_CHANGE,
    ENERGY_SHARE,
    CANCELLATION,
    COSINE,
    SIGN_CONFLICT,
    ELECTION_MARGIN,
):
    register(_measure)
