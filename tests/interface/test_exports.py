"""The server's disk is bounded: exports have a quota, are stored once, and a killed server's files are swept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError, SettingError
from neuromerge.interface.app import build
from neuromerge.interface.exports import Exports, pack
from neuromerge.interface.leftovers import PREFIX, ServerFolder, sweep
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.tabs import export
from tests.interface.conftest import Visitor
from tests.interface.fakes import FakeWorkspace, family

LIMITS = Limits(exports_per_page=2, export_bytes=100, export_seconds=10)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def put(exports: Exports, root: Path, page: str, nbytes: int) -> Path:
    with exports.place(page, nbytes, root, "merge.zip") as path:
        path.write_bytes(b"x" * nbytes)
    return path


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_new_export_takes_the_place_of_the_pages_oldest(tmp_path: Path) -> None:
    exports = Exports(LIMITS)
    made = [put(exports, tmp_path, "a", 10) for _ in range(3)]
    assert [path.exists() for path in made] == [False, True, True]
    assert len({path.parent for path in made}) == 3
    assert exports.nbytes == 20


def test_what_does_not_fit_beside_the_others_is_refused_before_it_is_written(tmp_path: Path) -> None:
    clock = Clock()
    exports = Exports(LIMITS, clock)
    kept = [put(exports, tmp_path, page, 40) for page in "ab"]
    with pytest.raises(LimitError, match="no room"):
        put(exports, tmp_path, "c", 40)
    assert set(files(tmp_path)) == set(kept)
    clock.now = 11.0  # those have expired
    put(exports, tmp_path, "c", 40)
    assert len(files(tmp_path)) == 1
    exports.forget("c")
    assert len(files(tmp_path)) == 1  # a download may be under way
    clock.now = 22.0
    exports.forget("d")
    assert files(tmp_path) == []
    assert exports.nbytes == 0


def test_a_disk_that_is_too_small_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 64 * 2**20 + 99))
    with pytest.raises(LimitError, match="disk"):
        put(Exports(LIMITS), tmp_path, "a", 50)
    assert files(tmp_path) == []


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    exports = Exports(LIMITS)

    def fail() -> None:
        with exports.place("a", 10, tmp_path, "merge.zip") as path:
            (path.parent / "half").write_bytes(b"x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert files(tmp_path) == []
    assert exports.nbytes == 0


def test_weights_are_stored_and_texts_deflated(tmp_path: Path) -> None:
    source = tmp_path / "files"
    source.mkdir()
    content = {"model.safetensors": b"\0" * 5000, "config.json": b" " * 5000, "recipe.yaml": b"a" * 5000}
    for name, data in content.items():
        (source / name).write_bytes(data)
    pack(source, tmp_path / "merge.zip")
    assert list(source.iterdir()) == []
    with zipfile.ZipFile(tmp_path / "merge.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == content
        stored = {info.filename for info in archive.infolist() if info.compress_type == zipfile.ZIP_STORED}
    assert stored == {"model.safetensors"}


KILLED = """
import os, sys
from pathlib import Path
from neuromerge.interface.leftovers import ServerFolder
folder = ServerFolder(Path(sys.argv[1]))
(folder.files / "export.zip").write_bytes(b"left")
os._exit(9)
"""


@pytest.mark.skipif(os.name == "nt", reason="locks of POSIX")
def test_what_a_killed_server_left_is_swept_and_a_running_ones_is_not(tmp_path: Path) -> None:
    running = ServerFolder(tmp_path)
    (running.files / "upload.png").write_bytes(b"mine")
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=120).returncode == 9
    (tmp_path / "somebody else's").mkdir()
    (left,) = sweep(tmp_path)
    assert left.name.startswith(PREFIX)
    assert not left.exists()
    assert (running.files / "upload.png").exists()
    assert (tmp_path / "somebody else's").exists()
    running.remove()
    assert not running.path.exists()


TOLD_TO_END = """
import signal, sys, time
from pathlib import Path
from neuromerge.interface.leftovers import ServerFolder
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have it ignored
folder = ServerFolder(Path(sys.argv[1]))
(folder.files / "export.zip").write_bytes(b"made")
folder.remove_at_end(of_signals=True)
print("up", flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_server_that_is_told_to_end_ends_at_once_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", TOLD_TO_END, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "up\n"
        assert len(files(tmp_path)) == 2
        server.send_signal(getattr(signal, name))
        assert server.wait(60) == -getattr(signal, name)
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_files_go_first_until_few_enough_bytes_are_left(tmp_path: Path) -> None:
    folder = ServerFolder(tmp_path)
    for age in (1, 2, 3, 100):
        path = folder.files / "deep" / f"{age}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 10)
        when = path.stat().st_mtime - age
        os.utime(path, (when, when))
    folder.tidy(seconds=50, most_bytes=1000)
    assert {path.name for path in files(folder.files)} == {"1.png", "2.png", "3.png"}
    folder.tidy(seconds=50, most_bytes=15)
    assert {path.name for path in files(folder.files)} == {"1.png"}
    folder.remove()


def test_a_merge_is_pushed_and_the_token_is_forgotten(
    visit: Callable[..., Visitor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from playwright.sync_api import expect

    sent: list[tuple[object, ...]] = []

    def pushed(folder: Path, repository: str, token: str | None, **options: bool) -> str:
        sent.append((sorted(path.name for path in folder.iterdir()), repository, token, options))
        if repository == "ada/taken":
            raise SettingError("ada/taken is there already.")
        return f"https://huggingface.co/{repository}"

    monkeypatch.setattr(export, "push", pushed)
    caplog.set_level("DEBUG")
    page = visit().open(tab="Export")
    page.get_by_role("button", name="Push to the Hugging Face Hub").click()
    token = page.locator("#push-token input")
    assert token.get_attribute("type") == "password"
    for repository, said in (("no name", "you/name"), ("ada/taken", "is there already"), ("ada/merge", "Pushed: ")):
        token.fill("hf_secretSECRET")
        page.locator("#push-repository textarea, #push-repository input").first.fill(repository)
        page.locator("#push").click()
        expect(page.locator("#pushed")).to_contain_text(said)
        expect(token).to_have_value("")
    assert [entry[1:] for entry in sent] == [
        (name, "hf_secretSECRET", {"private": True, "existing": False}) for name in ("ada/taken", "ada/merge")
    ]
    assert sent[0][0] == ["README.md", "model.safetensors"]
    assert "hf_secret" not in caplog.text
    assert "hf_secret" not in page.locator("#export-link textarea, #export-link input").first.input_value()
    expect(page.locator("#recipe")).not_to_contain_text("hf_secret")


def test_a_public_server_has_no_field_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMERGE_PUBLIC", "1")
    demo = build(WorkspaceLoader(FakeWorkspace), {"toy": family()})
    parts = demo.get_config_file()["components"]
    assert "push-token" not in {part["props"].get("elem_id") for part in parts}
    assert "Pushing to the Hugging Face Hub is off" in str(parts)
