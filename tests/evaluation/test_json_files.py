"""JSON from files of strangers: any content gives an object or one error that names the file."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuromerge.checkpoints import load_checkpoint, save_checkpoint
from neuromerge.checkpoints.clip_config import configuration_of
from neuromerge.cli import main
from neuromerge.deployment import Deployment
from neuromerge.errors import AssetError, CheckpointError
from neuromerge.evaluation.families import get_family
from neuromerge.json_files import MAX_DEPTH, parse_json, read_json


def nested(depth, opening="[", closing="]"):
    return '{"a": ' + opening * depth + closing * depth + "}"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_objects_are_read(tmp_path, mark):
    path = tmp_path / "config.json"
    path.write_bytes(mark + json.dumps({"a": [1, {"b": "ü"}]}, ensure_ascii=False).encode())
    assert read_json(path) == {"a": [1, {"b": "ü"}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"<html>", "no JSON"),
        (b"\xff\xfe{}", "no JSON"),
        (b"[]", "must hold a JSON object"),
        (b"3", "must hold a JSON object"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "no JSON"),
        (nested(MAX_DEPTH + 1).encode(), "nested more than"),
        (nested(900, '{"a":[', "]}").encode(), "nested"),
        (nested(200_000).encode(), "nested"),
        (b"[" * 200_000, "nested"),
        (b'{"a": "' + b"x" * 2_000 + b'"}', "larger than 1,000 bytes"),
    ],
)
def test_everything_else_is_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    limit = 1_000 if "larger" in message else 10**7
    with pytest.raises(CheckpointError, match=message) as caught:
        read_json(path, limit)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_depth_up_to_the_bound_is_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(nested(MAX_DEPTH - 1, opening="["), encoding="utf-8")
    assert read_json(path)["a"]


def test_no_file_at_all(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path, tmp_path / "none.json", tmp_path / "pipe.json", tmp_path / "nul\x00.json"):
        with pytest.raises(AssetError, match="Restore it"):
            read_json(path, remedy="Restore it.", error=AssetError)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps({"a": text}).encode()))
def test_any_bytes(content):
    try:
        expected = json.loads(content.decode("utf-8-sig"))
    except ValueError:
        with pytest.raises(CheckpointError, match="here"):
            parse_json(content, "here", remedy="Mend it.")
    else:
        assert json.dumps(parse_json(content, "here", remedy="Mend it.")) == json.dumps(expected)


DEEP = '{"tasks": ' * 30_000 + "1" + "}" * 30_000


@pytest.mark.parametrize("name", ["neuromerge.json", "open_clip_config.json", "config.json"])
def test_deep_files_beside_the_weights(family_folder, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(family_folder / "base", folder)
    (folder / name).write_text(DEEP)
    if name == "neuromerge.json":  # the record of an earlier merge, which is written over
        save_checkpoint(family_folder / "base", folder, force=True)
    else:
        with pytest.raises(CheckpointError, match="nested"):
            configuration_of(load_checkpoint(folder))


def test_deep_files_of_bundled_families(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NEUROMERGE_ASSETS", str(tmp_path))
    shutil.copytree(Deployment.assets / "pictoclip", tmp_path / "pictoclip")
    (tmp_path / "pictoclip" / "figures.json").write_text(DEEP)
    assert main(["models"]) == 0
    (tmp_path / "pictoclip" / "tasks.json").write_text(DEEP)
    with pytest.raises(AssetError, match="nested"):
        get_family("pictoclip")
