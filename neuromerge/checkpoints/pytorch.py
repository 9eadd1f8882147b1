"""Tensors from PyTorch files, old and new, whole modules and TorchScript archives, read as data.

The pickle in the file says where each tensor's numbers lie (see `neuromerge.checkpoints.pickles`: nothing in it
runs). The numbers are mapped from the file when a tensor is read.
"""

from __future__ import annotations

import io
import mmap
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from neuromerge.checkpoints.contents import choose_state_dict
from neuromerge.checkpoints.filetypes import FileType
from neuromerge.checkpoints.parts import Entry
from neuromerge.checkpoints.pickles import OddTensor, PickleError, StorageRef, TensorRef, read_pickle, storage_of
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError

_MAX_PICKLE_BYTES = 512 * 1024 * 1024
_SMALL_PICKLE_BYTES = 16 * 1024 * 1024
_MOST_GROWTH = 64  # of a larger pickle that is compressed: keys of layers make some 20 of 1, a bomb makes 1,000
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_AGAIN = "Download or export the file again."


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a storage's bytes lie: in the file itself, or (`name`) in a compressed member of the archive."""

    start: int
    size: int
    name: str = ""


class PyTorchStorage:
    """The state dict in one PyTorch file; nothing in the file is executed.

    Attributes:
        kind: what it is, in words for people.
        part: what is left of the part asked for: a prefix of the keys.
        left_out: what the file holds beside the state dict, with the reason.

    Raises:
        CheckpointError: damaged, no state dict in it, or several and no choice between them.
    """

    def __init__(self, path: Path, kind: FileType, part: str | None = None):
        self.paths: tuple[Path, ...] = (path,)
        self.kind = kind.value
        self._path = path
        self._map: mmap.mmap | None = None
        try:
            content, self._spans = _read_zip(path) if _is_zip(kind) else _read_stream(path, kind)
            chosen = choose_state_dict(content, part)
            self._tensors = {key: self._checked(key, tensor) for key, tensor in chosen.tensors.items()}
        except PickleError as error:
            raise CheckpointError(f"{path} {error}. It was read as data; nothing in it was executed.") from None
        except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
            raise CheckpointError(
                f"{path} is damaged ({shown(str(error) or type(error).__name__)}). {_AGAIN}"
            ) from None
        self.part = chosen.part
        self.left_out: Mapping[str, str] = chosen.left_out
        self.entries: dict[str, Entry] = {key: (ref.shape, ref.dtype) for key, ref in self._tensors.items()}

    def _checked(self, key: str, tensor: TensorRef | OddTensor) -> TensorRef:
        if isinstance(tensor, OddTensor):
            raise PickleError(
                f"holds {shown(key)} as a tensor {tensor.kind}, which cannot be merged: save the weights as ordinary "
                "tensors"
            )
        storage = tensor.storage
        span = self._spans.get(storage.key)
        needed = (storage.start + storage.numel) * storage.dtype.itemsize
        if 0 not in tensor.shape and (span is None or span.size < needed):
            raise PickleError(f"is truncated: the numbers of {shown(key)} are not all there")
        return tensor

    def read(self, key: str) -> torch.Tensor:
        """The tensor, mapped from the file. Raises CheckpointError where the file cannot be read."""
        ref = self._tensors[key]
        if 0 in ref.shape:
            return torch.empty(ref.shape, dtype=ref.dtype)
        try:
            raw = self._bytes(ref.storage)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{self._path}: {shown(key)} cannot be read ({shown(str(error))}). {_AGAIN}"
            ) from None
        return raw.view(ref.dtype).as_strided(ref.shape, ref.stride, ref.offset)

    def _bytes(self, storage: StorageRef) -> torch.Tensor:
        """The bytes of a storage, aligned to its type."""
        span = self._spans[storage.key]
        size = storage.dtype.itemsize
        begin, count = storage.start * size, storage.numel * size
        if span.name:
            with zipfile.ZipFile(self._path) as archive, archive.open(span.name) as member:
                return torch.frombuffer(bytearray(member.read(begin + count)), dtype=torch.uint8)[begin:].clone()
        if self._map is None:
            with self._path.open("rb") as file:
                # Copy on write: a tensor that is written to by mistake does not change the file.
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        if span.start + begin + count > len(self._map):
            raise ValueError("the file has become shorter")
        raw = torch.frombuffer(self._map, dtype=torch.uint8, offset=span.start + begin, count=count)
        return raw if raw.data_ptr() % size == 0 else raw.clone()

    def where(self, key: str) -> str:
        """The file that holds the key, for messages."""
        return str(self._path)


