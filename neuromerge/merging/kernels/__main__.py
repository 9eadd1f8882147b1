"""Compile the kernels of a working dtype into a folder: ``python -m neuromerge.merging.kernels float32 FOLDER``.

Started beside a process that answers meanwhile, so it takes what the machine has idle.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from neuromerge.merging.kernels import loading


def main(arguments: list[str]) -> int:
    """Compile. Returns the exit code."""
    dtype = getattr(torch, arguments[0])
    if hasattr(os, "nice"):
        os.nice(10)
    torch.set_num_threads(1)
    loading.compile_into(Path(arguments[1]), dtype)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
