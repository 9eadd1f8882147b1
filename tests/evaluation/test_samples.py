"""Sample sets: bundled, in folders, and from a stand-in for the Hub's dataset viewer."""

from __future__ import annotations

import io
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from neuromerge.errors import AssetError, SettingError, SourceUnavailableError
from neuromerge.evaluation import hub, preprocessing
from neuromerge.evaluation.configuration import Preprocessing
from neuromerge.evaluation.families import get_family
from neuromerge.evaluation.samples import folder_samples, load_samples, prepared, quick_indices
from neuromerge.progress import Job

ROWS = 1234


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundled family of two tasks, one of them in a folder of its own."""
    monkeypatch.setenv("NEUROMERGE_ASSETS", str(tmp_path))
    folder = tmp_path / "pictoclip"
    (folder / "samples" / "mnist").mkdir(parents=True)
    classes = ["one", "two", "three"]
    tasks = {"shapes": {"classes": classes}, "digits": {"classes": classes, "samples": "samples/mnist/digits.npz"}}
    (folder / "tasks.json").write_text(json.dumps(tasks))
    rng = np.random.default_rng(0)
    for path in (folder / "samples" / "shapes.npz", folder / "samples" / "mnist" / "digits.npz"):
        np.savez(
            path,
            images=rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8),
            labels=np.arange(60) % 3,
            split=(np.arange(60) >= 25).astype(np.uint8),
            ids=np.array([f"picture {i}" for i in range(60)]),
        )
    return folder


@pytest.mark.parametrize("task", ["shapes", "digits"])
def test_bundled_splits_are_disjoint_and_quick_is_part_of_validation(bundle, task):
    validation, test = (load_samples("pictoclip", task, split) for split in ("validation", "test"))
    quick = load_samples("pictoclip", task)
    assert (len(validation), len(test), len(quick)) == (25, 35, 18)
    assert not set(validation.ids) & set(test.ids)
    assert set(quick.ids) < set(validation.ids)
    assert Counter(quick.labels.tolist()) == {0: 6, 1: 6, 2: 6}
    assert quick.ids == load_samples("pictoclip", task, "quick").ids
    for sample, image in zip(quick.ids, quick.images, strict=True):
        assert np.array_equal(image, validation.images[validation.ids.index(sample)])


def test_damaged_bundles_are_named(bundle):
    path = bundle / "samples" / "shapes.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(AssetError, match=r"shapes\.npz"):
        load_samples("pictoclip", "shapes")
    path.write_bytes(whole[:900] + b"damage" + whole[906:])
    with pytest.raises(AssetError, match=r"shapes\.npz"):
        load_samples("pictoclip", "shapes")
    path.unlink()
    with pytest.raises(AssetError, match="missing"):
        load_samples("pictoclip", "shapes")
    np.savez(path, images=np.zeros((2, 8, 8, 3), np.uint8), labels=np.array([0, 9]), split=np.zeros(2), ids=["a", "b"])
    with pytest.raises(AssetError, match="classes"):
        load_samples("pictoclip", "shapes", "validation")


def test_unknown_task_or_split(bundle):
    with pytest.raises(SettingError, match="split"):
        load_samples("pictoclip", "shapes", "train")
    with pytest.raises(SettingError, match="no task"):
        load_samples("pictoclip", "letters")


@pytest.mark.parametrize(
    ("classes", "each", "expected"), [(3, 20, 18), (10, 20, 20), (16, 5, 16), (40, 5, 16), (2, 4, 8)]
)
def test_quick_is_balanced_and_large_enough(classes, each, expected):
    labels = np.repeat(np.arange(classes), each)
    ids = [f"{i}" for i in range(len(labels))]
    chosen = quick_indices(labels, ids)
    assert len(chosen) == len(set(chosen.tolist())) == expected
    counts = Counter(labels[chosen].tolist())
    assert max(counts.values()) - min(counts.values()) == 0
    assert np.array_equal(chosen, quick_indices(labels, ids))


def test_quick_fills_up_where_a_class_is_short():
    labels = np.array([0] * 30 + [1])
    chosen = quick_indices(labels, [str(i) for i in range(31)])
    assert len(chosen) == 16
    assert 30 in chosen


def test_folder_of_pictures(family, family_folder):
    parts = {split: load_samples(family, "colours", split) for split in ("validation", "test")}
    assert len(parts["validation"]) + len(parts["test"]) == 36
    assert not set(parts["validation"].ids) & set(parts["test"].ids)
    assert parts["test"].images[0].dtype == np.uint8
    for sample, label in zip(parts["test"].ids, parts["test"].labels, strict=True):
        assert sample.startswith(parts["test"].classes[label])
    with pytest.raises(SettingError, match="none of the classes"):
        folder_samples(family_folder / "samples" / "colours", ["red", "blue"], "colours")
    with pytest.raises(SettingError, match="no folder"):
        folder_samples(family_folder / "nowhere", ["red"], "colours")


def test_prepared_pictures_are_kept_within_a_bound(family, monkeypatch):
    chosen = load_samples(family, "colours", "test")
    first = prepared(chosen, Preprocessing(24))
    assert first.shape == (len(chosen), 24, 24, 3)
    assert first.dtype == torch.uint8
    assert prepared(chosen, Preprocessing(24)) is first
    monkeypatch.setenv("NEUROMERGE_PIXEL_CACHE_MB", "0")
    other = prepared(chosen, Preprocessing(16))
    assert other.shape[1] == 16
    assert prepared(chosen, Preprocessing(16)) is other
    assert prepared(chosen, Preprocessing(24)) is not first, "the bound let go of it"


def test_prepared_pictures_follow_every_setting(family):
    chosen = load_samples(family, "colours", "test")
    hows = [
        Preprocessing(16),
        Preprocessing(16, edge=24),
        Preprocessing(16, resize_mode="squash"),
        Preprocessing(16, interpolation="nearest"),
        Preprocessing(16, resize_mode="none"),
        Preprocessing(16, resize_mode="longest"),
        Preprocessing(16, resize_mode="longest", fill=9),
        Preprocessing(16, edge=23, crop_offset="down"),
        Preprocessing(16, edge=23),
    ]
    found = [prepared(chosen, how) for how in hows]
    for how, pixels in zip(hows, found, strict=True):
        assert torch.equal(pixels, preprocessing.crop(chosen.pictures(), how))


def test_one_broken_picture_of_a_hub_set_does_not_end_the_run(viewer):
    source = get_family("clip-vit-base-patch32").task("mnist").samples
    packed = hub.load_or_fetch(source, "fetch")
    whole = len(load_samples("clip-vit-base-patch32", "mnist", "test"))
    place = int(np.flatnonzero(packed.split == 1)[3])
    content = list(packed.encoded)
    content[place] = content[place][:45]
    path = hub.cached_file(source)
    np.savez(
        path,
        content=np.frombuffer(b"".join(content), np.uint8),
        ends=np.cumsum([len(each) for each in content]),
        labels=packed.labels,
        split=packed.split,
        ids=np.array(packed.ids),
        revision=np.array("another"),
    )
    left = load_samples("clip-vit-base-patch32", "mnist", "test")
    assert len(left) == whole - 1 == len(list(left.pictures()))
    assert [skipped.name for skipped in left.skipped] == [packed.ids[place]]
    assert any("1 file is left out" in note for note in left.notes)


class Viewer(BaseHTTPRequestHandler):
    """Answers as the Hub's dataset viewer does."""

    requests: ClassVar[Counter[str]] = Counter()
    broken: ClassVar[bool] = False
    config: ClassVar[str] = ""  # the only one that it has, '' for any
    splits: ClassVar[list[dict[str, str]]] = []
    faults: ClassVar[list[tuple[int, dict[str, str]]]] = []

    def do_GET(self):
        parts = urlsplit(self.path)
        if parts.path.startswith("/api/"):
            self.send_error(404)
            return
        type(self).requests[parts.path] += 1
        if type(self).faults:
            status, headers = type(self).faults.pop()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        if parts.path == "/splits":
            content = json.dumps({"splits": type(self).splits}).encode()
        elif parts.path == "/rows" and type(self).config not in ("", parse_qs(parts.query)["config"][0]):
            self.send_response(404)
            self.end_headers()
            return
        elif parts.path == "/rows":
            query = {key: value[0] for key, value in parse_qs(parts.query).items()}
            start, count = int(query["offset"]), int(query["length"])
            here = f"http://127.0.0.1:{self.server.server_port}"
            rows = [
                {"row_idx": i, "row": {"image": {"src": f"{here}/image/{i}"}, "label": i % 10}}
                for i in range(start, min(start + count, ROWS))
            ]
            features = [
                {"name": "image", "type": {"_type": "Image"}},
                {"name": "label", "type": {"_type": "ClassLabel", "names": []}},
            ]
            content = json.dumps({"features": features, "rows": rows, "num_rows_total": ROWS}).encode()
            if type(self).broken:
                content = b"{}"
        else:
            number = int(parts.path.rsplit("/", 1)[1])
            buffer = io.BytesIO()
            Image.new("L", (28, 28), number % 256).save(buffer, "PNG")
            content = buffer.getvalue()
        self.send_response(200)
        self.send_header("X-Revision", "abc123")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def viewer(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Viewer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("NEUROMERGE_DATASETS_SERVER", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")  # has no parquet files
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    Viewer.requests.clear()
    Viewer.broken, Viewer.config, Viewer.splits, Viewer.faults = False, "", [], []
    yield Viewer
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_pictures_are_fetched_once(viewer):
    test = load_samples("clip-vit-base-patch32", "mnist", "test")
    asked = sum(viewer.requests.values())
    validation = load_samples("clip-vit-base-patch16", "mnist", "validation")
    assert sum(viewer.requests.values()) == asked, "kept, and shared between families"
    assert (len(test), len(validation)) == (hub.TEST_IMAGES, hub.VALIDATION_IMAGES)
    assert not set(test.ids) & set(validation.ids)
    assert len(set(test.ids)) == len(test)
    assert test.source == "ylecun/mnist@abc123"
    assert "commit abc123: the pinned 77f3279" in test.notes[0], "the viewer has no revisions"
    for sample, label, image in zip(test.ids, test.labels, test.images, strict=True):
        assert int(sample) % 10 == label
        assert image.shape == (28, 28, 3)
        assert image[0, 0, 0] == int(sample) % 256
    assert len(load_samples("clip-vit-base-patch32", "mnist", "quick")) == 20


def test_an_unexpected_answer_names_the_remedy(viewer, tmp_path):
    viewer.broken = True
    with pytest.raises(SourceUnavailableError, match="neuromerge models --fetch clip-vit-base-patch32"):
        load_samples("clip-vit-base-patch32", "mnist")
    assert not list(tmp_path.rglob("*.npz*")), "nothing half-fetched is kept"


def test_without_network_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path))
    with pytest.raises(SourceUnavailableError, match="neuromerge models --fetch"):
        load_samples("clip-vit-base-patch32", "dtd")  # the tests run offline
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("NEUROMERGE_DATASETS_SERVER", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailableError, match="could not be fetched"):
        load_samples("clip-vit-base-patch32", "dtd")


