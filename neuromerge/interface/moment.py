"""The page as it was when an event left the browser, and the workspace as a handler may ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

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
from neuromerge.interface.session import Session
from neuromerge.interface.state import CellName, TabState
from neuromerge.merging.profile import Profile
from neuromerge.progress import Job
from neuromerge.search.compare import Comparison
from neuromerge.search.landscape import Landscape
from neuromerge.search.objective import Growing
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.checkpoints.inspection import Inspection
    from neuromerge.evaluation.archives import ArchiveLimits
    from neuromerge.exploration.protocol import Explorer

Changes = dict[Any, Any]
"""What a handler wants of the page: new values or updates, keyed by component. What is not named stays as it is."""


@dataclass(frozen=True)
class Chosen:
    """What the sidebar describes: the merge, and what it is compared with (None and "" for nothing)."""

    setting: Setting
    pinned: Setting | None = None
    pinned_label: str = ""


class BoundWorkspace:
    """A workspace asked about one setting on behalf of one job: work that nobody waits for stops by itself.

    Handlers see the workspace in this shape only, so that none can forget to pass on the job. See `Explorer`.
    """

    def __init__(self, explorer: Explorer, setting: Setting, job: Job) -> None:
        self._explorer = explorer
        self._setting = setting
        self._job = job

    def summary(self) -> MergeSummary:
        """The numbers beside the sliders."""
        return self._explorer.summary(self._setting, job=self._job)

    def board(
        self, split: str, *, pinned: Setting | None = None, pinned_label: str = "", previous: Setting | None = None
    ) -> AccuracyBoard:
        """Accuracy of every task."""
        return self._explorer.board(self._setting, split, pinned, previous, pinned_label=pinned_label, job=self._job)

    def growing_board(
        self,
        split: str,
        *,
        pinned: Setting | None = None,
        pinned_label: str = "",
        previous: Setting | None = None,
        beside: Setting | None = None,
    ) -> Iterator[AccuracyBoard]:
        """Accuracy of every task on ever more pictures of a split."""
        return self._explorer.growing_board(
            self._setting, pinned, previous, split=split, pinned_label=pinned_label, beside=beside, job=self._job
        )

    def objective(self, *, certain: bool = False) -> Growing:
        """What a search from here makes large: validation accuracy, or certainty."""
        return self._explorer.objective(self._setting, certain=certain)

    def heatmap(self, key: str, *, of: Setting | None = None) -> Heatmap:
        """One measure over layers and matrices; `of` another setting of the family, such as the pinned one."""
        return self._explorer.heatmap(of or self._setting, key, job=self._job)

    def spelled_out(self, profile: Profile) -> Profile:
        """Another profile of the setting without ``rest``: its factors where they reach."""
        return self._explorer.spelled_out(replace(self._setting, profile=profile), job=self._job)

    def between_tasks(self, layer: str, matrix: str) -> BetweenTasks:
        """Who pulls against whom, and who pays: in a cell, a layer, or (empty names) everywhere."""
        return self._explorer.between_tasks(self._setting, layer, matrix, job=self._job)

    def drift(self) -> Drift:
        """Where the merged network leaves its experts."""
        return self._explorer.drift(self._setting, job=self._job)

    def strength_curve(self, of: Setting | None = None) -> Iterator[StrengthCurve]:
        """Accuracy against multiples of the coefficients, growing; of what the merge is compared with where given."""
        return self._explorer.strength_curve(self._setting if of is None else of, job=self._job)

    def at_strength(self, times: float) -> Setting:
        """The setting whose coefficients are `times` as large."""
        return self._explorer.at_strength(self._setting, times, job=self._job)

    def own_certainty(self, setting: Setting, source: str, task: str, limits: ArchiveLimits, job: Job) -> float:
        """The same on a visitor's own pictures, which nobody has labelled."""
        return self._explorer.own_certainty(setting, source, task, limits, job)

    def effects(self, split: str) -> Iterator[EffectMap]:
        """What changing each part does to accuracy, growing; what is known comes first."""
        return self._explorer.effects(self._setting, split, job=self._job)

    def layer(self, cell: CellName, sort: str) -> LayerDetail:
        """One cell of the heatmap opened."""
        return self._explorer.layer(self._setting, *cell, sort, job=self._job)

    def neuron(self, cell: CellName, index: int, image_task: str | None) -> NeuronDetail:
        """One neuron with real inputs."""
        return self._explorer.neuron(self._setting, *cell, index, image_task, job=self._job)

    def input_pictures(self, task: str) -> tuple[Any, ...]:
        """The pictures behind the inputs of a neuron."""
        return self._explorer.input_pictures(self._setting, task, job=self._job)

    def gallery(self, task: str, filter_: str, page: int) -> GalleryPage:
        """Validation pictures with what the models say of them."""
        return self._explorer.gallery(self._setting, task, "validation", filter_, page, job=self._job)

    def examples(self) -> tuple[Example, ...]:
        """Two sample pictures that tell base, expert and merge apart."""
        return self._explorer.examples(self._setting, job=self._job)

    def confusion(self, task: str) -> Iterator[Confusion]:
        """What the merge takes for what on validation pictures, growing."""
        return self._explorer.confusion(self._setting, task, "validation", job=self._job)

    def classify(self, image: Any, class_names: Sequence[str], template: str) -> tuple[Prediction, ...]:
        """A picture named by base, experts and merge."""
        return self._explorer.classify(self._setting, image, class_names, template, job=self._job)

    def prompt_notes(self, class_names: Sequence[str], template: str) -> tuple[str, ...]:
        """What the text tower misses in class names and prompt."""
        return self._explorer.prompt_notes(self._setting, class_names, template)

    def own_pictures(self, source: str, template: str, limits: ArchiveLimits, most_classes: int) -> OwnBoard:
        """Accuracy of base, experts and merge on a visitor's folder of classes."""
        return self._explorer.own_pictures(self._setting, source, template, limits, most_classes, job=self._job)

    def inspect(self, source: str) -> Inspection:
        """What a checkpoint holds, and how it fits the base of the setting's family."""
        return self._explorer.inspect(self._setting.family, source, job=self._job)

    def landscape(self, x_name: str, y_name: str) -> Iterator[Landscape]:
        """Accuracy over two coefficients, growing."""
        return self._explorer.landscape(self._setting, x_name, y_name, job=self._job)

    def comparison(self, split: str) -> Iterator[Comparison]:
        """All methods beside the setting, growing."""
        return self._explorer.comparison(self._setting, split, job=self._job)

    def export_bytes(self, layout: str) -> int:
        """Bytes of the weights that an export takes."""
        return self._explorer.export_bytes(self._setting, layout)

    def export(self, layout: str, directory: Path) -> tuple[Path, ...]:
        """The merge written into a folder."""
        return self._explorer.export(self._setting, layout, directory, job=self._job)


