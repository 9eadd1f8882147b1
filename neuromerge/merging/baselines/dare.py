"""DARE: drop changes at random, rescale the rest, then merge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging import kernels
from neuromerge.merging.baselines.scaled import scale_spec, trim_ratio_spec
from neuromerge.merging.baselines.ties import Election, combined, elected_rule, hold_election
from neuromerge.merging.devices import CPU
from neuromerge.merging.hyperparameters import AUTO, Hyperparameter
from neuromerge.merging.kernels import codes
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.linear import SCALE, Coefficients, Components
from neuromerge.merging.method import Automatic, Findings, MergeMethod, MergeReport, Run
from neuromerge.merging.registry import register
from neuromerge.merging.trim import Thresholds, apply_trim, global_thresholds
from neuromerge.merging.vectors import Chunk, TaskVectors
from neuromerge.threads import in_threads

_DRAW = 1 << 20  # random numbers drawn at a time; part of what a seed means, so never change it


def kept(parameter: Parameter, task: str, drop_rate: float, seed: int, out: torch.Tensor | None = None) -> torch.Tensor:
    """Which entries of one parameter of one task survive: bool, (*parameter.shape), on the CPU; into `out` if given.

    Depends on nothing but the arguments: not on the order of parameters or tasks, nor on how a layout stores
    the parameter.
    """
    digest = hashlib.sha256(f"dare\0{seed}\0{task}\0{parameter.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    out = torch.empty(parameter.shape, dtype=torch.bool) if out is None else out
    survives = out.view(-1)
    if kernels.in_use():
        from neuromerge.merging.kernels import calls

        calls.random_at_least(generator.initial_seed(), drop_rate, survives)
        return out
    for start in range(0, parameter.numel, _DRAW):
        part = survives[start : start + _DRAW]
        torch.ge(torch.rand(len(part), generator=generator), drop_rate, out=part)
    return out


def drop(tau: torch.Tensor, survives: torch.Tensor, drop_rate: float) -> torch.Tensor:
    """tau (T, ...) with the dropped entries zeroed and the rest divided by 1 - drop_rate; in place, returns tau."""
    return tau.mul_(survives).mul_(1.0 / (1.0 - drop_rate))


class DroppedVectors:
    """Task vectors after the drop: a `TaskVectors` that applies the masks as it reads."""

    def __init__(self, vectors: TaskVectors, drop_rate: float, seed: int):
        self._vectors, self._drop_rate, self._seed = vectors, drop_rate, seed
        self._tasks = distinct_names(vectors.task_names)
        self._last: tuple[str, torch.Tensor] | None = None  # chunks of one parameter come one after the other

    @property
    def parameters(self) -> Sequence[Parameter]:
        """Those of the vectors given."""
        return self._vectors.parameters

    @property
    def task_names(self) -> Sequence[str]:
        """Those of the vectors given."""
        return self._vectors.task_names

    @property
    def device(self) -> torch.device:
        """That of the vectors given."""
        return self._vectors.device

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """See `TaskVectors.read`."""
        base, tau = self._vectors.read(parameter, start, stop)
        return base, drop(tau, self._survives(parameter)[:, start:stop].to(tau.device), self._drop_rate)

    def _survives(self, parameter: Parameter) -> torch.Tensor:
        if self._last is None or self._last[0] != parameter.name:
            self._last = (parameter.name, all_kept(parameter, self._tasks, self._drop_rate, self._seed, self.device))
        return self._last[1]


def all_kept(
    parameter: Parameter, tasks: Sequence[str], drop_rate: float, seed: int, device: torch.device
) -> torch.Tensor:
    """`kept` of every task, for a merge on `device`: bool, (T, *parameter.shape)."""
    survives = torch.empty(len(tasks), *parameter.shape, dtype=torch.bool)

    def draw(task: int) -> None:
        kept(parameter, tasks[task], drop_rate, seed, survives[task])

    # Where whole parameters are merged by one thread, drawing would be all that it does.
    if device.type == "cpu" or parameter.numel < _DRAW:
        for task in range(len(tasks)):
            draw(task)
    else:
        in_threads(draw, range(len(tasks)))
    return survives


def distinct_names(tasks: Sequence[str]) -> tuple[str, ...]:
    """The task names, numbered where one occurs again, so that two tasks never share their chance."""
    seen: dict[str, int] = {}
    for task in tasks:
        seen[task] = seen.get(task, 0) + 1
    again = dict.fromkeys(seen, 0)
    names = []
    for task in tasks:
        again[task] += 1
        names.append(task if again[task] == 1 else f"{task}\0{again[task]}")
    return tuple(names)


@dataclass(frozen=True)
class _Plan:
    tasks: tuple[str, ...]
    election: Election | None


@register
class Dare(MergeMethod):
    """DARE before task arithmetic or TIES.

    TIES trims what the drop left; a trim ratio up to the drop rate therefore removes nothing more.
    """

    name = "dare"
    title = "DARE"
    summary = "Drops most of every expert's changes at random, enlarges the rest to make up for it, then merges."
    citation = "Yu et al., Language Models are Super Mario, ICML 2024, arXiv:2311.03099"
    hyperparameters = (
        Hyperparameter(
            name="drop_rate",
            label="Drop rate p",
            kind="float",
            default=0.9,
            description="Share of every expert's changes that is dropped by chance; what stays is divided by 1 - p.",
            minimum=0.0,
            maximum=1.0,
            exclusive_maximum=True,
            step=0.01,
            slider=(0.0, 0.99),
            grid=(0.5, 0.7, 0.9),
        ),
        Hyperparameter(
            name="after",
            label="Then merge by",
            kind="choice",
            default="task_arithmetic",
            description="What merges the thinned changes: their scaled sum (task_arithmetic), or the sign vote and "
            "mean of TIES (ties).",
            choices=("task_arithmetic", "ties"),
        ),
        trim_ratio_spec(
            "For TIES only: share of the changes, counting those already dropped, that is trimmed by size before "
            "the vote.",
            name="ties_trim_ratio",
            label="Trim ratio of TIES",
            grid=(),
        ),
        Hyperparameter(
            name="combine",
            label="Combine agreeing experts by",
            kind="choice",
            default="mean",
            description="For TIES only: experts whose change has the elected sign are averaged (mean) or added up.",
            choices=("mean", "sum"),
        ),
        scale_spec(
            AUTO,
            "How much of the merged change is added to the base model. Auto is 0.3 for a sum (task arithmetic, or TIES "
            "that adds up) and 1 for TIES's mean.",
        ),
    )
    stochastic = True
    alters_tau = True

    def automatic(self, name: str, found: Mapping[str, float], known: Findings) -> Automatic:
        """0.3 for a sum, 1 for the mean of TIES."""
        averages = known.values["after"] == "ties" and known.values["combine"] == "mean"
        return Automatic(1.0 if averages else 0.3)

    def prepare(self, vectors: TaskVectors, values: Mapping[str, Any], seed: int, thresholds: Thresholds) -> _Plan:
        """For TIES: thresholds and majority of the thinned task vectors."""
        election = None
        if values["after"] == "ties":
            thinned = DroppedVectors(vectors, values["drop_rate"], seed)
            election = hold_election(thinned, global_thresholds(thinned, values["ties_trim_ratio"]))
        return _Plan(distinct_names(vectors.task_names), election)

    def components(self, chunk: Chunk, run: Run[_Plan]) -> Components:
        """Drop, rescale, then sum or TIES."""
        rate, plan = run.values["drop_rate"], run.prepared
        survives = all_kept(chunk.parameter, plan.tasks, rate, run.seed, chunk.tau.device)
        thinned = drop(chunk.tau, survives.to(chunk.tau.device), rate)
        if plan.election is None:
            return {SCALE: thinned.sum(0)}
        trimmed = apply_trim(thinned, plan.election.thresholds)
        return {SCALE: combined(trimmed, plan.election, run.values["combine"])}

    def rule(self, chunk: Chunk, run: Run[_Plan]) -> Rule:
        """The same."""
        rate, plan = run.values["drop_rate"], run.prepared
        survives = all_kept(chunk.parameter, plan.tasks, rate, run.seed, CPU)
        merged = Rule(codes.SUM) if plan.election is None else elected_rule(plan.election, run.values["combine"])
        return replace(merged, drops=survives, enlarged=1.0 / (1.0 - rate))

    def report(self, run: Run[_Plan], coefficients: Coefficients) -> MergeReport:
        """For TIES with what the trim removed of the thinned changes."""
        report, election = super().report(run, coefficients), run.prepared.election
        return report if election is None else report.trimmed(run.task_names, election.thresholds)
