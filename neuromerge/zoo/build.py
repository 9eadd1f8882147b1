"""Build the data set: read the sources, deal pictures to tasks and splits, draw them, reject look-alikes.

The result lies in the cache folder, outside the repository: `pictures.npy` (uint8 (N, 64, 64, 4)) and
`pictures.json` (one record per picture). It is deterministic: no chance enters, and splits follow from
digests of names.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from neuromerge.errors import AssetError
from neuromerge.zoo import render, sources, splits, tasks
from neuromerge.zoo.sources import Drawing

log = logging.getLogger(__name__)

FORMAT = 4
"""Raised whenever a change here makes an older cache unusable."""

TRAIN_EMOJI = ("noto", "noto-v1", "twemoji", "fluent-emoji-flat", "fluent-emoji")
TRAIN_ICONS = ("game-icons", "meteocons", "fluent-color", "streamline-ultimate-color", "streamline-freehand-color")
FLAG_SETS = ("twemoji", "flag", "flagpack")
_TASK_OF_GROUP = {
    "Animals & Nature": "animals", "Food & Drink": "food", "Travel & Places": "places", "Smileys & Emotion": "faces",
    "Animals": "animals", "Foods": "food", "Emoji": "faces", "Travel": "places", "Build": "places",
    "Weather": "places", "animals": "animals", "plants": "animals", "food": "food", "transportation": "places",
    "buildings": "places", "geography": "places", "signs_and_symbols/weather": "places",
    "signs_and_symbols/clocks": "places",
}  # fmt: skip
_STYLE_GROUPS = ("Objects", "Activities", "Symbols", "People & Body")
_TRADEMARK = re.compile(
    r"logo|brand|pokemon|mario|blackberry|ipod|iphone|famous|google|facebook|twitter|apple-|android|pacman|sonic|zelda"
)
_ANY_CLOCK = re.compile(r"o ?clock|thirty")
_HELD_OUT_AUTHORS = 0.45
_HELD_OUT_SUBJECTS = 0.11
_MNIST_VALIDATION, _MNIST_TEST = 20, 50  # pictures per digit: contiguous blocks at the end of each file
_FONT_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass
class Picture:
    """What is known about one stored picture; `label` is an index into its task's classes, -1 for none."""

    id: str
    source: str
    digest: str
    names: list[str]
    kind: str
    task: str = ""
    label: int = -1
    split: str = "train"
    ink: bool = False
    extra: dict[str, str] = field(default_factory=dict)


def _group_task(group: str) -> str:
    for depth in range(len(group.split("/")), 0, -1):
        found = _TASK_OF_GROUP.get("/".join(group.split("/")[:depth]))
        if found:
            return found
    return ""


def _classify(task: str, names: Iterable[str], table: dict[str, tasks.Task]) -> int:
    for name in names:
        if task == "faces":
            squeezed = sources.squeeze(name)
            # "dizzy" alone is the emoji of whirling stars, not of a dizzy face.
            longer = squeezed + "face" if squeezed != "dizzy" else ""
            label = tasks.FACE_CLASS.get(squeezed) or tasks.FACE_CLASS.get(longer)
            if label:
                return table["faces"].classes.index(label)
        elif not _ANY_CLOCK.search(name):
            found = table[task].classify(name)
            if found >= 0:
                return found
    return -1


def _held_out_author(author: str) -> str:
    if not author:
        return "train"
    position = splits.share(author, "author")
    if position >= _HELD_OUT_AUTHORS:
        return "train"
    return "test" if position < _HELD_OUT_AUTHORS * 0.67 else "validation"


def _held_out_subject(subject: str) -> str:
    position = splits.share(subject, "subject")
    if position >= _HELD_OUT_SUBJECTS:
        return "train"
    return "test" if position < _HELD_OUT_SUBJECTS * 0.67 else "validation"


def _vendor_split(source: str) -> str:
    if source in tasks.TEST_VENDORS:
        return "test"
    return "validation" if source in tasks.VALIDATION_VENDORS else "train"


