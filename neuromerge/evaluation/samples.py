"""Labelled pictures of a task: bundled, fetched from the Hub, or in a folder of the user's.

Three splits: ``validation`` (for looking and for choosing coefficients), ``test`` (for reporting), and ``quick``,
a fixed class-balanced part of validation that is small enough to be evaluated while a slider moves. Splits never
share a picture, and which picture is in which never depends on chance.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from neuromerge.deployment import deployment
from neuromerge.errors import AssetError, SettingError
from neuromerge.evaluation import hub, preprocessing
from neuromerge.evaluation.configuration import Preprocessing
from neuromerge.evaluation.families import Family, TaskSpec, get_family
from neuromerge.evaluation.hub import DAMAGE

Split = Literal["quick", "validation", "test"]
SPLITS: tuple[str, ...] = ("quick", "validation", "test")
QUICK = 16
MAX_FOLDER_IMAGES = 1_000
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_PIXEL_CACHE_MB = 400
_VALIDATION, _TEST = 0, 1


class EncodedImages(Sequence[np.ndarray]):
    """Pictures of any sizes that are decoded when they are looked at: files, or the bytes of files."""

    def __init__(self, encoded: Sequence[bytes | Path]) -> None:
        self._encoded = list(encoded)

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: Any) -> Any:
        """One picture as uint8 (H, W, 3); for a slice or a list of indices another `EncodedImages`."""
        if isinstance(index, slice):
            return EncodedImages(self._encoded[index])
        if isinstance(index, (list, np.ndarray)):
            return EncodedImages([self._encoded[int(i)] for i in index])
        return np.asarray(self.picture(int(index)).convert("RGB"))

    def picture(self, index: int) -> Image.Image:
        """One picture in its own mode and size. Raises SettingError when it cannot be decoded."""
        encoded = self._encoded[index]
        try:
            image = Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded))
            if image.width * image.height > preprocessing.MAX_PIXELS:
                raise SettingError(f"{_told(encoded)} has more than {preprocessing.MAX_PIXELS:,} pixels.")
            image.load()
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise SettingError(f"{_told(encoded)} is not a readable picture: {error}") from None
        return image


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Labelled pictures of one task.

    Attributes:
        images: uint8 (N, H, W, 3), or `EncodedImages` where sizes vary; `images[i]` is uint8 (H, W, 3) in both.
        labels: int64 (N,), indices into `classes`.
        classes: class names.
        ids: what identifies each picture in its source.
        task, split: what they are for.
        key: identifies the set for caches; the same key is the same pictures.
        source: where they come from, with the revision where there is one.
    """

    images: np.ndarray | EncodedImages
    labels: np.ndarray
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    task: str
    split: str
    key: str
    source: str = ""

    def __len__(self) -> int:
        return len(self.labels)

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
        raise SettingError(f"There is no split {split!r}. Known: {', '.join(SPLITS)}.")
    chosen = get_family(family) if isinstance(family, str) else family
    spec = chosen.task(task)
    if split == "quick":
        return _quick(chosen, spec)
    if spec.samples.kind == "bundled":
        return _bundled(chosen, spec, split)
    if spec.samples.kind == "folder":
        if spec.samples.path is None:
            raise AssetError(f"The task {task} names no folder of pictures.")
        return folder_samples(spec.samples.path, spec.classes, task, split)
    return _from_hub(chosen, spec, split)


