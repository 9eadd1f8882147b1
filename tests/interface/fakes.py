"""A workspace without models: seeded numbers of the right shapes, at once, for tests of the page itself."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neuromerge.checkpoints.inspection import Inspection, inspect_checkpoint
from neuromerge.checkpoints.roles import Parameter
from neuromerge.engine.contents import Contents
from neuromerge.engine.downloads import Fetching, Presence, always
from neuromerge.errors import SettingError
from neuromerge.evaluation.archives import ArchiveLimits
from neuromerge.evaluation.families import Family, SampleSource, TaskSpec
from neuromerge.evaluation.samples import own_samples, unlabelled_samples
from neuromerge.exploration.protocol import Explorer
from neuromerge.exploration.results import (
    Accuracy,
    AccuracyBoard,
    BetweenTasks,
    Confusion,
    ContestedNeuron,
    Drift,
    Effect,
    EffectMap,
    Example,
    GalleryItem,
    GalleryPage,
    Heatmap,
    LayerDetail,
    MergeSummary,
    NeuronDetail,
    OwnBoard,
    PairPlace,
    Prediction,
    StrengthCurve,
)
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.merging import registry
from neuromerge.merging.linear import LAMBDAS, Part
from neuromerge.merging.measures import get_measure, measures
from neuromerge.merging.profile import Profile, factors, spelled_out
from neuromerge.merging.retention import retention_target
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.compare import Comparison, growing
from neuromerge.search.landscape import Landscape
from neuromerge.search.objective import Growing
from neuromerge.settings.setting import Setting

TASKS = ("digits", "letters", "flags", "animals", "food", "faces", "places", "objects")
TITLES = ("Digits", "Letters", "Flags", "Animals", "Food", "Faces", "Places", "Objects")
ROWS = ("stem", *(f"block {i}" for i in range(6)), "head")
COLUMNS = ("q", "k", "v", "out", "fc1", "fc2", "patch", "projection", "embedding", "norm", "bias")
PARAMETERS = tuple(
    Parameter(
        name=f"vision.{row}.{column}",
        key=f"{row}.{column}",
        tower="vision",
        layer=row,
        block=int(row.partition(" ")[2]) if row.startswith("block") else None,
        matrix=column,
        kind="neurons" if place < 8 else "pointwise",
        shape=(6, 4) if place < 8 else (6,),
        axis=0,
        start=0,
        stop=6,
    )
    for row in ROWS
    for place, column in enumerate(COLUMNS)
)
NEURONS = 192
BASE_WEIGHTS = {"layers.0.fc1.weight": np.ones((6, 4), np.float32), "layers.0.fc1.bias": np.zeros(6, np.float32)}
IMAGES = {"quick": 16, "validation": 160, "test": 200}


def family(name: str = "toy", title: str = "Toy family") -> Family:
    """Eight tasks with nothing behind them."""
    tasks = {
        task: TaskSpec(
            task,
            label,
            f"{label} of all kinds.",
            ("A", "B", "C") if task == "letters" else ("one", "two", "three"),
            ("a picture of a {}",),
            SampleSource("bundled"),
        )
        for task, label in zip(TASKS, TITLES, strict=True)
    }
    return Family(
        name=name,
        title=title,
        description="A family for tests.",
        base=f"bundled:{name}",
        experts={task: f"bundled:{name}/{task}" for task in TASKS},
        tasks=tasks,
        online=False,
        default_tasks=TASKS,
    )


def _random(*keys: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(keys).encode()))


def _resolved(value: float | str, automatic: float) -> float:
    """A coefficient as a number; one that keeps half as much as it is large asks for twice the retention."""
    target = retention_target(value)
    if target is not None:
        return 2 * target
    return automatic if value == "auto" else float(value)


def _coefficients(setting: Setting) -> tuple[float, float, float]:
    values = dict(setting.hyperparameters)
    trim = float(values.get("trim_ratio", 0.5))
    sigma = 0.6 * trim
    parallel, orthogonal = values.get("lambda_parallel", 0.0), values.get("lambda_orthogonal", "auto")
    return (
        0.0 if parallel == "auto" else float(parallel),
        _resolved(orthogonal, 1 / (1 - sigma)),
        sigma,
    )


def _factors(setting: Setting) -> dict[Part, np.ndarray]:
    """The factors of a setting's profile."""
    names = registry.get_method(setting.method).component_names
    cells = factors(setting.profile, PARAMETERS, names)
    single = np.arange(len(COLUMNS)) >= 8
    found: dict[Part, np.ndarray] = {}
    for part, own in LAMBDAS.items():
        name = own if own in names else names[0]
        here = np.array([[cells.get((row, column), {}).get(name, 1.0) for column in COLUMNS] for row in ROWS])
        found[part] = np.where(single == (part == "pointwise"), here, np.nan)
    return found


