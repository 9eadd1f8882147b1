"""Drawing pictures as small RGBA arrays: SVG through resvg, letters through Pillow, digits from their bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 64
"""Height and width of a stored training picture in pixels (RGBA, so that any background fits behind it)."""
TEST_SIDE = 48
"""Height and width of a shipped picture: what the model sees, so that its preprocessing resizes nothing."""


def fit(picture: Image.Image, side: int = SIDE, margin: int = 2) -> np.ndarray | None:
    """Crop an RGBA picture to what is visible and centre it in a square: uint8 (side, side, 4), None if empty."""
    box = picture.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    scale = (side - 2 * margin) / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    # Resizing premultiplied colours keeps invisible pixels from bleeding into the outline.
    small = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    canvas = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    canvas.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(canvas)


def render_svg(svg: str, oversample: int = 2) -> np.ndarray | None:
    """Draw SVG text: uint8 (64, 64, 4), or None where the renderer refuses it or nothing is visible."""
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE * oversample, skip_system_fonts=True)
        with Image.open(io.BytesIO(bytes(png))) as picture:
            if picture.height > 8 * picture.width:
                return None
            return fit(picture.convert("RGBA"))
    except (ValueError, RuntimeError, OSError):
        return None


def render_glyph(font_file: str, character: str) -> np.ndarray | None:
    """Draw one character in black: uint8 (64, 64, 4), None if the font has no visible glyph for it."""
    font = ImageFont.truetype(font_file, 3 * SIDE // 2)
    canvas = Image.new("L", (4 * SIDE, 4 * SIDE), 0)
    ImageDraw.Draw(canvas).text((SIDE, SIDE), character, fill=255, font=font)
    picture = Image.new("RGBA", canvas.size, (0, 0, 0, 255))
    picture.putalpha(canvas)
    return fit(picture, margin=8)


def render_digit(ink: np.ndarray) -> np.ndarray:
    """Draw one MNIST digit (uint8 (28, 28), 255 = ink) as black ink: uint8 (64, 64, 4)."""
    alpha = Image.fromarray(ink).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    picture = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    picture[..., 3] = np.asarray(alpha)
    return picture


def on_white(picture: np.ndarray, side: int = TEST_SIDE) -> np.ndarray:
    """Compose uint8 (64, 64, 4) on white and shrink it: uint8 (side, side, 3), as the tests see it."""
    image = Image.fromarray(picture, "RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert("RGB").resize((side, side), Image.Resampling.LANCZOS))
