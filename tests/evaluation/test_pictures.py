"""Picture files of every kind that people have, read as a viewer shows them."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from neuromerge.errors import LimitError, NeuroMergeError, SettingError
from neuromerge.evaluation.pictures import FORMATS, as_rgb, read_picture

RAMP = np.tile(np.linspace(0, 255, 32).round().astype(np.uint8), (24, 1))
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(image, kind="PNG", **options):
    picture = read_picture(encoded(image, kind, **options))
    assert picture.mode == "RGB"
    return np.asarray(picture)


def grey(values):
    return np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_stand_upright(kind, orientation):
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste("red", (0, 0, 16, 8))
    turn = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = read(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    assert pixels.shape == (24, 40, 3)
    assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 3


def test_turning_twice_is_turning_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = Image.open(io.BytesIO(encoded(Image.new("RGB", (8, 4)), "JPEG", exif=exif)))
    assert as_rgb(as_rgb(opened)).size == (4, 8)


def test_an_unreadable_tag_does_not_lose_the_picture():
    damaged = encoded(Image.fromarray(COLOURS), exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert np.array_equal(np.asarray(read_picture(damaged)), COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_levels(kind):
    assert np.array_equal(read(Image.fromarray(RAMP.astype(np.uint16) * 257), kind), grey(RAMP))


def test_a_dark_picture_of_sixteen_bits_stays_dark():
    assert read(Image.fromarray(np.full((4, 4), 2_570, np.uint16))).max() == 10


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP.astype(np.float32) / 255, RAMP),
        (RAMP.astype(np.float32), RAMP),
        (RAMP.astype(np.float32) * 257, RAMP),
        (RAMP.astype(np.int32), RAMP),
        (RAMP.astype(np.int32) * 257, RAMP),
        (RAMP.astype(np.int32) * 70_000, RAMP),
        (RAMP.astype(np.float32) * 8 - 1_000, RAMP),  # as in tomography: its own range
        (np.full((4, 4), -7.0, np.float32), np.zeros((4, 4), np.uint8)),
    ],
)
def test_integers_and_floats_find_their_range(values, expected):
    assert np.abs(read(Image.fromarray(values), "TIFF").astype(int) - grey(expected)).max() <= 1


def test_values_that_are_not_finite_are_refused():
    values = RAMP.astype(np.float32)
    values[0, 0] = np.nan
    with pytest.raises(SettingError, match="not finite"):
        read(Image.fromarray(values), "TIFF")


def test_tiff_where_black_is_the_highest_level():
    tags = ImageFileDirectory_v2()
    tags[262] = 0
    stored = encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF", tiffinfo=tags)
    opened = Image.open(io.BytesIO(stored))
    assert opened.tag_v2[262] == 0, "the test's own file"
    assert np.array_equal(np.asarray(read_picture(stored)), grey(255 - RAMP))


def test_what_is_transparent_is_white():
    for mode in ("RGBA", "LA"):
        layer = Image.new(mode, (4, 2))
        layer.paste(Image.new(mode, (2, 2), (9, 9, 9, 255)[-len(mode) :]), (0, 0))
        pixels = read(layer)
        assert (pixels[:, :2] == 9).all()
        assert (pixels[:, 2:] == 255).all()
    half = read(Image.new("RGBA", (2, 2), (0, 0, 0, 128)))
    assert abs(int(half[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_one_transparent_colour_is_white(mode, kind):
    image = Image.new("RGB", (4, 2), "black")
    image.paste("red", (2, 0, 4, 2))
    image = image.convert(mode) if mode != "P" else image.quantize(4)
    if kind == "GIF":
        image = image.quantize(4)
    pixels = read(image, kind, transparency=image.getpixel((0, 0)))
    assert (pixels[:, :2] == 255).all()
    assert (pixels[:, 2:] < 255).any()


def test_one_transparent_level_of_sixteen_bits_is_white():
    image = Image.fromarray(np.array([[500, 30_000]], np.uint16))
    assert read(image, transparency=500)[0, :, 0].tolist() == [255, round(30_000 / 257)]


def test_palette_cmyk_and_one_bit():
    colours = Image.fromarray(COLOURS)
    palette = colours.quantize(256)
    assert np.array_equal(read(palette, "GIF"), np.asarray(palette.convert("RGB")))
    red = read(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(red.astype(int) - (255, 0, 0)).max() < 6
    bits = Image.fromarray(RAMP > 100)
    assert np.array_equal(read(bits), grey(np.where(RAMP > 100, 255, 0)))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_shown(kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (read(frames[0], kind, save_all=True, append_images=frames[1:], **options) == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_pictures_that_are_cut_short_are_refused(kind):
    whole = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    assert read_picture(whole).size == (64, 64)
    for length in (len(whole) // 2, 20, 0):
        with pytest.raises(SettingError, match="could not be read as a picture"):
            read_picture(whole[:length])


def test_other_formats_are_not_tried():
    for kind in ("PDF", "EPS", "ICO", "PCX", "TGA"):
        with pytest.raises(SettingError, match="none of PNG, JPEG"):
            read_picture(encoded(Image.new("RGB", (16, 16)), kind))
    tiff = encoded(Image.new("RGB", (8, 8)), "TIFF")
    with pytest.raises(SettingError, match="none of PNG, BMP"):
        read_picture(tiff, formats=("BMP", "PNG", "EPS"))
    assert "EPS" not in FORMATS


def test_too_many_pixels_are_refused_before_they_are_decoded():
    with pytest.raises(LimitError, match="at most 0 megapixels"):
        read_picture(encoded(Image.new("1", (100, 100))), most_pixels=9_999)


def test_large_photographs_are_decoded_smaller():
    wide = Image.linear_gradient("L").resize((4_400, 2_200))
    small = read_picture(encoded(wide, "JPEG"))
    assert small.size == (2_200, 1_100)
    expected = np.asarray(wide.resize(small.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(small)[..., 0] - expected).mean() < 2
    assert read_picture(encoded(wide.resize((2_000, 1_900)), "JPEG")).size == (2_000, 1_900)


def test_other_large_pictures_are_made_smaller_once_decoded():
    wide = Image.linear_gradient("L").resize((6_400, 3_200))
    small = read_picture(encoded(wide))
    assert small.size == (2_134, 1_067)
    expected = np.asarray(wide.resize(small.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(small)[..., 0] - expected).mean() < 2
    assert read_picture(encoded(wide.resize((2_000, 1_900)))).size == (2_000, 1_900)
    assert read_picture(encoded(wide.resize((9_000, 500)))).size == (9_000, 500)


@pytest.mark.parametrize("size", [(70_000, 20), (20, 70_000)])
def test_what_is_too_long_is_refused_before_it_is_decoded(size):
    with pytest.raises(LimitError, match=f"{size[0]} x {size[1]} pixels; at most 65,500"):
        read_picture(encoded(Image.new("1", size)))


@pytest.mark.parametrize("large", [False, True])
def test_a_jpeg_of_endless_scans_is_refused_unread(large):
    whole = encoded(Image.new("RGB", (2_200, 2_200) if large else (80, 80)), "JPEG", progressive=True)
    assert read_picture(whole).mode == "RGB"
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    with pytest.raises(LimitError, match=r"a JPEG of 2\d,\d{3} scans"):
        read_picture(whole[:-2] + scan * 20_000 + whole[-2:])


def test_a_pipe_and_a_missing_file_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(SettingError, match="no file of a picture"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(SettingError, match="no longer there"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(NeuroMergeError):
        read_picture(tmp_path / "b\x00.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_damaged_bytes_give_a_picture_or_an_error_of_ours(kind):
    exif = Image.Exif()
    exif[0x0112] = 3
    options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") else {}
    whole = encoded(Image.fromarray(COLOURS), kind, **options)
    numbers = np.random.default_rng(7)
    readable = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in numbers.integers(0, min(len(whole), 400), 3):
            damaged[place] = numbers.integers(0, 256)
        try:
            picture = read_picture(bytes(damaged), most_pixels=1_000_000)
        except NeuroMergeError:
            continue
        readable += 1
        assert picture.mode == "RGB"
    assert readable < 150