def test_a_damaged_cache_is_fetched_anew(viewer):
    source = get_family("clip-vit-base-patch32").task("mnist").samples
    path = hub.cached_file(source)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PK nonsense")
    assert len(load_samples("clip-vit-base-patch32", "mnist", "test")) > 100


@pytest.mark.parametrize("total", [1, 7, 400, 1880, 26_032])
def test_chosen_rows_do_not_overlap(total):
    rows, splits = hub.chosen_rows(total)
    assert len(rows) == len(splits) == len(set(rows.tolist())) == min(total, len(rows))
    assert rows[0] == 0
    assert rows[-1] == total - 1
    if total >= 500:
        assert len(rows) == 500
        assert (splits == 0).sum() == hub.VALIDATION_IMAGES


def test_both_splits_see_the_classes_of_a_set_in_their_order():
    total, classes = 19_850, 397
    rows, splits = hub.chosen_rows(total)
    labels = rows * classes // total
    assert len(set(labels[splits == 0])) >= 100
    assert len(set(labels[splits == 1])) >= 100
    seven = rows * 7 // total
    counted = [np.bincount(seven[splits == split], minlength=7) for split in (0, 1)]
    assert all(counts.max() - counts.min() <= 6 for counts in counted)


def test_the_configuration_that_holds_the_split_is_found_by_asking(viewer):
    viewer.config = "letters"
    viewer.splits = [{"config": "digits", "split": "train"}, {"config": "letters", "split": "test"}]
    assert len(load_samples("clip-vit-base-patch32", "mnist", "test")) == hub.TEST_IMAGES


def test_a_split_that_is_nowhere_is_named_with_those_that_are(viewer):
    viewer.config = "letters"
    viewer.splits = [{"config": "letters", "split": "train"}]
    with pytest.raises(SourceUnavailableError, match=r"it has no mnist/test. It has letters/train"):
        load_samples("clip-vit-base-patch32", "mnist", "test")


def test_too_many_requests_are_waited_for(viewer, monkeypatch):
    waits = []
    monkeypatch.setattr(Job, "wait", lambda job, seconds, why: waits.append(seconds))
    viewer.faults = [(429, {"Retry-After": "9"}), (503, {})]
    assert len(load_samples("clip-vit-base-patch32", "mnist", "test")) == hub.TEST_IMAGES
    assert waits == [1.0, 9.0]


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (429, {"Retry-After": "900"}, "ylecun/mnist was not fetched. Try again in 900 seconds"),
        (403, {}, "403 Forbidden"),
        (401, {}, "no public repository ylecun/mnist"),
    ],
)
def test_what_the_viewer_refuses_has_its_own_name(viewer, status, headers, said):
    viewer.faults = [(status, headers)] * 9
    with pytest.raises(SourceUnavailableError, match=said):
        load_samples("clip-vit-base-patch32", "mnist", "test")
