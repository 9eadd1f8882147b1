"""Reading, naming, matching and writing weights.

The first room of the package: it knows files and formats, and nothing of merging.

    checkpoint = load_checkpoint("folder or file or hub:organisation/name")
    aligned = align(base, experts)
    with CheckpointWriter("merged", aligned.base) as writer:
        writer.write(name, tensor)
"""

from neuromerge.checkpoints.align import Aligned, align
from neuromerge.checkpoints.checkpoint import Checkpoint, load_checkpoint
from neuromerge.checkpoints.inspection import Inspection, inspect_checkpoint
from neuromerge.checkpoints.notices import notices
from neuromerge.checkpoints.roles import Parameter, Roles, resolve
from neuromerge.checkpoints.writer import CheckpointWriter, save_checkpoint

__all__ = [
    "Aligned",
    "Checkpoint",
    "CheckpointWriter",
    "Inspection",
    "Parameter",
    "Roles",
    "align",
    "inspect_checkpoint",
    "load_checkpoint",
    "notices",
    "resolve",
    "save_checkpoint",
]
