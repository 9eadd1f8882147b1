"""Edits of a profile, as the page makes them: pure functions from one shape to the next.

A shape is a profile as a mapping (`neuromerge.merging.profile.as_mapping`): a part of the model to its factor, or to a
factor for each coefficient. What is not named has the factor 1, and an edit back to 1 leaves nothing behind: equal
merges are equal shapes.

``"rest"`` stands for what no other part names, so that naming a part would change what ``"rest"`` reaches. Whoever
edits a shape spells it out first (`neuromerge.merging.profile.spelled_out`, which needs the model) and puts what waits
for another method back (`joined`): then what is not named has the factor 1, whatever part it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neuromerge.errors import SettingError
from neuromerge.merging.profile import MAX_CURVE, REST, as_mapping, make_profile

Shape = Mapping[str, Any]

CURVES: Mapping[str, tuple[float, ...]] = {
    "even": (1.0,),
    "rising": (0.5, 1.5),
    "falling": (1.5, 0.5),
    "middle": (0.5, 1.5, 0.5),
}
"""Curves over the blocks, from the first to the last; each but the first lets one end or the middle count for more."""


def checked(given: Any) -> dict[str, Any]:
    """`given` as a shape; raises SettingError where it is none."""
    return as_mapping(make_profile(given or {}))


def factor_of(shape: Shape, part: str, coefficient: str = "") -> float:
    """The factor that a shape names for a part: of one coefficient, or of all; the mean where there are several."""
    held = shape.get(part, 1.0)
    if isinstance(held, Mapping):
        held = held.get(coefficient, 1.0) if coefficient else [_mean(own) for own in held.values()]
    return _mean(held)


def with_factor(shape: Shape, part: str, coefficient: str, value: float, names: Sequence[str]) -> dict[str, Any]:
    """The shape with another factor for a part.

    Args:
        shape: what there is.
        part: see `neuromerge.merging.profile`.
        coefficient: on which coefficient; all of them when empty.
        value: the factor, instead of the number, curve or mapping that was there.
        names: the coefficients of the method.
    """
    if not coefficient or tuple(names) == (coefficient,):
        return _put(shape, part, value)
    held = shape.get(part, 1.0)
    apart = dict(held) if isinstance(held, Mapping) else dict.fromkeys(names, held)
    return _put(shape, part, {**apart, coefficient: value}, names)


def scaled(shape: Shape, part: str, by: float, names: Sequence[str]) -> dict[str, Any]:
    """The shape with the factors of a part multiplied, on each of the coefficients `names` and on those that wait."""
    return _each(shape, part, lambda value: value * by, names)


def added(shape: Shape, part: str, amount: float, names: Sequence[str]) -> dict[str, Any]:
    """The shape with `amount` added to the factors of a part, as `scaled` multiplies them."""
    return _each(shape, part, lambda value: round(value + amount, 6), names)


def _each(shape: Shape, part: str, edit: Callable[[float], float], names: Sequence[str]) -> dict[str, Any]:
    """The shape with every factor of a part edited."""

    def edited(own: Any) -> Any:
        return [edit(value) for value in own] if isinstance(own, list) else edit(own)

    held = shape.get(part, 1.0)
    if isinstance(held, Mapping):
        return _put(shape, part, {name: edited(held.get(name, 1.0)) for name in dict.fromkeys((*names, *held))}, names)
    return _put(shape, part, edited(held))


def over_depth(shape: Shape, blocks: Sequence[str], curve: Sequence[float]) -> dict[str, Any]:
    """The shape with factors for whole blocks, read off a curve from the first block to the last."""
    shaped = dict(shape)
    for place, block in enumerate(blocks):
        shaped = _put(shaped, block, _at(curve, place / max(1, len(blocks) - 1)))
    return shaped


def read_curve(text: Any) -> tuple[float, ...]:
    """Numbers with commas (or spaces) between, as a person types a curve. Raises SettingError for what is none."""
    words = text.replace(",", " ").split() if isinstance(text, str) else []
    if not 1 <= len(words) <= MAX_CURVE:
        raise SettingError("Type the factors from the first block to the last, such as: 0.5, 1, 1.5.")
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        raise SettingError(f"A curve is numbers with commas between, such as 0.5, 1, 1.5; not {text!r:.60}.") from None
    make_profile({REST: list(numbers)})  # says which numbers are allowed
    return numbers


def split(shape: Shape, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of a shape a method with the coefficients `names` can use, and what waits for one that has the others."""
    usable: dict[str, Any] = {}
    waiting: dict[str, Any] = {}
    for part, held in shape.items():
        if not isinstance(held, Mapping):
            usable[part] = held
            continue
        for known, side in ((True, usable), (False, waiting)):
            own = {name: value for name, value in held.items() if (name in names) is known}
            if own:
                side[part] = own
    return usable, waiting


def joined(usable: Shape, waiting: Shape, names: Sequence[str]) -> dict[str, Any]:
    """The shape that `split` takes apart, after an edit of what a method with the coefficients `names` can use."""
    whole = {**waiting, **usable}
    for part in usable.keys() & waiting.keys():
        held = usable[part]
        apart = held if isinstance(held, Mapping) else dict.fromkeys(names, held)
        whole[part] = {**waiting[part], **apart}
    return whole


def _put(shape: Shape, part: str, held: Any, names: Sequence[str] = ()) -> dict[str, Any]:
    """The shape with another entry, in the shortest words."""
    if isinstance(held, Mapping):
        values = list(held.values())
        if names and set(held) == set(names) and all(value == values[0] for value in values):
            held = values[0]
        else:
            held = {name: value for name, value in held.items() if value != 1.0}
    if REST in shape and held == {}:
        held = 1.0
    others = {name: value for name, value in shape.items() if name != part}
    # Where "rest" reaches depends on which parts are named, be it with a 1.
    left_out = held == {} or (held == 1.0 and REST not in shape)
    return others if left_out else {**others, part: held}


def _mean(held: Any) -> float:
    return sum(held) / len(held) if isinstance(held, list) else float(held)


def _at(curve: Sequence[float], depth: float) -> float:
    """The value of a curve at a depth from 0 to 1, to four digits: what people type."""
    place = depth * (len(curve) - 1)
    left = min(int(place), max(0, len(curve) - 2))
    right = min(left + 1, len(curve) - 1)
    return round(curve[left] + (curve[right] - curve[left]) * (place - left), 4)
