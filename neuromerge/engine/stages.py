"""The stages of a merge, each cached by exactly what it depends on.

    weights (family) -> task vectors (tasks) -> thresholds, first pass, merged parts (tasks, trim ratio)
                     -> coefficients, weights of a model (setting)

A slider of lambda enters at the last stage, the trim slider at the one before; heatmaps need the statistics
of the first pass and no weights. Task vectors of large families are never stored: they are read from the
mapped files as they are used, which keeps eight experts out of memory (small families are held, see
`resident`). Merged parts (as large as one model) are kept while they fit the cache; where they are too large
(ViT-L on a small machine) a change of lambda reads the experts once more, with coefficients that are known
already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neuromerge.checkpoints import Checkpoint, align, load_checkpoint
from neuromerge.checkpoints.roles import Parameter
from neuromerge.engine import regions
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.downloads import Downloads
from neuromerge.engine.executor import Executor
from neuromerge.engine.parts import weights_of
from neuromerge.engine.regions import FamilyKey, Pass, Tasks
from neuromerge.engine.resident import (
    RESIDENT_BYTES,
    ResidentTask,
    ResidentVectors,
    SortedMagnitudes,
    task_vector,
    thresholds,
)
from neuromerge.errors import SettingError, quoted
from neuromerge.merging import kernels, passes, registry
from neuromerge.merging.chunks import as_they_are, map_chunks, merge_units
from neuromerge.merging.kernels.table import served
from neuromerge.merging.linear import Coefficients, Components, combine
from neuromerge.merging.measures import Cell, cells
from neuromerge.merging.measures.projection import with_merged
from neuromerge.merging.method import Findings, FirstPassHook, MergeMethod, Run
from neuromerge.merging.profile import factors
from neuromerge.merging.retention import Products, retention_target
from neuromerge.merging.staged import FirstPass, NeuronStatistics, Statistics, first_pass, merged_parts, revoted
from neuromerge.merging.trim import MagnitudeSample, Thresholds, apply_trim
from neuromerge.merging.vectors import AlignedVectors, WatchedVectors, read_chunk
from neuromerge.merging.votes import PUBLISHED
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.setting import Setting
from neuromerge.threads import between_steps

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

_MERGES_KEPT = 3  # of the largest family in use, the cache holds the parts of as many
_PARTS_SHARE = 0.4  # of the cache that the merged parts of one (tasks, trim ratio) may take


def tasks_of(setting: Setting) -> Tasks:
    """The task vectors that a setting merges."""
    return Tasks(setting.tasks, setting.task_weights)


def pass_of(setting: Setting) -> Pass:
    """The first pass whose statistics belong to a setting; by the published vote where the method has none."""
    method, values = registry.get_method(setting.method), dict(setting.hyperparameters)
    hook = method.first_pass
    vote = PUBLISHED if hook is None else hook.vote(values)
    return Pass(tasks_of(setting), method.trim_ratio(values), vote)


def structure_of(setting: Setting) -> Setting:
    """The setting that stands for all that differ from `setting` in nothing but coefficients and their profile."""
    method = registry.get_method(setting.method)
    kept = tuple(method.structure(dict(setting.hyperparameters)).items())
    seed = setting.seed if method.stochastic else 0
    return replace(setting, hyperparameters=kept, seed=seed, profile=())


class Stages:
    """The stages of one family's merges.

    Thread-safe. Heavy steps take turns; all results live in the cache that is handed in, so that several
    families share one bound.
    """

    def __init__(
        self, family: Family, cache: BoundedCache, executor: Executor, downloads: Downloads | None = None
    ) -> None:
        self.family = family
        self._downloads = downloads
        self._cache = cache
        self._executor = executor
        self._key = FamilyKey(family.name, str(family.base))
        self._lock = threading.Lock()
        self._checkpoints: dict[str | None, Checkpoint] = {}

    # ------------------------------------------------------------------------------------------- weights

    def checkpoint(self, task: str | None = None) -> Checkpoint:
        """The expert of `task`, or the base; opened once, read when needed.

        Raises CheckpointError, AssetError or SourceUnavailableError when it cannot be opened, SettingError
        for an unknown task; BeingFetched where it has to be fetched and that is others' work.
        """
        with self._lock:
            found = self._checkpoints.get(task)
        if found is None:
            source, part = self.family.source(task), weights_of(self.family, task)
            if self._downloads is not None and part is not None:
                source = self._downloads.require(part)
            found = load_checkpoint(source, name=task or self.family.name)
            if task in self.family.brought:
                found.source = self.family.written(task)  # what is exported tells nobody where the server keeps it
            with self._lock:
                found = self._checkpoints.setdefault(task, found)
        return found

    def vectors(self, tasks: Tasks) -> AlignedVectors:
        """The task vectors of `tasks`, in memory for small families. Raises AlignmentError where one does not fit."""

        def load() -> AlignedVectors:
            aligned = align(self.checkpoint(), [self.checkpoint(task) for task in tasks.names])
            vectors = AlignedVectors(aligned, weights=tasks.weights)
            kernels.prepare(vectors.entries * len(tasks.names), vectors.dtype, vectors.device)
            self._cache.make_room(_MERGES_KEPT * vectors.entries * vectors.dtype.itemsize)
            if not self._fits(vectors):
                return vectors
            return ResidentVectors(vectors, [self._resident(task).tau for task in tasks.names])

        return self._cache.get(regions.VECTORS, (self._key, tasks), load)

    def _fits(self, vectors: AlignedVectors) -> bool:
        """Whether base and all task vectors of the family are small enough to be held."""
        return vectors.entries * vectors.dtype.itemsize * (1 + len(self.family.experts)) <= RESIDENT_BYTES

    def _resident(self, task: str) -> ResidentTask:
        """The task vector of one expert and its sorted magnitudes."""

        def load() -> ResidentTask:
            tau = task_vector(AlignedVectors(align(self.checkpoint(), [self.checkpoint(task)])))
            return ResidentTask(tau, SortedMagnitudes(tau))

        return self._cache.get(regions.RESIDENT, (self._key, task), lambda: self._executor.run(load))

    def _sample(self, tasks: Tasks) -> MagnitudeSample:
        return self._cache.get(regions.SAMPLE, (self._key, tasks), lambda: MagnitudeSample(self.vectors(tasks)))

    # -------------------------------------------------------------------------------------- trim and pass

    def thresholds(self, tasks: Tasks, ratio: float, job: Job = UNATTENDED) -> Thresholds:
        """The thresholds of the global trim."""

        def compute() -> Thresholds:
            vectors = self.vectors(tasks)
            if isinstance(vectors, ResidentVectors):
                magnitudes = [self._resident(task).magnitudes for task in tasks.names]
                return thresholds(magnitudes, vectors.entries, ratio, tasks.weights)
            sample = self._sample(tasks)
            return self._executor.run(lambda: sample.thresholds(ratio, job), job)

        return self._cache.get(regions.THRESHOLDS, (self._key, tasks, ratio), compute, job)

    def first_pass(self, wanted: Pass, job: Job = UNATTENDED) -> FirstPass:
        """The statistics of every neuron, sign conflicts not counted (no parts; `_parts` has them)."""

        def compute() -> FirstPass:
            if wanted.vote != PUBLISHED:  # another vote on the same Gram matrices: no pass over the weights
                first = self.first_pass(replace(wanted, vote=PUBLISHED), job)
                return self._executor.run(lambda: revoted(first, wanted.vote), job)
            done = self._pass(wanted, job)
            if done.orthogonal:
                self._cache.put(regions.PARTS, (self._key, wanted), done.orthogonal)
            return replace(done, orthogonal={})

        return self._cache.get(regions.FIRST_PASS, (self._key, wanted), compute, job)

    def keeps_components(self, tasks: Tasks) -> bool:
        """Whether components of this family's merges are small enough to be kept."""
        vectors = self.vectors(tasks)
        return vectors.entries * vectors.dtype.itemsize <= _PARTS_SHARE * self._cache.limit

    def _parts(self, wanted: Pass, job: Job) -> dict[str, torch.Tensor]:
        """The merged orthogonal parts (and psi of pointwise parameters)."""
        first, vectors = self.first_pass(wanted, job), self.vectors(wanted.tasks)

        def compute() -> dict[str, torch.Tensor]:
            return self._executor.run(lambda: merged_parts(vectors, first, job), job)

        return self._cache.get(regions.PARTS, (self._key, wanted), compute, job)

    def _pass(self, wanted: Pass, job: Job, *, parts: bool = True, conflict: bool = False) -> FirstPass:
        vectors, keep = self.vectors(wanted.tasks), parts and self.keeps_components(wanted.tasks)
        found = self.thresholds(wanted.tasks, wanted.ratio, job)
        return self._executor.run(
            lambda: first_pass(vectors, found, keep_parts=keep, count_conflict=conflict, by=wanted.vote, job=job), job
        )

    # -------------------------------------------------------------------------- components and coefficients

    def coefficients(self, setting: Setting, job: Job = UNATTENDED) -> Coefficients:
        """The coefficients of a setting as numbers, shaped by its profile.

        Raises SettingError where the profile names a part that the model does not have.
        """
        method, values = registry.get_method(setting.method), dict(setting.hyperparameters)
        tasks = tasks_of(setting)
        known = Findings(
            values,
            thresholds=lambda: self.thresholds(tasks, method.trim_ratio(values), job),
            factors=factors(setting.profile, self.vectors(tasks).parameters, method.component_names),
            products=lambda: self.products(setting, job),
        )
        return method.resolve(known)

    def products(self, setting: Setting, job: Job = UNATTENDED) -> Products:
        """What retention follows from, at any coefficients: of components that are kept, or by a pass of its own."""
        hook, own = registry.get_method(setting.method).first_pass, (self._key, structure_of(setting))
        if hook is not None:
            statistics = self.first_pass(pass_of(setting), job).statistics.values()
            return self._cache.get(regions.PRODUCTS, own, lambda: _products_of(hook, statistics), job)

        def compute() -> Products:
            begin = self._begin(setting, job)
            kept = self.components(setting, job) if self.keeps_components(tasks_of(setting)) else None
            return self._executor.run(lambda: passes.products(*begin(), kept), job)

        return self._cache.get(regions.PRODUCTS, own, compute, job)

    def retention(self, setting: Setting, job: Job = UNATTENDED) -> dict[str, float]:
        """What each task keeps of its own change, by task; empty where that takes a pass that nobody asked for."""
        method, values = registry.get_method(setting.method), dict(setting.hyperparameters)
        asked = any(retention_target(values[name]) is not None for name in method.coefficients)
        if method.first_pass is None and not asked and not self.keeps_components(tasks_of(setting)):
            return {}
        kept = self.products(setting, job).retention(self.coefficients(setting, job))
        return dict(zip(setting.tasks, kept.tolist(), strict=True))

    def components(self, setting: Setting, job: Job = UNATTENDED) -> Mapping[str, Components]:
        """By parameter name, what the coefficients of a setting multiply: the same for all coefficients."""
        hook = registry.get_method(setting.method).first_pass
        if hook is not None:
            wanted = pass_of(setting)
            statistics, parts = self.first_pass(wanted, job).statistics, self._parts(wanted, job)
            return {name: hook.components(statistics[name], part) for name, part in parts.items()}

        def compute() -> dict[str, Components]:
            # Looked up before the turn: who computes never waits for somebody who waits for a turn.
            begin = self._begin(setting, job)
            return self._executor.run(lambda: {p.name: found for p, found in passes.components(*begin())}, job)

        return self._cache.get(regions.COMPONENTS, (self._key, structure_of(setting)), compute, job)

    def cells(self, setting: Setting, job: Job = UNATTENDED, *, count_signs: bool = False) -> tuple[Cell, ...]:
        """The sums behind every measure, cell by cell; scale them with `coefficients`.

        Sign conflicts of the orthogonal parts are counted only where `count_signs` asks for them: they cost half
        of a first pass more, and a trim slider should not wait for what is not on the page.
        """
        wanted = pass_of(setting)

        def compute() -> tuple[Cell, ...]:
            if count_signs:
                return cells(self._pass(wanted, job, parts=False, conflict=True))
            return cells(self.first_pass(wanted, job))

        found = self._cache.get(regions.CELLS, (self._key, wanted, count_signs), compute, job)
        if registry.get_method(setting.method).first_pass is not None or count_signs:
            return found  # conflicts are between the tasks, whatever the method makes of them
        own = (self._key, structure_of(setting))
        return self._cache.get(regions.OWN_CELLS, own, lambda: self._with_merged(setting, found, job), job)

    def _with_merged(self, setting: Setting, found: tuple[Cell, ...], job: Job) -> tuple[Cell, ...]:
        """`found` with the merged part of the setting's own method in the place of the first pass's."""
        first, vectors = self.first_pass(pass_of(setting), job), self.vectors(tasks_of(setting))
        components = self.components(setting, job)
        return self._executor.run(lambda: with_merged(found, first, vectors, components, job), job)

    # ------------------------------------------------------------------------------------ merged weights

    def write(self, setting: Setting, weights: Mapping[str, torch.Tensor], job: Job = UNATTENDED) -> None:
        """Write the merge of `setting` into `weights` (parameter name -> writable float32 tensor).

        Names that the merge does not touch are left alone.
        """
        used, vectors = self.coefficients(setting, job), self.vectors(tasks_of(setting))
        hook = registry.get_method(setting.method).first_pass
        if self.keeps_components(tasks_of(setting)):
            work = partial(_add_up, vectors, self.components(setting, job), used, weights, job)
        elif hook is not None:
            work = partial(_merge_again, vectors, hook, self.first_pass(pass_of(setting), job), used, weights, job)
        else:
            work = partial(_stream, self._begin(setting, job), used, weights)
        self._executor.run(work, job)

    def _begin(self, setting: Setting, job: Job) -> Callable[[], _Begun]:
        """Starts the method's own passes when called; all that is looked up first is looked up now."""
        method, values = registry.get_method(setting.method), dict(setting.hyperparameters)
        tasks = tasks_of(setting)
        watched = WatchedVectors(self.vectors(tasks), lambda _: job.check())
        found = self.thresholds(tasks, method.trim_ratio(values), job)
        return lambda: (watched, method, method.begin(watched, values, setting.seed, found, job))

    # ------------------------------------------------------------------------------------- single neurons

    def rows(self, wanted: Pass, statistics: Statistics, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (rows, ...), trimmed tau (T, rows, ...)) of some rows of one parameter, in float64."""
        base, tau = self.vectors(wanted.tasks).read(statistics.parameter, start, stop)
        # A copy even where nothing is to be widened: tau is good until the next reading alone.
        trimmed = apply_trim(tau, self.thresholds(wanted.tasks, wanted.ratio))
        return base.double(), trimmed.to(torch.float64, copy=True)

    def in_cell(self, wanted: Pass, layer: str, matrix: str, job: Job = UNATTENDED) -> tuple[Statistics, ...]:
        """The statistics of the parameters of one cell; linear maps alone where there are any.

        Raises SettingError, listing what there is, when the family has no such cell.
        """
        first = self.first_pass(wanted, job)
        found = [s for s in first.statistics.values() if (s.parameter.layer, s.parameter.matrix) == (layer, matrix)]
        if not found:
            layers = dict.fromkeys(s.parameter.layer for s in first.statistics.values())
            matrices = dict.fromkeys(s.parameter.matrix for s in first.statistics.values())
            raise SettingError(
                f"The family {self.family.name} has no cell {quoted(layer)}, {quoted(matrix)}. "
                f"Layers: {', '.join(layers)}; matrices: {', '.join(matrices)} (not every layer has all of them)."
            )
        maps = tuple(s for s in found if isinstance(s, NeuronStatistics))
        return maps or tuple(found)


_Begun = tuple[WatchedVectors, MergeMethod, Run[Any]]


def _products_of(hook: FirstPassHook, statistics: Collection[Statistics]) -> Products:
    """Inner products as a first pass found them: no look at the weights."""
    places = tuple(of_parameter.parameter for of_parameter in statistics)
    found = [hook.products(of_parameter) for of_parameter in statistics]
    return Products(places, tuple(products for products, _ in found), np.sum([own for _, own in found], axis=0))


def _add_up(
    vectors: AlignedVectors,
    components: Mapping[str, Components],
    used: Coefficients,
    weights: Mapping[str, torch.Tensor],
    job: Job,
) -> None:
    """Merge from components that are kept: one pass over base and components."""
    for parameter in vectors.parameters:
        if parameter.name in weights:
            job.check()
            base = vectors.base(parameter)
            combine(base, components[parameter.name], used.at(parameter), weights[parameter.name])
            between_steps()


def _merge_again(
    vectors: AlignedVectors,
    hook: FirstPassHook,
    first: FirstPass,
    used: Coefficients,
    weights: Mapping[str, torch.Tensor],
    job: Job,
) -> None:
    """Merge from the experts with the statistics of the first pass, whose parts were too large to keep."""
    fused = served(vectors)

    def work(parameter: Parameter, start: int, stop: int) -> None:
        job.check()
        chunk, out = read_chunk(vectors, parameter, start, stop, fused=fused), weights[parameter.name][start:stop]
        hook.merge_chunk(chunk, first.thresholds, first.statistics[parameter.name], used.at(parameter), out)

    def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
        return merge_units(parameter, len(vectors.task_names))

    wanted = [parameter for parameter in vectors.parameters if parameter.name in weights]
    for _ in map_chunks(work, wanted, split, as_they_are):
        pass


def _stream(begin: Callable[[], _Begun], used: Coefficients, weights: Mapping[str, torch.Tensor]) -> None:
    """Merge as the library does, parameter by parameter."""
    vectors, method, run = begin()
    wanted = [parameter for parameter in vectors.parameters if parameter.name in weights]
    for _ in passes.merged_weights(vectors, method, run, used, lambda p: weights[p.name], wanted):
        pass
