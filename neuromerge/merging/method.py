"""The contract of a merge method.

A method is linear in its coefficients: it gives the *components* of a change, and

    merged = base + sum over c of coefficient_c * component_c

is the same code for all of them (see `linear`). What a method has to say is therefore small:

- its hyperparameters, and which of them are coefficients;
- whether it trims the task vectors (`trims`), and what else it must know of all parameters first (`prepare`);
- the components of one chunk (`components`), and, where votes of a whole layer matter, `break_ties`;
- what "auto" comes to (`automatic`).

Nothing here is told which checkpoints there are or where the result goes. A pass over a chunk can be fused by
overriding `merge_chunk`; a method that merges neuron by neuron can take its components from the first pass of
interference (`FirstPassHook`), so that the live merge and the heatmaps share one reading of the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError
from neuromerge.merging.hyperparameters import AUTO, Hyperparameter
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.linear import LAMBDAS, SCALE, UNIT, Coefficients, Components, combine
from neuromerge.merging.profile import Factors
from neuromerge.merging.retention import Products, retention_target
from neuromerge.merging.trim import Thresholds, global_thresholds
from neuromerge.merging.vectors import Chunk, TaskVectors
from neuromerge.progress import UNATTENDED, Job

if TYPE_CHECKING:
    from neuromerge.merging.staged import Statistics
    from neuromerge.merging.votes import Vote

Prepared = TypeVar("Prepared")

RETENTION_WARNING = 10.0
"""The coefficient above which a user who asked for a retention is warned, as below 0."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What an automatic coefficient may follow from. Costly findings are looked up only when they are asked for.

    Attributes:
        values: the method's own hyperparameters, checked.
        thresholds: gives the thresholds of the global trim.
        factors: of the profile that will shape the coefficients.
        products: gives the inner products of components and task vectors; None where nobody can say.
    """

    values: Mapping[str, Any]
    thresholds: Callable[[], Thresholds]
    factors: Factors = field(default_factory=dict)
    products: Callable[[], Products] | None = None


@dataclass(frozen=True, slots=True)
class Run(Generic[Prepared]):
    """One merge by one method: what holds for all of its parameters.

    Attributes:
        values: the method's own hyperparameters, checked. Components depend on none of the coefficients in it.
        seed: of everything drawn at random.
        task_names: T names.
        thresholds: of the global trim; they keep everything where the method does not trim.
        prepared: what the method's `prepare` found out.
        job: what stops long work inside a chunk.
    """

    values: Mapping[str, Any]
    seed: int
    task_names: tuple[str, ...]
    thresholds: Thresholds
    prepared: Prepared
    job: Job = UNATTENDED

    def findings(self, factors: Factors | None = None) -> Findings:
        """What this run knows of its coefficients, which the `factors` of a profile will shape.

        `passes.findings` knows the products too.
        """
        return Findings(self.values, lambda: self.thresholds, factors or {})


@dataclass(frozen=True, slots=True)
class Automatic:
    """What "auto" came to, and a sentence for the user where the number needs one."""

    value: float
    warning: str = ""


@dataclass(frozen=True, slots=True)
class BrokenTies:
    """Rows whose tied vote the whole layer has decided: their share of an `AlongBase` component.

    Attributes:
        coefficient: name of the component.
        rows: (m,) rows of the parameter.
        factor: (m,) what to add to the component's factors there (the tied rows voted 0).
    """

    coefficient: str
    rows: torch.Tensor
    factor: torch.Tensor


@dataclass(frozen=True)
class MergeReport:
    """What a merge found out on its way.

    Attributes:
        coefficients: the numbers used, by name of the hyperparameter.
        sigma: largest share of L1 norm that the trim removed, over tasks; None where nothing was trimmed by size.
        sigma_per_task, kept_share: by task name, the shares of L1 norm removed and of entries kept.
        retention: by task name, <merged change, tau_t> / |tau_t|^2 over the whole model, see `retention`.
        neurons: number of neurons decomposed.
        ill_conditioned_per_layer: number of neurons whose merge hangs on rounding.
        warnings: sentences that the user should see.
    """

    coefficients: dict[str, float] = field(default_factory=dict)
    sigma: float | None = None
    sigma_per_task: dict[str, float] = field(default_factory=dict)
    kept_share: dict[str, float] = field(default_factory=dict)
    retention: dict[str, float] = field(default_factory=dict)
    neurons: int = 0
    ill_conditioned_per_layer: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def trimmed(self, task_names: Sequence[str], thresholds: Thresholds) -> MergeReport:
        """The same, with what a trim did to each task."""
        return replace(
            self,
            sigma=thresholds.sigma,
            sigma_per_task=dict(zip(task_names, thresholds.removed_share.tolist(), strict=True)),
            kept_share=dict(zip(task_names, thresholds.kept_share.tolist(), strict=True)),
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to use a method that deserves a row of its own in comparisons.

    Attributes:
        name: for the command line.
        title: for people; says whose it is.
        values: the hyperparameters that make it.
        tuned: hyperparameter -> values that a comparison tries on validation, instead of those of the method.
    """

    name: str
    title: str
    values: Mapping[str, Any]
    tuned: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


