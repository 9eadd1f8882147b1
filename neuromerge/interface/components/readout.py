"""The strip of numbers above the tabs: what the merge on screen scores, always in sight."""

from __future__ import annotations

import html
from collections.abc import Mapping

from neuromerge.exploration.results import AccuracyBoard, MergeSummary
from neuromerge.figures.accuracy import averages, mean_accuracy, points
from neuromerge.interface.components.tables import mean_retention, retention_sentence
from neuromerge.settings.choices import describe
from neuromerge.settings.setting import Setting

STALE_RULES = """
body[data-readout="empty"] #tabs :is(.nm-view, .nm-table, .nm-cards, .nm-caption, .nm-codes) {
  opacity: 0.4; filter: grayscale(1);
}
"""
"""CSS: where there is no merge to show, what is left of another one is grey."""

MARK_READOUT = """
(strip) => {
  const missing = /data-missing=.(weights|scores)/.exec(strip)?.[1];
  document.body.dataset.readout = missing ? `no-${missing}` : strip?.includes('nm-readout-empty') ? 'empty' : '';
}
"""
"""What the strip says, as a mark on the page's body for `STALE_RULES` and `FETCHING_RULES`.

Rules with `body:has(...)` would need no mark, but then the browser looks through the styles of the whole page again at
every line that a figure draws: a tenth of a second for each moved slider.
"""

SPLIT_NAMES = {"quick": "Quick look", "validation": "Validation", "test": "Final test"}
SPLIT_HINTS = {
    "quick": "A fixed, class-balanced part of the validation images. After a move, some of them tell at once how the "
    "score has changed; the whole split follows when you stop.",
    "validation": "All validation images of every task.",
    "test": "The test images. Look at them once, when the setting is chosen.",
}


def readout(setting: Setting, board: AccuracyBoard, summary: MergeSummary, wait: str = "") -> str:
    """HTML of the strip for one merge; `wait` says why better numbers will not follow at once.

    Everything that came from a visitor is escaped.
    """
    unseen = [task for task in board.tasks if task not in board.merged]
    mean = {name: centre for name, (centre, _) in averages(board).items()}
    images = f"{board.looked_at:,} images"
    if board.is_growing:
        counted = f"{board.looked_at:,} of {board.pictures:,} images"
        if board.looked_at == board.pictures:
            counted = images if board.awaited else f"{images}, those of base and experts follow"
        elif not board.paired:
            counted += " so far"
        # A glance passes in a moment: a second line would make the page below jump twice.
        images = counted if board.paired else f"{counted}, ± {100 * averages(board)['merge'][1]:.1f} points"
    numbers = [
        _number("Base", mean.get("base"), "base", _measuring(board, "base") or "before any fine-tuning"),
        _number("Experts", mean.get("expert"), "expert", _measuring(board, "expert") or "each on its own task"),
    ]
    if board.pinned is not None:
        label = board.pinned_label or "Pinned"
        hint = _measuring(board, "pinned") or "another merge, to compare"
        numbers.append(_number(label, mean.get("pinned"), "pinned", hint))
    if unseen:
        scores = [board.merge[task] for task in unseen if task in board.merge and board.merge[task].n]
        hint = "this merge on the others"
        numbers.append(_number("Tasks not merged", mean_accuracy(scores)[0] if scores else None, "merge", hint))
    if summary.retention:
        numbers.append(_kept(summary.retention))
    merged = len(board.measured)
    coming = sum(task in board.merged for task in board.awaited.get("merge", ()))
    tasks = f"{merged} of {merged + coming} tasks" if coming else f"{merged} task{'s' if merged != 1 else ''}"
    return (
        "<section class='nm-readout' aria-label='Accuracy of the merge on screen'>"
        "<div class='nm-score'>"
        f"<span class='nm-score-label'>This merge <small>{html.escape(describe(setting))}</small></span>"
        f"<span class='nm-score-line'><span class='nm-score-value'>{_percent(mean.get('merge'))}</span>"
        f"{_change(mean)}</span>"
        f"<span class='nm-score-split' data-split='{board.split}' title='{html.escape(SPLIT_HINTS[board.split])}'>"
        f"{SPLIT_NAMES[board.split]}: mean of {tasks}, {images}"
        f"{f' · {html.escape(wait)}' if wait else ''}</span>"
        "</div>"
        f"<dl class='nm-numbers'>{''.join(numbers)}</dl>"
        f"{_notes(summary, board)}"
        "</section>"
    )


