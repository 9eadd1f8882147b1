"""Test pictures from the parquet files of a data set: few requests, original bytes, every class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuromerge.errors import Cancelled, NeuroMergeError, SourceUnavailableError
from neuromerge.evaluation import hub as pictures
from neuromerge.evaluation import parquet, picture_files
from neuromerge.evaluation.families import SampleSource, get_family
from neuromerge.evaluation.parquet import NoSuchSplit, files_of_split, shares, spread
from neuromerge.evaluation.picture_files import Parts
from neuromerge.evaluation.samples import load_samples
from neuromerge.progress import Job
from tests.evaluation.hub_stand_in import HubStandIn, served
from tests.evaluation.parquet_files import encoded, table_of

CLASSES = 10
SOURCE = SampleSource("hub", "org/set", config="digits")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path / "kept"))
    with served(monkeypatch, tmp_path / "cache") as running:
        yield running


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path / "kept" / "set.npz")


def publish(hub: HubStandIn, labels: np.ndarray, name: str = "digits/test-00000-of-00001.parquet") -> str:
    return hub.publish("datasets.org/set", {"README.md": b"#", name: table_of(labels)})


def test_a_few_requests_bring_pictures_of_every_class_in_their_own_bytes(hub):
    labels = np.random.default_rng(0).integers(0, CLASSES, 4_000)
    commit = publish(hub, labels)
    packed = pictures.load_or_fetch(SOURCE, "fetch it")
    assert len(hub.asked) <= 20
    assert packed.revision == commit
    assert len(packed.encoded) == pictures.TEST_IMAGES + pictures.VALIDATION_IMAGES == len(set(packed.ids))
    for split, count in ((0, pictures.VALIDATION_IMAGES), (1, pictures.TEST_IMAGES)):
        of_split = packed.labels[packed.split == split]
        assert len(of_split) == count
        assert set(of_split.tolist()) == set(range(CLASSES))
    for content, label, name in zip(packed.encoded, packed.labels, packed.ids, strict=True):
        group, row = (int(part) for part in name.split("/")[1].split(":"))
        assert labels[100 * group + row] == label
        assert content == encoded(100 * group + row)
    asked = len(hub.asked)
    pictures.load_or_fetch(SOURCE, "fetch it")
    assert len(hub.asked) == asked, "kept"


def test_a_set_in_the_order_of_its_classes_is_sampled_over_the_whole_split(hub, parts):
    """By row groups, never picture by picture through the viewer."""
    publish(hub, np.repeat(np.arange(100), 40))
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    assert len(hub.asked) <= 20
    assert not any("/rows" in path for path in hub.asked)
    classes = set(found.labels.tolist())
    assert min(classes) < 15
    assert max(classes) >= 85
    assert len(classes) >= 25
    publish(hub, np.repeat(np.arange(100), 7))
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None, "the whole of a small set is read"
    assert len(set(found.labels.tolist())) == 100


@pytest.mark.parametrize(
    ("rows_in_group", "files", "kilobytes", "least"),
    [(100, 1, 1, 30), (100, 5, 1, 25), (20, 3, 1, 11), (100, 2, 60, 20), (100, 1, 200, 6), (400, 2, 30, 30)],
)
def test_sets_in_the_order_of_their_classes_in_several_layouts(
    hub, parts, monkeypatch, rows_in_group, files, kilobytes, least
):
    """A hundred classes of twenty-odd pictures; `kilobytes` are those of a picture, a tenth of them here."""
    monkeypatch.setattr(parquet, "MOST_BYTES", 6_000_000)
    labels = np.array_split(np.repeat(np.arange(100), 24), files)
    names = [f"digits/test-{place:05}-of-{files:05}.parquet" for place in range(files)]
    tables = [table_of(part, rows_in_group=rows_in_group, padding=100 * kilobytes) for part in labels]
    hub.publish("datasets.org/set", dict(zip(names, tables, strict=True)))
    hub.asked.clear()
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    assert len(hub.asked) <= parquet.MOST_REQUESTS
    assert hub.sent <= 6_500_000
    seen = set(found.labels.tolist())
    assert len(seen) >= least
    assert min(seen) <= 25
    assert max(seen) >= 75


def test_row_groups_beyond_the_bound_are_left_for_the_hubs_conversion(hub, parts, monkeypatch):
    labels = np.arange(400) % CLASSES
    own = table_of(labels, rows_in_group=400)
    hub.publish("datasets.org/set", {"digits/test-0.parquet": own})
    monkeypatch.setattr(parquet, "MOST_BYTES", len(own) // 2)
    assert parquet.rows_of(SOURCE, 500, parts) is None, "the viewer has to serve"
    commit = hub.publish("datasets.org/set", {"digits/test/0000.parquet": table_of(labels)}, "refs/convert/parquet")
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    assert found.revision == commit
    assert len(found.labels) == 100


def requests(hub: HubStandIn) -> int:
    """Those for the data set: the Hub's library may ask for something of its own, once in a process."""
    return sum("org/set" in path for path in hub.asked)


