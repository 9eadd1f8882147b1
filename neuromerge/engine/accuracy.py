"""Accuracy with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from neuromerge.evaluation.accuracy import accuracy_interval


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy on `n` images with its 95 % Wilson interval [low, high]."""

    correct: int
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, correct: int, n: int) -> Accuracy:
        """`correct` right answers of `n`."""
        return cls(correct, n, *accuracy_interval(correct, n))

    @property
    def value(self) -> float:
        """The share that is right; NaN without images."""
        return self.correct / self.n if self.n else float("nan")
