"""Entries counted around brackets by torch, for weights on an accelerator: what kernels do on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from neuromerge.merging.kernels.table import Counted


def count_around(
    values: torch.Tensor, lines: Sequence[int], brackets: Sequence[tuple[float, float]], wanted: Sequence[bool]
) -> list[Counted]:
    """Count some lines of values (m, n) around a bracket each (a line may come again); collect where `wanted`.

    Only counts, sums and what lies inside the brackets leave the device. `Counted.l1` is the sum of the values.
    """
    if not values.numel():
        return [Counted(0, 0, 0, 0.0, 0.0, -math.inf, np.empty(0, np.float32)) for _ in lines]
    chosen = values.index_select(0, torch.tensor(list(lines)).to(values.device))
    low, high = (torch.tensor([b[side] for b in brackets]).to(chosen).unsqueeze(1) for side in (0, 1))
    reached, above = chosen >= low, chosen > high
    # Numbers travel together: every question to the device waits for all that it has to do.
    sums = torch.stack([chosen.sum(1, dtype=torch.float64), (chosen * above).sum(1, dtype=torch.float64)])
    counts = torch.stack([reached.sum(1), above.sum(1)])
    most = chosen.amax(1)
    inside = reached.logical_and_(above.logical_not_()).logical_and_(torch.tensor(list(wanted)).to(above).unsqueeze(1))
    found = chosen[inside].cpu().numpy()
    (l1, l1_above), (counted, beyond), largest = sums.cpu().tolist(), counts.cpu().tolist(), most.cpu().tolist()
    result, start = [], 0
    for line, collects in enumerate(wanted):
        stop = start + (counted[line] - beyond[line] if collects else 0)
        result.append(
            Counted(
                chosen.shape[1], counted[line], beyond[line], l1[line], l1_above[line], largest[line], found[start:stop]
            )
        )
        start = stop
    return result
