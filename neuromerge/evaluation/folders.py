"""Which pictures of which class lie in a folder or an archive, as people really keep them.

One subfolder a class, at any depth; split folders (`train`, `val`, `test` and their usual other names) or none;
and among them what systems and tools leave behind. Nothing is decoded here, and nothing is dropped without a word.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from neuromerge.errors import SettingError

Parts = tuple[str, ...]
"""A place below the top: the names of the folders on the way, and its own."""

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jif", "jfif", "pjpeg", "pjp", "webp", "avif", "gif"),
        *("bmp", "dib", "tif", "tiff", "ppm", "pgm", "pbm", "pnm"),
    )
)
"""Endings of the names of pictures, in lower case."""
MAX_DEPTH = 16
SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Name of a folder -> the split that it holds."""
_LEFT_BEHIND = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "ehthumbs.db",
        "icon\r",
        "lost+found",
        "system volume information",
        "thumbs.db",
    }
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that was left out, by its place below the top, and why."""

    name: str
    reason: str


class Tree(Protocol):
    """Folders and files below a top, without what systems leave behind."""

    def entries(self, place: Parts) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files at `place`, sorted."""
        ...


class FolderTree:
    """A folder on this machine. Links are followed, except to a folder on the way to them.

    Raises SettingError where a folder cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, place: Parts) -> Path:
        """The place as a path."""
        return self.root.joinpath(*place)

    def entries(self, place: Parts) -> tuple[list[str], list[str]]:
        """Names of the folders and of the files at `place`, sorted."""
        here = self.path(place)
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(here) as found:
                for entry in found:
                    if is_left_behind(entry.name):
                        continue
                    if not entry.is_dir():
                        files.append(entry.name)
                    elif not entry.is_symlink() or Path(entry.path).resolve() not in self._on_the_way(place):
                        folders.append(entry.name)
        except OSError as error:
            raise SettingError(f"{here} cannot be read: {error.strerror or error}.") from None
        return sorted(folders), sorted(files)

    def _on_the_way(self, place: Parts) -> set[Path]:
        return {self.path(place[:depth]).resolve() for depth in range(len(place) + 1)}


class PicturesOnly:
    """A tree without the folders that have no picture anywhere below: what lies beside pictures names no classes."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[Parts, bool] = {}
        self.without: list[Parts] = []
        """The folders that were left out, as far as the tree was looked through."""

    def entries(self, place: Parts) -> tuple[list[str], list[str]]:
        """Names of the folders with pictures and of the files at `place`, sorted."""
        folders, files = self._tree.entries(place)
        return [folder for folder in folders if self._has_pictures((*place, folder))], files

    def _has_pictures(self, place: Parts) -> bool:
        if place not in self._known:
            folders, files = self._tree.entries(place) if len(place) <= MAX_DEPTH else ([], [])
            found = _pictures(files) or any(self._has_pictures((*place, folder)) for folder in folders)
            self._known[place] = found
            if not found:
                # Of folders in one another the outermost says enough.
                self.without = [inner for inner in self.without if inner[: len(place)] != place] + [place]
        return self._known[place]


