"""A method's own settings: what they mean, which values they take, and the check of what somebody gave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from neuromerge.errors import SettingError, quoted
from neuromerge.merging.retention import asking_for, retention_target

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One setting of a method: what it means and which values it takes.

    `kind` is ``float``, ``int``, ``bool`` or ``choice``. `minimum` and `maximum` are inclusive unless
    `exclusive_maximum`. `auto` says that the string ``"auto"`` is legal too, `retention` that ``"retention"`` and
    ``"retention:x"`` are (see `retention`). `slider` is the range worth showing on a slider where it is narrower than
    what is legal. `grid` holds the values that a comparison of methods tries on validation data, none to leave the
    default. `searched` says that a search varies it unless told otherwise.
    """

    name: str
    label: str
    kind: Literal["float", "int", "bool", "choice"]
    default: float | int | bool | str
    description: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive_maximum: bool = False
    step: float | None = None
    choices: tuple[str, ...] = ()
    auto: bool = False
    slider: tuple[float, float] | None = None
    grid: tuple[float, ...] = ()
    searched: bool = True
    retention: bool = False

    def check(self, value: Any) -> float | int | bool | str:
        """`value` in its proper type. Raises SettingError, saying the range, when it is not legal."""
        if self.auto and isinstance(value, str) and value.strip().lower() == AUTO:
            return AUTO
        if self.retention and (target := retention_target(value)) is not None:
            return asking_for(target)
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in ("true", "false"):
                return value.lower() == "true"
            raise self._refused("true or false", value)
        if self.kind == "choice":
            if isinstance(value, str) and value in self.choices:
                return value
            raise self._refused(f"one of {', '.join(self.choices)}", value)
        try:
            if isinstance(value, bool):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise self._refused(self.range_text(), value) from None
        too_low = self.minimum is not None and number < self.minimum
        too_high = self.maximum is not None and (
            number >= self.maximum if self.exclusive_maximum else number > self.maximum
        )
        whole = self.kind != "int" or number == int(number) if math.isfinite(number) else False
        if not math.isfinite(number) or too_low or too_high or not whole:
            raise self._refused(self.range_text(), value)
        return int(number) if self.kind == "int" else number

    def _refused(self, legal: str, value: Any) -> SettingError:
        empty = value is None or (isinstance(value, str) and not value.strip())
        return SettingError(f"{self.name} must be {legal}, {'but it is empty' if empty else f'not {quoted(value)}'}.")

    def range_text(self) -> str:
        """The legal values in words."""
        what = "a whole number" if self.kind == "int" else "a number"
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        high = "" if self.maximum is None else f" {'below' if self.exclusive_maximum else 'up to'} {self.maximum:g}"
        words = [word for word, legal in (('"auto"', self.auto), ('"retention"', self.retention)) if legal]
        return " or ".join([f"{what}{low}{high}", *words])
