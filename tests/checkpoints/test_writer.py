"""What is written must load in the libraries users load it with, and give the same outputs."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuromerge.checkpoints import CheckpointWriter, align, load_checkpoint, save_checkpoint
from neuromerge.checkpoints import writer as writer_module
from neuromerge.errors import CheckpointError, SettingError, StorageError
from tests.checkpoints import models


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.tensor([[48, 5, 9, 49, 0, 0, 0, 0, 0, 0], [48, 7, 49, 0, 0, 0, 0, 0, 0, 0]])


def embeddings(model: torch.nn.Module, pixels: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        if hasattr(model, "encode_image"):
            return model.encode_image(pixels), model.encode_text(tokens)
        image, text = model.get_image_features(pixel_values=pixels), model.get_text_features(input_ids=tokens)
        return getattr(image, "pooler_output", image), getattr(text, "pooler_output", text)


def assert_same_state(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert set(a) == set(b)
    for key, value in a.items():
        assert value.dtype == b[key].dtype, key
        assert torch.equal(value, b[key]), key


def test_open_clip_to_transformers_and_back(tmp_path: Path, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
    model = models.open_clip_model()
    folder = models.save_open_clip(model, tmp_path / "ours")

    save_checkpoint(folder, tmp_path / "theirs", "transformers")
    converted = models.quiet_transformers().CLIPModel.from_pretrained(tmp_path / "theirs").eval()
    for mine, other in zip(embeddings(model, pixels, tokens), embeddings(converted, pixels, tokens), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    processor = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert processor["image_mean"] == [0.5, 0.4, 0.3]
    assert processor["crop_size"] == {"height": 16, "width": 16}

    save_checkpoint(tmp_path / "theirs", tmp_path / "again", "open_clip")
    assert_same_state(load_file(tmp_path / "again" / "open_clip_model.safetensors"), dict(model.state_dict()))
    again = models.load_open_clip(tmp_path / "again")
    for mine, other in zip(embeddings(model, pixels, tokens), embeddings(again, pixels, tokens), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)
    before = json.loads((folder / "open_clip_config.json").read_text())
    after = json.loads((tmp_path / "again" / "open_clip_config.json").read_text())
    assert after == before


@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_temperature_is_written_as_the_library_wants_it(shape: tuple[int, ...], tmp_path: Path) -> None:
    """open_clip can hold it with an axis (nonscalar_logit_scale); transformers has none."""
    state = dict(models.open_clip_model().state_dict())
    state["logit_scale"] = torch.full(shape, 1.5)
    save_checkpoint(state, tmp_path / "t.safetensors", "transformers")
    converted = load_checkpoint(tmp_path / "t.safetensors").state_dict()
    assert converted["logit_scale"].shape == ()
    assert float(converted["logit_scale"]) == 1.5
    models.clip_model().load_state_dict(converted)
    state_of_theirs = {**converted, "logit_scale": torch.full(shape, 1.5)}
    save_checkpoint(state_of_theirs, tmp_path / "o.safetensors", "open_clip")
    models.open_clip_model().load_state_dict(load_checkpoint(tmp_path / "o.safetensors").state_dict())


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_a_named_layout_is_what_its_library_loads(layout: str, tmp_path: Path) -> None:
    """Without the trainer's prefix and without what stood beside the model; unnamed, the keys stay as they are."""
    model = models.open_clip_model() if layout == "open_clip" else models.clip_model()
    state = {f"module.net.{key}": value for key, value in model.state_dict().items()}
    state["head.weight"] = torch.ones(3, 8)
    save_checkpoint(state, tmp_path / "named.safetensors", layout)
    assert_equal(load_checkpoint(tmp_path / "named.safetensors").state_dict(), dict(model.state_dict()))
    save_checkpoint(state, tmp_path / "kept.safetensors")
    assert_equal(load_checkpoint(tmp_path / "kept.safetensors").state_dict(), state)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert set(one) == set(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_transformers_to_open_clip_with_gelu(tmp_path: Path, pixels: torch.Tensor, tokens: torch.Tensor) -> None:
    config = models.clip_config()
    config.vision_config.hidden_act = config.text_config.hidden_act = "gelu"
    model = models.randomised(models.quiet_transformers().CLIPModel(config), 3)
    model.save_pretrained(tmp_path / "theirs")
    save_checkpoint(tmp_path / "theirs", tmp_path / "ours", "open_clip")
    converted = models.load_open_clip(tmp_path / "ours")
    for mine, other in zip(embeddings(model, pixels, tokens), embeddings(converted, pixels, tokens), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["CLIPVisionModel", "CLIPVisionModelWithProjection"])
def test_vision_only_models_come_back(kind: str, tmp_path: Path, pixels: torch.Tensor) -> None:
    model = models.clip_model(2, kind)
    model.save_pretrained(tmp_path / "base")
    save_checkpoint(tmp_path / "base", tmp_path / "out")
    again = type(model).from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert torch.equal(model(pixel_values=pixels)[0], again(pixel_values=pixels)[0])


def test_an_open_clip_folder_needs_a_text_tower(tmp_path: Path) -> None:
    models.clip_model(2, "CLIPVisionModelWithProjection").save_pretrained(tmp_path / "base")
    with pytest.raises(CheckpointError, match="text tower"):
        save_checkpoint(tmp_path / "base", tmp_path / "out", "open_clip")
    save_checkpoint(tmp_path / "base", tmp_path / "out.safetensors", "open_clip")
    assert load_checkpoint(tmp_path / "out.safetensors").layout == "open_clip"


@pytest.mark.parametrize(
    ("state", "layout"),
    [
        ({"vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.ones(2, 2)}, "open_clip"),
        ({"vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.ones(())}, "open_clip"),
        ({"visual.proj": torch.ones(2, 2)}, "transformers"),
        ({"visual.proj": torch.ones(2, 2, 2)}, "transformers"),
    ],
)
def test_parts_of_a_model_are_not_converted(state: dict[str, torch.Tensor], layout: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"layout|q, k and v"):
        save_checkpoint(state, tmp_path / "out.safetensors", layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "phi3", "mixtral", "gpt_oss", "bert"])
def test_written_language_models_load_in_transformers(kind: str, tmp_path: Path) -> None:
    """Every parameter is written by itself, as a merge does, so that fused and tied tensors are put together again."""
    model = models.language_model(kind)
    model.save_pretrained(tmp_path / "base")
    base = load_checkpoint(tmp_path / "base")
    aligned = align(base, [base])
    with CheckpointWriter(tmp_path / "out", base, expected=[p.name for p in aligned.parameters]) as writer:
        for parameter in aligned.parameters:
            writer.write(parameter.name, aligned.base_tensor(parameter).clone())
    again = type(model).from_pretrained(tmp_path / "out").eval()
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    # Equal weights at other addresses: the last bit of a matrix product depends on where its operands lie.
    torch.testing.assert_close(models.logits(again), models.logits(model), atol=1e-6, rtol=0)


def test_tied_copies_follow_their_original(tmp_path: Path) -> None:
    state = dict(models.language_model("t5").state_dict())
    base = load_checkpoint(state)
    aligned = align(base, [models.perturbed(models.language_model("t5").state_dict(), 1)])
    # The perturbation unties the expert, so all four are merged apart ...
    assert not aligned.copies
    aligned = align(base, [dict(models.language_model("t5", 5).state_dict())])
    # ... and with a tied expert, once.
    assert set(aligned.copies.values()) == {"shared.weight"}
    with CheckpointWriter(tmp_path / "out", base) as writer:
        for parameter in aligned.parameters:
            writer.write(parameter.name, aligned.base_tensor(parameter) + 1)
    written = load_file(tmp_path / "out" / "model.safetensors")
    for copy in aligned.copies:
        assert torch.equal(written[copy], state["shared.weight"] + 1)


def test_shards_with_an_index(tmp_path: Path) -> None:
    model = models.language_model("llama")
    model.save_pretrained(tmp_path / "base")
    base = load_checkpoint(tmp_path / "base")
    with CheckpointWriter(tmp_path / "out", base, shard_bytes=6000):
        pass
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    again = type(model).from_pretrained(tmp_path / "out").eval()
    assert torch.equal(models.logits(again), models.logits(model))
    assert_same_state(load_checkpoint(tmp_path / "out").state_dict(), base.state_dict())
    # A second merge into our own folder replaces the first and leaves nothing of it.
    with CheckpointWriter(tmp_path / "out", base):
        pass
    assert not list((tmp_path / "out").glob("model-*"))
    assert not list((tmp_path / "out").glob("*.index.json"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_another_dtype(dtype: str, tmp_path: Path) -> None:
    models.language_model("llama").save_pretrained(tmp_path / "base")
    save_checkpoint(tmp_path / "base", tmp_path / "out", dtype=dtype)
    again = models.quiet_transformers().LlamaForCausalLM.from_pretrained(tmp_path / "out")
    assert again.dtype == getattr(torch, dtype)


def test_values_that_do_not_fit_the_dtype_are_refused(tmp_path: Path) -> None:
    base = load_checkpoint({"a.weight": torch.ones(2, 2, dtype=torch.float16)})
    with (
        pytest.raises(CheckpointError, match="float16 cannot hold"),
        CheckpointWriter(tmp_path / "out", base) as writer,
    ):
        writer.write("a.weight", torch.full((2, 2), 1e6))
    assert list(tmp_path.iterdir()) == []


def test_integers_and_booleans_are_kept(tmp_path: Path) -> None:
    state = {
        "flag": torch.tensor([True, False, True]),
        "w.weight": torch.randn(3, 5, dtype=torch.float64),
        "ids": torch.arange(7),
        "scalar": torch.tensor(2.5),
        "half.weight": torch.randn(3, 3).to(torch.bfloat16),
        "empty": torch.empty(0, 4),
    }
    save_checkpoint(state, tmp_path / "out.safetensors")
    assert_same_state(load_file(tmp_path / "out.safetensors"), state)


class TestTargets:
    @pytest.fixture
    def base(self) -> dict[str, torch.Tensor]:
        return {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4)}

    def test_a_foreign_folder_is_not_touched(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        target = tmp_path / "out"
        target.mkdir()
        (target / "thesis.txt").write_text("mine")
        with pytest.raises(StorageError, match="not empty"):
            save_checkpoint(base, target)
        save_checkpoint(base, target, force=True)
        assert (target / "thesis.txt").read_text() == "mine"
        assert (target / "model.safetensors").is_file()

    def test_an_existing_file_is_not_overwritten(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        target = tmp_path / "out.safetensors"
        save_checkpoint(base, target)
        with pytest.raises(StorageError, match="exists"):
            save_checkpoint(base, target)
        save_checkpoint(base, target, force=True)

    @pytest.mark.parametrize("name", ["file", "", ".", ".."])
    def test_names_that_cannot_be_written(self, base: dict[str, torch.Tensor], name: str, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StorageError):
            save_checkpoint(base, tmp_path / name if name == "file" else name)

    @pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".gguf", ".PT"])
    def test_other_formats_name_the_remedy(self, base: dict[str, torch.Tensor], ending: str, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match=r"merged\.safetensors"):
            save_checkpoint(base, tmp_path / f"merged{ending}")
        assert list(tmp_path.iterdir()) == []
        save_checkpoint(base, tmp_path / "ViT-L-14-336.v2")  # a dot alone is no ending

    def test_home(self, base: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        (path,) = save_checkpoint(base, "~/merged.safetensors")
        assert path == tmp_path / "merged.safetensors"
        assert path.is_file()
        assert not (tmp_path / "~").exists()

    def test_an_interruption_leaves_nothing(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        def interrupted() -> None:
            with CheckpointWriter(tmp_path / "out", load_checkpoint(base)) as writer:
                writer.write("a.weight", torch.zeros(4, 3))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_leaves_the_former_result(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        target = tmp_path / "out"
        save_checkpoint(base, target)
        before = {path.name: path.read_bytes() for path in target.iterdir()}
        with pytest.raises(ZeroDivisionError), CheckpointWriter(target, load_checkpoint(base)):
            raise ZeroDivisionError
        assert {path.name: path.read_bytes() for path in target.iterdir()} == before

    def test_a_full_disk_is_told_before_anything_is_written(
        self, base: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = writer_module.shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(writer_module.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(StorageError, match="GB free"):
            save_checkpoint(base, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_fills_up_on_the_way(
        self, base: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write
        calls = []

        def full(descriptor: int, data: memoryview) -> int:
            calls.append(descriptor)
            if len(calls) > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(descriptor, data)

        monkeypatch.setattr(writer_module.os, "write", full)
        with pytest.raises(StorageError, match="No space left"):
            save_checkpoint(base, tmp_path / "out")
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_process_left_is_removed(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        stale = tmp_path / ".out.partial-999999999-0123abcd"
        other = tmp_path / f".out.partial-{os.getpid()}-0123abcd"
        stale.mkdir()
        other.mkdir()
        save_checkpoint(base, tmp_path / "out")
        assert not stale.exists()
        assert other.exists()  # of a living process

    def test_defects_of_the_caller_are_value_errors(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        checkpoint = load_checkpoint(base)
        for name, tensor in (("nope", torch.zeros(1)), ("a.weight", torch.zeros(3, 4))):
            with pytest.raises(ValueError, match=name), CheckpointWriter(tmp_path / "out", checkpoint) as writer:
                writer.write(name, tensor)
        with (
            pytest.raises(ValueError, match="never written"),
            CheckpointWriter(tmp_path / "out", checkpoint, expected=["a.bias"]),
        ):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_unknown_layout_and_dtype(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        with pytest.raises(SettingError, match="layout"):
            save_checkpoint(base, tmp_path / "out", "keras")
        with pytest.raises(SettingError, match="dtype"):
            save_checkpoint(base, tmp_path / "out", dtype="int8")
        with pytest.raises(CheckpointError, match="no CLIP model"):
            save_checkpoint(base, tmp_path / "out", "open_clip")

    def test_paths_that_are_no_text(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        target = tmp_path / "odd-\udc80"
        with CheckpointWriter(target, load_checkpoint(base), record={"path": str(target)}):
            pass
        assert json.loads((target / "neuromerge.json").read_text())["path"] == str(target)

    def test_the_record_tells_how_it_was_made(self, base: dict[str, torch.Tensor], tmp_path: Path) -> None:
        with CheckpointWriter(tmp_path / "out", load_checkpoint(base), record={"seed": 3}) as writer:
            writer.record["sigma"] = 0.5
        record = json.loads((tmp_path / "out" / "neuromerge.json").read_text())
        assert (record["seed"], record["sigma"]) == (3, 0.5)
        assert set(record["files"]) == {path.name for path in (tmp_path / "out").iterdir()}
