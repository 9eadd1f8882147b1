"""The shipped models through this package against open_clip on the same folder, with no code of ours."""

from __future__ import annotations

import open_clip
import pytest
import torch

from neuromerge.checkpoints import load_checkpoint
from neuromerge.evaluation.families import get_family
from neuromerge.evaluation.samples import QUICK, load_samples
from neuromerge.evaluation.towers import TextModel, VisionModel


@pytest.fixture(scope="module")
def bundled():
    family = get_family("pictoclip")
    base = load_checkpoint(family.base)
    return family, VisionModel.from_checkpoint(base), TextModel.from_checkpoint(base)


@pytest.fixture(scope="module")
def theirs(bundled):
    family, _, _ = bundled
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{family.folder}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{family.folder}")


def test_equal_to_open_clip_on_shipped_pictures(bundled, theirs):
    family, vision, text = bundled
    model, preprocess, tokenizer = theirs
    for task, spec in family.tasks.items():
        samples = load_samples(family, task)
        pixels = torch.stack([preprocess(picture) for picture in samples.pictures()])
        assert torch.equal(vision.preprocess(samples.images), pixels)
        prompts = [spec.templates[-1].format(name) for name in spec.classes]
        with torch.no_grad():
            images, texts = (
                model.encode_image(pixels, normalize=True),
                model.encode_text(tokenizer(prompts), normalize=True),
            )
        torch.testing.assert_close(vision.encode(vision.crop(samples.images)), images, atol=1e-5, rtol=0)
        torch.testing.assert_close(text.encode(prompts), texts, atol=1e-5, rtol=0)
    assert text.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()), rel=1e-4)


def test_every_task_has_its_expert_and_its_pictures(bundled):
    family, vision, _ = bundled
    assert set(family.experts) == set(family.tasks)
    for task in family.tasks:
        validation, test = (load_samples(family, task, split) for split in ("validation", "test"))
        assert min(len(validation), len(test)) >= 100
        assert len(load_samples(family, task)) >= QUICK
        assert not set(validation.ids) & set(test.ids)
        vision.load(load_checkpoint(family.experts[task]), base=load_checkpoint(family.base))
    vision.load(load_checkpoint(family.base))
