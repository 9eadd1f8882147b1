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
    """Mean accuracy of the merged tasks, growing from coarse to fine: see `Workspace.landscape`."""
    if split not in ("quick", "validation"):
        raise SettingError("A landscape is measured on quick or validation pictures, never on the test split.")
    models = engine.models
    tasks = scores.measurable(models, setting, split)
    yield from grow(
        lambda setting, job: scores.merged_scores(models, setting, split, job),
        setting,
        x_name,
        y_name,
        points=points,
        in_use=engine.stages.coefficients(setting, job).values,
        images=sum(len(models.samples(task, split)) for task in tasks),
        family=models.family,
        job=job,
    )
