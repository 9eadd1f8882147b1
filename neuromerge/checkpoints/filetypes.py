"""The kind of a file, told by its first bytes and not by its name, and what to do about those that are no weights."""

from __future__ import annotations

import zipfile
from enum import Enum
from pathlib import Path

from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError

MOST_TENSORS = 100_000
"""In one file: the largest published models hold 60,000 in a shard. More is an attack, or no model's weights."""
_LOOK = 1024
_LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa85019")  # torch.serialization's number, as a pickle writes it


class FileType(Enum):
    """Kinds of files that hold weights which are read here, and what people call them."""

    SAFETENSORS = "safetensors file"
    TORCH_ZIP = "PyTorch file"
    TORCH_SCRIPT = "TorchScript archive"
    TORCH_LEGACY = "PyTorch file of the format before 1.6"
    PICKLE = "Python pickle"

    @property
    def pickled(self) -> bool:
        """Whether reading it means reading a pickle."""
        return self is not FileType.SAFETENSORS


# Beginnings that tell another kind of file: what it is, and the remedy.
_DOWNLOAD = "Download the weights themselves and try again."
_OTHERS = (
    (
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"\x28\xb5\x2f\xfd", b"Rar!"),
        "a compressed archive",
        "Unpack it and name the file of weights inside.",
    ),
    (
        (b"\x89HDF",),
        "an HDF5 file (Keras or TensorFlow)",
        "Load it with its own library and save a PyTorch state dict as safetensors.",
    ),
    (
        (b"GGUF", b"ggml", b"lmgg"),
        "a GGUF file (llama.cpp)",
        "Its weights are quantised or packed. Use the PyTorch or safetensors checkpoint that it was made from.",
    ),
    ((b"\x93NUMPY",), "a NumPy array", "Save the model's state dict as safetensors."),
    ((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF"), "a picture", _DOWNLOAD),
    ((b"%PDF",), "a PDF document", _DOWNLOAD),
    ((b"\x7fELF", b"MZ"), "a program", _DOWNLOAD),
)


def file_type(path: Path) -> FileType:
    """The kind of an existing regular file of weights.

    Raises CheckpointError for every other kind, saying what the file is and what to do.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LOOK)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    named = path.suffix.lower() == ".safetensors"
    if not head:
        raise CheckpointError(f"{path} is empty (0 bytes). Download or export the file again.")
    # First the opening brace of a header: the length before it may begin with the bytes of any other kind.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return FileType.SAFETENSORS
    _refuse_texts(path, head)
    zipped, pickled = (
        head.startswith(b"PK\x03\x04"),
        head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"),
    )
    if named and (zipped or pickled):
        # Who names a file .safetensors promises that no pickle is in it.
        raise CheckpointError(
            f"{path} is a PyTorch pickle, not a safetensors file. Convert it to safetensors, or give it its own "
            "ending (.pt or .bin)."
        )
    if zipped:
        return _zip_type(path)
    if pickled:
        legacy = _LEGACY_MAGIC in head[:32]
        return FileType.TORCH_LEGACY if legacy else FileType.PICKLE
    for beginnings, what, remedy in _OTHERS:
        if head.startswith(beginnings):
            raise CheckpointError(f"{path} is {what}, not a checkpoint. {remedy}")
    if head[257:262] == b"ustar":
        raise CheckpointError(f"{path} is a tar archive. Unpack it and name the file of weights inside.")
    if _is_text(head):
        raise CheckpointError(f"{path} is a text that begins {shown(_beginning(head), 60)}, not weights. {_DOWNLOAD}")
    if named:
        return FileType.SAFETENSORS  # its reader says what is wrong with the header
    raise CheckpointError(
        f"{path} has an unknown format. Known are safetensors files and PyTorch files (.pt, .pth, .bin, .ckpt), told "
        "by their content, and folders that hold such files."
    )


def require_model_sized(tensors: int, where: object) -> None:
    """Raise CheckpointError for a file of more tensors than any model has, before each of them is looked at."""
    if tensors > MOST_TENSORS:
        raise CheckpointError(f"{where} holds more than {MOST_TENSORS:,} tensors. Save the weights of one model only.")


def _refuse_texts(path: Path, head: bytes) -> None:
    """Raise for what a download gives instead of the file."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(b"version "):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the weights themselves. Run `git lfs pull` in its folder."
        )
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        raise CheckpointError(
            f"{path} is an HTML page, not weights: the link led to a page about the file (a sign-in, a virus warning, "
            "a preview). Open it in a browser and save the file itself; on the Hub take /resolve/, not /blob/."
        )
    if start.startswith((b"<?xml", b"<error")):
        raise CheckpointError(
            f"{path} is an XML text, probably a server's error ({shown(_beginning(head), 60)}), not weights. "
            + _DOWNLOAD
        )


def _zip_type(path: Path) -> FileType:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(
            f"{path} is truncated or damaged: it begins as a PyTorch file, but {shown(str(error))}. Download or export "
            "the file again."
        ) from None
    require_model_sized(len(names), path)  # PyTorch writes a member for each
    tails = {name.partition("/")[2] for name in names}
    if "data.pkl" in tails:
        return FileType.TORCH_SCRIPT if "constants.pkl" in tails else FileType.TORCH_ZIP
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} holds NumPy arrays (.npz). Save the model's state dict as safetensors.")
    if any(name.startswith("word/") or name == "[Content_Types].xml" for name in names):
        raise CheckpointError(f"{path} is an office document, not a checkpoint. {_DOWNLOAD}")
    inside = next((name for name in names if not name.endswith("/")), "nothing")
    raise CheckpointError(
        f"{path} is a zip archive (of {shown(inside, 60)} ...), not a PyTorch file. Unpack it and name the file of "
        "weights inside."
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return len(text) > 3 and all(character.isprintable() or character.isspace() for character in text)


def _beginning(head: bytes) -> str:
    return " ".join(head[:200].decode("utf-8", "replace").split())
