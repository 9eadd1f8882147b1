"""The registry of merge methods: name, parameters with bounds, and how to run them.

The command line, the recipes and the app build their options from here, so a method that registers
itself appears everywhere. A method is a small object with two steps, so that nothing needs all the
checkpoints in memory: `begin` makes the global passes it needs (thresholds, vote totals), `merge_chunk` merges
one parameter, or some of its neurons.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One parameter of a method: what it means and which values it takes.

    `kind` is ``float``, ``int``, ``bool`` or ``choice``. `minimum` and `maximum` are inclusive unless
    `exclusive_maximum`. `auto` says that the string ``"auto"`` is legal too. `slider` is the range worth
    showing on a slider where it is narrower than what is legal.
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

    def check(self, value: Any) -> float | int | bool | str:
        """`value` in its proper type. Raises SettingError, saying the range, when it is not legal."""
        if self.auto and isinstance(value, str) and value.strip().lower() == AUTO:
            return AUTO
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in ("true", "false"):
                return value.lower() == "true"
            raise SettingError(f"{self.name} must be true or false, not {value!r}.")
        if self.kind == "choice":
            if isinstance(value, str) and value in self.choices:
                return value
            raise SettingError(f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}.")
        try:
            if isinstance(value, bool):
                raise TypeError
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise SettingError(f"{self.name} must be {self.range_text()}, not {value!r}.") from None
        too_low = self.minimum is not None and number < self.minimum
        too_high = self.maximum is not None and (
            number >= self.maximum if self.exclusive_maximum else number > self.maximum
        )
        whole = self.kind != "int" or number == int(number) if math.isfinite(number) else False
        if not math.isfinite(number) or too_low or too_high or not whole:
            raise SettingError(f"{self.name} must be {self.range_text()}, not {value!r}.")
        return int(number) if self.kind == "int" else number

    def range_text(self) -> str:
        """The legal values in words."""
        what = "a whole number" if self.kind == "int" else "a number"
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        high = "" if self.maximum is None else f" {'below' if self.exclusive_maximum else 'up to'} {self.maximum:g}"
        return f"{what}{low}{high}" + (' or "auto"' if self.auto else "")


class TaskVectors(Protocol):
    """What a method reads: parameters, their base values and their task vectors, one parameter at a time."""

    @property
    def parameters(self) -> Sequence[Parameter]:
        """The merge units, in the base's order."""
        ...

    @property
    def task_names(self) -> Sequence[str]:
        """One name per task vector, in the order of `tau`'s first axis."""
        ...

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (*shape), tau (T, *shape)) in the working dtype: float32, or float64 where the base is float64.

        `start` and `stop` choose rows: neurons of a linear map, entries of a pointwise parameter. The base must
        not be written to; tau is a scratch tensor that the caller may change and that the next `read` may reuse.
        """
        ...


Prepared = TypeVar("Prepared")


@dataclass(frozen=True, slots=True)
class Run(Generic[Prepared]):
    """One merge by one method: what holds for all of its parameters.

    Attributes:
        values: the method's own parameters, checked.
        seed: of everything drawn at random.
        prepared: what the method's `prepare` found out.
    """

    values: Mapping[str, Any]
    seed: int
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is merged at a time: some rows of a parameter, and what every task changed there.

    Attributes:
        parameter: whose rows these are.
        base: (rows, ...) base weights; not to be written to.
        tau: (T, rows, ...) task vectors, scratch that the method may change.
        start: the first of the rows, counted in the whole parameter.
    """

    parameter: Parameter
    base: torch.Tensor
    tau: torch.Tensor
    start: int = 0


def read_chunk(vectors: TaskVectors, parameter: Parameter, start: int = 0, stop: int | None = None) -> Chunk:
    """The chunk of rows `start` to `stop` of a parameter; the whole of it by default."""
    return Chunk(parameter, *vectors.read(parameter, start, stop), start)


class MergeMethod(ABC):
    """One merge method. Stateless: what `prepare` finds out is returned and handed back in a `Run`."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]  # one plain sentence
    citation: ClassVar[str]
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]]
    by_rows: ClassVar[bool] = False
    """True where chunks of neurons can be merged apart: keeps memory bounded, the data in the cache, all cores busy."""
    stochastic: ClassVar[bool] = False
    """True where the seed changes the result."""

    def begin(self, vectors: TaskVectors, values: Mapping[str, Any], seed: int) -> Run[Any]:
        """Start a merge: make the global passes, if the method needs any."""
        return Run(values, seed, self.prepare(vectors, values, seed))

    def prepare(self, vectors: TaskVectors, values: Mapping[str, Any], seed: int) -> Any:
        """Global passes before any output (thresholds, vote totals). None when the method needs none."""
        return None

    @abstractmethod
    def merge_chunk(self, chunk: Chunk, run: Run[Any]) -> torch.Tensor:
        """The merged CHANGE of a chunk (same shape as its `base`): merged = base + what this returns.

        A chunk is a whole parameter, unless `by_rows` is set: then linear maps come in chunks of neurons, in any
        order, in several threads at once.
        """

    def settle(self, parameter: Parameter, run: Run[Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """After the last chunk of a parameter: (rows (m,), scale (m,)), add scale * base to those merged rows.

        For what only the whole layer decides, such as ties. None where there is nothing to settle.
        """
        return None

    def report(self, run: Run[Any]) -> dict[str, Any]:
        """What the method wants the result to carry (sigma, coefficients used, kept shares ...)."""
        return {}


_METHODS: dict[str, MergeMethod] = {}


def register(cls: type[MergeMethod]) -> type[MergeMethod]:
    """Class decorator: put one instance of the method into the registry."""
    if cls.name in _METHODS:
        raise ValueError(f"the merge method {cls.name!r} is registered twice")
    _METHODS[cls.name] = cls()
    return cls


def get_method(name: str) -> MergeMethod:
    """The method called `name`. Raises SettingError listing the known ones."""
    try:
        return _METHODS[name]
    except (KeyError, TypeError):
        raise SettingError(f"There is no merge method {name!r}. Known: {', '.join(_METHODS)}.") from None


def methods() -> dict[str, MergeMethod]:
    """Every registered method by name, in order of registration."""
    return dict(_METHODS)


def check_values(method: MergeMethod, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` checked against the method's specification, defaults filled in.

    Raises SettingError for an unknown name or a value out of range.
    """
    known = {spec.name: spec for spec in method.hyperparameters}
    for name in given:
        if name not in known:
            raise SettingError(
                f"The method {method.name} has no parameter {name!r}. It has: {', '.join(known) or 'none'}."
            )
    return {name: spec.check(given[name]) if name in given else spec.default for name, spec in known.items()}
