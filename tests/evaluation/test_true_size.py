"""The true ViT-B/32 shape in the Hub's layout, end to end: random base, perturbed experts, no network."""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest
import torch
from PIL import Image

import neuromerge
from neuromerge.checkpoints import load_checkpoint
from neuromerge.evaluation import accuracy
from neuromerge.evaluation.activations import layer_inputs
from neuromerge.evaluation.families import local_family
from neuromerge.evaluation.towers import TextModel, VisionModel

pytestmark = pytest.mark.slow
TASKS = ("mnist", "eurosat")  # the registry's own tasks, so that class names and templates are the real ones


def save_base_and_experts(folder):
    """A CLIPModel with default (ViT-B/32) sizes and experts as CLIPVisionModels, as on the Hub."""
    from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig()).eval()
    model.save_pretrained(folder / "base")
    preprocessor = {"crop_size": 224, "size": 224, "resample": 3, "do_center_crop": True}
    (folder / "base" / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    tower = CLIPVisionModel(model.config.vision_config).eval()
    start = {key: value.clone() for key, value in model.vision_model.state_dict().items()}
    for number, task in enumerate(TASKS):
        generator = torch.Generator().manual_seed(number)
        moved = {
            key: value + 0.02 * value.std() * torch.randn(value.shape, generator=generator)
            if value.is_floating_point() and value.numel() > 1
            else value
            for key, value in start.items()
        }
        getattr(tower, "vision_model", tower).load_state_dict(moved)
        tower.save_pretrained(folder / "experts" / task)
    return model


@pytest.fixture(scope="module")
def true_size(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit-b-32")
    model = save_base_and_experts(folder)
    rng = np.random.default_rng(0)
    for task in TASKS:
        for name in ("0", "1") if task == "mnist" else ("forest", "river"):
            (folder / "samples" / task / name).mkdir(parents=True)
            for number in range(6):
                noise = rng.integers(0, 256, (60 + number, 70, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / "samples" / task / name / f"{number}.png")
    yield local_family(folder, allowed=True), model
    gc.collect()


def test_the_whole_path(true_size, tmp_path):
    from transformers import CLIPModel

    family, theirs = true_size
    base = load_checkpoint(family.base)
    vision, text = VisionModel.from_checkpoint(base), TextModel.from_checkpoint(base)
    pixels = torch.randn(3, 3, 224, 224)
    with torch.no_grad():
        expected = theirs.visual_projection(theirs.vision_model(pixels).pooler_output)
        torch.testing.assert_close(vision.encode(pixels, normalised=False), expected, atol=1e-4, rtol=1e-4)
        ids = text.tokenizer(["a photo of a forest."], 77)
        expected = theirs.text_projection(theirs.text_model(ids).pooler_output)
        torch.testing.assert_close(
            text.encode(["a photo of a forest."], normalised=False), expected, atol=1e-4, rtol=1e-4
        )
    assert layer_inputs(vision, "block 11", "fc2", pixels).shape == (3, 3072)

    merged = neuromerge.merge(family.base, dict(family.experts), out=tmp_path / "merged")
    table = accuracy.evaluate(tmp_path / "merged", family=family, split="validation")
    assert {row.task for row in table.rows} == set(TASKS)
    assert table.mean_normalised is None or table.mean_normalised >= 0
    assert merged.path is not None

    again = CLIPModel.from_pretrained(tmp_path / "merged").eval()
    ours = VisionModel.from_checkpoint(load_checkpoint(tmp_path / "merged"))
    with torch.no_grad():
        expected = again.visual_projection(again.vision_model(pixels).pooler_output)
    torch.testing.assert_close(ours.encode(pixels, normalised=False), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours.encode(pixels), vision.encode(pixels), atol=1e-4), "the merge moved"


def test_an_open_clip_family_of_the_same_size_goes_both_ways(tmp_path):
    import open_clip
    from safetensors.torch import save_file
    from transformers import CLIPModel

    torch.manual_seed(1)
    theirs = open_clip.create_model("ViT-B-32-quickgelu").eval()
    state = {key: value.contiguous() for key, value in theirs.state_dict().items()}
    (tmp_path / "base").mkdir()
    model_cfg = open_clip.get_model_config("ViT-B-32-quickgelu")
    described = {"model_cfg": model_cfg, "preprocess_cfg": {"size": [224, 224], "mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "base" / "open_clip_config.json").write_text(json.dumps(described))
    save_file(state, tmp_path / "base" / "open_clip_model.safetensors")
    for task in TASKS:
        moved = {key: value + 0.02 * value.std() * torch.randn(value.shape) for key, value in state.items()
                 if key.startswith("visual.") and value.numel() > 1}  # fmt: skip
        save_file(moved, tmp_path / f"{task}.safetensors")

    pixels = torch.randn(3, 3, 224, 224)
    base = VisionModel.from_checkpoint(load_checkpoint(tmp_path / "base"))
    with torch.no_grad():
        torch.testing.assert_close(
            base.encode(pixels, normalised=False), theirs.encode_image(pixels), atol=1e-4, rtol=1e-4
        )
    result = neuromerge.merge(tmp_path / "base", {task: tmp_path / f"{task}.safetensors" for task in TASKS})
    for layout in ("open_clip", "transformers"):
        result.save(tmp_path / layout, layout)
    ours = VisionModel.from_checkpoint(load_checkpoint(tmp_path / "open_clip")).encode(pixels, normalised=False)
    again, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'open_clip'}")
    other = CLIPModel.from_pretrained(tmp_path / "transformers").eval()
    with torch.no_grad():
        torch.testing.assert_close(again.eval().encode_image(pixels), ours, atol=1e-4, rtol=1e-4)
        embedded = other.visual_projection(other.vision_model(pixels).pooler_output)
    torch.testing.assert_close(embedded, ours, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, base.encode(pixels, normalised=False), atol=1e-3), "the merge moved"
