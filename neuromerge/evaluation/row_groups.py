"""Rows of one row group of a parquet file on the Hub: of all of it, or of its beginning.

A group keeps all its pictures, then all its labels. Its beginning is two ranges of its file, one of each. pyarrow reads
them as if the rest were there; where it asks for more, the beginning has ended. Pictures stand in pages, each of them
compressed as one: a page that is cut off gives none.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any

from neuromerge.evaluation.picture_files import NO_LABEL, Row
from neuromerge.hub import answers
from neuromerge.progress import Job

MOST_LABELS = 2_000_000
"""Bytes of the labels of a beginning, unless their dictionary is larger: a page holds about one million."""
REQUESTS = 2
"""Of a beginning: one for pictures, one for labels."""
LOOK = 1 << 16
"""Bytes that tell how large the first page is."""
_AT_ONCE = 1 << 14
"""Bytes of a page that pyarrow looks for its header in."""
_MOST_POINTERS = 1 << 20
"""Bytes of the first page that points into a dictionary."""


@dataclass(frozen=True)
class Chunk:
    """Where a row group keeps `rows` of a column: `nbytes` of its file from `start`.

    A dictionary stands before the values, of 0 bytes where there is none.
    """

    start: int
    nbytes: int
    dictionary: int
    rows: int

    def head(self, page: int) -> int:
        """Bytes that bring the first values, where the first page without a dictionary ends after `page`.

        With one: all of it, and a page that points into it.
        """
        pointers = _AT_ONCE + min(4 * self.rows, _MOST_POINTERS)
        return min(self.dictionary + pointers if self.dictionary else page, self.nbytes)


@dataclass(frozen=True)
class RowGroup:
    """One row group of one file; `image` and `label` are columns, `file` is what `table` is read from."""

    file: Any
    table: Any
    number: int
    name: str
    image: str
    label: str

    @property
    def key(self) -> str:
        """What is read, for the name of a part."""
        return self.name

    @cached_property
    def rows(self) -> int:
        """How many there are."""
        return int(self._facts.num_rows)

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the group in its file."""
        return sum(int(self._facts.column(place).total_compressed_size) for place in range(self._facts.num_columns))

    @cached_property
    def pictures(self) -> Chunk:
        """Where the pictures are. Raises ValueError where the column has none."""
        return self._chunk(f"{self.image}.bytes")

    @cached_property
    def labels(self) -> Chunk:
        """Where the labels are. Raises ValueError where the column is not of numbers."""
        return self._chunk(self.label)

    @property
    def label_bytes(self) -> int:
        """Bytes of the labels that a beginning brings."""
        return max(min(self.labels.nbytes, MOST_LABELS), self.labels.head(0))

    def first_page(self, job: Job) -> int:
        """Bytes after which its first page of pictures has ended, by one request of at most LOOK bytes."""
        nbytes = min(LOOK, self.pictures.nbytes)
        try:
            next(self._batches([self._piece(self.pictures.start, nbytes, job)], f"{self.image}.bytes"), None)
        except _Beyond as asked:
            return asked.end - self.pictures.start
        return nbytes

    def read(self, job: Job) -> list[Row]:
        """Its rows, in order."""
        columns = [self.image, self.label]
        return self._rows(answers.patiently(partial(self.table.read_row_group, self.number, columns=columns), job), 0)

    def first_rows(self, nbytes: int, most: int, job: Job) -> list[Row]:
        """At most `most` of its first rows, as many as `nbytes` of the pictures hold: none where a page is larger."""
        pictures = self._piece(self.pictures.start, min(nbytes, self.pictures.nbytes), job)
        labels = self._piece(self.labels.start, self.label_bytes, job)
        found: list[Row] = []
        with contextlib.suppress(_Beyond):
            batches = self._batches([pictures, labels], f"{self.image}.bytes", self.label)
            for row, batch in enumerate(islice(batches, most)):
                found += self._rows(batch, row)
        return found

    def _rows(self, columns: Any, first: int) -> list[Row]:
        """The rows of a table that starts with the row `first`; see `picture_files.Row` for what one may lack."""
        pictures = [(entry and entry["bytes"]) or b"" for entry in columns.column(self.image).to_pylist()]
        labels = [NO_LABEL if label is None else int(label) for label in columns.column(self.label).to_pylist()]
        return list(zip(range(first, first + len(labels)), pictures, labels, strict=True))

    def _batches(self, pieces: Sequence[tuple[int, bytes]], *columns: str) -> Iterator[Any]:
        """Tables of one row each. Raises _Beyond at the first that needs more than the pieces of the file."""
        import pyarrow.parquet as pq

        there = _Pieces(self.file.size, pieces)
        table = pq.ParquetFile(there, metadata=self.table.metadata, buffer_size=_AT_ONCE, pre_buffer=False)
        batches: Iterator[Any] = table.iter_batches(1, [self.number], list(columns), use_threads=False)
        return batches

    def _piece(self, start: int, nbytes: int, job: Job) -> tuple[int, bytes]:
        def ask() -> bytes:
            self.file.seek(start)
            return bytes(self.file.read(nbytes))

        return start, answers.patiently(ask, job)

    @property
    def _facts(self) -> Any:
        return self.table.metadata.row_group(self.number)

    def _chunk(self, path: str) -> Chunk:
        for column in map(self._facts.column, range(self._facts.num_columns)):
            if column.path_in_schema == path:
                values, dictionary = int(column.data_page_offset), int(column.dictionary_page_offset or 0)
                start = dictionary if 0 < dictionary < values else values
                return Chunk(start, int(column.total_compressed_size), values - start, self.rows)
        raise ValueError(f"its files have no column {path}")


@dataclass(frozen=True)
class Beginning:
    """The first rows of a row group: at most `rows`, as many as `nbytes` of its pictures hold."""

    group: RowGroup
    nbytes: int
    rows: int

    @property
    def name(self) -> str:
        """That of the group."""
        return self.group.name

    @property
    def key(self) -> str:
        """What is read, for the name of a part."""
        return f"{self.name}, at most {self.rows} rows of {self.nbytes} bytes"

    def read(self, job: Job) -> list[Row]:
        """Its rows, in order."""
        return self.group.first_rows(self.nbytes, self.rows, job)


class _Beyond(Exception):
    """Something was asked for that is not there, up to `end`."""

    def __init__(self, end: int) -> None:
        super().__init__(f"up to {end}")
        self.end = end


class _Pieces(io.RawIOBase):
    """A file of `size` bytes of which only pieces are there, each with the place where it starts."""

    def __init__(self, size: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        self._size, self._pieces, self._at = size, pieces, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """All that is asked for, from one piece. Raises _Beyond."""
        end = min(self._at + size, self._size) if size >= 0 else self._size
        for start, content in self._pieces:
            if start <= self._at and end <= start + len(content):
                found = content[self._at - start : end - start]
                self._at = end
                return found
        raise _Beyond(end)
