"""What the workspace returns and the figures draw: plain, immutable data, no models, no widgets.

Shares and accuracies are in [0, 1]; the interface turns them into percent. Arrays are numpy, float32 or
float64; NaN means "not applicable".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from neuromerge.engine.accuracy import Accuracy as Accuracy
from neuromerge.merging.linear import Part
from neuromerge.merging.measures import Measure, Subspace

SORTS = ("contested", "strength", "index")
"""Orders of the neurons of a layer."""
GALLERY_FILTERS = ("all", "merge_wrong", "expert_wrong")
"""All pictures; those where the merge is wrong and the expert right; and the reverse."""


USUAL_PROMPT = "a picture of a {}"
"""What pictures of classes of no task are asked with."""


@dataclass(frozen=True)
class AccuracyBoard:
    """Accuracy of every task of the family under base, expert, this merge and a pinned baseline.

    `split` is ``quick`` (fixed class-balanced subset of validation), ``validation`` or ``test``.
    `merged` are the tasks that take part in the merge; the others show what the merge does to tasks it never saw.
    `previous` is this session's merge before the last change (None at first).
    `unmeasured` are tasks that cannot be evaluated here, and why. `remarks` are sentences about published figures.
    `pictures` are those of the merged tasks in the whole split; while the board `is_growing`, some scores are of fewer.
    `awaited` are models (``base``, ``expert``, ``pinned``) and the tasks on which they are still being measured;
    ``merge``, and the tasks that will join `tasks`. `is_glance` says that the board that was asked for is still to
    come. Of a small family the merge has then seen some pictures alone; `paired` is what another merge scores on all,
    and on these. Of a large one it has been measured on some tasks.
    """

    split: str
    tasks: tuple[str, ...]
    merged: frozenset[str]
    base: dict[str, Accuracy]
    expert: dict[str, Accuracy]
    merge: dict[str, Accuracy]
    pinned: dict[str, Accuracy] | None = None
    pinned_label: str = ""
    previous: dict[str, Accuracy] | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    pictures: int = 0
    is_growing: bool = False
    is_glance: bool = False
    paired: tuple[dict[str, Accuracy], dict[str, Accuracy]] | None = None
    awaited: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def looked_at(self) -> int:
        """Pictures of the merged tasks that the merge has seen."""
        return sum(score.n for task, score in self.merge.items() if task in self.merged)

    @property
    def measured(self) -> tuple[str, ...]:
        """The merged tasks that have a score: what averages are over."""
        return tuple(task for task in self.tasks if task in self.merged)


@dataclass(frozen=True)
class Heatmap:
    """One measure over layers x matrices, for both subspaces, on one shared colour scale.

    `parallel` and `orthogonal` are (rows, columns); NaN is "not applicable".
    `note_parallel` / `note_orthogonal` say why a whole panel is flat (e.g. lambda_1 = 0).
    `factors` are those of the setting's profile, see `factor`.
    """

    measure: Measure
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    parallel: np.ndarray
    orthogonal: np.ndarray
    note_parallel: str = ""
    note_orthogonal: str = ""
    factors: Mapping[Part, np.ndarray] = field(default_factory=dict)

    def factor(self, part: Part) -> np.ndarray:
        """Factors (rows, columns) of the profile on a part of the change; NaN where a cell has no such part."""
        return self.factors.get(part, np.full(self.orthogonal.shape, np.nan))


@dataclass(frozen=True)
class PairPlace:
    """Where in the network two tasks pull against each other most: a cell, a subspace, and their conflict there."""

    layer: str
    matrix: str
    subspace: Subspace
    conflict: float


@dataclass(frozen=True)
class BetweenTasks:
    """Who pulls against whom, and who pays, over the whole model, a layer, or one cell.

    `layer` and `matrix` are empty where all of them are meant. Arrays are by ``parallel``, ``orthogonal`` and ``both``.
    `conflict` (T, T) is minus the cosine of two tasks' parts, NaN on the diagonal and where a task has no such part.
    `kept` (T,) is retention: the share of its own part that each task finds in the merge (1: all of it).
    `share` (T,) is each task's part of all the change that the tasks ask for. `places`, by pair (a < b), is the part
    whose inner product between the two is lowest: that is where most of their conflict comes from.
    """

    tasks: tuple[str, ...]
    layer: str
    matrix: str
    conflict: Mapping[str, np.ndarray]
    kept: Mapping[str, np.ndarray]
    share: np.ndarray
    places: Mapping[tuple[int, int], PairPlace]


@dataclass(frozen=True)
class Drift:
    """Where the merged network leaves its experts: features after every block, on every task's own pictures.

    `blocks` are layers as the map names them. `drift` (blocks, T) is the mean over pictures of 1 - cosine between the
    class tokens of the merge and of the task's expert (0: the same direction, 1: a right angle). `common` (blocks, T)
    is the share in [0, 1] of the difference that is the same on all pictures; NaN where nothing differs. `pictures`
    (T,) counts what was looked at. `unmeasured` are merged tasks without pictures, and why.
    """

    tasks: tuple[str, ...]
    blocks: tuple[str, ...]
    drift: np.ndarray
    common: np.ndarray
    pictures: tuple[int, ...]
    unmeasured: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ContestedNeuron:
    """A neuron and how contested its vote was (margin 0: tied, 1: unanimous)."""

    index: int
    margin: float
    mean_alpha: float
    tau_norm: float  # norm of all orthogonal task parts together / |w_0|
    ill_conditioned: bool


@dataclass(frozen=True)
class LayerDetail:
    """One (layer, matrix) cell opened.

    `strength` is (bins, T): norm of each task's trimmed task vector / |w_0|, neurons sorted by `sort` and
    binned; `bin_edges` (bins + 1) count neurons; `margin` (bins,) is the mean election margin of the bin.
    `cosine_parallel`, `cosine_orthogonal` are (T, T). `alpha_edges`, `alpha_counts` (T, bins) histogram alpha.
    """

    layer: str
    matrix: str
    kind: str  # neurons | pointwise
    tasks: tuple[str, ...]
    neurons: int
    inputs: int
    sort: str
    strength: np.ndarray
    margin: np.ndarray
    bin_edges: np.ndarray
    cosine_parallel: np.ndarray
    cosine_orthogonal: np.ndarray
    alpha_edges: np.ndarray
    alpha_counts: np.ndarray
    contested: tuple[ContestedNeuron, ...]
    ill_conditioned: int


@dataclass(frozen=True)
class NeuronDetail:
    """One neuron, in the coordinates of its own decomposition.

    Axis 0 is the base vector w_0 (length `base_norm`); the R further axes are the right singular directions
    v_r of the stacked orthogonal parts, in falling order of singular value.

    `c` (T,): parallel coefficients; `c_merged`: elected mean. `scores` (T, R): coordinates of each orthogonal
    part along v_r (= U S). `singular` (R,). `left` (T, R): U. `elected` (R,): psi(U[:, r]). `alpha` (T,).
    `tau_norm` (T,): norm of each trimmed task vector (for the share outside a drawn plane).
    `along_base` (N,): x . w_0/|w_0| of the base model's inputs x at this layer; `along_direction` (N, R): x . v_r.
    `image_labels` (N,): what each input shows.
    `vote` is the rule that made `alpha`: "published", "balanced", or "" for a method that does not vote over neurons;
    then `c_merged` and `alpha` are 0 and `change` is what that method does: its step along w_0 in units of |w_0|, and
    along each v_r (R,). `ridge` is that of the balanced vote.
    """

    layer: str
    matrix: str
    index: int
    tasks: tuple[str, ...]
    base_norm: float
    c: np.ndarray
    c_merged: float
    scores: np.ndarray
    singular: np.ndarray
    left: np.ndarray
    elected: np.ndarray
    alpha: np.ndarray
    tau_norm: np.ndarray
    lambda_parallel: float
    lambda_orthogonal: float
    along_base: np.ndarray
    along_direction: np.ndarray
    image_labels: tuple[str, ...] = ()
    ill_conditioned: bool = False
    vote: str = "published"
    ridge: float = 0.0
    change: tuple[float, np.ndarray] | None = None


@dataclass(frozen=True)
class MergeSummary:
    """The numbers beside the sliders.

    `coefficients` are those in use, by name of the hyperparameter: what Auto came to. `warnings` are sentences
    about them. `retention` is what each task keeps of its own change, by task (1: all of it); empty where only another
    pass over a large model would tell.
    """

    coefficients: Mapping[str, float]
    sigma: float
    sigma_per_task: dict[str, float]
    kept_share: dict[str, float]
    ill_conditioned: int
    neurons: int
    warnings: tuple[str, ...] = ()
    retention: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StrengthCurve:
    """Mean accuracy of the merged tasks against the strength of a merge.

    `strengths` (P,) rise: what the setting's coefficients are multiplied by, 1 for the merge as it is. `accuracy` (P,)
    is NaN where it is not measured yet; `images` pictures stand behind each value. `coefficients` are those at 1.
    `marks` are the strengths that need no data, by what finds them: ``auto`` (how the method fills in what nobody
    gave) and ``retention`` (the tasks keep on average the whole of what they learned); those that lie on the curve.
    """

    strengths: np.ndarray
    accuracy: np.ndarray
    images: int
    coefficients: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every point is measured."""
        return bool(np.isfinite(self.accuracy).all())


