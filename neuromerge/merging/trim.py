"""The global trim: the exact magnitude threshold of each task over all merged parameters together.

With d entries and trim ratio r, q = floor(r * d + 1e-9) entries are candidates to go; the threshold is the
q-th smallest magnitude, and entries equal to it stay (METHOD, section 1). The selection is exact and never
sorts nor holds a task vector:

1. `MagnitudeSample`: the magnitudes of a sample, drawn once. Its quantiles around r bracket the
   threshold. This is the coarse histogram, with bins of equal depth.
2. One pass counts what lies below the bracket and collects the few entries inside it; the threshold is an
   order statistic of those. The same pass sums the magnitudes, which gives sigma.
3. If the bracket missed (the count says so), a wider one is tried; then, or where it holds too many equal
   entries, a radix selection (`quantiles`) finds the threshold in bounded memory whatever the values.

Cost: step 2 reads every weight once; ``python -m neuromerge.benchmarks merge`` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.chunks import as_they_are, map_chunks, row_chunks
from neuromerge.merging.counting import count_around
from neuromerge.merging.devices import stride
from neuromerge.merging.kernels.table import Counted, StoredVectors, served
from neuromerge.merging.quantiles import Sample, bracket, order_statistics
from neuromerge.merging.vectors import TaskVectors
from neuromerge.progress import UNATTENDED, Job
from neuromerge.threads import between_steps, in_threads

_WHOLE_ENTRIES = 1 << 21  # entries over all tasks up to which a parameter is read whole for its sample


@dataclass(frozen=True)
class Sampling:
    """How a sample of magnitudes is drawn, and how far from its quantile a threshold is sought.

    Attributes:
        points: places of the model, spread evenly.
        run: neighbouring entries that are drawn at each.
        margins: half-widths of the bracket as shares of all ranks, one for each try.
    """

    points: int
    run: int
    margins: tuple[float, ...]


PLAIN = Sampling(2048, 64, (0.01, 0.05))
COMPILED = Sampling(1 << 14, 8, (0.005, 0.05))
"""For compiled kernels, to which a place costs next to nothing; with more places the sample knows more."""


@dataclass(frozen=True)
class Thresholds:
    """Per task: what the trim keeps. All (T,) float64 on the CPU.

    Attributes:
        value: keep entries with |tau| >= value (0 keeps everything).
        removed_share: sigma_t, L1 norm of what is removed over L1 norm of tau_t, in [0, 1); 0 where tau_t = 0.
        kept_l1_share: 1 - sigma_t, summed over the kept entries, so that it stays accurate for r near 1.
        kept_share: share of entries kept, in (0, 1].
        ratio: the trim ratio that these thresholds belong to.
    """

    value: torch.Tensor
    removed_share: torch.Tensor
    kept_l1_share: torch.Tensor
    kept_share: torch.Tensor
    ratio: float

    @property
    def sigma(self) -> float:
        """max_t sigma_t."""
        return float(self.removed_share.max()) if len(self.removed_share) else 0.0

    @property
    def auto_lambda(self) -> float:
        """1 / (1 - sigma), the coefficient that makes up for the removed magnitude."""
        return 1.0 / float(self.kept_l1_share.min()) if len(self.kept_l1_share) else 1.0


def keep_everything(tasks: int) -> Thresholds:
    """The thresholds of r = 0 for `tasks` tasks."""
    zero, one = torch.zeros(tasks, dtype=torch.float64), torch.ones(tasks, dtype=torch.float64)
    return Thresholds(zero, zero.clone(), one, one.clone(), 0.0)


def apply_trim(tau: torch.Tensor, thresholds: Thresholds) -> torch.Tensor:
    """Zero the entries of tau (T, ...) whose magnitude is below their task's threshold; in place, returns tau."""
    if thresholds.ratio == 0.0:
        return tau
    for task, value in zip(tau, thresholds.value.tolist(), strict=True):
        if value > 0.0:
            # hardshrink zeroes |x| <= bound in one vectorised pass; entries equal to the threshold must stay,
            # so the bound is the next smaller number of the working dtype (the threshold is such a number).
            bound = np.nextafter(_as_numpy_scalar(value, tau.dtype), -np.inf, dtype=_numpy_dtype(tau.dtype))
            torch.ops.aten.hardshrink.out(task, float(bound), out=task)
    return tau