class FirstPassHook(Protocol):
    """For a method whose components the first pass of interference finds on its way.

    That pass decomposes every neuron, and keeps its statistics and one merged part of each parameter. A live merge
    by such a method needs no pass of its own: a new trim ratio costs one reading, for weights and heatmaps alike.
    """

    def vote(self, values: Mapping[str, Any]) -> Vote:
        """The rule by which the pass shall merge orthogonal parts; hashable, equal for equal values."""
        ...

    def components(self, statistics: Statistics, merged: torch.Tensor) -> Components:
        """The components of a whole parameter, ties broken, from what the pass left of it."""
        ...

    def products(self, statistics: Statistics) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """Component -> (T,) <component, tau_t>, and (T,) |tau_t|^2, of a whole parameter: no weights are looked at."""
        ...

    def merge_chunk(
        self,
        chunk: Chunk,
        thresholds: Thresholds,
        statistics: Statistics,
        coefficients: Mapping[str, float],
        out: torch.Tensor,
    ) -> None:
        """Write the merged weights of a chunk into `out` where the statistics were kept, and the parts were not."""
        ...


class MergeMethod(ABC):
    """One merge method. Stateless: what `prepare` finds out is returned and handed back in a `Run`."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]  # one plain sentence
    citation: ClassVar[str]
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]]
    variants: ClassVar[tuple[Variant, ...]] = ()
    """Other ways to use the method that deserve a row in comparisons."""
    coefficients: ClassVar[tuple[str, ...]] = (SCALE,)
    """Hyperparameters that merely multiply a component: ``("scale",)``, the three lambdas, or none (then 1)."""
    trims: ClassVar[str | None] = None
    """Name of the hyperparameter that is the ratio of a global trim of the task vectors; None without one."""
    by_rows: ClassVar[bool] = False
    """True where chunks of neurons can be merged apart: keeps memory bounded, the data in the cache, all cores busy."""
    stochastic: ClassVar[bool] = False
    """True where the seed changes the result."""
    flat_spectrum: ClassVar[bool] = False
    """True where all singular values of a merged matrix are equal: rounding alone tells its directions apart."""
    alters_tau: ClassVar[bool] = False
    """True where `components` leaves anything but the trimmed task vectors in `chunk.tau`."""
    first_pass: ClassVar[FirstPassHook | None] = None
    """How to take the components from the first pass of interference; None for a method with passes of its own."""

    @property
    def component_names(self) -> tuple[str, ...]:
        """What its components are called: by their coefficients, or `UNIT`."""
        return self.coefficients or (UNIT,)

    def begin(
        self,
        vectors: TaskVectors,
        values: Mapping[str, Any],
        seed: int,
        thresholds: Thresholds | None = None,
        job: Job = UNATTENDED,
    ) -> Run[Any]:
        """Start a merge: make the global passes that the method needs.

        `thresholds` are those of `trim_ratio(values)` where the caller has them already.
        """
        if thresholds is None:
            thresholds = global_thresholds(vectors, self.trim_ratio(values))
        prepared = self.prepare(vectors, values, seed, thresholds)
        return Run(values, seed, tuple(vectors.task_names), thresholds, prepared, job)

    def trim_ratio(self, values: Mapping[str, Any]) -> float:
        """The share of each task vector that the global trim removes; 0 for a method that does not trim."""
        return 0.0 if self.trims is None else float(values[self.trims])

    def structure(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values that components depend on: all but the coefficients."""
        return {name: value for name, value in values.items() if name not in self.coefficients}

    def prepare(self, vectors: TaskVectors, values: Mapping[str, Any], seed: int, thresholds: Thresholds) -> Any:
        """Global passes before any output, beyond the trim (vote totals, quantiles). None when it needs none."""
        return None

    @abstractmethod
    def components(self, chunk: Chunk, run: Run[Any]) -> Components:
        """The components of a chunk by the name of their coefficient (`UNIT` without any).

        Tensors are the method's own (not views of `chunk.tau`), shaped as `chunk.base`, in its dtype. Task vectors
        come as they are: a method that trims applies `run.thresholds`. A chunk is a whole parameter, unless
        `by_rows` is set: then linear maps come in chunks of neurons, in any order, in several threads at once.
        """

    def rule(self, chunk: Chunk, run: Run[Any]) -> Rule | None:
        """How a compiled kernel makes the only component of a chunk, entry by entry; None where only torch can."""
        return None

    @property
    def component(self) -> str:
        """Name of the component of a method that has one."""
        return self.component_names[0]

    def break_ties(self, parameter: Parameter, run: Run[Any]) -> BrokenTies | None:
        """After the last chunk of a parameter: what only the whole layer decides. None where there is nothing."""
        return None

    def automatic(self, name: str, found: Mapping[str, float], known: Findings) -> Automatic:
        """What "auto" is for the coefficient `name`; `found` are the coefficients before it, in their order."""
        raise SettingError(f"The method {self.name} has no automatic {name}.")

    def resolve(self, known: Findings) -> Coefficients:
        """The coefficients as numbers: the one place where "auto" and "retention" become one."""
        target = next(filter(None, (retention_target(known.values[name]) for name in self.coefficients)), None)
        if target is None:
            return self._numbers(known, 0.0)
        if known.products is None:
            raise SettingError(f"The retention of {self.name} is not known here. Give its coefficients as numbers.")
        value = known.products().solve(lambda asked: self._numbers(known, asked), target)
        found = self._numbers(known, value)
        if 0.0 <= value <= RETENTION_WARNING:
            return found
        sentence = (
            f"Keeping {target:g} of what the tasks learned takes a coefficient of {value:.4g}: the merged change has "
            "little in common with the task vectors. Ask for less, or set the coefficient by hand."
        )
        return replace(found, warnings=(*found.warnings, sentence))

    def _numbers(self, known: Findings, asked: float) -> Coefficients:
        """The coefficients where those that ask for a retention get the value `asked`."""
        found: dict[str, float] = {}
        warnings = []
        for name in self.coefficients:
            value = known.values[name]
            if retention_target(value) is not None:
                found[name] = asked
            elif value != AUTO:
                found[name] = float(value)
            else:
                automatic = self.automatic(name, found, known)
                found[name] = automatic.value
                if automatic.warning:
                    warnings.append(automatic.warning)
        return Coefficients(found, tuple(warnings), known.factors)

    def merge_chunk(
        self, chunk: Chunk, run: Run[Any], coefficients: Mapping[str, float], out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The merged weights of a chunk, shaped as its base; into `out` where it is given (any floating dtype).

        A method may override this by a fused pass that forms no components.
        """
        rule = self.rule(chunk, run) if chunk.rows is not None else None
        if rule is not None:
            return merged_rows(chunk, rule, coefficients[self.component], out, run.thresholds)
        return combine(chunk.base, self.components(chunk, run), coefficients, out)

    def report(self, run: Run[Any], coefficients: Coefficients) -> MergeReport:
        """What the result shall say of the merge."""
        report = MergeReport(dict(coefficients.values), warnings=coefficients.warnings)
        return report if self.trims is None else report.trimmed(run.task_names, run.thresholds)


def merged_rows(
    chunk: Chunk, rule: Rule, coefficient: float, out: torch.Tensor | None, thresholds: Thresholds
) -> torch.Tensor:
    """The merged weights of a chunk by a compiled kernel, as `MergeMethod.merge_chunk`.

    The tally is told in the same reading, but not where weights are rounded on their way out: it is of what is written.
    """
    from neuromerge.merging.kernels import calls

    rows = chunk.rows
    assert rows is not None
    if out is not None and out.dtype != rows.dtype:
        return out.copy_(calls.combine(rows, rule, own=1.0, factor=coefficient))
    if chunk.tally is None:
        return calls.combine(rows, rule, own=1.0, factor=coefficient, out=out)
    found = calls.Found.of(thresholds.value)
    merged = calls.combine(rows, rule, own=1.0, factor=coefficient, out=out, found=found)
    chunk.tell(found.products, found.squares)
    return merged


def component_rows(chunk: Chunk, rule: Rule) -> torch.Tensor:
    """The only component of a chunk by a compiled kernel."""
    from neuromerge.merging.kernels import calls

    assert chunk.rows is not None
    return calls.combine(chunk.rows, rule)


def check_contract(method: MergeMethod) -> None:
    """Raises ValueError where a method's declaration contradicts itself."""
    names = {spec.name for spec in method.hyperparameters}
    legal = ((), (SCALE,), tuple(LAMBDAS.values()))
    if method.coefficients not in legal:
        raise ValueError(f"{method.name}: coefficients must be one of {legal}, not {method.coefficients}")
    missing = [name for name in (*method.coefficients, method.trims) if name is not None and name not in names]
    if missing:
        raise ValueError(f"{method.name}: there is no hyperparameter {missing[0]!r}")
