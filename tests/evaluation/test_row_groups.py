"""Of row groups that are too large to fetch, the beginnings of several: within both bounds, original bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromerge.errors import Cancelled
from neuromerge.evaluation import hub as pictures
from neuromerge.evaluation import parquet, row_groups
from neuromerge.evaluation.families import SampleSource
from neuromerge.evaluation.picture_files import Parts
from neuromerge.progress import Job
from tests.evaluation.hub_stand_in import HubStandIn, served
from tests.evaluation.parquet_files import SMALL_PAGES, encoded, table_of

SOURCE = SampleSource("hub", "org/set", config="digits")
BOUND = 2_000_000
FOOTER = 1 << 16
LISTS = 20_000
"""Bytes that listings have at most here."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(parquet, "MOST_BYTES", BOUND)
    with served(monkeypatch, tmp_path / "cache") as running:
        yield running


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path / "kept" / "set.npz")


def publish(hub: HubStandIn, labels: np.ndarray, files: int = 1, **written: Any) -> str:
    names = [f"digits/test-{place:05}-of-{files:05}.parquet" for place in range(files)]
    tables = [table_of(part, **written) for part in np.array_split(labels, files)]
    return hub.publish("datasets.org/set", dict(zip(names, tables, strict=True)))


def seen(found: parquet.Rows | None, labels: np.ndarray, rows_in_group: int, files: int = 1) -> dict[int, int]:
    """How many rows were read of each group, all of them with their own picture and label."""
    assert found is not None
    assert len(found.encoded) == len(found.labels) == len(set(found.ids)) > 0
    count: dict[int, int] = {}
    in_file = len(labels) // files
    for content, label, name in zip(found.encoded, found.labels, found.ids, strict=True):
        file, place = name.split("/")
        group, row = map(int, place.split(":"))
        within = group * rows_in_group + row
        assert labels[int(file.split("-")[1]) * in_file + within] == label
        assert content.startswith(encoded(within))
        groups_before = int(file.split("-")[1]) * -(-in_file // rows_in_group)
        count[groups_before + group] = count.get(groups_before + group, 0) + 1
    return count


def requests(hub: HubStandIn) -> int:
    """Those for the data set: the Hub's library may ask for something of its own, once in a process."""
    return sum("org/set" in path for path in hub.asked)


def assert_within_bounds(hub: HubStandIn, files: int = 1) -> None:
    assert requests(hub) <= parquet.MOST_REQUESTS
    assert not any("/rows" in path for path in hub.asked), "not through the viewer"
    assert hub.sent <= BOUND + files * FOOTER + LISTS


@pytest.mark.parametrize("written", [SMALL_PAGES, {**SMALL_PAGES, "data_page_version": "2.0"}])
@pytest.mark.parametrize("files", [1, 2, 4])
def test_beginnings_of_several_groups_are_read_where_none_fits(hub, parts, files, written):
    labels = np.repeat(np.arange(80), 40)
    publish(hub, labels, files, rows_in_group=400, padding=8_000, **written)
    found = parquet.rows_of(SOURCE, 500, parts)
    count = seen(found, labels, 400, files)
    assert len(count) >= 5
    assert min(count.values()) >= 16
    assert_within_bounds(hub, min(files, parquet.MOST_FILES))


def test_one_group_that_is_larger_than_the_bound_is_read_from_its_beginning(hub, parts):
    labels = np.arange(600) % 10
    publish(hub, labels, rows_in_group=600, padding=8_000, **SMALL_PAGES)
    found = parquet.rows_of(SOURCE, 500, parts)
    (rows,) = seen(found, labels, 600).values()
    assert 200 <= rows < 250
    assert set(found.labels.tolist()) == set(range(10))
    assert_within_bounds(hub)
    assert requests(hub) == 8, "a listing, a footer, a look, whether there is a conversion, pictures, labels"


def test_beginnings_of_many_places_rather_than_one_or_two_whole_groups(hub, parts):
    """Seven groups of seven tenths of the bound."""
    labels = np.arange(1_120) % 10
    publish(hub, labels, rows_in_group=160, padding=8_600, **SMALL_PAGES)
    assert len(seen(parquet.rows_of(SOURCE, 500, parts), labels, 160)) >= 5
    assert_within_bounds(hub)


def test_three_whole_groups_are_enough(hub, parts):
    labels = np.arange(1_000) % 10
    publish(hub, labels, rows_in_group=100, padding=6_000, **SMALL_PAGES)
    assert set(seen(parquet.rows_of(SOURCE, 500, parts), labels, 100).values()) == {100}


def test_of_pages_larger_than_a_share_there_are_fewer_with_more_bytes(hub, parts):
    labels = np.arange(2_400) % 10
    written = {"use_dictionary": False, "write_batch_size": 100, "data_page_size": 1}
    publish(hub, labels, rows_in_group=400, padding=6_000, **written)
    count = seen(parquet.rows_of(SOURCE, 500, parts), labels, 400)
    assert len(count) == 2, "a page of 600 kB and a quarter"
    assert set(count.values()) == {100}
    assert_within_bounds(hub)


def test_a_page_that_nearly_fills_the_bound_is_read_alone(hub, parts):
    labels = np.arange(1_000) % 10
    written = {"use_dictionary": False, "write_batch_size": 200, "data_page_size": 1}
    publish(hub, labels, rows_in_group=500, padding=8_700, **written)
    assert seen(parquet.rows_of(SOURCE, 500, parts), labels, 500) == {1: 200}
    assert_within_bounds(hub)


def test_a_page_beyond_the_bound_is_not_read(hub, parts):
    """With a dictionary that is known from the footer, else a look tells it."""
    for written in ({}, {"use_dictionary": False}):
        publish(hub, np.arange(400) % 10, rows_in_group=400, padding=8_000, **written)
        hub.sent = 0
        assert parquet.rows_of(SOURCE, 500, parts) is None, "the viewer has to serve"
        assert hub.sent < 3 * FOOTER


def test_the_hubs_conversion_rather_than_one_or_two_beginnings(hub, parts):
    labels = np.arange(1_000) % 10
    written = {"use_dictionary": False, "write_batch_size": 100, "data_page_size": 1}
    own = publish(hub, labels, rows_in_group=500, padding=6_000, **written)
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    assert found.revision == own, "there is no conversion"
    converted = {"digits/test/0000.parquet": table_of(labels, rows_in_group=20, padding=6_000)}
    commit = hub.publish("datasets.org/set", converted, "refs/convert/parquet")
    hub.asked.clear()
    hub.sent = 0
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    assert found.revision == commit
    assert len({name.split(":")[0] for name in found.ids}) >= 10
    assert_within_bounds(hub, 3)


def test_dictionaries_of_pictures_are_read_whole(hub, parts):
    """As current versions of the library write: a dictionary of about a megabyte, then pages of about as much."""
    labels = np.arange(1_200) % 10
    publish(hub, labels, rows_in_group=400, padding=9_000, use_content_defined_chunking=True)
    (rows,) = seen(parquet.rows_of(SOURCE, 500, parts), labels, 400).values()
    assert rows >= 100
    assert_within_bounds(hub)


def test_rows_without_a_picture_or_a_label_come_last(hub, parts):
    labels = np.arange(1_600) % 7
    blank = [None if row % 11 == 5 else label for row, label in enumerate(labels.tolist())]
    publish(hub, np.array(blank, object), rows_in_group=800, padding=8_000, without=4, **SMALL_PAGES)
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    rows = [int(name.split(":")[1]) + 800 * int(name.split("/")[1].split(":")[0]) for name in found.ids]
    bare = [row % 4 == 0 or row % 11 == 5 for row in rows]
    assert bare == sorted(bare)
    assert bare.count(False) > 100
    assert found.labels.tolist() == [-1 if row % 11 == 5 else row % 7 for row in rows]
    assert [content == b"" for content in found.encoded] == [row % 4 == 0 for row in rows]


def test_of_tiny_pictures_no_more_rows_are_read_than_are_of_use(hub, parts):
    labels = np.arange(24_000) % 10
    publish(hub, labels, rows_in_group=8_000, padding=200, **{**SMALL_PAGES, "write_batch_size": 64})
    found = parquet.rows_of(SOURCE, 30, parts)
    count = seen(found, labels, 8_000)
    assert len(count) == 3
    assert sum(count.values()) == 30
    assert hub.sent <= 500_000


@pytest.mark.parametrize("written", [{}, {"use_dictionary": ["label"]}])
def test_of_long_columns_of_labels_the_beginning_is_enough(hub, parts, monkeypatch, written):
    monkeypatch.setattr(row_groups, "MOST_LABELS", 20_000)
    labels = np.random.default_rng(0).integers(0, 1 << 40, 16_000)
    publish(hub, labels, rows_in_group=8_000, padding=300, **{**SMALL_PAGES, "data_page_size": 10_000, **written})
    hub.sent = 0
    assert len(seen(parquet.rows_of(SOURCE, 500, parts), labels, 8_000)) == 2
    assert_within_bounds(hub)


def test_what_came_before_a_fetch_was_stopped_is_not_asked_for_again(hub):
    labels = np.arange(3_200) % 10
    publish(hub, labels, rows_in_group=400, padding=8_000, **SMALL_PAGES)

    class Stopped(Job):
        def report(self, done: int, total: int, what: str) -> None:
            if done == 4:
                self.stop()
                self.check()

    with pytest.raises(Cancelled):
        pictures.load_or_fetch(SOURCE, "fetch it", Stopped())
    first, kept = requests(hub), pictures.cached_file(SOURCE).parent
    assert len(list(kept.glob("*.part"))) == 4
    hub.asked.clear()
    found = pictures.load_or_fetch(SOURCE, "fetch it")
    assert len({name.split(":")[0] for name in found.ids}) == 6
    assert requests(hub) == first - 2 * 4 + 2 * 2, "listing, footer and look again, and the two that were missing"
    pictures.cached_file(SOURCE).unlink()
    assert pictures.load_or_fetch(SOURCE, "fetch it").ids == found.ids, "the same as without a stop"


def test_a_beginning_without_a_whole_page_gives_nothing_and_is_kept(hub, parts):
    """The page that was looked at is smaller than others."""
    large, small = ({"use_dictionary": False, "write_batch_size": 400}, SMALL_PAGES)
    tables = [
        table_of(np.full(400, label), rows_in_group=400, padding=8_000, **written)
        for label, written in enumerate((large, small, large))
    ]
    hub.publish("datasets.org/set", {f"digits/test-{place}.parquet": table for place, table in enumerate(tables)})
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    assert set(found.labels.tolist()) == {1}
    assert_within_bounds(hub, 3)
    asked = requests(hub)
    hub.asked.clear()
    parquet.rows_of(SOURCE, 500, parts)
    assert requests(hub) == asked - 2 * 3
