"""Tables: the same numbers as a figure, for people who read them or hear them."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from neuromerge.exploration.results import AccuracyBoard, LayerDetail, OwnBoard

NOT_APPLICABLE = "–"
BEING_MEASURED = "being measured"
MAX_LISTED = 12
"""Classes that a sentence lists."""


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table; the first cell of each row is its header. Everything is escaped."""
    columns = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr><th scope='row'>{html.escape(first)}</th>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f"<div class='nm-scroll' tabindex='0'><table class='nm-table'><caption>{html.escape(caption)}</caption>"
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def accuracy_table(board: AccuracyBoard, titles: dict[str, str], retention: Mapping[str, float]) -> str:
    """Every accuracy with its interval and number of images, and what each task keeps of its change where known."""
    models = [("Base", "base", board.base), ("Expert", "expert", board.expert), ("This merge", "merge", board.merge)]
    if board.pinned is not None:
        models.append((board.pinned_label or "Pinned", "pinned", board.pinned))
    rows = []
    for task in board.tasks:
        cells = [titles.get(task, task), "yes" if task in board.merged else "no"]
        if retention:
            cells.append(f"{100 * retention[task]:.0f} %" if task in retention else NOT_APPLICABLE)
        for _, model, scores in models:
            score = scores.get(task)
            missing = BEING_MEASURED if task in board.awaited.get(model, ()) else NOT_APPLICABLE
            cells.append(
                f"{100 * score.value:.1f} % ({100 * score.low:.1f} to {100 * score.high:.1f}), n = {score.n}"
                if score and score.n
                else missing
            )
        rows.append(cells)
    shown = table(
        f"Accuracy with its 95 % interval and number of images, {board.split} split",
        ["Task", "Merged", *(["Keeps of what it learned"] if retention else []), *(name for name, *_ in models)],
        rows,
    )
    return shown + (f"<p class='nm-hint'>{html.escape(retention_sentence(retention))}</p>" if retention else "")


def own_table(board: OwnBoard, merge: str) -> str:
    """How base, experts and merge do on a visitor's own pictures; `merge` describes the merge."""
    rows = [
        [
            model,
            f"{100 * score.value:.1f} %",
            f"{100 * score.low:.1f} to {100 * score.high:.1f} %",
            f"{score.correct:,} of {score.n:,}",
        ]
        for model, score in board.scores.items()
    ]
    count = sum(board.pictures.values())
    shown = ", ".join(f"{name} {number}" for name, number in list(board.pictures.items())[:MAX_LISTED])
    more = f" and {len(board.pictures) - MAX_LISTED} more" if len(board.pictures) > MAX_LISTED else ""
    return (
        table(
            f"{board.name}: accuracy on {count:,} picture{'s' if count != 1 else ''}. This merge is {merge}",
            ["Model", "Right", "95 % interval", "Pictures named rightly"],
            rows,
        )
        + f"<p class='nm-hint'>{len(board.pictures)} classes, from the names of the folders, and their pictures: "
        f"{html.escape(shown + more)}.</p>"
    )


def mean_retention(retention: Mapping[str, float]) -> int:
    """The mean over tasks in percent, as it is shown; above 100 the sum of the tasks runs away."""
    return round(100 * sum(retention.values()) / len(retention))


def retention_sentence(retention: Mapping[str, float]) -> str:
    """What the shares that tasks keep mean, for at least one task."""
    mean = mean_retention(retention)
    sentence = (
        f"On average a task keeps {mean} % of what it learned: that is how far the merge goes along the task's own "
        "change, where its expert goes 100 %."
    )
    if mean <= 100:
        return sentence
    return f"{sentence} Above 100 % the tasks' changes add up and the merge runs past its experts: no gain."


def number(value: float) -> str:
    """A value for a table cell; NaN is "not applicable"."""
    return NOT_APPLICABLE if not np.isfinite(value) else f"{value:.3g}"


def neuron_table(detail: LayerDetail) -> str:
    """The most contested neurons of a layer."""
    rows = [
        [
            f"neuron {neuron.index}",
            number(neuron.margin),
            number(neuron.mean_alpha),
            number(neuron.tau_norm),
            "yes" if neuron.ill_conditioned else "no",
        ]
        for neuron in detail.contested
    ]
    head = ["Neuron", "Election margin", "Mean alpha", "Change / base weights", "Close call"]
    return table(f"Most contested neurons of {detail.layer}, {detail.matrix}", head, rows)
