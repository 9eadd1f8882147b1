"""The fast towers against open_clip's and transformers' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuromerge.checkpoints.checkpoint import load_checkpoint
from neuromerge.errors import CheckpointError, SettingError
from neuromerge.evaluation.towers import TextModel, VisionModel
from neuromerge.evaluation.towers.blocks import bound_threads
from tests.evaluation.networks import CLASSES, save_open_clip, save_transformers

TEXTS = [f"a photo of the {name}." for name in CLASSES] + ["a", "dog " * 30]


@pytest.fixture(scope="module")
def open_clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open_clip")
    return folder, save_open_clip(folder)


@pytest.fixture(scope="module")
def transformers_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformers")
    return folder, save_transformers(folder)


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(9, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_vision_equals_open_clip(tmp_path, pixels, quick_gelu):
    theirs = save_open_clip(tmp_path, quick_gelu=quick_gelu)
    ours = VisionModel.from_checkpoint(load_checkpoint(tmp_path))
    with torch.no_grad():
        close(ours.encode(pixels), theirs.encode_image(pixels, normalize=True))
        close(ours.encode(pixels, normalised=False), theirs.encode_image(pixels))


def test_vision_equals_transformers(transformers_folder, pixels):
    folder, theirs = transformers_folder
    ours = VisionModel.from_checkpoint(load_checkpoint(folder))
    with torch.no_grad():
        expected = theirs.visual_projection(theirs.vision_model(pixels).pooler_output)
    close(ours.encode(pixels, normalised=False), expected)


def test_text_equals_open_clip(open_clip_folder):
    import open_clip

    folder, theirs = open_clip_folder
    ours = TextModel.from_checkpoint(load_checkpoint(folder))
    ids = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    assert torch.equal(ours.tokenizer(TEXTS, 10), ids)
    with torch.no_grad():
        close(ours.encode(TEXTS), theirs.encode_text(ids, normalize=True))
    assert ours.logit_scale == pytest.approx(float(theirs.logit_scale.detach().exp()))


@pytest.mark.parametrize("eos", [None, 2])
def test_text_equals_transformers(tmp_path, eos):
    from transformers import AutoTokenizer

    theirs = save_transformers(tmp_path, eos=eos)
    ours = TextModel.from_checkpoint(load_checkpoint(tmp_path))
    inputs = AutoTokenizer.from_pretrained(tmp_path)(
        TEXTS, return_tensors="pt", padding="max_length", truncation=True, max_length=10
    )
    assert torch.equal(ours.tokenizer(TEXTS, 10), inputs.input_ids)
    with torch.no_grad():
        pooled = theirs.text_model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).pooler_output
        close(ours.encode(TEXTS, normalised=False), theirs.text_projection(pooled))


def test_folder_loads_in_open_clip_and_gives_the_same(open_clip_folder, pixels):
    import open_clip

    folder, _ = open_clip_folder
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    with torch.no_grad():
        close(
            VisionModel.from_checkpoint(load_checkpoint(folder)).encode(pixels),
            theirs.eval().encode_image(pixels, normalize=True),
        )


def test_weights_are_the_live_weights(open_clip_folder, pixels):
    folder, theirs = open_clip_folder
    ours = VisionModel.from_checkpoint(load_checkpoint(folder))
    assert {p.name for p in ours.parameters} == set(ours.weights)
    with torch.no_grad():
        for parameter in ours.parameters:
            assert tuple(ours.weights[parameter.name].shape) == parameter.shape
        before = ours.encode(pixels)
        for name, weight in ours.weights.items():
            if name.endswith(".k.bias"):
                continue  # adds the same to every score of a softmax, so it changes nothing
            kept = weight.clone()
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
            assert not torch.allclose(ours.encode(pixels), before, atol=1e-6), name
            weight.copy_(kept)
        assert torch.equal(ours.encode(pixels), before)
        k = ours.weights["vision.blocks.1.k.weight"]
        assert torch.equal(k, theirs.visual.transformer.resblocks[1].attn.in_proj_weight[32:64])
        assert torch.equal(ours.weights["vision.head.projection"], theirs.visual.proj.t())


def test_expert_without_configuration_takes_it_from_the_base(open_clip_folder, transformers_folder, pixels):
    for folder, _ in (open_clip_folder, transformers_folder):
        base = load_checkpoint(folder)
        expected = VisionModel.from_checkpoint(base)
        for name, weight in expected.weights.items():
            weight += 0.0 if name == "vision.head.projection" else 0.01
        tower = {k: v + 0.01 for k, v in base.items() if k.startswith(("visual.", "vision_model."))}
        tower.pop("visual.proj", None)
        expert = load_checkpoint(tower, name="expert")
        with pytest.raises(CheckpointError, match="config"):
            VisionModel.from_checkpoint(expert)
        model = VisionModel.from_checkpoint(expert, base=base)
        close(model.encode(pixels), expected.encode(pixels))
        with pytest.raises(CheckpointError, match="lacks"):
            model.load(expert)


def test_load_replaces_and_copy_does_not_share(open_clip_folder, tmp_path, pixels):
    folder, _ = open_clip_folder
    save_open_clip(tmp_path, seed=5)
    first, second = (VisionModel.from_checkpoint(load_checkpoint(path)) for path in (folder, tmp_path))
    twin = first.copy()
    twin.load(load_checkpoint(tmp_path))
    close(twin.encode(pixels), second.encode(pixels))
    assert not torch.allclose(first.encode(pixels), second.encode(pixels))


def test_uint8_batches_of_the_models_size_are_equal_to_pictures(open_clip_folder):
    from PIL import Image

    model = VisionModel.from_checkpoint(load_checkpoint(open_clip_folder[0]))
    images = np.random.default_rng(0).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    fast = model.preprocess(images)
    assert torch.equal(fast, model.preprocess([Image.fromarray(image) for image in images]))
    assert torch.equal(model.encode(torch.from_numpy(images)), model.encode(fast))


@pytest.mark.parametrize("images", [0, 1, 2, 9])
def test_cores_that_share_the_images_do_not_change_the_result(open_clip_folder, pixels, monkeypatch, images):
    model = VisionModel.from_checkpoint(load_checkpoint(open_clip_folder[0]))
    found = []
    for cores in (1, 2, 3):
        monkeypatch.setattr("neuromerge.evaluation.towers.vision.cores", lambda cores=cores: cores)
        found.append(model.encode(pixels[:images]))
    assert found[0].shape == (images, model.dimensions)
    close(found[1], found[0])
    close(found[2], found[0])


def test_chunks_do_not_change_the_result(open_clip_folder, monkeypatch, pixels):
    model = VisionModel.from_checkpoint(load_checkpoint(open_clip_folder[0]))
    whole = model.encode(pixels)
    monkeypatch.setattr(VisionModel, "chunk", 2)
    close(model.encode(pixels), whole)
    assert model.encode(pixels[:0]).shape == (0, 12)


def test_wrong_pixels_and_models_are_refused(open_clip_folder):
    folder, _ = open_clip_folder
    model = VisionModel.from_checkpoint(load_checkpoint(folder))
    with pytest.raises(SettingError, match="Pixels must be"):
        model.encode(torch.zeros(1, 3, 25, 25))
    checkpoint = load_checkpoint(folder)
    partial = {k: v for k, v in checkpoint.items() if k.startswith("visual.")}
    with pytest.raises(CheckpointError, match="text tower"):
        TextModel.from_checkpoint(load_checkpoint(partial))
    partial.pop("visual.ln_pre.weight")
    with pytest.raises(CheckpointError, match=r"norm_pre|config"):
        VisionModel.from_checkpoint(load_checkpoint(partial))


def test_threads_are_bounded(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        monkeypatch.setenv("NEUROMERGE_THREADS", "3")
        assert bound_threads() == 3
        monkeypatch.setenv("NEUROMERGE_THREADS", "many")
        with pytest.raises(SettingError, match="NEUROMERGE_THREADS"):
            bound_threads()
    finally:
        torch.set_num_threads(before)
