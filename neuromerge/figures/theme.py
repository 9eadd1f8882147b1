"""One design for the page and the figures: colours, type, spacing, and how they change in the dark.

A figure never holds a colour. It names a token (``"token:ink"``), and whoever draws it puts in the light or
the dark value: the browser for the app, so that switching to dark mode needs no server; `resolve` for a
notebook. The same tokens are exported as CSS variables (``--nm-ink``), so the page and the figures agree.

The eight task colours start from the hues of Okabe and Ito's palette and were moved until the nearest two
stay apart by a colour difference of 18 (CIE 1976) under normal vision and simulated protan-, deuter- and
tritanopia (Machado et al. 2009), with a contrast of at least 2.5 : 1 to the page. Beyond eight tasks, dashes and
marker shapes change, never colour alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

Mode = Literal["light", "dark"]

TOKEN = "token:"
"""Prefix that marks a string in a figure as the name of a colour or a colour scale."""

FONT = (
    '"IBM Plex Sans", ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
)
FONT_SIZE = 13
SMALL = 11
"""Size of secondary text (ticks, notes) in pixels."""

COLOURS: dict[Mode, dict[str, str]] = {
    "light": {
        "surface": "#ffffff",
        "raised": "#f6f7f9",
        "ink": "#1c2330",
        "muted": "#566071",
        "faint": "#8b95a5",
        "axis": "#c3c9d4",
        "grid": "#e9ecf1",
        "not-applicable": "#e3e6ec",
        "hover": "#1c2330",
        "hover-text": "#ffffff",
        # What a model is: the base, an expert, the merge on screen, the pinned merge to compare with.
        "base": "#b4bcc9",
        "expert": "#4a5568",
        "merge": "#4653d1",
        "pinned": "#e0a100",
        "merge-soft": "#dcdffb",
        # The two subspaces, wherever they are told apart by colour.
        "parallel": "#0b6fb8",
        "orthogonal": "#c9540a",
        "good": "#0b6fb8",
        "bad": "#c9540a",
        "task-0": "#0064c5",
        "task-1": "#bf9d00",
        "task-2": "#0a9268",
        "task-3": "#b95399",
        "task-4": "#2da8f1",
        "task-5": "#871327",
        "task-6": "#926112",
        "task-7": "#4d1e76",
    },
    "dark": {
        "surface": "#15181f",
        "raised": "#1d212a",
        "ink": "#e8ebf1",
        "muted": "#a7b0be",
        "faint": "#768091",
        "axis": "#454d5b",
        "grid": "#272c36",
        "not-applicable": "#2b303a",
        "hover": "#e8ebf1",
        "hover-text": "#15181f",
        "base": "#5f6979",
        "expert": "#c3cad6",
        "merge": "#8790ff",
        "pinned": "#e9b43c",
        "merge-soft": "#2c3163",
        "parallel": "#57adea",
        "orthogonal": "#f58a45",
        "good": "#57adea",
        "bad": "#f58a45",
        "task-0": "#4993d4",
        "task-1": "#f2ee58",
        "task-2": "#42e39a",
        "task-3": "#c990ae",
        "task-4": "#c4efff",
        "task-5": "#d9404c",
        "task-6": "#ee811d",
        "task-7": "#a155f5",
    },
}

# Stops of matplotlib's cividis (Nunez et al. 2018, CC0) and of ColorBrewer's PuOr (Apache-2.0), lightest in the middle.
_CIVIDIS = (
    "#00224e",
    "#123570",
    "#3b496c",
    "#575d6d",
    "#707173",
    "#8a8678",
    "#a59c74",
    "#c3b369",
    "#e1cc55",
    "#fee838",
)
_PUOR = ("#7f3b08", "#b35806", "#e08214", "#fdb863", "#fee0b6", "#f7f7f7", "#d8daeb", "#b2abd2", "#8073ac", "#542788")
_PUOR_DARK = (
    "#ffc98a",
    "#f0a04b",
    "#c9761c",
    "#8f5316",
    "#573813",
    "#22252d",
    "#393457",
    "#5b5291",
    "#8d82cf",
    "#c5bdf5",
)

Scale = list[tuple[float, str]]


def _scale(stops: tuple[str, ...], middle: int | None = None) -> Scale:
    """Colour stops spread over 0..1; `middle` is the stop that must sit at 0.5 (diverging scales)."""
    last = len(stops) - 1
    if middle is None:
        return [(round(i / last, 4), stop) for i, stop in enumerate(stops)]
    below = [(0.5 * i / middle, stop) for i, stop in enumerate(stops[:middle])]
    above = [(0.5 + 0.5 * i / (last - middle), stop) for i, stop in enumerate(stops[middle:])]
    return [(round(x, 4), stop) for x, stop in below + above]


SCALES: dict[Mode, dict[str, Scale]] = {
    "light": {
        "sequential": _scale(_CIVIDIS),
        "diverging": _scale(_PUOR, 5),
        "opposing": _scale(_PUOR[::-1], len(_PUOR) - 6),
    },
    "dark": {
        "sequential": _scale(_CIVIDIS),
        "diverging": _scale(_PUOR_DARK, 5),
        "opposing": _scale(_PUOR_DARK[::-1], len(_PUOR_DARK) - 6),
    },
}
"""By mode and name. One colour, one meaning: orange is against each other or worse, purple is together or better.

