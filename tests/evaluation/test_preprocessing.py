"""Pixels of RGB pictures equal those of open_clip and transformers, bit for bit, for every size and rule."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from neuromerge.checkpoints import image_processing
from neuromerge.checkpoints.fields import Fields
from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation import preprocessing
from neuromerge.evaluation.configuration import Preprocessing
from neuromerge.evaluation.pictures import as_rgb

SIZES = [(32, 32), (48, 32), (33, 47), (100, 31), (7, 5), (224, 225), (32, 500)]


def picture(width, height, mode="RGB"):
    noise = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(noise, "RGBA").convert(mode)


def both(image, how):
    cfg = PreprocessCfg(
        size=how.size,
        mean=how.mean,
        std=how.std,
        interpolation=how.interpolation,
        resize_mode=how.resize_mode,
        fill_color=how.fill,
    )
    expected = image_transform_v2(cfg, is_train=False)(image)
    got = preprocessing.normalise(preprocessing.crop(image, how), how)[0]
    return got, expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_equal_to_open_clip(size, interpolation, resize_mode):
    how = Preprocessing(32, interpolation=interpolation, resize_mode=resize_mode, fill=7)
    got, expected = both(picture(*size), how)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "CMYK", "P", "1"])
def test_other_modes_are_prepared_as_the_rgb_picture_that_people_see(mode):
    """open_clip and transformers drop what is transparent, which shows the colours that lie under it."""
    given, how = picture(50, 40, mode), Preprocessing(24, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    got, _ = both(given, how)
    _, expected = both(as_rgb(given), how)
    assert torch.equal(got, expected)


# Settings of transformers' image processors that CLIP models really have.
PROCESSORS = [
    {},
    {"size": {"shortest_edge": 40}},
    {"size": 20, "crop_size": 31},
    {"size": {"height": 32, "width": 32}, "do_center_crop": False},
    {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}},
    {"do_resize": False},
    {"do_normalize": False},
    {"do_rescale": False},
    {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
    *({"resample": number} for number in range(6)),
]


@pytest.mark.parametrize("settings", PROCESSORS, ids=str)
@pytest.mark.parametrize("size", [*SIZES, (33, 32), (31, 60)])
def test_equal_to_transformers(settings, size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    whole = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, **settings}
    theirs = CLIPImageProcessorPil(**whole)
    how = image_processing.from_transformers(Fields(theirs.to_dict(), "file"), 32)
    image = picture(*size)
    expected = torch.from_numpy(np.asarray(theirs(image).pixel_values[0]))
    got = preprocessing.normalise(preprocessing.crop(image, how), how)[0]
    torch.testing.assert_close(got, expected.float(), atol=2e-5 if how.scale < 1 else 1e-4, rtol=2e-6)
    if how.scale < 1:
        # Not one grey level differs: the rest is the rounding of float32.
        levels = [(pixels * torch.tensor(how.std).view(3, 1, 1) * 255).round() for pixels in (got, expected.float())]
        assert torch.equal(*levels)


def test_close_to_the_torchvision_processor_of_transformers():
    from transformers import CLIPImageProcessor

    settings = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    how = image_processing.from_transformers(Fields(CLIPImageProcessor(**settings).to_dict(), "file"), 32)
    image = Image.linear_gradient("L").convert("RGB").resize((75, 50))
    expected = CLIPImageProcessor(**settings)(image, return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(
        preprocessing.normalise(preprocessing.crop(image, how), how)[0], expected, atol=2.5 / 255 / 0.26, rtol=0
    )


def test_pictures_of_an_iterator_are_held_one_at_a_time():
    alive = []

    def pictures():
        for number in range(5):
            image = picture(40 + number, 30)
            alive.append(weakref.ref(image))
            yield image
            del image
            assert sum(reference() is not None for reference in alive) <= 2

    assert preprocessing.crop(pictures(), Preprocessing(16)).shape == (5, 16, 16, 3)
    assert preprocessing.crop(iter(()), Preprocessing(16)).shape == (0, 16, 16, 3)


def test_batches_of_another_size_are_resized_one_by_one():
    how = Preprocessing(16)
    batch = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    got = preprocessing.crop(batch, how)
    assert torch.equal(got, torch.cat([preprocessing.crop(Image.fromarray(image), how) for image in batch]))
    assert torch.equal(preprocessing.crop(torch.from_numpy(batch), how), got)
    ready = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    assert preprocessing.crop(ready, how) is ready, "no copy where nothing is to be done"


@pytest.mark.parametrize("bad", [np.zeros((2, 8, 8, 3)), np.zeros((8, 8), np.uint8), ["x"], [np.zeros((4, 4, 3), int)]])
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(SettingError):
        preprocessing.crop(bad, Preprocessing(16))


def test_pictures_that_would_explode_are_refused(monkeypatch):
    with pytest.raises(LimitError, match="long and narrow"):
        preprocessing.crop(picture(1, 200_000), Preprocessing(512))
    monkeypatch.setattr(preprocessing, "MAX_PIXELS", 100)
    with pytest.raises(LimitError, match="pixels"):
        preprocessing.crop(picture(20, 20), Preprocessing(16))
