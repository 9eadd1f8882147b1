"""Accuracy over two coefficients, on this family's own pictures."""

from __future__ import annotations

from collections.abc import Iterator

from neuromerge.engine.engine import FamilyEngine
from neuromerge.errors import SettingError
from neuromerge.exploration import scores
from neuromerge.progress import Job
from neuromerge.search.landscape import Landscape, grow
from neuromerge.settings.setting import Setting


def landscape(
    engine: FamilyEngine, setting: Setting, x_name: str, y_name: str, points: tuple[int, int], split: str, job: Job
) -> Iterator[Landscape]:
    """Mean accuracy of the merged tasks, growing from coarse to fine: see `Workspace.landscape`.

    The few quick pictures of a large family are where its map begins, and more of them decide where it is high.
    """
    if split not in ("quick", "validation"):
        raise SettingError("A landscape is measured on quick or validation pictures, never on the test split.")
    models = engine.models
    tasks = scores.measurable(models, setting, "validation")
    pictures = sum(len(models.samples(task, "validation")) for task in tasks)
    quick = max(len(models.samples(task, "quick")) for task in tasks)
    is_large = pictures > models.pictures_at_once
    yield from grow(
        scores.objective(models, setting, "validation" if is_large else split, first=quick),
        setting,
        x_name,
        y_name,
        points=points,
        in_use=engine.stages.coefficients(setting, job).values,
        family=models.family,
        job=job,
    )
