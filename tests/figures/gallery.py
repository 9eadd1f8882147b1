"""Every figure, in every state that it can be in: what the tests of all figures go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from neuromerge.figures import accuracy, confusion, effects, interference, layer, neuron, strength, tuning
from neuromerge.figures.figure import Figure
from neuromerge.merging.measures import measures
from tests.figures import examples

ONE = examples.TASKS[:1]
MANY = tuple(f"task {i}" for i in range(20))


def _heatmap(key: str) -> Figure:
    return interference.interference_heatmaps(examples.heatmap(key), tasks=8, selected=(3, 2))


def _empty_board() -> Figure:
    return accuracy.accuracy_bars(replace(examples.board(), merged=frozenset()))


def _empty_landscape() -> Figure:
    land = examples.landscape()
    return tuning.landscape_contour(replace(land, value=np.full_like(land.value, np.nan), current=None))


def _growing_landscape() -> Figure:
    land = examples.landscape()
    pictures = np.where(np.isfinite(land.value), 32, 0)
    pictures[3:7, 1:5], pictures[4:6, 2:4] = 64, 1_600
    return tuning.landscape_contour(replace(land, images=1_600, pictures=pictures))


def _race() -> Figure:
    trials = [
        replace(trial, pictures=128 if place % 3 else 1_600, state="pruned" if place % 3 else "complete")
        for place, trial in enumerate(examples.trials())
        if trial.value is not None
    ]
    return tuning.parallel_coordinates(trials)


def _pointwise(draw: Callable[..., Figure]) -> Figure:
    detail = examples.layer_detail(ONE, neurons=6, bins=3)
    return draw(replace(detail, kind="pointwise", contested=(), cosine_parallel=np.full((1, 1), np.nan)))


FIGURES: dict[str, Callable[[], Figure]] = {
    "accuracy": lambda: accuracy.accuracy_bars(examples.board()),
    "accuracy, first visit": lambda: accuracy.accuracy_bars(
        examples.board(pinned=False, previous=False, unseen=False, split="quick")
    ),
    "accuracy, nothing merged": _empty_board,
    **{f"heatmap of {info.key}": lambda key=info.key: _heatmap(key) for info in measures()},
    "difference of heatmaps": lambda: interference.interference_heatmaps(
        interference.difference(examples.heatmap("retention"), examples.heatmap("cosine")), tasks=8
    ),
    "heatmap beside another": lambda: interference.interference_heatmaps(
        examples.heatmap("cosine"), tasks=8, beside=examples.heatmap("retention")
    ),
    "flat heatmap": lambda: interference.interference_heatmaps(
        examples.heatmap("retention", note_parallel="λ₁ = 0: nothing is added")
    ),
    "pairs": lambda: interference.task_pairs(examples.between_tasks()),
    "pairs of many": lambda: interference.task_pairs(examples.between_tasks(MANY)),
    "pairs of one task": lambda: interference.task_pairs(examples.between_tasks(), only="flags"),
    "pairs, norm": lambda: interference.task_pairs(examples.between_tasks(layer="block 1", matrix="norm")),
    "pairs, one task merged": lambda: interference.task_pairs(examples.between_tasks(ONE)),
    "kept": lambda: interference.kept_shares(examples.between_tasks()),
    "kept by one": lambda: interference.kept_shares(examples.between_tasks(layer="x", matrix="norm"), only="flags"),
    "kept of many": lambda: interference.kept_shares(examples.between_tasks(MANY)),
    "drift": lambda: interference.drift_heatmaps(examples.drift()),
    "drift of many": lambda: interference.drift_heatmaps(examples.drift(MANY)),
    "drift of one": lambda: interference.drift_heatmaps(examples.drift(ONE, blocks=2)),
    "neurons": lambda: layer.neurons_by_tasks(examples.layer_detail(neurons=40, bins=10)),
    "cosines": lambda: layer.task_cosines(examples.layer_detail(neurons=10, bins=5)),
    "cosines of many": lambda: layer.task_cosines(examples.layer_detail(MANY, neurons=6, bins=3)),
    "alpha": lambda: layer.alpha_histogram(examples.layer_detail(neurons=10, bins=5)),
    "contested": lambda: layer.contested_neurons(examples.layer_detail(neurons=20, bins=5)),
    **{
        f"{draw.__name__}, single entries": lambda draw=draw: _pointwise(draw)
        for draw in (layer.neurons_by_tasks, layer.task_cosines, layer.alpha_histogram, layer.contested_neurons)
    },
    "plane": lambda: neuron.neuron_plane(examples.neuron_detail()),
    "plane of many": lambda: neuron.neuron_plane(examples.neuron_detail(MANY)),
    "answers": lambda: neuron.pre_activations(examples.neuron_detail()),
    "votes": lambda: neuron.votes(examples.neuron_detail()),
    **{
        f"{draw.__name__}, {name}": lambda draw=draw, build=build: draw(build())
        for draw in (neuron.neuron_plane, neuron.pre_activations, neuron.votes)
        for name, build in {
            "one task": lambda: examples.neuron_detail(ONE),
            "dead neuron": examples.dead_neuron,
        }.items()
    },
    "strength": lambda: strength.strength_curve(examples.strength_curve(), examples.strength_curve(9), "NeuroMerging"),
    "strength, begun": lambda: strength.strength_curve(examples.strength_curve(2)),
    "strength, nothing yet": lambda: strength.strength_curve(examples.strength_curve(0)),
    "effects": lambda: effects.effect_heatmap(examples.effects(), 0.0),
    "effects of a task": lambda: effects.effect_heatmap(examples.effects(), 0.0, "digits", "Digits"),
    "effects, begun": lambda: effects.effect_heatmap(examples.effects(5), 0.0),
    "landscape": lambda: tuning.landscape_contour(examples.landscape(), examples.trials(12)),
    "landscape, empty": _empty_landscape,
    "landscape, of a large family": _growing_landscape,
    "trials that race": _race,
    "trials": lambda: tuning.parallel_coordinates(examples.trials()),
    "trials, none": lambda: tuning.parallel_coordinates(()),
    "importances": lambda: tuning.importance_bars({"lambda_orthogonal": 0.7, "trim_ratio": 0.3}),
    "confusion": lambda: confusion.confusion_matrix(examples.confusion()),
    "confusion of many": lambda: confusion.confusion_matrix(examples.confusion(26)),
}
