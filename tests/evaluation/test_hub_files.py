"""What is fetched from the Hub, what is recorded of it, and what is said when it fails."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

import neuromerge
from neuromerge.checkpoints import load_checkpoint
from neuromerge.errors import SourceUnavailableError, StorageError
from neuromerge.evaluation.families import ModelEntry
from neuromerge.hub import answers
from neuromerge.hub.addresses import resolved
from neuromerge.progress import Job
from tests.evaluation.hub_stand_in import HubStandIn, served

TWINS = {"flax_model.msgpack": b"f", "tf_model.h5": b"t", "pytorch_model.bin": b"p", "README.md": b"#"}


def weights(value: float) -> bytes:
    return save({"layer.weight": torch.full((4, 3), value)})


def model(value: float) -> dict[str, bytes]:
    return {"config.json": b"{}", "tokenizer.json": b"{ }", "merges.txt": b"#", "model.safetensors": weights(value)}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setattr(Job, "wait", lambda job, seconds, why: None)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the Hub library waits, too
    with served(monkeypatch, tmp_path / "cache") as running:
        running.publish("org/name", {**model(1.0), **TWINS, "notes.json": b"{}"})
        yield running


def value(source: str) -> float:
    return float(dict(load_checkpoint(source).items())["layer.weight"][0, 0])


def test_only_weights_configuration_and_tokenizer_are_fetched(hub):
    assert value("hub:org/name@main") == 1.0
    assert sorted(hub.fetched) == ["config.json", "merges.txt", "model.safetensors", "tokenizer.json"]


def test_the_file_of_a_registry_entry_is_the_only_one_of_two(hub):
    two = {**model(2.0), "open_clip_model.safetensors": weights(3.0), "open_clip_config.json": b"{}"}
    hub.publish("timm/two", two)
    entry = ModelEntry("hub:timm/two@main", "model.safetensors")
    assert value(entry.address) == 2.0
    assert "open_clip_model.safetensors" not in hub.fetched
    assert load_checkpoint(entry.address).name == "two"


def test_without_a_name_one_of_two_weights_files_is_fetched(hub):
    hub.publish("timm/two", {**model(2.0), "open_clip_model.safetensors": weights(3.0), "open_clip_config.json": b"{}"})
    assert value("hub:timm/two") == 3.0
    assert "model.safetensors" not in hub.fetched


def test_shards_come_with_their_index(hub):
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    shards = {f"model-0000{n}-of-00002.safetensors": save({k: torch.ones(2)}) for n, k in ((1, "a"), (2, "b"))}
    hub.publish("org/sharded", {"config.json": b"{}", "model.safetensors.index.json": index, **shards, **TWINS})
    assert len(load_checkpoint("hub:org/sharded")) == 2
    assert not set(hub.fetched) & set(TWINS)


def test_a_moved_branch_is_recorded_with_its_commit(hub):
    first = hub.refs["org/name"]["main"]
    assert load_checkpoint("hub:org/name@main").revision == first
    second = hub.publish("org/name", model(5.0))
    assert load_checkpoint("hub:org/name@main").revision == second
    assert resolved("hub:org/name@main") == f"hub:org/name@{second}"
    assert value(f"hub:org/name@{first}") == 1.0
    hub.publish("org/expert", model(6.0))
    result = neuromerge.merge("hub:org/name@main", ["hub:org/expert@main"], method="average")
    assert result.sources["base"] == f"hub:org/name@{second}"
    assert all(load_checkpoint(source) for source in result.sources.values()), "what is recorded can be opened"


def test_offline_the_cache_is_used_and_what_is_missing_is_named(hub, monkeypatch):
    load_checkpoint("hub:org/name@main")
    hub.publish("org/two", model(2.0))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert value("hub:org/name@main") == 1.0
    with pytest.raises(SourceUnavailableError, match="HF_HUB_OFFLINE forbids") as caught:
        load_checkpoint("hub:org/two/model.safetensors@main")
    command = re.search(r"`(hf download [^`]*)`", str(caught.value))[1]
    assert "model.safetensors" in command
    assert not any(twin in command for twin in TWINS)


def test_what_a_killed_download_left_is_no_model(hub, monkeypatch):
    commit = hub.refs["org/name"]["main"]
    huggingface_hub.hf_hub_download("org/name", "config.json", revision=commit)
    assert value(f"hub:org/name@{commit}") == 1.0


FAULTS = {
    "too many requests": (429, {"Retry-After": "600"}, "Try again in 600 seconds"),
    "too many requests, for the window": (429, {"RateLimit": '"api";r=0;t=280'}, "Try again in 280 seconds"),
    "in trouble": (503, {}, "in trouble .it answered 503"),
    "forbidden": (403, {}, "403 Forbidden"),
    "gated": (401, {"X-Error-Code": "GatedRepo"}, "accept terms first"),
    "not there": (401, {"X-Error-Code": "RepoNotFound"}, "no public repository org/name"),
    "no such thing": (404, {}, "404 Not Found"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("where", ["/api/models/org/name$", "/resolve/.*model.safetensors"])
def test_every_failure_has_its_own_name(hub, name, where):
    status, headers, said = FAULTS[name]
    hub.faults.append([where, status, headers, 1000])
    with pytest.raises(SourceUnavailableError, match=said) as caught:
        load_checkpoint("hub:org/name")
    assert "cannot be reached" not in str(caught.value)


def test_a_bad_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.faults.append(["/api/models", 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, 1000])
    with pytest.raises(SourceUnavailableError, match=r"does not accept your token.*remove HF_TOKEN"):
        load_checkpoint("hub:org/name")


@pytest.mark.parametrize(("status", "headers"), [(429, {"Retry-After": "7"}), (502, {})])
def test_what_passes_is_waited_for(hub, status, headers):
    hub.faults.append(["/api/models/org/name$", status, headers, 2])
    assert value("hub:org/name") == 1.0


def test_the_wait_is_as_long_as_the_answer_says():
    class Busy(Exception):
        code, headers = 429, {"Retry-After": "7"}

    waits: list[float] = []
    answered = iter([Busy(), Busy(), None])

    def ask() -> str:
        if (error := next(answered)) is not None:
            raise error
        return "there"

    class Waiting(Job):
        def wait(self, seconds: float, why: str) -> None:
            assert "too many requests" in why
            waits.append(seconds)

    assert answers.patiently(ask, Waiting()) == "there"
    assert waits == [7.0, 7.0]


def test_names_that_are_not_there(hub):
    with pytest.raises(SourceUnavailableError, match=r"no file or folder 'other.safetensors'.*model.safetensors"):
        load_checkpoint("hub:org/name/other.safetensors")
    with pytest.raises(SourceUnavailableError, match=r"no revision 'gone'.*moved or deleted"):
        load_checkpoint("hub:org/name@gone")
    with pytest.raises(SourceUnavailableError, match=r"commit 0{40} of org/name is gone.*org/name/commits/main"):
        load_checkpoint(f"hub:org/name@{'0' * 40}")
    with pytest.raises(SourceUnavailableError, match="no public repository org/missing"):
        load_checkpoint("hub:org/missing")
    hub.publish("org/pickled", {"config.json": b"{}", **TWINS})
    with pytest.raises(SourceUnavailableError, match="no safetensors weights"):
        load_checkpoint("hub:org/pickled")
    hub.publish("org/loose", {"one.safetensors": weights(1), "two.safetensors": weights(2)})
    with pytest.raises(SourceUnavailableError, match=r"Name one of them: hub:org/loose/one.safetensors"):
        load_checkpoint("hub:org/loose")
    assert hub.fetched == []


def test_a_full_disk(hub, monkeypatch):
    def full(*names, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    with pytest.raises(StorageError, match=r"the disk is full.*HF_HOME"):
        load_checkpoint("hub:org/name")


def test_nobody_answers(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailableError, match=r"cannot be reached.*hf download org/name"):
        load_checkpoint("hub:org/name")
