"""Numbers that say to a kernel what is stored and what is to be done: known with and without the compiler."""

from __future__ import annotations

FLOAT32, FLOAT64, FLOAT16, BFLOAT16, ABSENT = range(5)
"""Stored dtypes, in a table of sources; ABSENT is a task vector of zeros."""

SUM, MEAN, MEAN_OF_ELECTED, SUM_OF_ELECTED, CONSENSUS, PCB = range(6)
"""Rules of `changes.combine`."""
