"""Settings read from a configuration's JSON: of the type that is expected, or refused by their name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError


class Fields:
    """One JSON object of a configuration. A setting that is null counts as not set.

    Every reading method raises CheckpointError, which names the file, the setting and its value.
    """

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, Mapping):
            raise CheckpointError(f"{where} must hold settings by name, not {shown(content)}.")
        self._content, self.where = content, where

    def __bool__(self) -> bool:
        return bool(self._content)

    def __contains__(self, name: str) -> bool:
        return self._content.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """The value as it stands."""
        value = self._content.get(name)
        return default if value is None else value

    def section(self, name: str) -> Fields:
        """The settings inside a setting, none where it is not set."""
        return Fields(self.get(name, {}), f"{self.where}: {name}")

    def whole(self, name: str, default: int, *, least: int = 1) -> int:
        """A whole number from `least`."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
            raise self.wrong(name, f"a whole number from {least}")
        return value

    def number(self, name: str, default: float, *, above: float = -math.inf) -> float:
        """A finite number above `above`."""
        number = _number(self.get(name, default), above)
        if number is None:
            raise self.wrong(name, "a finite number" + _bound(above))
        return number

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def choice(self, name: str, default: str, choices: Collection[str]) -> str:
        """One of a few words."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}")
        return value

    def three(
        self, name: str, default: tuple[float, float, float], *, above: float = -math.inf
    ) -> tuple[float, float, float]:
        """Three finite numbers above `above`; one number stands for three equal ones."""
        value = self.get(name, default)
        values = value if isinstance(value, (list, tuple)) else [value] * 3
        numbers = [number for each in values if (number := _number(each, above)) is not None]
        if len(values) != 3 or len(numbers) != 3:
            raise self.wrong(name, "three finite numbers" + _bound(above))
        return numbers[0], numbers[1], numbers[2]

    def side(self, name: str, default: int) -> int:
        """The side of a square, written as one number or as two equal ones."""
        value = self.get(name, default)
        if isinstance(value, (list, tuple)) and len(value) in (1, 2) and all(each == value[0] for each in value):
            value = value[0]
        return Fields({name: value}, self.where).whole(name, default)

    def refuse_others(self, known: Collection[str], neutral: Mapping[str, Collection[Any]], why: str) -> None:
        """Raise where a setting is neither in `known`, nor without effect: null, false, or a `neutral` value.

        Args:
            neutral: name -> values that change nothing; an empty collection: every value.
            why: the rest of the sentence, after the settings.
        """
        others = {
            name: value
            for name, value in self._content.items()
            if value is not None
            and value is not False
            and name not in known
            and not (name in neutral and (not neutral[name] or any(_same(value, each) for each in neutral[name])))
        }
        if others:
            listed = ", ".join(f"{name} = {shown(value, 60)}" for name, value in list(others.items())[:8])
            raise CheckpointError(f"{self.where} sets {listed}{' ...' if len(others) > 8 else ''}, {why}")

    def wrong(self, name: str, expected: str) -> CheckpointError:
        """The error for a value of another kind than `expected`."""
        return CheckpointError(f"{self.where}: {name} must be {expected}, not {shown(self.get(name))}.")


def _number(value: Any, above: float) -> float | None:
    """A finite number above a bound, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number > above else None


def _bound(above: float) -> str:
    return "" if above == -math.inf else f" above {above:g}"


def _same(value: Any, neutral: Any) -> bool:
    """Equal, and of one type: 1 is not true."""
    return type(value) is type(neutral) and value == neutral
