"""Rows of a data set on the Hub as it keeps them: a few row groups of its parquet files, by ranged reads.

A row group holds about a hundred neighbouring pictures in their original bytes, and one request brings it. As many
groups as the bounds allow are taken from all over the split, and of their rows a part in which every class has its
share. Where a set stands in the order of its classes and its pictures are large, that is a dozen of its classes: parts
of more groups would not be better, since labels lie behind the pictures and cost a request of their own.

Where groups are so large that fewer than three fit the bounds, the beginnings of some are read (see `row_groups`) if
there can be more of them than whole groups: as many as fit with sixteen pictures each, by the average; where not even
one does, with one picture each. A beginning brings the first page of its group at least. Of groups that are one page
each, as some programs write them, whole ones are read, or none. Where there would be fewer than three beginnings, the
Hub's conversion, whose groups are often smaller, is looked at first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from neuromerge.evaluation.families import SampleSource
from neuromerge.evaluation.picture_files import Parts
from neuromerge.evaluation.row_groups import LOOK, REQUESTS, Beginning, RowGroup
from neuromerge.hub import answers
from neuromerge.progress import UNATTENDED, Job

MOST_BYTES = 59_000_000
"""Of the pictures of one task; with what the lists of files and their footers take, below 60 million."""
MOST_REQUESTS = 20
_TO_LIST = 6
"""Requests until the files of a data set are known, a redirection and the Hub's own conversion included."""
MOST_FILES = 3
_ENOUGH = 3
"""Whole groups that are read without a thought of the beginnings of more, and beginnings without one of other files."""
_FEWEST_ROWS = 16
"""Of a beginning, where that can be."""
_READ_FOR_EACH = 10
"""Rows that beginnings may bring for each that is wanted: bytes are what bounds them, unless pictures are tiny."""
_SLACK = 1.25
"""Bytes of a first page over those of another group's."""
_FOOTER = 1 << 16
"""Bytes that the first request for a footer brings; a larger one takes a second."""
_CONVERTED = "refs/convert/parquet"
_PATH = re.compile(r"(?P<folder>(?:.*/)?)(?:partial-)?(?P<split>[A-Za-z]+)(?:[-/].*)?\.parquet")


@dataclass(frozen=True)
class Rows:
    """Pictures as encoded files with their labels, where each stood, and the commit they are of."""

    encoded: list[bytes]
    labels: np.ndarray
    ids: tuple[str, ...]
    revision: str


class NoSuchSplit(Exception):
    """The data set holds no such split, or several of one name."""


def rows_of(source: SampleSource, most: int, parts: Parts, job: Job = UNATTENDED) -> Rows | None:
    """About `most` rows spread over the split of `source`: runs of neighbours, a hundred or so each.

    Behind them, beyond `most`, those that came with them and have no picture or no label.

    Of `parts` that are there nothing is asked for. None where the data set has no parquet files of which row groups, or
    their beginnings, fit the bounds. Raises NoSuchSplit, and what the Hub library raises.
    """
    places, revision = _places(source, most, job)
    encoded: list[bytes] = []
    labels: list[int] = []
    ids: list[str] = []
    for done, place in enumerate(places):
        job.report(done, len(places), source.dataset)
        rows = parts.of(f"{revision} {place.key}", partial(place.read, job))
        encoded += [content for _, content, _ in rows]
        labels += [label for _, _, label in rows]
        ids += [f"{place.name}:{row}" for row, _, _ in rows]
    job.report(len(places), len(places), source.dataset)
    usable = np.array([bool(content) and label >= 0 for content, label in zip(encoded, labels, strict=True)], np.bool_)
    if not usable.any():
        return None
    whole, bare = np.flatnonzero(usable), np.flatnonzero(~usable)  # what is left out is told to the user
    chosen = np.concatenate([whole[shares(np.array(labels)[whole], most)], bare])
    return Rows(
        [encoded[i] for i in chosen], np.array(labels, np.int64)[chosen], tuple(ids[i] for i in chosen), revision
    )


