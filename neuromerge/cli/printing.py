"""What the commands print: results on standard output, progress on standard error, files written whole."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from neuromerge.atomic import replacing
from neuromerge.errors import StorageError
from neuromerge.progress import UNATTENDED, Job

LONGEST_LINE = 1000
"""Characters of one complaint."""


def one_line(text: str) -> str:
    """`text` without line breaks, ended like a sentence; what repeats a whole input is cut to `LONGEST_LINE`."""
    line = " ".join(text.split())
    if len(line) > LONGEST_LINE:
        line = f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 4 :]}"
    return line if line.endswith((".", "!", "?")) else line + "."


@contextlib.contextmanager
def progress_bar(quiet: bool) -> Iterator[Job]:
    """A job that draws a bar on standard error, or tells nobody where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield UNATTENDED
        return
    from tqdm import tqdm

    bar: Any = tqdm(total=1, unit="", unit_scale=True, leave=False, file=sys.stderr, dynamic_ncols=True)

    def update(done: int, total: int, what: str) -> None:
        if bar.total != total or done < bar.n:
            bar.reset(total=total)
        bar.set_description(what, refresh=False)
        bar.update(done - bar.n)

    try:
        yield Job(update)
    finally:
        bar.close()


def print_warnings(sentences: Iterable[str]) -> None:
    """Sentences about a result, on standard error."""
    for sentence in sentences:
        print(f"warning: {one_line(sentence)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print `value` as strict JSON: no NaN, no infinity."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become null, unknown things their text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy and torch
        return _plain(value.tolist())
    return str(value)


def number(value: Any) -> str:
    """A value of a hyperparameter as a person writes it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def require_writable(path: str | None) -> None:
    """Raise StorageError now rather than after an hour of searching."""
    if path is None:
        return
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise StorageError(f"{path} cannot be written: its folder does not exist. Make it first.")
    if target.is_dir():
        raise StorageError(f"{path} cannot be written: it is a folder. Name a file in it.")
    if not os.access(target.parent, os.W_OK):
        raise StorageError(f"{path} cannot be written: its folder is closed to you. Choose another place.")


def write_text(path: str, text: str) -> None:
    """Write a small text file, whole or not at all. Raises StorageError."""
    try:
        with replacing(Path(path)) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}. Choose another place.") from None
