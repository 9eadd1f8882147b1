"""What the page asks: the methods that `Workspace` has, and whoever stands in for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from neuromerge.engine.downloads import Fetching, Presence, always
from neuromerge.evaluation.archives import ArchiveLimits
from neuromerge.exploration.results import (
    AccuracyBoard,
    BetweenTasks,
    Confusion,
    Drift,
    EffectMap,
    Example,
    GalleryPage,
    Heatmap,
    LayerDetail,
    MergeSummary,
    NeuronDetail,
    OwnBoard,
    Prediction,
    StrengthCurve,
)
from neuromerge.merging.profile import Profile
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.compare import Comparison
from neuromerge.search.landscape import Landscape
from neuromerge.search.objective import Growing
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.checkpoints.inspection import Inspection
    from neuromerge.evaluation.archives import ArchiveLimits
    from neuromerge.evaluation.families import Family


class Explorer(Protocol):
    """Answers about settings. Every method says in `Workspace` what it takes, returns and raises.

    `job` is checked between the steps of the work, which stops by raising Cancelled.
    """

    def add(self, family: Family) -> None:
        """Make a family known."""

    def forget(self, name: str) -> None:
        """Drop a family that was added."""

    def inspect(self, family: str, source: str, job: Job = UNATTENDED) -> Inspection:
        """What a checkpoint holds, and how it fits the base of a family."""

    def want(self, setting: Setting, who: str, is_there: Presence = always) -> Fetching | None:
        """Fetch what a setting needs, for one visitor; how far that is, None where all is here."""

    def fetching(self, who: str) -> Fetching | None:
        """How far what a visitor wants is."""

    def stop_fetching(self, who: str) -> None:
        """Stop what only this visitor wants."""

    def resume_fetching(self, who: str) -> None:
        """Go on, and try again what failed."""

    def recall(self, setting: Setting, compared: Setting) -> bool:
        """Know at once what a fresh page shows, where an earlier start has kept it."""

    def prepare(self, setting: Setting, compared: Setting, job: Job = UNATTENDED) -> None:
        """Compute what a fresh page shows, and keep it for the next start."""

    def summary(self, setting: Setting, job: Job = UNATTENDED) -> MergeSummary:
        """The numbers beside the sliders."""

    def board(
        self,
        setting: Setting,
        split: str = "quick",
        pinned: Setting | None = None,
        previous: Setting | None = None,
        *,
        pinned_label: str = "",
        job: Job = UNATTENDED,
    ) -> AccuracyBoard:
        """Accuracy of every task under base, expert, merge, and what it is compared with."""

    def growing_board(
        self,
        setting: Setting,
        pinned: Setting | None = None,
        previous: Setting | None = None,
        *,
        split: str = "validation",
        pinned_label: str = "",
        beside: Setting | None = None,
        job: Job = UNATTENDED,
    ) -> Iterator[AccuracyBoard]:
        """The board on ever more pictures of a split, at last on all; of a large family the merge comes first."""

    def objective(self, setting: Setting, *, certain: bool = False) -> Growing:
        """What a search makes large: validation accuracy, or certainty, on growing parts of the pictures."""

    def strength_curve(self, setting: Setting, job: Job = UNATTENDED) -> Iterator[StrengthCurve]:
        """Accuracy against multiples of the coefficients, growing; what is known comes first."""

    def at_strength(self, setting: Setting, times: float, job: Job = UNATTENDED) -> Setting:
        """The setting whose coefficients are `times` as large."""

    def own_certainty(
        self,
        setting: Setting,
        source: str,
        task: str = "",
        limits: ArchiveLimits | None = None,
        job: Job = UNATTENDED,
    ) -> float:
        """How sure the merge is of a person's own pictures, which nobody has labelled."""

    def heatmap(self, setting: Setting, key: str, job: Job = UNATTENDED) -> Heatmap:
        """One measure over layers and matrices."""

    def spelled_out(self, setting: Setting, job: Job = UNATTENDED) -> Profile:
        """The setting's profile without ``rest``: its factors where they reach."""

    def between_tasks(self, setting: Setting, layer: str = "", matrix: str = "", job: Job = UNATTENDED) -> BetweenTasks:
        """Who pulls against whom, and who pays."""

    def drift(self, setting: Setting, job: Job = UNATTENDED) -> Drift:
        """Where the merged network leaves its experts."""

    def effects(self, setting: Setting, split: str = "quick", job: Job = UNATTENDED) -> Iterator[EffectMap]:
        """What changing each part does to accuracy, growing; what is known comes first."""

    def layer(
        self, setting: Setting, layer: str, matrix: str, sort: str = "contested", job: Job = UNATTENDED
    ) -> LayerDetail:
        """One cell of the heatmap opened."""

    def neuron(
        self,
        setting: Setting,
        layer: str,
        matrix: str,
        index: int,
        image_task: str | None = None,
        job: Job = UNATTENDED,
    ) -> NeuronDetail:
        """One neuron with real inputs."""

    def input_pictures(self, setting: Setting, task: str, job: Job = UNATTENDED) -> tuple[Any, ...]:
        """The pictures behind the inputs of a neuron."""

    def gallery(
        self,
        setting: Setting,
        task: str,
        split: str = "validation",
        filter: str = "all",  # noqa: A002  (the name that the app and scripts use)
        page: int = 0,
        *,
        job: Job = UNATTENDED,
    ) -> GalleryPage:
        """Sample pictures with what the models say of them."""

    def examples(self, setting: Setting, job: Job = UNATTENDED) -> tuple[Example, ...]:
        """Two sample pictures that tell base, expert and merge apart."""

    def confusion(
        self, setting: Setting, task: str, split: str = "validation", job: Job = UNATTENDED
    ) -> Iterator[Confusion]:
        """What the merge takes for what, growing."""

    def classify(
        self,
        setting: Setting,
        image: Any,
        class_names: Sequence[str],
        template: str | Sequence[str],
        job: Job = UNATTENDED,
    ) -> tuple[Prediction, ...]:
        """A picture named by base, experts and merge."""

    def prompt_notes(
        self, setting: Setting, class_names: Sequence[str], template: str | Sequence[str]
    ) -> tuple[str, ...]:
        """What the text tower misses in class names and prompt."""

    def own_pictures(
        self,
        setting: Setting,
        source: str,
        template: str,
        limits: ArchiveLimits | None = None,
        most_classes: int | None = None,
        job: Job = UNATTENDED,
    ) -> OwnBoard:
        """Accuracy of base, experts and merge on a visitor's folder of classes."""

    def landscape(
        self,
        setting: Setting,
        x_name: str = "lambda_orthogonal",
        y_name: str = "lambda_parallel",
        *,
        job: Job = UNATTENDED,
    ) -> Iterator[Landscape]:
        """Accuracy over two coefficients, growing."""

    def comparison(self, setting: Setting, split: str = "quick", job: Job = UNATTENDED) -> Iterator[Comparison]:
        """All methods beside a setting, growing."""

    def export_bytes(self, setting: Setting, layout: str | None) -> int:
        """Bytes of the weights that `export` would write."""

    def export(
        self, setting: Setting, layout: str | None, directory: str | Path, *, job: Job = UNATTENDED
    ) -> tuple[Path, ...]:
        """The merge written into a folder."""
