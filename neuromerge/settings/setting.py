"""A setting: everything that a merge depends on, as one small hashable value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuromerge.merging.profile import Profile, TaskWeights

MAX_SEED = 2**32 - 1
Value = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Setting:
    """What to merge and how. Equal settings give equal merges.

    `hyperparameters` holds the method's own hyperparameters as sorted (name, value) pairs, every one present
    (defaults filled in, values checked) so that equality means equality of the merge; "auto" is a legal
    value where the method's specification says so.

    `profile` holds factors on the coefficients by part of the model, `task_weights` one weight a task in the order
    of `tasks` (empty where all are 1); see `neuromerge.merging.profile`.
    """

    family: str
    tasks: tuple[str, ...]
    method: str
    hyperparameters: tuple[tuple[str, Value], ...]
    seed: int = 0
    profile: Profile = ()
    task_weights: TaskWeights = ()

    def value(self, name: str) -> Value:
        """The value of one hyperparameter."""
        return dict(self.hyperparameters)[name]
