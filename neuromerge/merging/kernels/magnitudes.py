"""Counting magnitudes around a bracket: the pass behind the exact thresholds of `neuromerge.merging.trim`."""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.blocks import joined
from neuromerge.merging.kernels.lanes import (
    LANES,
    LINE,
    bits,
    foresee,
    load,
    lowest_bit,
    number,
    ones,
    spread,
    total,
    where,
)
from neuromerge.merging.kernels.rows import EXACT, address_of, locate, numbers_at, scratch_for

PIECE = 2048
"""Entries of one task that are counted in one go: so many that memory is in step, so few that the base stays near."""
_WORD = 64
"""Entries whose marks are one number."""
_LAST = np.uint64(1 << 63)
_PLACES_AHEAD = 16


@njit(**EXACT)
def _step(task, lower, entry, low, high, all_, above, like):  # type: ignore[no-untyped-def]
    """A few magnitudes, added to a sum of all and to one of those > high; bits of those >= low, of those > high."""
    size = abs(load(task, entry, like) - load(lower, entry, like))
    beyond = size > high
    return all_ + size, where(beyond, above + size, above), bits(size >= low), bits(beyond)


@njit(**EXACT)
def _whole_words(task, lower, count, low, high, ahead, words):  # type: ignore[no-untyped-def]
    """(entries >= low, entries > high, L1 norm, L1 norm above high) of `count` words of entries of task - lower.

    Args:
        task, lower: addresses of numbers in the dtype of `low` (1,) and `high` (1,).
        ahead: bytes from here to what is counted next of this task.
        words: filled, a bit for each entry: whether it lies within [low, high].
    """
    least, most = spread(low[0]), spread(high[0])
    first = first_above = second = second_above = spread(low[0] - low[0])
    reached = above = 0
    next_line = task + ahead
    for word in range(count):
        entry = word * _WORD
        for _ in range(_WORD * 4 // LINE):
            foresee(next_line)
            next_line += LINE
        first, first_above, a, p = _step(task, lower, entry, least, most, first, first_above, low)
        second, second_above, b, q = _step(task, lower, entry + LANES, least, most, second, second_above, low)
        first, first_above, c, r = _step(task, lower, entry + 2 * LANES, least, most, first, first_above, low)
        second, second_above, d, s = _step(task, lower, entry + 3 * LANES, least, most, second, second_above, low)
        at_least, larger = joined(a, b, c, d), joined(p, q, r, s)
        reached += ones(at_least)
        above += ones(larger)
        words[word] = at_least ^ larger
    return reached, above, np.float64(total(first + second)), np.float64(total(first_above + second_above))


@njit(**EXACT)
def _tally(task, lower, size, low, high, ahead, words, spare):  # type: ignore[no-untyped-def]
    """`_whole_words` of any number of entries; spare is scratch, (2, _WORD)."""
    whole = size // _WORD
    reached, above, l1, l1_above = _whole_words(task, lower, whole, low, high, ahead, words)
    rest = size - whole * _WORD
    if rest:
        place = whole * _WORD * spare.itemsize
        spare[:] = 0  # what is put behind the rest has no magnitude
        spare[0, :rest] = numbers_at(task + place, rest, spare)
        spare[1, :rest] = numbers_at(lower + place, rest, spare)
        more, beyond, sum_, sum_above = _whole_words(
            spare[0].ctypes.data, spare[1].ctypes.data, 1, low, high, 0, words[whole:]
        )
        words[whole] &= (np.uint64(1) << np.uint64(rest)) - np.uint64(1)
        reached += more - (_WORD - rest if low[0] <= 0 else 0)
        above, l1, l1_above = above + beyond, l1 + sum_, l1_above + sum_above
    return reached, above, l1, l1_above


@njit(**EXACT)
def _collect(task, lower, words, found, filled):  # type: ignore[no-untyped-def]
    """Append the marked magnitudes of task - lower to `found`; returns how many it then holds. Few are marked."""
    whole = len(task) // _WORD
    for word in range(len(words)):
        marks = words[word]
        if word < whole:
            # Every other word has a mark, and no processor foresees which: to put down one in vain costs less.
            j = word * _WORD + lowest_bit(marks | _LAST)
            found[filled] = abs(task[j] - lower[j])
            filled += marks != 0
            marks &= marks - np.uint64(1)
        while marks != 0:
            j = word * _WORD + lowest_bit(marks)
            found[filled] = abs(task[j] - lower[j])
            filled += 1
            marks &= marks - np.uint64(1)
    return filled


@njit(**EXACT)
def count(  # type: ignore[no-untyped-def]
    table, rows, width, subtract, tasks, lows, highs, collects, first, reached, above, whole, whole_above, found, filled
):  # fmt: skip
    """Count entries `first` to `rows * width` of some tasks; returns the entry at which `found` was full, or the last.

    Args:
        tasks: (m,) which lines of the table; the arrays that follow have an entry for each.
        lows, highs: (m,) brackets in the working dtype. collects: (m,) whether entries inside are wanted.
        reached, above, whole, whole_above: (m,) added to, see `_tally`.
        found: (m, capacity) the entries inside; filled: (m,) how many. A piece more than it can take is not begun.
    """
    sources = len(table) - 1
    scratch, places = scratch_for(sources, PIECE, lows), np.zeros(sources + 2, np.int64)
    words, spare = np.empty(PIECE // _WORD, np.uint64), np.empty((2, _WORD), lows.dtype)
    entry = first
    while entry < rows * width:
        row, start = entry // width, entry % width
        size = min(PIECE, width - start)
        for m in range(len(tasks)):
            if collects[m] and filled[m] + size > found.shape[1]:
                return entry
        locate(table, row, start, size, subtract, scratch, places)
        lower, ahead = places[-1], size * lows.itemsize
        for m in range(len(tasks)):
            task = places[tasks[m]]
            at_least, beyond, l1, l1_above = _tally(
                task, lower, size, lows[m : m + 1], highs[m : m + 1], ahead, words, spare
            )
            reached[m] += at_least
            above[m] += beyond
            whole[m] += l1
            whole_above[m] += l1_above
            if collects[m] and at_least > beyond:
                filled[m] = _collect(
                    numbers_at(task, size, lows),
                    numbers_at(lower, size, lows),
                    words[: (size + _WORD - 1) // _WORD],
                    found[m],
                    filled[m],
                )
        entry += size
    return entry


@njit(**EXACT)
def sample(table, subtract, rows, starts, run, out):  # type: ignore[no-untyped-def]
    """Runs of `run` neighbouring entries of every task vector: out (T, places, run) for rows, starts (places,)."""
    tasks = len(out)
    scratch, places, lower = scratch_for(tasks, run, out), np.zeros(tasks + 2, np.int64), np.empty(run, out.dtype)
    for p in range(len(rows)):
        ahead = p + _PLACES_AHEAD
        if ahead < len(rows):  # there is nothing to do but wait for memory: it is asked for many places at a time
            for source in range(tasks + 1):
                foresee(address_of(table, source, rows[ahead], starts[ahead]))
        locate(table, rows[p], starts[p], run, subtract, scratch, places)
        for j in range(run):
            lower[j] = number(places[-1], j, out.dtype.type(0))
        for t in range(tasks):
            for j in range(run):
                out[t, p, j] = number(places[t], j, out.dtype.type(0)) - lower[j]
