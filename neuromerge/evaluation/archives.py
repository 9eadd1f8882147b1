"""Pictures in a zip archive of strangers: read in memory, never unpacked, within bounds that are checked first."""

from __future__ import annotations

import stat
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation.folders import Parts, is_left_behind


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive of pictures may hold."""

    archive_bytes: int = 512 * 2**20
    entries: int = 20_000
    total_bytes: int = 512 * 2**20  # of all entries, unpacked
    entry_bytes: int = 64 * 2**20  # of one entry, unpacked
    ratio: int = 200  # of an entry's size unpacked to packed; pictures are packed already


class ZipTree:
    """The folders and files in a zip archive. Entries are read when they are asked for; nothing is written anywhere.

    Raises:
        SettingError: no archive, a damaged one, or one whose names lead outside of it, that holds links or
            special files, or that is encrypted.
        LimitError: more than the limits allow.
    """

    def __init__(self, path: Path, limits: ArchiveLimits | None = None) -> None:
        self.path = path
        self._limits = limits or ArchiveLimits()
        self._entries: dict[Parts, zipfile.ZipInfo] = {}
        self._folders: dict[Parts, tuple[set[str], set[str]]] = {(): (set(), set())}
        self._reading = threading.Lock()
        try:
            size = path.stat().st_size if path.is_file() else -1
            if size > self._limits.archive_bytes:
                raise LimitError(
                    f"{path.name} has {size / 2**20:.0f} MB; at most {self._limits.archive_bytes / 2**20:.0f} MB are "
                    "possible."
                )
            self._archive = zipfile.ZipFile(path)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
            raise SettingError(f"{path.name} is no readable zip archive. Pack the folder of pictures again.") from None
        self._check()

    def entries(self, place: Parts) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files at `place`, sorted."""
        folders, files = self._folders.get(place, (set(), set()))
        return sorted(folders), sorted(files)

    def read(self, place: Parts) -> bytes:
        """The content of a file. Raises SettingError where it is damaged."""
        info = self._entries[place]
        try:
            with self._reading, self._archive.open(info) as file:
                content = file.read(self._limits.entry_bytes + 1)
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, NotImplementedError):
            raise SettingError(f"{'/'.join(place)} in {self.path.name} is damaged.") from None
        if len(content) > self._limits.entry_bytes:
            raise LimitError(f"{'/'.join(place)} in {self.path.name} is larger than it says.")
        return content

    def _check(self) -> None:
        infos, limits = self._archive.infolist(), self._limits
        if len(infos) > limits.entries:
            raise LimitError(f"{self.path.name} has {len(infos):,} entries; at most {limits.entries:,} are possible.")
        total = 0
        for info in infos:
            place = self._place(info)
            total += info.file_size
            if info.file_size > limits.entry_bytes:
                raise self._too_large(info, f"{limits.entry_bytes / 2**20:.0f} MB")
            if info.file_size > limits.ratio * max(info.compress_size, 1) and info.file_size > 2**20:
                raise self._too_large(info, f"{limits.ratio} times its packed size")
            if total > limits.total_bytes:
                raise LimitError(
                    f"{self.path.name} holds more than {limits.total_bytes / 2**20:.0f} MB unpacked. Pack fewer files."
                )
            if any(is_left_behind(part) for part in place):
                continue
            if any(ord(sign) < 32 for part in place for sign in part):
                raise SettingError(f"{self.path.name} holds {info.filename[:200]!r}, which is no name of a file.")
            self._add(place, info)

    def _add(self, place: Parts, info: zipfile.ZipInfo) -> None:
        folders = place if info.is_dir() else place[:-1]
        for depth, name in enumerate(folders):
            self._folders[folders[:depth]][0].add(name)
            self._folders.setdefault(folders[: depth + 1], (set(), set()))
        if not info.is_dir():
            if place in self._entries:
                raise SettingError(f"{self.path.name} holds {'/'.join(place)[:200]!r} twice. Pack the folder again.")
            self._folders[folders][1].add(place[-1])
            self._entries[place] = info

    def _place(self, info: zipfile.ZipInfo) -> Parts:
        """An entry's place. Raises SettingError for one that leads outside, is a link or special, or is encrypted."""
        name = info.filename.replace("\\", "/")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if name.startswith("/") or ".." in parts or (parts and ":" in parts[0]):
            raise SettingError(f"{self.path.name} holds {name[:200]!r}, a name that leads outside. Nothing was read.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise SettingError(f"{self.path.name} holds {name[:200]!r}, a link or special file. Nothing was read.")
        if info.flag_bits & 1:
            raise SettingError(f"{self.path.name} is encrypted. Pack the folder without a password.")
        return parts

    def _too_large(self, info: zipfile.ZipInfo, most: str) -> LimitError:
        return LimitError(f"{self.path.name} holds {info.filename[:200]!r}, which unpacks to more than {most}.")
