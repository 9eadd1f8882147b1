"""Files of the Hub, byte by byte: resumed where they stopped, checked, and put into the Hub library's own cache.

The Hub library starts a file anew whenever its download was stopped. Weights are hundreds of megabytes, so what came
of a large file is kept beside its place in the cache, and the next try asks for the rest alone.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from neuromerge.atomic import replacing
from neuromerge.errors import StorageError
from neuromerge.hub import answers
from neuromerge.progress import UNATTENDED, Job

RESUMED_FROM = 1 << 22
"""Files from this size on are resumed; smaller ones are fetched in one piece."""
SPARE = 1 << 28
"""Bytes of the disk that a download leaves free."""
_PART = ".neuromerge-part"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch(
    repository: str, revision: str | None, commit: str, files: Sequence[tuple[str, int]], job: Job = UNATTENDED
) -> Path:
    """The folder of the snapshot of `commit`, with `files` (name and bytes of each) fetched into it.

    `job` is told the bytes that are there, and may stop at any chunk: what came so far is kept. Raises StorageError
    where the disk has not enough room, and what the Hub library raises.
    """
    from huggingface_hub import hf_hub_download

    total, there, folder = sum(size for _, size in files), 0, Path()
    _require_room(repository, commit, files)
    for name, size in files:
        before = there

        def told(done: int, before: int = before, name: str = name) -> None:
            job.report(min(before + done, total), total, name)

        def one(name: str = name, size: int = size, told: Callable[[int], None] = told) -> Path:
            if size >= RESUMED_FROM and not _is_there(repository, commit, name):
                _transfer(repository, commit, name, told)
            return Path(hf_hub_download(repository, name, revision=commit))

        told(0)
        place = answers.patiently(one, job)
        folder = place.parents[len(Path(name).parts) - 1]
        there += size
        told(size)
    _note_revision(repository, revision, commit)
    return folder


def partly_there(repository: str, files: Sequence[tuple[str, int]]) -> int:
    """Bytes in the cache that earlier tries left of files which are not whole."""
    parts = _storage(repository).glob(f"blobs/*{_PART}")
    return min(sum(part.stat().st_size for part in parts), sum(size for _, size in files))


def _transfer(repository: str, commit: str, name: str, told: Callable[[int], None]) -> None:
    """Fetch a large file into the cache's blobs, beginning where an earlier try stopped."""
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils._fixes import WeakFileLock
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(repository, name, revision=commit)
    found = HfApi().get_hf_file_metadata(url=url)
    if not found.etag or found.size is None:
        return  # the library alone may know what to do
    blob = _storage(repository) / "blobs" / found.etag
    headers = build_hf_headers()
    if urlsplit(found.location).netloc != urlsplit(url).netloc:
        headers.pop("authorization", None)  # no login goes to another host
    part = blob.with_name(blob.name + _PART)
    part.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(part.with_name(part.name + ".lock")):
        if blob.exists():
            return
        with part.open("ab") as file:
            if file.tell() > found.size:
                file.truncate(0)
            told(file.tell())
            http_get(
                found.location,
                file,
                resume_size=file.tell(),
                headers=headers,
                expected_size=found.size,
                displayed_filename=name,
                tqdm_class=_bar(told),
            )
        _require_whole(part, found.etag, name)
        part.replace(blob)
    part.with_name(part.name + ".lock").unlink(missing_ok=True)


def _bar(told: Callable[[int], None]) -> Any:
    """A progress bar as the Hub library takes it that draws nothing and tells how many bytes are there."""
    from tqdm import tqdm

    class Told(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})
            self._there = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._there += int(n or 0)
            told(self._there)

    return Told


def _require_whole(part: Path, etag: str, name: str) -> None:
    """Raise OSError, and drop what came, where it is another content than the Hub's (whose mark is its SHA-256)."""
    if not _SHA256.fullmatch(etag):
        return
    with part.open("rb") as file:
        mark = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
    if mark.hexdigest() != etag:
        part.unlink()
        raise OSError(f"{name} came damaged and was dropped")


def _digest(file: Any) -> Any:
    mark = hashlib.sha256()
    while content := file.read(1 << 20):
        mark.update(content)
    return mark


def _require_room(repository: str, commit: str, files: Sequence[tuple[str, int]]) -> None:
    storage = _storage(repository)
    missing = [(name, size) for name, size in files if not _is_there(repository, commit, name)]
    wanted = sum(size for _, size in missing) - partly_there(repository, missing)
    place = next(folder for folder in (storage, *storage.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if wanted > 0 and free < wanted + SPARE:
        raise StorageError(
            f"{repository} needs {wanted / 1e6:,.0f} MB more, and only {free / 1e6:,.0f} MB are free in {place}. Free "
            "some space, or point HF_HOME to a larger disk, and try again: what was fetched so far is kept."
        )


def _is_there(repository: str, commit: str, name: str) -> bool:
    return (_storage(repository) / "snapshots" / commit / name).exists()


def _storage(repository: str) -> Path:
    """The folder of a repository in the Hub library's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def _note_revision(repository: str, revision: str | None, commit: str) -> None:
    """Remember in the cache, as the Hub library does, which commit a branch stands for; once all files are there."""
    name = revision or "main"
    if name == commit:
        return
    place = _storage(repository) / "refs" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as beside:
        beside.write_text(commit)
