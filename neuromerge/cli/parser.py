"""The parser of the command line: every verb is a module with its summary, its options and what it runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn, Protocol

from neuromerge import __version__
from neuromerge.cli import app, compare, convert, effect, evaluate, inspect, interference, merge, methods, models, sweep
from neuromerge.cli.printing import one_line

BAD_INPUT = 2

_EPILOG = """\
checkpoints (BASE, TASK, CHECKPOINT) are named by
  a file            expert.safetensors, expert.pt, last.ckpt: a state dict, a training checkpoint, a pickled module
                    or a TorchScript archive, told by its content; code in it never runs
  file#PART         one of several models in a file, by its container or prefix: last.ckpt#teacher
  a folder          as written by transformers (also sharded) or open_clip
  a LoRA adapter    a folder or file as PEFT writes it, as an expert
  bundled:FAMILY    a bundled base; bundled:FAMILY/TASK one of its experts (see `neuromerge models`)
  hub:ORG/NAME      the Hugging Face Hub, optionally hub:ORG/NAME@REVISION; fetched once, then cached

start here
  neuromerge models
  neuromerge merge --base bundled:pictoclip --task bundled:pictoclip/digits --task bundled:pictoclip/flags --out merged
  neuromerge inspect merged --base bundled:pictoclip
  neuromerge evaluate merged
  neuromerge app
"""


class Verb(Protocol):
    """What the module of a verb holds. Its heavy imports happen inside the functions."""

    SUMMARY: str
    """One line without a full stop; the list of commands shows it."""
    EPILOG: str
    """Examples and notes under the help of the command; may be empty."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options of the command."""

    def run(self, options: argparse.Namespace) -> int:
        """Run the command. Returns the exit code."""


VERBS: dict[str, Verb] = {
    "merge": merge,
    "evaluate": evaluate,
    "interference": interference,
    "effect": effect,
    "sweep": sweep,
    "compare": compare,
    "convert": convert,
    "inspect": inspect,
    "models": models,
    "methods": methods,
    "app": app,
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and stop with `BAD_INPUT`."""
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)} Try {self.prog} --help.\n")


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for `arguments`. Only the verb that they name gets its options: some need the registry of methods."""
    parser = Parser(
        prog="neuromerge",
        description="Merge fine-tuned models of one base neuron by neuron, and see where their tasks interfere.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"neuromerge {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, verb in VERBS.items():
        command = commands.add_parser(
            name,
            help=verb.SUMMARY,
            description=verb.SUMMARY[0].upper() + verb.SUMMARY[1:] + ".",
            epilog=verb.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=verb.run)
        if name == chosen:
            verb.add_options(command)
    return parser
