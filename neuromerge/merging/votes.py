"""Rules that say how much of every task's orthogonal part a merge takes, from their Gram matrix alone.

The published rule (`subspaces.orthogonal_vote`) elects a sign in every singular direction. It jumps: the smallest
overlap between two parts lets one vote in the other's direction and halves it. The balanced rule asks for a merge in
which every task finds its own part whole instead. With M the parts as rows, G = M M^T and O = sum_t alpha_t M_t the
merge, <O, M_t> = |M_t|^2 for all t reads G alpha = diag(G). A ridge keeps the answer safe where parts nearly coincide
or cancel:

    alpha = (G + ridge * mean(diag G) * I)^-1 diag(G)

Orthogonal parts are added whole, T identical ones are averaged, opposed ones cancel. The rule is ours, not the
paper's.

A rule is applied neuron by neuron, or once to the Gram matrices added up over a matrix or over the whole model: the
coarser rules show what working per neuron buys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch

from neuromerge.merging.subspaces import Voted, orthogonal_vote

DEFAULT_RIDGE = 0.1
RIDGE_RANGE = (1e-3, 10.0)

Level = Literal["neuron", "matrix", "model"]
"""What votes together: each neuron by itself, all of a matrix, or all of the model."""
LEVELS: tuple[Level, ...] = get_args(Level)


class Vote(Protocol):
    """A rule that merges orthogonal parts by their Gram matrices (k, T, T); hashable, equal for equal settings."""

    @property
    def level(self) -> Level:
        """What votes together."""
        ...

    def __call__(self, gram: torch.Tensor) -> Voted:
        """How each of the k merges its parts."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """The paper's vote: elect and average in every singular direction."""

    level: Level = "neuron"

    def __call__(self, gram: torch.Tensor) -> Voted:
        """See `subspaces.orthogonal_vote`."""
        return orthogonal_vote(gram)


@dataclass(frozen=True, slots=True)
class Balanced:
    """The balanced vote: every task finds its own part whole, as far as the ridge allows."""

    ridge: float = DEFAULT_RIDGE
    level: Level = "neuron"

    def __call__(self, gram: torch.Tensor) -> Voted:
        """See `balanced_vote`. It elects nothing and so has no margin; it is continuous: nothing hangs on rounding."""
        alpha = balanced_vote(gram, self.ridge).cpu()
        none = torch.zeros(len(alpha), dtype=torch.float64)
        return Voted(alpha, margin=none, weight=none, ill_conditioned=none.bool())


PUBLISHED = Published()


@dataclass(frozen=True)
class Shared:
    """What a coarser vote has decided, for every neuron that it holds for."""

    voted: Voted
    level: Level

    def __call__(self, gram: torch.Tensor) -> Voted:
        """The same for each of the k."""
        count = len(gram)
        return Voted(
            self.voted.alpha.expand(count, -1),
            self.voted.margin.expand(count) / count,
            self.voted.weight.expand(count) / count,
            self.voted.ill_conditioned.expand(count),
        )


def shared_votes(rule: Vote, grams: Iterable[tuple[str, torch.Tensor]]) -> Mapping[str, Shared]:
    """What a coarser rule decides: parameter -> the vote of all its neurons.

    Args:
        rule: one whose level is not ``neuron``.
        grams: of every linear map, its name and the sum of its neurons' Gram matrices (T, T).
    """
    sums = dict(grams)
    if rule.level == "model" and sums:
        together = Shared(rule(sum(sums.values(), torch.zeros(())).unsqueeze(0)), rule.level)
        return dict.fromkeys(sums, together)
    return {name: Shared(rule(gram.unsqueeze(0)), rule.level) for name, gram in sums.items()}


def is_per_neuron(rule: Vote) -> bool:
    """Whether every neuron votes by itself, so that a compiled kernel does it on its way past the weights."""
    return isinstance(rule, Published | Balanced) and rule.level == "neuron"


def ridge_of(rule: Vote) -> float | None:
    """The ridge of a balanced vote; None of the published one."""
    return rule.ridge if isinstance(rule, Balanced) else None


def balanced_vote(gram: torch.Tensor, ridge: float = DEFAULT_RIDGE) -> torch.Tensor:
    """The coefficients alpha (..., T) of the parts whose Gram matrices are `gram` (..., T, T).

    Equal-norm orthogonal parts get 1 / (1 + ridge), T identical ones 1 / (T + ridge). No part, no coefficient: alpha
    is 0 where a task has none. Computed in float64; alpha does not change when all parts are scaled together.

    Args:
        gram: inner products of the parts: of one neuron each, or summed over a matrix or the whole model.
        ridge: above 0, `RIDGE_RANGE` is sensible. The larger, the closer the merge is to a small plain sum.
    """
    gram = gram.double()
    energy = torch.diagonal(gram, dim1=-2, dim2=-1)
    mean = energy.mean(-1, keepdim=True)
    # Relative to the mean energy, so that neither tiny nor huge parts leave the range of float64.
    scale = torch.where(mean > 0, mean, 1.0)
    system = gram / scale.unsqueeze(-1)
    torch.diagonal(system, dim1=-2, dim2=-1).add_(ridge)
    factor = torch.linalg.cholesky(system)
    return torch.cholesky_solve((energy / scale).unsqueeze(-1), factor).squeeze(-1)
