"""The measures of interference as the menu explains them: one plain sentence, the formula, the range.

Notation of the formulas: the sum over ``t`` runs over the merged tasks, ``s`` is the subspace (parallel or
orthogonal), all norms and inner products are taken over one cell (every neuron of one matrix of one layer),
and ``\\tau_{s,t}`` is what the trim has left of task t's vector there.
"""

from __future__ import annotations

from neuromerge.errors import SettingError
from neuromerge.exploration.results import MeasureInfo

MEASURES: tuple[MeasureInfo, ...] = (
    MeasureInfo(
        key="retention",
        title="Retention",
        sentence="How much of its own change each task finds again in the merge, averaged over tasks: "
        "1 is all of it, 0 none, below 0 the opposite.",
        formula=r"\frac{1}{T}\sum_t \lambda_s\,\frac{\langle \Delta_s, \tau_{s,t}\rangle}{\lVert\tau_{s,t}\rVert^2}",
        low=0.0,
        high=None,
        signed=True,
        moves_with_lambda=True,
    ),
    MeasureInfo(
        key="applied_change",
        title="Applied change",
        sentence="How far the merge moves the weights here, as a share of the base weights' own length.",
        formula=r"\frac{|\lambda_s|\,\lVert\Delta_s\rVert}{\lVert w_0\rVert}",
        low=0.0,
        high=None,
        signed=False,
        moves_with_lambda=True,
    ),
    MeasureInfo(
        key="energy_share",
        title="Energy share",
        sentence="Which share of all the change that the tasks ask for lies in this subspace.",
        formula=r"\frac{\sum_t \lVert\tau_{s,t}\rVert^2}{\sum_t \lVert\tau_t\rVert^2}",
        low=0.0,
        high=1.0,
        signed=False,
        moves_with_lambda=False,
    ),
    MeasureInfo(
        key="cancellation",
        title="Cancellation",
        sentence="How much the tasks cancel when they are simply added: 0 when all agree, 1 when nothing is left; "
        "independent tasks of equal size give 1 − 1/√T.",
        formula=r"1-\frac{\lVert\sum_t \tau_{s,t}\rVert}{\sum_t \lVert\tau_{s,t}\rVert}",
        low=0.0,
        high=1.0,
        signed=False,
        moves_with_lambda=False,
    ),
    MeasureInfo(
        key="cosine",
        title="Mean cosine",
        sentence="Whether the tasks pull the same way (1), independently (0) or against each other (below 0), "
        "averaged over pairs.",
        formula=r"\frac{2}{T(T-1)}\sum_{t<u}\frac{\langle\tau_{s,t},\tau_{s,u}\rangle}"
        r"{\lVert\tau_{s,t}\rVert\,\lVert\tau_{s,u}\rVert}",
        low=-1.0,
        high=1.0,
        signed=True,
        moves_with_lambda=False,
    ),
    MeasureInfo(
        key="sign_conflict",
        title="Sign conflict",
        sentence="Of the coordinates that at least two tasks change, the share in which they disagree about the sign.",
        formula=r"\frac{\#\{i:\ \exists\,t,u:\ \tau_{s,t,i}>0>\tau_{s,u,i}\}}"
        r"{\#\{i:\ \text{at least two } \tau_{t,i}\neq 0\}}",
        low=0.0,
        high=1.0,
        signed=False,
        moves_with_lambda=False,
    ),
    MeasureInfo(
        key="election_margin",
        title="Election margin",
        sentence="How clear the vote between the tasks was: 1 when they all agree, 0 when both sides weigh the same.",
        formula=r"\frac{\bigl|\sum_{\text{kept}} a_t\bigr|-\bigl|\sum_{\text{dropped}} a_t\bigr|}{\sum_t |a_t|}",
        low=0.0,
        high=1.0,
        signed=False,
        moves_with_lambda=False,
    ),
)


def measure(key: str) -> MeasureInfo:
    """The measure called `key`. Raises SettingError listing the known ones."""
    for info in MEASURES:
        if info.key == key:
            return info
    raise SettingError(f"There is no measure {key!r}. Known: {', '.join(info.key for info in MEASURES)}.")