``diverging`` is for values whose negative side is against, ``opposing`` for those whose positive side is.
"""

TASK_COLOURS = 8
_DASHES = ("solid", "dash", "dot")
_SYMBOLS = ("circle", "square", "diamond")


def task_colour(index: int) -> str:
    """Token of the colour of task `index`; colours repeat after eight, dashes and symbols then differ."""
    return f"{TOKEN}task-{index % TASK_COLOURS}"


def task_dash(index: int) -> str:
    """Plotly line dash of task `index`: solid for the first eight, dashed for the next, dotted after."""
    return _DASHES[index // TASK_COLOURS % len(_DASHES)]


def task_symbol(index: int) -> str:
    """Plotly marker symbol of task `index`, chosen as `task_dash` is."""
    return _SYMBOLS[index // TASK_COLOURS % len(_SYMBOLS)]


def token(name: str) -> str:
    """`name` as a figure writes it. Raises KeyError when the design has no such colour or scale."""
    if name not in COLOURS["light"] and name not in SCALES["light"]:
        raise KeyError(name)
    return TOKEN + name


def tokens(mode: Mode) -> dict[str, Any]:
    """Every token of one mode: colours (CSS hex) and scales (lists of [position, colour])."""
    return {**COLOURS[mode], **SCALES[mode]}


# ------------------------------------------------------------------------------------------------ text on colours
def ink_on(scale: str, share: float) -> str:
    """Token of the text colour that can be read on the colour at `share` (0..1) of a scale, in either mode."""
    return f"{TOKEN}on-{token(scale)[len(TOKEN) :]}-{round(1000 * min(1.0, max(0.0, share)))}"


def colour_at(scale: Scale, share: float) -> tuple[float, float, float]:
    """The colour (red, green, blue in 0..255) at `share` (0..1) of a scale, interpolated as Plotly does."""
    above = next((i for i, (at, _) in enumerate(scale) if at >= share), len(scale) - 1)
    (low, start), (high, end) = scale[max(above - 1, 0)], scale[above]
    part = (share - low) / (high - low) if high > low else 0.0
    red, green, blue = (a + (b - a) * part for a, b in zip(_rgb(start), _rgb(end), strict=True))
    return red, green, blue


def luminance(colour: tuple[float, float, float]) -> float:
    """Relative luminance of a colour (red, green, blue in 0..255), 0 to 1 (WCAG 2.2)."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def readable_on(colour: tuple[float, float, float]) -> str:
    """Black or white, whichever stands out more: at least 4.58 : 1 on every colour."""
    return "#000000" if luminance(colour) > BLACK_ABOVE else "#ffffff"


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


