"""Data sets of small pictures in parquet files, as the Hub keeps them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def encoded(number: int) -> bytes:
    """A picture that tells its number."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8), number % 256).save(buffer, "PNG")
    return buffer.getvalue()


SMALL_PAGES = {"use_dictionary": False, "write_batch_size": 4, "data_page_size": 1}
"""How a file is written that has four pictures in a page."""


def table_of(
    labels: Any, column: str = "label", rows_in_group: int = 100, padding: int = 0, without: int = 0, **written: Any
) -> bytes:
    """A file with a picture for each of `labels`, in their order, `written` as said.

    `padding` bytes make each of them larger. Of every `without` rows the first has no picture.
    """
    drawn = np.random.default_rng(0)
    images: list[dict[str, bytes | None] | None] = [
        {"bytes": encoded(number) + drawn.bytes(padding), "path": None} for number in range(len(labels))
    ]
    if without:
        images[::without] = [None] * len(images[::without])
    buffer = io.BytesIO()
    image = pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    pq.write_table(pa.table({"image": image, column: labels}), buffer, row_group_size=rows_in_group, **written)
    return buffer.getvalue()
