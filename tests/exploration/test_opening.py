"""What a fresh page shows survives a restart, and never anything that is not true any more."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.executor import Executor
from neuromerge.evaluation.families import Family, local_family
from neuromerge.exploration import opening
from neuromerge.exploration.opening import FILE, Opening, code_version, fingerprint
from neuromerge.exploration.workspace import Workspace
from neuromerge.settings.choices import change, make_setting
from neuromerge.settings.setting import Setting


class Idle(Executor):
    """One whom nobody may ask to work."""

    def run(self, work: Any, job: Any = None) -> Any:
        raise AssertionError("what was kept is computed again")


@pytest.fixture
def family(tiny: Family, tmp_path: Path) -> Family:
    assert tiny.folder is not None
    return local_family(shutil.copytree(tiny.folder, tmp_path / "mine"), allowed=True)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "neuromerge"


def settings(family: Family) -> tuple[Setting, Setting]:
    return make_setting(family), make_setting(family, None, "task_arithmetic")


def started(family: Family, executor: Executor | None = None) -> Workspace:
    """What a new process has."""
    executor = Executor(1) if executor is None else executor
    return Workspace({family.name: family}, cache=BoundedCache(256 * 2**20), executor=executor)


def opened(family: Family, kept: Path, workspace: Workspace | None = None) -> Opening:
    workspace = started(family) if workspace is None else workspace
    return Opening(workspace.engine.of(family.name), *settings(family), kept)


def shown(workspace: Workspace, family: Family) -> list[Any]:
    """All that a fresh page asks, made comparable."""
    setting, compared = settings(family)
    boards = [workspace.board(setting, split, compared) for split in ("quick", "validation")]
    curves = [next(workspace.strength_curve(each)) for each in (setting, compared)]
    assert all(curve.complete for curve in curves)
    told = [(c.strengths.tolist(), c.accuracy.tolist(), c.images, c.coefficients, c.marks) for c in curves]
    return [boards, workspace.summary(setting), told, [repr(e.item) for e in workspace.examples(setting)]]


def test_a_restart_shows_the_same_without_any_work(family: Family, kept: Path) -> None:
    before = started(family)
    opened(family, kept, before).prepare()
    after = started(family, Idle())
    assert opened(family, kept, after).recall()
    assert shown(after, family) == shown(before, family)


def test_the_first_start_has_nothing_to_recall(family: Family, kept: Path) -> None:
    assert not opened(family, kept).recall()


def test_what_was_recalled_is_not_computed_or_written_again(family: Family, kept: Path) -> None:
    opened(family, kept).prepare()
    stamp = (kept / FILE).stat().st_ino
    again = opened(family, kept)
    assert again.recall()
    again.prepare()
    assert (kept / FILE).stat().st_ino == stamp


def other_weights(folder: Path) -> None:
    """One number of one expert, in a file of the same size and age."""
    path = folder / "experts" / "signs.safetensors"
    age = path.stat()
    state = load_file(path)
    next(iter(state.values())).view(-1)[0] += 1
    save_file(state, path)
    os.utime(path, ns=(age.st_atime_ns, age.st_mtime_ns))


def other_base(folder: Path) -> None:
    path = next((folder / "base").glob("*.safetensors"))
    state = load_file(path)
    next(iter(state.values())).view(-1)[0] += 1
    save_file(state, path)


def other_picture(folder: Path) -> None:
    """Two pictures that change places: the same files, other labels."""
    one, other, *_ = sorted((folder / "samples" / "signs" / "validation").rglob("*.png"))[::9]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def fewer_pictures(folder: Path) -> None:
    next((folder / "samples" / "animals").rglob("validation/*/*.png")).unlink()


def other_prompt(folder: Path) -> None:
    path = folder / "tasks" / "signs.yaml"
    path.write_text(path.read_text().replace("a photo of the {}", "a drawing of the {}"))


@pytest.mark.parametrize(
    "changed", [other_weights, other_base, other_picture, fewer_pictures, other_prompt], ids=lambda f: f.__name__
)
def test_nothing_is_shown_of_what_was_another(changed: Callable[[Path], None], family: Family, kept: Path) -> None:
    opened(family, kept).prepare()
    assert family.folder is not None
    changed(family.folder)
    changed_family = local_family(family.folder, allowed=True)
    workspace = started(changed_family)
    now = opened(changed_family, kept, workspace)
    assert not now.recall()
    now.prepare()
    # What is shown then is what is measured now, and it is kept in the place of the other.
    fresh = started(changed_family)
    Opening(fresh.engine.of(family.name), *settings(changed_family), kept.parent / "elsewhere").prepare()
    assert shown(workspace, changed_family) == shown(fresh, changed_family)
    assert opened(changed_family, kept).recall()


def test_another_version_of_the_code_measures_anew(family: Family, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(family, kept).prepare()
    monkeypatch.setattr(opening, "code_version", lambda package: "another")
    assert not opened(family, kept).recall()


def test_the_version_is_that_of_every_source(tmp_path: Path) -> None:
    for name, source in (("a.py", "x = 1"), ("deep/b.py", "y = 1"), ("deep/c.yaml", "z: 1"), ("notes.md", "n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)

    def version() -> str:
        code_version.cache_clear()
        return code_version(tmp_path)

    before = version()
    (tmp_path / "notes.md").write_text("other")
    assert version() == before
    for name in ("a.py", "deep/b.py", "deep/c.yaml"):
        (tmp_path / name).write_text("other")
        assert version() != before
        before = version()
    (tmp_path / "a.py").rename(tmp_path / "d.py")
    assert version() != before


def test_other_settings_measure_anew(family: Family, kept: Path) -> None:
    opened(family, kept).prepare()
    setting, compared = settings(family)
    other = change(setting, family, lambda_orthogonal=0.5)
    engine = started(family).engine.of(family.name)
    assert not Opening(engine, other, compared, kept).recall()
    assert not Opening(engine, setting, other, kept).recall()
    Opening(engine, other, compared, kept).prepare()
    assert [path.name for path in kept.iterdir()] == [FILE], "the disk fills up"


def flipped(content: bytes) -> bytes:
    return content[:-200] + bytes([content[-200] ^ 1]) + content[-199:]


def hostile(content: bytes) -> bytes:
    """Whole by its checksum, but with objects that only a pickle can hold."""
    buffer = io.BytesIO()
    np.savez(buffer, said=np.array([{"a": 1}], dtype=object))
    return _sealed(content, buffer.getvalue())


def without_answers(content: bytes) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, said=np.frombuffer(b'{"counts": []}', dtype=np.uint8))
    return _sealed(content, buffer.getvalue())


def _sealed(content: bytes, rest: bytes) -> bytes:
    return content.split()[0] + b" " + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


@pytest.mark.parametrize(
    "broken",
    [
        flipped,
        hostile,
        without_answers,
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[1:],
        lambda content: content + b"\0",
        lambda content: content.split(b"\n", 1)[0] + b"\n",
        lambda content: _sealed(content, b"no archive"),
        lambda content: b"\xff" * 20_000_000,
    ],
    ids=["flipped", "objects", "no answers", "empty", "cut", "shifted", "longer", "line", "no archive", "large"],
)
def test_a_file_that_is_not_what_was_written_counts_for_nothing(
    broken: Callable[[bytes], bytes], family: Family, kept: Path
) -> None:
    opened(family, kept).prepare()
    (kept / FILE).write_bytes(broken((kept / FILE).read_bytes()))
    again = opened(family, kept)
    assert not again.recall()
    again.prepare()
    assert opened(family, kept).recall()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_its_place_is_not_waited_for(family: Family, kept: Path) -> None:
    kept.mkdir(parents=True)
    os.mkfifo(kept / FILE)
    assert not opened(family, kept).recall()


def test_a_disk_that_cannot_be_written_to_is_no_error(family: Family, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    now = opened(family, tmp_path / "file")
    assert not now.recall()
    now.prepare()


def test_what_lies_elsewhere_is_not_trusted(family: Family, tiny: Family, kept: Path, tmp_path: Path) -> None:
    assert fingerprint(family) is not None
    assert family.folder is not None
    shutil.move(family.folder / "samples" / "signs", tmp_path / "signs")
    (family.folder / "samples" / "signs").symlink_to(tmp_path / "signs")
    assert fingerprint(local_family(family.folder, allowed=True)) is None
    opened(family, kept).prepare()
    assert not kept.exists()
