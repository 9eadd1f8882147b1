"""Entries counted around brackets by torch, for weights on an accelerator: what kernels do on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from neuromerge.merging.kernels.table import Counted


def count_around(
    values: torch.Tensor, lines: Sequence[int], brackets: Sequence[tuple[float, float]], wanted: Sequence[bool]
) -> list[Counted]:
    """Count some lines of values (m, n) around a bracket each (a line may come again); collect where `wanted`.

    Only counts, sums and what lies inside the brackets leave the device. `Counted.l1` is the sum of the values.
    """
    return [
        _around(values[line], low, high, collects)
        for line, (low, high), collects in zip(lines, brackets, wanted, strict=True)
    ]


def _around(values: torch.Tensor, low: float, high: float, collects: bool) -> Counted:
    reached, above = values >= low, values > high
    parts = values.sum(dtype=torch.float64), (values * above).sum(dtype=torch.float64), values.max().double()
    l1, l1_above, most = torch.stack(parts).cpu().tolist()
    inside, beyond = torch.stack([reached.sum(), above.sum()]).cpu().tolist()
    found = values[reached & ~above] if collects else values[:0]
    return Counted(values.numel(), inside, beyond, l1, l1_above, most, found.cpu().numpy())