def shares(labels: np.ndarray, most: int) -> np.ndarray:
    """Indices of `most` rows among which every class has its share, ordered by class; all where there are fewer."""
    order = np.argsort(labels, kind="stable")
    if len(order) <= most:
        return order
    return order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]


@dataclass(frozen=True)
class _Listing:
    """The parquet files of a split, the commit that they are of, and requests till they were known.

    These can be more than _TO_LIST where the files of a third commit are listed.
    """

    paths: list[str]
    revision: str
    requests: int


def _listings(files: Any, source: SampleSource, job: Job) -> Iterator[_Listing]:
    """The data set's own files, then the Hub's conversion.

    Of the pinned commit where it is there and has such files, then of the newest.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    seen: set[str] = set()
    requests = 0
    for revision in dict.fromkeys((source.revision or None, None, _CONVERTED)):
        requests += 1
        try:
            info = answers.patiently(partial(HfApi().dataset_info, source.dataset, revision=revision), job)
        except RevisionNotFoundError:
            continue
        commit = str(info.sha)
        if commit in seen:  # the pinned one is the newest
            continue
        seen.add(commit)
        root = f"datasets/{source.dataset}@{commit}"
        requests += 2  # what the commit is, and its files
        listed = answers.patiently(partial(files.find, root), job)
        names = [path.removeprefix(f"{root}/") for path in listed if path.endswith(".parquet")]
        found = list(files_of_split(names, source.config, source.split))
        if found:
            yield _Listing([f"{root}/{name}" for name in found], commit, requests)


def files_of_split(names: Sequence[str], config: str, split: str) -> list[str]:
    """Those of a data set's parquet files that hold a split; of the only configuration that has it, if not of `config`.

    Raises NoSuchSplit where several have it.
    """
    by_config: dict[str, list[str]] = {}
    for name in sorted(names):
        found = _PATH.fullmatch(name)
        if found and found["split"] == split:
            by_config.setdefault(found["folder"].strip("/"), []).append(name)
    for known in (config, *(("data", "") if config == "default" else ())):
        if known in by_config:
            return by_config[known]
    if len(by_config) > 1:
        there = ", ".join(f"{name or 'default'}/{split}" for name in by_config)
        raise NoSuchSplit(
            f"it has no {config}/{split}. It has {there}: name one in the task's file (samples.config, samples.split)."
        )
    return next(iter(by_config.values()), [])


def _places(source: SampleSource, most: int, job: Job) -> tuple[Sequence[RowGroup | Beginning], str]:
    """What to read, and the commit that it is of.

    Of the first listing of which a whole group fits the bounds, or enough beginnings; else of that with most of them.
    """
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(skip_instance_cache=True)
    best: tuple[Sequence[RowGroup | Beginning], str] = [], ""
    spent = 0  # on the files of earlier listings
    for listing in _listings(files, source, job):
        opened = [listing.paths[place] for place in spread(len(listing.paths), MOST_FILES)]
        left = MOST_REQUESTS - max(_TO_LIST, listing.requests) - spent - len(opened)
        if left < len(opened) + 1 + REQUESTS * len(best[0]):  # second requests of footers, a look, and what is known
            break
        tables = [_opened(files, path, job) for path in opened]
        again = sum(table.metadata.serialized_size > _FOOTER for _, table in tables)
        groups = [group for path, table in zip(opened, tables, strict=True) for group in _groups(path, *table, source)]
        # The first listing leaves enough of _TO_LIST for the second requests of its footers.
        places = _choose(groups, left - (again if spent else 0), most, job)
        best = max(best, (places, listing.revision), key=lambda found: len(found[0]))
        if len(places) >= _ENOUGH or any(isinstance(place, RowGroup) for place in places):
            break
        spent += len(opened) + again + 1
    return best


def _opened(files: Any, path: str, job: Job) -> tuple[Any, Any]:
    """A file, and its table with the footer read; each row group is one ranged read."""
    import pyarrow.parquet as pq

    file = answers.patiently(partial(files.open, path, "rb", cache_type="none"), job)
    return file, answers.patiently(partial(pq.ParquetFile, file, pre_buffer=True), job)


def _groups(path: str, file: Any, table: Any, source: SampleSource) -> list[RowGroup]:
    """The row groups of a file that hold rows."""
    image, label = columns_of(table.schema_arrow, source)
    name = path.rpartition("/")[2]
    groups = [RowGroup(file, table, n, f"{name}/{n}", image, label) for n in range(table.num_row_groups)]
    return [group for group in groups if group.rows]


def _choose(groups: Sequence[RowGroup], requests: int, most: int, job: Job) -> Sequence[RowGroup | Beginning]:
    """Groups spread over `groups`, or beginnings of some, that fit MOST_BYTES and so many requests; none where none do.

    Beginnings where fewer whole groups fit than _ENOUGH, and than beginnings. One request may tell how large pages are.
    """
    whole = _whole(groups, requests)
    if len(whole) >= min(_ENOUGH, len(groups)):
        return whole
    beginnings = _beginnings(groups, 0, MOST_BYTES, requests // REQUESTS, most)
    middle = groups[len(groups) // 2]
    if len(beginnings) > len(whole) and not middle.pictures.dictionary:
        page = middle.first_page(job)
        beginnings = _beginnings(groups, page, MOST_BYTES - LOOK, (requests - 1) // REQUESTS, most)
    return beginnings if len(beginnings) > len(whole) else whole


def _whole(groups: Sequence[RowGroup], requests: int) -> list[RowGroup]:
    """As many groups as fit, one request each."""
    for number in range(requests, 0, -1):
        chosen = [groups[place] for place in spread(len(groups), number)]
        if sum(group.nbytes for group in chosen) <= MOST_BYTES:
            return chosen
    return []


def _beginnings(groups: Sequence[RowGroup], page: int, nbytes: int, places: int, most: int) -> list[Beginning]:
    """Beginnings of as many groups as fit `nbytes` and `places`, where the first page of pictures ends after `page`."""
    for fewest, slack in ((_FEWEST_ROWS, _SLACK), (1, 1.0)):
        for number in range(min(places, len(groups)), 0, -1):
            chosen = [groups[place] for place in spread(len(groups), number)]
            needed = [
                min(max(ceil(slack * group.pictures.head(page)), fewest * _for_a_row(group)), group.pictures.nbytes)
                for group in chosen
            ]
            spare = nbytes - sum(needed) - sum(group.label_bytes for group in chosen)
            if spare >= 0:
                rows = ceil(_READ_FOR_EACH * most / number)
                return [
                    Beginning(group, max(least, min(least + spare // number, rows * _for_a_row(group))), rows)
                    for group, least in zip(chosen, needed, strict=True)
                ]
    return []


def _for_a_row(group: RowGroup) -> int:
    """Bytes of a picture, on average."""
    return ceil(group.pictures.nbytes / group.rows)


def spread(count: int, most: int) -> Iterator[int]:
    """At most `most` of `count` places, evenly spread: each in the middle of its share."""
    number = min(count, most)
    return (int((2 * place + 1) * count / (2 * number)) for place in range(number))


def columns_of(schema: Any, source: SampleSource) -> tuple[str, str]:
    """Names of the columns of pictures and labels. Raises ValueError where there are none."""
    names = list(schema.names)
    said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    kinds = {name: said.get(name, {}).get("_type", "") for name in names}
    pictures = [name for name in names if kinds[name] == "Image" or "bytes" in _fields(schema.field(name).type)]
    classes = [name for name in names if kinds[name] == "ClassLabel"]
    usual = [name for name in ("label", "labels", "fine_label", "cls", "class") if name in names]
    image = source.image if source.image in names else next(iter(pictures), None)
    label = source.label if source.label in names else next(iter([*usual, *classes]), None)
    if image is None or label is None:
        raise ValueError(f"it has the columns {', '.join(names)}, none of pictures with labels")
    return image, label


def _fields(kind: Any) -> list[str]:
    return [kind.field(place).name for place in range(getattr(kind, "num_fields", 0))]
