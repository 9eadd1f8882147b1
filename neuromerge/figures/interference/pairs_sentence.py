"""Who fights whom, who goes along, and who pays, in a sentence with a link to where it happens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neuromerge.exploration.results import BetweenTasks, Heatmap
from neuromerge.figures.interference.sentence import CellLink, Sentence
from neuromerge.figures.numbers import minus, short


def pairs_headline(
    between: BetweenTasks, heatmap: Heatmap, titles: Mapping[str, str] | None = None, only: str = ""
) -> Sentence:
    """The pair that fights most and where, the pair that goes along most, and the task that keeps least.

    Args:
        between: the numbers.
        heatmap: the map whose rows and columns the link to a cell counts.
        titles: names to show instead of the tasks' keys.
        only: the task that alone is spoken of; all where it is empty.
    """
    names = [(titles or {}).get(task, task) for task in between.tasks]
    conflict = between.conflict["both"]
    if only in between.tasks:
        others = np.arange(len(names)) != between.tasks.index(only)
        conflict = np.where(np.logical_and.outer(others, others), np.nan, conflict)
    if not np.isfinite(conflict).any():
        return Sentence(
            ("Only one task changes anything here, so there is nothing to disagree with.", *_pays(between, names, only))
        )
    worst, best = _pair(np.nanargmax(conflict), only, between), _pair(np.nanargmin(conflict), only, between)
    high, low = float(conflict[worst]), float(conflict[best])
    a, b = (names[place] for place in worst)
    told = minus(short(high, 2))
    if high > 0:
        start = f"{a} pulls against {b} most (conflict {told})"
    else:
        start = f"No two tasks pull against each other: {a} against {b} comes closest to it (conflict {told})"
    parts: list[str | CellLink] = [start]
    link = _link(between, worst, heatmap)
    if link is not None:
        parts += [", most of all in ", link]
    if best != worst:
        most = "goes most with" if low < 0 else "pulls least against"
        parts.append(f"; {names[best[0]]} {most} {names[best[1]]} ({minus(short(low, 2))})")
    return Sentence((*parts, ".", *_pays(between, names, only)))


def _pair(flat: np.intp, only: str, between: BetweenTasks) -> tuple[int, int]:
    """Two tasks, in order; the one that is spoken of first."""
    count = len(between.tasks)
    a, b = divmod(int(flat), count)
    if only in between.tasks and between.tasks[b] == only:
        return b, a
    return (a, b) if only in between.tasks else (min(a, b), max(a, b))


def _link(between: BetweenTasks, pair: tuple[int, int], heatmap: Heatmap) -> CellLink | None:
    """The cell that most of a pair's conflict comes from; None where that is all there is to see."""
    place = between.places[min(pair), max(pair)]
    if between.layer and between.matrix:
        return None
    value = minus(short(place.conflict, 2)) if np.isfinite(place.conflict) else "0"
    return CellLink(
        f"{place.layer} {place.matrix} ({place.subspace}, {value})",
        place.subspace,
        heatmap.rows.index(place.layer),
        heatmap.columns.index(place.matrix),
        place.conflict,
    )


def _pays(between: BetweenTasks, names: list[str], only: str) -> tuple[str, ...]:
    """Who keeps least of the own change, and who most."""
    kept = between.kept["both"]
    if only in between.tasks:
        own = between.tasks.index(only)
        return (f" {names[own]} keeps {100 * kept[own]:.0f} % of its own change.",) if np.isfinite(kept[own]) else ()
    if np.isfinite(kept).sum() < 2:
        return ()
    least, most = int(np.nanargmin(kept)), int(np.nanargmax(kept))
    return (
        f" {names[least]} pays most: it keeps {100 * kept[least]:.0f} % of its own change; "
        f"{names[most]} keeps most, {100 * kept[most]:.0f} %.",
    )
