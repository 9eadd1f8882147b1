"""Searching the profile: where in the model the merge is strong, beside how strong it is.

A shape is searched by axes of its own, which become the profile of the setting that is scored: a curve over depth with
some knots, or a factor on each group of matrices. The profile of the setting that a search starts from is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuromerge.errors import SettingError, quoted
from neuromerge.merging.profile import GROUPS, REST, make_profile
from neuromerge.search.axes import Axis

LEAST, MOST = 0.0, 2.0
"""The factors that are searched: from the base's weights to twice the strength."""
KNOTS = (2, 3, 4, 5, 6)
SHAPES: Mapping[str, str] = {
    "": "Coefficients only",
    **{f"depth:{count}": f"and a depth curve of {count} points" for count in KNOTS},
    "groups": "and attention, MLP and the rest apart",
    "own": "and groups of parts that you name",
}
"""What of the profile can be searched, in words."""
_DEPTH, _GROUP, _AND = "depth_", "group_", " + "
MAX_GROUPS = 12


def shape_axes(shape: str, groups: Sequence[Sequence[str]] = ()) -> tuple[Axis, ...]:
    """The axes of a shape of `SHAPES`; `groups` are those of the shape ``own``, each some parts of the model.

    Raises SettingError listing the known shapes, for groups without that shape or that shape without groups, and for
    groups that share a part.
    """
    if shape not in SHAPES:
        raise SettingError(f"There is no shape {quoted(shape)} to search. Known: {', '.join(filter(None, SHAPES))}.")
    if bool(groups) != (shape == "own"):
        raise SettingError("Groups of parts go with the shape own: name both, or none of them.")
    if not shape:
        return ()
    if shape == "own":
        return _group_axes(groups)
    if shape == "groups":
        return tuple(Axis(f"{_GROUP}{part}", LEAST, MOST) for part in (*GROUPS, REST))
    count = int(shape.partition(":")[2])
    return tuple(Axis(f"{_DEPTH}{place}", LEAST, MOST) for place in range(1, count + 1))


def _group_axes(groups: Sequence[Sequence[str]]) -> tuple[Axis, ...]:
    """An axis for each group; its name says which parts are meant, so that a stored study does."""
    if len(groups) > MAX_GROUPS:
        raise SettingError(f"At most {MAX_GROUPS} groups are searched together, not {len(groups)}.")
    parts = [part for group in groups for part in group]
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None:
        raise SettingError(f"{quoted(twice)} is in two groups, or twice in one: each part belongs to one group.")
    make_profile(dict.fromkeys(parts, 1.0))  # says what is no part
    return tuple(Axis(_GROUP + _AND.join(group), LEAST, MOST) for group in groups)


def read_groups(text: str) -> list[list[str]]:
    """Groups as a person types them: one a line, parts with commas between. Raises SettingError where there is none."""
    lines = [[part.strip() for part in line.split(",") if part.strip()] for line in text.splitlines()]
    groups = [line for line in lines if line]
    if not groups:
        raise SettingError("Name at least one group of parts, such as: block 1/fc1, block 2/fc1. One group a line.")
    return groups


def is_shape(name: str) -> bool:
    """Whether an axis of that name shapes the profile."""
    return name.startswith((_DEPTH, _GROUP))


def split_shape(searched: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of axes as hyperparameters, and as a profile (empty where none of them shapes it)."""
    values = {name: value for name, value in searched.items() if not is_shape(name)}
    profile: dict[str, Any] = {
        part: value
        for name, value in searched.items()
        if name.startswith(_GROUP)
        for part in name.removeprefix(_GROUP).split(_AND)
    }
    knots = sorted(
        (int(name.removeprefix(_DEPTH)), value) for name, value in searched.items() if name.startswith(_DEPTH)
    )
    if knots:
        profile[REST] = [value for _, value in knots]
    return values, profile