def global_thresholds(vectors: TaskVectors, trim_ratio: float, job: Job = UNATTENDED) -> Thresholds:
    """Exact thresholds of the global trim for every task.

    Args:
        vectors: the task vectors, read chunk by chunk.
        trim_ratio: r in [0, 1), the share of entries removed.
        job: told how far it is; stops it.
    """
    return MagnitudeSample(vectors).thresholds(trim_ratio, job)


class MagnitudeSample:
    """The coarse stage of the trim, drawn once per set of task vectors; `thresholds` serves any trim ratio.

    Args:
        vectors: the task vectors, read chunk by chunk.
        sampling: how large the sample is; None takes what suits the way through the weights.
    """

    def __init__(self, vectors: TaskVectors, sampling: Sampling | None = None):
        self._vectors = vectors
        self._own_sampling = sampling
        self._entries = sum(p.numel for p in vectors.parameters)
        self._drawn: list[Sample] | None = None

    def thresholds(self, trim_ratio: float, job: Job = UNATTENDED) -> Thresholds:
        """Exact thresholds for the ratio r in [0, 1): one pass over the weights."""
        tasks = len(self._vectors.task_names)
        rank = math.floor(trim_ratio * self._entries + 1e-9)
        if rank == 0:
            return keep_everything(tasks)
        found: dict[int, _Kept] = {}
        for margin in self._sampling.margins:
            missed = [task for task in range(tasks) if task not in found]
            if missed:
                found |= self._bracketed(rank, missed, margin, job)
        missed = [task for task in range(tasks) if task not in found]
        if missed:
            found |= self._selected(rank, missed)
        return _thresholds([found[task] for task in range(tasks)], self._entries, trim_ratio)

    def _bracketed(self, rank: int, tasks: list[int], margin: float, job: Job) -> dict[int, _Kept]:
        """Thresholds of those `tasks` whose bracket of `margin` ranks to both sides held them: one pass."""
        samples, share = self.drawn(), rank / self._entries
        limit = max(1 << 16, int(4 * margin * self._entries))
        around = in_threads(lambda task: _Tally.around(samples[task], share, margin, limit), tasks)
        tallies = dict(zip(tasks, around, strict=True))
        vectors = self._vectors

        def plain(parameter: Parameter, start: int, stop: int) -> list[_Count]:
            magnitudes = _magnitudes(vectors, parameter, start, stop)
            return [tally.count(magnitudes[task]) for task, tally in tallies.items()]

        count: Callable[[Parameter, int, int], list[_Count]] = plain
        fused = served(vectors)

        def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
            return row_chunks(parameter, len(vectors.task_names), vectors.device, fused=fused)

        if served(vectors):
            count = _counting(tallies, _counted_by_kernel(vectors))
        elif vectors.device.type != "cpu":
            count = _counting(tallies, partial(_counted_there, vectors))
        done = 0
        for parameter, counted in map_chunks(count, vectors.parameters, split, as_they_are, device=vectors.device):
            for of_chunk in counted:
                for tally, of_task in zip(tallies.values(), of_chunk, strict=True):
                    tally.add(of_task)
            done += parameter.numel
            job.report(done, self._entries, "threshold of the global trim")
        # Sorting out a few hundred thousand entries takes as long as reading some million.
        kept = in_threads(lambda tally: tally.select(rank), tallies.values())
        return {task: found for task, found in zip(tallies, kept, strict=True) if found is not None}

    @property
    def _sampling(self) -> Sampling:
        return self._own_sampling or (COMPILED if served(self._vectors) else PLAIN)

    def drawn(self) -> list[Sample]:
        """The sample of each task: magnitudes."""
        if self._drawn is None:
            self._drawn = _draw_sample(self._vectors, self._entries, self._sampling)
        return self._drawn

    def _selected(self, rank: int, tasks: list[int]) -> dict[int, _Kept]:
        """Thresholds in bounded memory whatever the values: a few passes."""

        def stream() -> Iterator[list[np.ndarray]]:
            return ([chunk[task] for task in tasks] for chunk in _magnitude_chunks(self._vectors))

        values = order_statistics(stream, len(tasks), [rank - 1])[:, 0]
        return self._kept({task: float(value) for task, value in zip(tasks, values, strict=True)})

    def _kept(self, values: dict[int, float]) -> dict[int, _Kept]:
        """What known thresholds keep: one pass."""
        found = {task: _Kept(value, 0, 0.0, 0.0) for task, value in values.items()}
        for chunk in _magnitude_chunks(self._vectors):
            for task, sums in found.items():
                magnitudes = chunk[task]
                kept = magnitudes[magnitudes >= sums.value]
                found[task] = _Kept(
                    sums.value,
                    sums.entries + kept.size,
                    sums.l1 + float(kept.sum(dtype=np.float64)),
                    sums.whole_l1 + float(magnitudes.sum(dtype=np.float64)),
                )
        return found


