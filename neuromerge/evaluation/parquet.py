"""Rows of a data set on the Hub as it keeps them: a few row groups of its parquet files, by ranged reads.

A row group holds about a hundred neighbouring pictures in their original bytes, and one request brings it. Groups are
taken from all over the split, and of their rows a part in which every class has its share.
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
from neuromerge.hub import answers
from neuromerge.progress import UNATTENDED, Job

MOST_BYTES = 60_000_000
"""Of the pictures of one task."""
MOST_GROUPS = 8
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


def rows_of(source: SampleSource, most: int, job: Job = UNATTENDED) -> Rows | None:
    """About `most` rows spread over the split of `source`: runs of neighbours, a hundred or so each.

    None where the data set has no parquet files. Raises NoSuchSplit, and what the Hub library raises.
    """
    from huggingface_hub import HfFileSystem

    files = HfFileSystem(skip_instance_cache=True)
    paths, revision = _files(files, source, job)
    if not paths:
        return None
    groups = _groups(files, paths, source, job)
    if not groups:
        return None
    encoded: list[bytes] = []
    labels: list[int] = []
    ids: list[str] = []
    for done, group in enumerate(groups):
        job.report(done, len(groups), source.dataset)
        pictures, classes = answers.patiently(group.read, job)
        encoded += pictures
        labels += classes
        ids += [f"{group.name}:{row}" for row in range(len(pictures))]
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

    def read(self) -> tuple[list[bytes], list[int]]:
        """(encoded pictures, labels), in order."""
        columns = self.table.read_row_group(self.number, columns=[self.image, self.label])
        pictures = [entry["bytes"] for entry in columns.column(self.image).to_pylist()]
        return pictures, [int(label) for label in columns.column(self.label).to_pylist()]


def _files(files: Any, source: SampleSource, job: Job) -> tuple[list[str], str]:
    """The parquet files of the split and the commit they are of: the data set's own, else the Hub's conversion.

    Of the pinned commit where it is there and has such files, else of the newest.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    for revision in dict.fromkeys((source.revision or None, None, _CONVERTED)):
        try:
            info = answers.patiently(partial(HfApi().dataset_info, source.dataset, revision=revision), job)
        except RevisionNotFoundError:
            continue
        root = f"datasets/{source.dataset}@{info.sha}"
        listed = answers.patiently(partial(files.find, root), job)
        names = [path.removeprefix(f"{root}/") for path in listed if path.endswith(".parquet")]
        found = list(files_of_split(names, source.config, source.split))
        if found:
            return [f"{root}/{name}" for name in found], str(info.sha)
    return [], ""


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


def _groups(files: Any, paths: Sequence[str], source: SampleSource, job: Job) -> list[_Group]:
    """Row groups that are spread over the split and fit the bound."""
    opened = [paths[place] for place in spread(len(paths), MOST_FILES)]
    groups: list[_Group] = []
    for path in opened:
        table = answers.patiently(partial(_opened, files, path), job)
        image, label = columns_of(table.schema_arrow, source)
        name = path.rpartition("/")[2]
        groups += [_Group(table, n, f"{name}/{n}", image, label) for n in range(table.num_row_groups)]
    if not groups:
        return []
    affordable = max(1, MOST_BYTES // max(1, *(group.nbytes for group in groups)))
    return [groups[place] for place in spread(len(groups), min(MOST_GROUPS, affordable))]


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