CHANGES = (0.0, 0.5, 2.0)
"""What an effect map multiplies the strength of a part by: left at the base, halved, doubled."""
POINTWISE = ("embedding", "norm", "bias")
"""Matrices whose entries are no neurons: their conflict is of another kind."""
_NOISE = 0.05


@dataclass(frozen=True)
class Effect:
    """What changing the merge in one part does to accuracy, on the same pictures before and after.

    `matrix` is empty for a whole layer; `times` is what the part's coefficients are multiplied by (0: left at the
    base's weights). `difference` is the change of the mean accuracy over tasks, a share in [-1, 1], `error` its
    standard error, `by_task` the change of each task. `gained` pictures are right that were wrong, `lost` are wrong
    that were right.
    """

    layer: str
    matrix: str
    times: float
    difference: float
    error: float
    by_task: Mapping[str, float]
    gained: int
    lost: int

    @property
    def probability(self) -> float:
        """How often a change without any effect would turn so many more pictures one way: McNemar's exact test."""
        changed = self.gained + self.lost
        tail = sum(math.comb(changed, count) for count in range(min(self.gained, self.lost) + 1))
        return min(1.0, 2 * tail / 2**changed)

    @property
    def is_noise(self) -> bool:
        """Whether chance alone explains it: of twenty parts without an effect, one looks as if it had one."""
        return self.probability >= _NOISE


