"""Exact order statistics of streams that never fit in memory: radix selection over the bits of floats.

The bit patterns of floats, with the sign bit flipped (and all bits flipped where negative), sort as the
numbers do. One pass counts the values by their upper 16 bits; the next counts, by the next 16 bits, those
that share the upper bits of the value sought: 2 passes for float32, 4 for float64, 65,536 counters each.
Streams short enough to be held are simply sorted. Where a sample of the stream is at hand, one pass may do
(`bracketed`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from neuromerge.threads import in_threads

_DIGIT = 16
BATCH = 1 << 18
"""Values counted at a time: far more than there are counters."""
_MARGINS = (0.0125, 0.125)  # half-width of a bracket in standard deviations of one draw: first try, second try


def order_statistics(
    stream: Callable[[], Iterable[Sequence[np.ndarray]]], rows: int, ranks: Sequence[int], *, batch: int = BATCH
) -> np.ndarray:
    """The values of the given ranks in each of several streams.

    Args:
        stream: starts a pass; yields chunks, a chunk being one flat float32 or float64 array per row. Every pass
            must yield the same values; how they are cut into chunks does not matter.
        rows: number of streams.
        ranks: 0 is the smallest value, the number of values less one the largest.
        batch: values looked at together, at least; streams up to this are sorted.

    Returns:
        (rows, len(ranks)) in the dtype of the stream. Raises IndexError for a rank outside a stream.
    """
    head = list(islice(_batches(stream(), batch), 2))
    if len(head) == 1:  # all of it fits into one batch
        return np.stack([np.sort(values)[list(ranks)] for values in head[0]])
    dtype = head[0][0].dtype
    found = np.zeros((rows, len(ranks)), dtype=np.uint64)  # the bits known so far
    remaining = np.tile(np.asarray(ranks, dtype=np.int64), (rows, 1))  # rank among the values that share them
    level = 0
    while True:
        counts: dict[tuple[int, int], np.ndarray] = {
            (row, int(prefix)): np.zeros(1 << _DIGIT, dtype=np.int64) for row in range(rows) for prefix in found[row]
        }
        for chunk in _batches(stream(), batch):
            for row, values in enumerate(chunk):
                for prefix in np.unique(found[row]):
                    digits = _digits(values, level, int(prefix))
                    counts[row, int(prefix)] += np.bincount(digits, minlength=1 << _DIGIT)
        for row in range(rows):
            for column in range(len(ranks)):
                running = np.cumsum(counts[row, int(found[row, column])])
                if not 0 <= remaining[row, column] < running[-1]:
                    raise IndexError(f"rank {ranks[column]} is outside stream {row}")
                digit = int(np.searchsorted(running, remaining[row, column], side="right"))
                remaining[row, column] -= running[digit - 1] if digit else 0
                found[row, column] = (int(found[row, column]) << _DIGIT) | digit
        level += 1
        if level * _DIGIT >= dtype.itemsize * 8:
            return _floats(found, dtype)


@dataclass(frozen=True)
class Inside:
    """What one pass saw around a bracket [low, high]: values below it, inside it, and these themselves.

    `found` is None where they were not collected.
    """

    below: int
    inside: int
    found: np.ndarray | None


class Sample:
    """Values drawn from a stream, in any order, to be looked up by rank.

    To find a few ranks takes a fraction of the time that sorting takes: who asks again has them sorted.
    """

    def __init__(self, values: np.ndarray):
        self._values = values
        self._asked = self._is_sorted = False

    def __len__(self) -> int:
        """How many were drawn."""
        return len(self._values)

    def at(self, ranks: Sequence[int]) -> list[float]:
        """The values of these ranks, 0 the smallest."""
        if self._asked and not self._is_sorted:
            self._values, self._is_sorted = np.sort(self._values), True
        self._asked = True
        # One rank at a time: NumPy looks for several together ten times as long as for one.
        return [float((self._values if self._is_sorted else np.partition(self._values, rank))[rank]) for rank in ranks]


def bracketed(
    samples: Sequence[Sample],
    ranks: Sequence[int],
    count: int,
    look: Callable[[Sequence[tuple[float, float]]], Sequence[Inside]],
) -> list[float] | None:
    """The value of one rank in each of several streams, by a bracket that a sample gives and one pass around it.

    Args:
        samples: one per stream, each asked once a try.
        ranks: 0 the smallest, one per stream.
        count: values in a stream.
        look: a pass, given a bracket for each stream.

    Returns None where even a wide bracket held not all of them: then `order_statistics` is needed.
    """
    for margin in _MARGINS:
        shares = [rank / count for rank in ranks]
        widths = [margin * math.sqrt(share * (1.0 - share)) for share in shares]
        brackets = in_threads(lambda of: bracket(*of), list(zip(samples, shares, widths, strict=True)))
        seen = look(brackets)
        values = [_value(*of) for of in zip(seen, brackets, ranks, strict=True)]
        found = [value for value in values if value is not None]
        if len(found) == len(values):
            return found
    return None


def bracket(sample: Sample, share: float, width: float) -> tuple[float, float]:
    """Values between which the quantile `share` of a stream lies with near certainty.

    Args:
        sample: of the stream.
        width: how far the sample's own quantile may be off to either side, as a share of all ranks.

    Returns infinity where the sample does not reach as far.
    """
    last = len(sample) - 1
    low, high = math.floor((share - width) * last) - 8, math.ceil((share + width) * last) + 8
    found = sample.at([max(low, 0), min(high, last)])
    return (found[0] if low > 0 else -math.inf), (found[1] if high < last else math.inf)


def _value(seen: Inside, ends: tuple[float, float], rank: int) -> float | None:
    if not seen.below <= rank < seen.below + seen.inside:
        return None
    if ends[0] == ends[1]:
        return ends[0]
    if seen.found is None:
        return None
    place = rank - seen.below
    return float(np.partition(seen.found, place)[place])


def _batches(chunks: Iterable[Sequence[np.ndarray]], least: int) -> Iterator[Sequence[np.ndarray]]:
    """The same values in chunks of at least `least` values (but for the last), copied where several make one."""
    held: list[list[np.ndarray]] = []
    count = 0
    for chunk in chunks:
        size = len(chunk[0])
        if not held and size >= least:
            yield chunk
            continue
        held.append([row.copy() for row in chunk])
        count += size
        if count >= least:
            yield [np.concatenate(rows) for rows in zip(*held, strict=True)]
            held, count = [], 0
    if held:
        yield [np.concatenate(rows) for rows in zip(*held, strict=True)]


def _digits(values: np.ndarray, level: int, prefix: int) -> np.ndarray:
    """The `level`-th 16 bits (0 the uppermost) of those values whose bits above equal `prefix`."""
    keys = _sortable_bits(values)
    shift = keys.dtype.itemsize * 8 - _DIGIT * (level + 1)
    if level:
        keys = keys[(keys >> keys.dtype.type(shift + _DIGIT)) == prefix]
    return ((keys >> keys.dtype.type(shift)) & keys.dtype.type((1 << _DIGIT) - 1)).astype(np.int64)


def _sortable_bits(values: np.ndarray) -> np.ndarray:
    """Unsigned integers that sort as the floats do."""
    bits = values.view(f"u{values.dtype.itemsize}")
    top = bits.dtype.type(1 << (values.dtype.itemsize * 8 - 1))
    # All bits flip where negative, the sign bit alone elsewhere; the arithmetic shift spreads the sign.
    spread = (values.view(f"i{values.dtype.itemsize}") >> (values.dtype.itemsize * 8 - 1)).view(bits.dtype)
    return bits ^ (spread | top)


def _floats(keys: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Inverse of `_sortable_bits`."""
    bits = keys.astype(f"u{dtype.itemsize}")
    top = bits.dtype.type(1 << (dtype.itemsize * 8 - 1))
    return np.where(bits & top, bits ^ top, ~bits).astype(bits.dtype).view(dtype)
