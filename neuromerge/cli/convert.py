"""`neuromerge convert`: the same weights in another layout or precision."""

from __future__ import annotations

import argparse

SUMMARY = "write a checkpoint in another layout or precision"
EPILOG = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="what to convert")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write, or a file ending in .safetensors")
    parser.add_argument("--layout", choices=("open_clip", "transformers"), help="layout of a CLIP model (as it is)")
    parser.add_argument("--dtype", metavar="TYPE", help="write floats as float32, float16 or bfloat16 (as they are)")
    parser.add_argument("--force", action="store_true", help="write into a folder that holds something else")


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    from neuromerge.checkpoints import save_checkpoint

    files = save_checkpoint(options.checkpoint, options.out, options.layout, dtype=options.dtype, force=options.force)
    for path in files:
        print(path)
    return 0
