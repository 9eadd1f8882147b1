"""JSON from files of strangers: read once, bounded in bytes and depth, with errors that name the file."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from neuromerge.errors import CheckpointError, NeuroMergeError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 64  # no configuration comes near it; what is deeper breaks whoever walks it later


def read_json(
    path: Path,
    most_bytes: int = MAX_BYTES,
    *,
    remedy: str = "Download the file again.",
    error: type[NeuroMergeError] = CheckpointError,
) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
        path: a regular file; a pipe or a device is refused without waiting for it.
        most_bytes: how large the file may be.
        remedy: what to do about a bad file, a sentence.
        error: the class to raise.

    Raises `error` for a file that is missing, too large, no JSON, too deep, or no object.
    """
    try:
        content = beginning(path, most_bytes + 1)
    except (OSError, ValueError) as reason:  # ValueError: a NUL in the name
        raise error(f"{path} cannot be read: {getattr(reason, 'strerror', None) or reason}. {remedy}") from None
    if len(content) > most_bytes:
        raise error(f"{path} is larger than {most_bytes:,} bytes; this is no configuration.")
    value = parse_json(content, str(path), remedy=remedy, error=error)
    if not isinstance(value, dict):
        raise error(f"{path} must hold a JSON object. {remedy}")
    return value


def beginning(path: Path, most_bytes: int) -> bytes:
    """The first bytes of a regular file. Raises OSError; for a pipe or a device at once, without waiting for it."""
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(most_bytes)


def parse_json(content: str | bytes, where: str, *, remedy: str, error: type[NeuroMergeError] = CheckpointError) -> Any:
    """The value that a JSON text holds. Raises `error`, which names `where`, for no JSON or one that is too deep."""
    try:
        value = json.loads(content.decode("utf-8-sig") if isinstance(content, bytes) else content)
    except RecursionError:
        raise error(f"{where} cannot be read: the JSON is nested too deeply. {remedy}") from None
    except ValueError as reason:
        raise error(f"{where} cannot be read: it is no JSON ({str(reason)[:100]}). {remedy}") from None
    if _is_deeper(value, MAX_DEPTH):
        raise error(f"{where} is nested more than {MAX_DEPTH} deep; this is no configuration. {remedy}")
    return value


def _is_deeper(value: Any, most: int) -> bool:
    """Whether lists and objects are nested more than `most` deep; walked level by level, so it cannot overflow."""
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _without_waiting(path: str, flags: int) -> int:
    """Open a pipe without waiting for its other end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
