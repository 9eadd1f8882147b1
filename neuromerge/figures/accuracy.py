"""Accuracy per task: base, expert, this merge and a pinned merge, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuromerge.exploration.results import Accuracy, AccuracyBoard
from neuromerge.figures.figure import NARROW_BELOW, Figure
from neuromerge.figures.text import coloured, note, plain, wrapped
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace

BARS = 0.82
"""Share of a task's place that its bars take together."""

GAP = 0.55
"""Empty place between the average, the merged tasks and the others, in places."""

SPLITS = {"quick": "quick validation subset", "validation": "validation split", "test": "test split"}


def mean_accuracy(accuracies: Sequence[Accuracy]) -> tuple[float, float]:
    """Mean over tasks and the half-width of its 95 % interval, both as shares; NaN for no tasks.

    The tasks' samples are independent, so the half-widths of their intervals add as squares.
    """
    if not accuracies:
        return math.nan, math.nan
    mean = sum(a.value for a in accuracies) / len(accuracies)
    half = math.sqrt(sum(((a.high - a.low) / 2) ** 2 for a in accuracies)) / len(accuracies)
    return mean, half


def averages(board: AccuracyBoard) -> dict[str, tuple[float, float]]:
    """`mean_accuracy` over the merged tasks for ``base``, ``expert``, ``merge``, ``pinned`` and ``previous``.

    A model that lacks one of the merged tasks has no average and is left out. Where the merge has seen some pictures
    alone, its average is that of a known merge and the difference between the two on these: most of what tells some
    pictures from all is in both and falls out.
    """
    tasks = board.measured
    tables = {name: getattr(board, name) for name in ("base", "expert", "merge", "pinned", "previous")}
    found = {
        name: mean_accuracy([table[task] for task in tasks])
        for name, table in tables.items()
        if table and tasks and all(task in table and table[task].n for task in tasks)
    }
    if board.paired and "merge" in found:
        whole, part = (mean_accuracy([table[task] for task in tasks])[0] for table in board.paired)
        seen, half = found["merge"]
        found["merge"] = min(1.0, max(0.0, whole + seen - part)), half
    return found


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed: ``+1.4``, ``−0.3``, ``±0.0``."""
    rounded = round(100 * difference, 1)
    return "±0.0" if rounded == 0 else f"{'+' if rounded > 0 else '−'}{abs(rounded):.1f}"


@dataclass(frozen=True)
class _Place:
    """One group of bars: the average (task "") or a task, at `at` along the axis."""

    task: str
    name: str
    at: float
    index: int  # into board.tasks; -1 for the average


@dataclass(frozen=True)
class _Bar:
    """One bar in percent, with its interval and what the hover says of its samples."""

    value: float
    low: float
    high: float
    samples: str


def _places(board: AccuracyBoard, titles: Mapping[str, str]) -> tuple[list[_Place], list[_Place]]:
    """Places of the average and the merged tasks, and of the tasks that are not merged."""
    merged: list[_Place] = []
    others: list[_Place] = []
    at = 0.0
    if board.merged:
        merged.append(_Place("", "average", at, -1))
        at += 1 + GAP
    for chosen, places in ((True, merged), (False, others)):
        for index, task in enumerate(board.tasks):
            if (task in board.merged) == chosen:
                places.append(_Place(task, titles.get(task, task), at, index))
                at += 1
        at += GAP
    return merged, others


def _bars(
    table: Mapping[str, Accuracy], mean: tuple[float, float] | None, places: list[_Place], merged: int
) -> list[_Bar | None]:
    """The bars of one model, None where it has no figure; `merged` tasks stand behind its average."""
    bars: list[_Bar | None] = []
    for place in places:
        accuracy = table.get(place.task)
        if place.index < 0 and mean is not None:
            centre, half = mean
            samples = f"mean of the {merged} merged tasks"
            bars.append(_Bar(100 * centre, 100 * (centre - half), 100 * (centre + half), samples))
        elif accuracy is not None and accuracy.n:
            samples = f"{accuracy.correct} of {accuracy.n} images"
            bars.append(_Bar(100 * accuracy.value, 100 * accuracy.low, 100 * accuracy.high, samples))
        else:
            bars.append(None)
    return bars


def _bar_trace(
    key: str, label: str, bars: list[_Bar | None], places: list[_Place], offset: float, width: float
) -> Trace:
    """One model's bars, standing."""
    hollow = key == "expert"
    return {
        "type": "bar",
        "name": label,
        "x": [place.at for place in places],
        "y": [bar and round(bar.value, 2) for bar in bars],
        "offset": round(offset, 4),
        "width": round(width * 0.9, 4),
        "marker": {
            "color": token("raised") if hollow else token(key),
            "line": {"color": token("expert"), "width": 1.2 if hollow else 0},
            "cornerradius": 2,
        },
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [round(bar.high - bar.value, 2) if bar else 0 for bar in bars],
            "arrayminus": [round(bar.value - bar.low, 2) if bar else 0 for bar in bars],
            "thickness": 1,
            "width": 0,
            "color": token("muted"),
        },
        "hovertext": [plain(place.name) for place in places],
        "customdata": [
            [round(bar.low, 1), round(bar.high, 1), bar.samples] if bar else [None, None, ""] for bar in bars
        ],
        "hovertemplate": (
            f"<b>%{{hovertext}}</b>: {label}<br>%{{y:.1f}} %, %{{customdata[2]}}"
            "<br>95 % interval %{customdata[0]:.1f} to %{customdata[1]:.1f} %<extra></extra>"
        ),
        "meta": {"source": "task", "index": [place.index for place in places]},
    }