BLACK_ABOVE = 0.05 * (21**0.5 - 1)
"""Luminance above which black is read better than white: where both have the same contrast."""

_ON_SCALE = re.compile(r"on-([a-z]+)-(\d+)")
_IN_TEXT = re.compile(rf"color:{TOKEN}([a-z0-9-]+)")


def _value(name: str, mode: Mode) -> Any:
    """What a token stands for in `mode`; None where the design has none of that name."""
    found = _ON_SCALE.fullmatch(name)
    if found and found[1] in SCALES[mode]:
        return readable_on(colour_at(SCALES[mode][found[1]], int(found[2]) / 1000))
    return tokens(mode).get(name)


def resolve(value: Any, mode: Mode = "light") -> Any:
    """A copy of nested lists and dicts in which every ``"token:name"`` is replaced by its value in `mode`.

    Inside a text, tokens count only as the colour of a span (``<span style='color:token:merge'>``).
    """

    def walk(item: Any) -> Any:
        if isinstance(item, str):
            if item.startswith(TOKEN):
                return _value(item[len(TOKEN) :], mode) or item
            return _IN_TEXT.sub(lambda found: f"color:{_value(found[1], mode) or 'inherit'}", item)
        if isinstance(item, Mapping):
            return {key: walk(child) for key, child in item.items()}
        if isinstance(item, (list, tuple)):
            return [walk(child) for child in item]
        return item

    return walk(value)


def template() -> dict[str, Any]:
    """The Plotly template of every figure, in tokens. The browser holds it once; figures do not carry it."""
    axis = {
        "gridcolor": token("grid"),
        "linecolor": token("axis"),
        "zerolinecolor": token("axis"),
        "zerolinewidth": 1,
        "tickcolor": token("axis"),
        "ticks": "",
        "tickfont": {"size": SMALL, "color": token("muted")},
        "title": {"font": {"size": SMALL + 1, "color": token("muted")}, "standoff": 8},
        "automargin": True,
    }
    bar = {
        "outlinewidth": 0,
        "thickness": 10,
        "ticks": "",
        "tickfont": {"size": SMALL, "color": token("muted")},
        "title": {"font": {"size": SMALL, "color": token("muted")}},
    }
    return {
        "layout": {
            "font": {"family": FONT, "size": FONT_SIZE, "color": token("ink")},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 56, "r": 16, "t": 40, "b": 40},
            "xaxis": {**axis, "showgrid": False},
            "yaxis": axis,
            "hoverlabel": {
                "bgcolor": token("hover"),
                "bordercolor": token("hover"),
                "font": {"family": FONT, "size": 12, "color": token("hover-text")},
                "align": "left",
            },
            "legend": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 1,
                "yanchor": "bottom",
                "font": {"size": SMALL + 1, "color": token("muted")},
                "itemsizing": "constant",
                "bgcolor": "rgba(0,0,0,0)",
            },
            "coloraxis": {"colorbar": bar},
            "hovermode": "closest",
            "showlegend": False,
            "dragmode": "zoom",
            "annotationdefaults": {"font": {"size": SMALL + 1, "color": token("muted")}, "showarrow": False},
        },
        "data": {
            "heatmap": [{"colorbar": bar, "xgap": 2, "ygap": 2}],
            "contour": [{"colorbar": bar}],
            "bar": [{"marker": {"line": {"width": 0}}}],
        },
    }


def css_variables() -> str:
    """The tokens as CSS custom properties, ``--nm-<token>``, for `:root` and for Gradio's dark mode."""
    light = "".join(f"--nm-{name}:{value};" for name, value in COLOURS["light"].items())
    dark = "".join(f"--nm-{name}:{value};" for name, value in COLOURS["dark"].items())
    return f":root{{--nm-font:{FONT};--nm-font-size:{FONT_SIZE}px;--nm-small:{SMALL}px;{light}}}\n.dark{{{dark}}}\n"
