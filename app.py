"""Start NeuroMerge's app: `python app.py`, with the options of `neuromerge app`."""

from __future__ import annotations

import sys

from neuromerge.cli import main

if __name__ == "__main__":
    sys.exit(main(["app", *sys.argv[1:]]))
