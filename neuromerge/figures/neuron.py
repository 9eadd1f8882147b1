"""One neuron drawn from its real numbers: what the tasks want, what the vote decides, what that does to its answers.

Task vectors are a few percent of the weights they change. Drawn to scale they vanish at the tip of the base
vector, so each picture is an enlargement around it, and a small inset shows the same thing at true scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuromerge.exploration.results import NeuronDetail
from neuromerge.figures.figure import Figure, Trace, nice_ceiling, note, number, numbers, plain
from neuromerge.figures.theme import SMALL, TASK_COLOURS, task_colour, task_symbol, token

_LEGS = "parallel %{x:+.2f} %, orthogonal %{y:+.2f} %<extra></extra>"


def outside_plane(detail: NeuronDetail, direction: int) -> np.ndarray:
    """Share (T,) of each task vector's squared length outside the plane of w_0 and v_direction; NaN for tau = 0."""
    along = detail.scores[:, direction] ** 2 if detail.scores.shape[1] else 0.0
    inside = (detail.c * detail.base_norm) ** 2 + along
    whole = detail.tau_norm**2
    share = 1 - np.divide(inside, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return np.clip(share, 0, 1)


def merged_change(detail: NeuronDetail) -> tuple[float, np.ndarray]:
    """The merge's step in the neuron's own coordinates: (along w_0 in units of |w_0|, along each v_r (R,)).

    The orthogonal part is lambda_2 sum_t alpha_t times the task's scores.
    """
    return detail.lambda_parallel * detail.c_merged, detail.lambda_orthogonal * (detail.alpha @ detail.scores)


def _arrow(x: float, y: float, colour: str, width: float, head: float = 1.0) -> dict[str, Any]:
    """An arrow from the origin of the main axes to (x, y)."""
    return {
        "x": x,
        "y": y,
        "ax": 0,
        "ay": 0,
        "xref": "x",
        "yref": "y",
        "axref": "x",
        "ayref": "y",
        "text": "",
        "showarrow": True,
        "arrowhead": 2,
        "arrowsize": head,
        "arrowwidth": width,
        "arrowcolor": colour,
    }


def _signed(value: float, digits: int = 2) -> str:
    """A number with its sign, with a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def _span(values: Sequence[float]) -> list[float]:
    """A range that holds `values` with room for heads and labels."""
    low, high = min(values), max(values)
    room = 0.16 * (high - low or 1.0)
    return [float(f"{low - room:.4g}"), float(f"{high + room:.4g}")]


def _labels(
    names: list[str],
    x: np.ndarray,
    y: np.ndarray,
    merged: tuple[float, float],
    ranges: tuple[list[float], list[float]],
) -> list[dict[str, Any]]:
    """Names at the arrows' tips, as long as they do not lie on one another (the list beside has all of them)."""
    wide, high = (0.16 * (r[1] - r[0]) for r in ranges)
    placed: list[tuple[float, float]] = []
    notes = []
    tips = [(float(x[i]), float(y[i]), names[i], task_colour(i)) for i in np.argsort(-(x**2 + y**2)).tolist()]
    for *at, name, colour in [(*merged, "<b>merge</b>", token("merge")), *tips]:
        crowded = any(abs(at[0] - px) < wide and abs(at[1] - py) < high / 2.4 for px, py in placed)
        if crowded or (abs(at[0]) < wide / 4 and abs(at[1]) < high / 4):
            continue
        placed.append((at[0], at[1]))
        side = {"xanchor": "left", "xshift": 7} if at[0] >= 0 else {"xanchor": "right", "xshift": -7}
        up = {"yanchor": "bottom"} if at[1] >= 0 else {"yanchor": "top"}
        font = {"size": SMALL + 1, "color": colour}
        notes.append(
            {"text": name, "x": number(at[0]), "y": number(at[1]), "showarrow": False, "font": font, **side, **up}
        )
    return notes


def _base_arrow() -> list[dict[str, Any]]:
    """The base vector in the inset, at true scale."""
    arrow = _arrow(100, 0, token("base"), 2.5)
    for key in ("xref", "axref"):
        arrow[key] = "x2"
    for key in ("yref", "ayref"):
        arrow[key] = "y2"
    label = {"text": "w₀", "x": 45, "y": 0, "xref": "x2", "yref": "y2", "showarrow": False, "yanchor": "bottom"}
    return [arrow, {**label, "font": {"size": 12, "color": token("ink")}}]


def _box(ranges: tuple[list[float], list[float]]) -> dict[str, Any]:
    """The main picture's frame in the inset."""
    (left, right), (bottom, top) = ranges
    corners = {"x0": 100 + left, "x1": 100 + right, "y0": bottom, "y1": top}
    return {"type": "rect", "xref": "x2", "yref": "y2", **corners, "line": {"color": token("merge"), "width": 1.2}}


def neuron_plane(detail: NeuronDetail, direction: int = 0, titles: Mapping[str, str] | None = None) -> Figure:
    """The plane of the base vector (to the right) and one singular direction (up), around the tip of the base vector.

    Every expert's task vector is an arrow with its parallel leg (along w_0: how strongly the neuron answers) and its
    orthogonal leg (along v: what else it answers to); a cross marks what the vote elects; the thick arrow is the
    merge. The inset has the true scale. Beside it: which share of each task vector this plane cannot show.

    Args:
        detail: the neuron.
        direction: index of the singular direction drawn upwards; out of range falls back to the strongest.
        titles: names to show instead of the tasks' keys.
    """
    rank = detail.scores.shape[1]
    direction = direction if 0 <= direction < rank else 0
    names = [plain((titles or {}).get(task, task), 16) for task in detail.tasks]
    norm = detail.base_norm
    # In percent of |w_0|; a neuron with no base weights is measured against its longest task vector.
    unit = (norm or float(detail.tau_norm.max(initial=0.0)) or 1.0) / 100
    x = 100 * detail.c if norm else np.zeros(len(names))
    y = detail.scores[:, direction] / unit if rank else np.zeros(len(names))
    step, rise = merged_change(detail)
    merged = (100 * step if norm else 0.0, rise[direction] / unit if rank else 0.0)
    elected = (
        100 * detail.c_merged if norm else 0.0,
        detail.elected[direction] * detail.singular[direction] / unit if rank else 0.0,
    )
    outside = outside_plane(detail, direction)

    arrows = []
    legs: dict[str, tuple[list[Any], list[Any]]] = {"parallel": ([], []), "orthogonal": ([], [])}
    for i in range(len(names)):
        arrows.append(_arrow(number(x[i]), number(y[i]), task_colour(i), 1.8))  # type: ignore[arg-type]
        across, up = number(x[i]), number(y[i])
        legs["parallel"][0].extend([0, across, None])
        legs["parallel"][1].extend([0, 0, None])
        legs["orthogonal"][0].extend([across, across, None])
        legs["orthogonal"][1].extend([0, up, None])
    arrows.append(_arrow(number(merged[0]), number(merged[1]), token("merge"), 3.5, 0.8))  # type: ignore[arg-type]

    ranges = (_span([*x, merged[0], elected[0], 0.0]), _span([*y, merged[1], elected[1], 0.0]))
    hover = [
        f"<b>{name}</b><br>parallel {_signed(a)} % of |w₀|<br>orthogonal, along this direction {_signed(b)} %"
        + (f"<br>outside this plane: {100 * o:.0f} % of its squared length" if math.isfinite(o) else "<br>not moved")
        for name, a, b, o in zip(names, x, y, outside, strict=True)
    ]
    data: list[Trace] = [
        *(
            {
                "type": "scatter",
                "mode": "lines",
                "x": leg_x,
                "y": leg_y,
                "line": {"color": token(name), "width": 1.2, "dash": "dot"},
                "opacity": 0.6,
                "hoverinfo": "skip",
                "meta": {"csv": False},
            }
            for name, (leg_x, leg_y) in legs.items()
        ),
        {
            "type": "scatter",
            "mode": "markers",
            "name": "task vectors",
            "x": numbers(x),
            "y": numbers(y),
            "marker": {
                "size": 9,
                "color": [task_colour(i) for i in range(len(names))],
                "symbol": [task_symbol(i) for i in range(len(names))],
            },
            "text": hover,
            "hovertext": names,
            "hovertemplate": "%{text}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "elected by the vote",
            "x": [number(elected[0])],
            "y": [number(elected[1])],
            "marker": {"symbol": "x-thin", "size": 11, "line": {"width": 2, "color": token("ink")}},
            "hovertext": ["elected"],
            "hovertemplate": "<b>elected by the vote</b> (both λ = 1)<br>" + _LEGS,
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "merge",
            "x": [number(merged[0])],
            "y": [number(merged[1])],
            "marker": {"size": 11, "color": token("merge")},
            "hovertext": ["merge"],
            "hovertemplate": "<b>merge</b><br>" + _LEGS,
        },
    ]
    along = f"along v<sub>{direction + 1}</sub>" if rank else "no orthogonal direction"
    energy = detail.singular[direction] ** 2 / max(float((detail.singular**2).sum()), 1e-300) if rank else 0.0
    shares = [
        f"<span style='color:{task_colour(i)}'>●</span> {name}  {f'{100 * o:.0f} %' if math.isfinite(o) else '–'}"
        for i, (name, o) in enumerate(zip(names, outside, strict=True))
    ]
    key = [
        f"<span style='color:{token('merge')}'><b>➞ merge</b></span>",
        "✕ elected by the vote",
        f"legs: <span style='color:{token('parallel')}'>⋯ parallel</span>"
        f" and <span style='color:{token('orthogonal')}'>⋯ orthogonal</span>",
    ]
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    below = {"xanchor": "left", "yanchor": "top", "align": "left", "font": {"size": SMALL}}
    tip = {"text": "tip of w₀", "x": 0, "y": 0, "showarrow": False, "xanchor": "right", "yanchor": "top"}
    drawn = [
        *arrows,
        *_labels(names, x, y, merged, ranges),
        {**tip, "xshift": -4, "yshift": -3, "font": {"size": SMALL}},
        *_base_arrow(),
    ]
    list_title = "outside this plane:"
    notes = [
        *drawn,
        note("    ".join(key), 0, 1, yshift=8, **above),
        note("true scale: the box is the picture at the left", 0.76, 0.82, **below),
        note("<br>".join([list_title, *shares]), 0.76, 0.68, **below),
    ]
    pairs = ["     ".join(shares[i : i + 2]) for i in range(0, len(shares), 2)]
    narrow_notes = [
        *drawn,
        note("<br>".join(["    ".join(key[:2]), key[2]]), 0, 1, yshift=6, xshift=-46, **above),
        note("true scale: the box is the picture above", 0, 0.1, xshift=-46, **below),
        note("<br>".join([list_title, *pairs]), 0, 0, yshift=-8, xshift=-46, **below),
    ]
    main = {"zeroline": True, "ticksuffix": " %", "showgrid": True, "nticks": 7}
    bare = {"visible": False, "fixedrange": True}
    layout = {
        "height": 420,
        "margin": {"l": 62, "r": 8, "t": 36, "b": 48},
        "xaxis": {**main, "domain": [0, 0.72], "range": ranges[0], "title": {"text": "parallel: along w₀, % of |w₀|"}},
        "yaxis": {
            **main,
            "range": ranges[1],
            "scaleanchor": "x",
            "title": {"text": f"orthogonal: {along} ({100 * energy:.0f} % of the orthogonal energy)"},
        },
        "xaxis2": {**bare, "domain": [0.76, 1], "range": [-2, 112], "anchor": "y2"},
        "yaxis2": {**bare, "domain": [0.84, 1], "range": [-8, 8], "scaleanchor": "x2", "anchor": "x2"},
        "shapes": [_box(ranges)],
        "annotations": notes,
        "uirevision": f"plane {detail.layer} {detail.matrix} {detail.index} {direction}",
    }
    narrow = {
        "height": 560,
        "margin": {"l": 54, "r": 8, "t": 46, "b": 34 + 15 * len(pairs)},
        "xaxis": {"domain": [0, 1]},
        "yaxis": {"domain": [0.34, 1], "title": {"text": f"orthogonal: {along}"}},
        "xaxis2": {"domain": [0, 1]},
        "yaxis2": {"domain": [0.1, 0.22]},
        "annotations": narrow_notes,
    }
    moves = "; ".join(
        f"{name} parallel {_signed(a)} %, orthogonal {_signed(b)} %" for name, a, b in zip(names, x, y, strict=True)
    )
    description = (
        f"Neuron {detail.index} of {detail.layer}, {detail.matrix}, in the plane of its base vector and singular "
        f"direction {direction + 1}, in percent of the base vector's length. {moves}. The merge moves it "
        f"{_signed(merged[0])} % along the base and {_signed(merged[1])} % along the direction."
    )
    columns = {"x": "parallel (% of base)", "y": "orthogonal (% of base)", "label": "arrow"}
    return Figure(data, layout, description, [], narrow, columns, f"neuron-{detail.index}-plane")


def pre_activations(detail: NeuronDetail, direction: int = 0) -> Figure:
    """What the neuron answers to real inputs: its pre-activation before the merge against the change by the merge.

    The parallel part only changes the slope of the answer (sensitivity): all points would lie on the line. The
    orthogonal part moves points off it (adaptability); a thin stem shows by how much. Inputs are the base model's
    at this layer, held fixed; the bias is left out.

    Args:
        detail: the neuron; ``along_base`` (N,) and ``along_direction`` (N, R) are the inputs' coordinates.
        direction: the direction drawn in `neuron_plane`, whose own share stands in the hover.
    """
    key = f"answers {detail.layer} {detail.matrix} {detail.index}"
    if not len(detail.along_base):
        empty = [note("no sample images reach this layer", 0.5, 0.5, font={"size": 13})]
        return Figure(
            [],
            {"height": 300, "annotations": empty, "xaxis": {"visible": False}, "yaxis": {"visible": False}},
            "No inputs.",
        )
    step, rise = merged_change(detail)
    before = detail.along_base * detail.base_norm
    moved = detail.along_direction @ rise
    line = step * before
    change = line + moved
    shown = direction if 0 <= direction < len(rise) else 0
    own = detail.along_direction[:, shown] * rise[shown] if len(rise) else np.zeros_like(before)

    stems_x: list[Any] = []
    stems_y: list[Any] = []
    for at, low, high in zip(numbers(before), numbers(line), numbers(change), strict=True):
        stems_x += [at, at, None]
        stems_y += [low, high, None]
    spread = [float(before.min()), float(before.max())]
    room = 0.05 * (spread[1] - spread[0] or 1.0)
    ends = [spread[0] - room, spread[1] + room]
    data: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": stems_x,
            "y": stems_y,
            "line": {"color": token("orthogonal"), "width": 1},
            "opacity": 0.45,
            "hoverinfo": "skip",
            "meta": {"csv": False},
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "parallel part alone",
            "x": numbers(ends),
            "y": numbers([step * end for end in ends]),
            "line": {"color": token("parallel"), "width": 2.5},
            "hoverinfo": "skip",
            "meta": {"csv": False},
        },
    ]
    labels = detail.image_labels or ("",) * len(before)
    kinds = list(dict.fromkeys(labels))
    few = 1 < len(kinds) <= TASK_COLOURS
    groups = (
        [(i, kind, [k for k, label in enumerate(labels) if label == kind]) for i, kind in enumerate(kinds)]
        if few
        else [(0, "", list(range(len(before))))]
    )
    for i, kind, members in groups:
        at = np.array(members)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": plain(kind, 24) or "images",
                "x": numbers(before[at]),
                "y": numbers(change[at]),
                "marker": {
                    "size": 7,
                    "color": task_colour(i) if few else token("ink"),
                    "symbol": task_symbol(i),
                    "opacity": 0.9,
                },
                "customdata": [
                    [number(a, 3), number(b, 3), number(c, 3), number(d, 3)]
                    for a, b, c, d in zip(before[at] + change[at], line[at], moved[at], own[at], strict=True)
                ],
                "hovertext": [plain(labels[k], 30) or "image" for k in members],
                "hovertemplate": (
                    "<b>%{hovertext}</b><br>before %{x:.3f}, after %{customdata[0]:.3f}"
                    "<br>by the parallel part %{customdata[1]:+.3f}<br>by the orthogonal part %{customdata[2]:+.3f}"
                    f"<br>of that along v<sub>{shown + 1}</sub> %{{customdata[3]:+.3f}}<extra></extra>"
                ),
            }
        )
    data += _true_answers(before, change)

    slope = f"slope {1 + step:.3f} = 1 {_signed(step, 3).replace('+', '+ ').replace('−', '− ')}"
    off = float(np.sqrt(np.mean(moved**2)))
    spread_before = float(before.std()) or 1.0
    key_lines = [
        f"<span style='color:{token('parallel')}'><b>━ parallel part alone</b></span>: {slope}",
        f"<span style='color:{token('orthogonal')}'><b>┃ orthogonal part</b></span>: moves points off the line, "
        f"typically {100 * off / spread_before:.1f} % of their spread",
    ]
    dots = [f"<span style='color:{task_colour(i)}'>●</span> {plain(kind, 16)}" for i, kind, _ in groups] if few else []
    above = {"xanchor": "left", "yanchor": "bottom", "align": "left"}
    below = {"xanchor": "left", "yanchor": "top", "align": "left", "font": {"size": SMALL}}
    inset = note("true scale:<br>after against before", 0.78, 0.62, **below)
    layout = {
        "height": 420,
        "margin": {"l": 62, "r": 8, "t": 54, "b": 66 if dots else 48},
        "xaxis": {
            "domain": [0, 0.73],
            "title": {"text": "answer before the merge, w₀ · x"},
            "showgrid": True,
            "range": numbers(ends),
        },
        "yaxis": {"title": {"text": "change by the merge"}, "zeroline": True},
        "xaxis2": {"domain": [0.79, 1], "anchor": "y2", "showticklabels": False, "fixedrange": True, "zeroline": False},
        "yaxis2": {
            "domain": [0.66, 1],
            "anchor": "x2",
            "showticklabels": False,
            "fixedrange": True,
            "zeroline": False,
            "showgrid": False,
        },
        "annotations": [
            note("<br>".join(key_lines), 0, 1, yshift=6, **above),
            inset,
            *([note("   ".join(dots), 0, 0, yshift=-44, **below)] if dots else []),
        ],
        "uirevision": key,
    }
    narrow_lines = [part for text in key_lines for part in text.replace(": ", ":<br>").split("<br>")]
    rows = ["   ".join(dots[i : i + 3]) for i in range(0, len(dots), 3)]
    narrow = {
        "height": 560,
        "margin": {"l": 54, "r": 8, "t": 84, "b": 34 + 15 * len(rows)},
        "xaxis": {"domain": [0, 1]},
        "yaxis": {"domain": [0.34, 1]},
        "xaxis2": {"domain": [0, 0.34]},
        "yaxis2": {"domain": [0, 0.2]},
        "annotations": [
            note("<br>".join(narrow_lines), 0, 1, yshift=6, xshift=-46, **above),
            {**inset, "x": 0.4, "y": 0.16},
            *([note("<br>".join(rows), 0, 0, yshift=-14, xshift=-46, **below)] if rows else []),
        ],
    }
    description = (
        f"Answers of neuron {detail.index} in {detail.layer}, {detail.matrix}, to {len(before)} images: the parallel "
        f"part scales every answer by {1 + step:.3f}; the orthogonal part moves answers off that line by typically "
        f"{off:.3g}."
    )
    return Figure(
        data,
        layout,
        description,
        [],
        narrow,
        {"label": "image", "x": "before", "y": "change"},
        f"neuron-{detail.index}-answers",
    )


