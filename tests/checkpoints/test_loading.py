"""Every way to name a checkpoint, and every way in which one can be broken."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from neuromerge.checkpoints import load_checkpoint
from neuromerge.checkpoints.header import MAX_HEADER_BYTES, parse_header
from neuromerge.errors import AssetError, CheckpointError, LimitError, NeuroMergeError, SourceUnavailableError
from neuromerge.hub.addresses import hub_address, parse_hub
from tests.checkpoints import models

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2), "steps": torch.tensor(3)}


def read_all(source: Any, **options: Any) -> dict[str, torch.Tensor]:
    return load_checkpoint(source, **options).state_dict()


def assert_state(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor] = STATE) -> None:
    assert set(state) == set(expected)
    assert all(torch.equal(state[key], value) for key, value in expected.items())


# ------------------------------------------------------------------------------------------------ what is read


class TestSources:
    def test_a_file(self, tmp_path: Path) -> None:
        save_file(STATE, tmp_path / "expert.safetensors")
        checkpoint = load_checkpoint(tmp_path / "expert.safetensors")
        assert checkpoint.name == "expert"
        assert checkpoint.layout == "state_dict"
        assert checkpoint.shape("a.weight") == (2, 3)
        assert checkpoint.dtype("steps") == torch.int64
        assert checkpoint.nbytes == 6 * 4 + 2 * 4 + 8
        assert_state(checkpoint.state_dict())

    def test_a_state_dict(self) -> None:
        assert_state(read_all(STATE))
        checkpoint = load_checkpoint(STATE, name="mine")
        assert checkpoint.name == "mine"
        assert load_checkpoint(checkpoint) is checkpoint

    @pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
    @pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
    @pytest.mark.parametrize("legacy", [False, True])
    def test_pytorch_files(self, suffix: str, wrapped: str | None, legacy: bool, tmp_path: Path) -> None:
        path = tmp_path / f"expert{suffix}"
        content = STATE if wrapped is None else {wrapped: STATE, "epoch": 3}
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        assert_state(read_all(path))

    def test_pytorch_files_can_be_forbidden(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.save(STATE, tmp_path / "expert.pt")
        with pytest.raises(LimitError, match="safetensors"):
            load_checkpoint(tmp_path / "expert.pt", allow_pickle=False)
        for variable, value in (
            ("NEUROMERGE_SAFETENSORS_ONLY", "1"),
            ("NEUROMERGE_PUBLIC", "yes"),
            ("SPACE_ID", "a/b"),
        ):
            with monkeypatch.context() as patch:
                patch.setenv(variable, value)
                with pytest.raises(LimitError):
                    load_checkpoint(tmp_path / "expert.pt")
        assert_state(read_all(tmp_path / "expert.pt"))

    def test_a_transformers_folder(self, tmp_path: Path) -> None:
        model = models.clip_model()
        model.save_pretrained(tmp_path)
        checkpoint = load_checkpoint(tmp_path)
        assert checkpoint.layout == "transformers-clip"
        assert checkpoint.config["model_type"] == "clip"
        assert "config.json" in checkpoint.config_files
        assert_state(checkpoint.state_dict(), model.state_dict())

    def test_an_open_clip_folder(self, tmp_path: Path) -> None:
        model = models.open_clip_model()
        checkpoint = load_checkpoint(models.save_open_clip(model, tmp_path))
        assert checkpoint.layout == "open_clip"
        assert_state(checkpoint.state_dict(), model.state_dict())
        (tmp_path / "open_clip_model.safetensors").unlink()
        torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
        assert_state(read_all(tmp_path), model.state_dict())

    def test_shards(self, tmp_path: Path) -> None:
        model = models.language_model("llama")
        model.save_pretrained(tmp_path, max_shard_size="6KB")
        checkpoint = load_checkpoint(tmp_path)
        assert len(checkpoint.paths) > 1
        assert checkpoint.layout == "transformers"
        assert_state(checkpoint.state_dict(), model.state_dict())

    def test_pytorch_shards(self, tmp_path: Path) -> None:
        torch.save({"a": torch.ones(2)}, tmp_path / "pytorch_model-1.bin")
        torch.save({"b": torch.ones(3)}, tmp_path / "pytorch_model-2.bin")
        index = {"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        assert set(load_checkpoint(tmp_path).keys()) == {"a", "b"}

    def test_bundled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEUROMERGE_ASSETS", str(tmp_path))
        models.save_open_clip(models.open_clip_model(), tmp_path / "tiny")
        (tmp_path / "tiny" / "experts").mkdir()
        save_file(STATE, tmp_path / "tiny" / "experts" / "flags.safetensors")
        assert load_checkpoint("bundled:tiny").name == "tiny"
        assert load_checkpoint("bundled:tiny/flags").name == "flags"
        for wrong in (
            "bundled:nothing",
            "bundled:tiny/nothing",
            "bundled:",
            "bundled:../tiny",
            "bundled:tiny/../flags",
        ):
            with pytest.raises(AssetError):
                load_checkpoint(wrong)

    def test_weights_are_read_late(self, tmp_path: Path) -> None:
        save_file(STATE, tmp_path / "expert.safetensors")
        checkpoint = load_checkpoint(tmp_path / "expert.safetensors")
        (tmp_path / "expert.safetensors").unlink()
        with pytest.raises(CheckpointError, match="cannot be read"):
            checkpoint.tensor("a.weight")

    def test_misaligned_tensors(self, tmp_path: Path) -> None:
        """The format asks for no alignment, and some writers keep none."""
        path = tmp_path / "odd.safetensors"
        path.write_bytes(
            safetensors_bytes(
                {
                    "flag": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]},
                    "w": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
                },
                b"\x01" + struct.pack("<2f", 1.5, -2.0),
            )
        )
        assert read_all(path)["w"].tolist() == [1.5, -2.0]
        assert len(load_checkpoint(path).digest()) == 16

    def test_the_digest_tells_checkpoints_apart(self, tmp_path: Path) -> None:
        save_file(STATE, tmp_path / "expert.safetensors")
        mark = load_checkpoint(tmp_path / "expert.safetensors").digest()
        assert load_checkpoint(STATE).digest() == mark
        assert load_checkpoint({**STATE, "a.bias": torch.ones(2)}).digest() != mark

    def test_headers_of_any_length(self, tmp_path: Path) -> None:
        """A length may begin with the bytes of a zip (PK) or of a pickle (0x80), and is a length all the same."""
        for length in (0x4B50, 0x0480, 0x0280):
            header = json.dumps({"__metadata__": {"note": ""}, "w": entry()})
            header = header.replace('"note": ""', '"note": "' + "x" * (length - len(header)) + '"')
            (tmp_path / "w.safetensors").write_bytes(safetensors_bytes(header, b"0" * 8))
            assert set(read_all(tmp_path / "w.safetensors")) == {"w"}


class TestNames:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("DTD/finetuned.pt", "DTD"),
            ("ViT-B-32/Cars/finetuned.pt", "Cars"),
            ("runs/birds/checkpoints/epoch_5.pt", "birds"),
            ("birds/version_0/checkpoints/epoch=3-step=1200.ckpt", "birds"),
            ("birds/checkpoint-500/pytorch_model.bin", "birds"),
            ("birds/model_best.pth.tar", "birds"),
            ("birds/open_clip_model.safetensors", "birds"),
            ("birds/adapter_model.safetensors", "birds"),
            ("models--org--clip-birds/snapshots/" + "0a1b2c3d" * 5 + "/model.safetensors", "clip-birds"),
            ("x/flowers_v2.pt", "flowers_v2"),
            ("mnist.safetensors", "mnist"),
        ],
    )
    def test_the_meaningful_part_of_a_path(self, path: str, name: str, tmp_path: Path) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(STATE, file)
        assert load_checkpoint(file).name == name
        assert load_checkpoint(file, name="mine").name == "mine"

    def test_the_blobs_of_the_hubs_cache_never_show(self, tmp_path: Path) -> None:
        blob = tmp_path / "models--org--clip-birds" / "blobs" / ("f" * 64)
        blob.parent.mkdir(parents=True)
        save_file(STATE, blob)
        link = tmp_path / "models--org--clip-birds" / "snapshots" / ("0" * 40) / "model.safetensors"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
        for source in (link, link.parent, blob):
            assert load_checkpoint(source).name == "clip-birds"

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        save_file(STATE, tmp_path / "expert.safetensors")
        assert_state(read_all("~/expert.safetensors"))
        assert_state(read_all(Path("~/expert.safetensors")))
        with pytest.raises(CheckpointError, match="no such file"):
            load_checkpoint("~/missing.safetensors")


class TestHub:
    @pytest.mark.parametrize(
        ("source", "address"),
        [
            ("hub:org/name@v1", "hub:org/name@v1"),
            ("hf-hub:org/name", "hub:org/name"),
            ("hf://org/name/sub/w.safetensors", "hub:org/name/sub/w.safetensors"),
            ("https://huggingface.co/org/name", "hub:org/name"),
            ("https://huggingface.co/org/name/", "hub:org/name"),
            ("huggingface.co/org/name/tree/main", "hub:org/name@main"),
            ("https://hf.co/org/name/tree/main/sub", "hub:org/name/sub@main"),
            ("https://huggingface.co/org/name/blob/v1/w.safetensors", "hub:org/name/w.safetensors@v1"),
            (
                "https://huggingface.co/org/name/resolve/main/w.safetensors?download=true",
                "hub:org/name/w.safetensors@main",
            ),
            ("https://huggingface.co/org/name/tree/refs%2Fpr%2F1", None),
            ("org/name", None),
            ("folder/file.safetensors", None),
        ],
    )
    def test_ways_to_name_a_repository(self, source: str, address: str | None) -> None:
        if address is None and "://" in source:
            with pytest.raises(CheckpointError, match="only addresses of the Hugging Face Hub"):
                hub_address(source)
        else:
            assert hub_address(source) == address

    def test_other_addresses_name_the_remedy(self) -> None:
        with pytest.raises(CheckpointError, match="Download the file"):
            load_checkpoint("https://example.com/model.safetensors")

    def test_addresses(self) -> None:
        assert parse_hub("hub:org/name") == ("org/name", "", None)
        assert parse_hub("hub:org/name@refs/pr/3") == ("org/name", "", "refs/pr/3")
        assert parse_hub("hub:org/name/sub/file.safetensors@main") == ("org/name", "sub/file.safetensors", "main")

    @pytest.mark.parametrize(
        "wrong",
        ["hub:", "hub:name", "hub:org/", "hub:/name", "hub:org/../x", "hub:org/name@", "hub:a b/c", "hub:o/n@a b"],
    )
    def test_what_is_no_address(self, wrong: str) -> None:
        with pytest.raises(CheckpointError, match="no address"):
            load_checkpoint(wrong)

    @pytest.mark.parametrize("kind", ["LocalEntryNotFoundError", "HTTPError", "OfflineModeIsEnabled"])
    def test_offline_names_the_command(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        def unreachable(**options: Any) -> str:
            raise getattr(huggingface_hub.errors, kind)("no network")

        monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
        with pytest.raises(SourceUnavailableError, match="hf download org/name --revision v1"):
            load_checkpoint("hub:org/name@v1")

    def test_a_snapshot_tells_its_revision(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        commit = "0123456789abcdef0123456789abcdef01234567"
        snapshot = tmp_path / "snapshots" / commit
        models.clip_model().save_pretrained(snapshot)
        asked: list[dict[str, Any]] = []

        def found(**options: Any) -> str:
            asked.append(options)
            return str(snapshot)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", found)
        checkpoint = load_checkpoint("hub:org/name@main")
        assert (checkpoint.name, checkpoint.revision, checkpoint.source) == ("name", commit, "hub:org/name@main")
        assert not any("bin" in pattern for pattern in asked[0]["allow_patterns"])


# --------------------------------------------------------------------------------------------- what is refused


def safetensors_bytes(header: dict[str, Any] | str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


NASTY: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "three bytes": (b"abc", "truncated"),
    "header of 2^64-1 bytes": (b"\xff" * 8 + b"{}", "announces a header"),
    "header larger than allowed": (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "announces a header"),
    "header cut off": (safetensors_bytes('{"a":', length=100), "truncated inside its header"),
    "no JSON": (safetensors_bytes("hello"), "no readable JSON"),
    "no UTF-8": (safetensors_bytes(b"\xff\xfe{}"), "no readable JSON"),
    "a list": (safetensors_bytes("[]"), "no JSON object"),
    "nested by the thousand": (safetensors_bytes("[" * 100_000), "no readable JSON"),
    "a number of 5000 digits": (safetensors_bytes('{"a": ' + "9" * 5000 + "}"), "no readable JSON"),
    "no tensors": (safetensors_bytes({}), "no tensors"),
    "metadata only": (safetensors_bytes({"__metadata__": {"format": "pt"}}), "no tensors"),
    "metadata of another kind": (safetensors_bytes({"__metadata__": {"a": 1}, "w": entry()}, b"0" * 8), "texts only"),
    "key twice": (safetensors_bytes('{"w":%s,"w":%s}' % ((json.dumps(entry()),) * 2), b"0" * 8), "twice"),
    "data cut off": (safetensors_bytes({"w": entry()}, b"0" * 7), "truncated"),
    "data left over": (safetensors_bytes({"w": entry()}, b"0" * 9), "after the last tensor"),
    "overlap": (
        safetensors_bytes({"v": entry(offsets=(0, 8)), "w": entry(offsets=(4, 12))}, b"0" * 12),
        "overlap",
    ),
    "gap": (safetensors_bytes({"v": entry(), "w": entry(offsets=(16, 24))}, b"0" * 24), "belong to no tensor"),
    "size against shape": (safetensors_bytes({"w": entry(shape=(3,))}, b"0" * 8), "needs 12 bytes"),
    "shape of 2^61": (safetensors_bytes({"w": entry(shape=(2**31, 2**30))}, b"0" * 8), "bytes"),
    "shape of 2^70": (safetensors_bytes({"w": entry(shape=(2**70,))}, b"0" * 8), "list of sizes"),
    "negative shape": (safetensors_bytes({"w": entry(shape=(-2,))}, b"0" * 8), "list of sizes"),
    "shape of true": (safetensors_bytes({"w": entry(shape=(True, 2))}, b"0" * 8), "list of sizes"),
    "fractional shape": (safetensors_bytes({"w": entry(shape=(2.0,))}, b"0" * 8), "list of sizes"),
    "a thousand axes": (safetensors_bytes({"w": entry(shape=[1] * 1000, offsets=(0, 4))}, b"0" * 4), "list of sizes"),
    "offsets backwards": (safetensors_bytes({"w": entry(offsets=(8, 0))}, b"0" * 8), "start, stop"),
    "negative offset": (safetensors_bytes({"w": entry(offsets=(-8, 0))}, b"0" * 8), "start, stop"),
    "unknown dtype": (safetensors_bytes({"w": entry("F31")}, b"0" * 8), "cannot be merged"),
    "eight-bit floats": (safetensors_bytes({"w": entry("F8_E4M3", (8,))}, b"0" * 8), "cannot be merged"),
    "dtype of another kind": (safetensors_bytes({"w": {**entry(), "dtype": 3}}, b"0" * 8), "cannot be merged"),
    "missing field": (safetensors_bytes({"w": {"dtype": "F32", "shape": [2]}}, b"0" * 8), "must be described"),
    "extra field": (safetensors_bytes({"w": {**entry(), "code": "x"}}, b"0" * 8), "must be described"),
    "entry of another kind": (safetensors_bytes({"w": 3}, b"0" * 8), "must be described"),
    "half a character": (safetensors_bytes(json.dumps({"\ud800": entry()}), b"0" * 8), "no valid text"),
    "a zip": (b"PK\x03\x04" + b"0" * 100, "pickle"),
    "a pickle": (pickle.dumps({"a": 1}), "pickle"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "LFS pointer"),
    "a server's answer": (b'{"error":"Repository not found"}', "a text that begins"),
    "not a number": (safetensors_bytes({"w": entry()}, struct.pack("<2f", 1.0, float("nan"))), "NaN or infinite"),
    "infinite": (safetensors_bytes({"w": entry()}, struct.pack("<2f", float("inf"), float("-inf"))), "NaN or infinite"),
    "quantised": (safetensors_bytes({"w.qweight": entry("I32", (1, 2))}, b"0" * 8), "quantised"),
}


@pytest.mark.parametrize(("content", "reason"), NASTY.values(), ids=NASTY.keys())
def test_nasty_safetensors(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "nasty.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_all(path)
    message = str(caught.value)
    assert reason in message
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))


class Evil:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_never_runs(legacy: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / "evil.pt", tmp_path / "executed"
    torch.save({"w": Evil(proof)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="nothing in it was executed"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil(proof)))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not proof.exists()


def stretched() -> dict[str, torch.Tensor]:
    return {"w": torch.zeros(1).expand(1 << 40)}


BROKEN_PICKLES: dict[str, Any] = {
    "a list": [torch.zeros(1)],
    "a tensor": torch.zeros(1),
    "numbers": {"a": 1, "b": 2},
    "keys that are numbers": {1: torch.zeros(1)},
    "nothing": {},
    "a terabyte from one number": stretched(),
    "a sparse tensor": {"w": torch.eye(3).to_sparse()},
}


@pytest.mark.parametrize("content", BROKEN_PICKLES.values(), ids=BROKEN_PICKLES.keys())
def test_pytorch_files_that_hold_no_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError):
        read_all(tmp_path / "odd.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04rest", b"\x80\x02.", b"\x80\x05K\x01."])
def test_pytorch_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.bin").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "odd.bin")


def test_truncated_pytorch_files(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for cut in range(1, len(whole), max(1, len(whole) // 40)):
        (tmp_path / "cut.pt").write_bytes(whole[:cut])
        with pytest.raises(CheckpointError):
            read_all(tmp_path / "cut.pt")


class TestPlaces:
    def test_what_is_not_there(self, tmp_path: Path) -> None:
        for source in (tmp_path / "no.safetensors", tmp_path / "no", "", " ", "org/name", "a\0b", "x" * 5000):
            with pytest.raises(CheckpointError):
                load_checkpoint(source)
        with pytest.raises(CheckpointError, match="hub:org/name"):
            load_checkpoint("org/name")
        with pytest.raises(CheckpointError, match="not as int"):
            load_checkpoint(3)  # type: ignore[arg-type]

    def test_links_that_go_round(self, tmp_path: Path) -> None:
        loop = tmp_path / "loop.safetensors"
        loop.symlink_to(loop)
        dangling = tmp_path / "dangling.safetensors"
        dangling.symlink_to(tmp_path / "nowhere")
        for path in (loop, dangling):
            with pytest.raises(CheckpointError):
                load_checkpoint(path)

    def test_links_to_files_work(self, tmp_path: Path) -> None:
        save_file(STATE, tmp_path / "blob")
        (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")  # as in the Hub's cache
        assert_state(read_all(tmp_path / "model.safetensors"))
        assert_state(load_file(tmp_path / "model.safetensors"))

    def test_devices_and_pipes(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe.safetensors"
        os.mkfifo(pipe)
        with pytest.raises(CheckpointError, match="no regular file"):
            load_checkpoint(pipe)
        with pytest.raises(CheckpointError, match="no regular file"):
            load_checkpoint("/dev/zero")

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="no weights"):
            load_checkpoint(tmp_path)
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(CheckpointError, match="LoRA"):
            load_checkpoint(tmp_path)
        for name in ("a", "b"):
            save_file(STATE, tmp_path / f"{name}.safetensors")
        (tmp_path / "adapter_config.json").unlink()
        with pytest.raises(CheckpointError, match="no index"):
            load_checkpoint(tmp_path)
        (tmp_path / "b.safetensors").unlink()
        assert_state(read_all(tmp_path))
        (tmp_path / "c.safetensors").mkdir()
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "c.safetensors")

    def test_shards_without_an_index(self, tmp_path: Path) -> None:
        parts = [{"a.weight": STATE["a.weight"]}, {key: STATE[key] for key in ("a.bias", "steps")}]
        for number, part in enumerate(parts, start=1):
            save_file(part, tmp_path / f"model-0000{number}-of-00002.safetensors")
        assert_state(read_all(tmp_path))
        (tmp_path / "model-00001-of-00002.safetensors").rename(tmp_path / "model-00001-of-00003.safetensors")
        with pytest.raises(CheckpointError, match="no index"):
            load_checkpoint(tmp_path)

    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("__0_0.distcp", "dcp_to_torch"),
            ("zero_to_fp32.py", "zero_to_fp32"),
            ("flax_model.msgpack", "another library"),
        ],
    )
    def test_folders_of_other_tools_name_the_remedy(self, name: str, remedy: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(CheckpointError, match=remedy):
            load_checkpoint(tmp_path)

    def test_unknown_formats(self, tmp_path: Path) -> None:
        (tmp_path / "model.h5").write_bytes(b"x")
        with pytest.raises(CheckpointError, match="unknown format"):
            load_checkpoint(tmp_path / "model.h5")

    @pytest.mark.parametrize(
        "index",
        [
            "",
            "[]",
            "{}",
            '{"weight_map": {}}',
            '{"weight_map": []}',
            '{"weight_map": {"a": 3}}',
            '{"weight_map": {"a": "../../etc/passwd"}}',
            '{"weight_map": {"a": "/etc/passwd"}}',
            '{"weight_map": {"a": ".."}}',
            '{"weight_map": {"a": "missing.safetensors"}}',
            '{"weight_map": {"a.bias": "part.safetensors", "other": "part.safetensors"}}',
            '{"weight_map": {"a.bias": "part.safetensors", "a.weight": "same.safetensors"}}',
        ],
    )
    def test_indexes(self, index: str, tmp_path: Path) -> None:
        save_file(STATE, tmp_path / "part.safetensors")
        save_file(STATE, tmp_path / "same.safetensors")
        (tmp_path / "model.safetensors.index.json").write_text(index)
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path)

    def test_a_broken_configuration(self, tmp_path: Path) -> None:
        save_file(STATE, tmp_path / "model.safetensors")
        for content in ("{", "[]", "[" * 100_000):
            (tmp_path / "config.json").write_text(content)
            with pytest.raises(CheckpointError, match=r"config\.json"):
                load_checkpoint(tmp_path)


class TestMappings:
    @pytest.mark.parametrize(
        "state",
        [
            {},
            {"a": 3},
            {3: torch.zeros(1)},
            {"a": torch.zeros(1, device="meta")},
            {"a": torch.eye(2).to_sparse()},
            {"a": torch.zeros(1, dtype=torch.complex64)},
            {"a": torch.zeros(4).to(torch.float8_e4m3fn)},
        ],
    )
    def test_what_is_no_state_dict(self, state: Any) -> None:
        with pytest.raises(CheckpointError):
            load_checkpoint(state)

    def test_large_sums_are_finite(self) -> None:
        """The quick test for NaN adds everything up; an overflowing sum must not be taken for a bad weight."""
        state = {"w": torch.full((4, 4), 3e38), "h": torch.full((4096,), 60000.0, dtype=torch.float16)}
        assert_state(read_all(state), state)

    def test_unknown_keys(self) -> None:
        with pytest.raises(CheckpointError, match="no tensor 'b'"):
            load_checkpoint(STATE).tensor("b")


# -------------------------------------------------------------------------------------------------- fuzzing

_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["F32", "I8", "F8_E4M3"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
_entry = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E5M2", "X"]) | _value,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | _value,
        "data_offsets": st.tuples(st.integers(-1, 40), st.integers(-1, 40)).map(list) | _value,
    }
)
_header = st.dictionaries(
    st.sampled_from(["a", "b", "a.weight", "__metadata__", "\0", "é" * 40]) | st.text(max_size=6),
    _entry | _value,
    max_size=4,
)


@given(header=_header, data=st.integers(0, 64))
def test_any_header_is_read_or_refused(header: dict[str, Any], data: int) -> None:
    text = json.dumps(header).encode()
    try:
        found = parse_header(text, data, "file")
    except CheckpointError:
        return
    assert sum(entry.stop - entry.start for entry in found.tensors.values()) == data


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz", numbered=True)
    for suffix in (".safetensors", ".pt"):
        path = folder / f"file{suffix}"
        path.write_bytes(content)
        with pytest.raises(NeuroMergeError):
            read_all(path)


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_one_changed_byte_is_read_or_refused(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Anything may come of a flipped byte but an error of another kind."""
    path = tmp_path_factory.mktemp("flip", numbered=True) / "file.safetensors"
    save_file(STATE, path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read_all(path)


def test_a_state_dict_of_numpy_arrays_is_that_of_its_tensors() -> None:
    arrays = {key: value.numpy() for key, value in STATE.items()}
    assert_state(read_all(arrays))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values[::-1].copy()[::-1],
        lambda values: values.astype(">f4"),
        lambda values: np.frombuffer(values.tobytes(), np.float32).reshape(values.shape),
        lambda values: np.asfortranarray(values),
    ],
    ids=["backwards", "big endian", "read only", "by columns"],
)
def test_arrays_in_any_order_hold_the_same_values(change: Any) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_all({"layer.weight": change(values), "scale": np.float32(2.5)})
    assert torch.equal(read["layer.weight"], torch.from_numpy(values))
    assert read["scale"].item() == 2.5


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([object()]), np.zeros(2, np.longdouble)], ids=str)
def test_arrays_of_no_weights_are_named_with_their_type(array: Any) -> None:
    with pytest.raises(CheckpointError, match=r"layer\.weight.*NumPy array of .*Convert it to float32"):
        load_checkpoint({"layer.weight": array})


def test_a_model_and_an_adapter_in_one_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="give the adapter by itself"):
        load_checkpoint(f"{tmp_path / 'model'}+{tmp_path / 'lora'}")
    (tmp_path / "a+b.safetensors").write_bytes(safetensors_bytes({"w": entry()}, struct.pack("<2f", 1.0, 2.0)))
    assert load_checkpoint(tmp_path / "a+b.safetensors").tensor("w").tolist() == [1.0, 2.0]
