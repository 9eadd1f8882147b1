"""Where tasks interfere: one measure over the layers and matrices of the network, in both subspaces."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuromerge.exploration.results import Heatmap
from neuromerge.figures.figure import Figure
from neuromerge.figures.hover import cell_hover
from neuromerge.figures.interference.columns import Panel, limits, panels
from neuromerge.figures.numbers import minus, number, numbers, short
from neuromerge.figures.text import coloured, note, plain, wrapped
from neuromerge.figures.theme import SMALL, ink_on, token
from neuromerge.figures.wire import Layout, Trace
from neuromerge.merging.measures import Measure

MAIN = ("q", "k", "v", "out", "fc1", "fc2")
"""The matrices every block has; a gap sets them apart from what only some layers have."""

SHORT = {"embedding": "emb.", "projection": "proj."}

NO_MATRIX = "this layer has no such matrix"
NOT_APPLICABLE = "not applicable: the measure has no value for this part"

SAYS = {"parallel": "how strongly a neuron answers", "orthogonal": "what a neuron answers to"}
SAYS_SHORT = {"parallel": "how strongly it answers", "orthogonal": "what it answers to"}

GAPS = (0.0, 0.03, 0.03)
"""Before each panel, as shares of the width."""

STACKED_GAPS = (0.0, 0.13)
"""The same where two share the width of a phone: what is written around them needs room."""


@dataclass(frozen=True)
class Place:
    """Where a panel is drawn: the suffix of its axes and of its colour scale, and its share of the width."""

    suffix: str
    left: float
    right: float

    @property
    def domain(self) -> dict[str, str]:
        """The panel's own area as the reference of a note."""
        return {"xref": f"x{self.suffix} domain", "yref": f"y{self.suffix} domain"}

    @property
    def axes(self) -> dict[str, str]:
        """The panel's axes as the reference of a shape."""
        return {"xref": f"x{self.suffix}", "yref": f"y{self.suffix}"}


def interference_heatmaps(
    heatmap: Heatmap,
    *,
    tasks: int | None = None,
    selected: tuple[int, int] | None = None,
    beside: Heatmap | None = None,
    picked: Collection[tuple[int, int]] | None = None,
) -> Figure:
    """Two panels over the matrices made of neurons, parallel and orthogonal, and a strip of single numbers.

    Each has its own colour scale around its own values. Side by side, or stacked when narrow. Clicks answer as
    ``parallel`` and ``orthogonal`` with row and column; single numbers count as orthogonal.

    Args:
        heatmap: values (rows, columns) per subspace, NaN where there is no such part.
        tasks: number of merged tasks T, for the words about the values.
        selected: (row, column) of the cell that is open, outlined wherever it is drawn.
        beside: another map that is seen together with this one: the colour scales are those of both.
        picked: (row, column) of the cells that are selected, outlined together; None where none can be: then a drag
            zooms.
    """
    shown = panels(heatmap, beside)
    places = arranged([len(panel.places) for panel in shown])
    data = [
        trace
        for panel, place in zip(shown, places, strict=True)
        for trace in _traces(panel, place, heatmap, tasks, picked)
    ]
    # Where two panels share the width of a phone, no number fits into a cell: a dot stands for it.
    dots: dict[str, Trace] = {
        panel.name: {"text": _written(panel, heatmap.measure, "•")} for panel in shown[1:] if panel.marks
    }
    layout, narrow = _layouts(heatmap, shown, places, tasks, selected)
    layout["shapes"] += [
        shape for panel, place in zip(shown, places, strict=True) for shape in _outline(panel, place, picked or ())
    ]
    return Figure(
        data=data,
        layout=layout,
        description=describe(heatmap, selectable=picked is not None),
        narrow_layout=narrow,
        narrow_data=[dots.get(trace.get("name", ""), {}) for trace in data] if dots else [],
        narrow_below=780,
        columns={"x": "matrix", "y": "layer", "z": heatmap.measure.key},
        held=[f"coloraxis{place.suffix}" for place in places],
        name=f"interference-{heatmap.measure.key}",
    )


def arranged(counts: list[int], gaps: tuple[float, ...] = GAPS) -> list[Place]:
    """Places side by side of panels with these numbers of columns, all equally wide."""
    width = (1 - sum(gaps[: len(counts)])) / sum(counts)
    places, at = [], 0.0
    for i, (count, gap) in enumerate(zip(counts, gaps, strict=False), start=1):
        left = at + gap
        at = left + count * width
        places.append(Place("" if i == 1 else str(i), round(left, 4), round(min(at, 1.0), 4)))
    return places


def stacked(counts: list[int]) -> list[Place]:
    """Places for narrow boxes: the first panel has a row of its own."""
    below = arranged(counts[1:], STACKED_GAPS)
    return [Place("", 0.0, 1.0), *(Place(str(i), place.left, place.right) for i, place in enumerate(below, start=2))]