def _true_answers(before: np.ndarray, change: np.ndarray) -> list[Trace]:
    """The inset: answers after against before, both on the same scale, beside the line of no change."""
    low, high = float(before.min()), float(before.max())
    inset = {"type": "scatter", "xaxis": "x2", "yaxis": "y2", "hoverinfo": "skip", "meta": {"csv": False}}
    return [
        {
            **inset,
            "mode": "lines",
            "x": numbers([low, high]),
            "y": numbers([low, high]),
            "line": {"color": token("axis"), "width": 1, "dash": "dot"},
        },
        {
            **inset,
            "mode": "markers",
            "x": numbers(before, 3),
            "y": numbers(before + change, 3),
            "marker": {"size": 3, "color": token("muted")},
        },
    ]


def votes(detail: NeuronDetail, titles: Mapping[str, str] | None = None) -> Figure:
    """The vote behind the orthogonal part: each task's score U[t, r] in each direction, and the elected mean e_r.

    In each direction the sign with the larger sum wins; votes of the other sign are dropped (pale, in brackets), the
    others averaged. The last column is alpha = U e: what the merge does to each task's orthogonal part. Clicks
    answer as ``direction`` with row and column.
    """
    names = [plain((titles or {}).get(task, task), 16) for task in detail.tasks]
    rank = detail.left.shape[1]
    count = len(names)
    energy = detail.singular**2 / max(float((detail.singular**2).sum()), 1e-300)
    directions = [f"v<sub>{r + 1}</sub>" for r in range(rank)]
    kept = np.sign(detail.left) == np.sign(detail.elected)[None, :]
    scores = [[_cell(float(detail.left[t, r]), bool(kept[t, r])) for r in range(rank)] for t in range(count)]
    hover = [
        [
            f"<b>{names[t]} in direction {r + 1}</b><br>score {_signed(float(detail.left[t, r]))}, "
            + ("kept" if kept[t, r] else "dropped" if detail.left[t, r] else "no vote")
            for r in range(rank)
        ]
        for t in range(count)
    ]
    grid = {
        "type": "heatmap",
        "coloraxis": "coloraxis",
        "hovertemplate": "%{hovertext}<extra></extra>",
        "texttemplate": "%{text}",
    }
    font = {"size": SMALL}
    data: list[Trace] = [
        {
            **grid,
            "name": "score",
            "z": numbers(detail.left, 3),
            "text": scores,
            "hovertext": hover,
            "textfont": font,
            "meta": {"source": "direction", "rows": names, "columns": [f"direction {r + 1}" for r in range(rank)]},
        },
        {
            **grid,
            "name": "elected",
            "z": [numbers(detail.elected, 3)],
            "text": [[f"<b>{_signed(float(e))}</b>" for e in detail.elected]],
            "hovertext": [
                [
                    f"<b>elected in direction {r + 1}</b><br>mean of the kept scores {_signed(float(e), 3)}"
                    for r, e in enumerate(detail.elected)
                ]
            ],
            "textfont": font,
            "yaxis": "y2",
            "meta": {"rows": ["elected"], "columns": [f"direction {r + 1}" for r in range(rank)]},
        },
        {
            "type": "bar",
            "orientation": "h",
            "name": "alpha",
            "x": numbers(detail.alpha, 3),
            "y": list(range(count)),
            "xaxis": "x2",
            "marker": {"color": [task_colour(i) for i in range(count)], "cornerradius": 2},
            "width": 0.6,
            "text": [_signed(float(a)) for a in detail.alpha],
            "textposition": "outside",
            "textfont": font,
            "cliponaxis": False,
            "hovertext": names,
            "hovertemplate": "<b>%{hovertext}</b><br>alpha %{x:.3f}: weight of its orthogonal part<extra></extra>",
        },
    ]
    widest = nice_ceiling(max(1.2, float(np.abs(detail.alpha).max(initial=0.0)) * 1.25))
    low = -widest if float(detail.alpha.min(initial=0.0)) < -0.02 else 0.0
    tasks_axis = {
        "tickvals": list(range(count)),
        "ticktext": names,
        "range": [count - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
    }
    heads = [
        f"{name}<br><span style='font-size:10px'>{100 * e:.0f} %</span>"
        for name, e in zip(directions, energy, strict=True)
    ]
    above = {"xanchor": "left", "yanchor": "bottom", "font": {"size": 12}}
    layout = {
        "height": 150 + 26 * (count + 1),
        "margin": {"l": 82, "r": 40, "t": 74, "b": 30},
        "xaxis": {
            "domain": [0, 0.66],
            "side": "top",
            "tickvals": list(range(rank)),
            "ticktext": heads,
            "range": [-0.5, rank - 0.5],
            "anchor": "y",
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        "yaxis": {**tasks_axis, "domain": [1.35 / (count + 1.35), 1]},
        "yaxis2": {
            "domain": [0, 1 / (count + 1.35)],
            "tickvals": [0],
            "ticktext": ["<b>elected</b>"],
            "anchor": "x",
            "fixedrange": True,
            "showgrid": False,
            "zeroline": False,
        },
        "xaxis2": {
            "domain": [0.74, 1],
            "anchor": "y",
            "range": [low, widest],
            "zeroline": True,
            "tickvals": [v for v in (-1, 0, 1) if low <= v <= widest],
            "fixedrange": True,
            "showgrid": True,
        },
        "coloraxis": {"cmin": -1, "cmax": 1, "colorscale": token("diverging"), "showscale": False},
        "annotations": [
            note("scores U by direction (share of the energy)", 0, 1, yshift=40, **above),
            note("weight α = U e", 0.74, 1, yshift=40, **above),
            note("1: added whole", 1, 1, xref="x2", yanchor="bottom", yshift=4, font=font),
        ],
        "uirevision": f"votes {detail.layer} {detail.matrix} {detail.index}",
    }
    # Narrow: the weights go below, and the scores keep one decimal.
    brief = [[_cell(float(detail.left[t, r]), bool(kept[t, r]), 1) for r in range(rank)] for t in range(count)]
    rows = 2 * count + 3.4
    narrow = {
        "height": 170 + round(24 * rows),
        "margin": {"l": 66, "r": 40, "t": 56},
        "xaxis": {"domain": [0, 1], "ticktext": directions, "tickangle": 0},
        "yaxis": {"domain": [1 - count / rows, 1]},
        "yaxis2": {"domain": [1 - (count + 1.2) / rows, 1 - (count + 0.2) / rows]},
        "xaxis2": {"domain": [0, 1], "anchor": "y3"},
        "yaxis3": {**tasks_axis, "domain": [0, count / rows], "anchor": "x2"},
        "annotations": [
            note("scores U by direction", 0, 1, yshift=26, xshift=-60, **above),
            note("weight α = U e  (1: added whole)", 0, count / rows, yshift=4, xshift=-60, **above),
        ],
    }
    alphas = ", ".join(f"{name} {a:.2f}" for name, a in zip(names, detail.alpha, strict=True))
    description = f"The vote of {count} tasks in {rank} directions. Resulting weights alpha: {alphas}."
    elected = [[f"<b>{_cell(float(e), True, 1)}</b>" for e in detail.elected]]
    narrow_data: list[Trace] = [{"text": brief}, {"text": elected}, {"yaxis": "y3"}]
    return Figure(
        data,
        layout,
        description,
        narrow_data,
        narrow,
        {"x": "direction", "y": "task", "z": "score", "label": "task"},
        f"neuron-{detail.index}-votes",
    )


def _cell(score: float, kept: bool, digits: int = 2) -> str:
    """A score as the grid writes it: dropped ones in brackets; with one digit, without the leading zero."""
    rounded = round(score, digits)
    text = _signed(score, digits) if rounded else "0"
    if digits == 1 and rounded:
        text = text.lstrip("+").replace("0.", ".").replace("1.0", "1")
    return text if kept or score == 0 else f"({text})"