def read_emoji(modules: Path, source: str, table: dict[str, tasks.Task]) -> Iterator[tuple[Picture, Drawing]]:
    """Pictures of one emoji set: tasks by Unicode group, styles from the groups that no other task uses."""
    known = sources.emoji_names(modules)
    split = _vendor_split(source)
    seen: set[tuple[str, str]] = set()
    for drawing in sources.icon_drawings(modules, source):
        group, names = drawing.group, []
        for raw in drawing.names:
            stem = re.sub(r"-\d$", "", raw)
            squeezed = sources.squeeze(stem)
            for candidate in (squeezed, squeezed + "face", squeezed.removesuffix("face")):
                if candidate in known:
                    group = known[candidate][0]
                    names.append(known[candidate][1])
                    break
            names.append(tasks.ALIASES.get(raw, sources.words(stem)))
            if source != "icon-park":
                names.append(squeezed)
        names = [n for n in dict.fromkeys(names) if n]
        if group == "Flags" or drawing.key.startswith("cricket-"):  # the game, not the insect
            continue
        if any(name.startswith(("flag", "letter ", "digit ", "keycap", "regional")) for name in names):
            continue
        task = _group_task(group)
        if not task and split != "train" and source == "fxemoji":
            task = next((t for t in ("faces", "animals", "food", "places") if _classify(t, names, table) >= 0), "")
            if task in ("animals", "food", "places") and drawing.key not in tasks.ALIASES:
                task = ""
        label = _classify(task, names, table) if task else -1
        if split != "train":
            if label >= 0 and (task, names[0]) not in seen:
                seen.add((task, names[0]))
                yield _picture(drawing, names, task, label, split, "emoji"), drawing
            continue
        subject_names = [n for n in names if " " in n or n.isalpha()][:2]
        picture = _picture(drawing, subject_names or names[:1], task if label >= 0 else "", label, "train", "emoji")
        picture.extra["style"] = source
        if group in _STYLE_GROUPS:
            picture.split = _held_out_subject(names[0])
            picture.task, picture.label = "styles", list(tasks.STYLE_NAMES).index(source)
            if group == "People & Body" and picture.split != "train":
                continue
            if group == "People & Body":
                picture.task, picture.label = "", -1
        yield picture, drawing


def read_flags(modules: Path, table: dict[str, tasks.Task]) -> Iterator[tuple[Picture, Drawing]]:
    """Flags by country: square-cut sets train, `cif` (square-cut too) validates, `emojione` (round) tests."""
    classes = table["flags"].classes
    for source in (*FLAG_SETS, "cif", "emojione"):
        for drawing in sources.icon_drawings(modules, source):
            name = _country(source, drawing.key, modules)
            if name is None:
                continue
            label = classes.index(name) if name in classes else -1
            split = _vendor_split(source)
            if split != "train" and label < 0:
                continue
            picture = _picture(drawing, [name], "flags" if label >= 0 else "", label, split, "flag")
            yield picture, drawing


_codes_cache: dict[Path, tuple[dict[str, str], dict[str, str]]] = {}


def _country(source: str, key: str, modules: Path) -> str | None:
    if modules not in _codes_cache:
        codes = sources.flag_codes(modules)
        _codes_cache[modules] = (codes, {sources.squeeze(name.replace("&", "and")): name for name in codes.values()})
    codes, by_name = _codes_cache[modules]
    if source in ("twemoji", "emojione"):
        if not key.startswith("flag-"):
            return None
        return by_name.get(sources.squeeze(key.removeprefix("flag-for-").removeprefix("flag-")))
    code = re.sub(r"-(1x1|4x3)$", "", key)
    return codes.get(code)


def flag_classes(modules: Path) -> tuple[str, ...]:
    """Countries that `emojione` and at least two training sets draw, sorted; look-alike territories left out."""
    counted: Counter[str] = Counter()
    tested: set[str] = set()
    codes = {name: code for code, name in sources.flag_codes(modules).items()}
    for source in (*FLAG_SETS, "emojione"):
        found = {_country(source, d.key, modules) for d in sources.icon_drawings(modules, source)} - {None}
        if source == "emojione":
            tested = {str(name) for name in found}
        else:
            counted.update(str(name) for name in found)
    return tuple(sorted(n for n in tested if counted[n] >= 2 and codes[n] not in tasks.FLAG_TWINS))