# ------------------------------------------------------------------------------------------------ traces
def _traces(
    panel: Panel,
    place: Place,
    heatmap: Heatmap,
    tasks: int | None,
    picked: Collection[tuple[int, int]] | None,
) -> list[Trace]:
    """The values of one panel with all that the hover needs, over grey where a matrix has no value."""
    axes = {"type": "heatmap", "xaxis": f"x{place.suffix}", "yaxis": f"y{place.suffix}"}
    grey: Trace = {
        **axes,
        "z": [[1 if hole else None for hole in line] for line in panel.not_applicable.tolist()],
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, token("not-applicable")], [1, token("not-applicable")]],
        "texttemplate": "–",
        "textfont": {"size": SMALL, "color": token("muted")},
        "showscale": False,
        "hoverinfo": "skip",
        "meta": {"csv": False},
    }
    marks = panel.marks
    written = {"text": _written(panel, heatmap.measure), "texttemplate": "%{text}", "textfont": {"size": SMALL}}
    values: Trace = {
        **axes,
        **(written if marks else {}),
        "name": panel.name,
        "z": numbers(panel.values, 3),
        "coloraxis": f"coloraxis{place.suffix}",
        "hoverongaps": True,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "meta": {
            "source": panel.source,
            "csv": panel.source,
            "labels": ["layer", "matrix"],
            "places": list(panel.places),
            **({} if picked is None else {"selects": [list(cell) for cell in picked]}),
            "rows": [plain(row, 24) for row in heatmap.rows],
            "columns": [plain(heatmap.columns[place], 24) for place in panel.places],
            "hover": cell_hover(
                f"{plain(heatmap.measure.title)}, {panel.name}",
                list(heatmap.measure.words(tasks or 0)),
                blank=NO_MATRIX,
                cells=np.flatnonzero(panel.not_applicable).tolist(),
                reason=NOT_APPLICABLE,
                marks={row * len(panel.places) + at: f"strength here {text}" for (row, at), text in marks.items()},
            ),
        },
    }
    return [grey, values] if panel.not_applicable.any() else [values]


def _written(panel: Panel, measure: Measure, instead: str = "") -> list[list[str]]:
    """The factor (or what stands for it) in every cell that has one of its own, legible on the cell's colour."""
    low, high = limits(panel, measure)
    texts = [[""] * len(panel.places) for _ in panel.values]
    for (row, at), text in panel.marks.items():
        value = float(panel.values[row, at])
        if np.isfinite(value):
            share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5
            texts[row][at] = coloured(instead or text, ink_on(scale_of(measure), share))
    return texts


# ------------------------------------------------------------------------------------------------ layout
def _marks(panel: Panel, place: Place, heatmap: Heatmap, selected: tuple[int, int] | None) -> list[dict[str, Any]]:
    """A strip of background before what only some layers have, and a frame around the cell that is open."""
    rows = len(heatmap.rows)
    is_main = [heatmap.columns[at] in MAIN for at in panel.places]
    main = sum(is_main)
    marks: list[dict[str, Any]] = []
    if 0 < main < len(is_main) and all(is_main[:main]):
        line = {"color": token("surface"), "width": 7}
        ends = {"x0": main - 0.5, "x1": main - 0.5, "y0": -0.5, "y1": rows - 0.5}
        marks.append({"type": "line", **place.axes, **ends, "line": line})
    if selected is not None and 0 <= selected[0] < rows and selected[1] in panel.places:
        row, column = selected[0], panel.places.index(selected[1])
        box = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
        marks.append({"type": "rect", **place.axes, **box, "line": {"color": token("ink"), "width": 2}})
    return marks


def _outline(panel: Panel, place: Place, picked: Collection[tuple[int, int]]) -> list[dict[str, Any]]:
    """One line around all selected cells of a panel, and none between them; on a wider one of the ground's colour."""
    cells = {(row, panel.places.index(column)) for row, column in picked if column in panel.places}
    edges = [
        (x0, y0, x1, y1)
        for row, at in sorted(cells)
        for neighbour, x0, y0, x1, y1 in (
            ((row - 1, at), at - 0.5, row - 0.5, at + 0.5, row - 0.5),
            ((row + 1, at), at - 0.5, row + 0.5, at + 0.5, row + 0.5),
            ((row, at - 1), at - 0.5, row - 0.5, at - 0.5, row + 0.5),
            ((row, at + 1), at + 0.5, row - 0.5, at + 0.5, row + 0.5),
        )
        if neighbour not in cells
    ]
    if not edges:
        return []
    path = "".join(f"M{x0:g},{y0:g}L{x1:g},{y1:g}" for x0, y0, x1, y1 in edges)
    lines = ({"color": token("surface"), "width": 6}, {"color": token("merge"), "width": 3})
    return [{"type": "path", **place.axes, "path": path, "line": line} for line in lines]