def folder_samples(folder: Path | str, classes: Sequence[str], task: str, split: Split | str = "test") -> SampleSet:
    """The pictures in a folder with one subfolder a class.

    Subfolders are matched with `classes` by name (case and underscores do not matter). Where the folder holds
    `validation` and `test`, those are the splits; otherwise a third of each class, chosen by a hash of the file's
    name, is validation. At most `MAX_FOLDER_IMAGES` pictures a split are taken, spread evenly over the classes.

    Raises SettingError when there is no such folder, no picture, or a subfolder of an unknown class.
    """
    root = Path(folder)
    if split == "quick":
        whole = folder_samples(root, classes, task, "validation")
        return whole.select(quick_indices(whole.labels, whole.ids), "quick")
    parted = (root / "validation").is_dir() and (root / "test").is_dir()
    top = root / split if parted else root
    if not top.is_dir():
        raise SettingError(f"There is no folder {top}. Put the pictures there, one subfolder a class.")
    numbers = {_bare(name): number for number, name in enumerate(classes)}
    files: list[tuple[str, int, Path]] = []
    for subfolder in sorted(path for path in top.iterdir() if path.is_dir()):
        if _bare(subfolder.name) not in numbers:
            raise SettingError(
                f"{subfolder} is none of the classes of {task}. Known: {', '.join(classes[:12])}"
                f"{' ...' if len(classes) > 12 else ''}."
            )
        number = numbers[_bare(subfolder.name)]
        for path in subfolder.iterdir():
            if path.suffix.lower() not in SUFFIXES:
                continue
            name = f"{subfolder.name}/{path.name}"
            if parted or (_hash(name) % 3 == 0) == (split == "validation"):
                files.append((name, number, path))
    if not files:
        raise SettingError(
            f"{top} holds no pictures for {split} ({', '.join(sorted(SUFFIXES))} in one subfolder a class)."
        )
    labels = np.array([number for _, number, _ in files])
    order = _round_robin(labels, [name for name, _, _ in files])[:MAX_FOLDER_IMAGES]
    stamp = hashlib.sha256("".join(f"{p}{p.stat().st_mtime_ns}" for _, _, p in files).encode()).hexdigest()[:12]
    return SampleSet(
        images=EncodedImages([files[i][2] for i in order]),
        labels=labels[order].astype(np.int64),
        classes=tuple(classes),
        ids=tuple(files[i][0] for i in order),
        task=task,
        split=split,
        key=f"folder:{root}:{split}:{stamp}",
        source=str(root),
    )


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


def prepared(samples: SampleSet, how: Preprocessing) -> torch.Tensor:
    """The pictures at the model's size, uint8 (N, size, size, 3). Kept in a cache bounded by its bytes: read only.

    The bound is ``$NEUROMERGE_PIXEL_CACHE_MB`` (400 by default).
    """
    key = (samples.key, how.size, how.interpolation, how.resize_mode, how.fill)
    with _pixels_lock:
        if key in _pixels:
            _pixels.move_to_end(key)
            return _pixels[key]
    images = samples.images if isinstance(samples.images, np.ndarray) else list(samples.pictures())
    cropped = preprocessing.crop(images, how)
    most = deployment().pixel_cache_mb * 1_000_000
    with _pixels_lock:
        _pixels[key] = cropped
        while len(_pixels) > 1 and sum(tensor.numel() for tensor in _pixels.values()) > most:
            _pixels.popitem(last=False)
    return cropped


_pixels: OrderedDict[tuple[Any, ...], torch.Tensor] = OrderedDict()
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
        classes=spec.classes,
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
    labels = packed.labels[rows]
    if labels.size and int(labels.max()) >= len(spec.classes):
        raise SettingError(
            f"{spec.samples.dataset} has labels up to {int(labels.max())}, but {spec.name} has only "
            f"{len(spec.classes)} classes."
        )
    return SampleSet(
        images=EncodedImages([packed.encoded[row] for row in rows]),
        labels=labels,
        classes=spec.classes,
        ids=tuple(packed.ids[row] for row in rows),
        task=spec.name,
        split=split,
        key=f"hub:{spec.samples.dataset}:{spec.samples.config}:{packed.revision}:{split}",
        source=f"{spec.samples.dataset}@{packed.revision or 'unknown'}",
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


def _bare(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").lower().split())


def _told(encoded: bytes | Path) -> str:
    return str(encoded) if isinstance(encoded, Path) else "A fetched file"
