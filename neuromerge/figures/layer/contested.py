"""The most contested neurons of a layer: how tied the vote was against how much is at stake."""

from __future__ import annotations

import math

from neuromerge.exploration.results import ContestedNeuron, LayerDetail
from neuromerge.figures.figure import Figure
from neuromerge.figures.layer.units import unit, units
from neuromerge.figures.numbers import number
from neuromerge.figures.text import note
from neuromerge.figures.theme import SMALL, token
from neuromerge.figures.wire import Layout, Trace

LABELLED = 12
"""Neurons up to which their numbers stand beside the points."""


def contested_neurons(detail: LayerDetail) -> Figure:
    """The most contested neurons: how tied the vote was against how much is at stake.

    Clicks answer as ``neuron`` with the index into ``detail.contested``.
    """
    rows = detail.contested
    what = f"{len(rows)} most contested {units(detail)} of {detail.neurons}"
    layout, narrow = _layouts(detail, what)
    first = ", ".join(f"{row.index} (margin {row.margin:.2f})" for row in rows[:5])
    return Figure(
        data=[_trace(detail)],
        layout=layout,
        description=f"The {what}: {first}. Arrow keys walk them, Enter opens one.",
        narrow_layout=narrow,
        columns={"label": unit(detail), "x": "change (% of base)", "y": "margin"},
        name=f"contested-{detail.layer}-{detail.matrix}",
    )


def _said(row: ContestedNeuron) -> list[int | float | str | None]:
    """What the hover adds to a point."""
    alpha = number(row.mean_alpha, 2) if math.isfinite(row.mean_alpha) else "none"
    return [row.index, alpha, "yes" if row.ill_conditioned else "no"]


def _trace(detail: LayerDetail) -> Trace:
    """One point a neuron; hollow ones are ill-conditioned."""
    rows = detail.contested
    return {
        "type": "scatter",
        "mode": "markers+text" if len(rows) <= LABELLED else "markers",
        "name": f"contested {units(detail)}",
        "x": [number(100 * row.tau_norm, 3) for row in rows],
        "y": [number(row.margin, 3) for row in rows],
        "text": [str(row.index) for row in rows],
        "textposition": "top center",
        "textfont": {"size": SMALL, "color": token("muted")},
        "cliponaxis": False,
        "marker": {
            "size": 11,
            "color": token("merge"),
            "opacity": 0.85,
            "symbol": ["circle-open" if row.ill_conditioned else "circle" for row in rows],
            "line": {"width": 1.5, "color": token("merge")},
        },
        "customdata": [_said(row) for row in rows],
        "hovertext": [f"{unit(detail)} {row.index}" for row in rows],
        "hovertemplate": (
            "<b>%{hovertext}</b>  click to open<br>margin of the vote %{y:.3f}<br>change %{x:.2f} % of the base"
            "<br>mean alpha %{customdata[1]}<br>close call: %{customdata[2]}<extra></extra>"
        ),
        "meta": {"source": "neuron", "index": list(range(len(rows)))},
    }


def _layouts(detail: LayerDetail, what: str) -> tuple[Layout, Layout]:
    """Margin over change; narrow, the caption takes two lines."""
    ill = f"  ·  hollow: close calls ({detail.ill_conditioned} in this layer)" if detail.kind == "neurons" else ""
    above = {"xanchor": "left", "yanchor": "bottom"}
    layout = {
        "height": 300,
        "margin": {"l": 56, "r": 16, "t": 34, "b": 46},
        "xaxis": {"title": {"text": "all tasks’ change, % of |w₀|"}, "showgrid": True, "zeroline": False},
        "yaxis": {"title": {"text": "margin of the vote (0: tied)"}, "rangemode": "tozero", "zeroline": False},
        "annotations": [note(what + ill, 0, 1, yshift=8, **above)],
        "uirevision": f"contested {detail.layer} {detail.matrix}",
    }
    if not detail.contested:
        layout["annotations"] = [note("no task moves anything here", 0.5, 0.5, font={"size": 13})]
        return layout, {}
    folded = what + ill.replace("  ·  ", "<br>")
    return layout, {
        "margin": {"t": 46},
        "annotations": [note(folded, 0, 1, align="left", yshift=4, xshift=-40, **above)],
    }