def _captions(panel: Panel, place: Place, *, narrow: bool = False) -> list[dict[str, Any]]:
    """The panel's title, its mean, and why it is flat where it is."""
    bold = f"<b>{panel.name}</b>"
    title = coloured(bold, panel.name) if panel.name == panel.source else bold
    words = (SAYS_SHORT if narrow else SAYS).get(panel.name, "")
    says = f"  <span style='font-size:12px'>{words}</span>" if words else ""
    above = {**place.domain, "y": 1, "yanchor": "bottom", "yshift": 38 if narrow else 26, "showarrow": False}
    captions: list[dict[str, Any]] = [{"text": title + says, **above, "x": 0, "xanchor": "left", "font": {"size": 14}}]
    if narrow and panel.name == panel.source:
        captions[0]["xshift"] = -52
    elif narrow:
        captions[0] |= {"text": "<b>single</b>"}
    if says and panel.mean is not None and not narrow:
        mean = f"mean {minus(short(panel.mean, 2))}"
        captions.append({"text": mean, **above, "x": 1, "xanchor": "right", "font": {"size": SMALL}})
    if panel.reason:
        captions.append(
            {
                "text": wrapped(panel.reason, 36, 5),
                **place.domain,
                "x": 0.5,
                "y": 0.5,
                "showarrow": False,
                "bgcolor": token("surface"),
                "bordercolor": token("axis"),
                "borderpad": 8,
                "font": {"size": 12, "color": token("ink")},
            }
        )
    return captions


def scale_of(measure: Measure) -> str:
    """The colour scale of a measure's values (see `theme.SCALES`)."""
    if not measure.signed:
        return "sequential"
    return "opposing" if measure.against_above else "diverging"


def colour_ticks(ends: tuple[float, float], named: dict[float, str]) -> list[tuple[float, str]]:
    """Ticks of a colour bar: both ends and the values that have a name; an end says what lies further out."""
    low, high = ends
    below = [name for value, name in sorted(named.items()) if value < low]
    above = [name for value, name in sorted(named.items()) if value > high]
    words = {
        low: f"← {below[-1]}" if below else "",
        high: f"{above[0]} →" if above else "",
        **{value: name for value, name in named.items() if low <= value <= high},
    }
    # A named tick replaces an end that would stand too near.
    inner = [value for value in words if value in named]
    kept = [v for v in words if v in named or all(abs(v - n) > 0.24 * (high - low) for n in inner)]
    return [
        (value, minus(f"{number(value, 2):g}") + (f"<br>{words[value]}" if words[value] else ""))
        for value in sorted(kept)
    ]


def _colour_axis(
    panel: Panel, place: Place, measure: Measure, tasks: int | None, *, stacked: bool = False
) -> dict[str, Any]:
    """A panel's own colour scale, with its bar under it."""
    ends = limits(panel, measure)
    strip = panel.name != panel.source
    ticks = colour_ticks(ends, {} if strip else dict(measure.ends(tasks or 0)))
    if stacked and place.suffix:  # no room for words between the ends
        ticks = [ticks[0], *((value, text.split("<br>")[0]) for value, text in ticks[1:-1]), ticks[-1]]
    # Words at the ends of a bar reach beyond it.
    share = 1.0 if strip else 0.7 if stacked and place.suffix else 0.86
    return {
        "cmin": ends[0],
        "cmax": ends[1],
        "colorscale": token(scale_of(measure)),
        "colorbar": {
            "orientation": "h",
            "x": round((place.left + place.right) / 2, 4),
            "xanchor": "center",
            "xpad": 0,
            "y": 0,
            "yanchor": "top",
            "ypad": 8,
            "len": round((place.right - place.left) * share, 4),
            "thickness": 8,
            "tickangle": 0,
            "title": {"text": ""},
            "tickvals": [value for value, _ in ticks],
            "ticktext": [text for _, text in ticks],
        },
    }


def _legend(shown: tuple[Panel, ...]) -> str:
    """What cells without a colour are."""
    absent = any((~panel.exists).any() for panel in shown)
    grey = any(panel.not_applicable.any() for panel in shown)
    parts = ["no cell: the layer has no such matrix"] if absent else []
    parts += [f"{coloured('■', 'not-applicable')} –: not applicable"] if grey else []
    return "    ".join(parts)


