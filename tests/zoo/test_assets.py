"""The shipped model folder: it loads, its figures are true, its splits are disjoint, its sizes are bounded."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neuromerge.zoo import model, splits

FOLDER = Path(os.environ.get("NEUROMERGE_ASSETS", Path(__file__).resolve().parents[2] / "assets")) / "pictoclip"
TASKS = ("digits", "letters", "flags", "animals", "food", "faces", "places", "styles")


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text())


def held_out(task: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / read("tasks.json")[task]["samples"]) as file:
        return dict(file)


@pytest.fixture(scope="module")
def clip():
    """The base as open_clip loads it, with none of our code."""
    import open_clip

    torch.set_num_threads(2)
    loaded, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}")
    return loaded.float().eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{FOLDER}")


def test_every_file_is_small() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < 10_000_000
    assert sum(path.stat().st_size for path in files) < 80_000_000
    assert sum(path.stat().st_size for path in (FOLDER / "samples").rglob("*.npz")) < 15_000_000


def test_parameters_are_few(clip) -> None:
    vision = sum(p.numel() for p in clip[0].visual.parameters())
    assert vision <= 3_500_000
    assert sum(p.numel() for p in clip[0].parameters()) <= 4_800_000


def test_preprocessing_resizes_nothing(clip) -> None:
    from PIL import Image

    from neuromerge.zoo import augment

    image = held_out("animals")["images"][0]
    expected = augment.as_tested(torch.from_numpy(image)[None])[0]
    torch.testing.assert_close(clip[1](Image.fromarray(image)), expected, rtol=0, atol=1e-5)


def test_tokens_end_with_the_largest_number(clip) -> None:
    tokens = clip[2](["a picture of a dog", "the flag of France " * 12])
    assert tokens.shape == (2, model.CONTEXT)
    end = len(clip[2].tokenizer) - 1
    assert (tokens.max(dim=1).values == end).all()
    assert tokens[1, -1] == end


@pytest.mark.parametrize("task", TASKS)
def test_experts_are_finite_vision_towers_of_the_base(task: str) -> None:
    base = load_file(FOLDER / "open_clip_model.safetensors")
    expert = load_file(FOLDER / "experts" / f"{task}.safetensors")
    assert set(expert) == {key for key in base if key.startswith("visual.")}
    for key, value in expert.items():
        assert value.dtype == torch.float16
        assert value.shape == base[key].shape
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("task", TASKS)
def test_figures_hold_on_the_shipped_pictures(clip, task: str) -> None:
    entry, described, held = read("figures.json")["tasks"][task], read("tasks.json")[task], held_out(task)
    network, _, tokenizer = clip
    base = load_file(FOLDER / "open_clip_model.safetensors")
    expert = load_file(FOLDER / "experts" / f"{task}.safetensors")
    assert entry["base"]["test"]["n"] >= 150
    assert entry["base"]["validation"]["n"] >= 100
    with torch.no_grad():
        rows = []
        for name in described["classes"]:
            prompts = [template.format(name) for template in described["templates"]]
            mean = network.encode_text(tokenizer(prompts), normalize=True).mean(0)
            rows.append(mean / mean.norm())
        head = torch.stack(rows)
        members = held["split"] == 1
        pixels = (torch.from_numpy(held["images"][members]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        for who, state in (("base", base), ("expert", {**base, **expert})):
            network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
            best = (network.encode_image(pixels, normalize=True) @ head.T).argmax(1).numpy()
            low, high = entry[who]["test"]["interval"]
            assert low <= (best == held["labels"][members]).mean() <= high
        network.load_state_dict({key: value.float() for key, value in base.items()}, strict=False)


def test_labels_fit_the_classes_and_every_split_is_there() -> None:
    for task, described in read("tasks.json").items():
        held = held_out(task)
        count = len(held["images"])
        assert held["images"].shape == (count, model.IMAGE, model.IMAGE, 3)
        assert held["images"].dtype == np.uint8
        assert len(held["labels"]) == len(held["split"]) == len(held["ids"]) == count
        assert held["labels"].min() >= 0
        assert held["labels"].max() < len(described["classes"])
        assert set(held["split"]) == {0, 1}
        assert len(set(held["ids"])) == count


def test_no_source_is_in_two_splits() -> None:
    manifest = read("manifest.json")
    trained = {digest for digests in manifest["base"].values() for digest in digests}
    trained |= {digest for digests in manifest["experts"].values() for digest in digests}
    tested: dict[str, set[str]] = {"validation": set(), "test": set()}
    for task, samples in manifest["samples"].items():
        held = held_out(task)
        for number, split in enumerate(("validation", "test")):
            assert set(samples[split]) == set(held["ids"][held["split"] == number])
            tested[split] |= set(samples[split].values())
    assert not trained & tested["validation"]
    assert not trained & tested["test"]
    assert not tested["validation"] & tested["test"]


def test_no_shipped_picture_looks_like_one_of_another_split() -> None:
    everything = [held_out(task) for task in TASKS]
    validation = np.concatenate([held["images"][held["split"] == 0] for held in everything])
    test = np.concatenate([held["images"][held["split"] == 1] for held in everything])
    assert not splits.near_duplicates(validation, test, strict=True).any()


def test_handwritten_digits_have_a_folder_and_a_notice_of_their_own() -> None:
    assert read("tasks.json")["digits"]["samples"] == "samples/mnist/digits.npz"
    assert "ShareAlike" in (FOLDER / "samples" / "mnist" / "NOTICE").read_text()


def test_the_card_tells_the_figures() -> None:
    card = (FOLDER / "README.md").read_text()
    for entry in read("figures.json")["tasks"].values():
        assert f"{100 * entry['expert']['test']['accuracy']:.1f} (" in card
