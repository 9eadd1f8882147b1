"""A neuron in the coordinates of its own decomposition: along w_0, and along each singular direction v_r."""

from __future__ import annotations

import numpy as np

from neuromerge.exploration.results import NeuronDetail


def outside_plane(detail: NeuronDetail, direction: int) -> np.ndarray:
    """Share (T,) of each task vector's squared length outside the plane of w_0 and v_direction; NaN for tau = 0."""
    along = detail.scores[:, direction] ** 2 if detail.scores.shape[1] else 0.0
    inside = (detail.c * detail.base_norm) ** 2 + along
    whole = detail.tau_norm**2
    share = 1 - np.divide(inside, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return np.clip(share, 0, 1)


def merged_change(detail: NeuronDetail) -> tuple[float, np.ndarray]:
    """The merge's step in the neuron's own coordinates: (along w_0 in units of |w_0|, along each v_r (R,)).

    The orthogonal part is lambda_2 sum_t alpha_t times the task's scores; of a method without a vote it is known as
    it is.
    """
    if detail.change is not None:
        return detail.change
    return detail.lambda_parallel * detail.c_merged, detail.lambda_orthogonal * (detail.alpha @ detail.scores)


def energy_shares(detail: NeuronDetail) -> np.ndarray:
    """Share (R,) of the orthogonal parts' energy that each direction holds."""
    return detail.singular**2 / max(float((detail.singular**2).sum()), 1e-300)
