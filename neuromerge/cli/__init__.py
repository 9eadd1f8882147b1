"""The `neuromerge` command: merge, evaluate and inspect checkpoints from a terminal or a script.

Results go to standard output, everything else (progress, warnings, errors) to standard error. Exit codes:
0 done, 2 bad input with one line that says what is wrong, 130 stopped, with Ctrl-C or by a signal. Heavy imports
happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence

from neuromerge.cli.parser import BAD_INPUT, build_parser
from neuromerge.cli.printing import one_line
from neuromerge.deployment import deployment
from neuromerge.endings import tidily
from neuromerge.errors import NeuroMergeError, out_of_memory

STOPPED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode, a path that is no text
    try:
        deployment()  # a word in the environment that cannot be read is an error of every command
        options = build_parser(arguments).parse_args(arguments)
        with tidily(), warnings.catch_warnings():
            # What a user should know is part of the result and printed from there.
            warnings.simplefilter("ignore")
            return int(options.run(options))
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else BAD_INPUT
    except NeuroMergeError as error:
        return _complain(str(error))
    except (MemoryError, RuntimeError) as error:
        too_large = out_of_memory(error)
        if too_large is None:
            raise
        return _complain(str(too_large))
    except KeyboardInterrupt:
        print("neuromerge: stopped.", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(message: str) -> int:
    print(f"neuromerge: {one_line(message)}", file=sys.stderr)
    return BAD_INPUT
