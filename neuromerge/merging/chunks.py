"""Chunks of rows small enough for a core's cache, and one thread a core to work on them.

A pass over task vectors is a chain of cheap operations on every chunk. Splitting each operation over the cores
costs a hand-over per operation; here every core takes a chunk through the whole chain instead.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from typing import Any, TypeVar

import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.merging.devices import CPU, stride
from neuromerge.threads import between_steps, cores
from neuromerge.threads import pool as workers

Result = TypeVar("Result")
Finished = TypeVar("Finished")
Split = Callable[[Parameter], Iterable[tuple[int, int]]]
_Chunks = tuple[Parameter, list[tuple[int, int]]]
"""A parameter and the (start, stop) of its chunks."""

_AHEAD = 2  # chunks begun before the one that is waited for, per core
_BUNDLE_ENTRIES = 1 << 15  # of the base, handed to a thread at least
_FUSED = 8  # times as many rows for a compiled kernel: threads meet when they begin a chunk, and wait for each other


def chunks(rows: int, row_entries: int, device: torch.device = CPU) -> Iterator[tuple[int, int]]:
    """Split `rows` rows of `row_entries` entries into (start, stop) chunks, about equal, of what suits the device."""
    most = max(1, stride(device).chunk // max(1, row_entries))
    parts = math.ceil(rows / most)
    step = math.ceil(rows / max(1, parts))
    for start in range(0, rows, max(1, step)):
        yield start, min(start + step, rows)


def row_chunks(
    parameter: Parameter, tasks: int, device: torch.device = CPU, *, fused: bool = False
) -> Iterator[tuple[int, int]]:
    """(start, stop) of chunks of rows of a parameter: on the CPU, all tasks of one chunk fit the cache.

    `fused` says that a compiled kernel takes them: it goes row by row anyway, so that a chunk is larger, and begun
    less often.
    """
    rows = parameter.shape[0]
    return chunks(rows, tasks * (parameter.numel // max(1, rows)) // (_FUSED if fused else 1), device)


def merge_units(
    parameter: Parameter, tasks: int, by_rows: bool = True, device: torch.device = CPU, *, fused: bool = False
) -> Iterator[tuple[int, int]]:
    """(start, stop) of what is merged at a time: chunks of neurons, or a whole parameter where one vote spans it."""
    if by_rows and parameter.kind == "neurons":
        return row_chunks(parameter, tasks, device, fused=fused)
    return iter([(0, parameter.shape[0])])


class Scratch(threading.local):
    """A buffer for each thread, so that reading the next chunk does not ask for fresh memory."""

    def __init__(self) -> None:
        self._buffer: torch.Tensor | None = None

    def take(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """A tensor of that shape, its values undefined; the thread's last one is given up, unless it was large."""
        entries = math.prod(shape)
        if entries > 2 * stride(device).chunk or device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        if self._buffer is None or self._buffer.dtype != dtype or len(self._buffer) < entries:
            self._buffer = torch.empty(entries, dtype=dtype)
        return self._buffer[:entries].view(shape)


def map_chunks(
    work: Callable[[Parameter, int, int], Result],
    parameters: Iterable[Parameter],
    split: Split,
    finish: Callable[[Parameter, list[Result]], Finished],
    threads: int | None = None,
    device: torch.device = CPU,
) -> Iterator[tuple[Parameter, Finished]]:
    """`work(parameter, start, stop)` on every chunk, then `finish(parameter, results)`; yields parameters in order.

    Args:
        work: called in any thread and any order, with one torch thread to itself.
        parameters: whose rows are split.
        split: the (start, stop) of a parameter's chunks.
        finish: joins a parameter's results, which come in order; called like `work`.
        threads: how many chunks are worked on at a time; what suits the device when None. With 1 the calling
            thread does the work, with all of torch's threads.
        device: where the work is done.

    What they raise is raised here; chunks that have not begun are then dropped. Between parameters others are let
    through (`threads.between_steps`).
    """
    threads = threads or stride(device).threads or cores()
    spans = ((p, list(split(p))) for p in parameters)

    def whole(bundle: list[_Chunks]) -> list[tuple[Parameter, Finished]]:
        return [(p, finish(p, [work(p, start, stop) for start, stop in ranges])) for p, ranges in bundle]

    if threads < 2:
        for span in spans:
            yield from whole([span])
            between_steps()
        return
    pool = workers(threads)
    # The chunks to begin run ahead of the parameters to finish: no core waits at a parameter's end.
    waiting: deque[tuple[list[Future[Any]], Callable[[list[Any]], list[tuple[Parameter, Finished]]]]] = deque()
    begun: list[Future[Any]] = []

    def begin(function: Callable[..., Any], *arguments: Any) -> Iterator[tuple[Parameter, Finished]]:
        nonlocal begun
        begun = [future for future in begun if not future.done()]
        if len(begun) >= _AHEAD * threads:
            wait(begun, return_when=FIRST_COMPLETED)
        while len(waiting) > 1 and all(future.done() for future in waiting[0][0]):
            yield from joined()
        begun.append(pool.submit(function, *arguments))
        waiting[-1][0].append(begun[-1])

    def joined() -> list[tuple[Parameter, Finished]]:
        futures, join = waiting.popleft()
        return join([future.result() for future in futures])

    def join_chunks(parameter: Parameter, results: list[Result]) -> list[tuple[Parameter, Finished]]:
        return [(parameter, pool.submit(finish, parameter, results).result())]

    try:
        for bundle in _bundles(spans):
            parameter, ranges = bundle[0]
            if len(ranges) > 1:
                waiting.append(([], partial(join_chunks, parameter)))
                for start, stop in ranges:
                    yield from begin(work, parameter, start, stop)
            else:
                waiting.append(([], lambda results: results[0]))
                yield from begin(whole, bundle)
            between_steps()
        while waiting:
            yield from joined()
            between_steps()
    finally:
        for future in begun:
            future.cancel()


def _bundles(spans: Iterable[_Chunks]) -> Iterator[list[_Chunks]]:
    """Parameters in order, small ones of one chunk together: handing over a bias takes longer than working on it."""
    bundle: list[_Chunks] = []
    for parameter, ranges in spans:
        if len(ranges) > 1:
            if bundle:
                yield bundle
            yield [(parameter, ranges)]
            bundle = []
            continue
        bundle.append((parameter, ranges))
        if sum(small.numel for small, _ in bundle) >= _BUNDLE_ENTRIES:
            yield bundle
            bundle = []
    if bundle:
        yield bundle


def as_they_are(parameter: Parameter, results: list[Result]) -> list[Result]:
    """A `finish` that leaves the results of the chunks as they are."""
    return results
