"""All methods beside a merge; of a large family on few pictures first, then on more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from neuromerge.engine.accuracy import Accuracy
from neuromerge.engine.contents import Contents
from neuromerge.engine.models import Models
from neuromerge.exploration.scores import levels_of, measurable
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.compare import Comparison, growing
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family


def comparison(models: Models, setting: Setting, split: str, job: Job) -> Iterator[Comparison]:
    """The table after each method: see `Workspace.comparison`."""
    tasks = measurable(models, setting, split)
    whole: Comparison | None = None
    for most in levels_of(models, tasks, split):
        scorer = models if most is None else _First(models, most)
        for table in growing(scorer, tasks, given=setting, tuned=False, split=split, seed=setting.seed, job=job):
            if whole is None or table.done == table.entries:
                yield table
            else:
                yield replace(whole, done=table.done, refined_on=sum(table.n.values()))
        whole = table


@dataclass(frozen=True)
class _First:
    """Measures on the first `most` pictures of each task."""

    models: Models
    most: int

    @property
    def family(self) -> Family:
        return self.models.family

    def scores(
        self, contents: Contents, tasks: Sequence[str], split: str, job: Job = UNATTENDED
    ) -> dict[str, Accuracy]:
        return self.models.scores(contents, tasks, split, job, self.most)

    def notes(self, tasks: Sequence[str], splits: Sequence[str]) -> tuple[str, ...]:
        return self.models.notes(tasks, splits)
