"""Options that several commands share, and the converters of their values.

A converter raises `argparse.ArgumentTypeError` with what it expected and what it found.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuromerge.errors import SettingError, quoted
from neuromerge.settings.setting import MAX_SEED

SPLITS = {"val": "validation", "validation": "validation", "test": "test", "quick": "quick"}


def json_option(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def quiet_option(parser: argparse.ArgumentParser) -> None:
    """`--quiet`."""
    parser.add_argument("--quiet", "-q", action="store_true", help="show no progress")


def checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """`--base`, `--task` and `--device`: which checkpoints, and where to compute."""
    parser.add_argument("--base", metavar="BASE", help="the model that all experts were fine-tuned from")
    parser.add_argument(
        "--task", metavar="EXPERT", nargs="+", action="extend", default=[], help="the experts; may be given again"
    )
    parser.add_argument("--device", default="cpu", metavar="D", help="where to compute: cpu (default) or cuda")


def matching_options(parser: argparse.ArgumentParser) -> None:
    """`--towers` and `--vocabulary`: how experts are matched with their base."""
    parser.add_argument(
        "--towers", choices=("vision", "both"), default="vision", help="merge a CLIP model's text tower too (vision)"
    )
    parser.add_argument(
        "--vocabulary",
        choices=("equal", "shared"),
        default="equal",
        help="merge experts with added tokens over the tokens that all have (equal)",
    )


def family_options(parser: argparse.ArgumentParser) -> None:
    """`--family` and `--tasks`: experts that a model family lists."""
    parser.add_argument("--family", default="pictoclip", metavar="NAME", help="model family (pictoclip)")
    parser.add_argument(
        "--tasks", metavar="T1,T2", nargs="+", type=as_names, action=Names, help="tasks to merge (all of the family)"
    )


class Names(argparse.Action):
    """Collects names that are separated by commas, by spaces, or given again. For `nargs="+"` and `as_names`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add the names to those that are there."""
        named = [name for names in values or () for name in names]
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), *named])


def as_names(text: str) -> list[str]:
    """`a,b` as a list of names."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise argparse.ArgumentTypeError("expected names separated by commas")
    return words


def as_pair(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as a pair; hyphens of the name become underscores."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip() or not value.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {quoted(text)}")
    return name.strip().replace("-", "_"), value.strip()


def as_factor(text: str) -> tuple[str, str, float | list[float]]:
    """`PART=F`, `PART=F1,F2,...` or `PART:COEFFICIENT=F` as part, coefficient ("" for all), and number or curve."""
    place, _, value = text.rpartition("=")
    part, _, coefficient = place.partition(":")
    try:
        numbers = [float(number) for number in value.split(",")]
    except ValueError:
        numbers = []
    if not part.strip() or not numbers:
        raise argparse.ArgumentTypeError(f"expected PART=FACTOR or PART=FIRST,...,LAST, found {quoted(text)}")
    return part.strip(), coefficient.strip(), numbers[0] if len(numbers) == 1 else numbers


def profile_from(given: Sequence[tuple[str, str, float | list[float]]]) -> dict[str, Any]:
    """The profile that `--profile` options describe. Raises SettingError where two of them say the same."""
    profile: dict[str, Any] = {}
    for part, coefficient, value in given:
        own = profile.setdefault(part, {} if coefficient else value)
        if coefficient and isinstance(own, dict) and coefficient not in own:
            own[coefficient] = value
        elif coefficient or own is not value:
            raise SettingError(f"--profile names {part} twice.")
    return profile


def set_option(parser: argparse.ArgumentParser, what: str) -> None:
    """`--set P=VALUE [P=VALUE ...]`, as often as one likes; `what` is its help."""
    parser.add_argument("--set", metavar="P=VALUE", nargs="+", type=as_pair, action="extend", default=[], help=what)


def as_weight(text: str) -> tuple[str, float]:
    """`TASK=W` as a task and its weight."""
    task, _, value = text.rpartition("=")
    try:
        return task.strip(), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected TASK=WEIGHT, found {quoted(text)}") from None


def as_range(text: str) -> tuple[str, tuple[float, float]]:
    """`NAME=LOW:HIGH` as a name and two numbers."""
    try:
        name, value = as_pair(text)
        low, high = (float(bound) for bound in value.split(":"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NAME=LOW:HIGH, found {quoted(text)}") from None
    return name, (low, high)


def _as_whole(text: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, found {quoted(text)}")
    return number


def as_path(text: str) -> str:
    """The path of a file; ``~`` is the home folder, also where no shell has put it in (``--csv=~/trials.csv``)."""
    return str(Path(text).expanduser())


def as_port(text: str) -> int:
    """A TCP port, 1 to 65535."""
    return _as_whole(text, 1, 65535)


def as_seed(text: str) -> int:
    """A seed, 0 to `MAX_SEED`."""
    return _as_whole(text, 0, MAX_SEED)
