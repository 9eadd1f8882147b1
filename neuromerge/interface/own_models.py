"""Experts that visitors bring: their files within a quota, and the families that hold them."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from neuromerge.checkpoints.filetypes import FileType, file_type
from neuromerge.deployment import Limits
from neuromerge.errors import CheckpointError, LimitError, StorageError
from neuromerge.evaluation.families import Family

FOLDER = "own"


class KnownFamilies(Mapping[str, Family]):
    """The families that the page offers to everybody, and, by names that cannot be guessed, those of single pages.

    Iterating gives the former only. Thread-safe.
    """

    def __init__(self, offered: Mapping[str, Family]) -> None:
        self._offered = dict(offered)
        self._own: dict[str, Family] = {}

    def __getitem__(self, name: str) -> Family:
        found = self._own.get(name)
        return self._offered[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._offered)

    def __len__(self) -> int:
        return len(self._offered)

    def add(self, family: Family) -> None:
        """Make the family of a page known."""
        self._own[family.name] = family

    def drop(self, name: str) -> None:
        """Forget the family of a page."""
        self._own.pop(name, None)


class OwnFiles:
    """Uploaded experts on the server's disk, bounded for each file, each page and in all. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[str | None, dict[Path, Path]] = {}
        self._lock = threading.Lock()

    def keep(self, page: str | None, upload: Path, root: Path) -> Path:
        """Take an uploaded file into the page's keeping, under `root`, and return its place; at once where it is there.

        Raises LimitError where it is too large or there are too many, CheckpointError where it is no safetensors file.
        """
        limits = self._limits
        with self._lock:
            own = self._held.setdefault(page, {})
            if upload in own:
                return own[upload]
            size = upload.stat().st_size if upload.is_file() else 0
            if size > limits.max_checkpoint_bytes:
                raise LimitError(
                    f"{upload.name} has {size / 2**20:,.0f} MB; at most {limits.max_checkpoint_bytes / 2**20:,.0f} MB "
                    "are possible."
                )
            require_safetensors(upload)
            if len(own) >= limits.own_checkpoints_per_page:
                raise LimitError(
                    f"This page has {len(own)} files already, as many as are possible. Reload it to begin anew."
                )
            if size + self._nbytes() > limits.own_checkpoint_bytes:
                raise LimitError(
                    f"{upload.name} has {size / 2**20:,.0f} MB, and there is no room for it beside the files of other "
                    "visitors. Try later, or run the app on your own machine."
                )
            place = root / FOLDER / secrets.token_hex(16) / upload.name
            try:
                place.parent.mkdir(parents=True)
                _link(upload, place)
            except OSError:
                shutil.rmtree(place.parent, ignore_errors=True)
                raise StorageError(f"{upload.name} could not be kept: the server's disk is full. Try later.") from None
            own[upload] = place
            return place

    def keep_only(self, page: str | None, wanted: Collection[Path]) -> None:
        """Remove the page's files but for those that were uploaded as, or lie at, one of `wanted`."""
        with self._lock:
            own = self._held.get(page, {})
            gone = [upload for upload, place in own.items() if upload not in wanted and place not in wanted]
            places = [own.pop(upload) for upload in gone]
        for place in places:
            shutil.rmtree(place.parent, ignore_errors=True)

    def forget(self, page: str | None) -> None:
        """Remove all files of a page."""
        self.keep_only(page, ())
        with self._lock:
            self._held.pop(page, None)

    def _nbytes(self) -> int:
        places = [place for own in self._held.values() for place in own.values()]
        return sum(place.stat().st_size for place in places if place.is_file())


def _link(upload: Path, place: Path) -> None:
    """The same file under another name: the upload's own goes when Gradio tidies up."""
    try:
        os.link(upload, place)
    except OSError:
        shutil.copyfile(upload, place)


def require_safetensors(path: Path) -> None:
    """Raise CheckpointError, without the server's folders, unless the file begins as a safetensors file does."""
    try:
        kind = file_type(path)
    except CheckpointError as error:
        raise CheckpointError(without_folder(str(error), path)) from None
    if kind is not FileType.SAFETENSORS:
        raise CheckpointError(
            f"{path.name} is a {kind.value}; here only safetensors files are taken, which hold numbers and nothing "
            "else. Save it with safetensors.torch.save_file(state_dict, ...)."
        )


def without_folder(text: str, path: Path) -> str:
    """`text` with the path of a file replaced by its name."""
    return text.replace(str(path), path.name).replace(f"{path.parent}/", "")
