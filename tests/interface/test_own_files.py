"""What visitors bring along: archives of pictures, experts, recipes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from neuromerge.deployment import Limits
from neuromerge.errors import CheckpointError, LimitError, SettingError
from neuromerge.evaluation.own_family import OwnExpert, own_name, with_own
from neuromerge.interface.app import build
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.own_models import KnownFamilies, OwnFiles
from neuromerge.interface.pictures import archive_limits, own_source
from neuromerge.settings.choices import make_setting
from neuromerge.settings.recipes import dump_recipe, parse_recipe, recipe_of, setting_of
from tests.interface.conftest import Visitor
from tests.interface.fakes import BASE_WEIGHTS, FakeWorkspace, family


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


# ------------------------------------------------------------------------------------------------ own experts
def expert(path: Path) -> Path:
    """A fine-tuned checkpoint of the fake workspace's base."""
    save_file({key: value + np.float32(0.1) for key, value in BASE_WEIGHTS.items()}, path)
    return path


def test_families_of_one_page_are_found_by_name_and_never_listed() -> None:
    known = KnownFamilies({"toy": family()})
    known.add(family("toy-own-1"))
    assert list(known) == ["toy"]
    assert "toy-own-1" in known
    known.drop("toy-own-1")
    with pytest.raises(KeyError):
        known["toy-own-1"]


def test_files_are_kept_within_a_quota_and_go_with_their_page(tmp_path: Path) -> None:
    uploads = [expert(tmp_path / f"{number}.safetensors") for number in range(4)]
    size = uploads[0].stat().st_size
    files = OwnFiles(Limits(own_checkpoints_per_page=2, own_checkpoint_bytes=3 * size))
    root = tmp_path / "root"
    first = files.keep("a", uploads[0], root)
    assert files.keep("a", uploads[0], root) == first
    uploads[0].unlink()  # as Gradio does after a while
    assert files.keep("a", uploads[0], root) == first
    assert first.is_file()
    second = files.keep("a", uploads[1], root)
    with pytest.raises(LimitError, match="2 files already"):
        files.keep("a", uploads[2], root)
    files.keep("b", uploads[2], root)
    with pytest.raises(LimitError, match="no room"):
        files.keep("b", uploads[3], root)
    files.keep_only("a", [second])
    assert [first.is_file(), second.is_file()] == [False, True]
    files.forget("a")
    files.forget("b")
    assert [path for path in root.rglob("*") if path.is_file()] == []
    with pytest.raises(LimitError, match="at most 0 MB"):
        OwnFiles(Limits(max_checkpoint_bytes=10)).keep("a", uploads[3], root)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x80\x04K\x01.", "pickle"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
        (b"", "empty"),
        (b"GGUF" + bytes(60), "GGUF"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_only_safetensors_are_kept_and_no_folder_of_the_server_is_named(
    tmp_path: Path, content: bytes, why: str, suffix: str
) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=why) as refused:
        OwnFiles(Limits()).keep("a", path, tmp_path / "root")
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("wanted", ["birds", "a b/../c", "ü", "", "x" * 100, "digits"])
def test_names_of_own_experts_fit_links_and_are_new(wanted: str) -> None:
    name = own_name(wanted, {"digits", "birds"})
    assert re.fullmatch(r"[A-Za-z0-9_]{1,40}", name)
    assert name not in {"digits", "birds"}


def test_recipes_name_an_upload_as_its_owner_does(tmp_path: Path) -> None:
    known = family()
    extended = with_own(known, "toy-own-1", {"birds": OwnExpert("birds", str(tmp_path / "x"), "birds.safetensors")})
    setting = make_setting(extended, ["digits", "birds"])
    text = dump_recipe(recipe_of(setting, extended))
    assert "model: birds.safetensors" in text
    assert str(tmp_path) not in text
    assert setting_of(parse_recipe(text), [known, extended]) == setting