def unreadable_notice(reasons: Mapping[str, str]) -> str:
    """Which model families cannot be offered, and why: above everything else, as long as it is so."""
    told = "".join(f"<p><strong>{html.escape(name)}</strong>: {html.escape(why)}</p>" for name, why in reasons.items())
    return f"<section class='nm-readout nm-readout-empty' role='alert'>{told}</section>"


def empty_readout(message: str) -> str:
    """The strip when there is nothing to show: says why and what to do."""
    return (
        "<section class='nm-readout nm-readout-empty' aria-label='Accuracy of the merge on screen'>"
        f"<p>{html.escape(message)}</p></section>"
    )


def loading_readout(what: str = "This merge") -> str:
    """The strip until a merge is there; `what` is being waited for."""
    return (
        "<section class='nm-readout nm-loading' aria-busy='true' aria-label='Accuracy of the merge on screen'>"
        f"<div class='nm-score'><span class='nm-score-label'>{html.escape(what)}</span>"
        "<span class='nm-skeleton nm-skeleton-value'></span><span class='nm-skeleton'></span></div>"
        "<dl class='nm-numbers'><div><dt><span class='nm-skeleton'></span></dt></div></dl></section>"
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}<small> %</small>"


def _number(label: str, share: float | None, token: str, hint: str) -> str:
    return (
        f"<div><dt title='{html.escape(label)}'><i class='nm-dot' style='background:var(--nm-{token})'></i>"
        f"{html.escape(label)}</dt><dd>{_percent(share)}</dd><dd class='nm-what'>{html.escape(hint)}</dd></div>"
    )


def _measuring(board: AccuracyBoard, model: str) -> str:
    """How far the measurement of base, experts or pinned merge is; empty where it is over."""
    if not (coming := board.awaited.get(model)):
        return ""
    known = len(getattr(board, model))
    return "being measured" + (f": {known} of {known + len(coming)} tasks" if known else "")


def _kept(retention: Mapping[str, float]) -> str:
    """What tasks keep of what they learned, on average, with its meaning; marked where the sum runs away."""
    mean, hint = mean_retention(retention), html.escape(retention_sentence(retention))
    meaning = "past the experts: no gain" if mean > 100 else "of what the tasks learned"
    return f"<div title='{hint}'><dt>Kept</dt><dd>{mean}<small> %</small></dd><dd class='nm-what'>{meaning}</dd></div>"


def _change(mean: Mapping[str, float]) -> str:
    """The difference from the setting before, in points."""
    if "merge" not in mean or "previous" not in mean:
        return ""
    difference = points(mean["merge"] - mean["previous"])
    kind = {"±": "same", "+": "good", "−": "bad"}[difference[0]]
    arrow = {"same": "", "good": "▲ ", "bad": "▼ "}[kind]
    hint = "Against the setting before this one"
    return f"<span class='nm-change nm-{kind}' title='{hint}'>{arrow}{difference} points</span>"


def _notes(summary: MergeSummary, board: AccuracyBoard) -> str:
    """Warnings of the merge, and what could not be measured, in lines of their own."""
    notes = [*summary.warnings]
    if board.unmeasured:
        why = next(iter(board.unmeasured.values()))
        notes.append(f"Not measured: {', '.join(board.unmeasured)}. {why}")
    notes += board.remarks
    if not notes:
        return ""
    return "<ul class='nm-notes'>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>"
