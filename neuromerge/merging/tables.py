"""Interference as tidy tables: what `neuromerge.interference` and `neuromerge.task_cosines` return."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuromerge.checkpoints.align import Aligned, Towers, Vocabulary
from neuromerge.checkpoints.notices import notices
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
    towers: Towers = "vision",
    vocabulary: Vocabulary = "equal",
    job: Job = UNATTENDED,
) -> pd.DataFrame:
    """Tidy table of every measure of interference, for every layer, matrix and subspace.

    Args:
        base, tasks: as in `neuromerge.merge`.
        trim_ratio: r in [0, 1).
        lambda_parallel, lambda_orthogonal, lambda_pointwise, profile: for the measures that move with them.
        task_weights, towers, vocabulary: as in `neuromerge.merge`.

    Returns:
        DataFrame with the columns layer, matrix, subspace, measure, value. NaN is "not applicable". Beside the
        mean, `retention` has a row per task, named ``retention:<task>``. Its `attrs` hold ``warnings``: sentences
        about checkpoints and coefficients that the user should see; they are warned of as well.

    Raises the errors of `neuromerge.merge`.
    """
    import pandas as pd

    lambdas = {
        "lambda_parallel": lambda_parallel,
        "lambda_orthogonal": lambda_orthogonal,
        "lambda_pointwise": lambda_pointwise,
    }
    matched = aligned_sources(base, tasks, towers, vocabulary)
    first, used = _first_pass(matched, {"trim_ratio": trim_ratio, **lambdas}, profile, task_weights, device, job)
    columns = ["layer", "matrix", "subspace", "measure", "value"]
    return _told(pd.DataFrame(list(_rows(first, used)), columns=columns), matched, used)


def task_cosines(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    trim_ratio: float = 0.8,
    *,
    device: str = "cpu",
    towers: Towers = "vision",
    vocabulary: Vocabulary = "equal",
    job: Job = UNATTENDED,
) -> pd.DataFrame:
    """Pairwise cosines between tasks per layer, matrix and subspace.

    Arguments as in `interference`.

    Returns:
        DataFrame with the columns layer, matrix, subspace, task_a, task_b, value; every unordered pair once. `attrs`
        as in `interference`.
    """
    import pandas as pd

    matched = aligned_sources(base, tasks, towers, vocabulary)
    first, used = _first_pass(matched, {"trim_ratio": trim_ratio}, None, None, device, job)
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
    table = pd.DataFrame(rows, columns=["layer", "matrix", "subspace", "task_a", "task_b", "value"])
    return _told(table, matched, used)


def _told(table: pd.DataFrame, aligned: Aligned, used: Coefficients) -> pd.DataFrame:
    """The table with what the user should see, which is warned of where the public function was called."""
    table.attrs["warnings"] = [*notices(aligned), *used.warnings]
    for sentence in table.attrs["warnings"]:
        warnings.warn(sentence, stacklevel=3)
    return table


def _first_pass(
    aligned: Aligned,
    given: Mapping[str, Any],
    profile: Mapping[str, Any] | Profile | None,
    task_weights: Mapping[str, float] | Sequence[float] | None,
    device: str,
    job: Job,
) -> tuple[FirstPass, Coefficients]:
    method = NeuroMerging()
    values, shape = check_values(method, given), make_profile(profile)
    vectors = AlignedVectors(aligned, device, make_task_weights(task_weights, aligned.task_names))
    reached = factors(shape, vectors.parameters, method.component_names)
    thresholds = global_thresholds(vectors, method.trim_ratio(values), job)
    used = method.resolve(Findings(values, lambda: thresholds, reached))
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
