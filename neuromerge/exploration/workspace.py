"""The workspace: from a setting to everything the app shows of it.

One workspace serves the whole process. It knows nothing of sessions: each method takes a complete `Setting`,
and the same setting gives the same answer to everybody, at once where somebody has asked before. What is held
(opened checkpoints, first passes, merged parts, models, scores) is bounded by one cache and a small pool of
models; heavy steps take turns, and every method takes a `check` that is called between steps and may raise
`Cancelled` to stop the work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuromerge.engine.cache import BoundedCache, CacheStatistics, shared_cache
from neuromerge.engine.executor import Turns, shared_turns
from neuromerge.engine.models import BASE, Held, Models
from neuromerge.engine.stages import Stages, pass_of
from neuromerge.errors import AssetError, CheckpointError, SettingError, SourceUnavailableError
from neuromerge.evaluation.accuracy import confusion_counts
from neuromerge.evaluation.heads import zero_shot_head
from neuromerge.exploration import close_ups, export
from neuromerge.exploration.results import (
    GALLERY_FILTERS,
    Accuracy,
    AccuracyBoard,
    Confusion,
    GalleryItem,
    GalleryPage,
    Heatmap,
    LayerDetail,
    MergeSummary,
    NeuronDetail,
    Prediction,
)
from neuromerge.merging import registry
from neuromerge.merging.linear import Coefficients, Part
from neuromerge.merging.measures import Cell, Measure, get_measure, measures
from neuromerge.merging.staged import NeuronStatistics, PointwiseStatistics
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search import landscape
from neuromerge.search.landscape import Landscape
from neuromerge.settings.choices import describe, quoted
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

SPLITS = ("quick", "validation", "test")
PER_PAGE = 12
TOP_K = 5
NEURON_PICTURES = 64
_COLUMNS = ("q", "k", "v", "out", "fc1", "fc2", "gate", "patch", "projection", "embedding", "norm", "bias", "other")


class Workspace:
    """Results of settings, for any number of visitors at once.

    Args:
        families: the families known at first, by name; the registry's when None. `add` makes one more known.
        cache: where results are kept; the process's own when None.
        turns: who computes; the process's own when None.
    """

    def __init__(
        self,
        families: Mapping[str, Family] | None = None,
        *,
        cache: BoundedCache | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._families = dict(families or {})
        self._cache = shared_cache() if cache is None else cache
        self._turns = shared_turns() if turns is None else turns
        self._lock = threading.Lock()
        self._rooms: dict[str, tuple[Stages, Models]] = {}

    # ------------------------------------------------------------------------------------------ families

    def add(self, family: Family) -> None:
        """Make a family known that the registry does not list, such as a folder of the user's own.

        A family of the same name is replaced; one that is being worked with keeps its opened checkpoints.
        """
        with self._lock:
            self._families[family.name] = family

    def family(self, name: str) -> Family:
        """The family called `name`. Raises SettingError for an unknown one."""
        with self._lock:
            known = self._families.get(name)
        if known is not None:
            return known
        from neuromerge.evaluation.families import families

        registered = families()
        if name not in registered:
            raise SettingError(f"There is no model family {quoted(name)}. Known: {', '.join(registered)}.")
        return registered[name]

    def statistics(self) -> CacheStatistics:
        """What the cache holds and how it has fared."""
        return self._cache.statistics()

    def _room(self, name: str) -> tuple[Stages, Models]:
        family = self.family(name)
        with self._lock:
            if name not in self._rooms:
                stages = Stages(family, self._cache, self._turns)
                self._rooms[name] = stages, Models(family, stages, self._cache, self._turns)
            return self._rooms[name]

    # --------------------------------------------------------------------------------------- the sidebar

    def summary(self, setting: Setting, job: Job = UNATTENDED) -> MergeSummary:
        """The numbers beside the sliders: coefficients in use, sigma, what the trim kept, ill-conditioned neurons.

        sigma belongs to the method's own trim; it is 0 where the method does not trim.
        """
        stages, _ = self._room(setting.family)

        def compute() -> MergeSummary:
            wanted = pass_of(setting)
            thresholds = stages.thresholds(wanted.tasks, wanted.ratio, job)
            first = stages.first_pass(wanted, job)
            used = stages.coefficients(setting, job)
            return MergeSummary(
                coefficients=used.values,
                sigma=thresholds.sigma,
                sigma_per_task=dict(zip(setting.tasks, thresholds.removed_share.tolist(), strict=True)),
                kept_share=dict(zip(setting.tasks, thresholds.kept_share.tolist(), strict=True)),
                ill_conditioned=first.ill_conditioned,
                neurons=first.neurons,
                warnings=used.warnings,
            )

        return self._cache.get(("summary", setting), compute, job=job)

    # ---------------------------------------------------------------------------------------- the scores

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
        """Accuracy of every task of the family under base, its expert, this merge, and the pinned setting.

        Of a family whose weights and pictures come from the Hub only the merged tasks are shown, so that
        nothing is fetched that was not asked for. Tasks without pictures here are left out; where none has
        any, the reason is raised. `previous` is only looked up where it was evaluated on this split before;
        measuring it again would cost as much as the merge itself.

        Raises SettingError for an unknown split or a pin of another family.
        """
        if split not in SPLITS:
            raise SettingError(f"There is no split {quoted(split)}. Known: {', '.join(SPLITS)}.")
        if pinned is not None and pinned.family != setting.family:
            raise SettingError(
                f"The pinned setting belongs to {pinned.family}; it cannot be compared with {setting.family}."
            )
        _, models = self._room(setting.family)
        family = models.family
        shown = [task for task in family.tasks if task in setting.tasks or not family.online]
        if not shown:
            raise SettingError(f"None of the merged tasks of {family.name} has pictures to measure an accuracy on.")
        tasks = models.with_pictures(shown, split)
        # The merge first: it is what everybody waits for, and the rest is usually known.
        merge = models.scores(Held(setting=setting), tasks, split, job)
        base = models.scores(BASE, tasks, split, job)
        expert = {task: score for task in tasks if (score := self._expert_score(setting, models, task, split, job))}
        before = None
        if previous is not None and previous.family == setting.family:
            known = models.known_scores(Held(setting=previous), tasks, split)
            before = known if len(known) == len(tasks) else None
        return AccuracyBoard(
            split=split,
            tasks=tasks,
            merged=frozenset(setting.tasks),
            base=base,
            expert=expert,
            merge=merge,
            pinned=None if pinned is None else models.scores(Held(setting=pinned), tasks, split, job),
            pinned_label=pinned_label or ("" if pinned is None else describe(pinned)),
            previous=before,
            unmeasured=models.without_pictures([task for task in shown if task not in tasks], split),
        )

    def validation_scores(self, setting: Setting, job: Job = UNATTENDED) -> dict[str, float]:
        """Validation accuracy in [0, 1] of every merged task: what a search maximises.

        Raises SettingError when none of the merged tasks has pictures.
        """
        return self._merged_scores(setting, "validation", job)

    def _merged_scores(self, setting: Setting, split: str, job: Job) -> dict[str, float]:
        _, models = self._room(setting.family)
        tasks = self._measurable(setting, split)
        return {task: s.value for task, s in models.scores(Held(setting=setting), tasks, split, job).items()}

    def _measurable(self, setting: Setting, split: str) -> tuple[str, ...]:
        _, models = self._room(setting.family)
        known = [task for task in setting.tasks if task in models.family.tasks]
        if not known:
            raise SettingError("None of the merged tasks has pictures to measure an accuracy on.")
        return models.with_pictures(known, split)

    # ------------------------------------------------------------------------------------- interference

    def measures(self) -> tuple[Measure, ...]:
        """The measures of the menu, with sentence, formula and range."""
        return measures()

    def heatmap(self, setting: Setting, key: str, job: Job = UNATTENDED) -> Heatmap:
        """One measure over layers and matrices, in both subspaces. Reads no weights once the first pass is there."""
        measure = get_measure(key)
        stages, _ = self._room(setting.family)
        cells = stages.cells(setting, job, count_signs=measure.counts_signs)
        used = stages.coefficients(setting, job)
        rows = tuple(dict.fromkeys(cell.layer for cell in cells))
        present = {cell.matrix for cell in cells}
        columns = tuple(name for name in _COLUMNS if name in present)
        parallel, orthogonal = (np.full((len(rows), len(columns)), np.nan) for _ in range(2))
        for cell in cells:
            place = rows.index(cell.layer), columns.index(cell.matrix)
            parallel[place] = measure.of(cell, "parallel", used)
            orthogonal[place] = measure.of(cell, "orthogonal", used)
        return Heatmap(
            measure=measure,
            rows=rows,
            columns=columns,
            parallel=parallel,
            orthogonal=orthogonal,
            note_parallel=_note(setting, measure, "parallel", used, cells),
            note_orthogonal=_note(setting, measure, "orthogonal", used, cells),
        )

    def layer(
        self, setting: Setting, layer: str, matrix: str, sort: str = "contested", job: Job = UNATTENDED
    ) -> LayerDetail:
        """One cell of the heatmap opened. `sort`: contested, strength or index.

        Raises SettingError for a cell that the family does not have, or an unknown order.
        """
        close_ups.check_sort(sort)
        stages, _ = self._room(setting.family)
        wanted = pass_of(setting)

        def compute() -> LayerDetail:
            found = stages.in_cell(wanted, layer, matrix, job)
            maps = [s for s in found if isinstance(s, NeuronStatistics)]
            if maps:
                return close_ups.layer_of_neurons(layer, matrix, setting.tasks, maps, sort)
            pointwise = [s for s in found if isinstance(s, PointwiseStatistics)]
            read = [stages.rows(wanted, s, 0, s.parameter.shape[0]) for s in pointwise]
            base = torch.cat([part for part, _ in read]).numpy()
            tau = torch.cat([part for _, part in read], dim=1).numpy()
            return close_ups.layer_of_entries(layer, matrix, setting.tasks, pointwise, base, tau, sort)

        key = ("layer", setting.family, wanted, layer, matrix, sort)
        return self._cache.get(key, compute, job=job)

    def neuron(
        self,
        setting: Setting,
        layer: str,
        matrix: str,
        index: int,
        image_task: str | None = None,
        job: Job = UNATTENDED,
    ) -> NeuronDetail:
        """One neuron in the coordinates of its own decomposition, with real inputs from pictures of `image_task`.

        `image_task` None takes the first merged task with pictures. A layer whose inputs cannot be observed
        gives a neuron without inputs. Raises SettingError for a cell or neuron that is not there, and for
        cells without neurons (biases, norms, embeddings).
        """
        stages, models = self._room(setting.family)
        wanted = pass_of(setting)
        found = stages.in_cell(wanted, layer, matrix, job)
        maps = [s for s in found if isinstance(s, NeuronStatistics)]
        if not maps:
            raise SettingError(f"{matrix} in {layer} has no neurons: its entries are merged one by one.")
        count = sum(m.parameter.shape[0] for m in maps)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
            raise SettingError(f"{matrix} in {layer} has the neurons 0 to {count - 1}; there is no {quoted(index)}.")
        chosen, row = maps[0], index
        for chosen in maps:
            if row < chosen.parameter.shape[0]:
                break
            row -= chosen.parameter.shape[0]
        resolved = stages.coefficients(setting, job)
        used = resolved.of("parallel", chosen.parameter), resolved.of("orthogonal", chosen.parameter)
        task = image_task or next((t for t in setting.tasks if t in models.family.tasks), None)

        def compute() -> NeuronDetail:
            base, tau = stages.rows(wanted, chosen, row, row + 1)
            inputs: np.ndarray = np.zeros((0, base.shape[1]))
            labels: tuple[str, ...] = ()
            if task is not None:
                inputs, labels = models.inputs(layer, matrix, task, NEURON_PICTURES, job)
            return close_ups.neuron(
                layer,
                matrix,
                index,
                setting.tasks,
                base[0],
                tau[:, 0],
                float(chosen.parallel_merged[row]),
                used,
                inputs,
                labels,
            )

        key = ("neuron", setting.family, wanted, layer, matrix, index, task)
        detail = self._cache.get(key, compute, job=job)
        return replace(detail, lambda_parallel=used[0], lambda_orthogonal=used[1])

    # ----------------------------------------------------------------------------------------- pictures

    def gallery(
        self,
        setting: Setting,
        task: str,
        split: str = "validation",
        filter: str = "all",  # noqa: A002  (the name that the app and scripts use)
        page: int = 0,
        *,
        per_page: int = PER_PAGE,
        job: Job = UNATTENDED,
    ) -> GalleryPage:
        """Sample pictures of a task with what base, expert and merge say; one of every class in turn.

        `filter`: ``all``, ``merge_wrong`` (merge wrong, expert right) or ``expert_wrong`` (merge right, expert
        wrong). `page` counts from 0; one beyond the end gives the last. Raises SettingError for unknown names.
        """
        if filter not in GALLERY_FILTERS:
            raise SettingError(f"The gallery can show {', '.join(GALLERY_FILTERS)}, not {quoted(filter)}.")
        _, models = self._room(setting.family)
        samples = models.samples(task, split)
        merge = models.predictions(Held(setting=setting), task, split, job)
        base = models.predictions(BASE, task, split, job)
        expert = models.predictions(self._expert(models, task), task, split, job)
        right, expert_right = merge == samples.labels, expert == samples.labels
        shown = {
            "all": np.ones(len(samples), dtype=bool),
            "merge_wrong": ~right & expert_right,
            "expert_wrong": right & ~expert_right,
        }[filter]
        mixed = _class_by_class(samples.labels)
        rows = mixed[shown[mixed]]
        pages = max(1, -(-len(rows) // per_page))
        page = min(max(0, int(page)), pages - 1)
        names = samples.classes
        items = tuple(
            GalleryItem(
                index=int(row),
                image=np.asarray(samples.images[int(row)]),
                truth=names[samples.labels[row]],
                base=names[base[row]],
                expert=names[expert[row]],
                merge=names[merge[row]],
            )
            for row in rows[page * per_page : (page + 1) * per_page]
        )
        return GalleryPage(items, len(rows), page, pages)

    def confusion(self, setting: Setting, task: str, split: str = "validation", job: Job = UNATTENDED) -> Confusion:
        """What the merge takes for what, on one task."""
        _, models = self._room(setting.family)
        samples = models.samples(task, split)
        predicted = models.predictions(Held(setting=setting), task, split, job)
        return Confusion(task, samples.classes, confusion_counts(samples.labels, predicted, len(samples.classes)))

    def classify(
        self,
        setting: Setting,
        image: Any,
        class_names: Sequence[str],
        template: str | Sequence[str],
        job: Job = UNATTENDED,
    ) -> tuple[Prediction, ...]:
        """The most probable of the visitor's own classes for the visitor's own picture.

        One prediction for the base, for each merged expert, and for the merge, in this order; best class first,
        at most five. `image` is a PIL picture or uint8 (H, W, 3); `template` holds ``{}`` for the class name.

        Raises SettingError or LimitError when picture, names or template cannot be used.
        """
        _, models = self._room(setting.family)
        names = [" ".join(str(name).split()) for name in class_names]
        head = zero_shot_head(models.text, names, (template,) if isinstance(template, str) else template)
        picture = models.vision.crop(image)[:1]
        asked = [("Base", BASE), *((task, Held(task=task)) for task in setting.tasks)]
        predictions = []
        for title, held in (*asked, ("This merge", Held(setting=setting))):
            probabilities = models.probabilities(held, picture, head, job)
            best = np.argsort(-probabilities, kind="stable")[:TOP_K]
            predictions.append(
                Prediction(title, tuple(names[i] for i in best), tuple(float(probabilities[i]) for i in best))
            )
        return tuple(predictions)

    @staticmethod
    def _expert_score(setting: Setting, models: Models, task: str, split: str, job: Job) -> Accuracy | None:
        """The score of a task's own expert; None where a task that is not merged has none that can be opened."""
        if task not in models.family.experts:
            return None
        try:
            return models.scores(Held(task=task), (task,), split, job)[task]
        except (CheckpointError, AssetError, SourceUnavailableError):
            if task in setting.tasks:
                raise
            return None

    @staticmethod
    def _expert(models: Models, task: str) -> Held:
        return Held(task=task) if task in models.family.experts else BASE

    # ------------------------------------------------------------------------------------ tune and export

    def landscape(
        self,
        setting: Setting,
        x_name: str = "lambda_orthogonal",
        y_name: str = "lambda_parallel",
        *,
        points: tuple[int, int] = landscape.POINTS,
        split: str = "quick",
        job: Job = UNATTENDED,
    ) -> Iterator[Landscape]:
        """Mean accuracy of the merged tasks over two coefficients, growing from coarse to fine.

        Args:
            setting: gives everything that the axes do not.
            x_name, y_name: two numeric parameters of the setting's method.
            points: number of values on the x and on the y axis.
            split: ``quick`` or ``validation``; never test.

        Yields the landscape a few times a second, the last time complete. Raises SettingError.
        """
        if split not in ("quick", "validation"):
            raise SettingError("A landscape is measured on quick or validation pictures, never on the test split.")
        tasks = self._measurable(setting, split)
        _, models = self._room(setting.family)
        images = sum(len(models.samples(task, split)) for task in tasks)
        yield from landscape.grow(
            lambda setting, job: self._merged_scores(setting, split, job),
            setting,
            x_name,
            y_name,
            points=points,
            in_use=self.summary(setting, job).coefficients,
            images=images,
            family=models.family,
            job=job,
        )

    def export(
        self,
        setting: Setting,
        layout: str | None,
        directory: str | Path,
        *,
        job: Job = UNATTENDED,
    ) -> tuple[Path, ...]:
        """Write the merge into the folder `directory`: the checkpoint, `recipe.yaml` and `reproduce.py`.

        `layout` is ``open_clip`` or ``transformers`` (None: the base's own). The checkpoint is written by the
        same streaming merge that the recipe runs. Returns the files. Raises StorageError, CheckpointError.
        """
        stages, _ = self._room(setting.family)
        return export.write(setting, stages, layout, Path(directory), job)


@cache
def shared_workspace() -> Workspace:
    """The process's own workspace over the registry's families."""
    return Workspace()


def _note(setting: Setting, measure: Measure, part: Part, used: Coefficients, cells: Sequence[Cell]) -> str:
    """Why one panel of a heatmap is flat; empty where it is not."""
    if len(setting.tasks) == 1 and measure.one_task:
        return measure.one_task
    if not measure.moves_with_lambda or any(used.of(part, cell) != 0.0 for cell in cells):
        return ""
    method = registry.get_method(setting.method)
    label = next(spec.label for spec in method.hyperparameters if spec.name == used.name_of(part))
    return f"All 0 because {label} is 0: the merge takes nothing of the {part} part."


def _class_by_class(labels: np.ndarray) -> np.ndarray:
    """Rows (N,) ordered so that every class shows its first picture, then its second, and so on."""
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    turn = np.empty(len(labels), dtype=np.int64)
    turn[order] = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return np.lexsort((labels, turn))
