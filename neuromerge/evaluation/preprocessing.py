"""From a picture to the pixels a CLIP model takes, exactly as open_clip or transformers makes them of an RGB picture.

In two steps, because the first is slow and the same for every merge while the second is fast and needs four
times the memory: `crop` (decode, resize, cut out; uint8) and `normalise` (float32).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neuromerge.errors import LimitError, SettingError
from neuromerge.evaluation.configuration import Preprocessing
from neuromerge.evaluation.pictures import MAX_PIXELS, as_rgb

_INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


def crop(images: Any, how: Preprocessing) -> Tensor:
    """Pictures resized and cut to the model's size.

    Args:
        images: a uint8 array or tensor (N, H, W, 3) or (H, W, 3), one PIL picture, or any number of pictures and
            arrays of any sizes; of those that an iterator makes only one is held. A uint8 batch that has the model's
            size passes through untouched.

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
        images = batch.numpy()
    elif isinstance(images, Image.Image):
        images = [images]
    cropped = [torch.from_numpy(np.array(_cut(_picture(image), how))) for image in images]
    return torch.stack(cropped) if cropped else torch.empty((0, size, size, 3), dtype=torch.uint8)


def normalise(cropped: Tensor, how: Preprocessing) -> Tensor:
    """uint8 (N, size, size, 3) to float32 (N, 3, size, size): times `scale`, less `mean`, divided by `std`."""
    mean = torch.tensor(how.mean).view(1, 3, 1, 1)
    std = torch.tensor(how.std).view(1, 3, 1, 1)
    pixels = cropped.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # Dividing gives open_clip's last bit, multiplying by 1/255 does not.
    pixels = pixels.div_(255) if how.scale == 1 / 255 else pixels.mul_(how.scale)
    return pixels.sub_(mean).div_(std)


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
    return as_rgb(image)


def _cut(image: Image.Image, how: Preprocessing) -> Image.Image:
    """One RGB picture resized and cropped; sizes rounded as torchvision and transformers round them."""
    width, height = image.size
    edge, size = how.resized_edge, how.size
    if how.resize_mode == "squash":
        wanted = (edge, edge)
    elif how.resize_mode == "longest":
        scale = max(height / edge, width / edge)
        wanted = (max(round(width / scale), 1), max(round(height / scale), 1))
    elif how.resize_mode == "shortest":
        long = int(edge * max(width, height) / min(width, height))
        wanted = (edge, long) if width <= height else (long, edge)
    else:
        wanted = image.size
    if wanted[0] * wanted[1] > MAX_PIXELS:
        raise LimitError(f"A picture of {width} x {height} pixels is too long and narrow to be resized.")
    if wanted != image.size:
        image = image.resize(wanted, _INTERPOLATION[how.interpolation])
    left, top = (_offset(length, size, how.crop_offset) for length in image.size)
    if (left, top) == (0, 0) and image.size == (size, size):
        return image
    if left >= 0 and top >= 0:
        return image.crop((left, top, left + size, top + size))
    framed = Image.new("RGB", (size, size), (how.fill,) * 3)
    framed.paste(image, (-left, -top))
    return framed


def _offset(length: int, size: int, rounding: str) -> int:
    """Where a crop of `size` begins in the middle of `length`; below 0 the width of a margin."""
    if rounding == "down":
        return (length - size) // 2
    return round((length - size) / 2) if length >= size else -((size - length) // 2)