def _layouts(
    heatmap: Heatmap,
    shown: tuple[Panel, ...],
    places: list[Place],
    tasks: int | None,
    selected: tuple[int, int] | None,
) -> tuple[Layout, Layout]:
    """The panels side by side, and the changes that stack them."""
    rows = len(heatmap.rows)
    row = min(34, max(22, 310 // max(rows, 1)))
    legend = _legend(shown)
    small = {"size": SMALL}
    layout: Layout = {
        "height": 62 + row * rows + (72 if legend else 54),
        "margin": {"l": 60, "r": 12, "t": 52, "b": 82 if legend else 64},
        "uirevision": f"interference {rows} {len(heatmap.columns)}",
        "shapes": [],
        "annotations": [],
    }
    below = min(row, 26)
    narrow: Layout = {
        "height": 300 + 2 * below * rows,
        "margin": {"l": 56, "r": 8, "t": 66, "b": 84},
        "annotations": [],
    }
    stack = 2 * below * rows + 150
    lower = stacked([len(panel.places) for panel in shown])
    for panel, place, low in zip(shown, places, lower, strict=True):
        first = not place.suffix
        layout[f"xaxis{place.suffix}"] = {**_across(panel, heatmap), "domain": [place.left, place.right]}
        layout[f"yaxis{place.suffix}"] = {**_down(heatmap), "showticklabels": first}
        layout[f"coloraxis{place.suffix}"] = _colour_axis(panel, place, heatmap.measure, tasks)
        layout["shapes"] += _marks(panel, place, heatmap, selected)
        layout["annotations"] += _captions(panel, place)
        if not first:
            layout[f"xaxis{place.suffix}"]["anchor"] = f"y{place.suffix}"
            layout[f"yaxis{place.suffix}"] |= {"anchor": f"x{place.suffix}", "matches": "y"}
        share = below * rows / stack
        bar = _colour_axis(panel, low, heatmap.measure, tasks, stacked=True)["colorbar"]
        narrow[f"xaxis{place.suffix}"] = {"domain": [low.left, low.right]}
        narrow[f"yaxis{place.suffix}"] = {
            "domain": [round(1 - share, 4), 1] if first else [0, round(share, 4)],
            "showticklabels": first or place.suffix == "2",
        }
        narrow[f"coloraxis{place.suffix}"] = {"colorbar": {**bar, "y": round(1 - share, 4) if first else 0}}
        narrow["annotations"] += _captions(panel, place, narrow=True)
    if len(shown) > 1:  # zooming one panel zooms its twin
        layout["xaxis2"]["matches"] = "x"
    if legend:
        under = {"xanchor": "left", "yanchor": "top", "font": small}
        layout["annotations"].append(note(legend, 0, 0, yshift=-58, **under))
        narrow["annotations"].append(note(legend, 0, 0, yshift=-60, xshift=-52, **under))
    return layout, narrow


def _across(panel: Panel, heatmap: Heatmap) -> dict[str, Any]:
    """The axis of matrices."""
    width = len(panel.places)
    return {
        "tickvals": list(range(width)),
        "ticktext": [SHORT.get(name, plain(name, 12)) for name in (heatmap.columns[place] for place in panel.places)],
        "range": [-0.5, width - 0.5],
        "side": "top",
        "autotickangles": [0, -45],
        "showgrid": False,
        "zeroline": False,
    }


def _down(heatmap: Heatmap) -> dict[str, Any]:
    """The axis of layers, the first on top."""
    rows = len(heatmap.rows)
    return {
        "tickvals": list(range(rows)),
        "ticktext": [plain(name, 16) for name in heatmap.rows],
        "range": [rows - 0.5, -0.5],
        "showgrid": False,
        "zeroline": False,
    }


# ------------------------------------------------------------------------------------------------ words
def describe(heatmap: Heatmap, *, selectable: bool = False) -> str:
    """What the two panels show, in words: the measure and where it is largest."""
    measure = heatmap.measure
    parts = [f"Two heatmaps of {measure.title} over {len(heatmap.rows)} layers and {len(heatmap.columns)} matrices."]
    for name, values, reason in (
        ("parallel", heatmap.parallel, heatmap.note_parallel),
        ("orthogonal", heatmap.orthogonal, heatmap.note_orthogonal),
    ):
        if not np.isfinite(values).any():
            parts.append(f"In the {name} panel nothing applies.")
            continue
        row, column = np.unravel_index(int(np.nanargmax(values)), values.shape)
        where = f"{heatmap.rows[row]}, {heatmap.columns[column]}"
        parts.append(
            f"{name.capitalize()}: from {np.nanmin(values):.3g} to {np.nanmax(values):.3g}, "
            f"mean {np.nanmean(values):.3g}, largest in {where}." + (f" {reason}" if reason else "")
        )
    parts.append("Use the arrow keys to walk the cells and Enter to open one.")
    if selectable:
        parts.append("Shift with an arrow selects several; names of layers and matrices lie before the first cells.")
    return " ".join(parts)
