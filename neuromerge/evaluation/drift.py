"""Drift: how far a network's features are from an expert's on the same pictures, block by block."""

from __future__ import annotations

import numpy as np


def drift(merged: np.ndarray, expert: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