@dataclass(frozen=True)
class _Kept:
    """A task's threshold, and what it keeps: entries, their L1 norm; and the L1 norm of everything."""

    value: float
    entries: int
    l1: float
    whole_l1: float


@dataclass(frozen=True)
class _Count:
    """One chunk of one task: entries in it, below the bracket and inside it, and two L1 norms.

    `found` are the entries inside the bracket; None where they are all equal, or too many to keep.
    """

    entries: int
    below: int
    inside: int
    found: np.ndarray | None
    l1: float
    l1_above: float


class _Tally:
    """Counts and sums of one task's magnitudes around a bracket [low, high], and the entries inside it."""

    def __init__(self, low: float, high: float, limit: int):
        self.low, self.high, self._limit = low, high, limit
        self.below = self.entries = self.inside = 0
        self.l1_above = self.l1 = 0.0
        self._found: list[np.ndarray] = []

    @classmethod
    def around(cls, sample: Sample, share: float, margin: float, limit: int) -> _Tally:
        """Around the quantile `share` of a sample."""
        low, high = bracket(sample, share, margin)
        return cls(max(0.0, low), high, limit)

    @property
    def collects(self) -> bool:
        """Whether entries inside are wanted: not where all are equal, nor beyond the limit, when the pass is lost."""
        return self.low < self.high and self.inside <= self._limit

    def count(self, magnitudes: torch.Tensor) -> _Count:
        """What one chunk (entries,) holds; safe in any thread. The chunk is used up."""
        values = magnitudes.numpy()
        inside, above = values >= values.dtype.type(self.low), values > values.dtype.type(self.high)
        at_least_low, above_high = int(np.count_nonzero(inside)), int(np.count_nonzero(above))
        found = None
        # Beyond the limit the pass is lost anyway: let it not fill the memory meanwhile.
        if self.low < self.high and self.inside + at_least_low - above_high <= self._limit:
            np.logical_xor(inside, above, out=inside)
            found = values[np.flatnonzero(inside)]
        # Sums of one chunk are in the working dtype, and are then accumulated in float64.
        l1, l1_above = float(magnitudes.sum()), 0.0
        if above_high:
            l1_above = float(torch.ops.aten.hardshrink.out(magnitudes, self.high, out=magnitudes).sum())
        return _Count(values.size, values.size - at_least_low, at_least_low - above_high, found, l1, l1_above)

    def add(self, count: _Count) -> None:
        """Take one chunk into account."""
        self.entries += count.entries
        self.below += count.below
        self.inside += count.inside
        self.l1 += count.l1
        self.l1_above += count.l1_above
        if count.found is not None and self.inside <= self._limit:
            self._found.append(count.found)

    def select(self, rank: int) -> _Kept | None:
        """The rank-th smallest magnitude (1-based) and what it keeps; None where the bracket does not hold it."""
        above = self.entries - self.below - self.inside
        held = self.below < rank <= self.below + self.inside
        if self.low == self.high:
            l1 = self.l1_above + self.inside * self.low
            return _Kept(self.low, above + self.inside, l1, self.l1) if held else None
        if not held or self.inside > self._limit:
            self._found = []
            return None
        place = rank - self.below - 1
        entries = np.partition(np.concatenate(self._found), place)
        self._found = []
        value = float(entries[place])
        equal = int(np.count_nonzero(entries[:place] == entries[place]))  # on either side, and they all stay
        l1 = self.l1_above + float(entries[place:].sum(dtype=np.float64)) + equal * value
        return _Kept(value, above + len(entries) - place + equal, l1, self.l1)


