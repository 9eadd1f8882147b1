"""NeuroMerge: merge fine-tuned checkpoints of one base model, neuron by neuron, and look inside the merge.

The public names are imported when they are first used, so that `import neuromerge` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_checkpoint": "neuromerge.checkpoints",
    "Checkpoint": "neuromerge.checkpoints",
    "merge": "neuromerge.merging",
    "MergeResult": "neuromerge.merging",
    "methods": "neuromerge.merging",
    "interference": "neuromerge.merging",
    "task_cosines": "neuromerge.merging",
    "evaluate": "neuromerge.evaluation",
    "drift": "neuromerge.evaluation",
    "effect_map": "neuromerge.exploration.effects",
}

__all__ = [
    "Checkpoint",
    "MergeResult",
    "__version__",
    "drift",
    "effect_map",
    "evaluate",
    "interference",
    "load_checkpoint",
    "merge",
    "methods",
    "task_cosines",
]

if TYPE_CHECKING:
    from neuromerge.checkpoints import Checkpoint, load_checkpoint
    from neuromerge.evaluation import drift, evaluate
    from neuromerge.exploration.effects import effect_map
    from neuromerge.merging import MergeResult, interference, merge, methods, task_cosines


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
