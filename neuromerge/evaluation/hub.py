"""Test pictures from the Hugging Face Hub: a fixed few hundred of a data set, fetched once and kept.

Whole test sets run to gigabytes, so a few row groups of their parquet files are read, or the beginnings of large ones
(see `parquet`), all over the split. Of a set without parquet files that can be read in part, a few rows at a time are
asked for through the Hub's dataset viewer, evenly spread. The viewer may hand out pictures encoded anew, so accuracies
can differ in the last digit from those on the original files.

A file is kept for each task, under the revision that was asked for; all of them together are bounded in bytes. What
came before a fetch was stopped is kept, too.
"""

from __future__ import annotations

import io
import threading
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neuromerge.deployment import deployment
from neuromerge.errors import SourceUnavailableError
from neuromerge.evaluation import parquet, picture_files
from neuromerge.evaluation.families import SampleSource
from neuromerge.evaluation.parquet import NoSuchSplit
from neuromerge.evaluation.picture_files import DAMAGE, NO_LABEL, Parts, Row
from neuromerge.folder_bounds import mark_used
from neuromerge.hub import answers
from neuromerge.json_files import parse_json
from neuromerge.progress import UNATTENDED, Job

TEST_IMAGES = 300
VALIDATION_IMAGES = 200
_SPLITS = np.array([0, 1, 0, 1, 1], np.uint8)  # of the neighbouring rows that one request brings
_PAGE = len(_SPLITS)
_TIMEOUT = 30.0
_MAX_BYTES = 30_000_000
_WORKERS = 8
_LABELS = ("label", "labels", "fine_label", "cls", "class")


@dataclass(frozen=True)
class Packed:
    """Fetched pictures: `encoded` are the bytes of image files; `split` is 0 for validation, 1 for test."""

    encoded: list[bytes]
    labels: np.ndarray
    split: np.ndarray
    ids: tuple[str, ...]
    revision: str


_one_fetch_at_a_time = threading.Lock()


def cached_file(source: SampleSource) -> Path:
    """The file that keeps the pictures of `source`."""
    marks = (source.dataset, source.config, source.split, *((source.revision,) if source.revision else ()))
    return deployment().cache / "samples" / f"{'__'.join(marks).replace('/', '--')}.npz"


def load_or_fetch(source: SampleSource, fetch_command: str, job: Job = UNATTENDED) -> Packed:
    """The pictures of `source`, from the cache or from the Hub.

    Raises:
        SourceUnavailableError: not kept here and the Hub cannot be reached, or answers something else.
        StorageError: the cache folder cannot be written.
    """
    path = cached_file(source)
    with _one_fetch_at_a_time:
        kept = _read(path)
        return kept if kept is not None else _fetch_and_keep(source, path, fetch_command, job)


def _fetch_and_keep(source: SampleSource, path: Path, fetch_command: str, job: Job) -> Packed:
    if deployment().offline:
        raise SourceUnavailableError(
            f"The test pictures of {source.dataset} are not on this machine, and HF_HUB_OFFLINE forbids fetching them. "
            f"Fetch them where there is a network with `{fetch_command}`."
        )
    parts = Parts(path)
    try:
        packed = _fetch(source, parts, job)
    except NoSuchSplit as error:
        raise SourceUnavailableError(f"The test pictures of {source.dataset} could not be fetched: {error}") from None
    except answers.kinds_of_error() as error:
        found = answers.failure(error, source.dataset, fetch_command, answers.has_token())
        raise type(found)(f"The test pictures of {source.dataset} could not be fetched. {found}") from None
    except (SourceUnavailableError, ValueError, KeyError, TypeError) as error:
        raise SourceUnavailableError(
            f"The test pictures of {source.dataset} are not on this machine and could not be fetched from the Hugging "
            f"Face Hub ({_reason(error)}). Fetch them where there is a network with `{fetch_command}`, then try again."
        ) from None
    _write(path, packed)
    parts.drop()
    return packed


def chosen_rows(total: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, the split of each): pages of neighbouring rows, evenly spread over `total` rows, without overlap.

    Every page gives to both splits. Where rows stand in the order of the classes, both then see as many classes.
    """
    most = TEST_IMAGES + VALIDATION_IMAGES
    if total <= most:
        starts = np.arange(0, total, _PAGE)
    else:
        starts = np.linspace(0, total - _PAGE, most // _PAGE).astype(np.int64)  # at least _PAGE apart
    rows = (starts[:, None] + np.arange(_PAGE)).ravel()
    there = rows < total
    return rows[there], np.tile(_SPLITS, len(starts))[there]


def _fetch(source: SampleSource, parts: Parts, job: Job) -> Packed:
    rows = _of_parquet(source, parts, job)
    if rows is None:
        return _of_viewer(source, parts, job)
    # In the order of their classes: of every few neighbours each split gets its share.
    return Packed(rows.encoded, rows.labels, np.resize(_SPLITS, len(rows.labels)), rows.ids, rows.revision)


def _of_parquet(source: SampleSource, parts: Parts, job: Job) -> parquet.Rows | None:
    """Rows of the data set's parquet files; None where the Hub lists no such files."""
    try:
        return parquet.rows_of(source, TEST_IMAGES + VALIDATION_IMAGES, parts, job)
    except answers.kinds_of_error() as error:
        if answers.status_of(error) not in (401, 404):
            raise
        return None