_CountMagnitudes = Callable[
    [tuple[Parameter, int, int], list[int], list[tuple[float, float]], list[bool]], list[Counted]
]
"""Counts the magnitudes of some tasks, in some rows of a parameter, around a bracket each; collects where wanted."""


def _counting(
    tallies: Mapping[int, _Tally], counted: _CountMagnitudes
) -> Callable[[Parameter, int, int], list[_Count]]:
    """`_Tally.count` of every task in one reading of the rows."""
    tasks, brackets = list(tallies), [(tally.low, tally.high) for tally in tallies.values()]

    def count(parameter: Parameter, start: int, stop: int) -> list[_Count]:
        collects = [tally.collects for tally in tallies.values()]
        found = counted((parameter, start, stop), tasks, brackets, collects)
        return [
            _Count(c.entries, c.entries - c.reached, c.reached - c.above, c.found if wanted else None, c.l1, c.l1_above)
            for c, wanted in zip(found, collects, strict=True)
        ]

    return count


def _counted_by_kernel(vectors: StoredVectors) -> _CountMagnitudes:
    from neuromerge.merging.kernels import calls

    return lambda rows, tasks, brackets, wanted: calls.count_magnitudes(vectors.stored(*rows), tasks, brackets, wanted)


def _counted_there(
    vectors: TaskVectors,
    rows: tuple[Parameter, int, int],
    tasks: list[int],
    brackets: list[tuple[float, float]],
    wanted: list[bool],
) -> list[Counted]:
    return count_around(_flat(vectors.read(*rows)[1].abs_()), tasks, brackets, wanted)


def _thresholds(kept: list[_Kept], entries: int, ratio: float) -> Thresholds:
    def share(k: _Kept) -> float:
        # All of it where nothing lies below the threshold: two sums of the same numbers may differ by rounding.
        return 1.0 if k.entries == entries or k.whole_l1 == 0.0 else min(1.0, k.l1 / k.whole_l1)

    kept_l1 = torch.tensor([share(k) for k in kept], dtype=torch.float64)
    return Thresholds(
        value=torch.tensor([k.value for k in kept], dtype=torch.float64),
        removed_share=1.0 - kept_l1,
        kept_l1_share=kept_l1,
        kept_share=torch.tensor([k.entries / entries for k in kept], dtype=torch.float64),
        ratio=ratio,
    )


def _magnitudes(vectors: TaskVectors, parameter: Parameter, start: int, stop: int) -> torch.Tensor:
    """|tau| (T, entries) of some rows, on the CPU (scratch: valid until this thread's next reading)."""
    _, tau = vectors.read(parameter, start, stop)
    return tau.abs_().reshape(len(tau), -1).cpu()


def _magnitude_chunks(vectors: TaskVectors) -> Iterator[list[np.ndarray]]:
    """|tau| of every task, chunk by chunk, as flat numpy arrays (scratch: valid until the next chunk)."""
    for parameter in vectors.parameters:
        for start, stop in row_chunks(parameter, len(vectors.task_names), vectors.device):
            yield list(_magnitudes(vectors, parameter, start, stop).numpy())
            between_steps()


