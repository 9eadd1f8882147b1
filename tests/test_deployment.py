"""Environment variables are read in one place, in one way."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuromerge import cli
from neuromerge.deployment import Deployment, deployment, number_of_bytes
from neuromerge.errors import SettingError

YES = ("1", "true", "True", "TRUE", "yes", "on", "On", " on ", "y", "t")
NO = ("0", "false", "False", "no", "off", "OFF", "n", "f")


@pytest.mark.parametrize("word", YES)
def test_every_way_to_say_public_closes_everything(word):
    found = Deployment.from_environment({"NEUROMERGE_PUBLIC": word})
    assert found.public
    assert not found.pickles_allowed
    assert not found.allow_local


@pytest.mark.parametrize("word", NO)
def test_every_way_to_deny_it_opens_a_space(word):
    found = Deployment.from_environment({"NEUROMERGE_PUBLIC": word, "SPACE_ID": "someone/space"})
    assert not found.public
    assert found.pickles_allowed
    assert found.allow_local


def test_where_files_are_kept_for_a_while_and_what_is_logged():
    assert Deployment.from_environment({}).temporary is None
    assert Deployment.from_environment({"GRADIO_TEMP_DIR": "/a"}).temporary == Path("/a")
    assert Deployment.from_environment({"GRADIO_TEMP_DIR": "/a", "NEUROMERGE_TEMPORARY": "/b"}).temporary == Path("/b")
    assert Deployment.from_environment({"NEUROMERGE_LOG_LEVEL": " INFO "}).log_level == "info"
    with pytest.raises(SettingError, match="NEUROMERGE_LOG_LEVEL"):
        Deployment.from_environment({"NEUROMERGE_LOG_LEVEL": "loud"})


def test_a_space_is_public_unless_told():
    assert Deployment.from_environment({"SPACE_ID": "someone/space"}).public
    assert not Deployment.from_environment({}).public


@pytest.mark.parametrize(
    "name", ["NEUROMERGE_PUBLIC", "NEUROMERGE_ALLOW_LOCAL", "NEUROMERGE_SAFETENSORS_ONLY", "HF_HUB_OFFLINE"]
)
@pytest.mark.parametrize("word", ["maybe", "2", "ja", "public", "tru", "None"])
def test_an_unknown_word_is_an_error_that_names_the_variable(name, word):
    with pytest.raises(SettingError, match=name):
        Deployment.from_environment({name: word})


def test_what_was_said_about_one_thing_overrules_public():
    found = Deployment.from_environment({"NEUROMERGE_PUBLIC": "1", "NEUROMERGE_ALLOW_LOCAL": "1"})
    assert found.allow_local
    assert not found.pickles_allowed
    assert not Deployment.from_environment({"NEUROMERGE_SAFETENSORS_ONLY": "on"}).pickles_allowed


@pytest.mark.parametrize(
    ("text", "value"), [("", 7), (" 12 ", 12), ("2K", 2048), ("3M", 3 * 2**20), ("4g", 4 * 2**30), ("0", 0)]
)
def test_numbers_of_bytes(text, value):
    assert number_of_bytes({"X": text}, "X", 7) == value


@pytest.mark.parametrize("text", ["-1", "2.5G", "lots", "5T", "K", "١", "9" * 30])
def test_other_numbers_of_bytes_are_refused(text):
    with pytest.raises(SettingError, match="NEUROMERGE_CACHE_BYTES"):
        Deployment.from_environment({"NEUROMERGE_CACHE_BYTES": text})


@pytest.mark.parametrize(("name", "text"), [("NEUROMERGE_THREADS", "many"), ("NEUROMERGE_WORKERS", "65")])
def test_other_numbers_are_refused(name, text):
    with pytest.raises(SettingError, match=name):
        Deployment.from_environment({name: text})


@pytest.mark.parametrize(
    "text", ["", "'none'", "'self'", "'self'  https://huggingface.co https://*.school.example:8443"]
)
def test_sites_that_may_frame_the_page(text):
    assert Deployment.from_environment({"NEUROMERGE_FRAME_ANCESTORS": text}).frame_ancestors == " ".join(text.split())


@pytest.mark.parametrize("text", ["a; script-src *", "'none' a", "self'", "a,b", "é", "a\x00b", "<a>"])
def test_what_are_no_sites_is_refused(text):
    with pytest.raises(SettingError, match="NEUROMERGE_FRAME_ANCESTORS"):
        Deployment.from_environment({"NEUROMERGE_FRAME_ANCESTORS": text})


def test_folders_of_the_users_own_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("NEUROMERGE_CACHE", "~/kept")
    monkeypatch.setenv("NEUROMERGE_FAMILIES", "~/mine:/other")
    found = deployment()
    assert found.cache == Path("/home/someone/kept")
    assert found.families == (Path("/home/someone/mine"), Path("/other"))


def test_the_command_line_says_which_word_it_cannot_read(monkeypatch, capsys):
    monkeypatch.setenv("NEUROMERGE_PUBLIC", "perhaps")
    assert cli.main(["methods"]) == 2
    assert "NEUROMERGE_PUBLIC" in capsys.readouterr().err