def read_icons(modules: Path, source: str) -> Iterator[tuple[Picture, Drawing]]:
    """Pictures of an icon set without a task of its own: captions for the base, and one of the styles."""
    style = list(tasks.STYLE_NAMES).index(source) if source in tasks.STYLE_NAMES else -1
    subjects_seen: set[str] = set()
    for drawing in sources.icon_drawings(modules, source):
        if _TRADEMARK.search(drawing.key) or drawing.key.startswith("smiley"):
            continue
        subject = re.sub(r"-(fill|\d+)$", "", drawing.key)
        name = sources.words(subject)
        if not name or (source in ("fluent-color", "meteocons") and subject in subjects_seen):
            continue
        subjects_seen.add(subject)
        split = _held_out_subject(name) if style >= 0 else "train"
        picture = _picture(drawing, [name], "styles" if style >= 0 else "", style, split, "icon")
        picture.ink = source == "game-icons"
        picture.extra["style"] = source
        yield picture, drawing


def read_smileys(modules: Path, table: dict[str, tasks.Task]) -> Iterator[tuple[Picture, Drawing]]:
    """The smileys of Streamline Freehand: validation pictures of the faces task, never trained on."""
    for drawing in sources.icon_drawings(modules, "streamline-freehand-color"):
        if drawing.key.startswith("smiley"):
            stem = re.sub(r"-\d$", "", drawing.key)
            label = _classify("faces", [stem], table)
            if label >= 0:
                yield _picture(drawing, [sources.words(stem)], "faces", label, "validation", "emoji"), drawing


def read_clipart(table: dict[str, tasks.Task]) -> Iterator[tuple[Picture, Drawing]]:
    """Open Clip Art: split by author, classes from title, file name and folder."""
    for drawing in sources.clipart_drawings():
        if not drawing.names:
            continue
        split = _held_out_author(drawing.author)
        task = "" if "roadsigns" in drawing.group or "aiga" in drawing.group else _group_task(drawing.group)
        folder = " ".join(sources.words(part) for part in drawing.group.split("/")[1:])
        label = _classify(task, [*drawing.names, folder], table) if task else -1
        if label < 0:
            task = ""
            if drawing.group.split("/")[0] in ("office", "tools", "recreation", "people", "education", "electronics"):
                task, label = "styles", list(tasks.STYLE_NAMES).index("openclipart")
            elif split != "train":
                continue
        picture = _picture(drawing, list(drawing.names), task, label, split, "clipart")
        picture.extra |= {"style": "openclipart", "author": drawing.author}
        if split != "train" and any(name.endswith("b and w") for name in picture.names):
            continue  # the coloured drawing of the same author is there already
        yield picture, drawing


def _picture(drawing: Drawing, names: list[str], task: str, label: int, split: str, kind: str) -> Picture:
    return Picture(drawing.id, drawing.source, drawing.digest, names, kind, task, label, split)


def read_digits(modules: Path) -> Iterator[tuple[Picture, np.ndarray]]:
    """MNIST by contiguous blocks: the last pictures of each digit's file test, those before them validate."""
    for digit in range(10):
        data = json.loads((modules / "mnist" / "src" / "digits" / f"{digit}.json").read_text())["data"]
        ink = np.clip(np.asarray(data, dtype=np.float32) * 255, 0, 255).round().astype(np.uint8).reshape(-1, 28, 28)
        test, validation = len(ink) - _MNIST_TEST, len(ink) - _MNIST_TEST - _MNIST_VALIDATION
        # A gap of twenty on both sides of a block: neighbours in the file may be by one writer.
        for n, image in enumerate(ink):
            split = "test" if n >= test else "validation" if validation - 20 <= n < test - 20 else "train"
            if split == "train" and n >= validation - 40:
                continue
            digest = sources.digest(image.tobytes())
            name = tasks.DIGITS.classes[digit]
            yield Picture(f"mnist:{digit}/{n}", "mnist", digest, [name], "handwritten", "digits", digit, split,
                          True), render.render_digit(image)  # fmt: skip


