"""Drift: where the merged network leaves its experts, from the passes that the quick accuracy makes anyway."""

from __future__ import annotations

import numpy as np

from neuromerge.engine.contents import Contents
from neuromerge.engine.models import Models
from neuromerge.evaluation.features import token_drift
from neuromerge.exploration.results import Drift
from neuromerge.exploration.scores import measurable
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

SPLIT = "quick"


def drift(models: Models, setting: Setting, job: Job) -> Drift:
    """Drift of every block and merged task: see `Workspace.drift`."""
    tasks = measurable(models, setting, SPLIT)
    merged = models.class_tokens(Contents(setting=setting), tasks, SPLIT, job)
    found = []
    for task in tasks:
        expert = models.class_tokens(Contents(task=task), (task,), SPLIT, job)[task]
        found.append(token_drift(merged[task].numpy(), expert.numpy()))
    return Drift(
        tasks=tasks,
        blocks=models.vision.block_layers,
        drift=np.stack([far for far, _ in found], axis=1),
        common=np.stack([share for _, share in found], axis=1),
        pictures=tuple(len(merged[task]) for task in tasks),
        unmeasured=models.without_pictures([task for task in setting.tasks if task in models.family.tasks], SPLIT),
    )
