"""Where tensors come from: a mapping in memory, a safetensors file, a PyTorch file, or several files as one.

Each storage tells keys, shapes and dtypes at once and reads one tensor when asked. Files are mapped into
memory, so a tensor costs no memory of its own until it is copied, and only the pages that are read are loaded.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from neuromerge.checkpoints.filetypes import FileType, file_type
from neuromerge.checkpoints.header import read_header
from neuromerge.checkpoints.parts import Entry
from neuromerge.checkpoints.pytorch import PyTorchStorage
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError, LimitError
from neuromerge.json_files import read_json

SAFETENSORS_SUFFIXES = (".safetensors",)
PICKLE_SUFFIXES = (".pth.tar", ".pt.tar", ".pt", ".pth", ".bin", ".ckpt", ".pkl")
_MAX_INDEX_BYTES = 64 * 1024 * 1024
_MERGEABLE = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


class Storage(Protocol):
    """Named tensors that are read one at a time."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Key -> (shape, dtype)."""
        ...

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files behind it (none for a mapping in memory)."""
        ...

    @property
    def kind(self) -> str:
        """What it is, in words for people."""
        ...

    def read(self, key: str) -> torch.Tensor:
        """The tensor, not to be written to: it may be the mapped file itself."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """What the files hold beside these tensors -> why it is left out."""
        ...

    def where(self, key: str) -> str:
        """The file that holds the key, for messages."""
        ...


def _as_tensor(value: Any, called: str) -> Any:
    """A NumPy array or number as a tensor, anything else as it is. Raises CheckpointError for a type of no weights."""
    if not isinstance(value, np.ndarray | np.generic):
        return value
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes, which JAX uses
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(step < 0 for step in array.strides) or not array.flags.writeable:
        array = array.copy()
    try:
        return torch.from_numpy(array)
    except TypeError:
        raise CheckpointError(
            f"{called} is a NumPy array of {array.dtype}, which is no type of weights. Convert it to float32 first."
        ) from None


class MappingStorage:
    """A state dict in memory, of tensors or of NumPy arrays (which are shared, not copied, where torch can).

    Raises:
        CheckpointError: no tensors, a key that is no text, a value that is no dense tensor with data.
    """

    kind = "state dict in memory"

    def __init__(self, tensors: Mapping[str, torch.Tensor | np.ndarray], origin: str):
        self._tensors: dict[str, torch.Tensor] = {}
        self._origin = origin
        self.left_out: Mapping[str, str] = {}
        self.paths: tuple[Path, ...] = ()
        for key, given in tensors.items():
            value = _as_tensor(given, f"{origin}: {shown(key)}")
            if not isinstance(key, str) or not isinstance(value, torch.Tensor):
                raise CheckpointError(
                    f"{origin} must map texts to tensors, but {shown(key)} holds {type(given).__name__}. Pass the "
                    "model's state_dict(), or NumPy arrays by name."
                )
            if value.layout != torch.strided or value.is_meta or value.is_quantized:
                raise CheckpointError(
                    f"{origin}: {shown(key)} is no plain tensor with values (it is sparse, quantised or on the meta "
                    "device). Load the weights as ordinary tensors first."
                )
            self._tensors[key] = value.detach()
        if not self._tensors:
            raise CheckpointError(f"{origin} holds no tensors. Pass the model's state_dict().")
        self.entries: dict[str, Entry] = {key: (tuple(t.shape), t.dtype) for key, t in self._tensors.items()}

    def read(self, key: str) -> torch.Tensor:
        """The tensor, not to be written to."""
        return self._tensors[key]

    def where(self, key: str) -> str:
        """The file that holds the key, for messages."""
        return self._origin


class SafetensorsStorage:
    """One safetensors file, its header checked, its tensors mapped when they are first read."""

    kind = FileType.SAFETENSORS.value

    def __init__(self, path: Path):
        self.paths: tuple[Path, ...] = (path,)
        self.left_out: Mapping[str, str] = {}
        self._path = path
        header = read_header(path)
        self.metadata = header.metadata
        self.entries: dict[str, Entry] = {key: (entry.shape, entry.dtype) for key, entry in header.tensors.items()}
        self._file: Any = None

    def read(self, key: str) -> torch.Tensor:
        """The tensor, mapped from the file. Raises CheckpointError where the file cannot be read."""
        from safetensors import SafetensorError, safe_open

        try:
            if self._file is None:
                self._file = safe_open(self._path, framework="pt", device="cpu")
            tensor: torch.Tensor = self._file.get_tensor(key)
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{self._path}: {shown(key)} cannot be read ({shown(str(error))}). Download or export the file again."
            ) from None
        return tensor

    def where(self, key: str) -> str:
        """The file that holds the key, for messages."""
        return str(self._path)


class ShardedStorage:
    """Several files as one set of tensors."""

    def __init__(self, parts: Iterable[Storage], folder: Path):
        self._part: dict[str, Storage] = {}
        self.entries: dict[str, Entry] = {}
        self.paths: tuple[Path, ...] = ()
        self.left_out: dict[str, str] = {}
        self.kind = ""
        for part in parts:
            self.kind = f"shards, each a {part.kind}"
            self.paths += part.paths
            self.left_out.update(part.left_out)
            for key, entry in part.entries.items():
                if key in self._part:
                    raise CheckpointError(
                        f"{folder}: {shown(key)} is stored twice, in {self._part[key].where(key)} and "
                        f"{part.where(key)}. Download the folder again."
                    )
                self._part[key] = part
                self.entries[key] = entry

    def read(self, key: str) -> torch.Tensor:
        """The tensor, not to be written to."""
        return self._part[key].read(key)

    def where(self, key: str) -> str:
        """The file that holds the key, for messages."""
        return self._part[key].where(key)


def open_file(path: Path, allow_pickle: bool, part: str | None = None) -> tuple[Storage, str | None]:
    """The storage of one file of weights, by its content, and what is left of `part`.

    Args:
        path: the file.
        allow_pickle: whether PyTorch files may be read.
        part: the container or the prefix that is meant, where a file holds several models.

    Raises:
        CheckpointError: not a regular file, an unknown format, or damaged.
        LimitError: a PyTorch file where those are not allowed.
    """
    require_regular(path)
    kind = file_type(path)
    if not kind.pickled:
        return SafetensorsStorage(path), part
    if not allow_pickle:
        raise LimitError(f"{path.name} is a {kind.value}; only .safetensors is read here. Convert it first.")
    storage = PyTorchStorage(path, kind, part)
    return storage, storage.part


def require_regular(path: Path) -> None:
    """Raise CheckpointError unless `path` is a regular file that exists (not a device, a pipe or a link loop)."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        hint = "the symbolic link leads nowhere" if path.is_symlink() else "no such file"
        raise CheckpointError(f"{path}: {hint}. Check the path.") from None
    except (OSError, ValueError) as error:
        # ELOOP (a symlink loop), EACCES, ENAMETOOLONG; ValueError: a NUL in the name.
        raise CheckpointError(f"{shown(str(path))} cannot be opened: {getattr(error, 'strerror', error)}.") from None
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path} is no regular file. Give a file of weights or a folder that holds one.")


