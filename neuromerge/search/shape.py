"""Searching the profile: where in the model the merge is strong, beside how strong it is.

A shape is searched by axes of its own, which become the profile of the setting that is scored: a curve over depth with
some knots, or a factor on each group of matrices. The profile of the setting that a search starts from is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuromerge.errors import SettingError, quoted
from neuromerge.merging.profile import GROUPS, REST
from neuromerge.search.axes import Axis

LEAST, MOST = 0.0, 2.0
"""The factors that are searched: from the base's weights to twice the strength."""
KNOTS = (2, 3, 4, 5, 6)
SHAPES: Mapping[str, str] = {
    "": "Coefficients only",
    **{f"depth:{count}": f"and a depth curve of {count} points" for count in KNOTS},
    "groups": "and attention, MLP and the rest apart",
}
"""What of the profile can be searched, in words."""
_DEPTH, _GROUP = "depth_", "group_"


def shape_axes(shape: str) -> tuple[Axis, ...]:
    """The axes of a shape of `SHAPES`. Raises SettingError listing the known ones."""
    if shape not in SHAPES:
        raise SettingError(f"There is no shape {quoted(shape)} to search. Known: {', '.join(filter(None, SHAPES))}.")
    if not shape:
        return ()
    if shape == "groups":
        return tuple(Axis(f"{_GROUP}{part}", LEAST, MOST) for part in (*GROUPS, REST))
    count = int(shape.partition(":")[2])
    return tuple(Axis(f"{_DEPTH}{place}", LEAST, MOST) for place in range(1, count + 1))


def is_shape(name: str) -> bool:
    """Whether an axis of that name shapes the profile."""
    return name.startswith((_DEPTH, _GROUP))


def split_shape(searched: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of axes as hyperparameters, and as a profile (empty where none of them shapes it)."""
    values = {name: value for name, value in searched.items() if not is_shape(name)}
    profile: dict[str, Any] = {
        name.removeprefix(_GROUP): value for name, value in searched.items() if name.startswith(_GROUP)
    }
    knots = sorted(
        (int(name.removeprefix(_DEPTH)), value) for name, value in searched.items() if name.startswith(_DEPTH)
    )
    if knots:
        profile[REST] = [value for _, value in knots]
    return values, profile