def test_own_experts_are_shown_before_they_are_merged(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page = visit().open(tab="Import")
    page.locator("#look-inside").click()
    expect(page.locator(".toast-body").filter(has_text="Add a file first")).to_be_visible()
    stranger = tmp_path / "stranger.safetensors"
    save_file({"layers.0.fc1.weight": np.ones((5, 4), np.float32)}, stranger)
    uploads = [str(expert(tmp_path / "birds.safetensors")), str(stranger)]
    page.locator("#own-experts input[type=file]").set_input_files(uploads)
    inside = page.locator("#inside")
    expect(inside.locator("h3")).to_have_text(["birds.safetensors", "stranger.safetensors"])
    expect(inside.locator(".nm-good")).to_contain_text("Fits Toy family")
    expect(inside.locator(".nm-bad")).to_contain_text("Does not fit Toy family")
    expect(inside).not_to_contain_text("/own/")
    expect(inside.locator("tbody th").first).to_have_text("block 0")
    page.locator("#add-own").click()
    expect(page.get_by_role("checkbox", name="Birds")).to_be_checked()
    expect(page.locator("#family input")).to_have_value("Toy family, with your own")
    page.get_by_role("tab", name="Export", exact=True).click()
    expect(page.locator("#recipe")).to_contain_text("model: birds.safetensors")


def test_a_place_on_this_machine_can_be_named(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page = visit().open(tab="Import")
    path = expert(tmp_path / "boats.safetensors")
    page.locator("#own-places textarea").fill(f"{path}\n{tmp_path}/nothing.safetensors")
    page.locator("#look-inside").click()
    expect(page.locator("#inside .nm-bad")).to_contain_text("nothing.safetensors")
    page.locator("#add-own").click()
    expect(page.get_by_role("checkbox", name="Boats")).to_be_checked()


# ---------------------------------------------------------------------------------------------------- recipes
RECIPE = """merge_method: ties
base_model: bundled:toy
models:
  - model: bundled:toy/digits
    parameters: {weight: 1.0}
  - model: bundled:toy/flags
parameters: {density: 0.4, normalize: false}
dtype: float16
"""


def test_a_recipe_moves_the_controls_and_its_notices_are_shown(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page = visit().open(tab="Import")
    said = page.locator("#recipe-said")
    page.locator("#import-recipe textarea").fill(RECIPE)
    page.locator("#use-recipe").click()
    expect(said).to_contain_text("Taken over: TIES")
    for notice in ("density 0.4 is read as trim_ratio 0.6", "1 is taken", "dtype float16"):
        expect(said).to_contain_text(notice)
    expect(page.locator("#method input")).to_have_value("TIES")
    expect(page.get_by_role("checkbox", name="Flags")).to_be_checked()
    expect(page.get_by_role("checkbox", name="Animals")).not_to_be_checked()
    expect(page.locator(".nm-score-label small")).to_contain_text("TIES")

    page.locator("#import-recipe textarea").fill(RECIPE + "then: [svc:0.1]\n")
    page.locator("#use-recipe").click()
    expect(said.get_by_role("alert")).to_contain_text("leave out `then`")
    expect(page.locator("#method input")).to_have_value("TIES")

    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE.replace("ties", "task_arithmetic").replace("density: 0.4, normalize: false", "lambda: 0.3"))
    page.locator("#recipe-file input[type=file]").set_input_files(str(path))
    expect(said).to_contain_text("Taken over: Task arithmetic")
    expect(page.locator("#import-recipe textarea")).to_have_value(path.read_text())


@pytest.mark.parametrize(
    "broken",
    ["x", "a: [", "merge_method: magic\nbase_model: b\nmodels: [{model: a}]", RECIPE.replace("toy/flags", "toy/none")],
)
def test_a_broken_recipe_is_one_message_and_changes_nothing(visit: Callable[..., Visitor], broken: str) -> None:
    from playwright.sync_api import expect

    page = visit().open(tab="Import")
    before = page.locator(".nm-score-label small").inner_text()
    page.locator("#import-recipe textarea").fill(broken)
    page.locator("#use-recipe").click()
    expect(page.locator("#recipe-said").get_by_role("alert")).to_have_count(1)
    expect(page.locator(".nm-score-label small")).to_have_text(before)


def test_a_public_deployment_says_what_it_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMERGE_PUBLIC", "1")
    monkeypatch.setenv("NEUROMERGE_OWN_PICTURES", "0")
    demo = build(WorkspaceLoader(FakeWorkspace), {"toy": family()})
    parts = {part["props"].get("elem_id"): part["props"] for part in demo.get_config_file()["components"]}
    assert "not taken on this server" in parts["inside"]["value"]
    assert "Archives of pictures are not taken" in str(demo.get_config_file())
    assert not parts["own-experts"]["visible"]
    assert not parts["own-places"]["visible"]
