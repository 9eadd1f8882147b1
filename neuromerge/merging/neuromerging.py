"""NeuroMerging (Fang et al., EMNLP 2025, arXiv 2503.05320), by the closed form.

Per neuron: trim, split every task vector into the part along the base weights and the rest, elect and
average each, add them back with lambda_1 and lambda_2. `staged.merge_neurons` does the work; here it is put
behind the registry, so that it streams like every other method.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging import election
from neuromerge.merging.hyperparameters import AUTO, Hyperparameter
from neuromerge.merging.linear import LAMBDAS, AlongBase, Coefficients, Components, combine
from neuromerge.merging.method import (
    Automatic,
    BrokenTies,
    Findings,
    FirstPassHook,
    MergeMethod,
    MergeReport,
    Run,
    Variant,
)
from neuromerge.merging.registry import register
from neuromerge.merging.staged import PointwiseStatistics, Statistics, merge_neurons, rules_of
from neuromerge.merging.subspaces import Voted
from neuromerge.merging.trim import Thresholds, apply_trim
from neuromerge.merging.vectors import Chunk, TaskVectors
from neuromerge.merging.votes import (
    DEFAULT_RIDGE,
    LEVELS,
    RIDGE_RANGE,
    Balanced,
    Published,
    Vote,
    is_per_neuron,
    ridge_of,
)

AUTO_WARNING = 10.0
"""The automatic lambda_2 above which a user is warned: the trim ratio is close to 1."""
PARALLEL, ORTHOGONAL, POINTWISE = LAMBDAS["parallel"], LAMBDAS["orthogonal"], LAMBDAS["pointwise"]


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
class _Tally:
    """What the chunks of one run have left so far.

    Attributes:
        rules: parameter -> the rule of its orthogonal parts, where that is not `rule`.
        votes: parameter -> what its chunks left, until its ties are broken.
        counted: parameter -> (layer, its neurons, its ill-conditioned neurons); a second pass counts none twice.
    """

    rule: Vote
    rules: Mapping[str, Vote]
    votes: dict[str, list[_Votes]] = field(default_factory=dict)
    counted: dict[str, tuple[str, int, int]] = field(default_factory=dict)


def vote_of(values: Mapping[str, Any]) -> Vote:
    """The rule that merges orthogonal parts, from the method's hyperparameters."""
    level = values["vote_level"]
    return Balanced(values["ridge"], level) if values["vote"] == "balanced" else Published(level)


class _FromFirstPass:
    """Components from the first pass of interference, which merges neurons on its way: see `FirstPassHook`."""

    def vote(self, values: Mapping[str, Any]) -> Vote:
        """The rule that the hyperparameters ask for."""
        return vote_of(values)

    def components(self, statistics: Statistics, merged: torch.Tensor) -> Components:
        """P as c_bar, and O; or psi(tau) of a pointwise parameter."""
        if isinstance(statistics, PointwiseStatistics):
            return {POINTWISE: merged}
        return {PARALLEL: AlongBase(statistics.parallel_merged), ORTHOGONAL: merged}

    def products(self, statistics: Statistics) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        """O is sum_s alpha_s M_s, so <O, tau_t> = (G alpha)_t; P is c_bar w_0, and <w_0, tau_t> = c_t |w_0|^2."""
        if isinstance(statistics, PointwiseStatistics):
            return {POINTWISE: statistics.merged_dot.numpy()}, statistics.gram.diagonal().numpy()
        along = statistics.base_square.unsqueeze(1) * statistics.parallel
        squares = statistics.gram.diagonal(dim1=1, dim2=2) + along * statistics.parallel
        parallel = (along * statistics.parallel_merged.unsqueeze(1)).sum(0)
        orthogonal = torch.einsum("kts,ks->t", statistics.gram, statistics.alpha)
        return {PARALLEL: parallel.numpy(), ORTHOGONAL: orthogonal.numpy()}, squares.sum(0).numpy()

    def merge_chunk(
        self,
        chunk: Chunk,
        thresholds: Thresholds,
        statistics: Statistics,
        coefficients: Mapping[str, float],
        out: torch.Tensor,
    ) -> None:
        """w = (1 + lambda_1 c_bar - lambda_2 <alpha, c>) w_0 + lambda_2 sum_t alpha_t tau_t (METHOD, section 4)."""
        if isinstance(statistics, PointwiseStatistics):
            combine(chunk.base, {POINTWISE: election.psi(apply_trim(chunk.tau, thresholds))}, coefficients, out)
            return
        rows = slice(chunk.start, chunk.start + len(out))
        alpha, orthogonal = statistics.alpha[rows], coefficients[ORTHOGONAL]
        along = (alpha * statistics.parallel[rows]).sum(1)
        scale = 1.0 + coefficients[PARALLEL] * statistics.parallel_merged[rows] - orthogonal * along
        if chunk.rows is not None and out.dtype == chunk.rows.dtype:
            from neuromerge.merging.kernels import calls

            calls.write_neurons(chunk.rows, thresholds.value, scale, alpha * orthogonal, out)
            return
        base, tau = chunk.base, apply_trim(chunk.tau, thresholds)
        torch.mul(base, scale.to(base).unsqueeze(1), out=out)
        weights = (alpha * orthogonal).to(base)
        for task, vector in enumerate(tau):
            out.addcmul_(vector, weights[:, task].unsqueeze(1))


