"""Reading picture files as people see them: upright, in colour, on white, whatever the file's own kind of pixels.

One function reads every picture of strangers, in folders, archives and the page. It names the formats it tries,
bounds what it decodes, and never lets an odd file end a run with anything but an error of this package.
"""

from __future__ import annotations

import importlib
import io
import stat
import struct
import threading
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from neuromerge.errors import LimitError, NeuroMergeError, SettingError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF")
"""Pillow's names of the formats that are read. Its other plugins, some of which start programs, are never tried."""
for _plugin in ("Avif", "Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP"):
    with suppress(ImportError):  # a Pillow without AVIF
        importlib.import_module(f"PIL.{_plugin}ImagePlugin")  # it loads no others where formats are named
MAX_PIXELS = 50_000_000
MAX_EDGE = 65_500
"""As in a JPEG. Of a longer one, what is kept for every line takes more memory than the pixels."""

# Above this many pixels a picture is made a half, a third, ... of its size, its shorter edge staying at least three
# times the largest model's (of a JPEG, so much is not even decoded), and no second one is decoded meanwhile.
_LARGE = 4_000_000
_LEAST_EDGE = 1_024
_one_large_at_a_time = threading.Lock()

# A JPEG may have any number of scans of a few bytes, each of which goes over the whole picture. Encoders make ten.
_SCAN = b"\xff\xda"
_MOST_SCANS = 100
_STRIP = 256  # lines of levels that are made numbers at once

# What Pillow's decoders raise for files that are damaged or made to be.
_DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    SyntaxError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
)
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC, _MIN_IS_WHITE = 258, 262, 0
_WIDE = ("I", "F")


def read_picture(
    source: Path | bytes, name: str = "", *, formats: Collection[str] = FORMATS, most_pixels: int = MAX_PIXELS
) -> Image.Image:
    """A picture as upright RGB, its first frame where it has several.

    Args:
        source: a file, or its bytes.
        name: what to call it in messages; the file's path where it is empty.
        formats: Pillow's names of the formats to try, some of `FORMATS`.
        most_pixels: the largest width x height, in the file's own size.

    Raises:
        SettingError: no picture in one of these formats, or a damaged one. LimitError: too many pixels.
    """
    called = name or (str(source) if isinstance(source, Path) else "This file")
    tried = [kind for kind in FORMATS if kind in formats and kind in Image.OPEN]
    try:
        if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
            raise SettingError(f"{called} is no file of a picture.")  # a pipe would keep its reader waiting
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened: Any = source if isinstance(source, Path) else io.BytesIO(source)
            with Image.open(opened, formats=[kind for kind in FORMATS if kind in formats]) as image:
                _check_size(image, called, most_pixels)
                _check_scans(image, called)
                if image.width * image.height <= _LARGE:
                    return as_rgb(_decoded(image))
                with _one_large_at_a_time:
                    return _shrunk(as_rgb(_decoded(image)))
    except NeuroMergeError:
        raise
    except Image.DecompressionBombError:
        raise LimitError(f"{called} has far too many pixels. Make the picture smaller.") from None
    except MemoryError:
        raise LimitError(f"{called} takes more memory than there is. Make the picture smaller.") from None
    except UnidentifiedImageError:
        raise SettingError(f"{called} could not be read as a picture: it is none of {', '.join(tried)}.") from None
    except FileNotFoundError:
        raise SettingError(f"{called} is no longer there.") from None
    except _DAMAGE:
        raise SettingError(f"{called} could not be read as a picture: it is damaged or cut short.") from None


def as_rgb(image: Image.Image) -> Image.Image:
    """A picture in any of Pillow's modes as upright RGB; what is transparent becomes white.

    Grey levels of 16 bits are taken as a share of 65,535 (of 4,095 in a TIFF of 12 bits). Integers of 32 bits and
    floats have no such range: the smallest of 1 (floats only), 255 and 65,535 that holds the whole picture is taken,
    else the picture's own range.

    Raises SettingError for values that are not finite.
    """
    image = _upright(image)
    if image.mode in _WIDE or image.mode.startswith("I;16"):
        return _from_levels(image)
    if image.mode in ("La", "RGBa"):  # alpha multiplied in
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _check_size(image: Image.Image, called: str, most: int) -> None:
    if image.width * image.height > most:
        raise LimitError(
            f"{called} has {image.width} x {image.height} pixels; at most {most / 1e6:.0f} megapixels are possible. "
            "Make it smaller."
        )
    if max(image.size) > MAX_EDGE:
        raise LimitError(
            f"{called} has {image.width} x {image.height} pixels; at most {MAX_EDGE:,} are possible along an edge."
        )


def _check_scans(image: Image.Image, called: str) -> None:
    file: Any = getattr(image, "fp", None)
    if image.format not in ("JPEG", "MPO") or file is None:
        return
    place = file.tell()
    file.seek(0)
    count = file.read().count(_SCAN)
    file.seek(place)
    if count > _MOST_SCANS:
        raise LimitError(f"{called} is a JPEG of {count:,} scans; at most {_MOST_SCANS} are read. Save it anew.")


def _shrunk(image: Image.Image) -> Image.Image:
    """A large picture without pixels that no model would see."""
    factor = min(image.size) // _LEAST_EDGE
    return image.reduce(factor) if factor > 1 else image


def _decoded(image: Image.Image) -> Image.Image:
    shorter = min(image.size)
    if image.width * image.height > _LARGE and image.format in ("JPEG", "MPO") and shorter > _LEAST_EDGE:
        wanted = (image.width * _LEAST_EDGE // shorter, image.height * _LEAST_EDGE // shorter)
        image.draft(image.mode, wanted)
    image.load()
    return image


def _upright(image: Image.Image) -> Image.Image:
    """`image` turned as its EXIF tag says; as it lies where the tag cannot be read."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except _DAMAGE:
        return image


def _from_levels(image: Image.Image) -> Image.Image:
    """Grey levels of more than 8 bits as RGB."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise SettingError("The picture holds values that are not finite, so its range is unknown.")
    low, high = _range_of(image, values)
    scale = 255 / max(high - low, np.finfo(np.float64).tiny)
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _STRIP):
        levels = values[top : top + _STRIP].astype(np.float64)
        grey[top : top + _STRIP] = np.clip((levels - low) * scale + 0.5, 0, 255)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:
        grey = 255 - grey
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey = np.where(values == transparent, np.uint8(255), grey)
    return Image.fromarray(grey).convert("RGB")


def _range_of(image: Image.Image, values: np.ndarray) -> tuple[float, float]:
    """What is black and what is white."""
    if image.mode.startswith("I;16"):
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
        return 0.0, 4_095.0 if tags.get(_BITS_PER_SAMPLE) in ((12,), 12) else 65_535.0
    if image.mode == "I" and image.format in ("PNG", "PPM"):
        return 0.0, 65_535.0
    low, high = float(values.min()), float(values.max())
    usual = (1.0, 255.0, 65_535.0) if image.mode == "F" else (255.0, 65_535.0)
    fitting = [top for top in usual if low >= 0 and high <= top]
    return (0.0, fitting[0]) if fitting else (low, high)
