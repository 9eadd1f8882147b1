"""Every kernel on a few numbers: compiles it, or loads what is compiled."""

from __future__ import annotations

import numpy as np
import torch

from neuromerge.merging.kernels import calls, codes
from neuromerge.merging.kernels.rules import Rule
from neuromerge.merging.kernels.table import Rows

_TASKS, _NEURONS, _INPUTS = 2, 2, 8


def warm(dtype: torch.dtype) -> None:
    """Call every function of `calls` in a working dtype, the ones that a page asks for first at the beginning."""
    numbers = torch.linspace(-1.0, 1.0, (_TASKS + 1) * _NEURONS * _INPUTS, dtype=dtype)
    base, *tasks = numbers.view(_TASKS + 1, _NEURONS, _INPUTS).unbind()
    rows = Rows(base, tuple(tasks), True, dtype)
    bounds, out = torch.full((_TASKS,), 0.1), torch.empty_like(base)
    calls.sample(rows, np.zeros((1, 2), dtype=np.int64), 4)
    calls.count_magnitudes(rows, range(_TASKS), [(0.1, 0.2)] * _TASKS, [True] * _TASKS)
    found = calls.merge_neurons(rows, bounds, out=out, found=calls.Found.of(bounds))
    calls.write_neurons(rows, bounds, found.vote.margin, found.vote.alpha, out)
    calls.combine(rows, Rule(codes.SUM, drops=torch.ones(_TASKS, _NEURONS, _INPUTS, dtype=torch.bool)), out=out)
    calls.balance(rows, bounds)
    calls.inner_products(rows, bounds, out)
    calls.published_votes(found.decomposition.gram)
    calls.balanced_votes(found.decomposition.gram, 0.1)
    calls.random_at_least(0, 0.5, torch.empty(4, dtype=torch.bool))
    calls.count_scores(rows, torch.tensor([[0.1] * _TASKS, [0.9] * _TASKS]), [(0.1, 0.2)] * _TASKS, [True] * _TASKS)
