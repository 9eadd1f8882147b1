"""Evaluation: families of models, zero-shot heads, sample pictures, accuracy, and what arrives at a neuron.

The names are imported when they are first used, so that reading the registry of families needs no model code.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "AccuracyTable": "accuracy",
    "Batch": "accuracy",
    "Counts": "accuracy",
    "accuracy_interval": "accuracy",
    "accuracy_of": "accuracy",
    "confusion_counts": "accuracy",
    "evaluate": "accuracy",
    "heads_of": "accuracy",
    "make_batch": "accuracy",
    "samples_for": "accuracy",
    "layer_inputs": "activations",
    "Family": "families",
    "TaskSpec": "families",
    "get_family": "families",
    "local_family": "families",
    "drift": "features",
    "prompt_notes": "heads",
    "zero_shot_head": "heads",
    "TextModel": "towers",
    "VisionModel": "towers",
    "SampleSet": "samples",
    "folder_samples": "samples",
    "load_samples": "samples",
    "picture_classes": "samples",
}

__all__ = [
    "AccuracyTable",
    "Batch",
    "Counts",
    "Family",
    "SampleSet",
    "TaskSpec",
    "TextModel",
    "VisionModel",
    "accuracy_interval",
    "accuracy_of",
    "confusion_counts",
    "drift",
    "evaluate",
    "folder_samples",
    "get_family",
    "heads_of",
    "layer_inputs",
    "load_samples",
    "local_family",
    "make_batch",
    "picture_classes",
    "prompt_notes",
    "samples_for",
    "zero_shot_head",
]

if TYPE_CHECKING:
    from neuromerge.evaluation.accuracy import (
        AccuracyTable,
        Batch,
        Counts,
        accuracy_interval,
        accuracy_of,
        confusion_counts,
        evaluate,
        heads_of,
        make_batch,
        samples_for,
    )
    from neuromerge.evaluation.activations import layer_inputs
    from neuromerge.evaluation.families import Family, TaskSpec, get_family, local_family
    from neuromerge.evaluation.features import drift
    from neuromerge.evaluation.heads import prompt_notes, zero_shot_head
    from neuromerge.evaluation.samples import SampleSet, folder_samples, load_samples, picture_classes
    from neuromerge.evaluation.towers import TextModel, VisionModel


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"neuromerge.evaluation.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
