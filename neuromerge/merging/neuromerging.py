"""NeuroMerging (Fang et al., EMNLP 2025, arXiv 2503.05320), by the closed form.

Per neuron: trim, split every task vector into the part along the base weights and the rest, elect and
average each, add them back with lambda_1 and lambda_2. `staged.merge_neurons` does the work; here it is put
behind the registry, so that it streams like every other method.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging import election
from neuromerge.merging.registry import AUTO, Chunk, Hyperparameter, MergeMethod, Run, TaskVectors, register
from neuromerge.merging.staged import merge_neurons
from neuromerge.merging.trim import Thresholds, apply_trim, global_thresholds

AUTO_WARNING = 10.0
"""The automatic lambda_2 above which a user is warned: the trim ratio is close to 1."""


@dataclass(frozen=True)
class Coefficients:
    """lambda_1, lambda_2 and the coefficient of pointwise parameters, as numbers."""

    parallel: float
    orthogonal: float
    pointwise: float


def coefficients(values: Mapping[str, Any], thresholds: Thresholds) -> Coefficients:
    """Replace "auto" by its value: lambda_1 = 0, lambda_2 = 1 / (1 - sigma), pointwise = lambda_2.

    Warns (UserWarning) where the automatic lambda_2 exceeds 10.
    """
    parallel, orthogonal, pointwise = (
        values[name] for name in ("lambda_parallel", "lambda_orthogonal", "lambda_pointwise")
    )
    if orthogonal == AUTO:
        orthogonal = thresholds.auto_lambda
        if orthogonal > AUTO_WARNING:
            warnings.warn(
                f"The automatic lambda_2 is {orthogonal:.4g}: at trim ratio {thresholds.ratio:g} little is kept, and "
                "what is kept is scaled up by that much. Lower the trim ratio, or set lambda_orthogonal.",
                stacklevel=2,
            )
    return Coefficients(
        parallel=0.0 if parallel == AUTO else float(parallel),
        orthogonal=float(orthogonal),
        pointwise=float(orthogonal) if pointwise == AUTO else float(pointwise),
    )


@dataclass(frozen=True)
class _Votes:
    """What one chunk of neurons leaves for the time when its whole layer has voted.

    Attributes:
        neurons, ill_conditioned: numbers of neurons.
        majority: sum of the signs that the parallel votes elected.
        tied: (m,) the neurons whose parallel vote is tied, counted in the layer; `parallel`: (m, T) their c_t.
    """

    neurons: int
    ill_conditioned: int
    majority: float
    tied: torch.Tensor
    parallel: torch.Tensor


@dataclass
class _Election:
    thresholds: Thresholds
    coefficients: Coefficients
    task_names: tuple[str, ...]
    votes: dict[str, list[_Votes]] = field(default_factory=dict)
    ill_conditioned: Counter[str] = field(default_factory=Counter)
    neurons: int = 0


@register
class NeuroMerging(MergeMethod):
    """Merge the parallel and the orthogonal part of every neuron separately."""

    name: ClassVar[str] = "neuromerging"
    title: ClassVar[str] = "NeuroMerging"
    summary: ClassVar[str] = (
        "Splits each neuron's change into a part along its base weights and a part across them, "
        "and merges the two separately."
    )
    citation: ClassVar[str] = "Fang et al., EMNLP 2025, arXiv:2503.05320"
    by_rows: ClassVar[bool] = True
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]] = (
        Hyperparameter(
            name="trim_ratio",
            label="Trim ratio r",
            kind="float",
            default=0.8,
            minimum=0.0,
            maximum=1.0,
            exclusive_maximum=True,
            step=0.01,
            slider=(0.0, 0.99),
            description="Share of each task vector that is removed before merging: its smallest entries, "
            "over the whole model. 0.8 keeps the largest 20 %.",
        ),
        Hyperparameter(
            name="lambda_parallel",
            label="lambda_1 (parallel)",
            kind="float",
            default=0.0,
            minimum=-100.0,
            maximum=100.0,
            step=0.01,
            slider=(-1.0, 3.0),
            auto=True,
            description="How much of the merged parallel part is added: it makes neurons more or less sensitive "
            "to what they already respond to. Auto is 0.",
        ),
        Hyperparameter(
            name="lambda_orthogonal",
            label="lambda_2 (orthogonal)",
            kind="float",
            default=AUTO,
            minimum=-100.0,
            maximum=100.0,
            step=0.01,
            slider=(0.0, 5.0),
            auto=True,
            description="How much of the merged orthogonal part is added: it turns neurons towards new inputs. "
            "Auto is 1 / (1 - sigma), which makes up for the magnitude that the trim removed.",
        ),
        Hyperparameter(
            name="lambda_pointwise",
            label="lambda of biases and norms",
            kind="float",
            default=AUTO,
            minimum=-100.0,
            maximum=100.0,
            step=0.01,
            slider=(0.0, 5.0),
            auto=True,
            description="Coefficient of what has no neurons: biases, norms, class and position embeddings. "
            "Auto is lambda_2.",
        ),
    )

    def prepare(self, vectors: TaskVectors, values: Mapping[str, Any], seed: int) -> _Election:
        """The threshold passes, and the coefficients."""
        thresholds = global_thresholds(vectors, values["trim_ratio"])
        return _Election(thresholds, coefficients(values, thresholds), tuple(vectors.task_names))

    def merge_chunk(self, chunk: Chunk, run: Run[_Election]) -> torch.Tensor:
        """lambda_1 P + lambda_2 O of a chunk of neurons, or lambda psi(tau) of a pointwise parameter."""
        used, base = run.prepared.coefficients, chunk.base
        tau = apply_trim(chunk.tau, run.prepared.thresholds)
        if chunk.parameter.kind == "pointwise":
            return election.psi(tau).mul_(used.pointwise)
        merged, delta = merge_neurons(base, tau)
        delta.mul_(used.orthogonal)
        parallel = merged.decomposition.parallel
        sign = election.elected_sign(parallel.T)
        tied = torch.nonzero((sign == 0) & (parallel != 0).any(1)).squeeze(1)
        votes = _Votes(
            len(base), int(merged.vote.ill_conditioned.sum()), float(sign.sum()), tied + chunk.start, parallel[tied]
        )
        run.prepared.votes.setdefault(chunk.parameter.name, []).append(votes)
        if used.parallel != 0.0:
            scale = election.mean_of_elected(parallel.T, sign).mul_(used.parallel)
            delta.addcmul_(scale.to(base.dtype).unsqueeze(1), base)
        return delta

    def settle(self, parameter: Parameter, run: Run[_Election]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Neurons whose parallel vote was tied take the sign of their layer's majority, or -1."""
        prepared = run.prepared
        found = prepared.votes.pop(parameter.name, [])
        prepared.neurons += sum(chunk.neurons for chunk in found)
        ill = sum(chunk.ill_conditioned for chunk in found)
        if ill:
            prepared.ill_conditioned[parameter.layer] += ill
        tied = torch.cat([chunk.tied for chunk in found]) if found else torch.empty(0)
        if prepared.coefficients.parallel == 0.0 or not len(tied):
            return None
        votes = torch.cat([chunk.parallel for chunk in found]).T
        majority = sum(chunk.majority for chunk in found)
        sign = torch.full(votes.shape[1:], 1.0 if majority > 0 else -1.0).to(votes)
        return tied, election.mean_of_elected(votes, sign) * prepared.coefficients.parallel

    def report(self, run: Run[_Election]) -> dict[str, Any]:
        """sigma and kept share per task, the coefficients used, and the ill-conditioned neurons per layer."""
        prepared = run.prepared
        names, thresholds = prepared.task_names, prepared.thresholds
        return {
            "lambda_parallel": prepared.coefficients.parallel,
            "lambda_orthogonal": prepared.coefficients.orthogonal,
            "lambda_pointwise": prepared.coefficients.pointwise,
            "sigma": thresholds.sigma,
            "sigma_per_task": dict(zip(names, thresholds.removed_share.tolist(), strict=True)),
            "kept_share": dict(zip(names, thresholds.kept_share.tolist(), strict=True)),
            "ill_conditioned_per_layer": dict(prepared.ill_conditioned),
            "neurons": prepared.neurons,
        }
