"""`python -m neuromerge` is the `neuromerge` command."""

import sys

from neuromerge.cli import main

if __name__ == "__main__":
    sys.exit(main())
