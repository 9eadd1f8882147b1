"""The workspace: from a setting to everything the app shows of it.

One workspace serves the whole process. It knows nothing of sessions: each method takes a complete `Setting`,
and the same setting gives the same answer to everybody, at once where somebody has asked before. What is held
(opened checkpoints, first passes, merged parts, models, scores) is bounded by one cache and a small pool of
models; heavy steps take turns, and every method takes a `Job` that is checked between steps and may raise
`Cancelled` to stop the work. Each answer has a module of its own; this is the way in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromerge.checkpoints.inspection import Inspection, inspect_checkpoint
from neuromerge.engine.cache import BoundedCache, CacheStatistics
from neuromerge.engine.downloads import Downloads, Fetching, Presence, always
from neuromerge.engine.engine import Engine
from neuromerge.engine.executor import Executor
from neuromerge.engine.parts import parts_of
from neuromerge.engine.stages import tasks_of
from neuromerge.errors import SettingError
from neuromerge.exploration import (
    between,
    close_ups,
    comparisons,
    drift,
    effects,
    export,
    heatmaps,
    landscapes,
    neurons,
    own_pictures,
    pictures,
    regions,
    scores,
    strength,
)
from neuromerge.exploration.opening import Opening
from neuromerge.exploration.results import (
    CHANGES,
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
from neuromerge.exploration.summary import summary
from neuromerge.merging import registry
from neuromerge.merging.profile import Profile, spelled_out
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.compare import Comparison
from neuromerge.search.landscape import POINTS, Landscape
from neuromerge.search.objective import Growing
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.archives import ArchiveLimits
    from neuromerge.evaluation.families import Family

PER_PAGE = 12


class Workspace:
    """Results of settings, for any number of visitors at once.

    Args:
        families: the families known at first, by name; the registry's when None. `add` makes one more known.
        cache: where results are kept; the process's own when None.
        executor: who computes; the process's own when None.
        downloads: who fetches from the Hub: see `Engine`.
    """

    def __init__(
        self,
        families: Mapping[str, Family] | None = None,
        *,
        cache: BoundedCache | None = None,
        executor: Executor | None = None,
        downloads: Downloads | None = None,
    ) -> None:
        self.engine = Engine(families, cache=cache, executor=executor, downloads=downloads)

    def add(self, family: Family) -> None:
        """Make a family known that the registry does not list: see `Engine.add`."""
        self.engine.add(family)

    def forget(self, name: str) -> None:
        """Drop a family that was added: see `Engine.forget`."""
        self.engine.forget(name)

    def inspect(self, family: str, source: str, job: Job = UNATTENDED) -> Inspection:
        """What a checkpoint holds, and how it fits the base of a family, before anything is merged.

        Raises CheckpointError and its family where it cannot be read; that it does not fit is `Inspection.problem`.
        """
        base = self.engine.of(family).stages.checkpoint()
        return self.engine.executor.run(lambda: inspect_checkpoint(source, base), job)

    def family(self, name: str) -> Family:
        """The family called `name`. Raises SettingError for an unknown one."""
        return self.engine.family(name)

    def statistics(self) -> CacheStatistics:
        """What the cache holds and how it has fared."""
        return self.engine.statistics()

    # ----------------------------------------------------------------------------- what comes from the Hub

    def want(self, setting: Setting, who: str, is_there: Presence = always) -> Fetching | None:
        """Fetch what merging and measuring `setting` needs, for one visitor; how far that is, None where all is here.

        What the visitor wanted before is not fetched any more, unless somebody else wants it. `is_there` tells whether
        the visitor may still be waiting. Returns at once.
        """
        if self.engine.downloads is None:
            return None
        return self.engine.downloads.want(who, parts_of(self.family(setting.family), setting.tasks), is_there)

    def fetching(self, who: str) -> Fetching | None:
        """How far what a visitor wants is; None where nothing is being fetched for them."""
        return None if self.engine.downloads is None else self.engine.downloads.state(who)

    def stop_fetching(self, who: str) -> None:
        """Stop what only this visitor wants. What was fetched so far is kept."""
        if self.engine.downloads is not None:
            self.engine.downloads.stop(who)

    def resume_fetching(self, who: str) -> None:
        """Go on with what this visitor wants, and try again what failed."""
        if self.engine.downloads is not None:
            self.engine.downloads.resume(who)

    # ----------------------------------------------------------------------------- what a fresh page shows

    def recall(self, setting: Setting, compared: Setting) -> bool:
        """Know at once what a fresh page shows, where an earlier start has kept it; whether it has. Raises nothing."""
        return Opening(self.engine.of(setting.family), setting, compared).recall()

    def prepare(self, setting: Setting, compared: Setting, job: Job = UNATTENDED) -> None:
        """Compute what a fresh page shows (boards, summary, strength curves), and keep it for the next start."""
        Opening(self.engine.of(setting.family), setting, compared).prepare(job)

    # ----------------------------------------------------------------------------- numbers and scores

    def summary(self, setting: Setting, job: Job = UNATTENDED) -> MergeSummary:
        """The numbers beside the sliders: coefficients in use, sigma, what the trim kept, ill-conditioned neurons.

        sigma belongs to the method's own trim; it is 0 where the method does not trim. Raises SettingError where
        the setting's profile names a part that the model does not have.
        """
        stages = self.engine.of(setting.family).stages
        return self.engine.cache.get(regions.SUMMARY, setting, lambda: summary(stages, setting, job), job)

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
        models = self.engine.of(setting.family).models
        return scores.board(models, setting, split, pinned, previous, pinned_label, job)

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
        """`board` on a split, on ever more of its pictures until it is whole.

        What was measured before comes first. Of a small family there is one board, the whole one; where the quick split
        takes longer than a glance, one of some of its pictures before, if all are known of the merge `beside`. Of a
        large one the first have the merge's scores alone, task after task, where nothing else was measured before: base
        and experts follow one by one, and are `awaited` until then. Pictures come in a fixed order of which every
        beginning is a fair sample, so scores have intervals that only become narrower; base and experts may have seen
        another number of pictures than the merge. Raises as `board`.
        """
        models = self.engine.of(setting.family).models
        return scores.growing_board(models, setting, pinned, previous, pinned_label, job, split, beside)

    def validation_scores(self, setting: Setting, job: Job = UNATTENDED) -> dict[str, float]:
        """Validation accuracy in [0, 1] of every merged task: what a search maximises.

        Raises SettingError when none of the merged tasks has pictures.
        """
        return scores.merged_scores(self.engine.of(setting.family).models, setting, "validation", job)

    def objective(self, setting: Setting, *, certain: bool = False) -> Growing:
        """What a search of settings like `setting` makes large: validation accuracy of every merged task, or certainty.

        Of a large family on growing parts of the pictures. Raises SettingError when none of the merged tasks has any.
        """
        models = self.engine.of(setting.family).models
        return scores.objective(models, setting, "validation", certain=certain)

    def strength_curve(self, setting: Setting, job: Job = UNATTENDED) -> Iterator[StrengthCurve]:
        """Mean accuracy on the quick split at 0 to 2 times the coefficients of `setting`, growing.

        Yields what is known at once, and then after every point, from coarse to fine; points that somebody has
        measured before cost nothing. Raises SettingError where none of the merged tasks has pictures, and for a
        merge whose coefficients are all 0.
        """
        return strength.strength_curve(self.engine.of(setting.family), setting, job)

    def at_strength(self, setting: Setting, times: float, job: Job = UNATTENDED) -> Setting:
        """The setting whose coefficients are `times` as large. Raises SettingError where that is not legal."""
        stages = self.engine.of(setting.family).stages
        return strength.at_strength(stages, setting, times, stages.coefficients(setting, job).values)

    def certainty(self, setting: Setting, job: Job = UNATTENDED) -> dict[str, float]:
        """How sure the merge is on the validation pictures of every merged task, in [0, 1]: a goal without labels.

        Raises SettingError when none of the merged tasks has pictures.
        """
        return scores.certainties(self.engine.of(setting.family).models, setting, "validation", job)

    # ------------------------------------------------------------------------------------- interference

    def own_certainty(
        self,
        setting: Setting,
        source: str,
        task: str = "",
        limits: ArchiveLimits | None = None,
        job: Job = UNATTENDED,
    ) -> float:
        """How sure the merge is of what it says of a person's own pictures, in [0, 1]; nobody needs to label them.

        Measured as `certainty`. `source` is a folder or a zip archive, whose inner folders do not matter; `task` is the
        merged task whose classes are asked for, those of all merged tasks together when empty. Raises SettingError
        where there are no pictures or no class names, LimitError for more than `limits` allow.
        """
        models, cache = self.engine.of(setting.family).models, self.engine.cache
        return own_pictures.certainty(models, cache, setting, source, task, limits, job)

    def heatmap(self, setting: Setting, key: str, job: Job = UNATTENDED) -> Heatmap:
        """One measure over layers and matrices, in both subspaces. Reads no weights once the first pass is there."""
        return heatmaps.heatmap(self.engine.of(setting.family).stages, setting, key, job)

    def spelled_out(self, setting: Setting, job: Job = UNATTENDED) -> Profile:
        """The profile that makes the same merge and has no ``rest``: see `neuromerge.merging.profile.spelled_out`."""
        if not setting.profile:
            return ()
        parameters = self.engine.of(setting.family).stages.vectors(tasks_of(setting)).parameters
        return spelled_out(setting.profile, parameters, registry.get_method(setting.method).component_names)

    def between_tasks(self, setting: Setting, layer: str = "", matrix: str = "", job: Job = UNATTENDED) -> BetweenTasks:
        """Conflict of every two tasks and retention of each, over the whole model, a layer, or one cell.

        Empty names stand for all layers, all matrices. Reads no weights once the first pass is there. Raises
        SettingError for a cell that the family does not have.
        """
        return between.between_tasks(self.engine.of(setting.family).stages, setting, layer, matrix, job)

    def drift(self, setting: Setting, job: Job = UNATTENDED) -> Drift:
        """How far the merged network's features are from each task's expert, on the quick pictures of that task.

        Made by the same passes as the quick accuracy, which is then only looked up; the experts' features are kept.
        Raises SettingError when none of the merged tasks has pictures.
        """
        return drift.drift(self.engine.of(setting.family).models, setting, job)

    def effects(self, setting: Setting, split: str = "quick", job: Job = UNATTENDED) -> Iterator[EffectMap]:
        """What changing each part of the merge does to accuracy on a split, growing from coarse to fine.

        Yields what was measured before first, then after every further effect. Raises SettingError where none of the
        merged tasks has pictures, and for the test split.
        """
        return effects.grow(self.engine.of(setting.family), setting, CHANGES, split, job=job)

    def layer(
        self, setting: Setting, layer: str, matrix: str, sort: str = "contested", job: Job = UNATTENDED
    ) -> LayerDetail:
        """One cell of the heatmap opened. `sort`: contested, strength or index.

        Raises SettingError for a cell that the family does not have, or an unknown order.
        """
        close_ups.check_sort(sort)
        stages = self.engine.of(setting.family).stages
        return neurons.layer(stages, self.engine.cache, setting, layer, matrix, sort, job)

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
        engine = self.engine.of(setting.family)
        return neurons.neuron(engine, self.engine.cache, setting, layer, matrix, index, image_task, job)

    def input_pictures(self, setting: Setting, task: str, job: Job = UNATTENDED) -> tuple[Any, ...]:
        """The pictures (H, W, 3) uint8 behind the inputs of `neuron`, in their order; none for an unknown task."""
        return neurons.input_pictures(self.engine.of(setting.family), task)

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
        wrong). `page` counts from 0; one beyond the end gives the last. Only what is shown is looked at, and for a
        filter what has to be looked through. Raises SettingError for unknown names.
        """
        models = self.engine.of(setting.family).models
        return pictures.gallery(models, setting, task, split, filter, page, per_page, job)

    def examples(self, setting: Setting, job: Job = UNATTENDED) -> tuple[Example, ...]:
        """Two sample pictures that the base gets wrong and the task's expert right, with what the merge says of them.

        They are of two merged tasks and of the quick split, and depend on the tasks alone: they stay while a
        coefficient moves. Fewer where a task has no such picture. Nothing is computed that `board` has not.
        """
        return pictures.examples(self.engine.of(setting.family).models, setting, job)

    def confusion(
        self, setting: Setting, task: str, split: str = "validation", job: Job = UNATTENDED
    ) -> Iterator[Confusion]:
        """What the merge takes for what, on one task; growing, as `growing_board` does."""
        return pictures.confusion(self.engine.of(setting.family).models, setting, task, split, job)

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
        return pictures.classify(self.engine.of(setting.family).models, setting, image, class_names, template, job)

    def prompt_notes(
        self, setting: Setting, class_names: Sequence[str], template: str | Sequence[str]
    ) -> tuple[str, ...]:
        """Sentences about prompts that the text tower cuts, words it does not know, and classes alike to it.

        Raises SettingError or LimitError as `classify`.
        """
        return pictures.prompt_notes(self.engine.of(setting.family).models, class_names, template)

    def own_pictures(
        self,
        setting: Setting,
        source: str,
        template: str,
        limits: ArchiveLimits | None = None,
        most_classes: int | None = None,
        job: Job = UNATTENDED,
    ) -> OwnBoard:
        """Accuracy of base, merged experts and merge on a folder of pictures, or a zip archive of one.

        Args:
            source: its path; one subfolder a class, whose names are the classes.
            template: holds ``{}`` for the class name; "" for the prompts of the family's task that has all of these
                classes, or else ``a picture of a {}``.
            limits: what an archive may hold.
            most_classes: how many classes it may name, any number when None.

        Raises SettingError or LimitError where it cannot be read or names too few or too many classes.
        """
        engine = self.engine
        models = engine.of(setting.family).models
        return own_pictures.board(models, engine.cache, setting, source, template, limits, most_classes, job)

    # ------------------------------------------------------------------------------------ tune and export

    def landscape(
        self,
        setting: Setting,
        x_name: str = "lambda_orthogonal",
        y_name: str = "lambda_parallel",
        *,
        points: tuple[int, int] = POINTS,
        split: str = "quick",
        job: Job = UNATTENDED,
    ) -> Iterator[Landscape]:
        """Mean accuracy of the merged tasks over two coefficients, growing from coarse to fine.

        Args:
            setting: gives everything that the axes do not.
            x_name, y_name: two numeric parameters of the setting's method.
            points: number of values on the x and on the y axis.
            split: ``quick`` or ``validation``; never test. Of a large family the map begins with few pictures, and the
                better half of its points is measured on twice as many, again and again.

        Yields the landscape a few times a second, the last time complete. Raises SettingError.
        """
        engine = self.engine.of(setting.family)
        return landscapes.landscape(engine, setting, x_name, y_name, points, split, job)

    def comparison(self, setting: Setting, split: str = "quick", job: Job = UNATTENDED) -> Iterator[Comparison]:
        """Base, experts, this setting and every method on the merged tasks that have pictures, method by method.

        Every method has its published default and, where it has coefficients, retention 1; neither looks at pictures.
        Of a large family the whole table is made on few pictures first, then again on more, until the split is whole.
        `split`: ``quick`` or ``validation``; never test. Raises SettingError.
        """
        if split not in ("quick", "validation"):
            raise SettingError("Methods are compared here on quick or validation pictures, never on the test split.")
        return comparisons.comparison(self.engine.of(setting.family).models, setting, split, job)

    def export_bytes(self, setting: Setting, layout: str | None) -> int:
        """Bytes of the weights that `export` would write."""
        return export.nbytes(self.engine.of(setting.family).stages, layout)

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
        return export.write(setting, self.engine.of(setting.family).stages, layout, Path(directory), job)


@cache
def shared_workspace() -> Workspace:
    """The process's own workspace over the registry's families. Nobody waits in it for a download."""
    return Workspace(downloads=Downloads())