def _lying(trace: Trace) -> Trace:
    """What turns a standing trace into a lying one."""
    change = {"x": trace["y"], "y": trace["x"]}
    if trace["type"] == "bar":
        template = trace["hovertemplate"].replace("%{y", "%{x")
        change |= {"orientation": "h", "error_y": None, "error_x": trace["error_y"], "hovertemplate": template}
    return change


def _previous_marks(before: list[_Bar | None], places: list[_Place], centre: float) -> tuple[Trace, Trace]:
    """Ticks across the merge's bars where they stood before the last change; standing trace and lying change."""
    shown = [(bar, place) for bar, place in zip(before, places, strict=True) if bar]
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": "the setting before",
        "x": [round(place.at + centre, 4) for _, place in shown],
        "y": [round(bar.value, 2) for bar, _ in shown],
        "marker": {"symbol": "line-ew", "size": 15, "line": {"width": 2, "color": token("ink")}},
        "hovertext": [plain(place.name) for _, place in shown],
        "hovertemplate": "<b>%{hovertext}</b>: the setting before<br>%{y:.1f} %<extra></extra>",
    }
    lying = {
        **_lying(trace),
        "marker": {"symbol": "line-ns", "size": 11},
        "hovertemplate": trace["hovertemplate"].replace("%{y", "%{x"),
    }
    return trace, lying


def _headline(
    mean: Mapping[str, tuple[float, float]], pinned: str, awaited: Mapping[str, Sequence[str]]
) -> tuple[str, list[str]]:
    """The averages in words: the merge's, its difference in points from every other model, and what is `awaited`."""
    if "merge" not in mean:
        return "Nothing is merged yet.", []
    value, half = mean["merge"]
    names = {"previous": "before", "base": "the base", "expert": "the experts", "pinned": pinned}
    parts = [f"{points(value - mean[key][0])} to {name}" for key, name in names.items() if key in mean]
    more = len(awaited.get("merge", ()))
    names["merge"] = f"{more} more task{'s' if more != 1 else ''}"
    if coming := [name for key, name in names.items() if key in awaited]:
        parts.append(f"still being measured: {', '.join(coming)}")
    return f"{100 * value:.1f} % ± {100 * half:.1f}", parts


def _numbers_of(bar: _Bar | None, before: _Bar | None) -> tuple[str, str]:
    """The merge's accuracy and its change since the last setting, as the places name them."""
    if bar is None:
        return "", ""
    change = (bar.value - before.value) / 100 if before else 0.0
    return coloured(f"<b>{bar.value:.0f}</b>", "merge"), points(change) if change else ""


def _legend(series: list[_Series], previous: bool) -> list[str]:
    """The legend as coloured text: Plotly's own takes more room and wraps badly on narrow screens."""
    entries = [f"{coloured('□' if key == 'expert' else '■', key)} {label}" for key, label, _ in series]
    return [*entries, f"{coloured('━', 'ink')} before"] if previous else entries


