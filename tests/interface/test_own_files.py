"""What visitors bring along: archives of pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError, SettingError
from neuromerge.interface.pictures import archive_limits, own_source
from tests.interface.conftest import Visitor


def archive_of_classes(path: Path, each: int = 2) -> Path:
    """A zip with the classes cat and dog, and a file that is no picture."""
    picture = path.with_suffix(".png")
    Image.new("RGB", (16, 16), "red").save(picture)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("cat", "dog"):
            for number in range(each):
                archive.write(picture, f"pets/{name}/{number}.png")
        archive.writestr("pets/cat/torn.png", b"no picture")
    return path


def test_an_upload_comes_before_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_source("/tmp/a.zip", "~/x") == "/tmp/a.zip"
    assert own_source(None, " ~/x ") == str(Path("~/x").expanduser())
    for nothing in (None, "", "  ", 3):
        with pytest.raises(SettingError, match="Add a zip archive"):
            own_source(None, nothing)
    monkeypatch.setenv("NEUROMERGE_PUBLIC", "1")
    assert own_source("/tmp/a.zip", "") == "/tmp/a.zip"
    with pytest.raises(LimitError, match="Folders of this machine"):
        own_source(None, "/etc")
    monkeypatch.setenv("NEUROMERGE_OWN_PICTURES", "0")
    with pytest.raises(LimitError, match="not taken here"):
        own_source("/tmp/a.zip", "")


def test_limits_of_a_deployment_bound_its_archives() -> None:
    found = archive_limits(Limits(max_archive_bytes=1_000))
    assert (found.archive_bytes, found.total_bytes, found.entry_bytes) == (1_000, 2_000, 1_000)


def test_an_archive_is_measured_and_follows_the_controls(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    from playwright.sync_api import expect

    visitor = visit()
    page = visitor.open(tab="Zero-shot")
    visitor.drawn("confusion")
    page.locator("#measure-own").click()
    expect(page.locator(".toast-body").filter(has_text="Add a zip archive")).to_be_visible()
    page.locator("#own-archive input[type=file]").set_input_files(str(archive_of_classes(tmp_path / "pets.zip")))
    board = page.locator("#own-board")
    expect(board.locator("caption")).to_contain_text("pets.zip: accuracy on 4 pictures")
    expect(board.locator("tbody tr")).to_have_count(10)
    expect(board).to_contain_text("cat 2, dog 2")
    expect(board).to_contain_text("cat/torn.png")
    page.locator("#preset-ties").click()
    expect(board.locator("caption")).to_contain_text("TIES")
    page.locator("#own-archive").get_by_label("Remove this file").or_(
        page.locator("#own-archive").get_by_label("Clear")
    ).first.click()
    expect(board.locator("table")).to_have_count(0)


def test_a_hostile_archive_is_a_sentence(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    from playwright.sync_api import expect

    path = archive_of_classes(tmp_path / "pets.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside/x.png", b"x")
    page = visit().open(tab="Zero-shot")
    page.locator("#own-archive input[type=file]").set_input_files(str(path))
    expect(page.locator(".toast-body").filter(has_text="leads outside")).to_be_visible()
