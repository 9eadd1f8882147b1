"""Drift: how far a network's features are from each expert's on that expert's own pictures, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuromerge.checkpoints.checkpoint import load_checkpoint
from neuromerge.errors import SettingError, quoted
from neuromerge.evaluation.accuracy import family_of, open_checkpoint, samples_for
from neuromerge.evaluation.families import Family, get_family
from neuromerge.evaluation.samples import SPLITS, SampleSet, prepared
from neuromerge.evaluation.towers import VisionModel
from neuromerge.progress import UNATTENDED, Job

if TYPE_CHECKING:
    import pandas as pd


def drift(
    checkpoint: Any,
    tasks: Sequence[str] | None = None,
    split: str = "quick",
    family: Family | str | None = None,
    *,
    samples: Mapping[str, SampleSet | str | Path] | None = None,
    job: Job = UNATTENDED,
) -> pd.DataFrame:
    """Where a checkpoint, such as a merge, leaves the experts of its family: drift after every block, task by task.

    Args:
        checkpoint: as in `neuromerge.evaluate`.
        tasks: names of the tasks, None for all that have an expert.
        split: ``quick``, ``validation`` or ``test``.
        family: as in `neuromerge.evaluate`.
        samples: pictures of one's own for some tasks, as in `neuromerge.evaluate`.
        job: told how far it is; stops it.

    Returns:
        DataFrame with the columns block, task, drift, common, pictures: see `token_drift`.

    Raises the errors of `neuromerge.evaluate`, and SettingError for a task without an expert.
    """
    import pandas as pd

    if split not in SPLITS:
        raise SettingError(f"There is no split {quoted(split)}. Known: {', '.join(SPLITS)}.")
    opened = open_checkpoint(checkpoint)
    chosen = get_family(family) if isinstance(family, str) else family or family_of(opened)
    names = [tasks] if isinstance(tasks, str) else list(chosen.experts if tasks is None else tasks)
    for task in names:
        if task not in chosen.experts:
            raise SettingError(f"There is no expert of {quoted(task)}. Known: {', '.join(chosen.experts)}.")
    base = opened if chosen.is_source(opened.source) else load_checkpoint(chosen.base)
    model = VisionModel.from_checkpoint(opened, base=base)
    rows = []
    for number, (task, pictures) in enumerate(samples_for(chosen, names, split, samples).items()):
        expert = VisionModel.from_checkpoint(load_checkpoint(chosen.experts[task]), base=base)
        own, theirs = (
            network.encode_blocks(prepared(pictures, network.preprocessing))[1].numpy() for network in (model, expert)
        )
        for block, far, share in zip(model.block_layers, *token_drift(own, theirs), strict=True):
            rows.append((block, task, float(far), float(share), len(pictures)))
        job.report(number + 1, len(names), "experts")
    return pd.DataFrame(rows, columns=["block", "task", "drift", "common", "pictures"])


def token_drift(merged: np.ndarray, expert: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drift of class tokens after every block, and the share of it that is common to all pictures.

    Drift is the mean over pictures of 1 - cosine: 0 is the expert's own direction, 1 at a right angle, 2 opposite. The
    common share is |mean difference|^2 / mean |difference|^2, in [0, 1]: 1 is the same shift on every picture; n
    differences without anything in common give about 1/n.

    Args:
        merged, expert: (pictures, blocks, width), of the same pictures.

    Returns:
        (blocks,) drift and (blocks,) common share, float64; NaN without pictures, and the share where nothing differs.
    """
    a, b = np.asarray(merged, np.float64), np.asarray(expert, np.float64)
    if not len(a):
        return np.full(a.shape[1], np.nan), np.full(a.shape[1], np.nan)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.divide((a * b).sum(-1), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    difference = a - b
    common = np.square(difference.mean(0)).sum(-1)
    whole = np.square(difference).sum(-1).mean(0)
    share = np.divide(common, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return np.clip(1.0 - cosine, 0.0, 2.0).mean(0), share