def open_shards(paths: Iterable[Path], allow_pickle: bool) -> Storage:
    """Several files as one storage. Raises as `open_file`, and CheckpointError for a key that two of them hold."""
    files = list(paths)
    return ShardedStorage([open_file(path, allow_pickle)[0] for path in files], files[0].parent)


def open_index(index: Path, allow_pickle: bool) -> Storage:
    """The shards named by a `*.index.json` file, as one storage.

    Raises:
        CheckpointError: an index that is no index, names files outside its folder, or disagrees with the shards.
    """
    content = read_json(index, _MAX_INDEX_BYTES)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map. Download the folder again.")
    names: dict[str, None] = {}
    for name in weight_map.values():
        # A plain file name only: an index must not reach outside its folder.
        if not isinstance(name, str) or not name or Path(name).name != name or name in (".", "..") or "\\" in name:
            raise CheckpointError(f"{index} names {shown(name)}, which is no file name in its folder. Do not use it.")
        names[name] = None
    for name in names:
        if not _exists(index.parent / name):
            raise CheckpointError(f"{index.parent}: the shard {shown(name)} is missing. Download the folder again.")
    storage = open_shards([index.parent / name for name in names], allow_pickle)
    for key, name in weight_map.items():
        if key not in storage.entries:
            raise CheckpointError(f"{index.parent}: {shown(key)} should be in {name} but is not. Download it again.")
    return storage


def _exists(path: Path) -> bool:
    """Whether there is such a file; none has a name that the file system refuses."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _is_text(key: str) -> bool:
    """Whether a key can be written as UTF-8 (half of a surrogate pair cannot)."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_mergeable(storage: Storage) -> None:
    """Raise CheckpointError for a key that no file can hold, or a floating type that is not merged."""
    for key, (_, dtype) in storage.entries.items():
        if not _is_text(key):
            raise CheckpointError(
                f"{storage.where(key)}: the key {shown(key)} is no valid text. Export the model again."
            )
        if (dtype.is_floating_point or dtype.is_complex) and dtype not in _MERGEABLE:
            raise CheckpointError(
                f"{storage.where(key)}: {shown(key)} is stored as {str(dtype).removeprefix('torch.')}, which cannot be "
                "merged. Convert the checkpoint to float16, bfloat16 or float32 first."
            )
