"""Rows of stored weights, read where they lie: widened, subtracted and trimmed in one go.

A table says where the rows are, so that one compiled kernel serves any number of experts in any mixture of
dtypes: (T + 1, 3) int64, the base last, each line the address of the first row, the bytes from one row to the
next, and the dtype's code. `neuromerge.merging.kernels.table` makes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import intrinsic

from neuromerge.merging.kernels.codes import ABSENT, BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from neuromerge.merging.kernels.lanes import LINE

EXACT = {"nogil": True, "cache": True, "error_model": "numpy"}
"""Options of kernels that must not change a bit."""
SUMS: dict[str, Any] = {**EXACT, "fastmath": {"reassoc", "contract"}}
"""Options of kernels that add up: the order of a sum is free (it must be, to use vectors); NaN stays NaN."""

FOUR = 4
"""Sources that are read side by side: memory foresees that many, and what is done to them stays in registers."""

_HALF_SCALE = np.float32(2.0**112)  # between the exponents of float16 and float32


def _pointer_to(kind: types.Type) -> Any:
    """An intrinsic that takes an address for a pointer to `kind`."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        signature = types.CPointer(kind)(types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, generate

    return pointer


_float32_at, _float64_at, _bits_at = (_pointer_to(kind) for kind in (types.float32, types.float64, types.uint16))


@intrinsic
def _pointer_like(typing_context: Any, address: Any, like: Any) -> Any:
    """An address as a pointer to numbers of the dtype of an array."""
    signature = types.CPointer(like.dtype)(types.intp, like)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


@intrinsic
def float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 of a 32-bit pattern."""
    signature = types.float32(types.uint32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return signature, generate


@njit(**EXACT)
def address_of(table, source, row, start):  # type: ignore[no-untyped-def]
    """Where an entry of a row of a source lies."""
    code = table[source, 2]
    size = 4 if code == FLOAT32 else (8 if code == FLOAT64 else 2)
    return table[source, 0] + row * table[source, 1] + size * start


@njit(**EXACT)
def widen(table, source, row, start, out):  # type: ignore[no-untyped-def]
    """Entries start, start + 1, ... of a row of a source, in the dtype of `out` (width,)."""
    width = len(out)
    address, code = table[source, 0] + row * table[source, 1], table[source, 2]
    if code == FLOAT32:
        singles = carray(_float32_at(address + 4 * start), (width,))
        for j in range(width):
            out[j] = singles[j]
    elif code == FLOAT64:
        doubles = carray(_float64_at(address + 8 * start), (width,))
        for j in range(width):
            out[j] = doubles[j]
    elif code == BFLOAT16:
        uppers = carray(_bits_at(address + 2 * start), (width,))
        for j in range(width):
            out[j] = float_of_bits(np.uint32(uppers[j]) << np.uint32(16))
    elif code == FLOAT16:
        halves = carray(_bits_at(address + 2 * start), (width,))
        for j in range(width):
            bits = np.uint32(halves[j])
            # Exponent and fraction move to their places in float32; one exact product mends the exponent, also
            # of subnormal numbers. What is stored is finite: checkpoints refuse the rest.
            size = float_of_bits(np.uint32((bits & np.uint32(0x7FFF)) << np.uint32(13))) * _HALF_SCALE
            out[j] = -size if bits & np.uint32(0x8000) else size
    else:
        out[:] = 0


@njit(**EXACT)
def on_lines(rows, width, like):  # type: ignore[no-untyped-def]
    """(rows, width) zeros in the dtype of `like` that begin where a line of memory does.

    A register that is filled from two lines takes twice as long.
    """
    numbers = LINE // like.itemsize
    room = np.zeros(rows * width + numbers, like.dtype)
    skipped = -(room.ctypes.data // like.itemsize) % numbers
    return room[skipped : skipped + rows * width].reshape((rows, width))


@njit(**EXACT)
def scratch_for(tasks, piece, like):  # type: ignore[no-untyped-def]
    """What `locate` widens into: (T + 2, piece), the last row zeros; the dtype is that of `like`."""
    return on_lines(tasks + 2, piece, like)


@njit(**EXACT)
def locate(table, row, start, count, subtract, scratch, places):  # type: ignore[no-untyped-def]
    """Addresses of entries start, start + 1, ... of a row, in the working dtype: where they lie, or widened.

    Args:
        scratch: of `scratch_for`, at least `count` wide, good until the next call.
        places: (T + 2,), filled: tasks, of which those that are absent change nothing; then the base; then what is
            subtracted from tasks, the base or zeros.
    """
    tasks, size = len(table) - 1, scratch.itemsize
    own = FLOAT32 if size == 4 else FLOAT64
    base, lower = len(places) - 2, len(places) - 1
    for source in range(tasks + 1):
        code, place = table[source, 2], (base if source == tasks else source)
        if code == own:
            places[place] = table[source, 0] + row * table[source, 1] + size * start
        elif code != ABSENT:
            widen(table, source, row, start, scratch[source, :count])
            places[place] = scratch[source].ctypes.data
    places[lower] = places[base] if subtract else scratch[tasks + 1].ctypes.data
    for source in range(tasks):
        if table[source, 2] == ABSENT:
            places[source] = places[lower]


@njit(**EXACT)
def numbers_at(address, count, like):  # type: ignore[no-untyped-def]
    """(count,) numbers where they lie, in the dtype of the array `like`."""
    return carray(_pointer_like(address, like), (count,))


@njit(**EXACT)
def four_at(places, first, count, like):  # type: ignore[no-untyped-def]
    """`numbers_at` of four places."""
    return (
        numbers_at(places[first], count, like),
        numbers_at(places[first + 1], count, like),
        numbers_at(places[first + 2], count, like),
        numbers_at(places[first + 3], count, like),
    )


@njit(**EXACT)
def trimmed(value, bound):  # type: ignore[no-untyped-def]
    """The value, or 0 where it is below the bound."""
    return value if abs(value) >= bound else type(value)(0)


@njit(**EXACT)
def trim_rows(places, bounds, out):  # type: ignore[no-untyped-def]
    """Trimmed task vectors of a row (or a piece of it) that `locate` found: out (T, n), bounds (T,)."""
    tasks, width = out.shape
    lower = numbers_at(places[len(places) - 1], width, out)
    whole = tasks // FOUR * FOUR
    for t in range(0, whole, FOUR):
        p, q, r, s = four_at(places, t, width, out)
        a, b, c, d = bounds[t], bounds[t + 1], bounds[t + 2], bounds[t + 3]
        to_p, to_q, to_r, to_s = out[t], out[t + 1], out[t + 2], out[t + 3]
        for j in range(width):
            own = lower[j]
            to_p[j] = trimmed(p[j] - own, a)
            to_q[j] = trimmed(q[j] - own, b)
            to_r[j] = trimmed(r[j] - own, c)
            to_s[j] = trimmed(s[j] - own, d)
    for t in range(whole, tasks):
        source, bound, target = numbers_at(places[t], width, out), bounds[t], out[t]
        for j in range(width):
            target[j] = trimmed(source[j] - lower[j], bound)
