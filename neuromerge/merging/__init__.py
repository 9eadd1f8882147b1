"""The mathematics of merging: task vectors, trim, subspaces, methods behind one registry, interference.

Knows tensors and parameter roles; knows no files, no models and no interface.
"""

from neuromerge.merging import neuromerging as _neuromerging  # noqa: F401, I001  (first in the list of methods)
from neuromerge.merging import baselines as _baselines  # noqa: F401  (register themselves)
from neuromerge.merging.measures import interference, task_cosines
from neuromerge.merging.registry import MergeMethod, Hyperparameter, methods
from neuromerge.merging.streaming import MergeResult, merge

__all__ = ["Hyperparameter", "MergeMethod", "MergeResult", "interference", "merge", "methods", "task_cosines"]