def accuracy_bars(board: AccuracyBoard, titles: Mapping[str, str] | None = None) -> Figure:
    """Grouped bars per task with 95 % intervals: the average, the merged tasks, then the others apart.

    A tick across the merge's bar is where it stood before the last change. On narrow screens the bars lie.
    Clicks answer as ``task`` with the index into ``board.tasks``.

    Args:
        board: the accuracies (shares).
        titles: names to show instead of the tasks' keys.
    """
    merged, others = _places(board, titles or {})
    places = merged + others
    mean = averages(board)
    series = _series(board)
    merged_tasks = len(board.measured)
    bars = {key: _bars(table, mean.get(key), places, merged_tasks) for key, _, table in series}
    before = _bars(board.previous or {}, mean.get("previous"), places, merged_tasks)
    data, changes = _traces(series, bars, before, places)
    value, differences = _headline(mean, plain(board.pinned_label or "pinned", 22), board.awaited)
    labels = [_numbers_of(*pair) for pair in zip(bars["merge"], before, strict=True)]
    words = _Words(value, differences, _legend(series, any(before)), _foot(board), labels)
    layout, narrow = _layouts(merged, others, words, len(series))
    average = f"The merge reaches {value} on average over its tasks" if differences else value
    return Figure(
        data=data,
        layout={**layout, "uirevision": "accuracy " + " ".join(place.task for place in places)},
        description=(
            f"Accuracy per task under base, expert and this merge. {average}: {', '.join(differences)}; "
            f"{'; '.join(words.foot)}."
        ),
        narrow_data=changes,
        narrow_layout=narrow,
        narrow_below=max(NARROW_BELOW, 60 + 62 * len(places)),
        columns={
            "x": "",
            "label": "task",
            "y": "accuracy (%)",
            "error above": "to upper bound",
            "error below": "to lower bound",
        },
        name="accuracy",
    )


_Series = tuple[str, str, Mapping[str, Accuracy]]
"""A model's token, its name, and its accuracies by task."""


def _series(board: AccuracyBoard) -> list[_Series]:
    """The models, in the order of their bars."""
    series: list[_Series] = [
        ("base", "base", board.base),
        ("expert", "expert", board.expert),
        ("merge", "this merge", board.merge),
    ]
    if board.pinned is not None:
        series.append(("pinned", plain(board.pinned_label or "pinned", 22), board.pinned))
    return series


def _traces(
    series: list[_Series], bars: Mapping[str, list[_Bar | None]], before: list[_Bar | None], places: list[_Place]
) -> tuple[list[Trace], list[Trace]]:
    """Standing bars and the marks of the setting before, and for each the changes that make it lie."""
    width = BARS / len(series)
    data = [
        _bar_trace(key, label, bars[key], places, rank * width - BARS / 2, width)
        for rank, (key, label, _) in enumerate(series)
    ]
    changes = [_lying(trace) for trace in data]
    if any(before):
        third = 2.45 * width - BARS / 2  # the middle of the merge's bar
        trace, lying = _previous_marks(before, places, third)
        data.append(trace)
        changes.append(lying)
    return data, changes


def _foot(board: AccuracyBoard) -> list[str]:
    """Which pictures were counted, and what the thin lines are."""
    counts = sorted({accuracy.n for accuracy in board.merge.values() if accuracy.n})
    spread = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}" if counts else "no"
    return [f"{SPLITS.get(board.split, board.split)}, n = {spread} images a task", "lines: 95 % intervals"]


@dataclass(frozen=True)
class _Words:
    """All that is written around the bars."""

    value: str
    differences: list[str]
    legend: list[str]
    foot: list[str]
    labels: list[tuple[str, str]]  # per place: the merge's figure, its change