def read_letters(modules: Path) -> Iterator[tuple[Picture, tuple[str, str]]]:
    """Letters and typed digits by font family; whole families are held out."""
    roles = dict.fromkeys((*sources.FONTS_PLAIN, *sources.FONTS_FANCY), "train")
    roles |= dict.fromkeys(sources.FONTS_VALIDATION, "validation") | dict.fromkeys(sources.FONTS_TEST, "test")
    for family, split in roles.items():
        file = modules / "@fontsource" / family / "files" / f"{family}-latin-400-normal.woff2"
        content = sources.digest(file.read_bytes())
        for label, letter in enumerate(_FONT_LETTERS):
            for character in (letter, letter.upper()):
                # One case per letter and held-out family, so that o and O do not count twice.
                upper = splits.share(f"{family}/{letter}", "case") < 0.5
                if split != "train" and character.isupper() != upper:
                    continue
                picture = Picture(f"font:{family}/{character}", f"font:{family}", sources.digest(content, character),
                                  [letter], "letter", "letters", label, split, True)  # fmt: skip
                picture.extra["plain"] = "yes" if family in sources.FONTS_PLAIN else ""
                yield picture, (str(file), character)
        if split == "train":
            for digit, name in enumerate(tasks.DIGITS.classes):
                yield Picture(f"font:{family}/{digit}", f"font:{family}", sources.digest(content, str(digit)),
                              [name], "typed digit", "", -1, "train", True), (str(file), str(digit))  # fmt: skip


def _render(job: object) -> np.ndarray | None:
    if isinstance(job, np.ndarray):
        return job
    if isinstance(job, tuple):
        return render.render_glyph(*job)
    return render.render_svg(str(job))


def collect(modules: Path) -> tuple[list[Picture], list[object], tuple[str, ...]]:
    """Every picture with what draws it, and the flag classes; equal digests are kept once, held-out ones first."""
    countries = flag_classes(modules)
    table = tasks.all_tasks(countries)
    found: list[tuple[Picture, object]] = []
    emoji_sets = (*TRAIN_EMOJI, "emojione", "streamline-emojis", "fxemoji", "icon-park")
    for source in emoji_sets:
        found += [(p, d.svg) for p, d in read_emoji(modules, source, table)]
    found += [(p, d.svg) for p, d in read_flags(modules, table)]
    for source in TRAIN_ICONS:
        found += [(p, d.svg) for p, d in read_icons(modules, source)]
    found += [(p, d.svg) for p, d in read_smileys(modules, table)]
    found += [(p, d.svg) for p, d in read_clipart(table)]
    found += list(read_digits(modules))
    found += list(read_letters(modules))
    found = _capped(found)
    order = {"test": 0, "validation": 1, "train": 2}
    found.sort(key=lambda pair: order[pair[0].split])
    kept: dict[str, tuple[Picture, object]] = {}
    for pair in found:
        kept.setdefault(pair[0].digest, pair)
    pictures, jobs = zip(*kept.values(), strict=True)
    return list(pictures), list(jobs), countries


_MOST_STYLE = {"test": 40, "validation": 20}  # held-out pictures per style, so that no style dominates
_MOST_SERIES = 4  # held-out pictures of one class by one Open Clip Art author


def _capped(found: list[tuple[Picture, object]]) -> list[tuple[Picture, object]]:
    """Drop held-out pictures beyond what one style or one artist's series may hold; the choice follows from ids."""
    counted: Counter[tuple[str, ...]] = Counter()
    kept = []
    for picture, job in sorted(found, key=lambda pair: splits.share(pair[0].id, "order")):
        if picture.split != "train":
            style = (picture.split, picture.source)
            series = (picture.split, picture.task, str(picture.label), picture.extra.get("author", ""))
            if picture.task == "styles":
                if counted[style] >= _MOST_STYLE[picture.split]:
                    continue
                counted[style] += 1
            if picture.extra.get("author"):
                if picture.task != "styles" and counted[series] >= _MOST_SERIES:
                    continue
                counted[series] += 1
        kept.append((picture, job))
    return sorted(kept, key=lambda pair: pair[0].id)


