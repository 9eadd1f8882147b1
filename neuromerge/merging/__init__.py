"""The mathematics of merging: task vectors, trim, subspaces, methods behind one registry, interference.

Knows tensors and parameter roles; knows no files, no models and no interface.
"""

from neuromerge.merging import neuromerging as _neuromerging  # noqa: F401, I001  (first in the list of methods)
from neuromerge.merging import baselines as _baselines  # noqa: F401  (register themselves)
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.method import MergeMethod
from neuromerge.merging.registry import methods
from neuromerge.merging.streaming import MergeResult, merge
from neuromerge.merging.tables import interference, task_cosines

__all__ = ["Hyperparameter", "MergeMethod", "MergeResult", "interference", "merge", "methods", "task_cosines"]