def test_three_commits_are_looked_at_within_the_bound_of_requests(hub, parts, monkeypatch):
    """Pinned, newest, and the Hub's conversion."""
    monkeypatch.setattr(parquet, "MOST_BYTES", 200_000)
    labels = np.arange(1_200) % CLASSES
    large = {f"digits/test-{place}.parquet": table_of(labels, rows_in_group=1_200, padding=200) for place in range(3)}
    pinned, _ = (hub.publish("datasets.org/set", large) for _ in range(2))
    small = {"digits/test/0000.parquet": table_of(labels, rows_in_group=10)}
    converted = hub.publish("datasets.org/set", small, "refs/convert/parquet")
    found = parquet.rows_of(replace(SOURCE, revision=pinned), 500, parts)
    assert found is not None
    assert found.revision == converted
    assert requests(hub) <= parquet.MOST_REQUESTS


def test_a_pinned_commit_that_is_the_newest_is_looked_at_once(hub, parts, monkeypatch):
    monkeypatch.setattr(parquet, "MOST_BYTES", 1_000)
    pinned = publish(hub, np.arange(400) % CLASSES)
    assert parquet.rows_of(replace(SOURCE, revision=pinned), 500, parts) is None
    assert requests(hub) == 6, "a listing and a footer, the newest commit, whether there is a conversion"


def test_what_came_before_a_fetch_was_stopped_is_not_asked_for_again(hub):
    publish(hub, np.arange(1_000) % CLASSES)
    hub.asked.clear()

    class Stopped(Job):
        def report(self, done: int, total: int, what: str) -> None:
            if done == 7:
                self.stop()
                self.check()

    with pytest.raises(Cancelled):
        pictures.load_or_fetch(SOURCE, "fetch it", Stopped())
    first, kept = list(hub.asked), pictures.cached_file(SOURCE).parent
    assert len(list(kept.glob("*.part"))) == 7
    hub.asked.clear()
    found = pictures.load_or_fetch(SOURCE, "fetch it")
    assert len(found.labels) == 500
    assert len(hub.asked) == len(first) - 7 + 3, "the listing again, and the three groups that were missing"
    assert [path.name for path in kept.iterdir()] == [pictures.cached_file(SOURCE).name]


def test_a_part_without_rows_is_kept_like_any_other(parts):
    asked: list[int] = []
    for _ in range(2):
        assert parts.of("commit test/0", lambda: asked.append(1) or []) == []
    assert asked == [1]


def test_rows_without_a_picture_or_a_label_come_last_and_are_told(hub, parts):
    labels = [None if row % 11 == 5 else row % CLASSES for row in range(220)]
    hub.publish("datasets.org/set", {"digits/test-0.parquet": table_of(labels, without=4)})
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    rows = [100 * int(group) + int(row) for group, row in (name.split("/")[1].split(":") for name in found.ids)]
    whole = [row for row in range(220) if row % 4 and row % 11 != 5]
    assert sorted(rows[: len(whole)]) == whole
    assert sorted(rows) == list(range(220))
    assert found.encoded == [encoded(row) if row % 4 else b"" for row in rows]
    assert found.labels.tolist() == [-1 if row % 11 == 5 else row % CLASSES for row in rows]
    hub.publish("datasets.org/set", {"digits/test-0.parquet": table_of(labels, without=1)})
    assert parquet.rows_of(SOURCE, 500, parts) is None, "there is none"


@pytest.mark.parametrize("unlabelled", [None, -1])
def test_what_lacks_a_picture_or_a_label_is_named(hub, unlabelled):
    labels = [unlabelled if row % 11 == 5 else row % CLASSES for row in range(220)]
    hub.publish("datasets.org/set", {"digits/test-0.parquet": table_of(labels, without=4)})
    family = get_family("clip-vit-base-patch32")
    family = replace(family, tasks={"mnist": replace(family.tasks["mnist"], samples=SOURCE)})
    found = [load_samples(family, "mnist", split) for split in ("test", "validation")]
    assert sum(map(len, found)) == sum(1 for row in range(220) if row % 4 and row % 11 != 5)
    reasons = [left.reason for samples in found for left in samples.skipped]
    assert reasons.count("it has no label") == 20
    assert len(reasons) == 220 - sum(map(len, found))
    assert all("left out" in " ".join(samples.notes) for samples in found)
    hub.publish("datasets.org/set", {"digits/test-0.parquet": table_of([unlabelled] * 220)})
    pictures.cached_file(SOURCE).unlink()
    with pytest.raises(NeuroMergeError, match=r"no labels|could not be fetched"):
        load_samples(family, "mnist", "test")


