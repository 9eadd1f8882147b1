"""Pixels equal open_clip's, bit for bit, for every size, mode and resize rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation import preprocessing
from neuromerge.evaluation.configuration import Preprocessing

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
def test_equal_in_other_modes(mode):
    got, expected = both(picture(50, 40, mode), Preprocessing(24, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    assert torch.equal(got, expected)


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