def _count(chunk: Chunk, run: Run[_Tally], parallel: torch.Tensor, sign: torch.Tensor, vote: Voted) -> None:
    """Keep what the layer needs to know of a chunk of neurons when it has voted."""
    tied = torch.nonzero((sign == 0) & (parallel != 0).any(1)).squeeze(1)
    ill_conditioned = int(vote.ill_conditioned.sum())
    votes = _Votes(len(parallel), ill_conditioned, float(sign.sum()), tied + chunk.start, parallel[tied])
    run.prepared.votes.setdefault(chunk.parameter.name, []).append(votes)


def _has_kernel(chunk: Chunk, rule: Vote) -> bool:
    return chunk.parameter.kind == "neurons" and is_per_neuron(rule)


def _fused(
    chunk: Chunk,
    run: Run[_Tally],
    rule: Vote,
    out: torch.Tensor,
    *,
    own: float,
    parallel: float,
    orthogonal: float,
    tells: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write own w_0 + parallel P + orthogonal O of neurons by a compiled kernel; gives c (k, T) and its signs (k,).

    `tells` the chunk's tally, if it has one.
    """
    from neuromerge.merging.kernels import calls

    assert chunk.rows is not None
    bounds, ridge = run.thresholds.value, ridge_of(rule)
    asked = calls.Found.of(bounds) if tells and chunk.tally is not None else None
    found = calls.merge_neurons(
        chunk.rows, bounds, ridge=ridge, own=own, parallel=parallel, orthogonal=orthogonal, out=out, found=asked
    )
    if asked is not None:
        chunk.tell(asked.products, asked.squares)
    _count(chunk, run, found.decomposition.parallel, found.sign, found.vote)
    return found.decomposition.parallel, found.sign


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
    coefficients: ClassVar[tuple[str, ...]] = (PARALLEL, ORTHOGONAL, POINTWISE)
    variants: ClassVar[tuple[Variant, ...]] = (
        Variant(
            "neuromerging_balanced",
            "NeuroMerging, balanced vote (ours)",
            {"vote": "balanced", "trim_ratio": 0.0},
            {"trim_ratio": (0.0, 0.4, 0.8), "lambda_orthogonal": (0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0)},
        ),
    )
    trims: ClassVar[str | None] = "trim_ratio"
    by_rows: ClassVar[bool] = True
    first_pass: ClassVar[FirstPassHook | None] = _FromFirstPass()
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
            grid=(0.7, 0.8, 0.9),
            description="Share of each task vector that is removed before merging: its smallest entries, "
            "over the whole model. 0.8 keeps the largest 20 %.",
        ),
        Hyperparameter(
            name="lambda_parallel",
            label="λ₁ (parallel)",
            kind="float",
            default=0.0,
            minimum=-100.0,
            maximum=100.0,
            step=0.01,
            slider=(-1.0, 3.0),
            grid=(0.0, 0.5, 1.0),
            auto=True,
            description="How much of the merged parallel part is added: it makes neurons more or less sensitive "
            "to what they already respond to. Auto is 0.",
        ),
        Hyperparameter(
            name="lambda_orthogonal",
            label="λ₂ (orthogonal)",
            kind="float",
            default=AUTO,
            minimum=-100.0,
            maximum=100.0,
            step=0.01,
            slider=(0.0, 5.0),
            grid=(0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0),
            auto=True,
            retention=True,
            description="How much of the merged orthogonal part is added: it turns neurons towards new inputs. "
            "Auto is 1 / (1 - sigma), which makes up for the magnitude that the trim removed, and 1 for the balanced "
            "vote. Retention is what keeps, on average, all of what the tasks learned (retention:0.85 keeps 85 %).",
        ),
        Hyperparameter(
            name="lambda_pointwise",
            label="λ of biases and norms",
            kind="float",
            default=AUTO,
            minimum=-100.0,
            maximum=100.0,
            step=0.01,
            slider=(0.0, 5.0),
            searched=False,
            auto=True,
            description="Coefficient of what has no neurons: biases, norms, class and position embeddings. "
            "Auto is λ₂ (orthogonal).",
        ),
        Hyperparameter(
            name="vote",
            label="Vote on orthogonal parts",
            kind="choice",
            default="published",
            choices=("published", "balanced"),
            searched=False,
            description="How the tasks' orthogonal parts are weighed. Published: the paper's election in every "
            "singular direction. Balanced (ours): so that every task finds its own part whole, without jumps.",
        ),
        Hyperparameter(
            name="ridge",
            label="Ridge of the balanced vote",
            kind="float",
            default=DEFAULT_RIDGE,
            minimum=RIDGE_RANGE[0],
            maximum=RIDGE_RANGE[1],
            step=0.01,
            slider=(0.01, 1.0),
            searched=False,
            description="How cautious the balanced vote is where tasks nearly coincide or cancel. The larger, the "
            "closer to a small plain sum.",
        ),
        Hyperparameter(
            name="vote_level",
            label="Who votes together",
            kind="choice",
            default="neuron",
            choices=LEVELS,
            searched=False,
            description="Every neuron by itself, or one vote for a whole matrix or for the whole model: to see what "
            "working per neuron buys.",
        ),
    )

    def prepare(self, vectors: TaskVectors, values: Mapping[str, Any], seed: int, thresholds: Thresholds) -> _Tally:
        """The votes of whole matrices, or of the model, where neurons do not vote by themselves."""
        rule = vote_of(values)
        return _Tally(rule, rules_of(vectors, thresholds, rule))

    def automatic(self, name: str, found: Mapping[str, float], known: Findings) -> Automatic:
        """lambda_1 = 0, lambda_2 = 1 / (1 - sigma), or 1 for the balanced vote, pointwise as lambda_2."""
        if name == PARALLEL:
            return Automatic(0.0)
        if name == POINTWISE:
            return Automatic(found[ORTHOGONAL])
        if known.values["vote"] == "balanced":
            return Automatic(1.0)
        thresholds = known.thresholds()
        value = thresholds.auto_lambda
        if value <= AUTO_WARNING:
            return Automatic(value)
        return Automatic(
            value,
            f"The automatic λ₂ is {value:.4g}: at trim ratio {thresholds.ratio:g} little is kept, and what is "
            "kept is scaled up by that much. Lower the trim ratio, or set λ₂ by hand.",
        )

    def components(self, chunk: Chunk, run: Run[_Tally]) -> Components:
        """P as a multiple of the base weights, and O, of a chunk of neurons; psi(tau) of a pointwise parameter."""
        rule = run.prepared.rules.get(chunk.parameter.name, run.prepared.rule)
        if chunk.rows is not None and _has_kernel(chunk, rule):
            orthogonal = torch.empty(chunk.rows.shape, dtype=chunk.rows.dtype)
            parallel, sign = _fused(chunk, run, rule, orthogonal, own=0.0, parallel=0.0, orthogonal=1.0)
        else:
            tau = apply_trim(chunk.tau, run.thresholds)
            if chunk.parameter.kind == "pointwise":
                return {POINTWISE: election.psi(tau)}
            merged, orthogonal = merge_neurons(chunk.base, tau, by=rule)
            parallel = merged.decomposition.parallel
            sign = election.elected_sign(parallel.T)
            _count(chunk, run, parallel, sign, merged.vote)
        return {PARALLEL: AlongBase(election.mean_of_elected(parallel.T, sign)), ORTHOGONAL: orthogonal}

    def merge_chunk(
        self,
        chunk: Chunk,
        run: Run[_Tally],
        coefficients: Mapping[str, float],
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """In one reading where a compiled kernel has the rows."""
        rule = run.prepared.rules.get(chunk.parameter.name, run.prepared.rule)
        if chunk.rows is None or not _has_kernel(chunk, rule):
            return super().merge_chunk(chunk, run, coefficients, out)
        fits = out is not None and out.dtype == chunk.rows.dtype
        target = out if out is not None and fits else torch.empty(chunk.rows.shape, dtype=chunk.rows.dtype)
        lambdas = coefficients[PARALLEL], coefficients[ORTHOGONAL]
        # Where weights are rounded on their way out, the tally is that of what is written.
        _fused(chunk, run, rule, target, own=1.0, parallel=lambdas[0], orthogonal=lambdas[1], tells=fits)
        return target if out is None or fits else out.copy_(target)

    def break_ties(self, parameter: Parameter, run: Run[_Tally]) -> BrokenTies | None:
        """Neurons whose parallel vote was tied take the sign of their layer's majority, or -1."""
        tally = run.prepared
        found = tally.votes.pop(parameter.name, [])
        if found:
            neurons, ill = (
                sum(counts) for counts in zip(*((c.neurons, c.ill_conditioned) for c in found), strict=True)
            )
            tally.counted[parameter.name] = parameter.layer, neurons, ill
        tied = torch.cat([chunk.tied for chunk in found]) if found else torch.empty(0)
        if not len(tied):
            return None
        votes = torch.cat([chunk.parallel for chunk in found]).T
        majority = sum(chunk.majority for chunk in found)
        sign = torch.full(votes.shape[1:], 1.0 if majority > 0 else -1.0).to(votes)
        return BrokenTies(PARALLEL, tied, election.mean_of_elected(votes, sign))

    def report(self, run: Run[_Tally], coefficients: Coefficients) -> MergeReport:
        """With the neurons decomposed, and those of each layer whose merge hangs on rounding."""
        counted = run.prepared.counted.values()
        ill_conditioned: Counter[str] = Counter()
        for layer, _, ill in counted:
            ill_conditioned[layer] += ill
        return replace(
            super().report(run, coefficients),
            neurons=sum(neurons for _, neurons, _ in counted),
            ill_conditioned_per_layer={layer: ill for layer, ill in ill_conditioned.items() if ill},
        )