def _of_viewer(source: SampleSource, parts: Parts, job: Job) -> Packed:
    source, first, revision = _first(source)
    image, label = _columns(first["features"], source)
    rows, splits = chosen_rows(int(first["num_rows_total"]))
    split_of = dict(zip(rows.tolist(), splits.tolist(), strict=True))
    encoded: list[bytes] = []
    labels: list[int] = []
    split: list[int] = []
    ids: list[str] = []
    with ThreadPoolExecutor(_WORKERS) as pool:

        def page_at(start: int) -> list[Row]:
            return parts.of(f"{revision} rows {start}", lambda: _page(source, start, image, label))

        pages = pool.map(page_at, rows[::_PAGE].tolist())
        for page in pages:
            for row, content, value in page:
                if row not in split_of:  # another row than was asked for
                    continue
                encoded.append(content)
                labels.append(value)
                split.append(split_of[row])
                ids.append(str(row))
            job.report(len(encoded), len(rows), source.dataset)
    if not encoded:
        raise ValueError("the data set is empty")
    return Packed(encoded, np.array(labels, np.int64), np.array(split, np.uint8), tuple(ids), revision)


def _first(source: SampleSource) -> tuple[SampleSource, dict[str, Any], str]:
    """The source, its first row and its revision.

    A data set that has no such configuration is asked for the one that holds the split. Raises NoSuchSplit.
    """
    try:
        return source, *_rows(source, 0, 1)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        config = _config_with(source, error)
        if config == source.config:
            raise
        source = replace(source, config=config)
        return source, *_rows(source, 0, 1)


def _config_with(source: SampleSource, missing: urllib.error.HTTPError) -> str:
    """The configuration that holds the split of `source`, as the Hub lists them; raises `missing` where it cannot."""
    query = urllib.parse.urlencode({"dataset": source.dataset})
    try:
        content, _ = _get(f"{deployment().datasets_server}/splits?{query}")
    except urllib.error.HTTPError:
        raise missing from None
    answer = parse_json(content, "The answer of the Hub's dataset viewer", remedy="", error=SourceUnavailableError)
    listed = [(str(each["config"]), str(each["split"])) for each in answer["splits"]]
    holding = [config for config, split in listed if split == source.split]
    if source.config in holding or len(holding) == 1:
        return source.config if source.config in holding else holding[0]
    there = ", ".join(f"{config}/{split}" for config, split in listed) or "nothing"
    raise NoSuchSplit(
        f"it has no {source.config}/{source.split}. It has {there}: name one in the task's file (samples.config, "
        "samples.split)."
    )


def _page(source: SampleSource, start: int, image: str, label: str) -> list[Row]:
    """The rows from `start`."""
    answer, _ = _rows(source, start, _PAGE)
    return [(int(row["row_idx"]), *_picture_and_label(row["row"], image, label)) for row in answer["rows"]]


def _picture_and_label(row: dict[str, Any], image: str, label: str) -> tuple[bytes, int]:
    """Of one row: see `Row` for what it may lack."""
    content = b"" if row[image] is None else _image_bytes(row[image]["src"])
    return content, NO_LABEL if row[label] is None else int(row[label])


def _rows(source: SampleSource, start: int, count: int) -> tuple[dict[str, Any], str]:
    """One answer of the dataset viewer and the revision of the data set it was made from."""
    server = deployment().datasets_server
    query = urllib.parse.urlencode(
        {
            "dataset": source.dataset,
            "config": source.config,
            "split": source.split,
            "offset": start,
            "length": count,
        }
    )
    content, headers = _get(f"{server}/rows?{query}")
    answer = parse_json(content, "The answer of the Hub's dataset viewer", remedy="", error=SourceUnavailableError)
    if not isinstance(answer, dict) or not isinstance(answer.get("rows"), list):
        raise ValueError("the Hub's dataset viewer gave another answer than rows")
    return answer, headers.get("X-Revision", "")


def _image_bytes(url: str) -> bytes:
    from PIL import Image

    content, _ = _get(url)
    with Image.open(io.BytesIO(content)) as image:
        image.verify()
    return content


def _get(url: str) -> tuple[bytes, Any]:
    if urllib.parse.urlsplit(url).scheme not in ("https", "http"):
        raise ValueError("an address that is not on the web")
    request = urllib.request.Request(url, headers={"User-Agent": "neuromerge"})

    def ask() -> tuple[bytes, Any]:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            content = answer.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise ValueError("an answer of more than 30 MB")
            return content, answer.headers

    return answers.patiently(ask)


def _columns(features: Any, source: SampleSource) -> tuple[str, str]:
    """Names of the columns of pictures and labels: as the registry says, else by their types and names."""
    kinds = {str(feature["name"]): feature["type"] for feature in features}
    image = source.image or next((name for name, kind in kinds.items() if kind.get("_type") == "Image"), None)
    label = source.label or next((name for name in _LABELS if name in kinds), None)
    label = label or next((name for name, kind in kinds.items() if kind.get("_type") == "ClassLabel"), None)
    if image not in kinds or label not in kinds:
        raise ValueError(f"it has the columns {', '.join(kinds)}, none of pictures with labels")
    return str(image), str(label)


def _read(path: Path) -> Packed | None:
    """What is kept in `path`, None where there is nothing or it is damaged (it is then fetched anew)."""
    try:
        encoded, (labels, split, ids, revision) = picture_files.read(path, "labels", "split", "ids", "revision")
    except DAMAGE:
        return None
    mark_used(path)
    return Packed(encoded, labels.astype(np.int64), split, tuple(str(name) for name in ids), str(revision))


def _write(path: Path, packed: Packed) -> None:
    about = {"labels": packed.labels, "split": packed.split, "ids": np.array(packed.ids)}
    picture_files.write(path, packed.encoded, **about, revision=np.array(packed.revision))


def _reason(error: BaseException) -> str:
    return str(error or type(error).__name__)[:200]
