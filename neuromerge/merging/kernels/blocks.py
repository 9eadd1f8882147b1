"""Blocks of entries: the task vectors of a block lie in the first cache, trimmed, for a rule to look at them again.

What is added up over tasks stays in registers, a few entries at a time with the tasks as the inner loop: to sweep over
one task after another would write and read every sum as often as there are tasks.

A block is small, so what is called for each takes addresses, and a number of the working dtype to say what is there:
an array costs more to hand over than some blocks do to work on.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.lanes import LANES, load, marked, number, spread, store, where
from neuromerge.merging.kernels.rows import EXACT, numbers_at, on_lines

BLOCK = 4 * LANES
"""Entries of a block: as many as one word has bits."""
PIECE = 4096
"""Entries of a row that are located at a time: where they must be widened, those of all tasks fit the second cache."""
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
def keep(places, tasks, entry, bounds, survivors, enlarged, kept, total):  # type: ignore[no-untyped-def]
    """Trimmed task vectors of a block into kept (T, BLOCK), and their sum into total (BLOCK,).

    Args, all but T, the entry and a number addresses:
        places, tasks, entry: of the block, as of `rows.locate`; bounds: (T,) thresholds.
        survivors: (T,) addresses of a byte for each entry of the block, 0 where it is dropped before the trim; or 0.
        enlarged: what is not dropped is multiplied by, in the working dtype.
    """
    zero, factor = spread(enlarged - enlarged), spread(enlarged)
    lower = number(places, tasks + 1, ADDRESS)
    for e in range(0, BLOCK, LANES):
        own, so_far = load(lower, entry + e, enlarged), zero
        for t in range(tasks):
            value = load(number(places, t, ADDRESS), entry + e, enlarged) - own
            if survivors:
                value = where(marked(number(survivors, t, ADDRESS), e), value * factor, zero)
            value = where(abs(value) >= spread(number(bounds, t, enlarged)), value, zero)
            store(value, kept, t * BLOCK + e)
            so_far = so_far + value
        store(so_far, total, e)


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
