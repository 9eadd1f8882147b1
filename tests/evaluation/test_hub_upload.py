"""Pushing a folder to the Hub: what is asked of it, and every refusal in words without the token."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, ClassVar

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError

from neuromerge.errors import NeuroMergeError, SettingError, SourceUnavailableError
from neuromerge.hub import answers
from neuromerge.hub.upload import check_repository, push

TOKEN = "hf_secretSECRETsecret"


class FakeHub:
    """Takes the place of `HfApi`: remembers what was asked, or fails with a status or an error."""

    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    fails: ClassVar[int | Exception | None] = None

    def __init__(self, token: str | None = None) -> None:
        FakeHub.asked.append(("token", {"token": token}))

    def create_repo(self, repo_id: str, **options: Any) -> str:
        FakeHub.asked.append((repo_id, options))
        if isinstance(FakeHub.fails, Exception):
            raise FakeHub.fails
        if FakeHub.fails is not None:
            request = httpx.Request("POST", "https://huggingface.co", headers={"authorization": f"Bearer {TOKEN}"})
            raise HfHubHTTPError(f"refused {TOKEN}", response=httpx.Response(FakeHub.fails, request=request))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, **options: Any) -> None:
        FakeHub.asked.append(("upload", options))


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "asked", [])
    monkeypatch.setattr(FakeHub, "fails", None)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return FakeHub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "README.md").write_text("card")
    (tmp_path / "inner").mkdir()
    return tmp_path


def test_a_folder_becomes_one_commit_of_a_private_repository(hub: type[FakeHub], folder: Path) -> None:
    assert push(folder, "ada/merge", TOKEN) == "https://huggingface.co/ada/merge"
    (_, given), (name, made), (_, sent) = hub.asked
    assert (given["token"], name, made) == (TOKEN, "ada/merge", {"private": True, "exist_ok": False})
    assert (sent["repo_id"], sent["folder_path"]) == ("ada/merge", folder)
    assert set(sent["allow_patterns"]) == {"model.safetensors", "README.md"}


@pytest.mark.parametrize(
    ("fails", "kind", "words"),
    [
        (401, SourceUnavailableError, "does not accept this token"),
        (403, SourceUnavailableError, "does not let this token write to ada/merge"),
        (404, SourceUnavailableError, "does not let this token write"),
        (409, SettingError, "ada/merge is there already"),
        (500, SourceUnavailableError, "answered 500"),
        (ConnectionError(f"no route, {TOKEN}"), SourceUnavailableError, "cannot be reached (ConnectionError)"),
    ],
)
def test_every_refusal_is_told_without_the_token(
    hub: type[FakeHub], folder: Path, fails: Any, kind: type[NeuroMergeError], words: str
) -> None:
    hub.fails = fails
    with pytest.raises(kind) as refused:
        push(folder, "ada/merge", TOKEN)
    assert words in str(refused.value)
    assert TOKEN not in "".join(traceback.format_exception(refused.value))
    assert len(hub.asked) == 2  # nothing was uploaded


def test_without_a_token_the_login_of_the_machine_is_taken_or_one_is_asked_for(
    hub: type[FakeHub], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "has_token", lambda: False)
    with pytest.raises(SettingError, match="Give a token"):
        push(folder, "ada/merge", None)
    monkeypatch.setattr(answers, "has_token", lambda: True)
    push(folder, "ada/merge", None, private=False, existing=True)
    assert hub.asked[0] == ("token", {"token": None})
    assert hub.asked[1][1] == {"private": False, "exist_ok": True}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceUnavailableError, match="HF_HUB_OFFLINE"):
        push(folder, "ada/merge", TOKEN)


@pytest.mark.parametrize("name", ["", "merge", "a/b/c", "../x", "a/b c", None, 3, "a/..", "a--b/c"])
def test_what_is_no_name_of_a_repository(name: object) -> None:
    with pytest.raises(SettingError, match="you/name"):
        check_repository(name)
    assert check_repository(" hub:ada/merged-clip ") == "ada/merged-clip"