def build(cache: Path, workers: int = 2) -> dict[str, int]:
    """Install the sources, draw every picture and write the data set below `cache`; returns counts per split.

    Raises `SourceUnavailableError` when a package cannot be fetched. Takes about two minutes on two cores.
    """
    modules = sources.install(cache)
    pictures, jobs, countries = collect(modules)
    log.info("drawing %d pictures", len(pictures))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        drawn = list(pool.imap(_render, jobs, chunksize=64))
    kept = [n for n, image in enumerate(drawn) if image is not None]
    pictures, rgba = [pictures[n] for n in kept], np.stack([drawn[n] for n in kept])  # type: ignore[misc]
    keep = _apart(pictures, rgba)
    pictures, rgba = [p for p, k in zip(pictures, keep, strict=True) if k], rgba[keep]
    part = cache / "pictures.part.npy"  # renamed when whole: a running training has the old file mapped
    np.save(part, rgba)
    part.replace(cache / "pictures.npy")
    content = {"format": FORMAT, "countries": countries, "pictures": [asdict(p) for p in pictures]}
    (cache / "pictures.json").write_text(json.dumps(content))
    counts = Counter(f"{p.task or 'base only'} {p.split}" for p in pictures)
    return dict(sorted(counts.items()))


def _apart(pictures: list[Picture], rgba: np.ndarray) -> np.ndarray:
    """Which pictures may stay when no split may hold a near-duplicate of another: bool (N,).

    The test keeps its pictures; validation loses those that resemble a test picture, training those that
    resemble either. Within test and validation, repeated look-alikes of one task are dropped as well.
    """
    images = np.stack([render.on_white(picture) for picture in rgba])
    split = np.array([p.split for p in pictures])
    task = np.array([p.task for p in pictures])
    keep = np.ones(len(pictures), dtype=bool)
    for name in ("test", "validation"):
        for one in np.unique(task[split == name]):
            members = np.flatnonzero((split == name) & (task == one))
            chosen: list[int] = []
            again = splits.near_duplicates  # against those already chosen, in order
            if len(members) > 1:
                for block in np.array_split(members, max(1, len(members) // 8)):
                    clash = again(images[block], images[chosen]) if chosen else np.zeros(len(block), dtype=bool)
                    chosen += list(block[~clash])
            drop = np.setdiff1d(members, chosen) if chosen else members[:0]
            keep[drop] = False
    test, validation = np.flatnonzero(keep & (split == "test")), np.flatnonzero(keep & (split == "validation"))
    keep[validation[splits.near_duplicates(images[validation], images[test], strict=True)]] = False
    validation = np.flatnonzero(keep & (split == "validation"))
    train = np.flatnonzero(split == "train")
    keep[train[splits.near_duplicates(images[train], images[np.concatenate([test, validation])])]] = False
    return keep


@dataclass(frozen=True)
class DataSet:
    """The built data set: `rgba` uint8 (N, 64, 64, 4) and one `Picture` per row."""

    rgba: np.ndarray
    pictures: list[Picture]
    tasks: dict[str, tasks.Task]

    def rows(self, task: str, split: str) -> np.ndarray:
        """Row numbers of one task's pictures in one split, in stored order."""
        return np.array([n for n, p in enumerate(self.pictures) if p.task == task and p.split == split], dtype=np.int64)


def load(cache: Path) -> DataSet:
    """Read what `build` wrote. Raises `AssetError` when it is missing or from another version."""
    try:
        content = json.loads((cache / "pictures.json").read_text())
        rgba = np.load(cache / "pictures.npy", mmap_mode="r")
    except OSError as error:
        raise AssetError(f"No data set in {cache}. Run `python -m neuromerge.zoo build-data` first.") from error
    if content["format"] != FORMAT:
        raise AssetError(f"The data set in {cache} is of an older format. Run `python -m neuromerge.zoo build-data`.")
    pictures = [Picture(**entry) for entry in content["pictures"]]
    return DataSet(rgba, pictures, tasks.all_tasks(tuple(content["countries"])))
