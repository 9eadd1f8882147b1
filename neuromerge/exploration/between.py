"""Between tasks: who pulls against whom, and what each keeps in the merge; from the sums of the first pass alone."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np

from neuromerge.engine.stages import Stages
from neuromerge.errors import SettingError, quoted
from neuromerge.exploration.results import BetweenTasks, PairPlace
from neuromerge.merging.measures import SUBSPACES, Moments, cosines, retention
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting


def between_tasks(stages: Stages, setting: Setting, layer: str, matrix: str, job: Job) -> BetweenTasks:
    """Conflict of every two tasks, and retention of each: see `Workspace.between_tasks`."""
    found = [cell for cell in stages.cells(setting, job) if layer in ("", cell.layer) and matrix in ("", cell.matrix)]
    if not found:
        raise SettingError(f"The family {setting.family} has no cell {quoted(layer)}, {quoted(matrix)}.")
    used = stages.coefficients(setting, job)
    parts = [
        (cell, subspace, part)
        for cell in found
        for subspace in SUBSPACES
        if (part := cell.part(subspace, used)) is not None
    ]
    pooled: dict[str, Moments] = {"both": reduce(add, (part for *_, part in parts))}
    for name in SUBSPACES:
        of_subspace = [part for _, subspace, part in parts if subspace == name]
        if of_subspace:
            pooled[name] = reduce(add, of_subspace)
    energies = np.diag(pooled["both"].gram)
    where = np.stack([part.gram for *_, part in parts]).argmin(0)
    count = len(setting.tasks)
    places = {}
    for a in range(count):
        for b in range(a + 1, count):
            cell, subspace, part = parts[where[a, b]]
            places[a, b] = PairPlace(cell.layer, cell.matrix, subspace, float(conflicts(part.gram)[a, b]))
    nothing, none = np.full((count, count), np.nan), np.full(count, np.nan)
    names = (*SUBSPACES, "both")
    return BetweenTasks(
        tasks=setting.tasks,
        layer=layer,
        matrix=matrix,
        conflict={name: conflicts(pooled[name].gram) if name in pooled else nothing for name in names},
        kept={name: retention(pooled[name]) if name in pooled else none for name in names},
        share=energies / energies.sum() if energies.sum() > 0 else none,
        places=places,
    )


def conflicts(gram: np.ndarray) -> np.ndarray:
    """(T, T) minus the cosine of every two tasks; NaN where one has no part, and on the diagonal."""
    found = -cosines(gram)
    np.fill_diagonal(found, np.nan)
    return found
