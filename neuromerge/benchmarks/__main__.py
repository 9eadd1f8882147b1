"""``python -m neuromerge.benchmarks NAME [options]``: run one benchmark and print its figures."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from neuromerge.endings import tidily

SUMMARIES = {
    "merge": "the merging engine at ViT-B/32 size against the memory-bandwidth floor",
    "device": "whole merges at ViT-L/14 size on an accelerator against the copying of their bytes",
    "beside": "methods that take matrices apart, beside FusionBench's own code",
    "ridge": "how the ridge of the balanced vote was chosen, on validation pictures",
    "live": "the workspace under the app: lambda, trim and click without a browser",
    "browser": "the app in Chromium, from input event to painted picture",
    "load": "the running app under many simulated users",
    "fuzz": "whatever strangers can send, spoilt at random",
}


def main(argv: list[str]) -> int:
    """Dispatch to the benchmark's own module, which has a ``main(argv) -> int``."""
    here = Path(__file__).parent
    known = {name: text for name, text in SUMMARIES.items() if (here / f"{name}.py").exists()}
    if not argv or argv[0] not in known:
        print("usage: python -m neuromerge.benchmarks NAME [options]\n")
        print("\n".join(f"  {name:8s} {text}" for name, text in known.items()))
        return 0 if argv[:1] in ([], ["-h"], ["--help"]) else 2
    with tidily():  # some leave gigabytes of weights in the temporary folder until they are done
        return int(importlib.import_module(f"neuromerge.benchmarks.{argv[0]}").main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
