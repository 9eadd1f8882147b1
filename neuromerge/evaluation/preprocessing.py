"""From a picture to the pixels a CLIP model takes, exactly as open_clip does it, without torchvision.

In two steps, because the first is slow and the same for every merge while the second is fast and needs four
times the memory: `crop` (decode, resize, cut out; uint8) and `normalise` (float32).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation.configuration import Preprocessing

MAX_PIXELS = 50_000_000
_INTERPOLATION = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def crop(images: Any, how: Preprocessing) -> Tensor:
    """Pictures resized and cut to the model's size.

    Args:
        images: a uint8 array or tensor (N, H, W, 3) or (H, W, 3), one PIL picture, or a sequence of pictures and
            arrays of any sizes. A uint8 batch that has the model's size passes through untouched.

    Returns:
        uint8 (N, size, size, 3).

    Raises:
        SettingError: not a picture. LimitError: more than `MAX_PIXELS` pixels.
    """
    size = how.size
    if isinstance(images, (np.ndarray, Tensor)):
        batch = torch.as_tensor(images)
        if batch.dtype == torch.uint8 and batch.ndim == 3:
            batch = batch[None]
        if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[-1] != 3:
            raise SettingError(
                f"Pictures must be uint8 of shape (N, H, W, 3), not {batch.dtype} of shape {tuple(batch.shape)}."
            )
        if tuple(batch.shape[1:3]) == (size, size):
            return batch
        images = list(batch.numpy())
    elif isinstance(images, Image.Image):
        images = [images]
    elif not isinstance(images, Sequence):
        images = list(images)
    result = torch.empty((len(images), size, size, 3), dtype=torch.uint8)
    for number, image in enumerate(images):
        result[number] = torch.from_numpy(np.array(_cut(_picture(image), how)))
    return result


def normalise(cropped: Tensor, how: Preprocessing) -> Tensor:
    """uint8 (N, size, size, 3) to float32 (N, 3, size, size): scaled to [0, 1], less `mean`, divided by `std`."""
    mean = torch.tensor(how.mean).view(1, 3, 1, 1)
    std = torch.tensor(how.std).view(1, 3, 1, 1)
    pixels = cropped.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean).div_(std)


def _picture(image: Any) -> Image.Image:
    if isinstance(image, Tensor):
        image = image.numpy()
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise SettingError(f"A picture must be uint8 of shape (H, W, 3), not {image.dtype} of {image.shape}.")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise SettingError(f"This is not a picture but a {type(image).__name__}.")
    if image.width * image.height > MAX_PIXELS or min(image.size) < 1:
        raise LimitError(f"The picture has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are taken.")
    return image


def _cut(image: Image.Image, how: Preprocessing) -> Image.Image:
    """One picture resized, cropped and in RGB; sizes and offsets rounded as torchvision rounds them."""
    resample, size = _INTERPOLATION[how.interpolation], how.size
    if how.resize_mode == "squash":
        return image.resize((size, size), resample).convert("RGB")
    width, height = image.size
    if how.resize_mode == "longest":
        scale = max(height / size, width / size)
        image = image.resize((max(round(width / scale), 1), max(round(height / scale), 1)), resample)
        return _pad_or_crop(image, size, how.fill).convert("RGB")
    short = min(width, height)
    if short != size:
        long = int(size * max(width, height) / short)
        if size * long > MAX_PIXELS:
            raise LimitError(f"A picture of {width} x {height} pixels is too long and narrow to be resized.")
        image = image.resize((size, long) if width <= height else (long, size), resample)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return image.crop((left, top, left + size, top + size)).convert("RGB")


def _pad_or_crop(image: Image.Image, size: int, fill: int) -> Image.Image:
    """`image` centred on a square of `size`, filled where it is smaller and cut where it is larger."""
    width, height = image.size
    if width < size or height < size:
        left, top = max((size - width) // 2, 0), max((size - height) // 2, 0)
        colour: Any = fill if len(image.getbands()) == 1 else (fill,) * len(image.getbands())
        padded = Image.new(image.mode, (max(width, size), max(height, size)), colour)
        padded.paste(image, (left, top))
        image = padded
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))
