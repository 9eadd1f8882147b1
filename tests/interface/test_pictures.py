from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError, SettingError
from neuromerge.exploration.results import GalleryItem, Prediction
from neuromerge.interface.components.pictures import gallery_cards, notes_below, prediction_columns
from neuromerge.interface.pictures import read_picture

LIMITS = Limits(max_upload_bytes=50_000, max_pixels=10_000)


def save(path: Path, image: Image.Image, **options: Any) -> str:
    image.save(path, **options)
    return str(path)


def test_a_picture_is_read_as_rgb_and_transparency_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 6), (255, 0, 0, 0))
    picture = read_picture(save(tmp_path / "a.png", image), LIMITS)
    assert picture.mode == "RGB"
    assert picture.size == (8, 6)
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_a_turned_photograph_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.jpg", Image.new("RGB", (20, 10)), exif=exif)
    assert read_picture(path, LIMITS).size == (10, 20)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "I;16"])
def test_every_mode_is_read(tmp_path: Path, mode: Any) -> None:
    assert read_picture(save(tmp_path / "a.png", Image.new(mode, (4, 4))), LIMITS).mode == "RGB"


def test_sixteen_bits_are_not_white(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint16) * 257, (8, 1))
    picture = read_picture(save(tmp_path / "a.png", Image.fromarray(ramp)), LIMITS)
    assert np.array_equal(np.asarray(picture)[..., 0], ramp // 257)


def test_notes_are_sentences_and_never_markup() -> None:
    assert notes_below(()) == ""
    assert (
        notes_below(("A <b> & “x”.", "B.")) == "<p class='nm-note'>A &lt;b&gt; &amp; “x”.</p><p class='nm-note'>B.</p>"
    )


def broken_files() -> Iterator[tuple[str, bytes]]:
    whole = io.BytesIO()
    Image.effect_noise((60, 60), 40).save(whole, "PNG")
    bytes_ = whole.getvalue()
    yield "empty", b""
    yield "text", b"hello, I am a picture"
    yield "cut", bytes_[: len(bytes_) // 2]
    yield "header only", bytes_[:33]
    yield "pdf", b"%PDF-1.4\n%\xe2\xe3"
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    yield "zeros", bytes(1000)


@pytest.mark.parametrize(("name", "content"), list(broken_files()))
def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(content)
    with pytest.raises(SettingError, match="could not be read as a picture"):
        read_picture(str(path), LIMITS)


@pytest.mark.parametrize("path", [None, "", 5, "/nowhere/at/all.png"])
def test_no_file_is_refused_in_words(path: object) -> None:
    with pytest.raises(SettingError):
        read_picture(path, LIMITS)


def test_large_files_and_large_pictures_are_refused(tmp_path: Path) -> None:
    big = tmp_path / "big.png"
    big.write_bytes(bytes(60_000))
    wide = save(tmp_path / "wide.png", Image.new("L", (200, 100)))
    with pytest.raises(LimitError, match="MB"):
        read_picture(str(big), LIMITS)
    with pytest.raises(LimitError, match="pixels"):
        read_picture(wide, LIMITS)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = 60_000
    header = size.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(LimitError):
        read_picture(str(path), LIMITS)


def test_names_in_cards_and_bars_are_text_not_markup() -> None:
    evil = "<img src=x onerror=alert(1)>"
    item = GalleryItem(0, np.zeros((4, 4, 3), np.uint8), evil, evil, evil, evil)
    cards = gallery_cards([item])
    bars = prediction_columns([Prediction(evil, (evil, "b"), (0.7, 0.3))])
    assert evil not in cards + bars
    assert "&lt;img" in cards
    assert "70.0 %" in bars


def test_an_empty_gallery_says_so() -> None:
    assert "Choose another filter" in gallery_cards([])
