"""Heatmaps: one measure of interference over layers and matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuromerge.engine.stages import Stages
from neuromerge.exploration.results import Heatmap
from neuromerge.merging import registry
from neuromerge.merging.linear import Coefficients, Part
from neuromerge.merging.measures import Cell, Measure, get_measure
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

COLUMNS = ("q", "k", "v", "out", "fc1", "fc2", "gate", "patch", "projection", "embedding", "norm", "bias", "other")
"""Matrices in the order in which they are drawn."""


def heatmap(stages: Stages, setting: Setting, key: str, job: Job) -> Heatmap:
    """One measure over layers and matrices, in both subspaces. Reads no weights once the first pass is there."""
    measure = get_measure(key)
    cells = stages.cells(setting, job, count_signs=measure.counts_signs)
    used = stages.coefficients(setting, job)
    rows = tuple(dict.fromkeys(cell.layer for cell in cells))
    present = {cell.matrix for cell in cells}
    columns = tuple(name for name in COLUMNS if name in present)
    parallel, orthogonal = (np.full((len(rows), len(columns)), np.nan) for _ in range(2))
    for cell in cells:
        place = rows.index(cell.layer), columns.index(cell.matrix)
        parallel[place] = measure.of(cell, "parallel", used)
        orthogonal[place] = measure.of(cell, "orthogonal", used)
    return Heatmap(
        measure=measure,
        rows=rows,
        columns=columns,
        parallel=parallel,
        orthogonal=orthogonal,
        note_parallel=_note(setting, measure, "parallel", used, cells),
        note_orthogonal=_note(setting, measure, "orthogonal", used, cells),
        factors=_factors(used, cells, rows, columns),
    )


def _factors(
    used: Coefficients, cells: Sequence[Cell], rows: Sequence[str], columns: Sequence[str]
) -> dict[Part, np.ndarray]:
    """What the profile makes of each part's coefficient: (rows, columns), NaN where a cell has no such part."""
    found: dict[Part, np.ndarray] = {}
    for cell in cells:
        here = used.factors.get((cell.layer, cell.matrix), {})
        for part in cell.parts:
            factors = found.setdefault(part, np.full((len(rows), len(columns)), np.nan))
            factors[rows.index(cell.layer), columns.index(cell.matrix)] = here.get(used.name_of(part), 1.0)
    return found


def _note(setting: Setting, measure: Measure, part: Part, used: Coefficients, cells: Sequence[Cell]) -> str:
    """Why one panel of a heatmap is flat; empty where it is not."""
    if len(setting.tasks) == 1 and measure.one_task:
        return measure.one_task
    if not measure.moves_with_lambda or any(used.of(part, cell) != 0.0 for cell in cells):
        return ""
    name = used.name_of(part)
    if used.values.get(name, 1.0) != 0.0:
        return f"All 0 because the profile is 0 everywhere: the merge takes nothing of the {part} part."
    label = next(spec.label for spec in registry.get_method(setting.method).hyperparameters if spec.name == name)
    return f"All 0 because {label} is 0: the merge takes nothing of the {part} part."
