"""Which coefficient explains the differences between trials."""

from __future__ import annotations

from collections.abc import Mapping

from neuromerge.figures.figure import Figure
from neuromerge.figures.numbers import percents
from neuromerge.figures.text import note
from neuromerge.figures.theme import token
from neuromerge.figures.tuning.names import coefficient
from neuromerge.figures.wire import Layout, Trace

HEADING = "share of the differences in accuracy"
_ABOVE = {"xanchor": "left", "yanchor": "bottom", "yshift": 10}


def importance_bars(importances: Mapping[str, float]) -> Figure:
    """Which coefficient explains the differences between trials: shares that sum to 1, largest on top."""
    ranked = sorted(importances.items(), key=lambda item: -item[1])
    names = [coefficient(key) for key, _ in ranked]
    shares = percents([value for _, value in ranked], 1)
    listed = ", ".join(f"{name} {share:.0f} %" for name, share in zip(names, shares, strict=True))
    return Figure(
        data=[_trace(names, shares)],
        layout=_layout(len(names)),
        narrow_layout={"annotations": [note(HEADING, 0, 1, xshift=-100, **_ABOVE)]},
        description=f"Importance of each coefficient: {listed}.",
        columns={"x": "importance (%)", "y": "coefficient"},
        name="importances",
    )


def _trace(names: list[str], shares: list[float]) -> Trace:
    """One lying bar a coefficient."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": "importance",
        "x": shares,
        "y": names,
        "marker": {"color": token("merge"), "cornerradius": 3},
        "width": 0.5,
        "text": [f"{share:.0f} %" for share in shares],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "<b>%{y}</b>: %{x:.1f} % of the differences between trials<extra></extra>",
    }


def _layout(count: int) -> Layout:
    """The first bar on top."""
    return {
        "height": max(150, 90 + 48 * count),
        "margin": {"l": 110, "r": 48, "t": 44, "b": 24},
        "xaxis": {"range": [0, 100], "visible": False, "fixedrange": True},
        "yaxis": {
            "autorange": "reversed",
            "showgrid": False,
            "fixedrange": True,
            "tickfont": {"size": 12, "color": token("ink")},
        },
        "annotations": [note(HEADING, 0, 1, **_ABOVE)],
        "uirevision": "importances",
    }
