"""What base and experts say of pictures outlives the process, under commits of the Hub or hashes of the files."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuromerge.engine import embeddings
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.executor import Executor
from neuromerge.engine.models import LIVE_PRODUCTS, Models
from neuromerge.evaluation.families import Family, families, local_family
from neuromerge.evaluation.towers import VisionModel
from neuromerge.exploration import scores
from neuromerge.exploration.results import AccuracyBoard
from neuromerge.exploration.workspace import Workspace
from neuromerge.progress import UNATTENDED
from neuromerge.settings.choices import make_setting
from tests.evaluation.hub_stand_in import HubStandIn
from tests.evaluation.networks import save_transformers
from tests.interface.test_hub_whole import tiny_family


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with tiny_family(tmp_path, monkeypatch, lambda hub, name, seed: publish(hub, tmp_path, name, seed)) as running:
        yield running


def publish(hub: HubStandIn, folder: Path, name: str, seed: int) -> None:
    save_transformers(folder / f"{name}-{seed}", seed=seed)
    hub.publish(f"org/{name}", {path.name: path.read_bytes() for path in (folder / f"{name}-{seed}").iterdir()})


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures went through a network, in the order of the calls."""
    counts: list[int] = []
    encode = VisionModel.encode

    def counting(self: VisionModel, pictures: torch.Tensor) -> torch.Tensor:
        counts.append(len(pictures))
        return encode(self, pictures)

    monkeypatch.setattr(VisionModel, "encode", counting)
    return counts


def board() -> AccuracyBoard:
    """The validation board, as after a start of the app."""
    family = families()["tiny-hub"]
    workspace = Workspace({family.name: family}, cache=BoundedCache(2**26), executor=Executor(1))
    return workspace.board(make_setting(family), "validation")


def test_base_and_experts_are_measured_once_and_not_after_the_next_start(hub: HubStandIn, encoded: list[int]) -> None:
    first, all_of_them = board(), sum(encoded)
    encoded.clear()
    assert board() == first
    merged = first.looked_at
    assert sum(encoded) == merged, "the merge alone"
    assert all_of_them == 3 * merged


def test_another_commit_is_measured_anew(hub: HubStandIn, encoded: list[int], tmp_path: Path) -> None:
    first = board()
    publish(hub, tmp_path, "one", 7)
    encoded.clear()
    board()
    assert sum(encoded) == first.looked_at + first.expert["one"].n


def test_what_is_kept_and_damaged_is_measured_anew(hub: HubStandIn, encoded: list[int], tmp_path: Path) -> None:
    first = board()
    kept = list((tmp_path / "kept" / "embeddings").glob("*.npz"))
    assert len(kept) == 4, "base and expert on each task's pictures"
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    kept[1].write_bytes(b"")
    assert board() == first


@pytest.fixture
def local(tiny: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The tiny family in a folder of its own, and nothing kept yet."""
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path / "kept"))
    assert tiny.folder is not None
    shutil.copytree(tiny.folder, tmp_path / "family")
    return local_family(tmp_path / "family", allowed=True)


def local_board(family: Family, live_products: float = 1.0) -> AccuracyBoard:
    """The validation board after a start of the app, as of a family whose models are large."""
    stages = Workspace({family.name: family}, executor=Executor(1)).engine.of(family.name).stages
    models = Models(family, stages, BoundedCache(2**26), Executor(1), live_products=live_products)
    return scores.board(models, make_setting(family), "validation", None, None, "", UNATTENDED)


def in_its_place(path: Path, content: bytes) -> None:
    """Other content of the same length and time."""
    now = path.stat()
    assert now.st_size == len(content)
    assert path.read_bytes() != content
    path.write_bytes(content)
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns))


def test_base_and_experts_on_this_machine_are_measured_once(local: Family, encoded: list[int], tmp_path: Path) -> None:
    first = local_board(local)
    encoded.clear()
    assert local_board(local) == first
    assert sum(encoded) == first.looked_at, "the merge alone"
    (tmp_path / "family").rename(tmp_path / "elsewhere")
    encoded.clear()
    local_board(local_family(tmp_path / "elsewhere", allowed=True))
    assert sum(encoded) == first.looked_at, "where the files lie does not matter"


def test_other_weights_in_the_same_file_are_measured_anew(local: Family, encoded: list[int]) -> None:
    first = local_board(local)
    path = local.folder / "experts" / "shapes.safetensors"
    content = bytearray(path.read_bytes())
    content[-len(content) // 2] ^= 1
    in_its_place(path, bytes(content))
    encoded.clear()
    local_board(local)
    assert sum(encoded) == first.looked_at + first.expert["shapes"].n


def test_another_picture_in_the_same_file_is_looked_at_anew(local: Family, encoded: list[int]) -> None:
    first = local_board(local)
    one, *_ = sorted((local.folder / "samples" / "signs" / "validation").rglob("*.png"))
    plain = io.BytesIO()
    Image.new("RGB", (24, 24), (200, 10, 10)).save(plain, "png")
    short = plain.getvalue()
    in_its_place(one, short + bytes(one.stat().st_size - len(short)))
    encoded.clear()
    local_board(local)
    assert sum(encoded) == first.looked_at + first.base["signs"].n + first.expert["signs"].n


def test_of_small_models_nothing_is_kept(local: Family, tmp_path: Path) -> None:
    local_board(local, live_products=LIVE_PRODUCTS)
    assert not (tmp_path / "kept" / "embeddings").exists()


def test_the_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path))
    monkeypatch.setattr(embeddings, "MOST_BYTES", 10_000)
    some = embeddings.Embeddings(np.arange(10), torch.ones(10, 64))
    paths = [embeddings.kept_at("model", number) for number in range(6)]
    for path in paths:
        embeddings.write(path, some)
    assert sum(path.stat().st_size for path in paths if path.exists()) <= 10_000
    assert paths[-1].exists()
    found = embeddings.read(paths[-1])
    assert found is not None
    assert torch.equal(found.values, some.values)
