"""`neuromerge app`: the page on this machine."""

from __future__ import annotations

import argparse
import gc

from neuromerge.cli.options import as_port

SUMMARY = "open the app in the browser"
EPILOG = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--port", type=as_port, metavar="P", help="port to listen on (the first free one from 7860)")
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (this machine only; 0.0.0.0 for all)")


def run(options: argparse.Namespace) -> int:
    """Run the command. Returns the exit code."""
    gc.disable()  # nothing is garbage while the page is made; `launch` brings it back
    from neuromerge.interface.launch import launch

    launch(port=options.port, host=options.host)
    return 0
