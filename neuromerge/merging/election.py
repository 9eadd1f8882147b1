"""Elect a sign, then average those who voted for it: the function psi of the paper (METHOD, section 3)."""

from __future__ import annotations

import torch

TIE_RELATIVE = 1e-6
"""In the orthogonal part a direction whose |sum| is at most this share of the sum of magnitudes is tied."""


def elected_sign(votes: torch.Tensor) -> torch.Tensor:
    """Sign of the sum over tasks; 0 where the vote is tied. votes (T, ...) -> (...)."""
    return torch.sign(votes.sum(0))


def resolve_ties(sign: torch.Tensor) -> torch.Tensor:
    """Give tied coordinates the majority's sign: sign of the sum of all elected signs of the group, or -1.

    sign: any shape, one group; entries in {-1, 0, 1}.
    """
    majority = torch.sign(sign.sum())
    fallback = torch.where(majority == 0, -torch.ones_like(majority), majority)
    return torch.where(sign == 0, fallback, sign)


def mean_of_elected(votes: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    """Mean of the votes that carry the elected sign; 0 where none does.

    votes (T, ...), sign (...) in {-1, 0, 1} -> (...). A sign of 0 gives 0.
    """
    # relu keeps what agrees with the sign; the count needs only to know what stayed above zero.
    agreeing = torch.relu(votes * sign)
    count = (agreeing > 0).sum(0).clamp_(min=1)
    return sign * agreeing.sum(0) / count


def psi(votes: torch.Tensor) -> torch.Tensor:
    """Elect and mean over tasks, ties broken by the majority of the group. votes (T, ...) -> (...).

    All coordinates after the task axis are one group (METHOD, section 3).
    """
    return mean_of_elected(votes, resolve_ties(elected_sign(votes)))


def margin(votes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How contested a vote was: (|sum of kept| - |sum of dropped|, sum of all magnitudes), each (...).

    The quotient is the election margin: 1 unanimous, 0 tied.
    """
    return votes.sum(0).abs(), votes.abs().sum(0)
