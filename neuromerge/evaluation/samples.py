"""Labelled pictures of a task: bundled, fetched from the Hub, or in a folder of the user's.

Three splits: ``validation`` (for looking and for choosing coefficients), ``test`` (for reporting), and ``quick``,
a fixed class-balanced part of validation that is small enough to be evaluated while a slider moves. Splits never
share a picture, and which picture is in which never depends on chance.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from neuromerge.deployment import deployment
from neuromerge.errors import AssetError, NeuroMergeError, SettingError, quoted
from neuromerge.evaluation import hub, preprocessing
from neuromerge.evaluation.archives import ArchiveLimits, ZipTree
from neuromerge.evaluation.configuration import Preprocessing
from neuromerge.evaluation.families import Family, SampleSource, TaskSpec, get_family
from neuromerge.evaluation.folders import (
    SUFFIXES,
    ClassNames,
    FolderTree,
    Part,
    Parts,
    PicturesOnly,
    Skipped,
    classes_in,
    every_picture,
    find_pictures,
    part_of,
    whole_of,
)
from neuromerge.evaluation.picture_files import DAMAGE
from neuromerge.evaluation.pictures import read_picture
from neuromerge.threads import cores

Split = Literal["quick", "validation", "test"]
SPLITS: tuple[str, ...] = ("quick", "validation", "test")
QUICK = 16
MAX_FOLDER_IMAGES = 1_000
_NAMED = 3  # files and classes that a note names; more are counted
_MOST_SEEN = 50_000  # files of which is known whether they can be read
_AT_ONCE = 64  # files that are looked at together
_VALIDATION, _TEST = 0, 1


class EncodedImages(Sequence[np.ndarray]):
    """Pictures of any sizes that are decoded when they are looked at: files, or the bytes of files."""

    def __init__(self, encoded: Sequence[bytes | Path], names: Sequence[str] = ()) -> None:
        """Files, or bytes with what to call them in messages."""
        self._encoded, self._names = list(encoded), list(names)

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: Any) -> Any:
        """One picture as uint8 (H, W, 3); for a slice or a list of indices another `EncodedImages`."""
        if isinstance(index, slice):
            return EncodedImages(self._encoded[index], self._names[index])
        if isinstance(index, (list, np.ndarray)):
            chosen = [int(i) for i in index]
            return EncodedImages([self._encoded[i] for i in chosen], [self._names[i] for i in chosen if self._names])
        return np.asarray(self.picture(int(index)))

    @property
    def nbytes(self) -> int:
        """Bytes of the files that are held in memory."""
        return sum(len(content) for content in self._encoded if isinstance(content, bytes))

    def update(self, mark: hashlib._Hash) -> None:
        """Let the bytes of all files count in a hash. Raises SettingError when one cannot be read."""
        for content in self._encoded:
            try:
                whole = content if isinstance(content, bytes) else content.read_bytes()
            except OSError as error:
                raise SettingError(f"{error.filename} cannot be opened: {error.strerror or error}") from None
            mark.update(f"{len(whole)}|".encode())
            mark.update(whole)

    def picture(self, index: int) -> Image.Image:
        """One picture as upright RGB in its own size. Raises SettingError or LimitError when it cannot be decoded."""
        return read_picture(self._encoded[index], self._names[index] if self._names else "")


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Labelled pictures of one task.

    Attributes:
        images: uint8 (N, H, W, 3), or `EncodedImages` where sizes vary; `images[i]` is uint8 (H, W, 3) in both.
        labels: int64 (N,), indices into `classes`.
        classes: class names for people, in the order of the labels.
        ids: what identifies each picture in its source.
        task, split: what they are for.
        key: identifies the set for caches; the same key is the same pictures.
        source: where they come from, with the revision where there is one.
        revision: the commit of the Hub that they are of, empty where they are of none.
        available: how many pictures of the split there were to take these from, 0 where these are all.
        skipped: files that were left out because they are no pictures, or unreadable ones.
        empty: classes of the task without a picture in this split.
        remark: a sentence about an unusual choice of pictures, may be empty.
        kept_back: pictures of the same folder that are for the other split, where a picture's name decides.
    """

    images: np.ndarray | EncodedImages
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    task: str
    split: str
    key: str
    source: str = ""
    revision: str = ""
    available: int = 0
    skipped: tuple[Skipped, ...] = ()
    empty: tuple[str, ...] = ()
    remark: str = ""
    kept_back: int = 0

    @property
    def division(self) -> str:
        """A sentence about a folder that was divided by the names of its pictures; empty where none was."""
        if not self.kept_back:
            return ""
        other = "test" if self.split == "validation" else "validation"
        return (
            f"{self.task}: {self.kept_back:,} more pictures of the folder are kept for {other}, chosen by their names. "
            "Folders called validation and test would divide them as you like."
        )

    @property
    def is_partial(self) -> bool:
        """Whether most classes that so many pictures could show are not among them: they say little of the others."""
        return 2 * (len(self.classes) - len(self.empty)) < min(len(self.classes), len(self))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for people about what was not taken, and why."""
        notes = [self.remark] if self.remark else []
        if self.available > len(self):
            notes.append(f"{len(self):,} of {self.available:,} pictures are taken, spread evenly")
        if self.skipped:
            listed = "; ".join(f"{left.name} ({left.reason})" for left in self.skipped[:_NAMED])
            more = f"; and {len(self.skipped) - _NAMED:,} more" if len(self.skipped) > _NAMED else ""
            count = "1 file is" if len(self.skipped) == 1 else f"{len(self.skipped):,} files are"
            notes.append(f"{count} left out: {listed}{more}")
        if self.empty:
            more = f" and {len(self.empty) - _NAMED:,} more" if len(self.empty) > _NAMED else ""
            seen = f"{len(self.classes) - len(self.empty):,} of {len(self.classes):,} classes are seen"
            notes.append(f"{seen}: there are no pictures of {', '.join(self.empty[:_NAMED])}{more}")
        return tuple(f"{self.task}: {note}." for note in notes)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def content(self) -> str:
        """A hash of all pictures in order, whatever they are called: the same is the same pictures, here and elsewhere.

        Raises SettingError when a file cannot be read.
        """
        mark = hashlib.sha256()
        if isinstance(self.images, EncodedImages):
            self.images.update(mark)
        else:
            mark.update(repr(self.images.shape).encode())
            mark.update(np.ascontiguousarray(self.images).data)
        return mark.hexdigest()

    def pictures(self) -> Iterator[Image.Image]:
        """The pictures as PIL images, in order."""
        for index in range(len(self)):
            if isinstance(self.images, EncodedImages):
                yield self.images.picture(index)
            else:
                yield Image.fromarray(self.images[index])

    def select(self, indices: Sequence[int] | np.ndarray, split: str | None = None) -> SampleSet:
        """The pictures at `indices`, as another set."""
        chosen = np.asarray(indices, dtype=np.int64)
        mark = hashlib.sha256(chosen.tobytes()).hexdigest()[:12]
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            ids=tuple(self.ids[i] for i in chosen),
            split=split or self.split,
            key=f"{self.key}[{mark}]",
            available=0,
            kept_back=0,
        )


def load_samples(family: Family | str, task: str, split: Split | str = "quick") -> SampleSet:
    """The pictures of one split of one task.

    Those on the Hub are fetched once (a fixed few hundred) and kept in the cache folder.

    Raises:
        SettingError: unknown family, task or split; a folder without pictures.
        AssetError: bundled pictures are missing or damaged.
        SourceUnavailableError: the Hub cannot be reached; says the command that fetches them.
    """
    if split not in SPLITS:
        raise SettingError(f"There is no split {quoted(split)}. Known: {', '.join(SPLITS)}.")
    chosen = get_family(family) if isinstance(family, str) else family
    spec = chosen.task(task)
    if split == "quick":
        return _quick(chosen, spec)
    if spec.samples.kind == "bundled":
        return _bundled(chosen, spec, split)
    if spec.samples.kind == "folder":
        if spec.samples.path is None:
            raise AssetError(f"The task {task} names no folder of pictures.")
        return folder_samples(spec.samples.path, spec.shown_classes, task, split)
    return _from_hub(chosen, spec, split)


def folder_samples(
    folder: Path | str,
    classes: Sequence[str],
    task: str,
    split: Split | str = "test",
    limits: ArchiveLimits | None = None,
) -> SampleSet:
    """The pictures in a folder, or in a zip archive of one, with one subfolder a class.

    Subfolders are matched with `classes` by name (case, underscores and Unicode's normal forms do not matter), at
    any depth. Where the folder holds `validation` and `test` (or `val`, `valid`, `train` ...), those are the splits
    (see `folders.part_of`); otherwise a third of each class, chosen by a hash of the file's name, is validation. At
    most `MAX_FOLDER_IMAGES` pictures a split are taken, spread evenly over the classes. What cannot be read is left
    out and named in `SampleSet.skipped`.

    Raises SettingError when there is no such folder, no readable picture, or a subfolder of an unknown class;
    LimitError for an archive that is too large.
    """
    root = Path(folder).expanduser()
    if split == "quick":
        whole = folder_samples(root, classes, task, "validation", limits)
        return whole.select(quick_indices(whole.labels, whole.ids), "quick")
    tree = picture_tree(root, limits)
    return _samples_in(root, tree, part_of(tree, split, ClassNames(classes)), classes, task, split)


def own_samples(folder: Path | str, task: str, limits: ArchiveLimits | None = None) -> SampleSet:
    """The pictures in a folder or a zip archive of one, of the classes that its subfolders name.

    All of them, at most `MAX_FOLDER_IMAGES`; where there are folders for splits those of one (see `whole_of`). `split`
    is ``whole``. Raises SettingError where fewer than two classes are named, and as `folder_samples`.
    """
    root = Path(folder).expanduser()
    tree = picture_tree(root, limits)
    walked = PicturesOnly(tree)
    classes = classes_in(walked)
    if len(classes) < 2:
        found = f"only {quoted(classes[0])} is there" if classes else "there is no folder with pictures in it"
        raise SettingError(
            f"{root.name} needs one folder of pictures for each class, two classes at least: {found}. Folders are "
            "called as the classes are."
        )
    part = whole_of(walked, ClassNames(classes))
    samples = _samples_in(root, tree, part, classes, task, "whole", root.name, walked)
    bare = [Skipped("/".join(place), "there are no pictures in it") for place in walked.without]
    return replace(samples, skipped=(*samples.skipped, *bare))


def unlabelled_samples(folder: Path | str, limits: ArchiveLimits | None = None) -> SampleSet:
    """All pictures in a folder or a zip archive of one, whatever its folders are called: nobody says what they show.

    At most `MAX_FOLDER_IMAGES`. `split` is ``unlabelled``; `labels` are 0 and `classes` is one without a name. Raises
    SettingError and LimitError as `folder_samples`.
    """
    root = Path(folder).expanduser()
    tree = picture_tree(root, limits)
    found = every_picture(tree)
    if not found.pictures:
        raise SettingError(f"{root.name} holds no pictures ({', '.join(sorted(SUFFIXES))}).")
    return _sample_set(root, tree, found.pictures, found.skipped, ("",), root.name, "unlabelled", root.name)


def _samples_in(
    root: Path,
    tree: FolderTree | ZipTree,
    part: Part,
    classes: Sequence[str],
    task: str,
    split: str,
    called: str = "",
    walked: PicturesOnly | None = None,
) -> SampleSet:
    """The readable pictures of a part of a tree; a divided one gives each picture to validation or test by its name.

    `called` is what messages call the top, its path where it is empty; `walked` the part of the tree that counts.
    """
    names, called = ClassNames(classes), called or str(root)
    found = [find_pictures(walked or tree, top, names, task) for top in part.tops]
    skipped = [left for each in found for left in each.skipped]
    pictures = [picture for each in found for picture in each.pictures]
    total = len(pictures)
    if part.divided:
        pictures = [picture for picture in pictures if (_hash(picture[0]) % 3 == 0) == (split == "validation")]
    if not pictures:
        wanted = "" if split == "whole" else f" for {split}"
        raise SettingError(
            f"{called} holds no pictures{wanted} ({', '.join(sorted(SUFFIXES))} in one subfolder a class)."
            f"{_first_of(skipped)}"
        )
    samples = _sample_set(root, tree, pictures, skipped, classes, task, split, called)
    return replace(samples, remark=part.note, kept_back=total - len(pictures))


def _sample_set(
    root: Path,
    tree: FolderTree | ZipTree,
    pictures: list[tuple[str, int, Parts]],
    skipped: Sequence[Skipped],
    classes: Sequence[str],
    task: str,
    split: str,
    called: str,
) -> SampleSet:
    """Those of the pictures that can be read, classes in turn."""
    labels = np.array([number for _, number, _ in pictures])
    order = _round_robin(labels, [name for name, _, _ in pictures])
    pictures = [pictures[i] for i in order]
    files, unreadable = _readable(
        [name for name, _, _ in pictures], lambda i: _file_at(tree, pictures[i][2]), MAX_FOLDER_IMAGES
    )
    if not files:
        raise SettingError(f"None of the {len(pictures):,} pictures in {called} can be read.{_first_of(unreadable)}")
    mark = hashlib.sha256("".join(file.mark for file in files.values()).encode("utf-8", "surrogateescape"))
    return SampleSet(
        images=EncodedImages(
            [file.content for file in files.values()], ["/".join((called, *pictures[i][2])) for i in files]
        ),
        labels=np.array([pictures[i][1] for i in files], np.int64),
        classes=tuple(classes),
        ids=tuple(pictures[i][0] for i in files),
        task=task,
        split=split,
        key=f"folder:{root}:{split}:{mark.hexdigest()[:12]}",
        source=str(root),
        available=len(pictures) - len(unreadable),
        skipped=(*unreadable, *skipped),
        empty=tuple(name for number, name in enumerate(classes) if number not in {pictures[i][1] for i in files}),
    )


def picture_classes(folder: Path | str, limits: ArchiveLimits | None = None) -> tuple[str, ...]:
    """The classes that a folder of pictures, or a zip archive of one, names by its subfolders, sorted.

    Raises SettingError or LimitError as `folder_samples`.
    """
    return classes_in(picture_tree(Path(folder).expanduser(), limits))


def picture_tree(path: Path, limits: ArchiveLimits | None = None) -> FolderTree | ZipTree:
    """The folders and files in a folder or a zip archive. Raises SettingError where there is neither."""
    if path.is_dir():
        return FolderTree(path)
    if path.is_file():
        return ZipTree(path, limits)
    raise SettingError(f"There is no folder {path}. Put the pictures there, one subfolder a class.")


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a picture, or its bytes; `mark` is another whenever its content is."""

    content: bytes | Path
    mark: str


def _readable(
    names: Sequence[str], open_file: Callable[[int], _File], most: int
) -> tuple[dict[int, _File], tuple[Skipped, ...]]:
    """The first `most` pictures that can be decoded, by their place among `names`, and those that cannot."""
    taken: dict[int, _File] = {}
    unreadable: list[Skipped] = []

    def check(place: int) -> _File | Skipped:
        try:
            file = open_file(place)
            _require_readable(file, names[place])
        except NeuroMergeError as error:
            return Skipped(names[place], str(error).removeprefix(names[place]).strip(" :."))
        return file

    with ThreadPoolExecutor(cores(), thread_name_prefix="neuromerge-pictures") as workers:
        for start in range(0, len(names), _AT_ONCE):
            if len(taken) == most:
                break
            places = range(start, min(start + _AT_ONCE, len(names)))
            for place, found in zip(places, workers.map(check, places), strict=True):
                if isinstance(found, Skipped):
                    unreadable.append(found)
                elif len(taken) < most:
                    taken[place] = found
    return taken, tuple(unreadable)


def _file_at(tree: FolderTree | ZipTree, place: Parts) -> _File:
    """A file of a folder, or its bytes in an archive. Raises SettingError or LimitError."""
    if isinstance(tree, ZipTree):
        content = tree.read(place)
        return _File(content, hashlib.sha256(content).hexdigest())
    path = tree.path(place)
    try:
        now = path.stat()
    except OSError as error:
        raise SettingError(f"it cannot be opened: {error.strerror or error}") from None
    return _File(path, f"{path}|{now.st_mtime_ns}|{now.st_size}")


def _require_readable(file: _File, name: str) -> None:
    """Raise SettingError unless the picture can be decoded. What was seen once is remembered."""
    with _seen_lock:
        reason = _seen.get(file.mark)
    if reason is None:
        try:
            read_picture(file.content, name)
            reason = ""
        except NeuroMergeError as error:
            reason = str(error)
        with _seen_lock:
            _seen[file.mark] = reason
            while len(_seen) > _MOST_SEEN:
                _seen.popitem(last=False)
    if reason:
        raise SettingError(reason)


_seen: OrderedDict[str, str] = OrderedDict()
_seen_lock = threading.Lock()


def _first_of(skipped: Sequence[Skipped]) -> str:
    """A sentence about files that were left out, empty where there are none."""
    return f" {skipped[0].name}: {skipped[0].reason}." if skipped else ""


def quick_indices(labels: np.ndarray, ids: Sequence[str], least: int = QUICK) -> np.ndarray:
    """Indices of a fixed class-balanced subset of at least `least` pictures (fewer only where there are fewer).

    Every class gives the same number: the smallest that makes `least` together. Where there are `least` classes
    and more, as many classes give one each, evenly spread over the list of classes. Which picture stands for a
    class depends on its id alone.
    """
    present = np.unique(labels)
    if len(present) > least:
        present = present[np.linspace(0, len(present) - 1, least).round().astype(int)]
    order = [i for i in _round_robin(labels, ids) if labels[i] in set(present.tolist())]
    each = -(-least // max(len(present), 1))
    taken: dict[int, int] = {}
    chosen: list[int] = []
    spare: list[int] = []
    for index in order:
        label = int(labels[index])
        if taken.get(label, 0) < each:
            taken[label] = taken.get(label, 0) + 1
            chosen.append(index)
        else:
            spare.append(index)
    chosen += spare[: max(least - len(chosen), 0)]
    return np.array(sorted(chosen), dtype=np.int64)


def growing_order(labels: np.ndarray, ids: Sequence[str], first: np.ndarray) -> np.ndarray:
    """All indices (N,) in a fixed order of which every beginning is a fair sample: `first`, then classes in turn.

    Classes take their turns in an order that has nothing to do with their names, so that a beginning shorter than the
    list of classes is no part of the alphabet.
    """
    rest = np.setdiff1d(np.arange(len(labels)), first)
    mixed = {int(label): _hash(f"class {label}") for label in np.unique(labels)}
    turns: dict[int, int] = {}
    places: list[tuple[int, int, int]] = []
    for index in sorted(rest.tolist(), key=lambda i: (_hash(ids[i]), i)):
        label = int(labels[index])
        turns[label] = turns.get(label, 0) + 1
        places.append((turns[label], mixed[label], index))
    return np.array([*first.tolist(), *(index for *_, index in sorted(places))], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Pixels:
    """Pictures at a model's size, uint8 (N, size, size, 3); `there` (N,) says which are made."""

    pictures: torch.Tensor
    there: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of what is made; the rest takes no memory yet."""
        return int(self.there.sum()) * math.prod(self.pictures.shape[1:])


def prepared(samples: SampleSet, how: Preprocessing, rows: np.ndarray | None = None) -> torch.Tensor:
    """The pictures (or those at `rows`) at the model's size, uint8 (N, size, size, 3).

    Kept in a cache bounded by its bytes (``$NEUROMERGE_PIXEL_CACHE_MB``, 400 by default): read only. Pictures that
    nobody asks for are not decoded.
    """
    key = (samples.key, how.size, how.interpolation, how.resize_mode, how.edge, how.crop_offset, how.fill)
    with _pixels_lock:
        found = _pixels.get(key)
        if found is None:
            empty = torch.empty((len(samples), how.size, how.size, 3), dtype=torch.uint8)
            found = _pixels[key] = _Pixels(empty, np.zeros(len(samples), dtype=bool))
        _pixels.move_to_end(key)
    wanted = np.arange(len(samples)) if rows is None else rows
    missing = wanted[~found.there[wanted]]
    if len(missing):
        chosen = samples.images[missing]
        # One decoded picture at a time.
        pictures = chosen if isinstance(chosen, np.ndarray) else (chosen.picture(i) for i in range(len(chosen)))
        found.pictures[torch.from_numpy(missing)] = preprocessing.crop(pictures, how)
        found.there[missing] = True
    most = deployment().pixel_cache_mb * 1_000_000
    with _pixels_lock:
        while len(_pixels) > 1 and sum(pixels.nbytes for pixels in _pixels.values()) > most:
            _pixels.popitem(last=False)
    return found.pictures if rows is None else found.pictures[torch.from_numpy(rows)]


_pixels: OrderedDict[tuple[Any, ...], _Pixels] = OrderedDict()
_pixels_lock = threading.Lock()


def _quick(family: Family, spec: TaskSpec) -> SampleSet:
    whole = load_samples(family, spec.name, "validation")
    return whole.select(quick_indices(whole.labels, whole.ids), "quick")


def _bundled(family: Family, spec: TaskSpec, split: str) -> SampleSet:
    if family.folder is None:
        raise AssetError(f"The family {family.name} has no folder of bundled pictures.")
    path = spec.samples.path or family.folder / "samples" / f"{spec.name}.npz"
    if not path.is_file():
        raise AssetError(f"The pictures of {spec.name} are missing: there is no {path}. Restore the folder assets/.")
    images, labels, split_numbers, ids = _read_packed(path, path.stat().st_mtime_ns)
    if labels.size and int(labels.max()) >= len(spec.classes):
        raise AssetError(
            f"{path} has labels up to {int(labels.max())}, but {spec.name} has {len(spec.classes)} classes."
        )
    rows = np.flatnonzero(split_numbers == (_VALIDATION if split == "validation" else _TEST))
    return SampleSet(
        images=images[rows],
        labels=labels[rows],
        classes=spec.shown_classes,
        ids=tuple(str(ids[row]) for row in rows),
        task=spec.name,
        split=split,
        key=f"bundled:{path}:{path.stat().st_mtime_ns}:{split}",
        source=f"bundled:{family.name}/{spec.name}",
    )


@lru_cache(maxsize=32)
def _read_packed(path: Path, stamp: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arrays of a packed task; `stamp` only renews the cache when the file changes."""
    try:
        with np.load(path, allow_pickle=False) as packed:
            images, labels, splits, ids = (packed[name] for name in ("images", "labels", "split", "ids"))
    except DAMAGE as error:
        raise AssetError(f"{path} is damaged: {error}. Restore it from the repository.") from None
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(labels):
        raise AssetError(f"{path} does not hold pictures as uint8 (N, H, W, 3). Restore it from the repository.")
    for array in (images, labels, splits, ids):
        array.setflags(write=False)
    return images, labels.astype(np.int64), splits, ids


def _from_hub(family: Family, spec: TaskSpec, split: str) -> SampleSet:
    packed = hub.load_or_fetch(spec.samples, family.fetch_command)
    rows = np.flatnonzero(packed.split == (_VALIDATION if split == "validation" else _TEST))
    bare = [Skipped(packed.ids[row], "it has no label") for row in rows if packed.labels[row] < 0]
    rows = rows[packed.labels[rows] >= 0]
    labels = packed.labels[rows]
    if bare and not len(rows):
        raise SettingError(f"The pictures of {spec.samples.dataset} have no labels in its {spec.samples.split} set.")
    if labels.size and int(labels.max()) >= len(spec.classes):
        raise SettingError(
            f"{spec.samples.dataset} has labels up to {int(labels.max())}, but {spec.name} has only "
            f"{len(spec.classes)} classes."
        )
    names = [packed.ids[row] for row in rows]
    revision = f"{spec.samples.dataset}:{spec.samples.config}:{packed.revision}"
    files, unreadable = _readable(
        names, lambda i: _File(packed.encoded[rows[i]], f"hub:{revision}:{split}:{names[i]}"), len(names)
    )
    kept = list(files)
    return SampleSet(
        images=EncodedImages([packed.encoded[rows[i]] for i in kept], [f"{spec.name}/{names[i]}" for i in kept]),
        labels=labels[kept],
        classes=spec.shown_classes,
        ids=tuple(names[i] for i in kept),
        task=spec.name,
        split=split,
        key=f"hub:{revision}:{split}",
        source=f"{spec.samples.dataset}@{packed.revision or 'unknown'}",
        revision=packed.revision,
        skipped=(*bare, *unreadable),
        empty=tuple(name for number, name in enumerate(spec.shown_classes) if number not in set(labels[kept].tolist())),
        remark=f"{len(kept)} pictures are taken, spread evenly over the {spec.samples.split} set of "
        f"{spec.samples.dataset}{_other_commit(spec.samples, packed.revision)}",
    )


def _other_commit(source: SampleSource, read: str) -> str:
    """What to say where another commit than the pinned one was read; empty where none is pinned, or it was read."""
    if source.revision in ("", read):
        return ""
    return (
        f". They are of its commit {read[:7] or 'unknown'}: the pinned {source.revision[:7]} is gone from the Hub, or "
        "has no parquet files. Pin another as samples.revision in the task's file"
    )


def _round_robin(labels: np.ndarray, ids: Sequence[str]) -> list[int]:
    """All indices, one of each class in turn; within a class by a hash of the id."""
    by_class: Mapping[int, list[int]] = {int(label): [] for label in np.unique(labels)}
    for index in sorted(range(len(labels)), key=lambda i: (_hash(ids[i]), i)):
        by_class[int(labels[index])].append(index)
    turns = max((len(group) for group in by_class.values()), default=0)
    return [group[turn] for turn in range(turns) for group in by_class.values() if turn < len(group)]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "big")
