"""The random numbers of `torch.rand` on the CPU, as fast as memory takes what is drawn from them.

torch's CPU generator is the Mersenne Twister mt19937 (Matsumoto and Nishimura, ACM TOMACS 8(1), 1998), and a
float32 in [0, 1) is the lower 24 bits of one of its numbers times 2^-24.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neuromerge.merging.kernels.rows import EXACT

_WORDS, _AHEAD = 624, 397
_UPPER, _LOWER = np.uint32(0x80000000), np.uint32(0x7FFFFFFF)
_TWIST = np.uint32(0x9908B0DF)


@njit(**EXACT)
def _next(here, after, ahead):  # type: ignore[no-untyped-def]
    mixed = np.uint32((here & _UPPER) | (after & _LOWER))
    return np.uint32(ahead ^ np.uint32(mixed >> np.uint32(1)) ^ (_TWIST if mixed & np.uint32(1) else np.uint32(0)))


@njit(**EXACT)
def _twist(state):  # type: ignore[no-untyped-def]
    """The next 624 words of the generator, in place. In stretches that do not read what they write."""
    behind = _WORDS - _AHEAD
    for k in range(behind):
        state[k] = _next(state[k], state[k + 1], state[k + _AHEAD])
    for k in range(behind, _WORDS - 1):
        state[k] = _next(state[k], state[k + 1], state[k - behind])
    state[_WORDS - 1] = _next(state[_WORDS - 1], state[0], state[_AHEAD - 1])


@njit(**EXACT)
def at_least(seed, bound, out):  # type: ignore[no-untyped-def]
    """Which numbers of a generator seeded with `seed` (uint32) have lower 24 bits >= bound: out (n,) bool."""
    state = np.empty(_WORDS, np.uint32)
    state[0] = seed
    for k in range(1, _WORDS):
        before = np.uint32(state[k - 1])
        state[k] = np.uint32(np.uint32(1812433253) * np.uint32(before ^ np.uint32(before >> np.uint32(30))) + k)
    least = np.uint32(bound)
    for start in range(0, len(out), _WORDS):
        _twist(state)
        part = out[start : start + _WORDS]
        for k in range(len(part)):
            y = np.uint32(state[k])
            y = np.uint32(y ^ np.uint32(y >> np.uint32(11)))
            y = np.uint32(y ^ (np.uint32(y << np.uint32(7)) & np.uint32(0x9D2C5680)))
            y = np.uint32(y ^ (np.uint32(y << np.uint32(15)) & np.uint32(0xEFC60000)))
            y = np.uint32(y ^ np.uint32(y >> np.uint32(18)))
            part[k] = np.uint32(y & np.uint32(0xFFFFFF)) >= least
