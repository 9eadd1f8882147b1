"""Writing a checkpoint as it is made: one tensor at a time, and never half a file under the final name.

The safetensors header needs shapes and dtypes only, so it is written first; each tensor then goes to its own
place as soon as its parameters are there, and nothing is kept. All of it happens in a temporary folder beside
the target. What was not merged is copied from the base when the writer closes; then everything is flushed to
the disk and moved into place. A failure, or a kill, leaves the target as it was.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.checkpoint import Checkpoint, load_checkpoint
from neuromerge.checkpoints.header import DTYPE_NAMES
from neuromerge.checkpoints.plan import Plan, Target, check_dtype, make_plan
from neuromerge.checkpoints.roles import Parameter
from neuromerge.checkpoints.sources import expanded
from neuromerge.checkpoints.storage import PICKLE_SUFFIXES
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError, StorageError, quoted
from neuromerge.json_files import read_json

RECORD = "neuromerge.json"
_MOST_RECORD_BYTES = 256 * 1024 * 1024  # it lists what came from the base, key by key
SHARD_BYTES = 5_000_000_000
# Endings of files that people may expect; a folder of such a name would surprise them.
_OTHER_ENDINGS = (*PICKLE_SUFFIXES, ".h5", ".gguf", ".onnx", ".npz", ".zip", ".tar", ".msgpack", ".json")
_RESERVE = 16 * 1024 * 1024  # room for configurations and the file system's own books
_PARTIAL = re.compile(r"^\.(?P<name>.+)\.partial-(?P<pid>\d+)-[0-9a-f]{8}$")


@dataclass(slots=True)
class _File:
    """One output file: where each of its tensors begins."""

    name: str
    targets: tuple[Target, ...]
    offsets: dict[str, int]
    size: int
    header: bytes
    descriptor: int = -1


@dataclass(slots=True)
class _Pending:
    """A tensor that waits for the rest of its parameters."""

    tensor: torch.Tensor
    missing: set[str] = field(default_factory=set)


class CheckpointWriter:
    """Writes merged parameters into a new checkpoint, streaming.

        with CheckpointWriter("merged", aligned.base, layout="transformers") as writer:
            for parameter in aligned.parameters:
                writer.write(parameter.name, merged)

    Leaving the block copies from the base what was not written (and ties copies to their originals), then
    moves everything into place; an exception inside the block removes what was written.

    Args:
        out: a folder, or a single ``.safetensors`` file.
        base: gives the tensors that are not merged, dtypes and configuration files.
        layout: ``open_clip`` or ``transformers``; None keeps the base's.
        dtype: of every floating tensor (``float32``, ``float16``, ``bfloat16``); None keeps the base's.
        force: write into a folder that holds something else, or over an existing file.
        expected: names that must have been written before the end (ValueError otherwise).
        record: what to note about the merge in ``neuromerge.json``; may be filled until the block ends.
        shard_bytes: a transformers folder is split into files of about this size.

    Raises:
        StorageError: the target exists and is not ours, is not writable, or the disk is too full.
        CheckpointError: the base cannot be written in that layout.
        SettingError: an unknown layout or dtype.
    """

    def __init__(
        self,
        out: str | Path,
        base: Checkpoint,
        layout: str | None = None,
        *,
        dtype: str | torch.dtype | None = None,
        force: bool = False,
        expected: Collection[str] = (),
        record: Mapping[str, Any] | None = None,
        shard_bytes: int = SHARD_BYTES,
    ):
        self.out = expanded(out)
        self.base = base
        self.record: dict[str, Any] = dict(record or {})
        self.files: tuple[Path, ...] = ()
        self._single = self.out.suffix == ".safetensors"
        self._force = force
        self._expected = set(expected)
        self._check_target()
        self._plan = make_plan(base, layout, check_dtype(dtype), with_configs=not self._single)
        self.layout = self._plan.layout
        self._by_name: dict[str, tuple[Target, Parameter]] = {
            piece.name: (target, piece) for target in self._plan.targets for piece in target.pieces
        }
        self._sources = {p.name: p for p in base.parameters + base.roles.text}
        self._pending: dict[str, _Pending] = {}
        self._done: set[str] = set()
        self._written: set[str] = set()
        self._parts = _divide(self._plan, None if self._single else shard_bytes)
        self._file_of = {target.key: part for part in self._parts for target in part.targets}
        self._folder: Path | None = None

    def __enter__(self) -> CheckpointWriter:
        try:
            self._open()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            self._abandon()
            raise _storage_error(self.out, error) from None
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._finish()
        except OSError as failure:
            raise _storage_error(self.out, failure) from None
        finally:
            self._abandon()

    def write(self, name: str, merged: torch.Tensor) -> None:
        """Write one parameter under its canonical name.

        Args:
            name: `Parameter.name`, the same in every layout.
            merged: of `Parameter.shape`, any floating dtype and device.

        Raises:
            ValueError: an unknown name, a name written before, or another shape (a defect of the caller).
            CheckpointError: a value that is not finite in the output's dtype.
            StorageError: the disk is full.
        """
        if name not in self._by_name or name in self._written:
            raise ValueError(f"{name!r} is {'written twice' if name in self._written else 'no parameter of the base'}")
        target, piece = self._by_name[name]
        if tuple(merged.shape) != piece.shape:
            raise ValueError(f"{name!r} must have shape {piece.shape}, not {tuple(merged.shape)}")
        self._written.add(name)
        try:
            self._place(target, piece, merged)
        except OSError as error:
            raise _storage_error(self.out, error) from None

    def _place(self, target: Target, piece: Parameter, values: torch.Tensor) -> None:
        """Put a parameter into its tensor; write the tensor once it is whole."""
        values = values.detach().to("cpu", target.dtype)
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise CheckpointError(
                f"The merged {piece.name} holds values that {str(target.dtype).removeprefix('torch.')} cannot hold. "
                "Lower the coefficients, or write the result as float32."
            )
        if len(target.pieces) == 1 and piece.axis == 0 and piece.index is None:
            self._put(target, values.reshape(target.shape))
            return
        waiting = self._pending.get(target.key)
        if waiting is None:
            waiting = _Pending(torch.empty(target.shape, dtype=target.dtype), {p.name for p in target.pieces})
            self._pending[target.key] = waiting
        piece.view(waiting.tensor).copy_(values)
        waiting.missing.discard(piece.name)
        if not waiting.missing:
            self._put(target, self._pending.pop(target.key).tensor)

    def _put(self, target: Target, tensor: torch.Tensor) -> None:
        part = self._file_of[target.key]
        # reshape: a 0-dimensional tensor has no bytes to view.
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        _write_all(part.descriptor, raw.data, part.offsets[target.key])
        self._done.add(target.key)

    def _open(self) -> None:
        parent = self.out.parent
        parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(self.out)
        needed = self._plan.nbytes + _RESERVE
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise StorageError(
                f"{self.out}: the disk has {free / 1e9:.2f} GB free, writing needs {needed / 1e9:.2f} GB. Free some "
                "space or choose another place."
            )
        folder = parent / f".{self.out.name}.partial-{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir()
        self._folder = folder
        for part in self._parts:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            part.descriptor = os.open(folder / part.name, flags, 0o666)
            _write_all(part.descriptor, memoryview(part.header), 0)
            os.ftruncate(part.descriptor, part.size)

    def _finish(self) -> None:
        if missing := self._expected - self._written:
            raise ValueError(f"{len(missing)} parameters were never written, first {min(missing)!r}")
        for target in self._plan.targets:
            if target.key not in self._done:
                self._complete(target)
        for part in self._parts:
            os.fsync(part.descriptor)
            os.close(part.descriptor)
            part.descriptor = -1
        assert self._folder is not None
        if not self._single:
            self._write_companions(self._folder)
        self._move(self._folder)

    def _complete(self, target: Target) -> None:
        """Fill a tensor, or what is missing of it: from its tied original, else from the base."""
        original = self._original(target)
        if original is not None:
            part = self._file_of[original.key]
            raw = bytearray(_read_all(part.descriptor, original.nbytes, part.offsets[original.key]))
            self._put(target, torch.frombuffer(raw, dtype=target.dtype).reshape(target.shape))
            return
        if not target.pieces:
            self._put(target, self.base.tensor(target.key).to(target.dtype))
            return
        for piece in target.pieces:
            if piece.name not in self._written:
                source = self._sources[piece.name]
                self._place(target, piece, source.view(self.base.tensor(source.key)))

    def _original(self, target: Target) -> Target | None:
        """The written tensor that an unwritten tied copy must equal."""
        if self.layout != self.base.layout or any(piece.name in self._written for piece in target.pieces):
            return None
        key = self.base.tied.get(target.key)
        if key is None or key not in self._done:
            return None
        original = next(t for t in self._plan.targets if t.key == key)
        return original if original.nbytes == target.nbytes else None

    def _write_companions(self, folder: Path) -> None:
        """Index, configurations, tokenizer and the record of the merge."""
        for name, path in self._plan.copied.items():
            if name not in self._plan.configs:
                shutil.copyfile(path, folder / name)
        for name, content in self._plan.configs.items():
            _write_json(folder / name, content)
        if len(self._parts) > 1:
            weight_map = {key: part.name for key, part in self._file_of.items()}
            _write_json(
                folder / "model.safetensors.index.json",
                {"metadata": {"total_size": self._plan.nbytes}, "weight_map": weight_map},
            )
        names = sorted([*(path.name for path in folder.iterdir()), RECORD])
        _write_json(folder / RECORD, {**self.record, "layout": self.layout, "files": names})

    def _move(self, folder: Path) -> None:
        """Put the finished files under their final names."""
        if self._single:
            (folder / self._parts[0].name).replace(self.out)
            self.files = (self.out,)
        elif not self.out.exists():
            folder.replace(self.out)
            self.files = tuple(sorted(self.out.iterdir()))
        else:
            # Into a folder that is there: file by file, the weights' companions last, so that an interrupted move
            # leaves whole files; then what an earlier merge of ours left over.
            before = _recorded_files(self.out)
            names = [part.name for part in self._parts]
            names += sorted(path.name for path in folder.iterdir() if path.name not in names)
            for name in names:
                (folder / name).replace(self.out / name)
            for name in before - set(names):
                (self.out / name).unlink(missing_ok=True)
            self.files = tuple(self.out / name for name in names)
        _sync_folder(self.out.parent)

    def _abandon(self) -> None:
        """Close and remove whatever is still in the temporary folder."""
        for part in self._parts:
            if part.descriptor >= 0:
                os.close(part.descriptor)
                part.descriptor = -1
        self._pending.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _check_target(self) -> None:
        out = self.out
        if not out.name or out.name in (".", ".."):
            raise StorageError(f"{quoted(str(out))} is no name for a result. Name a new folder or a .safetensors file.")
        ending = next((e for e in _OTHER_ENDINGS if out.name.lower().endswith(e) and not out.is_dir()), None)
        if ending is not None:
            better = out.with_name(out.name[: -len(ending)] + ".safetensors")
            raise StorageError(
                f"{out}: results are written as safetensors, not as {ending}. Name {better}, or a folder "
                f"({better.with_suffix('')})."
            )
        try:
            if self._single:
                if out.is_dir():
                    raise StorageError(f"{out} is a folder. Name a file, or a folder without the ending.")
                if out.exists() and not self._force:
                    raise StorageError(f"{out} exists. Choose another name, or overwrite it with --force (force=True).")
            elif out.exists() and not out.is_dir():
                raise StorageError(f"{out} is a file. Name a folder, or a file ending in .safetensors.")
            elif out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file() and not self._force:
                raise StorageError(
                    f"{out} is not empty and was not written by NeuroMerge. Choose another folder, or write into it "
                    "with --force (force=True)."
                )
        except (OSError, ValueError) as error:
            raise _storage_error(out, error) from None


def save_checkpoint(
    checkpoint: Checkpoint | str | Path | Mapping[str, torch.Tensor],
    out: str | Path,
    layout: str | None = None,
    *,
    dtype: str | torch.dtype | None = None,
    force: bool = False,
) -> tuple[Path, ...]:
    """Write a checkpoint again, in the same or the other CLIP layout. Returns the files. Raises as CheckpointWriter."""
    writer = CheckpointWriter(out, load_checkpoint(checkpoint), layout, dtype=dtype, force=force)
    with writer:
        pass
    return writer.files


def _divide(plan: Plan, shard_bytes: int | None) -> list[_File]:
    """The output files: one, or shards of about `shard_bytes` for a transformers folder."""
    name = "open_clip_model.safetensors" if plan.layout == layouts.OPEN_CLIP else "model.safetensors"
    groups: list[list[Target]] = [[]]
    filled = 0
    splits = shard_bytes is not None and plan.layout in (layouts.TRANSFORMERS, layouts.TRANSFORMERS_CLIP)
    for target in plan.targets:
        if splits and groups[-1] and filled + target.nbytes > (shard_bytes or 0):
            groups.append([])
            filled = 0
        groups[-1].append(target)
        filled += target.nbytes
    if len(groups) == 1:
        return [_lay_out(name, groups[0])]
    total = len(groups)
    return [_lay_out(f"model-{i:05d}-of-{total:05d}.safetensors", group) for i, group in enumerate(groups, start=1)]


def _lay_out(name: str, targets: Sequence[Target]) -> _File:
    """Header and offsets of one file. Wide types come first, so that every tensor is aligned to its own size."""
    ordered = tuple(sorted(targets, key=lambda target: -target.dtype.itemsize))
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    starts: dict[str, int] = {}
    for target in ordered:
        starts[target.key] = position
        content[target.key] = {
            "dtype": DTYPE_NAMES[target.dtype],
            "shape": list(target.shape),
            "data_offsets": [position, position + target.nbytes],
        }
        position += target.nbytes
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return _File(
        name, ordered, {key: len(header) + start for key, start in starts.items()}, len(header) + position, header
    )


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset` (one call may write less, and no call more than about 2 GB)."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    while len(data):
        data = data[os.write(descriptor, data) :]


def _read_all(descriptor: int, size: int, offset: int) -> bytes:
    os.lseek(descriptor, offset, os.SEEK_SET)
    pieces: list[bytes] = []
    while size:
        piece = os.read(descriptor, size)
        if not piece:
            raise OSError("the temporary file ended early")
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    # A path may hold bytes that are no text; their escape is what JSON writes for them too.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _recorded_files(folder: Path) -> set[str]:
    """Names of the files that an earlier merge wrote into a folder (plain names only)."""
    try:
        names = read_json(folder / RECORD, _MOST_RECORD_BYTES).get("files")
    except CheckpointError:
        return set()
    listed = names if isinstance(names, list) else []
    return {name for name in listed if isinstance(name, str) and Path(name).name == name}


def _remove_stale(out: Path) -> None:
    """Remove temporary folders of this target whose process is gone (killed during a write)."""
    for path in out.parent.iterdir():
        match = _PARTIAL.match(path.name)
        if match and match["name"] == out.name and not _alive(int(match["pid"])):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name == "nt":
        return True  # asking there would end the process; its remains are left alone instead
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the renames durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _storage_error(out: Path, error: OSError | ValueError) -> StorageError:
    reason = getattr(error, "strerror", None) or error
    return StorageError(
        f"{shown(str(out))} cannot be written: {reason}. Nothing was changed there; free some space "
        "or choose another place."
    )
