"""Runnable models of one family and what they say about pictures: embeddings, scores, predictions.

A model is a few megabytes to a gigabyte, and what it holds (the base, an expert, some merge) is overwritten in
milliseconds. So a handful of models serve everybody: whoever needs one borrows it, preferably one that holds
the right weights already, and nobody else touches it meanwhile. What a model said is kept by what it contents, so
that a setting that was seen before costs nothing.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from neuromerge.engine import embeddings, regions
from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.downloads import Downloads
from neuromerge.engine.embeddings import Embeddings, in_order
from neuromerge.engine.executor import Executor
from neuromerge.engine.parts import pictures_of, weights_of
from neuromerge.engine.regions import Asked, FamilyKey
from neuromerge.engine.stages import Stages, tasks_of
from neuromerge.errors import NeuroMergeError
from neuromerge.evaluation.activations import layer_inputs
from neuromerge.evaluation.heads import zero_shot_head
from neuromerge.evaluation.samples import SampleSet, growing_order, load_samples, prepared, quick_indices
from neuromerge.evaluation.towers import TextModel, VisionModel, vision_fingerprint
from neuromerge.hub.addresses import HUB, at_commit
from neuromerge.pages import own_pages
from neuromerge.progress import UNATTENDED, Job, Urgency
from neuromerge.threads import cores

if TYPE_CHECKING:
    from neuromerge.checkpoints import Checkpoint
    from neuromerge.evaluation.families import Family, TaskSpec

T = TypeVar("T")

_GLANCE_PRODUCTS, _TURN_PRODUCTS, _OWN_TURN_PRODUCTS = 2e9, 3e9, 8e9
"""Products of one turn of encoding: some hundredths of a second on two cores (63 images of the bundled model). A moved
slider waits for one, and smaller ones cost more by the image; for the slider itself a glance is one, and the rest of
its quick look."""
LIVE_PRODUCTS = 100e9
"""Products that the quick split may cost; a family whose quick split costs more looks at fewer pictures of it."""
_LEAST_PICTURES, _LEAST_AT_ONCE = 32, 8
_RETRY_SECONDS = 60.0
_POOL_BYTES = 768 * 1024**2
_POLL_SECONDS = 0.05


class ModelPool:
    """Models of one architecture that are lent out one at a time.

    `make` builds the first (later ones are copies), `fill(contents, model, job)` writes weights into one. At least
    two models exist once two are wanted, so that a long evaluation does not keep a slider waiting; more of
    them while they stay under three quarters of a gigabyte together, at most eight.
    """

    def __init__(self, make: Callable[[], VisionModel], fill: Callable[[Contents, VisionModel, Job], None]) -> None:
        self._make, self._fill = make, fill
        self._condition = threading.Condition()
        self._idle: list[tuple[VisionModel, Contents | None]] = []
        self._made = 0
        self._limit = 1
        self._first: VisionModel | None = None

    @property
    def template(self) -> VisionModel:
        """A model for its shapes and preprocessing (its weights belong to whoever borrowed it)."""
        with self._condition:
            if self._first is None:
                self._first = self._make()
                self._made = 1
                self._limit = max(2, min(8, _POOL_BYTES // max(1, self._first.size_bytes)))
                self._idle.append((self._first, None))
            return self._first

    @contextmanager
    def borrow(self, contents: Contents, job: Job = UNATTENDED) -> Iterator[VisionModel]:
        """A model that holds `contents`, for this thread alone until the block ends."""
        model, holds = self._take(contents, job)
        try:
            if holds != contents:
                holds = None  # while it is being written, it holds nothing that is known
                self._fill(contents, model, job)
                holds = contents
            yield model
        finally:
            with self._condition:
                self._idle.append((model, holds))
                self._condition.notify()

    def _take(self, contents: Contents, job: Job) -> tuple[VisionModel, Contents | None]:
        template = self.template
        while True:
            with self._condition:
                for place, (_, holds) in enumerate(self._idle):
                    if holds == contents:
                        return self._idle.pop(place)
                if self._made < self._limit and all(holds is not None for _, holds in self._idle):
                    self._made += 1
                    break
                if self._idle:
                    return self._idle.pop(0)  # the one given back longest ago
                self._condition.wait(_POLL_SECONDS)
            job.check()
        return template.copy(), None


class Models:
    """What the models of one family say. Thread-safe; everything said is kept in the cache.

    Args:
        live_products: what evaluating the quick split may cost: see `LIVE_PRODUCTS`.
        downloads: what fetches pictures from the Hub; None fetches them where they are asked for.
    """

    def __init__(
        self,
        family: Family,
        stages: Stages,
        cache: BoundedCache,
        executor: Executor,
        *,
        live_products: float = LIVE_PRODUCTS,
        downloads: Downloads | None = None,
    ) -> None:
        self.family = family
        self._live_products = live_products
        self._downloads = downloads
        self._stages, self._cache, self._executor = stages, cache, executor
        self._key = FamilyKey(family.name, str(family.base))
        self._lock = threading.Lock()
        self._text: TextModel | None = None
        self._with_head: set[str] = set()
        self._marks: dict[str | None, str] = {}
        self._orders: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
        self._without: dict[tuple[str, str], tuple[float, NeuroMergeError]] = {}
        self._pool = ModelPool(lambda: VisionModel.from_checkpoint(stages.checkpoint()), self._fill)

    # ------------------------------------------------------------------------------------------- models

    @property
    def vision(self) -> VisionModel:
        """A vision model of the family, for its shapes and preprocessing."""
        return self._pool.template

    @property
    def text(self) -> TextModel:
        """The text tower of the base: every merge uses it. Raises CheckpointError where the base has none."""
        with self._lock:
            if self._text is None:
                self._text = TextModel.from_checkpoint(self._stages.checkpoint())
            return self._text

    def checkpoint(self, task: str | None = None) -> Checkpoint:
        """The expert of `task`, or the base: see `Stages.checkpoint`."""
        return self._stages.checkpoint(task)

    def borrow(self, contents: Contents, job: Job = UNATTENDED) -> Any:
        """Context manager: a model that holds `contents`, for this thread alone."""
        return self._pool.borrow(contents, job)

    def _fill(self, contents: Contents, model: VisionModel, job: Job) -> None:
        base = self._stages.checkpoint()
        if contents.setting is None:
            source = base if contents.task is None else self._stages.checkpoint(contents.task)
            self._executor.run(lambda: model.load(source, base=base), job)
            return
        model.source = "This merge"
        self._stages.write(contents.setting, model.weights, job)
        merged = {parameter.name for parameter in self._stages.vectors(tasks_of(contents.setting)).parameters}
        for parameter in model.parameters:
            if parameter.name not in merged:
                model.weights[parameter.name].copy_(base.view(parameter))

    # ----------------------------------------------------------------------------------------- pictures

    def task(self, task: str) -> TaskSpec:
        """What a task is. Raises SettingError for one that cannot be evaluated."""
        return self.family.task(task)

    def samples(self, task: str, split: str) -> SampleSet:
        """The pictures of one split of one task.

        The quick split of a large model is thinned out, so that a slider stays live: to at least 32 pictures
        of all tasks together. A failure (the Hub cannot be reached) is remembered for a minute.

        Raises SettingError, AssetError or SourceUnavailableError where there are none, BeingFetched where they come.
        """
        key = (self._key, task, split)
        found = self._cache.peek(regions.SAMPLES, key)
        if found is not None:
            return found
        part = pictures_of(self.family, task)
        if self._downloads is not None and part is not None:
            self._downloads.require(part)
        with self._lock:
            failed = self._without.get((task, split))
        if failed is not None and time.monotonic() < failed[0]:
            raise failed[1]
        try:
            loaded = load_samples(self.family, task, split)
        except NeuroMergeError as error:
            with self._lock:
                self._without[task, split] = time.monotonic() + _RETRY_SECONDS, error
            raise
        if split == "quick":
            loaded = self._thinned(loaded)
        self._cache.put(regions.SAMPLES, key, loaded)
        return loaded

    def _thinned(self, quick: SampleSet) -> SampleSet:
        tasks = len(self.family.default_tasks or self.family.tasks)
        affordable = max(_LEAST_PICTURES, int(self._live_products / self._products)) // max(1, tasks)
        if affordable >= len(quick):
            return quick
        return quick.select(quick_indices(quick.labels, quick.ids, max(1, affordable))[: max(1, affordable)], "quick")

    @property
    def _products(self) -> float:
        """Products that one picture costs, roughly: parameters times tokens."""
        model = self.vision
        return float(sum(weight.numel() for weight in model.weights.values()) * model.tokens)

    def with_pictures(self, tasks: Sequence[str], split: str) -> tuple[str, ...]:
        """Those of `tasks` that have pictures here. Raises the first one's reason where none has."""
        reasons = self._reasons(tasks, split)
        found = tuple(task for task in tasks if task not in reasons)
        if not found and reasons:
            raise next(iter(reasons.values()))
        return found

    def without_pictures(self, tasks: Sequence[str], split: str) -> dict[str, str]:
        """Why the others of `tasks` have none."""
        return {task: str(reason) for task, reason in self._reasons(tasks, split).items()}

    def _reasons(self, tasks: Sequence[str], split: str) -> dict[str, NeuroMergeError]:
        reasons: dict[str, NeuroMergeError] = {}
        for task in tasks:
            try:
                self.samples(task, split)
            except NeuroMergeError as error:
                reasons[task] = error
        return reasons

    def notes(self, tasks: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
        """Sentences about pictures of these tasks that were sampled or left out. Raises as `samples`."""
        found = (note for split in splits for task in tasks for note in self.samples(task, split).notes)
        return tuple(dict.fromkeys(found))

    def head(self, task: str, job: Job = UNATTENDED) -> torch.Tensor:
        """Classifier weights (C, D) of a task. The first time they take up to half a minute of a large text tower."""
        spec = self.task(task)
        self.wait_for_head(task, job)
        found = zero_shot_head(
            self.text, spec.classes, spec.templates, keep=True, turn=lambda work: self._executor.run(work, job)
        )
        self._with_head.add(task)
        return found

    def wait_for_head(self, task: str, job: Job, or_until: Callable[[], bool] = lambda: False) -> bool:
        """Wait while the classifier of a task is being made ahead: see `Downloads.wait_for_head`."""
        base, pictures = weights_of(self.family, None), pictures_of(self.family, task)
        if self._downloads is None or base is None or pictures is None:
            return True
        return self._downloads.wait_for_head(base, pictures, job, or_until)

    def has_head(self, task: str) -> bool:
        """Whether the classifier of a task was made, so that to score what is known of its pictures costs nothing."""
        return task in self._with_head

    # -------------------------------------------------------------------------------------- embeddings

    def embeddings(
        self,
        contents: Contents,
        tasks: Sequence[str],
        split: str,
        job: Job = UNATTENDED,
        rows: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Unit-length embeddings (N, D) of a split's pictures (those at `rows`, by task), by task.

        All that nobody has asked for before are computed in one go; of no picture under the same weights twice.
        """
        wanted = {task: self._placed(task, split, None if rows is None else rows[task]) for task in tasks}
        seen = {task: self._seen(contents, task, part) for task, (part, _) in wanted.items()}
        asked = tuple(
            (task, part, missing.tobytes())
            for task, (part, places) in wanted.items()
            if len(missing := np.unique(places) if (known := seen[task]) is None else known.missing(places))
        )
        if asked:
            key = (self._key, contents, asked)
            fresh = self._cache.get(regions.BATCH, key, lambda: self._embed(contents, asked, job), job)
            for task, part, _ in asked:
                seen[task] = self._keep(contents, task, part, fresh[task])
            self._cache.discard(regions.BATCH, key)  # kept by task from now on
        return {task: known.at(places) for task, (_, places) in wanted.items() if (known := seen[task]) is not None}

    def _placed(self, task: str, split: str, rows: np.ndarray | None) -> tuple[str, np.ndarray]:
        """Rows of a split (all when None) as rows of the pictures it is a part of: quick pictures are of validation."""
        if rows is None:
            rows = np.arange(len(self.samples(task, split)))
        if split != "quick":
            return split, rows
        return "validation", self._quick_rows(task)[rows]

    def _quick_rows(self, task: str) -> np.ndarray:
        place = {name: row for row, name in enumerate(self.samples(task, "validation").ids)}
        return np.array([place[name] for name in self.samples(task, "quick").ids], dtype=np.int64)

    def _seen(self, contents: Contents, task: str, part: str) -> Embeddings | None:
        """What is known of some pictures, here or on disk."""
        key = (self._key, contents, task, part)
        found = self._cache.peek(regions.EMBEDDING, key)
        if found is None and (path := self._kept_at(contents, task, part)) is not None:
            found = embeddings.read(path)
            if found is not None and found.rows[-1:].max(initial=0) < len(self.samples(task, part)):
                self._cache.put(regions.EMBEDDING, key, found)
        return found

    def _keep(self, contents: Contents, task: str, part: str, fresh: Embeddings) -> Embeddings:
        """What is known with what was just seen; that of base and experts is kept on disk, too."""
        known = self._seen(contents, task, part)
        grown = fresh if known is None else known.and_those(fresh)
        grown = Embeddings(grown.rows, _outside_heap(grown.values))
        self._cache.put(regions.EMBEDDING, (self._key, contents, task, part), grown)
        if (path := self._kept_at(contents, task, part)) is not None:
            embeddings.write(path, grown)
        return grown

    def _kept_at(self, contents: Contents, task: str, part: str) -> Path | None:
        """Where embeddings outlive the process; None for those of merges, of what visitors bring, and cheap ones."""
        samples = self.samples(task, part)
        if contents.setting is not None or contents.task in self.family.brought:
            return None
        if not (samples.revision or self._is_costly(samples)):
            return None
        weights = [self._weights_mark(None), self._weights_mark(contents.task)]
        pictures = (samples.key, samples.ids) if samples.revision else (samples.content,)
        return embeddings.kept_at(*weights, *pictures, self.vision.settings, self.vision.preprocessing)

    def _is_costly(self, samples: SampleSet) -> bool:
        """Whether pictures of so many for each task are more than what is looked at in a few seconds."""
        return len(samples) * len(self.family.default_tasks or self.family.tasks) > self.pictures_at_once

    def _weights_mark(self, task: str | None) -> str:
        """Names the weights of an expert, or of the base: their commit on the Hub, else a hash of all of them.

        Neither the place nor the time of a file says what is in it.
        """
        with self._lock:
            found = self._marks.get(task)
        if found is None:
            checkpoint = self._stages.checkpoint(task)
            if checkpoint.revision and checkpoint.source.startswith(HUB):
                found = at_commit(checkpoint.source, checkpoint.revision)
            else:
                found = self._executor.run(partial(vision_fingerprint, checkpoint))
            with self._lock:
                self._marks[task] = found
        return found

    def class_tokens(
        self, contents: Contents, tasks: Sequence[str], split: str, job: Job = UNATTENDED
    ) -> dict[str, torch.Tensor]:
        """The class token after every block (N, blocks, width) of every picture of a split, by task.

        The pass that finds them finds the embeddings, too, and keeps both: who asks for accuracies next need not look
        again.
        """
        found = {task: self._cache.peek(regions.TOKENS, (self._key, contents, task, split)) for task in tasks}
        known = {task: tokens for task, tokens in found.items() if tokens is not None}
        missing = tuple(task for task in tasks if task not in known)
        if missing:
            key = (self._key, contents, split, missing)
            seen, fresh = self._cache.get(
                regions.TOKENS_BATCH, key, lambda: self._look(contents, missing, split, job), job
            )
            for task in missing:
                self._keep(contents, task, self._placed(task, split, None)[0], seen[task])
                self._cache.put(regions.TOKENS, (self._key, contents, task, split), fresh[task])
            self._cache.discard(regions.TOKENS_BATCH, key)  # kept by task from now on
            known.update(fresh)
        return {task: known[task] for task in tasks}

    def _look(
        self, contents: Contents, tasks: Sequence[str], split: str, job: Job
    ) -> tuple[dict[str, Embeddings], dict[str, torch.Tensor]]:
        """Embeddings and class tokens, by task."""
        wanted = {task: self._placed(task, split, None) for task in tasks}
        pictures = [self._prepared(task, *place) for task, place in wanted.items()]
        with self.borrow(contents, job) as model:
            done = self._in_turns(model.encode_blocks, torch.cat(pictures), job)
        lengths = [len(batch) for batch in pictures]
        found, tokens = (torch.cat(parts).split(lengths) for parts in zip(*done, strict=True))
        return (
            {task: in_order(rows, own) for (task, (_, rows)), own in zip(wanted.items(), found, strict=True)},
            {task: _outside_heap(own) for task, own in zip(tasks, tokens, strict=True)},
        )

    def _embed(self, contents: Contents, asked: Asked, job: Job) -> dict[str, Embeddings]:
        rows = {task: np.frombuffer(places, np.int64).copy() for task, _, places in asked}
        pictures = [self._prepared(task, part, rows[task]) for task, part, _ in asked]
        with self.borrow(contents, job) as model:
            encoded = self._encode(model, torch.cat(pictures), job).split([len(batch) for batch in pictures])
        return {task: Embeddings(rows[task], own) for (task, *_), own in zip(asked, encoded, strict=True)}

    def _prepared(self, task: str, part: str, rows: np.ndarray) -> torch.Tensor:
        return prepared(self.samples(task, part), self.vision.preprocessing, rows)

    def _encode(self, model: VisionModel, pictures: torch.Tensor, job: Job) -> torch.Tensor:
        done = self._in_turns(model.encode, pictures, job)
        return torch.cat(done) if done else torch.empty((0, model.dimensions))

    def _in_turns(self, look: Callable[[torch.Tensor], T], pictures: torch.Tensor, job: Job) -> list[T]:
        """`look` at some pictures a turn."""
        done: list[T] = []
        seen = 0
        for part in self.turns(pictures, job):
            done.append(self._executor.run(partial(look, part), job))
            seen += len(part)
            job.report(seen, len(pictures), "looking at pictures")
        return done

    def pictures(self, tasks: Sequence[str], split: str) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
        """Pictures of a split, uint8 (N, size, size, 3), task after task, and each task's labels (N,)."""
        samples = {task: self.samples(task, split) for task in tasks}
        ready = [self._prepared(task, *self._placed(task, split, None)) for task in tasks]
        return torch.cat(ready), {task: np.asarray(found.labels) for task, found in samples.items()}

    def turns(self, pictures: torch.Tensor, job: Job) -> Sequence[torch.Tensor]:
        """Pictures in short turns of equal length, for `compute`."""
        turns = max(1, math.ceil(len(pictures) / self._turn(job)))
        return pictures.split(max(1, math.ceil(len(pictures) / turns)))

    def _turn(self, job: Job) -> int:
        """Pictures of one turn: as many as are worth it for every core, of a small model more."""
        products = _OWN_TURN_PRODUCTS if job.urgency is Urgency.NOW else _TURN_PRODUCTS
        return max(cores() * self.vision.worthwhile, int(products / self._products))

    def compute(self, work: Callable[[], T], job: Job) -> T:
        """The result of `work` in a turn of its own."""
        return self._executor.run(work, job)

    # --------------------------------------------------------------------------- scores and predictions

    def predictions(
        self, contents: Contents, task: str, split: str, job: Job = UNATTENDED, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Predicted class indices (N,) int64 on one split of one task, or on its pictures at `rows`."""
        chosen = None if rows is None else {task: rows}
        return self._predict(self.embeddings(contents, (task,), split, job, chosen)[task], task, job)

    def _predict(self, embedding: torch.Tensor, task: str, job: Job) -> np.ndarray:
        return (embedding @ self.head(task, job).T).argmax(1).numpy()

    def scores(
        self, contents: Contents, tasks: Sequence[str], split: str, job: Job = UNATTENDED, most: int | None = None
    ) -> dict[str, Accuracy]:
        """Accuracy with its 95 % interval on a split, by task.

        `most`: on the first so many pictures of each task, in the fixed order of `order`.
        """
        known = self.known_scores(contents, tasks, split, most)
        missing = [task for task in tasks if task not in known]
        if missing:
            rows = None if most is None else {task: self.order(task, split)[:most] for task in missing}
            found = self.embeddings(contents, missing, split, job, rows)
            for task in missing:
                labels = self.samples(task, split).labels
                right = self._predict(found[task], task, job) == (labels if rows is None else labels[rows[task]])
                known[task] = Accuracy.of(int(right.sum()), len(right))
                self._cache.put(regions.SCORE, (self._key, contents, task, split, len(right)), known[task])
        return {task: known[task] for task in tasks}

    def known_scores(
        self, contents: Contents, tasks: Sequence[str], split: str, most: int | None = None
    ) -> dict[str, Accuracy]:
        """The scores that need no computation."""
        found = {}
        for task in tasks:
            whole = len(self.samples(task, split))
            key = (self._key, contents, task, split, whole if most is None else min(most, whole))
            found[task] = self._cache.peek(regions.SCORE, key)
        return {task: score for task, score in found.items() if score is not None}

    def order(self, task: str, split: str) -> np.ndarray:
        """All rows of a split in a fixed order of which every beginning is a fair sample; quick pictures come first."""
        samples = self.samples(task, split)
        with self._lock:
            known = self._orders.get((task, split))
        if known is None or known[0] != samples.key:
            first = self._quick_rows(task) if split == "validation" else np.arange(0)
            known = samples.key, growing_order(samples.labels, samples.ids, first)
            with self._lock:
                self._orders[task, split] = known
        return known[1]

    def seen(self, contents: Contents, task: str, split: str) -> int:
        """Of how many pictures in a row, from the beginning of `order`, it is known what the model says."""
        part, places = self._placed(task, split, self.order(task, split))
        known = self._seen(contents, task, part)
        if known is None:
            return 0
        here = np.isin(places, known.rows)
        return len(here) if here.all() else int(here.argmin())

    def glance(self, tasks: int) -> int:
        """How many pictures of each of so many tasks are looked at in some hundredths of a second."""
        return max(1, int(_GLANCE_PRODUCTS / self._products) // max(1, tasks))

    @property
    def pictures_at_once(self) -> int:
        """How many pictures are looked at in a few seconds: of more, scores are shown while they grow."""
        return max(_LEAST_AT_ONCE, int(2 * self._live_products / self._products))

    def recall(
        self, contents: Contents, split: str, scores: Mapping[str, Accuracy], said: Mapping[str, torch.Tensor]
    ) -> None:
        """Keep scores and embeddings (`said`) from when these very weights and pictures were measured before.

        Raises ValueError, keeping nothing, where that does not fit the pictures.
        """
        counts = {task: len(self.samples(task, split)) for task in (*scores, *said)}
        fits = all(score.n == counts[task] and 0 <= score.correct <= score.n for task, score in scores.items()) and all(
            values.dtype == torch.float32 and values.shape == (counts[task], self.vision.dimensions)
            for task, values in said.items()
        )
        if not fits:
            raise ValueError(f"these are no answers about the {split} pictures of {self.family.name}")
        for task, score in scores.items():
            self._cache.put(regions.SCORE, (self._key, contents, task, split, score.n), score)
        for task, values in said.items():
            part, places = self._placed(task, split, None)
            self._keep(contents, task, part, in_order(places, values))

    def probabilities(
        self, contents: Contents, picture: torch.Tensor, head: torch.Tensor, job: Job = UNATTENDED
    ) -> np.ndarray:
        """Class probabilities (C,) of one prepared picture, uint8 (1, size, size, 3), under any head (C, D)."""
        mark = hashlib.sha256(picture.numpy().tobytes()).hexdigest()

        def compute() -> torch.Tensor:
            with self.borrow(contents, job) as model:
                return self._encode(model, picture, job)

        embedding = self._cache.get(regions.PICTURE, (self._key, contents, mark), compute, job)
        logits = self.text.logit_scale * (embedding @ head.T)[0]
        return torch.softmax(logits, 0).numpy()

    def answers(self, contents: Contents, samples: SampleSet, head: torch.Tensor, job: Job = UNATTENDED) -> np.ndarray:
        """Predicted class indices (N,) int64 of pictures of no task of the family, under any head (C, D)."""
        return (self.embeddings_of(contents, samples, job) @ head.T).argmax(1).numpy()

    def embeddings_of(self, contents: Contents, samples: SampleSet, job: Job = UNATTENDED) -> torch.Tensor:
        """Unit-length embeddings (N, D) of pictures of no task of the family."""

        def compute() -> torch.Tensor:
            pictures = prepared(samples, self.vision.preprocessing)
            with self.borrow(contents, job) as model:
                return _outside_heap(self._encode(model, pictures, job))

        return self._cache.get(regions.OWN, (self._key, contents, samples.key), compute, job)

    def inputs_shown(self, task: str, most: int) -> SampleSet:
        """The pictures that `inputs` reads, in its order."""
        whole = self.samples(task, "validation")
        return whole.select(quick_indices(whole.labels, whole.ids, min(most, len(whole)))[:most])

    def inputs(
        self, layer: str, matrix: str, task: str, most: int, job: Job = UNATTENDED
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """The base model's inputs (N, inputs) of one linear map on up to `most` pictures, and what each shows.

        One input a picture: the class token's, or the middle patch for the patch convolution (see
        `evaluation.activations`). Raises SettingError where the map's inputs cannot be observed.
        """
        samples = self.inputs_shown(task, most)

        def compute() -> np.ndarray:
            pictures = prepared(samples, self.vision.preprocessing)
            with self.borrow(BASE, job) as model:
                return self._executor.run(lambda: layer_inputs(model, layer, matrix, pictures), job)

        shared = "qkv" if matrix in ("q", "k", "v") else matrix
        found = self._cache.get(regions.INPUTS, (self._key, layer, shared, task, most), compute, job)
        return found, tuple(samples.classes[label] for label in samples.labels)


def _outside_heap(tensor: torch.Tensor) -> torch.Tensor:
    """The same values in pages of their own.

    Embeddings outlive the layers' results among which they are allocated. In the C library's heap each would leave
    a hole too small for the next evaluation's largest block, and the process would grow by that block every time.
    """
    return own_pages(tensor.shape, tensor.dtype).copy_(tensor)
