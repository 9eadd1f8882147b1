"""What the values of a measure mean, in words: for the hover, the table and the ends of the colour bar."""

from __future__ import annotations

import math

from neuromerge.exploration.results import MeasureInfo
from neuromerge.figures.wire import Phrases

_PHRASES: dict[str, Phrases] = {
    "energy_share": [
        (0.05, "almost none of what the tasks change lies here"),
        (0.5, "the smaller part of what the tasks change"),
        (0.95, "the larger part of what the tasks change"),
        (None, "nearly all of what the tasks change lies here"),
    ],
    "cosine": [
        (-0.3, "the tasks pull in opposite directions"),
        (-0.05, "the tasks pull slightly against each other"),
        (0.05, "the tasks are unrelated here"),
        (0.3, "the tasks pull slightly the same way"),
        (None, "the tasks pull the same way"),
    ],
    "sign_conflict": [
        (0.1, "the tasks nearly always agree on the sign"),
        (0.4, "the tasks often agree on the sign"),
        (0.7, "the tasks disagree on the sign in about half of the places"),
        (None, "in most places some task wants up and another down"),
    ],
    "retention": [
        (-0.05, "the merge works against the tasks’ own parts"),
        (0.05, "the tasks keep almost nothing of their own part"),
        (0.5, "the tasks keep less than half of their own part"),
        (0.95, "the tasks keep most of their own part"),
        (1.05, "the tasks keep their own part whole"),
        (None, "the merge overshoots the tasks’ own parts"),
    ],
    "applied_change": [
        (0.001, "the weights hardly move"),
        (0.01, "a small change beside the weights"),
        (0.05, "a clear change beside the weights"),
        (None, "a large change beside the weights"),
    ],
    "election_margin": [
        (0.05, "the vote is nearly tied"),
        (0.3, "the vote is contested"),
        (0.7, "the vote is clear"),
        (None, "the vote is nearly unanimous"),
    ],
}

_ENDS: dict[str, dict[float, str]] = {
    "energy_share": {0: "none", 1: "all"},
    "cancellation": {0: "agree", 1: "cancel"},
    "cosine": {-1: "opposed", 0: "unrelated", 1: "aligned"},
    "sign_conflict": {0: "agree", 1: "conflict"},
    "retention": {0: "lost", 1: "kept whole"},
    "election_margin": {0: "tied", 1: "unanimous"},
}


def phrases(measure: MeasureInfo, tasks: int | None = None) -> Phrases:
    """What values of `measure` mean; [] when nothing is known about it.

    `tasks` is the number of merged tasks T: independent ones of equal norm have a cancellation of 1 - 1/sqrt(T).
    """
    if measure.key != "cancellation":
        return _PHRASES.get(measure.key, [])
    if not tasks or tasks < 2:
        return [(0.1, "the tasks agree"), (0.9, "the tasks agree in part"), (None, "the tasks cancel each other")]
    chance = 1 - 1 / math.sqrt(tasks)
    return [
        (0.1, "the tasks agree: adding them loses almost nothing"),
        (round(0.85 * chance, 4), "the tasks agree in part"),
        (round(min(1.1 * chance, 0.99), 4), f"as for {tasks} independent tasks, which lose {chance:.2f}"),
        (None, "the tasks work against each other"),
    ]


def named_values(measure: MeasureInfo, tasks: int | None = None) -> dict[float, str]:
    """Values of `measure` that have a name of their own on the colour bar."""
    named = dict(_ENDS.get(measure.key, {}))
    if measure.key == "cancellation" and tasks and tasks > 1:
        named[1 - 1 / math.sqrt(tasks)] = "independent"
    return named
