"""What a part of the merge does to accuracy, measured: the same pictures under the merge with that part changed.

A part (a layer, or a matrix of a layer) is left at the base's weights, halved or doubled. Only its own parameters are
written into a model that holds the merge, and only the blocks from the changed one upwards are computed: what enters
that block is kept. Nothing is approximated: the accuracies are those of whole merges with that profile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from neuromerge.checkpoints.roles import Parameter
from neuromerge.engine.contents import Contents
from neuromerge.engine.models import Models
from neuromerge.engine.stages import Stages, tasks_of
from neuromerge.evaluation.towers.vision import States, VisionModel
from neuromerge.merging import registry
from neuromerge.merging.profile import multiplied
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting


@dataclass(frozen=True, slots=True)
class Trial:
    """One part of the model and what its factors are multiplied by: 0 leaves it at the base's weights.

    `matrix` is empty for a whole layer.
    """

    layer: str
    matrix: str
    times: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Which pictures are right: by task, (N,) bool. `trial` is None for the merge as it is."""

    trial: Trial | None
    right: Mapping[str, np.ndarray]


def changed_by(setting: Setting, trial: Trial, parameters: Sequence[Parameter]) -> Setting:
    """The setting whose merge a trial measures: its profile says the change."""
    cells = {
        (parameter.layer, parameter.matrix): trial.times
        for parameter in parameters
        if parameter.layer == trial.layer and trial.matrix in ("", parameter.matrix)
    }
    names = registry.get_method(setting.method).component_names
    return replace(setting, profile=multiplied(setting.profile, cells, parameters, names))


def outcomes(
    models: Models,
    stages: Stages,
    setting: Setting,
    tasks: Sequence[str],
    split: str,
    trials: Sequence[Trial],
    job: Job,
) -> Iterator[Outcome]:
    """The merge as it is, then every trial; those of a lower block first.

    A model is borrowed meanwhile, and is given back as it was. Raises Cancelled where `job` says so.
    """
    parameters = stages.vectors(tasks_of(setting)).parameters
    own = {name: [p for p in parameters if p.layer == name] for name in dict.fromkeys(p.layer for p in parameters)}
    pictures, labels = models.pictures(tasks, split)
    heads = {task: models.head(task, job) for task in tasks}

    def right(embedding: torch.Tensor) -> dict[str, np.ndarray]:
        parts = embedding.split([len(labels[task]) for task in tasks])
        return {
            task: (part @ heads[task].T).argmax(1).numpy() == labels[task]
            for task, part in zip(tasks, parts, strict=True)
        }

    with models.borrow(Contents(setting=setting), job) as model:
        walk = _Walk(model, models, pictures, job)
        yield Outcome(None, right(walk.embedding()))
        depths = {layer: _depth(found, model.depth) for layer, found in own.items()}
        for trial in sorted(trials, key=lambda trial: depths[trial.layer]):  # stable: else in the order given
            walk.to(depths[trial.layer])
            changed = [p for p in own[trial.layer] if trial.matrix in ("", p.matrix) and p.name in model.weights]
            weights = {parameter.name: model.weights[parameter.name] for parameter in changed}
            before = {name: weight.clone() for name, weight in weights.items()}
            try:
                stages.write(changed_by(setting, trial, parameters), weights, job)
                embedding = walk.embedding()
            finally:
                for name, weight in before.items():
                    weights[name].copy_(weight)
            yield Outcome(trial, right(embedding))


def _depth(parameters: Sequence[Parameter], blocks: int) -> int:
    """The block where a layer's change is first felt: -1 for the stem, the number of blocks for the head."""
    first = parameters[0]
    if first.block is not None:
        return first.block
    return -1 if first.layer.endswith("stem") else blocks


class _Walk:
    """The pictures on their way through the merge: what enters one block is kept, and moves on block by block."""

    def __init__(self, model: VisionModel, models: Models, pictures: torch.Tensor, job: Job) -> None:
        self._model, self._models, self._job = model, models, job
        self._turns = models.turns(pictures, job)
        self._states: list[States] = []
        self._at = -1

    def to(self, block: int) -> None:
        """Go on to what enters that block."""
        model = self._model
        if block >= 0 and self._at < 0:
            self._states = [self._models.compute(partial(model.enter, turn), self._job) for turn in self._turns]
            self._at = 0
        while self._at < block:
            through = partial(model.through, block=self._at)
            self._states = [self._models.compute(partial(through, own), self._job) for own in self._states]
            self._at += 1

    def embedding(self) -> torch.Tensor:
        """Embeddings (N, D) under the weights that the model holds now."""
        model, at = self._model, self._at
        if at < 0:
            parts = [self._models.compute(partial(model.encode, turn), self._job) for turn in self._turns]
        else:
            embed = partial(model.embed_from, block=at)
            parts = [self._models.compute(partial(embed, own), self._job) for own in self._states]
        return torch.cat(parts)