def _is_zip(kind: FileType) -> bool:
    return kind in (FileType.TORCH_ZIP, FileType.TORCH_SCRIPT)


def _read_zip(path: Path) -> tuple[Any, dict[str, _Span]]:
    """What the pickle of an archive describes, and where its storages lie."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleError("holds no single data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        _require_little_endian(archive, members, folder + "byteorder")
        size, stored = members[pickles[0]].file_size, members[pickles[0]].compress_size
        if size > min(_MAX_PICKLE_BYTES, max(_SMALL_PICKLE_BYTES, _MOST_GROWTH * stored)):
            raise PickleError("is too long a pickle to be a checkpoint")
        with archive.open(pickles[0]) as member:
            content = read_pickle(io.BytesIO(member.read(_MAX_PICKLE_BYTES)))
        spans: dict[str, _Span] = {}
        for name, info in members.items():
            if name.startswith(folder + "data/"):
                spans[name.removeprefix(folder + "data/")] = _member_span(file, info)
    return content, spans


def _require_little_endian(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> None:
    if (name in members and archive.open(name).read(16).strip() != b"little") or sys.byteorder != "little":
        raise PickleError("holds numbers in another byte order: save it again on a little-endian machine")


def _member_span(file: BinaryIO, info: zipfile.ZipInfo) -> _Span:
    """Where a member's bytes begin; compressed ones (an archive packed again by other means) are read by name."""
    if info.compress_type != zipfile.ZIP_STORED:
        return _Span(0, info.file_size, info.filename)
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise PickleError("is damaged")
    start = info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    if start + info.file_size > file.seek(0, 2):
        raise PickleError("is truncated")
    return _Span(start, info.file_size)


def _read_stream(path: Path, kind: FileType) -> tuple[Any, dict[str, _Span]]:
    """What a plain pickle describes; PyTorch's old format has five of them, and the numbers after the last."""
    if path.stat().st_size > _MAX_PICKLE_BYTES and kind is FileType.PICKLE:
        raise PickleError("is too long a pickle to be a checkpoint")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        stream = cast(BinaryIO, data)
        if kind is FileType.PICKLE:
            return read_pickle(stream), {}
        storages: dict[str, StorageRef] = {}

        def persistent(identity: Any) -> Any:
            found = storage_of(identity)
            if isinstance(found, StorageRef):
                storages[found.key] = found
            return found

        magic, protocol, system = (read_pickle(stream) for _ in range(3))
        if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
            raise PickleError("is of a PyTorch format that is not known")
        if not system.get("little_endian", True) or sys.byteorder != "little":
            raise PickleError("holds numbers in another byte order: save it again on a little-endian machine")
        content = read_pickle(stream, persistent)
        keys = read_pickle(stream)
        if not isinstance(keys, list):
            raise PickleError("is damaged")
        spans: dict[str, _Span] = {}
        for key in keys:
            if not isinstance(key, str) or key not in storages:
                raise PickleError("is damaged")
            count = int.from_bytes(stream.read(8), "little")
            size = count * storages[key].dtype.itemsize
            start = stream.tell()
            if start + size > len(data):
                raise PickleError("is truncated")
            spans[key] = _Span(start, size)
            stream.seek(start + size)
        return content, spans
