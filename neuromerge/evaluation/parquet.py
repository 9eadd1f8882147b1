"""Rows of a data set on the Hub as it keeps them: a few row groups of its parquet files, by ranged reads.

A row group holds about a hundred neighbouring pictures in their original bytes, and one request brings it. As many
groups as the bounds allow are taken from all over the split, and of their rows a part in which every class has its
share. Where a set stands in the order of its classes and its pictures are large, that is a dozen of its classes: parts
of more groups would not be better, since labels lie behind the pictures and cost a request of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from neuromerge.evaluation.families import SampleSource
from neuromerge.evaluation.picture_files import Parts, Row
from neuromerge.hub import answers
from neuromerge.progress import UNATTENDED, Job

MOST_BYTES = 60_000_000
"""Of the pictures of one task."""
MOST_REQUESTS = 20
_TO_LIST = 6
"""Requests until the files of a data set are known, a redirection and the Hub's own conversion included."""
MOST_FILES = 3
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

    Of `parts` that are there nothing is asked for. None where the data set has no parquet files of row groups that fit
    the bounds. Raises NoSuchSplit, and what the Hub library raises.
    """
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(skip_instance_cache=True)
    groups, revision = _found(files, source, job)
    encoded: list[bytes] = []
    labels: list[int] = []
    ids: list[str] = []
    for done, group in enumerate(groups):
        job.report(done, len(groups), source.dataset)
        rows = parts.of(f"{revision} {group.name}", partial(answers.patiently, group.read, job))
        encoded += [content for _, content, _ in rows]
        labels += [label for _, _, label in rows]
        ids += [f"{group.name}:{row}" for row, _, _ in rows]
    if not encoded:
        return None
    job.report(len(groups), len(groups), source.dataset)
    chosen = shares(np.array(labels), most)
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
class _Group:
    """One row group of one file."""

    table: Any
    number: int
    name: str
    image: str
    label: str

    @property
    def nbytes(self) -> int:
        """Bytes of the group in its file."""
        facts = self.table.metadata.row_group(self.number)
        return sum(int(facts.column(place).total_compressed_size) for place in range(facts.num_columns))

    def read(self) -> list[Row]:
        """Its rows, in order, without those that have no picture or no label."""
        columns = self.table.read_row_group(self.number, columns=[self.image, self.label])
        pictures = [entry and entry["bytes"] for entry in columns.column(self.image).to_pylist()]
        labels = columns.column(self.label).to_pylist()
        return [
            (row, content, int(label))
            for row, (content, label) in enumerate(zip(pictures, labels, strict=True))
            if content is not None and label is not None
        ]


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


def _opened(files: Any, path: str) -> Any:
    """A parquet file with its footer read; each row group is one ranged read."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(files.open(path, "rb", cache_type="none"), pre_buffer=True)


def _found(files: Any, source: SampleSource, job: Job) -> tuple[list[_Group], str]:
    """Row groups that fit the bounds, of the first listing that has such, and the commit that they are of."""
    spent = 0  # on the files of earlier listings
    for listing in _listings(files, source, job):
        opened = [listing.paths[place] for place in spread(len(listing.paths), MOST_FILES)]
        left = MOST_REQUESTS - max(_TO_LIST, listing.requests) - spent - len(opened)
        if left < 1:
            break
        groups = _groups(files, opened, left, source, job)
        if groups:
            return groups, listing.revision
        spent += len(opened)
    return [], ""


def _groups(files: Any, opened: Sequence[str], requests: int, source: SampleSource, job: Job) -> list[_Group]:
    """Row groups that are spread over the split and fit the bounds; none where a single one is too large."""
    groups: list[_Group] = []
    for path in opened:
        table = answers.patiently(partial(_opened, files, path), job)
        image, label = columns_of(table.schema_arrow, source)
        name = path.rpartition("/")[2]
        groups += [_Group(table, n, f"{name}/{n}", image, label) for n in range(table.num_row_groups)]
    for most in range(requests, 0, -1):
        chosen = [groups[place] for place in spread(len(groups), most)]
        if sum(group.nbytes for group in chosen) <= MOST_BYTES:
            return chosen
    return []


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