@dataclass(frozen=True)
class Moment:
    """The page as it was when an event left the browser: everything that a handler may depend on.

    Attributes:
        page_id: the browser page (a new one after every reload).
        tab: key of the open tab.
        session: what the server remembers of the page.
        states: what each tab shows, by the tab's key.
        values: what the event's inputs hold, by component.
        event: what the browser says about the event (untrusted).
        job: the event's work: stops once nobody waits for it, and shows how far it is where the page shows that.
        choose: reads the sidebar.
        explorer: gives the process's workspace.
    """

    page_id: str | None
    tab: str
    session: Session
    states: Mapping[str, TabState]
    values: Mapping[Any, Any]
    event: gr.EventData
    job: Job
    choose: Callable[[], Chosen]
    explorer: Callable[[], Explorer]

    @cached_property
    def chosen(self) -> Chosen:
        """What the sidebar describes. Raises SettingError where a control holds what is not legal."""
        return self.choose()

    @property
    def setting(self) -> Setting:
        """The merge that the controls describe. Raises SettingError where one holds what is not legal."""
        return self.chosen.setting

    @property
    def workspace(self) -> BoundWorkspace:
        """The workspace, bound to this moment's setting and job."""
        return BoundWorkspace(self.explorer(), self.setting, self.job)

    def value(self, component: Any) -> Any:
        """What one of the event's inputs holds."""
        return self.values[component]

    def detail(self, name: str) -> Any:
        """One entry of what the browser says about the event, None where it says nothing; untrusted."""
        data = getattr(self.event, "_data", None)
        return data.get(name) if isinstance(data, Mapping) else None

    def showing(self, key: str, state: TabState) -> Moment:
        """The same moment with another state of a tab."""
        return replace(self, states={**self.states, key: state})

    def board(self, split: str) -> AccuracyBoard:
        """Accuracy of the merge, of what it is compared with, and of the merge before it."""
        return self.workspace.board(split, **self._compared)

    def growing_board(self, split: str = "validation", beside: Setting | None = None) -> Iterator[AccuracyBoard]:
        """The same on ever more pictures; what is known comes first, or a glance beside a merge that is known."""
        return self.workspace.growing_board(split, beside=beside, **self._compared)

    @property
    def _compared(self) -> dict[str, Any]:
        return {
            "pinned": self.chosen.pinned,
            "pinned_label": self.chosen.pinned_label,
            "previous": self.session.previous(self.setting),
        }
