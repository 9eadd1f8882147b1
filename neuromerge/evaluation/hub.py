"""Test pictures from the Hugging Face Hub: a fixed few hundred of a data set, fetched once and kept.

Whole test sets run to gigabytes, so rows are asked for one by one through the Hub's dataset viewer, evenly
spread over the split. The viewer may hand out pictures encoded anew, so accuracies can differ in the last digit
from those on the original files.
"""

from __future__ import annotations

import io
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuromerge.atomic import replacing
from neuromerge.deployment import deployment
from neuromerge.errors import SourceUnavailableError, StorageError
from neuromerge.evaluation.families import SampleSource
from neuromerge.json_files import parse_json
from neuromerge.progress import UNATTENDED, Job

TEST_IMAGES = 300
VALIDATION_IMAGES = 200
_PAGE = 5  # neighbouring rows that one request brings
_TIMEOUT = 30.0
_MAX_BYTES = 30_000_000
_WORKERS = 8
_LABELS = ("label", "labels", "fine_label", "cls", "class")

DAMAGE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged .npz file can raise."""


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
    name = "__".join((source.dataset, source.config, source.split)).replace("/", "--")
    return deployment().cache / "samples" / f"{name}.npz"


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
    try:
        packed = _fetch(source, job)
    except (SourceUnavailableError, urllib.error.URLError, OSError, ValueError, KeyError, TypeError) as error:
        raise SourceUnavailableError(
            f"The test pictures of {source.dataset} are not on this machine and could not be fetched from the Hugging "
            f"Face Hub ({_reason(error)}). Fetch them where there is a network with `{fetch_command}`, then try again."
        ) from None
    _write(path, packed)
    return packed


def chosen_rows(total: int) -> tuple[np.ndarray, np.ndarray]:
    """(first rows of the pages, split of each page): evenly spread over `total` rows, without overlap."""
    pages = min((TEST_IMAGES + VALIDATION_IMAGES) // _PAGE, max(total // _PAGE, 1))
    starts = np.unique(np.linspace(0, max(total - _PAGE, 0), pages).astype(np.int64))
    starts = starts[np.concatenate([[True], np.diff(starts) >= _PAGE])]
    share = VALIDATION_IMAGES / (TEST_IMAGES + VALIDATION_IMAGES)
    steps = np.floor((np.arange(len(starts)) + 1) * share) - np.floor(np.arange(len(starts)) * share)
    return starts, np.where(steps > 0, 0, 1).astype(np.uint8)


def _fetch(source: SampleSource, job: Job) -> Packed:
    first, revision = _rows(source, 0, 1)
    image, label = _columns(first["features"], source)
    starts, splits = chosen_rows(int(first["num_rows_total"]))
    total = len(starts) * _PAGE
    encoded: list[bytes] = []
    labels: list[int] = []
    split: list[int] = []
    ids: list[str] = []
    with ThreadPoolExecutor(_WORKERS) as pool:
        pages = pool.map(lambda start: _page(source, int(start), image, label), starts)
        for number, page in zip(splits, pages, strict=True):
            for row, content, value in page:
                encoded.append(content)
                labels.append(value)
                split.append(int(number))
                ids.append(str(row))
            job.report(len(encoded), total, source.dataset)
    if not encoded:
        raise ValueError("the data set is empty")
    return Packed(encoded, np.array(labels, np.int64), np.array(split, np.uint8), tuple(ids), revision)


def _page(source: SampleSource, start: int, image: str, label: str) -> list[tuple[int, bytes, int]]:
    """(row, bytes of the picture, label) of the rows from `start`."""
    answer, _ = _rows(source, start, _PAGE)
    return [
        (int(row["row_idx"]), _image_bytes(row["row"][image]["src"]), int(row["row"][label])) for row in answer["rows"]
    ]


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
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        content = answer.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError("an answer of more than 30 MB")
        return content, answer.headers


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
        with np.load(path, allow_pickle=False) as packed:
            content, ends = packed["content"].tobytes(), packed["ends"].tolist()
            starts = [0, *ends[:-1]]
            return Packed(
                [content[start:end] for start, end in zip(starts, ends, strict=True)],
                packed["labels"].astype(np.int64),
                packed["split"],
                tuple(str(name) for name in packed["ids"]),
                str(packed["revision"]),
            )
    except DAMAGE:
        return None


def _write(path: Path, packed: Packed) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez(
                file,
                content=np.frombuffer(b"".join(packed.encoded), np.uint8),
                ends=np.cumsum([len(content) for content in packed.encoded]),
                labels=packed.labels,
                split=packed.split,
                ids=np.array(packed.ids),
                revision=np.array(packed.revision),
            )
    except OSError as error:
        raise StorageError(f"The fetched pictures cannot be kept in {path.parent}: {error.strerror}.") from None


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answered {error.code}"
    reason = getattr(error, "reason", None)
    return str(reason or error or type(error).__name__)[:200]