class FakeWorkspace:
    """Answers as the real workspace does, from formulas and seeds instead of weights. An `Explorer`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Setting]] = []
        self.added: list[str] = []
        self.strengths = 0  # points of strength curves
        self.growing_parts: tuple[float, ...] = ()  # shares of whole splits that boards show before the whole
        self.merge_first = False  # whether base and experts are measured after the merge
        self.by_task = False  # whether the merge is measured task after task
        self.first_look = 0.0  # share of the quick pictures that are looked at first

    def want(self, setting: Setting, who: str, is_there: Presence = always) -> Fetching | None:
        return None

    def fetching(self, who: str) -> Fetching | None:
        return None

    def stop_fetching(self, who: str) -> None:
        pass

    def resume_fetching(self, who: str) -> None:
        pass

    def recall(self, setting: Setting, compared: Setting) -> bool:
        return False

    def prepare(self, setting: Setting, compared: Setting, job: Job = UNATTENDED) -> None:
        self.board(setting, "validation", compared, job=job)

    def summary(self, setting: Setting, job: Job = UNATTENDED) -> MergeSummary:
        job.check()
        parallel, orthogonal, sigma = _coefficients(setting)
        tasks, kept = dict.fromkeys(setting.tasks, sigma), 0.5 * orthogonal
        used = {"lambda_parallel": parallel, "lambda_orthogonal": orthogonal, "lambda_pointwise": orthogonal}
        return MergeSummary(
            used,
            sigma,
            tasks,
            dict.fromkeys(setting.tasks, 0.2),
            12,
            9000,
            retention=dict.fromkeys(setting.tasks, kept),
        )

    def _scores(self, setting: Setting, split: str) -> dict[str, Accuracy]:
        parallel, orthogonal, _ = _coefficients(setting)
        quality = np.exp(-((orthogonal - 1.6) ** 2) / 3 - (parallel - 0.3) ** 2 / 4)
        return {
            task: _accuracy(0.35 + (0.35 if task in setting.tasks else 0.05) * quality + 0.03 * place / 8, split)
            for place, task in enumerate(TASKS)
        }

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
        job.check()
        self.calls.append((split, setting))
        return AccuracyBoard(
            split=split,
            tasks=TASKS,
            merged=frozenset(setting.tasks),
            base={task: _accuracy(0.35, split) for task in TASKS},
            expert={task: _accuracy(0.8 + 0.02 * place, split) for place, task in enumerate(TASKS)},
            merge=self._scores(setting, split),
            pinned=self._scores(pinned, split) if pinned else None,
            pinned_label=pinned_label,
            previous=self._scores(previous, split) if previous else None,
        )

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
        whole = self.board(setting, split, pinned, previous, pinned_label=pinned_label, job=job)
        pictures = IMAGES[split] * len(setting.tasks)
        if self.merge_first:
            awaited: dict[str, tuple[str, ...]] = {"base": TASKS, "expert": TASKS}
            yield replace(whole, base={}, expert={}, pictures=pictures, is_growing=True, awaited=awaited)
        for known in range(1, len(TASKS) if self.by_task else 1):
            some = TASKS[:known]
            scores = {task: whole.merge[task] for task in some}
            growing = replace(whole, tasks=some, merge=scores, pictures=pictures, is_growing=True)
            yield replace(growing, awaited={"merge": tuple(TASKS[known:])}, is_glance=True)
        first = (self.first_look,) if self.first_look else ()
        for part in first if split == "quick" else self.growing_parts:
            merge = {task: _part(score, part) for task, score in whole.merge.items()}
            grown = replace(whole, merge=merge, pictures=pictures, is_growing=True)
            if split == "quick":
                paired = {task: _part(score, part) for task, score in whole.base.items()}
                grown = replace(grown, is_glance=True, paired=(whole.base, paired))
            yield grown
        yield replace(whole, pictures=pictures)

    def strength_curve(self, setting: Setting, job: Job = UNATTENDED) -> Iterator[StrengthCurve]:
        strengths = np.linspace(0, 2, 13)
        accuracy = np.full(13, np.nan)
        parallel, orthogonal, _ = _coefficients(setting)
        used = {"lambda_parallel": parallel, "lambda_orthogonal": orthogonal}
        marks = {"auto": 1.2, "retention": 0.7}
        yield StrengthCurve(strengths, accuracy.copy(), 128, used, marks)
        for place, times in enumerate(strengths.tolist()):
            job.check()
            self.strengths += 1
            accuracy[place] = 0.4 + 0.3 * np.exp(-((times * orthogonal - 1.6) ** 2))
            yield StrengthCurve(strengths, accuracy.copy(), 128, used, marks)

    def at_strength(self, setting: Setting, times: float, job: Job = UNATTENDED) -> Setting:
        values = dict(setting.hyperparameters)
        values["lambda_orthogonal"] = round(times * _coefficients(setting)[1], 4)
        return replace(setting, hyperparameters=tuple(sorted(values.items())))

    def heatmap(self, setting: Setting, key: str, job: Job = UNATTENDED) -> Heatmap:
        job.check()
        info = get_measure(key)
        parallel, orthogonal, _ = _coefficients(setting)
        values = _random(key, setting.tasks).random((2, len(ROWS), len(COLUMNS)))
        if info.moves_with_lambda:
            values[0] *= parallel
            values[1] *= orthogonal
        values[:, 1:-1, 6:9] = np.nan
        values[:, 0, :6] = values[:, -1, :6] = np.nan
        values[0, :, 8:] = np.nan
        note = (
            "lambda_1 is 0: nothing of the parallel part is added." if parallel == 0 and info.moves_with_lambda else ""
        )
        return Heatmap(info, ROWS, COLUMNS, values[0], values[1], note_parallel=note, factors=_factors(setting))

    def spelled_out(self, setting: Setting, job: Job = UNATTENDED) -> Profile:
        return spelled_out(setting.profile, PARAMETERS, registry.get_method(setting.method).component_names)

    def between_tasks(self, setting: Setting, layer: str = "", matrix: str = "", job: Job = UNATTENDED) -> BetweenTasks:
        job.check()
        self.calls.append(("between tasks", setting))
        random, count = _random("pairs", layer, matrix, setting.tasks), len(setting.tasks)
        conflict = {name: random.normal(0, 0.1, (count, count)) for name in ("parallel", "orthogonal", "both")}
        for name, values in conflict.items():
            conflict[name] = (values + values.T) / 2
            np.fill_diagonal(conflict[name], np.nan)
        parallel, orthogonal, _ = _coefficients(setting)
        kept = {"parallel": parallel, "orthogonal": orthogonal, "both": (parallel + 3 * orthogonal) / 4}
        places = {
            (a, b): PairPlace(layer or f"block {(a + b) % 6}", matrix or "fc1", "orthogonal", 0.1)
            for a in range(count)
            for b in range(a + 1, count)
        }
        shares = {name: value * random.random(count) for name, value in kept.items()}
        return BetweenTasks(setting.tasks, layer, matrix, conflict, shares, np.full(count, 1 / count), places)

    def drift(self, setting: Setting, job: Job = UNATTENDED) -> Drift:
        job.check()
        self.calls.append(("drift", setting))
        _, orthogonal, _ = _coefficients(setting)
        count = len(setting.tasks)
        shares = _random("drift", setting.tasks).random((2, 6, count))
        far = np.cumsum(shares[0], axis=0) / 6 * abs(orthogonal - 1.1)
        return Drift(setting.tasks, ROWS[1:-1], np.minimum(far, 2.0), shares[1], (16,) * count)

    def effects(self, setting: Setting, split: str = "quick", job: Job = UNATTENDED) -> Iterator[EffectMap]:
        conflict = FakeWorkspace.heatmap(self, setting, "conflict")
        parts = [(row, "") for row in ROWS]
        parts += [(row, column) for row in ROWS for column in COLUMNS if _has(conflict, row, column)]
        growing = EffectMap(
            ROWS, COLUMNS, split, 8 * IMAGES[split], dict.fromkeys(setting.tasks, 0.5), conflict.orthogonal
        )
        growing = replace(growing, total=3 * len(parts))
        yield growing
        for times in (0.0, 0.5, 2.0):
            for row, column in parts:
                job.check()
                random = _random(row, column, times)
                by_task = dict(zip(setting.tasks, random.normal(0, 0.02, len(setting.tasks)).tolist(), strict=True))
                gained, lost = (int(count) for count in random.integers(0, 14, 2))
                mean = sum(by_task.values()) / len(by_task)
                effect = Effect(row, column, times, mean, 0.01, by_task, gained, lost)
                growing = replace(growing, effects=(*growing.effects, effect))
            yield growing

    def layer(
        self, setting: Setting, layer: str, matrix: str, sort: str = "contested", job: Job = UNATTENDED
    ) -> LayerDetail:
        job.check()
        present = ~np.isnan(FakeWorkspace.heatmap(self, setting, measures()[0].key).orthogonal)
        if layer not in ROWS or matrix not in COLUMNS or not present[ROWS.index(layer), COLUMNS.index(matrix)]:
            raise SettingError(f"The family has no cell {layer} / {matrix}.")
        random = _random(layer, matrix, setting.tasks)
        count = len(setting.tasks)
        cosine = np.clip(random.normal(0, 0.2, (count, count)), -1, 1)
        cosine = (cosine + cosine.T) / 2
        np.fill_diagonal(cosine, 1.0)
        contested = tuple(
            ContestedNeuron(int(random.integers(192)), 0.01 * i, float(random.random()), float(random.random()), i == 3)
            for i in range(12)
        )
        return LayerDetail(
            layer=layer,
            matrix=matrix,
            kind="neurons",
            tasks=setting.tasks,
            neurons=192,
            inputs=192,
            sort=sort,
            strength=random.random((48, count)),
            margin=np.sort(random.random(48)),
            bin_edges=np.linspace(0, 192, 49),
            cosine_parallel=cosine,
            cosine_orthogonal=cosine * 0.5,
            alpha_edges=np.linspace(-0.5, 1.5, 31),
            alpha_counts=random.integers(0, 60, (count, 30)),
            contested=contested,
            ill_conditioned=7,
        )

    def neuron(
        self,
        setting: Setting,
        layer: str,
        matrix: str,
        index: int,
        image_task: str | None = None,
        job: Job = UNATTENDED,
    ) -> NeuronDetail:
        job.check()
        if not 0 <= index < NEURONS:
            raise SettingError(f"This matrix has the neurons 0 to {NEURONS - 1}.")
        random = _random(layer, matrix, index)
        count = len(setting.tasks)
        parallel, orthogonal, _ = _coefficients(setting)
        left, singular, _ = np.linalg.svd(random.normal(size=(count, 12)), full_matrices=False)
        return NeuronDetail(
            layer=layer,
            matrix=matrix,
            index=index,
            tasks=setting.tasks,
            base_norm=1.3,
            c=random.normal(0, 0.1, count),
            c_merged=0.06,
            scores=left * singular,
            singular=singular,
            left=left,
            elected=random.normal(0, 0.4, len(singular)),
            alpha=random.random(count),
            tau_norm=np.linalg.norm(left * singular, axis=1),
            lambda_parallel=parallel,
            lambda_orthogonal=orthogonal,
            along_base=random.normal(0, 1, 64),
            along_direction=random.normal(0, 1, (64, len(singular))),
            image_labels=tuple("one" for _ in range(64)),
        )

    def input_pictures(self, setting: Setting, task: str, job: Job = UNATTENDED) -> tuple[Any, ...]:
        job.check()
        return tuple(np.full((8, 8, 3), place, dtype=np.uint8) for place in range(64))

    def gallery(
        self,
        setting: Setting,
        task: str,
        split: str = "validation",
        filter: str = "all",  # noqa: A002  (as the workspace calls it)
        page: int = 0,
        *,
        job: Job = UNATTENDED,
    ) -> GalleryPage:
        job.check()
        page = min(page, 2)
        random = _random(task, filter, page)
        items = tuple(
            GalleryItem(
                index=place,
                image=random.integers(0, 255, (48, 48, 3), dtype=np.uint8),
                truth="one",
                base="two",
                expert="one",
                merge="three" if place % 3 else "one",
            )
            for place in range(12)
        )
        return GalleryPage(items, 36, page, 3)

    def examples(self, setting: Setting, job: Job = UNATTENDED) -> tuple[Example, ...]:
        job.check()
        _, orthogonal, _ = _coefficients(setting)
        tasks = dict.fromkeys((setting.tasks[0], setting.tasks[len(setting.tasks) // 2]))
        image = np.full((8, 8, 3), 200, dtype=np.uint8)
        merge = "one" if orthogonal > 0.5 else "two"
        return tuple(Example(task, GalleryItem(0, image, "one", "two", "one", merge)) for task in tasks)

    def confusion(
        self, setting: Setting, task: str, split: str = "validation", job: Job = UNATTENDED
    ) -> Iterator[Confusion]:
        job.check()
        whole = _random(task).integers(0, 40, (3, 3))
        for part in (*self.growing_parts, 1.0):
            yield Confusion(task, ("one", "two", "three"), (part * whole).astype(int), int(whole.sum()))

    def classify(
        self,
        setting: Setting,
        image: Any,
        class_names: Sequence[str],
        template: str | Sequence[str],
        job: Job = UNATTENDED,
    ) -> tuple[Prediction, ...]:
        job.check()
        models = ("Base", *setting.tasks, "This merge")
        shown = tuple(class_names)[:5]
        share = 1 / len(shown)
        return tuple(Prediction(model, shown, (share,) * len(shown)) for model in models)

    def prompt_notes(
        self, setting: Setting, class_names: Sequence[str], template: str | Sequence[str]
    ) -> tuple[str, ...]:
        return tuple(f"The text tower does not know all of “{name}”." for name in class_names if not name.isascii())

    def add(self, family: Family) -> None:
        self.added.append(family.name)

    def forget(self, name: str) -> None:
        self.added.remove(name)

    def inspect(self, family: str, source: str, job: Job = UNATTENDED) -> Inspection:
        job.check()
        return inspect_checkpoint(source, BASE_WEIGHTS)

    def own_pictures(
        self,
        setting: Setting,
        source: str,
        template: str,
        limits: ArchiveLimits | None = None,
        most_classes: int | None = None,
        job: Job = UNATTENDED,
    ) -> OwnBoard:
        job.check()
        samples = own_samples(source, Path(source).name, limits)
        counts = {name: int((samples.labels == number).sum()) for number, name in enumerate(samples.classes)}
        models = ("Base", *setting.tasks, "This merge")
        scores = {model: Accuracy.of(place % (len(samples) + 1), len(samples)) for place, model in enumerate(models)}
        return OwnBoard(samples.task, counts, scores, samples.notes)

    def landscape(
        self,
        setting: Setting,
        x_name: str = "lambda_orthogonal",
        y_name: str = "lambda_parallel",
        *,
        job: Job = UNATTENDED,
    ) -> Iterator[Landscape]:
        job.check()
        x, y = np.linspace(0, 3, 7), np.linspace(-1, 2, 7)
        value = np.exp(-((x[None] - 1.6) ** 2) / 3 - (y[:, None] - 0.3) ** 2 / 4)
        yield Landscape(x_name, y_name, x, y, value, (1.5, 0.0))

    def comparison(self, setting: Setting, split: str = "quick", job: Job = UNATTENDED) -> Iterator[Comparison]:
        class Scorer:
            family = family()

            def scores(
                self, contents: Contents, tasks: Sequence[str], split: str, job: Job = UNATTENDED
            ) -> dict[str, Accuracy]:
                job.check()
                share = 0.3 + 0.5 * float(_random(contents).random())
                return {task: _accuracy(share, split) for task in tasks}

            def notes(self, tasks: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
                return ("digits: 1 file is left out: torn.png (it is damaged).",)

        yield from growing(Scorer(), setting.tasks, given=setting, tuned=False, split=split, job=job)

    def validation_scores(self, setting: Setting, job: Job = UNATTENDED) -> dict[str, float]:
        job.check()
        return {
            task: score.value for task, score in self._scores(setting, "validation").items() if task in setting.tasks
        }

    def objective(self, setting: Setting, *, certain: bool = False) -> Growing:
        scores = self.certainty if certain else self.validation_scores
        pictures = sum(score.n for task, score in self._scores(setting, "validation").items() if task in setting.tasks)
        return Growing(lambda setting, job, most: scores(setting, job), (1,), (pictures,))

    def certainty(self, setting: Setting, job: Job = UNATTENDED) -> dict[str, float]:
        return dict.fromkeys(setting.tasks, 0.5)

    def own_certainty(
        self,
        setting: Setting,
        source: str,
        task: str = "",
        limits: ArchiveLimits | None = None,
        job: Job = UNATTENDED,
    ) -> float:
        job.check()
        unlabelled_samples(source, limits)
        _, orthogonal, _ = _coefficients(setting)
        return float(np.exp(-((orthogonal - 1.2) ** 2)))

    def export_bytes(self, setting: Setting, layout: str | None) -> int:
        return 7

    def export(
        self, setting: Setting, layout: str | None, directory: str | Path, *, job: Job = UNATTENDED
    ) -> tuple[Path, ...]:
        job.report(0, 1, "model.safetensors")
        written = Path(directory) / "model.safetensors"
        written.write_bytes(b"weights")
        return (written,)


class SlowWorkspace(FakeWorkspace):
    """Scores, heatmaps and close-ups take many steps while `slow` is set.

    It counts the steps that were begun, and notes the answers that were finished.
    """

    most = 200
    seconds = 0.02

    def __init__(self) -> None:
        super().__init__()
        self.slow = threading.Event()
        self.under_way = threading.Event()
        self.steps = 0
        self.finished: list[tuple[str, Setting]] = []

    def begin(self) -> None:
        """From now on everything is slow, and counted from 0."""
        self.finished.clear()
        self.steps = 0
        self.under_way.clear()
        self.slow.set()

    def _work(self, what: str, setting: Setting, job: Job) -> None:
        pause = threading.Event()
        steps, seconds = (self.most, self.seconds) if self.slow.is_set() else (1, 0.0)
        for _ in range(steps):
            job.check()
            self.steps += 1
            self.under_way.set()
            pause.wait(seconds)
        self.finished.append((what, setting))

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
        self._work("board", setting, job)
        return super().board(setting, split, pinned, previous, pinned_label=pinned_label, job=job)

    def heatmap(self, setting: Setting, key: str, job: Job = UNATTENDED) -> Heatmap:
        self._work("heatmap", setting, job)
        return super().heatmap(setting, key, job)

    def layer(
        self, setting: Setting, layer: str, matrix: str, sort: str = "contested", job: Job = UNATTENDED
    ) -> LayerDetail:
        self._work("layer", setting, job)
        return super().layer(setting, layer, matrix, sort, job)

    def neuron(
        self,
        setting: Setting,
        layer: str,
        matrix: str,
        index: int,
        image_task: str | None = None,
        job: Job = UNATTENDED,
    ) -> NeuronDetail:
        self._work("neuron", setting, job)
        return super().neuron(setting, layer, matrix, index, image_task, job)


def loader(workspace: Explorer | None = None) -> WorkspaceLoader:
    """What gives the page a fake workspace."""
    made = FakeWorkspace() if workspace is None else workspace
    return WorkspaceLoader(lambda: made)


def _has(heatmap: Heatmap, row: str, column: str) -> bool:
    """Whether a layer has a matrix."""
    return bool(np.isfinite(heatmap.orthogonal[ROWS.index(row), COLUMNS.index(column)]))


def _part(score: Accuracy, share: float) -> Accuracy:
    return Accuracy.of(round(score.correct * share), round(score.n * share))


def _accuracy(share: float, split: str) -> Accuracy:
    n = IMAGES[split]
    correct = round(float(np.clip(share, 0, 1)) * n)
    half = 1.96 * (max(share * (1 - share), 0.01) / n) ** 0.5
    return Accuracy(correct, n, max(0.0, share - half), min(1.0, share + half))
