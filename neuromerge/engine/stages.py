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
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from neuromerge.checkpoints import Checkpoint, align, load_checkpoint
from neuromerge.checkpoints.roles import Parameter
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.executor import Turns
from neuromerge.engine.resident import (
    RESIDENT_BYTES,
    ResidentVectors,
    SortedMagnitudes,
    task_vector,
    thresholds,
)
from neuromerge.errors import SettingError
from neuromerge.merging import election, registry
from neuromerge.merging.baselines.scaled import ScaledMethod
from neuromerge.merging.chunks import map_chunks, merge_units, row_chunks
from neuromerge.merging.measures import Cell, Moments, cells
from neuromerge.merging.neuromerging import Coefficients
from neuromerge.merging.registry import AUTO
from neuromerge.merging.staged import (
    FirstPass,
    NeuronStatistics,
    PointwiseStatistics,
    Statistics,
    combine,
    first_pass,
)
from neuromerge.merging.trim import MagnitudeSample, Thresholds, apply_trim
from neuromerge.merging.vectors import AlignedVectors
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

NEUROMERGING = "neuromerging"
_PARTS_SHARE = 0.4  # of the cache that the merged parts of one (tasks, trim ratio) may take
_CELL_BYTES = 4096  # of three Gram matrices of some tasks and a few numbers, about


def trim_ratio_of(setting: Setting) -> float:
    """The share of each task vector that the setting's method removes; 0 for methods that do not trim."""
    return float(dict(setting.hyperparameters).get("trim_ratio", 0.0))


