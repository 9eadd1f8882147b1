"""TIES-Merging: trim, elect a sign, merge what agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.baselines.scaled import scale_spec, trim_ratio_spec
from neuromerge.merging.chunks import as_they_are, map_chunks, row_chunks
from neuromerge.merging.election import elected_sign, mean_of_elected
from neuromerge.merging.hyperparameters import AUTO, Hyperparameter
from neuromerge.merging.kernels import codes
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.kernels.table import StoredVectors, served
from neuromerge.merging.linear import SCALE, Components
from neuromerge.merging.method import Automatic, Findings, MergeMethod, Run
from neuromerge.merging.registry import register
from neuromerge.merging.trim import Thresholds, apply_trim
from neuromerge.merging.vectors import Chunk, TaskVectors


@dataclass(frozen=True)
class Election:
    """What TIES must know of all parameters before it merges one.

    Attributes:
        thresholds: of the global trim.
        majority: the sign, 1 or -1, of a coordinate whose vote is tied.
    """

    thresholds: Thresholds
    majority: int


def hold_election(vectors: TaskVectors, thresholds: Thresholds) -> Election:
    """Find the majority of the elected signs of all parameters after the trim: one pass.

    Where that is tied too, the sign is -1, as in the authors' code.
    """
    fused = _balance(vectors, thresholds) if served(vectors) else None

    def balance_of(parameter: Parameter, start: int, stop: int) -> int:
        if fused is not None:
            return fused(parameter, start, stop)
        _, tau = vectors.read(parameter, start, stop)
        return int(elected_sign(apply_trim(tau, thresholds)).sum(dtype=torch.float64))

    def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
        return row_chunks(parameter, len(vectors.task_names), vectors.device, fused=fused is not None)

    counted = map_chunks(balance_of, vectors.parameters, split, as_they_are, device=vectors.device)
    balance = sum(sum(found) for _, found in counted)
    return Election(thresholds, 1 if balance > 0 else -1)


def _balance(vectors: StoredVectors, thresholds: Thresholds) -> Callable[[Parameter, int, int], int]:
    """The same of rows start..stop by a compiled kernel."""
    from neuromerge.merging.kernels import calls

    return lambda parameter, start, stop: calls.balance(vectors.stored(parameter, start, stop), thresholds.value)


def disjoint_mean(tau: torch.Tensor, majority: int) -> torch.Tensor:
    """Mean of the entries that carry the elected sign, zeros not counted. tau (T, ...) -> (...)."""
    return mean_of_elected(tau, _sign_or_majority(tau, majority))


def disjoint_sum(tau: torch.Tensor, majority: int) -> torch.Tensor:
    """Sum of the entries that carry the elected sign. tau (T, ...) -> (...)."""
    sign = _sign_or_majority(tau, majority)
    return sign * torch.relu(tau * sign).sum(0)


def _sign_or_majority(tau: torch.Tensor, majority: int) -> torch.Tensor:
    sign = elected_sign(tau)
    return torch.where(sign == 0, torch.full_like(sign, majority), sign)


def combined(trimmed: torch.Tensor, election: Election, combine: str) -> torch.Tensor:
    """What agrees with the elected signs, by the hyperparameter `combine`. trimmed (T, ...) -> (...)."""
    return (disjoint_mean if combine == "mean" else disjoint_sum)(trimmed, election.majority)


def elected_rule(election: Election, combine: str) -> Rule:
    """The trim and `combined`, for the compiled kernels."""
    code = codes.MEAN_OF_ELECTED if combine == "mean" else codes.SUM_OF_ELECTED
    return Rule(code, election.thresholds.value, (election.majority,))


@register
class Ties(MergeMethod):
    """TIES. The trim is global over all parameters, as in the paper (mergekit trims each tensor by itself)."""

    name = "ties"
    title = "TIES"
    summary = "Drops small changes, lets the experts vote on a sign for every weight, and averages those who agree."
    citation = "Yadav et al., TIES-Merging, NeurIPS 2023, arXiv:2306.01708"
    hyperparameters = (
        trim_ratio_spec(
            "Share of every expert's changes that is dropped, the smallest first. The paper drops 0.8, keeping the "
            "largest fifth."
        ),
        Hyperparameter(
            name="combine",
            label="Combine agreeing experts by",
            kind="choice",
            default="mean",
            description="Experts whose change has the elected sign are averaged (mean) or added up (sum).",
            choices=("mean", "sum"),
        ),
        scale_spec(
            AUTO,
            "How much of the merged change is added to the base model. Auto is the published choice: 1 for the mean, "
            "0.3 for the sum.",
        ),
    )
    trims = "trim_ratio"
    by_rows = True

    def automatic(self, name: str, found: Mapping[str, float], known: Findings) -> Automatic:
        """1 for the mean, 0.3 for the sum."""
        return Automatic(1.0 if known.values["combine"] == "mean" else 0.3)

    def prepare(self, vectors: TaskVectors, values: Mapping[str, Any], seed: int, thresholds: Thresholds) -> Election:
        """The majority sign."""
        return hold_election(vectors, thresholds)

    def components(self, chunk: Chunk, run: Run[Election]) -> Components:
        """Trim, elect, combine."""
        trimmed = apply_trim(chunk.tau, run.prepared.thresholds)
        return {SCALE: combined(trimmed, run.prepared, run.values["combine"])}

    def rule(self, chunk: Chunk, run: Run[Election]) -> Rule:
        """The same."""
        return elected_rule(run.prepared, run.values["combine"])
