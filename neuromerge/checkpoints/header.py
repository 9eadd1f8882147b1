"""Reading and checking the header of a safetensors file, before a single weight is touched.

The library that maps the weights refuses most malformed files too, but with messages for programmers. Here
every rule of the format is checked on its own, so that the message can say what is wrong, at which tensor, and
what to do; and the header of a stranger's file is bounded before it is parsed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuromerge.checkpoints.filetypes import require_model_sized
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError

MAX_HEADER_BYTES = 32 * 1024 * 1024  # a hundred thousand tensors with long names
_MAX_AXES = 32
_MAX_SIZE = 2**62

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}
"""The dtypes that are read. 8-bit and smaller floats are not: they hold quantised weights with scales beside them."""

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

_AGAIN = "Download or export the file again."


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a safetensors file; `start` and `stop` count bytes from the end of the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: the tensors in order of their keys in the file, and the free-text metadata."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int


def read_header(path: Path) -> Header:
    """The header of the safetensors file at `path`, fully checked against the size of the file.

    Raises:
        CheckpointError: the file is empty, truncated or no safetensors file; the header is too large, is no
            JSON or holds a key twice; a tensor's dtype is unknown, its size disagrees with its shape, or the
            tensors overlap, leave gaps or end before or after the file does.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            raw = _header_bytes(file.read(9), size, path)
            file.seek(8)
            text = file.read(raw)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    return parse_header(text, size - 8 - raw, str(path))


def _header_bytes(first: bytes, size: int, path: Path) -> int:
    """Length of the header, from the first nine bytes of the file: the length itself and the opening brace."""
    if size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes). {_AGAIN}")
    # Without the brace: a length may begin with the same bytes as these.
    if first[8:] != b"{" and (first[:2] == b"PK" or first[:1] == b"\x80"):
        raise CheckpointError(
            f"{path} is a PyTorch pickle, not a safetensors file. Convert it to safetensors, or give it its own "
            "ending (.pt or .bin)."
        )
    if first.startswith(b"version "):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights themselves. Run `git lfs pull` in its folder."
        )
    if len(first) < 8:
        raise CheckpointError(f"{path} is truncated: {size} bytes, fewer than any file has. {_AGAIN}")
    length = int.from_bytes(first[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path} is not a safetensors file, or a harmful one: it announces a header of {length:,} bytes "
            f"(allowed: {MAX_HEADER_BYTES:,}). {_AGAIN}"
        )
    if length + 8 > size:
        raise CheckpointError(
            f"{path} is truncated inside its header: {length + 8:,} bytes expected, {size:,} found. {_AGAIN}"
        )
    return length


def parse_header(text: bytes, data_bytes: int, where: str) -> Header:
    """The header in `text`, of a file with `data_bytes` bytes of data after it. `where` names it in messages."""
    content = _json_object(text, where)
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, Mapping) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{where}: __metadata__ must hold texts only. Export the file again with safetensors.")
    require_model_sized(len(content), where)
    tensors = {key: _entry(key, value, where) for key, value in content.items()}
    if not tensors:
        raise CheckpointError(f"{where} holds no tensors. Export the model's state dict again.")
    _check_offsets(tensors, data_bytes, where)
    return Header(tensors, dict(metadata), data_start=8 + len(text))


def _json_object(text: bytes, where: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise CheckpointError(f"{where}: the header holds the key {shown(key)} twice. {_AGAIN}")
            found[key] = value
        return found

    try:
        # RecursionError: brackets nested by the thousand.
        content = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{where} is not a safetensors file: its header is no readable JSON ({shown(str(error))}). {_AGAIN}"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{where} is not a safetensors file: its header is no JSON object. {_AGAIN}")
    return content


def _entry(key: str, value: Any, where: str) -> TensorEntry:
    if not isinstance(value, Mapping) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(
            f"{where}: the tensor {shown(key)} must be described by dtype, shape and data_offsets, found "
            f"{shown(sorted(value) if isinstance(value, Mapping) else value)}. {_AGAIN}"
        )
    name, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(name, str) or name not in DTYPES:
        raise CheckpointError(
            f"{where}: the tensor {shown(key)} is stored as {shown(name)}, which cannot be merged (expected one of "
            f"{', '.join(DTYPES)}). Convert the checkpoint to float16, bfloat16 or float32 first."
        )
    if not _is_sizes(shape) or len(shape) > _MAX_AXES:
        raise CheckpointError(
            f"{where}: the shape of {shown(key)} must be a list of sizes, found {shown(shape)}. {_AGAIN}"
        )
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f"{where}: data_offsets of {shown(key)} must be [start, stop], found {shown(offsets)}. {_AGAIN}"
        )
    count = 1
    for size in shape:
        count *= size
    expected = count * DTYPES[name].itemsize
    if expected != offsets[1] - offsets[0]:
        raise CheckpointError(
            f"{where}: the tensor {shown(key)} of shape {shown(shape)} and type {name} needs {expected:,} bytes, but "
            f"the header gives it {offsets[1] - offsets[0]:,}. {_AGAIN}"
        )
    return TensorEntry(DTYPES[name], tuple(shape), offsets[0], offsets[1])


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _MAX_SIZE for size in value
    )


def _check_offsets(tensors: Mapping[str, TensorEntry], data_bytes: int, where: str) -> None:
    """The tensors must fill the data exactly: no overlap, no gap, nothing beyond the end."""
    position = 0
    previous = "the header"
    for key, entry in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start < position:
            raise CheckpointError(f"{where}: the tensors {shown(key)} and {previous} overlap. {_AGAIN}")
        if entry.start > position:
            raise CheckpointError(
                f"{where}: {entry.start - position:,} bytes between {previous} and {shown(key)} belong to no tensor. "
                f"{_AGAIN}"
            )
        position, previous = entry.stop, shown(key)
    if position > data_bytes:
        raise CheckpointError(
            f"{where} is truncated: its tensors need {position:,} bytes, the file holds {data_bytes:,}. {_AGAIN}"
        )
    if position < data_bytes:
        raise CheckpointError(f"{where}: {data_bytes - position:,} bytes after the last tensor. {_AGAIN}")
