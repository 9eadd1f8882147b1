"""Interference as tidy tables: what `neuromerge.interference` and `neuromerge.task_cosines` return."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuromerge.merging.linear import Coefficients
from neuromerge.merging.measures import SUBSPACES, cells, cosines, measures, retention
from neuromerge.merging.method import Findings
from neuromerge.merging.neuromerging import NeuroMerging
from neuromerge.merging.profile import Profile, factors, make_profile, make_task_weights
from neuromerge.merging.registry import check_values
from neuromerge.merging.staged import FirstPass, first_pass
from neuromerge.merging.streaming import Source, aligned_sources
from neuromerge.merging.trim import global_thresholds
from neuromerge.merging.vectors import AlignedVectors
from neuromerge.progress import UNATTENDED, Job

if TYPE_CHECKING:
    import pandas as pd


def interference(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    trim_ratio: float = 0.8,
    *,
    lambda_parallel: float | str = 0.0,
    lambda_orthogonal: float | str = "auto",
    lambda_pointwise: float | str = "auto",
    profile: Mapping[str, Any] | Profile | None = None,
    task_weights: Mapping[str, float] | Sequence[float] | None = None,
    device: str = "cpu",
    job: Job = UNATTENDED,
) -> pd.DataFrame:
    """Tidy table of every measure of interference, for every layer, matrix and subspace.

    Args:
        base, tasks: as in `neuromerge.merge`.
        trim_ratio: r in [0, 1).
        lambda_parallel, lambda_orthogonal, lambda_pointwise, profile: for the measures that move with them.
        task_weights: as in `neuromerge.merge`.

    Returns:
        DataFrame with the columns layer, matrix, subspace, measure, value. NaN is "not applicable". Beside the
        mean, `retention` has a row per task, named ``retention:<task>``.

    Raises the errors of `neuromerge.merge`.
    """
    import pandas as pd

    lambdas = {
        "lambda_parallel": lambda_parallel,
        "lambda_orthogonal": lambda_orthogonal,
        "lambda_pointwise": lambda_pointwise,
    }
    first, used = _first_pass(base, tasks, {"trim_ratio": trim_ratio, **lambdas}, profile, task_weights, device, job)
    columns = ["layer", "matrix", "subspace", "measure", "value"]
    return pd.DataFrame(list(_rows(first, used)), columns=columns)


def task_cosines(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    trim_ratio: float = 0.8,
    *,
    device: str = "cpu",
    job: Job = UNATTENDED,
) -> pd.DataFrame:
    """Pairwise cosines between tasks per layer, matrix and subspace.

    Returns:
        DataFrame with the columns layer, matrix, subspace, task_a, task_b, value; every unordered pair once.
    """
    import pandas as pd

    first, used = _first_pass(base, tasks, {"trim_ratio": trim_ratio}, None, None, device, job)
    rows = []
    for cell in cells(first):
        for subspace in SUBSPACES:
            part = cell.part(subspace, used)
            if part is None:
                continue
            matrix = cosines(part.gram)
            for a, name_a in enumerate(first.task_names):
                for b in range(a + 1, len(first.task_names)):
                    rows.append((cell.layer, cell.matrix, subspace, name_a, first.task_names[b], float(matrix[a, b])))
    return pd.DataFrame(rows, columns=["layer", "matrix", "subspace", "task_a", "task_b", "value"])


def _first_pass(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    given: Mapping[str, Any],
    profile: Mapping[str, Any] | Profile | None,
    task_weights: Mapping[str, float] | Sequence[float] | None,
    device: str,
    job: Job,
) -> tuple[FirstPass, Coefficients]:
    method = NeuroMerging()
    values, shape = check_values(method, given), make_profile(profile)
    aligned = aligned_sources(base, tasks)
    vectors = AlignedVectors(aligned, device, make_task_weights(task_weights, aligned.task_names))
    reached = factors(shape, vectors.parameters, method.component_names)
    thresholds = global_thresholds(vectors, method.trim_ratio(values), job)
    used = method.resolve(Findings(values, lambda: thresholds, reached))
    for sentence in used.warnings:
        warnings.warn(sentence, stacklevel=3)
    return first_pass(vectors, thresholds, keep_parts=False, job=job), used


def _rows(first: FirstPass, used: Coefficients) -> Iterator[tuple[str, str, str, str, float]]:
    for cell in cells(first):
        for subspace in SUBSPACES:
            for measure in measures():
                yield cell.layer, cell.matrix, subspace, measure.key, measure.of(cell, subspace, used)
            part = cell.part(subspace, used)
            if part is not None:
                for task, value in zip(first.task_names, retention(part), strict=True):
                    yield cell.layer, cell.matrix, subspace, f"retention:{task}", float(value)