def _layouts(merged: list[_Place], others: list[_Place], words: _Words, series: int) -> tuple[Layout, Layout]:
    """The layout with standing bars, and the changes that make them lie."""
    places = merged + others
    end = places[-1].at + 0.5 if places else 0.5
    names = [f"<b>{place.name}</b>" if place.index < 0 else wrapped(place.name, 12) for place in places]
    under = [
        value + (f" <span style='font-size:10px'>{change}</span>" if change else "") + f"<br>{name}"
        for name, (value, change) in zip(names, words.labels, strict=True)
    ]
    tall = 15 * max((text.count("<br>") for text in under), default=1)
    percent = {
        "range": [0, 103],
        "tickvals": [0, 25, 50, 75, 100],
        "ticksuffix": " %",
        "zeroline": True,
        "fixedrange": True,
    }
    task = {
        "tickvals": [place.at for place in places],
        "ticktext": under,
        "showgrid": False,
        "zeroline": False,
        "tickangle": 0,
        "tickfont": {"size": 12, "color": token("ink")},
    }
    shapes, lying_shapes, notes, lying_notes = _grounds(merged, others, end)

    small = {"size": SMALL, "color": token("muted")}
    big = {"size": 15, "color": token("ink")}
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    below = {"xanchor": "left", "yanchor": "top", "align": "left", "font": small}
    what = " on average over the merged tasks" if words.differences else ""
    under_it = "<br>" + coloured("  ·  ".join(words.differences), "muted", size=12) if words.differences else ""
    notes.append(note(f"<b>{words.value}</b>{what}{under_it}", 0, 1, yshift=34, font=big, **above))
    notes.append(note("     ".join(words.legend), 0, 1, yshift=10, **above))
    notes.append(note("  ·  ".join(words.foot), 0, 0, yshift=-28 - tall, **below))
    lines = [f"<b>{words.value}</b> on average", *words.differences] if what else [words.value]
    small_lines = [
        lines[0],
        *(coloured(line, "muted", size=12) for line in lines[1:]),
    ]
    pairs = ["    ".join(words.legend[i : i + 3]) for i in range(0, len(words.legend), 3)]
    left = {"xshift": -74}
    lying_notes.append(note("<br>".join(small_lines), 0, 1, yshift=48, font=big, **above, **left))
    lying_notes.append(note("<br>".join(pairs), 0, 1, yshift=8, font={**small, "size": 12}, **above, **left))
    lying_notes.append(note("<br>".join(words.foot), 0, 0, yshift=-26, **below, **left))
    lying_notes += [
        {
            "x": 1,
            "xref": "paper",
            "xanchor": "left",
            "xshift": 6,
            "y": place.at,
            "text": value + (f"<br><span style='font-size:10px'>{change}</span>" if change else ""),
            "showarrow": False,
            "align": "left",
            "font": {"size": 12},
        }
        for place, (value, change) in zip(places, words.labels, strict=True)
    ]

    layout = {
        "height": 360 + tall,
        "margin": {"l": 44, "r": 8, "t": 92, "b": 52 + tall},
        "barmode": "overlay",
        "xaxis": {**task, "range": [-0.5, end]},
        "yaxis": percent,
        "shapes": shapes,
        "annotations": notes,
    }
    head = 80 + 19 * (len(lines) - 1)
    lying = {
        "height": head + 64 + len(places) * (9 * series + 12),
        "margin": {"l": 78, "r": 40, "t": head, "b": 64},
        "xaxis": {
            **percent,
            "ticktext": None,
            "ticksuffix": "",
            "showgrid": True,
            "tickfont": small,
        },
        "yaxis": {**task, "ticktext": names, "range": [end, -0.5], "ticksuffix": "", "fixedrange": True},
        "shapes": lying_shapes,
        "annotations": lying_notes,
    }
    return layout, lying


def _grounds(merged: list[_Place], others: list[_Place], end: float) -> tuple[list[dict[str, Any]], ...]:
    """What lies behind the bars: tasks that were not merged stand on their own ground, a dotted line sets the
    average apart. Shapes and captions for standing bars, then (at 1 and 3) for lying ones."""
    band = {"type": "rect", "layer": "below", "fillcolor": token("raised"), "line": {"width": 0}}
    rule = {"type": "line", "line": {"color": token("axis"), "width": 1, "dash": "dot"}}
    caption = {
        "text": "not merged: tasks this merge never saw",
        "showarrow": False,
        "font": {"size": SMALL, "color": token("muted")},
        "yanchor": "bottom",
    }
    shapes, lying_shapes, notes, lying_notes = [], [], [], []
    if len(merged) > 1:
        middle = (merged[0].at + merged[1].at) / 2
        shapes.append({**rule, "x0": middle, "x1": middle, "y0": 0, "y1": 1, "yref": "paper"})
        lying_shapes.append({**rule, "y0": middle, "y1": middle, "x0": 0, "x1": 1, "xref": "paper"})
    if others and merged:
        start = others[0].at - 0.5 - GAP / 3
        shapes.append({**band, "x0": start, "x1": end, "y0": 0, "y1": 1, "yref": "paper"})
        lying_shapes.append({**band, "y0": start - 0.15, "y1": end, "x0": 0, "x1": 1, "xref": "paper"})
        notes.append({**caption, "x": end, "xanchor": "right", "y": 1, "yref": "paper", "yshift": 2})
        lying_notes.append({**caption, "x": 1, "xref": "paper", "xanchor": "right", "y": start + 0.12})
    return shapes, lying_shapes, notes, lying_notes
