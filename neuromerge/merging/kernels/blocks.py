"""Blocks of entries: the task vectors of a block lie in the first cache, trimmed, for a rule to look at them again.

What is added up over tasks stays in registers, a few entries at a time with the tasks as the inner loop: to sweep over
one task after another would write and read every sum as often as there are tasks.

A block is small, so what is called for each takes addresses, and a number of the working dtype to say what is there:
an array costs more to hand over than some blocks do to work on.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.lanes import (
    LANES,
    LINE,
    foresee,
    load,
    marked,
    number,
    size_of,
    spread,
    store,
    where,
)
from neuromerge.merging.kernels.rows import EXACT, numbers_at, on_lines

BLOCK = 4 * LANES
"""Entries of a block: as many as one word has bits."""
PIECE = 4096
"""Entries of a row that are located at a time: where they must be widened, those of all tasks fit the second cache."""
_AHEAD = 4096
"""Bytes between what is read of a source and what memory is told of: what comes while all others have their turn."""
ADDRESS = np.int64(0)
"""What `lanes.number` reads from a list of addresses."""


@njit(**EXACT)
def aside_for(tasks, like):  # type: ignore[no-untyped-def]
    """What `set_aside` fills: (spare, aside)."""
    return on_lines(tasks + 2, BLOCK, like), np.empty(tasks + 2, np.int64)


@njit(**EXACT)
def set_aside(places, entry, count, spare, aside):  # type: ignore[no-untyped-def]
    """Copy the last `count` entries, fewer than BLOCK, of every source, with zeros behind; aside (T + 2,) is where."""
    for source in range(len(places)):
        spare[source, :count] = numbers_at(places[source] + entry * spare.itemsize, count, spare)
        spare[source, count:] = 0
        aside[source] = spare[source].ctypes.data


@njit(**EXACT)
def change(numbers, lower, least):  # type: ignore[no-untyped-def]
    """A few entries of a trimmed task vector: numbers - lower, 0 where that is below `least`."""
    value = numbers - lower
    return where(abs(value) >= least, value, value - value)


@njit(**EXACT)
def _foresee(place, entry, like):  # type: ignore[no-untyped-def]
    """Have what follows two registers of a source come nearer; in the dtype of a number."""
    address = place + entry * size_of(like) + _AHEAD
    for line in range(address, address + 2 * LANES * size_of(like), LINE):
        foresee(line)


@njit(**EXACT)
def _gather(places, tasks, entry, like, kept, total):  # type: ignore[no-untyped-def]
    """`keep` where nothing is dropped nor trimmed."""
    lower = number(places, tasks + 1, ADDRESS)
    for e in range(0, BLOCK, 2 * LANES):
        first, second = load(lower, entry + e, like), load(lower, entry + e + LANES, like)
        so_far = further = spread(like - like)
        for t in range(tasks):
            place, to = number(places, t, ADDRESS), t * BLOCK + e
            _foresee(place, entry + e, like)
            one, other = load(place, entry + e, like) - first, load(place, entry + e + LANES, like) - second
            store(one, kept, to)
            store(other, kept, to + LANES)
            so_far, further = so_far + one, further + other
        store(so_far, total, e)
        store(further, total, e + LANES)


@njit(**EXACT)
def trim(places, tasks, entry, bounds, like, kept, total):  # type: ignore[no-untyped-def]
    """`keep` where nothing is dropped before the trim; bounds are addresses in any case."""
    lower = number(places, tasks + 1, ADDRESS)
    for e in range(0, BLOCK, 2 * LANES):
        first, second = load(lower, entry + e, like), load(lower, entry + e + LANES, like)
        so_far = further = spread(like - like)
        for t in range(tasks):
            place, to, least = number(places, t, ADDRESS), t * BLOCK + e, spread(number(bounds, t, like))
            _foresee(place, entry + e, like)
            one = change(load(place, entry + e, like), first, least)
            other = change(load(place, entry + e + LANES, like), second, least)
            store(one, kept, to)
            store(other, kept, to + LANES)
            so_far, further = so_far + one, further + other
        store(so_far, total, e)
        store(further, total, e + LANES)


@njit(**EXACT)
def _drop(places, tasks, entry, bounds, survivors, enlarged, kept, total):  # type: ignore[no-untyped-def]
    """`keep` where something is dropped before the trim."""
    zero, factor, least = spread(enlarged - enlarged), spread(enlarged), spread(enlarged - enlarged)
    lower = number(places, tasks + 1, ADDRESS)
    for e in range(0, BLOCK, LANES):
        own, so_far = load(lower, entry + e, enlarged), zero
        for t in range(tasks):
            value = (load(number(places, t, ADDRESS), entry + e, enlarged) - own) * factor
            value = where(marked(number(survivors, t, ADDRESS), e), value, zero)
            if bounds:
                least = spread(number(bounds, t, enlarged))
            value = where(abs(value) >= least, value, zero)
            store(value, kept, t * BLOCK + e)
            so_far = so_far + value
        store(so_far, total, e)


@njit(**EXACT)
def keep(places, tasks, entry, bounds, survivors, enlarged, kept, total):  # type: ignore[no-untyped-def]
    """Trimmed task vectors of a block into kept (T, BLOCK), and their sum into total (BLOCK,).

    Args, all but T, the entry and a number addresses:
        places, tasks, entry: of the block, as of `rows.locate`; bounds: (T,) thresholds, or 0 where nothing is trimmed.
        survivors: (T,) addresses of a byte for each entry of the block, 0 where it is dropped before the trim; or 0.
        enlarged: what is not dropped is multiplied by, in the working dtype.
    """
    if survivors:
        _drop(places, tasks, entry, bounds, survivors, enlarged, kept, total)
    elif bounds:
        trim(places, tasks, entry, bounds, enlarged, kept, total)
    else:
        _gather(places, tasks, entry, enlarged, kept, total)


@njit(**EXACT)
def four(address, entry, like):  # type: ignore[no-untyped-def]
    """A block in registers."""
    return (
        load(address, entry, like),
        load(address, entry + LANES, like),
        load(address, entry + 2 * LANES, like),
        load(address, entry + 3 * LANES, like),
    )


@njit(**EXACT)
def joined(a, b, c, d):  # type: ignore[no-untyped-def]
    """The bits of the four masks of a block as one word."""
    lanes = np.uint64(LANES)
    return ((d << lanes | c) << lanes | b) << lanes | a


@njit(**EXACT)
def valid(count):  # type: ignore[no-untyped-def]
    """A bit for each of the first `count` entries of a block."""
    return ~np.uint64(0) >> np.uint64(BLOCK - count)
