"""Numbers on their way into a figure: rounded, finite, and written as the browser writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np

NICE_STEPS = (1, 1.5, 2, 3, 5, 7.5, 10)
"""Where colour scales end, times a power of ten."""


def number(value: float, digits: int = 4) -> float | None:
    """`value` rounded to `digits` significant digits; None for NaN and infinities (JSON has neither)."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def numbers(values: Iterable[float] | np.ndarray, digits: int = 4) -> list[Any]:
    """Nested lists of `number`s from an array of one or two axes."""
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [numbers(item, digits) if isinstance(item, list) else number(item, digits) for item in listed]


def percents(values: np.ndarray | Iterable[float], decimals: int = 2) -> list[Any]:
    """Shares in [0, 1] as percent, rounded; None for NaN."""
    return [round(100 * float(value), decimals) if math.isfinite(value) else None for value in values]


def rounded(value: float, digits: int = 4) -> float:
    """A finite `value` rounded to `digits` significant digits."""
    return float(f"{value:.{digits}g}")


def nice_ceiling(value: float) -> float:
    """The smallest of `NICE_STEPS` times a power of ten that is not below `value` (1 for 0 and below).

    Colour scales end there, so that they stay put while a slider moves.
    """
    if not math.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    for step in NICE_STEPS:
        if value <= step * power * (1 + 1e-9):
            return rounded(step * power, 6)
    return 10 * power


def robust_range(values: np.ndarray, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
    """Round ends of a colour scale on which `values` can be told apart, within [low, high].

    The outermost hundredth of the values is left out: one extreme cell must not wash out the others. The scale
    starts at 0 unless all values lie far from it.
    """
    known = np.asarray(values)[np.isfinite(values)]
    if not known.size:
        return max(low, 0.0), min(high, 1.0)
    bottom, top = (float(q) for q in np.quantile(known, (0.01, 0.99)))
    if 0 <= bottom < 0.35 * top or bottom == top == 0:
        return max(low, 0.0), min(high, nice_ceiling(top))
    step = nice_ceiling(max(top - bottom, 0.01 * abs(top)) / 4)
    return max(low, rounded(math.floor(bottom / step) * step, 6)), min(high, rounded(math.ceil(top / step) * step, 6))


def robust_bound(values: np.ndarray, high: float = math.inf) -> float:
    """Where a scale symmetric about 0 ends: a round number that 98 % of the values do not exceed, up to `high`."""
    known = np.abs(np.asarray(values)[np.isfinite(values)])
    return min(high, nice_ceiling(float(np.quantile(known, 0.98)) if known.size else 0.0))


def round_frame(values: Iterable[float], room: float = 1.05) -> tuple[float, float]:
    """Round ends of an axis that holds `values` (times `room`) and 0, which is never at its edge."""
    listed = [float(value) for value in values if math.isfinite(value)]
    low, high = min([0.0, *listed]), max([0.0, *listed])
    if low == high:
        return -1.0, 1.0
    bottom = nice_ceiling(-room * low) if low < 0 else 0.2 * nice_ceiling(room * high)
    top = nice_ceiling(room * high) if high > 0 else 0.2 * nice_ceiling(-room * low)
    return -rounded(bottom), rounded(top)


def minus(text: str) -> str:
    """`text` with a true minus in place of every hyphen."""
    return text.replace("-", "−")


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign and `digits` decimals, with a true minus; what rounds to zero has no sign."""
    return minus(f"{value:+.{digits}f}") if round(value, digits) else f"{0:.{digits}f}"


def written(value: float) -> str:
    """A number as JavaScript's ``String(value)`` writes it: the shortest text that reads back the same.

    ECMAScript, Number::toString: no exponent from 1e-6 up to 1e21, no trailing ``.0``, no negative zero.
    """
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    point = len(text) + int(exponent)  # decimal places before the point
    if len(text) <= point <= 21:
        text += "0" * (point - len(text))
    elif 0 < point <= 21:
        text = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        text = "0." + "0" * -point + text
    else:
        text = text[0] + (f".{text[1:]}" if text[1:] else "") + f"e{point - 1:+d}"
    return f"-{text}" if sign else text


def short(value: float, digits: int = 3) -> str:
    """A finite number with `digits` significant digits, as ``String(Number(value.toPrecision(digits)))`` writes it.

    `toPrecision` rounds the exact binary value, ties away from zero; Python's formats round ties to even.
    """
    exact = Context(prec=digits, rounding=ROUND_HALF_UP).create_decimal_from_float(value)
    return written(float(exact))