@dataclass
class Found:
    """The pictures of one split: (place below the split's folder, number of the class, place below the top)."""

    pictures: list[tuple[str, int, Parts]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Part:
    """Where the pictures of a split lie.

    Attributes:
        tops: the folders that hold the folders of its classes.
        divided: whether they hold other splits too, so that a picture's name decides.
        note: a sentence about an unusual choice, may be empty.
    """

    tops: tuple[Parts, ...]
    divided: bool
    note: str = ""


def is_left_behind(name: str) -> bool:
    """Whether a file or folder is hidden, or left by a system or tool: nothing that a person put among pictures."""
    return name.startswith(".") or name.casefold() in _LEFT_BEHIND


def bare(name: str) -> str:
    """A name as classes are compared: case, underscores, hyphens and Unicode's normal forms do not matter."""
    plain = unicodedata.normalize("NFC", name).replace("_", " ").replace("-", " ").casefold()
    return " ".join(unicodedata.normalize("NFC", plain).split())


class ClassNames:
    """The classes of a task, found by the names of folders."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._exact = {unicodedata.normalize("NFC", name): number for number, name in enumerate(classes)}
        self._bare: dict[str, int] = {}
        for number, name in enumerate(classes):
            self._bare.setdefault(bare(name), number)

    def number(self, name: str) -> int | None:
        """The class of this name, None where there is none."""
        exact = self._exact.get(unicodedata.normalize("NFC", name))
        return self._bare.get(bare(name)) if exact is None else exact

    def number_at(self, place: Parts) -> int | None:
        """The class that a folder stands for: by its name, or with the names of the folders above it, as in
        `bakery/shop`. The longest name counts.
        """
        for start in range(len(place)):
            found = self.number(" ".join(place[start:]))
            if found is not None:
                return found
        return None


def part_of(tree: Tree, split: str, names: ClassNames) -> Part:
    """Where the pictures of `split` (``validation`` or ``test``) lie.

    With folders for both splits each has its own. One folder alone is divided by the names of its pictures, as an
    undivided folder is. With `train` and one other, that other is the test and `train` stands for validation.
    """
    top = _top(tree, names)
    folders = _split_folders(tree, top, names)
    there = {name: tuple(places) for name, places in folders.items()}
    if not there:
        return Part((top,), divided=True)
    if len(there) == 1:
        (only, places), *_ = there.items()
        note = "" if only != "train" else "there are only training pictures, which its expert may have seen"
        return Part(places, divided=True, note=note)
    if "validation" in there and "test" in there:
        return Part(there[split], divided=False)
    if split == "validation":
        return Part(
            there["train"], False, "there is no folder for validation beside test, so pictures of train are used"
        )
    if "test" in there:
        return Part(there["test"], divided=False)
    return Part(there["validation"], False, "there is no folder for test, so the pictures of validation are used")


def whole_of(tree: Tree, names: ClassNames) -> Part:
    """All pictures of a tree without folders for splits; of one with them those of a single split, so that none that
    was kept for testing is looked at: validation where there is one, else test, else train.
    """
    top = _top(tree, names)
    there = _split_folders(tree, top, names)
    if not there:
        return Part((top,), divided=False)
    chosen = next(split for split in ("validation", "test", "train") if split in there)
    kept = [split for split in there if split != chosen]
    note = f"the pictures of {chosen} are taken; those of {' and '.join(kept)} are not" if kept else ""
    return Part(tuple(there[chosen]), divided=False, note=note)


def classes_in(tree: Tree) -> tuple[str, ...]:
    """The classes that the folders of a tree name, sorted; underscores are spaces. Empty where there are no folders."""
    nothing = ClassNames(())
    top = _top(tree, nothing)
    tops = [place for places in _split_folders(tree, top, nothing).values() for place in places] or [top]
    known: dict[str, str] = {}
    for place in tops:
        for name in tree.entries(place)[0]:
            spoken = " ".join(unicodedata.normalize("NFC", name).replace("_", " ").split())
            known.setdefault(bare(name), spoken)
    return tuple(sorted(known.values()))


def find_pictures(tree: Tree, top: Parts, names: ClassNames, task: str) -> Found:
    """All pictures below `top` whose folders stand for classes.

    Raises SettingError for a folder with pictures that stands for no class.
    """
    found = Found()
    strangers: dict[Parts, int] = {}
    for place, number, files in _walk(tree, top, names):
        for file in files:
            name = "/".join((*place, file))
            if os.path.splitext(file)[1].casefold() not in SUFFIXES:  # noqa: PTH122  (a name, not a path)
                found.skipped.append(Skipped(name, "its name is not that of a picture"))
            elif number is not None:
                found.pictures.append((unicodedata.normalize("NFC", name), number, (*top, *place, file)))
            elif place:
                strangers[place] = strangers.get(place, 0) + 1
            else:
                found.skipped.append(Skipped(name, "it lies in no folder of a class"))
    if strangers:
        listed = ", ".join("/".join((*top, *place)) for place in list(strangers)[:3])
        more = f" and {len(strangers) - 3} more folders" if len(strangers) > 3 else ""
        raise SettingError(
            f"{listed}{more}: none of the classes of {task}. Known: {', '.join(names.classes[:12])}"
            f"{' ...' if len(names.classes) > 12 else ''}."
        )
    return found


def every_picture(tree: Tree) -> Found:
    """All pictures of a tree, whatever folders they lie in: the number of their class is 0 and says nothing."""
    found = Found()
    for place, _, files in _walk(tree, (), ClassNames(())):
        for file in files:
            name = "/".join((*place, file))
            if _pictures([file]):
                found.pictures.append((unicodedata.normalize("NFC", name), 0, (*place, file)))
            else:
                found.skipped.append(Skipped(name, "its name is not that of a picture"))
    return found


def _walk(tree: Tree, top: Parts, names: ClassNames) -> Iterator[tuple[Parts, int | None, list[str]]]:
    """(place below `top`, class or None, files) of every folder."""
    waiting: list[tuple[Parts, int | None]] = [((), None)]
    while waiting:
        place, number = waiting.pop(0)
        folders, files = tree.entries((*top, *place))
        yield place, number, files
        if len(place) < MAX_DEPTH:
            for folder in folders:
                inner = (*place, folder)
                own = names.number_at(inner) if number is None else names.number(" ".join(inner))
                waiting.append((inner, number if own is None else own))


def _top(tree: Tree, names: ClassNames) -> Parts:
    """The folder that holds the folders of splits or classes: the top, or the only folder in it that holds others."""
    place: Parts = ()
    for _ in range(MAX_DEPTH):
        folders, files = tree.entries(place)
        if len(folders) != 1 or _pictures(files) or folders[0].casefold() in SPLIT_OF:
            break
        if names.number(folders[0]) is not None:
            break
        inner, pictures = tree.entries((*place, folders[0]))
        if not inner or _pictures(pictures):
            break
        place = (*place, folders[0])
    return place


def _split_folders(tree: Tree, top: Parts, names: ClassNames) -> dict[str, list[Parts]]:
    """Split -> its folders, where `top` is laid out in splits.

    A class may be called `train`. So the folders count as splits only where no other folder beside them is a class,
    and where one of them is no class, or holds folders of classes.
    """
    folders, _ = tree.entries(top)
    splits = [name for name in folders if name.casefold() in SPLIT_OF]
    others = [name for name in folders if name not in splits]
    known = bool(names.classes)
    if not splits or (any(names.number(name) is not None for name in others) if known else others):
        return {}
    if not known or all(names.number(name) is not None for name in splits):
        inner = [folder for name in splits for folder in tree.entries((*top, name))[0]]
        if not inner or (known and all(names.number(name) is None for name in inner)):
            return {}
    found: dict[str, list[Parts]] = {}
    for name in splits:
        found.setdefault(SPLIT_OF[name.casefold()], []).append((*top, name))
    return found


def _pictures(files: Sequence[str]) -> bool:
    return any(os.path.splitext(name)[1].casefold() in SUFFIXES for name in files)  # noqa: PTH122
