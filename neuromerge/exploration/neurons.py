"""One layer and one neuron: what `close_ups` draws is read here, from the first pass and from real pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.engine import FamilyEngine
from neuromerge.engine.stages import Stages, pass_of
from neuromerge.errors import SettingError, quoted
from neuromerge.exploration import close_ups, regions
from neuromerge.exploration.results import LayerDetail, NeuronDetail
from neuromerge.merging import linear, registry
from neuromerge.merging.staged import NeuronStatistics, PointwiseStatistics
from neuromerge.progress import Job
from neuromerge.settings.setting import Setting

NEURON_PICTURES = 64


def layer(
    stages: Stages, cache: BoundedCache, setting: Setting, layer: str, matrix: str, sort: str, job: Job
) -> LayerDetail:
    """One cell of the heatmap opened: see `Workspace.layer`."""
    close_ups.check_sort(sort)
    wanted = pass_of(setting)

    def compute() -> LayerDetail:
        found = stages.in_cell(wanted, layer, matrix, job)
        maps = [s for s in found if isinstance(s, NeuronStatistics)]
        if maps:
            return close_ups.layer_of_neurons(layer, matrix, setting.tasks, maps, sort)
        pointwise = [s for s in found if isinstance(s, PointwiseStatistics)]
        read = [stages.rows(wanted, s, 0, s.parameter.shape[0]) for s in pointwise]
        base = torch.cat([part for part, _ in read]).numpy()
        tau = torch.cat([part for _, part in read], dim=1).numpy()
        return close_ups.layer_of_entries(layer, matrix, setting.tasks, pointwise, base, tau, sort)

    return cache.get(regions.LAYER, (setting.family, wanted, layer, matrix, sort), compute, job)


def neuron(
    engine: FamilyEngine,
    cache: BoundedCache,
    setting: Setting,
    layer: str,
    matrix: str,
    index: int,
    image_task: str | None,
    job: Job,
) -> NeuronDetail:
    """One neuron in the coordinates of its own decomposition: see `Workspace.neuron`."""
    stages, models = engine.stages, engine.models
    wanted = pass_of(setting)
    found = stages.in_cell(wanted, layer, matrix, job)
    maps = [s for s in found if isinstance(s, NeuronStatistics)]
    if not maps:
        raise SettingError(f"{matrix} in {layer} has no neurons: its entries are merged one by one.")
    count = sum(m.parameter.shape[0] for m in maps)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
        raise SettingError(f"{matrix} in {layer} has the neurons 0 to {count - 1}; there is no {quoted(index)}.")
    chosen, row = maps[0], index
    for chosen in maps:
        if row < chosen.parameter.shape[0]:
            break
        row -= chosen.parameter.shape[0]
    resolved = stages.coefficients(setting, job)
    used = resolved.of("parallel", chosen.parameter), resolved.of("orthogonal", chosen.parameter)
    task = image_task or next((t for t in setting.tasks if t in models.family.tasks), None)

    values = dict(setting.hyperparameters)
    rule = "" if registry.get_method(setting.method).first_pass is None else str(values["vote"])

    def compute() -> NeuronDetail:
        base, tau = stages.rows(wanted, chosen, row, row + 1)
        inputs: np.ndarray = np.zeros((0, base.shape[1]))
        labels: tuple[str, ...] = ()
        if task is not None:
            inputs, labels = models.inputs(layer, matrix, task, NEURON_PICTURES, job)
        return close_ups.neuron(
            layer,
            matrix,
            index,
            setting.tasks,
            base[0],
            tau[:, 0],
            float(chosen.parallel_merged[row]),
            chosen.alpha[row],
            used,
            inputs,
            labels,
        )

    key = (setting.family, wanted, layer, matrix, index, task)
    detail = cache.get(regions.NEURON, key, compute, job)
    detail = replace(detail, lambda_parallel=used[0], lambda_orthogonal=used[1], vote=rule)
    if rule:
        return replace(detail, ridge=float(values["ridge"]))
    base, tau = stages.rows(wanted, chosen, row, row + 1)
    own = linear.rows(stages.components(setting, job)[chosen.parameter.name], row, row + 1)
    moved = linear.change(base, own, resolved.at(chosen.parameter))
    change = close_ups.in_own_coordinates(base[0], tau[:, 0], moved[0].double())
    none = np.zeros(len(setting.tasks))
    return replace(detail, c_merged=0.0, alpha=none, change=change, ill_conditioned=False)


def input_pictures(engine: FamilyEngine, task: str) -> tuple[np.ndarray, ...]:
    """The pictures behind the inputs of a neuron: see `Workspace.input_pictures`."""
    if task not in engine.models.family.tasks:
        return ()
    samples = engine.models.inputs_shown(task, NEURON_PICTURES)
    return tuple(np.asarray(samples.images[place]) for place in range(len(samples)))