def _draw_sample(vectors: TaskVectors, entries: int, sampling: Sampling) -> list[Sample]:
    """Magnitudes of a sample per task: everything of a small model, else evenly spread runs of entries."""
    if not entries:
        return [Sample(np.zeros(1, dtype=np.float32)) for _ in vectors.task_names]
    if entries <= sampling.points * sampling.run:
        drawn = np.concatenate([_flat(vectors.read(p)[1]).cpu().numpy() for p in vectors.parameters], axis=1)
    else:
        drawn = sampled(vectors, entries, sampling)
    return [Sample(magnitudes) for magnitudes in np.abs(drawn)]


def sampled(vectors: TaskVectors, entries: int, sampling: Sampling = COMPILED) -> np.ndarray:
    """Entries (T, m) of all task vectors at the same places: short runs of neighbours, spread evenly.

    Many rows, a few entries of each: neurons differ in scale more than the entries of one neuron do.
    """
    draw = _drawing(vectors) if served(vectors) else partial(_gathered, vectors)
    points = (np.arange(sampling.points) + 0.5) * (entries / sampling.points)
    inside: dict[str, np.ndarray] = {}
    before = 0
    for parameter in vectors.parameters:
        first, last = np.searchsorted(points, (before, before + parameter.numel))
        if first < last:
            inside[parameter.name] = points[first:last].astype(np.int64) - before
        before += parameter.numel

    def work(parameter: Parameter, start: int, stop: int) -> np.ndarray:
        width = parameter.shape[-1]
        run = min(sampling.run, width)
        chosen = inside[parameter.name]
        places = np.stack([chosen // width, np.minimum(chosen % width, width - run)], axis=1)
        found = draw(parameter, places, run)
        return found.reshape(len(found), -1)

    # Who reads a checkpoint for the first time looks at all of it, for values that are none: worth every core.
    wanted = [parameter for parameter in vectors.parameters if parameter.name in inside]
    found = map_chunks(work, wanted, lambda p: [(0, p.shape[0])], as_they_are, device=vectors.device)
    return np.concatenate([drawn for _, (drawn,) in found], axis=1)


def _drawing(vectors: StoredVectors) -> Callable[[Parameter, np.ndarray, int], np.ndarray]:
    """tau (T, m, run) at m places of a parameter, rows and columns, by a compiled kernel."""
    from neuromerge.merging.kernels import calls

    return lambda parameter, places, run: calls.sample(vectors.stored(parameter), places, run)


def _gathered(vectors: TaskVectors, parameter: Parameter, places: np.ndarray, run: int) -> np.ndarray:
    """The same by torch."""
    tasks, width = len(vectors.task_names), parameter.shape[-1]
    # Where reading is cheap, or many places are wanted, one reading of all of it costs less than one for each.
    most = _WHOLE_ENTRIES if vectors.device.type == "cpu" else stride(vectors.device).chunk
    if parameter.numel * tasks <= most:
        tau = vectors.read(parameter)[1].reshape(tasks, -1, width)
        rows, columns = torch.from_numpy(places).to(tau.device).unbind(1)
        return tau[:, rows.unsqueeze(1), columns.unsqueeze(1) + torch.arange(run, device=tau.device)].cpu().numpy()
    found = np.empty((tasks, len(places), run), _numpy_dtype(vectors.read(parameter, 0, 0)[1].dtype))
    for place, (row, column) in enumerate(places.tolist()):
        if len(parameter.shape) == 1:
            tau = vectors.read(parameter, column, column + run)[1]
        else:
            tau = _flat(vectors.read(parameter, row, row + 1)[1])[:, column : column + run]
        found[:, place] = tau.cpu().numpy()
    return found


def _flat(tau: torch.Tensor) -> torch.Tensor:
    return tau.reshape(len(tau), -1)


def _numpy_dtype(dtype: torch.dtype) -> type[np.floating]:
    return np.float64 if dtype == torch.float64 else np.float32


def _as_numpy_scalar(value: float, dtype: torch.dtype) -> np.floating:
    return _numpy_dtype(dtype)(value)