@dataclass(frozen=True)
class EffectMap:
    """Measured effects of the parts of a merge, growing from whole layers to single matrices.

    `rows` and `columns` are those of the heatmap. `before` is the accuracy of the merge by task on `images` pictures
    of `split`. `conflict` (rows, columns) is that of the tasks in the orthogonal part, to compare with. `total` effects
    are measured in the end.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    split: str
    images: int
    before: Mapping[str, float]
    conflict: np.ndarray
    effects: tuple[Effect, ...] = ()
    total: int = 0

    @property
    def complete(self) -> bool:
        """Whether everything is measured."""
        return len(self.effects) >= self.total

    def at(self, times: float) -> dict[tuple[str, str], Effect]:
        """The effects of one change, by layer and matrix ("" for the whole layer)."""
        return {(effect.layer, effect.matrix): effect for effect in self.effects if effect.times == times}

    def agreement(self, times: float = 0.0) -> tuple[float, int] | None:
        """Spearman's rank correlation of conflict with the change of accuracy, and over how many cells of neurons.

        None where fewer than four cells are measured, or all are alike.
        """
        found = self.at(times)
        pairs = [
            (float(self.conflict[row, column]), found[layer, matrix].difference)
            for row, layer in enumerate(self.rows)
            for column, matrix in enumerate(self.columns)
            if (layer, matrix) in found and np.isfinite(self.conflict[row, column]) and matrix not in POINTWISE
        ]
        if len(pairs) < 4:
            return None
        conflict, change = (_ranks(np.array(values)) for values in zip(*pairs, strict=True))
        if not np.ptp(conflict) or not np.ptp(change):
            return None
        return float(np.corrcoef(conflict, change)[0, 1]), len(pairs)

    def records(self) -> list[dict[str, float | str | bool]]:
        """One row an effect, for tables: shares, as everywhere."""
        return [
            {
                "layer": effect.layer,
                "matrix": effect.matrix,
                "times": effect.times,
                "difference": effect.difference,
                "standard_error": effect.error,
                "gained": effect.gained,
                "lost": effect.lost,
                "p": effect.probability,
                "within_noise": effect.is_noise,
                **{f"difference_{task}": value for task, value in effect.by_task.items()},
            }
            for effect in self.effects
        ]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count + 1) / 2)[place])


@dataclass(frozen=True)
class Prediction:
    """Top-k of one image under one model: class names with probabilities in [0, 1], best first."""

    model: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class OwnBoard:
    """How base, experts and merge do on pictures that a visitor brought, of the classes that their folders name.

    `scores` is by model, in the order base, experts, merge. `pictures` counts by class. `notes` are sentences about
    what was not taken and what the text tower misses.
    """

    name: str
    pictures: Mapping[str, int]
    scores: Mapping[str, Accuracy]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GalleryItem:
    """One sample image with what base, expert and merge say."""

    index: int
    image: np.ndarray  # (H, W, 3) uint8
    truth: str
    base: str
    expert: str
    merge: str


@dataclass(frozen=True)
class GalleryPage:
    """One page of a gallery; iterates over its items. `total` items pass the filter, on `pages` pages.

    Of a large family only as many pictures are looked at as the page needs; `total` counts those among them, and a note
    says how many that were.
    `notes` are sentences about pictures of the task that are not among them, such as unreadable ones.
    """

    items: tuple[GalleryItem, ...]
    total: int
    page: int
    pages: int
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[GalleryItem]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Example:
    """One sample image of a merged task, with what base, that task's expert and merge say."""

    task: str
    item: GalleryItem


@dataclass(frozen=True)
class Confusion:
    """Counts (classes, classes): rows are the truth, columns the prediction of the merge.

    `pictures` are those of the whole split; while the counts grow they are of fewer. 0 where that is not known.
    """

    task: str
    classes: tuple[str, ...]
    counts: np.ndarray
    pictures: int = 0