class Stages:
    """The stages of one family's merges.

    Thread-safe. Heavy steps take turns; all results live in the cache that is handed in, so that several
    families share one bound.
    """

    def __init__(self, family: Family, cache: BoundedCache, turns: Turns) -> None:
        self.family = family
        self._cache = cache
        self._turns = turns
        self._key = (family.name, str(family.base))
        self._lock = threading.Lock()
        self._checkpoints: dict[str | None, Checkpoint] = {}

    # ------------------------------------------------------------------------------------------- weights

    def checkpoint(self, task: str | None = None) -> Checkpoint:
        """The expert of `task`, or the base; opened once, read when needed.

        Raises CheckpointError, AssetError or SourceUnavailableError when it cannot be opened, SettingError
        for an unknown task.
        """
        with self._lock:
            found = self._checkpoints.get(task)
        if found is None:
            source = self.family.source(task)
            found = load_checkpoint(source, name=task or self.family.name)
            with self._lock:
                found = self._checkpoints.setdefault(task, found)
        return found

    def vectors(self, tasks: tuple[str, ...]) -> AlignedVectors:
        """The task vectors of `tasks`, in memory for small families. Raises AlignmentError where one does not fit."""

        def load() -> AlignedVectors:
            aligned = AlignedVectors(align(self.checkpoint(), [self.checkpoint(task) for task in tasks]))
            if not self._fits(aligned):
                return aligned
            return ResidentVectors(aligned, [self._resident(task)[0] for task in tasks])

        # What is resident is counted where it is shared, with the task.
        return self._cache.get(("vectors", *self._key, tasks), load, size=lambda _: 1 << 16)

    def _fits(self, aligned: AlignedVectors) -> bool:
        """Whether base and all task vectors of the family are small enough to be held."""
        return aligned.entries * aligned.dtype.itemsize * (1 + len(self.family.experts)) <= RESIDENT_BYTES

    def _resident(self, task: str) -> tuple[dict[str, torch.Tensor], SortedMagnitudes]:
        """The task vector of one expert and its sorted magnitudes."""

        def load() -> tuple[dict[str, torch.Tensor], SortedMagnitudes]:
            tau = task_vector(AlignedVectors(align(self.checkpoint(), [self.checkpoint(task)])))
            return tau, SortedMagnitudes(tau)

        key = ("resident", *self._key, task)
        return self._cache.get(key, lambda: self._turns.run(load), size=lambda r: _bytes(r[0]) + r[1].nbytes)

    def _sample(self, tasks: tuple[str, ...]) -> MagnitudeSample:
        # The sample is drawn at the first threshold and then holds 2^17 float32 of every task.
        key = ("sample", *self._key, tasks)
        return self._cache.get(key, lambda: MagnitudeSample(self.vectors(tasks)), size=lambda _: len(tasks) * (1 << 19))

    # -------------------------------------------------------------------------------------- trim and pass

    def thresholds(self, tasks: tuple[str, ...], ratio: float, job: Job = UNATTENDED) -> Thresholds:
        """The thresholds of the global trim."""

        def compute() -> Thresholds:
            vectors = self.vectors(tasks)
            if isinstance(vectors, ResidentVectors):
                return thresholds([self._resident(task)[1] for task in tasks], vectors.entries, ratio)
            sample = self._sample(tasks)
            return self._turns.run(lambda: sample.thresholds(ratio, job), job)

        return self._cache.get(("thresholds", *self._key, tasks, ratio), compute, job=job)

    def first_pass(self, tasks: tuple[str, ...], ratio: float, job: Job = UNATTENDED) -> FirstPass:
        """The statistics of every neuron, sign conflicts not counted (no parts; `parts` has them)."""

        def compute() -> FirstPass:
            done = self._pass(tasks, ratio, job)
            if done.orthogonal:
                self._cache.put(self._parts_key(tasks, ratio), done.orthogonal, _bytes(done.orthogonal))
            return replace(done, orthogonal={})

        return self._cache.get(("pass", *self._key, tasks, ratio), compute, size=lambda f: f.nbytes, job=job)

    def parts(self, tasks: tuple[str, ...], ratio: float, job: Job = UNATTENDED) -> dict[str, torch.Tensor] | None:
        """The merged orthogonal parts (and psi of pointwise parameters); None where they are too large to keep."""
        if not self.keeps_parts(tasks):
            return None
        self.first_pass(tasks, ratio, job)
        key = self._parts_key(tasks, ratio)
        return self._cache.get(key, lambda: self._pass(tasks, ratio, job).orthogonal, size=_bytes, job=job)

    def keeps_parts(self, tasks: tuple[str, ...]) -> bool:
        """Whether merged parts of this family are small enough to be kept."""
        vectors = self.vectors(tasks)
        return vectors.entries * vectors.dtype.itemsize <= _PARTS_SHARE * self._cache.limit

    def _parts_key(self, tasks: tuple[str, ...], ratio: float) -> tuple[object, ...]:
        return ("parts", *self._key, tasks, ratio)

    def _pass(
        self, tasks: tuple[str, ...], ratio: float, job: Job, *, parts: bool = True, conflict: bool = False
    ) -> FirstPass:
        vectors, keep = self.vectors(tasks), parts and self.keeps_parts(tasks)
        found = self.thresholds(tasks, ratio, job)
        return self._turns.run(
            lambda: first_pass(vectors, found, keep_parts=keep, count_conflict=conflict, job=job),
            job,
        )

    # ------------------------------------------------------------------------------------- coefficients

    def coefficients(self, setting: Setting, job: Job = UNATTENDED) -> Coefficients:
        """lambda_1, lambda_2 and the coefficient of pointwise parameters of a NeuroMerging setting, as numbers.

        For other methods all three are the factor on the whole change.
        """
        method = registry.get_method(setting.method)
        if setting.method != NEUROMERGING:
            factor = method.factor(dict(setting.hyperparameters)) if isinstance(method, ScaledMethod) else 1.0
            return Coefficients(factor, factor, factor)
        parallel, orthogonal, pointwise = (
            setting.value(name) for name in ("lambda_parallel", "lambda_orthogonal", "lambda_pointwise")
        )
        if orthogonal == AUTO:
            orthogonal = self.thresholds(setting.tasks, trim_ratio_of(setting), job).auto_lambda
        return Coefficients(
            parallel=0.0 if parallel == AUTO else float(parallel),
            orthogonal=float(orthogonal),
            pointwise=float(orthogonal) if pointwise == AUTO else float(pointwise),
        )

    def cells(self, setting: Setting, job: Job = UNATTENDED, *, conflict: bool = False) -> tuple[Cell, ...]:
        """The sums behind every measure, cell by cell; scale them with `coefficients`.

        Sign conflicts of the orthogonal parts are counted only where `conflict` asks for them: they cost half
        of a first pass more, and a trim slider should not wait for what is not on the page.
        """
        tasks, ratio = setting.tasks, trim_ratio_of(setting)

        def compute() -> tuple[Cell, ...]:
            if conflict:
                return cells(self._pass(tasks, ratio, job, parts=False, conflict=True))
            return cells(self.first_pass(tasks, ratio, job))

        key = ("cells", *self._key, tasks, ratio, conflict)
        found = self._cache.get(key, compute, size=lambda made: len(made) * _CELL_BYTES, job=job)
        if setting.method == NEUROMERGING or conflict:
            return found  # conflicts are between the tasks, whatever the method makes of them
        own = ("cells", *self._key, _without_scale(setting))
        return self._cache.get(own, lambda: self._moved(setting, found, job), job=job)

    # ------------------------------------------------------------------------------------ merged weights

    def write(self, setting: Setting, weights: Mapping[str, torch.Tensor], job: Job = UNATTENDED) -> None:
        """Write the merge of `setting` into `weights` (parameter name -> writable float32 tensor).

        Names that the merge does not touch are left alone.
        """
        used = self.coefficients(setting, job)
        vectors = self.vectors(setting.tasks)
        if setting.method == NEUROMERGING:
            first = self.first_pass(setting.tasks, trim_ratio_of(setting), job)
            parts = self.parts(setting.tasks, trim_ratio_of(setting), job)
            work = partial(_write_neurons, vectors, first, parts, used, weights, job)
        else:
            changes = self._changes(setting, job) if self.keeps_parts(setting.tasks) else None
            streamed = _unit_changes(setting, vectors, job) if changes is None else iter(changes.items())
            work = partial(_write_changes, vectors, streamed, used.orthogonal, weights, job)
        self._turns.run(work, job)

    def _changes(self, setting: Setting, job: Job) -> dict[str, torch.Tensor]:
        """The merged change of every parameter under another method than NeuroMerging, its scale left at 1."""
        key = ("changes", *self._key, _without_scale(setting))

        def compute() -> dict[str, torch.Tensor]:
            # Looked up before the turn: who computes never waits for somebody who waits for a turn.
            vectors = self.vectors(setting.tasks)
            return self._turns.run(lambda: dict(_unit_changes(setting, vectors, job)), job)

        return self._cache.get(key, compute, size=_bytes, job=job)

    def _moved(self, setting: Setting, found: tuple[Cell, ...], job: Job) -> tuple[Cell, ...]:
        """`found` with the merged part of another method (at scale 1) in the place of NeuroMerging's."""
        tasks, ratio = setting.tasks, trim_ratio_of(setting)
        first, vectors = self.first_pass(tasks, ratio, job), self.vectors(tasks)
        changes = self._changes(setting, job)
        sums: dict[tuple[str, str, str], tuple[np.ndarray, float]] = {}

        def work() -> None:
            for name, statistics in first.statistics.items():
                job.check()
                parameter = statistics.parameter
                for subspace, dots, square in _projections(vectors, first.thresholds, statistics, changes[name]):
                    key = (parameter.layer, parameter.matrix, subspace)
                    before = sums.get(key, (np.zeros(len(tasks)), 0.0))
                    sums[key] = (before[0] + dots, before[1] + square)

        self._turns.run(work, job)

        def moved(cell: Cell, subspace: str, moments: Moments | None) -> Moments | None:
            if moments is None:
                return None
            dots, square = sums[cell.layer, cell.matrix, subspace]
            return replace(moments, merged_dot=dots, merged_square=square)

        return tuple(
            replace(
                cell,
                parallel=moved(cell, "parallel", cell.parallel),
                orthogonal=moved(cell, "orthogonal", cell.orthogonal),
                pointwise=moved(cell, "pointwise", cell.pointwise),
            )
            for cell in found
        )

    # ------------------------------------------------------------------------------------- single neurons

    def rows(
        self, tasks: tuple[str, ...], ratio: float, statistics: Statistics, start: int, stop: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(base (rows, ...), trimmed tau (T, rows, ...)) of some rows of one parameter, in float64."""
        base, tau = self.vectors(tasks).read(statistics.parameter, start, stop)
        # A copy even where nothing is to be widened: tau is good until the next reading alone.
        return base.double(), apply_trim(tau, self.thresholds(tasks, ratio)).to(torch.float64, copy=True)

    def in_cell(
        self, tasks: tuple[str, ...], ratio: float, layer: str, matrix: str, job: Job = UNATTENDED
    ) -> tuple[Statistics, ...]:
        """The statistics of the parameters of one cell; linear maps alone where there are any.

        Raises SettingError, listing what there is, when the family has no such cell.
        """
        first = self.first_pass(tasks, ratio, job)
        found = [s for s in first.statistics.values() if (s.parameter.layer, s.parameter.matrix) == (layer, matrix)]
        if not found:
            layers = dict.fromkeys(s.parameter.layer for s in first.statistics.values())
            matrices = dict.fromkeys(s.parameter.matrix for s in first.statistics.values())
            raise SettingError(
                f"The family {self.family.name} has no cell {layer!r}, {matrix!r}. Layers: {', '.join(layers)}; "
                f"matrices: {', '.join(matrices)} (not every layer has all of them)."
            )
        maps = tuple(s for s in found if isinstance(s, NeuronStatistics))
        return maps or tuple(found)


def _bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _without_scale(setting: Setting) -> Setting:
    """The setting that stands for all that differ from `setting` in nothing but a factor on the whole change."""
    method = registry.get_method(setting.method)
    scaled = isinstance(method, ScaledMethod)
    kept = tuple((name, value) for name, value in setting.hyperparameters if not (scaled and name == "scale"))
    return replace(setting, hyperparameters=kept, seed=setting.seed if method.stochastic else 0)


class _Checked:
    """Task vectors that check before every reading, so that a method's own passes can be stopped."""

    def __init__(self, vectors: AlignedVectors, job: Job) -> None:
        self._vectors, self._job = vectors, job
        self.parameters, self.task_names = vectors.parameters, vectors.task_names

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        self._job.check()
        return self._vectors.read(parameter, start, stop)


def _unit_changes(setting: Setting, aligned: AlignedVectors, job: Job) -> Iterator[tuple[str, torch.Tensor]]:
    """(parameter name, merged change at scale 1), computed one parameter at a time."""
    method = registry.get_method(setting.method)
    step = method.unit_change if isinstance(method, ScaledMethod) else method.merge_chunk
    vectors = _Checked(aligned, job)
    run = method.begin(vectors, dict(setting.hyperparameters), setting.seed)

    def work(parameter: Parameter, start: int, stop: int) -> torch.Tensor:
        return step(registry.read_chunk(vectors, parameter, start, stop), run)

    def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
        return merge_units(parameter, len(vectors.task_names), method.by_rows)

    def joined(parameter: Parameter, pieces: list[torch.Tensor]) -> torch.Tensor:
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    for parameter, change in map_chunks(work, vectors.parameters, split, joined, None if method.by_rows else 1):
        yield parameter.name, change


def _write_neurons(
    vectors: AlignedVectors,
    first: FirstPass,
    parts: Mapping[str, torch.Tensor] | None,
    used: Coefficients,
    weights: Mapping[str, torch.Tensor],
    job: Job,
) -> None:
    for name, statistics in first.statistics.items():
        if name not in weights:
            continue
        job.check()
        if parts is None:
            _merge_again(vectors, first.thresholds, statistics, used, weights[name])
        else:
            base = vectors.base(statistics.parameter)
            combine(base, statistics, parts[name], used.parallel, used.orthogonal, used.pointwise, weights[name])


def _write_changes(
    vectors: AlignedVectors,
    changes: Iterator[tuple[str, torch.Tensor]],
    scale: float,
    weights: Mapping[str, torch.Tensor],
    job: Job,
) -> None:
    parameters = {parameter.name: parameter for parameter in vectors.parameters}
    for name, change in changes:
        job.check()
        if name in weights:
            torch.add(vectors.base(parameters[name]), change, alpha=scale, out=weights[name])


def _merge_again(
    vectors: AlignedVectors, thresholds: Thresholds, statistics: Statistics, used: Coefficients, out: torch.Tensor
) -> None:
    """theta of one parameter from the experts, with the merge coefficients of the first pass (METHOD, section 4).

    w = (1 + lambda_1 c_bar - lambda_2 <alpha, c>) w_0 + lambda_2 sum_t alpha_t tau_t.
    """
    parameter = statistics.parameter
    if isinstance(statistics, PointwiseStatistics):
        base, tau = vectors.read(parameter)
        torch.add(base, election.psi(apply_trim(tau, thresholds)), alpha=used.pointwise, out=out)
        return
    along = (statistics.alpha * statistics.parallel).sum(1)
    scale = 1.0 + used.parallel * statistics.parallel_merged - used.orthogonal * along
    weights = statistics.alpha * used.orthogonal
    for start, stop in row_chunks(parameter, len(vectors.task_names)):
        base, tau = vectors.read(parameter, start, stop)
        apply_trim(tau, thresholds)
        block = torch.mul(base, scale[start:stop].to(base).unsqueeze(1), out=out[start:stop])
        for task, vector in enumerate(tau):
            block.addcmul_(vector, weights[start:stop, task].to(base).unsqueeze(1))


def _projections(
    vectors: AlignedVectors, thresholds: Thresholds, statistics: Statistics, merged: torch.Tensor
) -> list[tuple[str, np.ndarray, float]]:
    """What a merged change shares with the tasks: (subspace, (T,) inner products, squared norm of the change)."""
    parameter = statistics.parameter
    if isinstance(statistics, PointwiseStatistics):
        base, tau = vectors.read(parameter)
        change = merged.to(base)
        dots = apply_trim(tau, thresholds) @ change
        return [("pointwise", dots.double().numpy(), float(change.double().square().sum()))]
    tasks = len(vectors.task_names)
    parallel, orthogonal = torch.zeros(tasks, dtype=torch.float64), torch.zeros(tasks, dtype=torch.float64)
    parallel_square = orthogonal_square = 0.0
    for start, stop in row_chunks(parameter, tasks):
        base, tau = vectors.read(parameter, start, stop)
        apply_trim(tau, thresholds)
        change = merged[start:stop].to(base)
        square = statistics.base_square[start:stop]
        along = (change * base).sum(1).double()  # <change, w_0>
        shared = torch.where(square > 0, along / square, torch.zeros_like(along))
        own = shared.unsqueeze(1) * statistics.parallel[start:stop] * square.unsqueeze(1)
        dots = torch.bmm(tau.movedim(0, 1), change.unsqueeze(2)).squeeze(2).double()
        parallel += own.sum(0)
        orthogonal += (dots - own).sum(0)
        own_square = float((shared.square() * square).sum())
        parallel_square += own_square
        orthogonal_square += float(change.square().sum(1).double().sum()) - own_square
    return [
        ("parallel", parallel.numpy(), parallel_square),
        ("orthogonal", orthogonal.numpy(), max(0.0, orthogonal_square)),
    ]