def test_a_pinned_revision_is_read_and_kept_apart(hub):
    first = publish(hub, np.arange(300) % CLASSES)
    newest = publish(hub, np.arange(400) % CLASSES)
    pinned = replace(SOURCE, revision=first)
    assert pictures.load_or_fetch(SOURCE, "fetch it").revision == newest
    assert pictures.load_or_fetch(pinned, "fetch it").revision == first
    assert pictures.cached_file(pinned) != pictures.cached_file(SOURCE)


def test_a_pinned_commit_that_is_gone_is_said_with_the_one_that_was_read(hub, monkeypatch):
    newest = publish(hub, np.arange(300) % CLASSES)
    family = get_family("clip-vit-base-patch32")
    spec = replace(family.task("mnist"), samples=replace(SOURCE, revision="0" * 40))
    found = load_samples(replace(family, tasks={"mnist": spec}), "mnist", "test")
    assert found.revision == newest
    assert f"of its commit {newest[:7]}: the pinned 0000000 is gone" in found.notes[0]
    spec = replace(spec, samples=replace(SOURCE, revision=newest))
    found = load_samples(replace(family, tasks={"mnist": spec}), "mnist", "test")
    assert found.revision == newest
    assert "pinned" not in found.notes[0]


def test_what_is_kept_is_bounded(hub, monkeypatch):
    publish(hub, np.arange(300) % CLASSES)
    pictures.load_or_fetch(SOURCE, "fetch it")
    size = pictures.cached_file(SOURCE).stat().st_size
    monkeypatch.setattr(picture_files, "MOST_KEPT", size + size // 2)
    other = replace(SOURCE, revision=hub.refs["datasets.org/set"]["main"])
    pictures.load_or_fetch(other, "fetch it")
    assert pictures.cached_file(other).exists()
    assert not pictures.cached_file(SOURCE).exists(), "the one used longest ago"


def test_the_hubs_conversion_serves_where_the_set_has_other_files(hub, parts):
    hub.publish("datasets.org/set", {"digits/test.tar": b"t"})
    converted = {"digits/test/0000.parquet": table_of(np.arange(300) % CLASSES)}
    commit = hub.publish("datasets.org/set", converted, "refs/convert/parquet")
    found = parquet.rows_of(SOURCE, 500, parts)
    assert found is not None
    assert (len(found.labels), found.revision) == (300, commit)


def test_pauses_are_waited_for_and_refusals_have_their_names(hub, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(Job, "wait", lambda job, seconds, why: waits.append(seconds))
    publish(hub, np.arange(300) % CLASSES)
    hub.faults.append(["/api/datasets/org/set", 429, {"Retry-After": "9"}, 1])
    assert len(pictures.load_or_fetch(SOURCE, "fetch it").labels) == 300
    assert waits == [9.0]
    hub.faults.append(["/api/datasets/org/gated", 403, {}, 100])
    with pytest.raises(SourceUnavailableError, match="403 Forbidden"):
        pictures.load_or_fetch(SampleSource("hub", "org/gated"), "fetch it")


@pytest.mark.parametrize(
    ("names", "config", "found"),
    [
        (
            ["data/test-0-of-2.parquet", "data/test-1-of-2.parquet", "data/train-0.parquet"],
            "default",
            2,
        ),
        (["emnist-letters/test-00000-of-00001.parquet", "emnist-mnist/test-0.parquet"], "emnist-letters", 1),
        (["default/test/0000.parquet", "default/train/0000.parquet"], "default", 1),
        (["default/partial-test/0000.parquet"], "default", 1),
        (["test.parquet", "train.parquet"], "default", 1),
        (["letters/test-0.parquet"], "default", 1),
        (["letters/train-0.parquet"], "letters", 0),
    ],
)
def test_files_of_a_split(names, config, found):
    assert len(files_of_split(names, config, "test")) == found


def test_of_several_configurations_one_has_to_be_named():
    with pytest.raises(NoSuchSplit, match="It has a/test, b/test"):
        files_of_split(["a/test-0.parquet", "b/test-0.parquet"], "default", "test")


def test_every_class_has_its_share():
    labels = np.repeat([0, 1, 2], [800, 150, 50])
    assert np.bincount(labels[shares(labels, 100)]).tolist() == pytest.approx([80, 15, 5], abs=1)
    assert sorted(shares(labels, 5_000).tolist()) == list(range(1_000))


@pytest.mark.parametrize(("count", "most"), [(1, 8), (8, 8), (9, 8), (200, 8), (3, 1)])
def test_places_are_spread(count, most):
    places = list(spread(count, most))
    assert len(places) == len(set(places)) == min(count, most)
    assert all(0 <= place < count for place in places)
