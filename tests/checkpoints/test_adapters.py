"""LoRA adapters as PEFT writes them, put into bases of either layout. The files are written by hand here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import neuromerge
from neuromerge.checkpoints import load_checkpoint, save_checkpoint
from neuromerge.errors import AlignmentError, CheckpointError, NeuroMergeError
from tests.checkpoints import models

State = dict[str, torch.Tensor]
PEFT = "base_model.model."
# As PEFT writes it, the fields of other variants at their neutral values.
CONFIG: dict[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": {"base_model_class": "CLIPModel", "parent_library": "transformers.models.clip.modeling_clip"},
    "base_model_name_or_path": None,
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj"],
    "target_parameters": None,
    "task_type": None,
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.2


def write(folder: Path, tensors: State, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def factors(module: str, outputs: int, inputs: int, rank: int = 4, seed: int = 1) -> State:
    return {
        f"{PEFT}{module}.lora_A.weight": drawn(rank, inputs, seed=seed),
        f"{PEFT}{module}.lora_B.weight": drawn(outputs, rank, seed=seed + 100),
    }


def product(tensors: State, module: str) -> torch.Tensor:
    return tensors[f"{PEFT}{module}.lora_B.weight"] @ tensors[f"{PEFT}{module}.lora_A.weight"]


def adapted(adapter: Path, base: Any) -> State:
    return load_checkpoint(adapter, base=load_checkpoint(base)).state_dict()


def assert_close(found: State, expected: State) -> None:
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.allclose(found[key].float(), value.float(), atol=1e-6), key


LAYER = "vision_model.encoder.layers.{}.self_attn.{}"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    models.clip_model().save_pretrained(folder)
    return folder


@pytest.fixture
def clip(clip_folder: Path) -> State:
    return load_checkpoint(clip_folder).state_dict()


class TestScale:
    @pytest.mark.parametrize(
        ("config", "scale"),
        [
            ({}, 2.0),
            ({"lora_alpha": 3}, 0.75),
            ({"use_rslora": True}, 4.0),
            ({"alpha_pattern": {"layers.1.self_attn.q_proj": 100}}, 2.0),
            ({"alpha_pattern": {r".*\.0\.self_attn\.q_proj": 20}}, 5.0),
            ({"alpha_pattern": {"q_proj": 4}, "use_rslora": True}, 2.0),
            ({"rank_pattern": {"q_proj": 4}, "r": 64}, 2.0),
            ({"init_lora_weights": "gaussian", "target_modules": "all-linear"}, 2.0),
        ],
    )
    def test_alpha_over_r(
        self, config: dict[str, Any], scale: float, clip: State, clip_folder: Path, tmp_path: Path
    ) -> None:
        module = LAYER.format(0, "q_proj")
        tensors = factors(module, 16, 16)
        want = {**clip, f"{module}.weight": clip[f"{module}.weight"] + scale * product(tensors, module)}
        folder = write(tmp_path / "lora", tensors, **config)
        for source in (folder, folder / "adapter_model.safetensors"):
            assert_close(adapted(source, clip_folder), want)

    def test_ranks_that_differ(self, clip: State, clip_folder: Path, tmp_path: Path) -> None:
        tensors, want = {}, dict(clip)
        for block, rank in ((0, 2), (1, 4)):
            module = LAYER.format(block, "v_proj")
            tensors |= factors(module, 16, 16, rank, seed=block)
            want[f"{module}.weight"] = clip[f"{module}.weight"] + 8 / rank * product(tensors, module)
        assert_close(adapted(write(tmp_path, tensors, rank_pattern={"layers.0.*": 2}), clip_folder), want)


class TestPlaces:
    def modules(self) -> dict[str, tuple[int, int]]:
        shapes = {LAYER.format(0, "q_proj"): (16, 16), LAYER.format(0, "v_proj"): (16, 16)}
        shapes |= {LAYER.format(1, "k_proj"): (16, 16), LAYER.format(1, "out_proj"): (16, 16)}
        shapes |= {"vision_model.encoder.layers.0.mlp.fc1": (32, 16), "vision_model.encoder.layers.1.mlp.fc2": (16, 32)}
        return shapes | {"visual_projection": (8, 16), "text_model.encoder.layers.0.self_attn.k_proj": (12, 12)}

    def tensors(self) -> State:
        made: State = {}
        for number, (module, (outputs, inputs)) in enumerate(self.modules().items()):
            made |= factors(module, outputs, inputs, seed=number)
        return made

    def merged(self, clip: State) -> State:
        tensors, want = self.tensors(), dict(clip)
        for module in self.modules():
            want[f"{module}.weight"] = clip[f"{module}.weight"] + 2 * product(tensors, module)
        return want

    def test_a_transformers_adapter_fits_either_layout(self, clip: State, clip_folder: Path, tmp_path: Path) -> None:
        """open_clip holds q, k and v in one tensor and its projections in columns."""
        adapter = write(tmp_path / "lora", self.tensors())
        assert_close(adapted(adapter, clip_folder), self.merged(clip))
        save_file(self.merged(clip), tmp_path / "merged.safetensors")
        save_checkpoint(tmp_path / "merged.safetensors", tmp_path / "want.safetensors", "open_clip")
        save_checkpoint(clip_folder, tmp_path / "base.safetensors", "open_clip")
        want = load_checkpoint(tmp_path / "want.safetensors").state_dict()
        assert_close(adapted(adapter, tmp_path / "base.safetensors"), want)

    @pytest.mark.parametrize("prefix", ["base_model.model.", "", "base_model.", "module.base_model.model."])
    @pytest.mark.parametrize("name", ["", ".default", ".task_3"])
    def test_keys_as_they_are_saved(
        self, prefix: str, name: str, clip: State, clip_folder: Path, tmp_path: Path
    ) -> None:
        renamed = {
            key.replace(PEFT, prefix).replace(".lora_A", f".lora_A{name}").replace(".lora_B", f".lora_B{name}"): value
            for key, value in self.tensors().items()
        }
        assert_close(adapted(write(tmp_path, renamed), clip_folder), self.merged(clip))

    def test_an_adapter_of_the_vision_tower_alone(self, clip: State, clip_folder: Path, tmp_path: Path) -> None:
        module = "encoder.layers.0.self_attn.q_proj"
        tensors = factors(module, 16, 16)
        want = dict(clip)
        want[f"vision_model.{module}.weight"] = clip[f"vision_model.{module}.weight"] + 2 * product(tensors, module)
        assert_close(adapted(write(tmp_path, tensors), clip_folder), want)

    def test_convolutions_and_embeddings(self, clip: State, clip_folder: Path, tmp_path: Path) -> None:
        patch, tokens = "vision_model.embeddings.patch_embedding", "text_model.embeddings.token_embedding"
        tensors = {
            f"{PEFT}{patch}.lora_A.weight": drawn(4, 3, 8, 8, seed=1),
            f"{PEFT}{patch}.lora_B.weight": drawn(16, 4, 1, 1, seed=2),
            f"{PEFT}{tokens}.lora_embedding_A": drawn(4, 50, seed=3),
            f"{PEFT}{tokens}.lora_embedding_B": drawn(12, 4, seed=4),
        }
        down, up, first, second = tensors.values()
        want = dict(clip)
        want[f"{patch}.weight"] = clip[f"{patch}.weight"] + 2 * torch.einsum("orab,rihw->oihw", up, down)
        want[f"{tokens}.weight"] = clip[f"{tokens}.weight"] + 2 * (second @ first).T
        assert_close(adapted(write(tmp_path, tensors), clip_folder), want)

    def test_what_was_trained_whole(self, clip: State, clip_folder: Path, tmp_path: Path) -> None:
        module = LAYER.format(0, "q_proj")
        tensors = factors(module, 16, 16)
        tensors |= {
            f"{PEFT}visual_projection.weight": drawn(8, 16, seed=7),
            f"{PEFT}{module}.bias": drawn(16, seed=8),
            f"{PEFT}classifier.weight": drawn(3, 16, seed=9),
        }
        adapter = write(
            tmp_path / "lora", tensors, modules_to_save=["visual_projection", "classifier"], bias="lora_only"
        )
        want = dict(clip)
        want[f"{module}.weight"] = clip[f"{module}.weight"] + 2 * product(tensors, module)
        want["visual_projection.weight"] = tensors[f"{PEFT}visual_projection.weight"]
        want[f"{module}.bias"] = tensors[f"{PEFT}{module}.bias"]
        assert_close(adapted(adapter, clip_folder), want)
        loaded = load_checkpoint(adapter, base=load_checkpoint(clip_folder))
        assert list(loaded.left_out) == [f"{PEFT}classifier.weight"]
        save_checkpoint(clip_folder, tmp_path / "base.safetensors", "open_clip")
        other = adapted(adapter, tmp_path / "base.safetensors")
        assert torch.equal(other["visual.proj"], tensors[f"{PEFT}visual_projection.weight"].T)
        fused = other["visual.transformer.resblocks.0.attn.in_proj_bias"]
        assert torch.equal(fused[:16], tensors[f"{PEFT}{module}.bias"])
        assert torch.equal(fused[16:32], clip[f"{LAYER.format(0, 'k_proj')}.bias"])

    @pytest.mark.parametrize(
        ("kind", "module", "key", "shape"),
        [
            ("llama", "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.q_proj.weight", (16, 16)),
            ("llama", "lm_head", "lm_head.weight", (40, 16)),
            ("phi3", "model.layers.0.self_attn.qkv_proj", "model.layers.0.self_attn.qkv_proj.weight", (32, 16)),
            ("phi3", "model.layers.0.mlp.gate_up_proj", "model.layers.0.mlp.gate_up_proj.weight", (64, 16)),
            ("gpt2", "transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_attn.weight", (48, 16)),
            ("gpt2", "transformer.h.1.mlp.c_fc", "transformer.h.1.mlp.c_fc.weight", (64, 16)),
            (
                "bert",
                "bert.encoder.layer.0.attention.self.query",
                "bert.encoder.layer.0.attention.self.query.weight",
                (16, 16),
            ),
        ],
    )
    def test_language_models(self, kind: str, module: str, key: str, shape: tuple[int, int], tmp_path: Path) -> None:
        model = models.language_model(kind)
        model.save_pretrained(tmp_path / "base")
        tensors = factors(module, *shape)
        change = 2 * product(tensors, module)
        state = dict(model.state_dict())
        # GPT-2's Conv1D stores its weights transposed, whatever fan_in_fan_out says.
        want = state[key] + (change.T if kind == "gpt2" else change)
        got = adapted(write(tmp_path / "lora", tensors, fan_in_fan_out=kind == "gpt2"), tmp_path / "base")
        assert torch.allclose(got[key], want, atol=1e-6)
        assert all(torch.equal(got[other], state[other]) for other in got if other != key)

    @pytest.mark.parametrize(
        ("kind", "module", "size"),
        [("gpt2", "transformer.h.0.attn.c_attn", 48), ("gpt2", "transformer.h.1.mlp.c_fc", 64)],
    )
    def test_biases_of_what_is_stored_fused(self, kind: str, module: str, size: int, tmp_path: Path) -> None:
        """The bias of q, k and v is one vector of the file, and three parameters here."""
        models.language_model(kind).save_pretrained(tmp_path / "base")
        tensors = {**factors(module, size, 16), f"{PEFT}{module}.bias": drawn(size, seed=8)}
        got = adapted(write(tmp_path / "lora", tensors, fan_in_fan_out=True, bias="lora_only"), tmp_path / "base")
        assert torch.equal(got[f"{module}.bias"], tensors[f"{PEFT}{module}.bias"])

    def test_small_changes_survive_a_base_of_half_precision(self, tmp_path: Path) -> None:
        base = {"model.layers.0.fc.weight": torch.ones(4, 4, dtype=torch.bfloat16)}
        tensors = {
            f"{PEFT}model.layers.0.fc.lora_A.weight": torch.ones(1, 4),
            f"{PEFT}model.layers.0.fc.lora_B.weight": torch.full((4, 1), 1e-4),
        }
        got = adapted(write(tmp_path, tensors, lora_alpha=1), base)["model.layers.0.fc.weight"]
        assert torch.allclose(got, torch.full((4, 4), 1.0001), atol=1e-7)


class TestMerging:
    @pytest.mark.parametrize("method", ["task_arithmetic", "neuromerging", "ties", "tsv_m"])
    def test_it_merges_as_the_weights_it_makes(
        self, method: str, clip: State, clip_folder: Path, tmp_path: Path
    ) -> None:
        adapters, whole = [], []
        for seed in (1, 2):
            tensors, state = {}, dict(clip)
            for block in range(2):
                for leaf in ("q_proj", "v_proj"):
                    module = LAYER.format(block, leaf)
                    tensors |= factors(module, 16, 16, seed=10 * seed + block)
                    state[f"{module}.weight"] = clip[f"{module}.weight"] + 2 * product(tensors, module)
            adapters.append(write(tmp_path / f"lora{seed}", tensors))
            whole.append(state)
        got = neuromerge.merge(clip_folder, adapters, method).state_dict
        want = neuromerge.merge(clip_folder, whole, method).state_dict
        assert all(torch.allclose(got[key], want[key], atol=1e-5) for key in want)
        neuromerge.merge(clip_folder, [*adapters, whole[0]], method, out=tmp_path / "out")
        assert load_checkpoint(tmp_path / "out").layout == "transformers-clip"

    def test_the_base_that_its_configuration_names(self, clip_folder: Path, tmp_path: Path) -> None:
        tensors = factors(LAYER.format(0, "q_proj"), 16, 16)
        adapter = write(tmp_path / "lora", tensors, base_model_name_or_path=str(clip_folder))
        result = neuromerge.merge(None, [adapter])
        assert result.sources["base"] == str(clip_folder)
        assert_close(dict(result.state_dict), dict(neuromerge.merge(clip_folder, [adapter]).state_dict))
        assert load_checkpoint(adapter).name == "lora"
        with pytest.raises(NeuroMergeError, match="no LoRA adapter that names its base"):
            neuromerge.merge(None, [clip_folder])

    def test_a_base_on_the_hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub

        def unreachable(**options: Any) -> str:
            raise huggingface_hub.errors.OfflineModeIsEnabled(options["repo_id"])

        monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
        tensors = factors(LAYER.format(0, "q_proj"), 16, 16)
        adapter = write(tmp_path, tensors, base_model_name_or_path="openai/clip-vit-base-patch32")
        with pytest.raises(NeuroMergeError, match="LoRA adapter of hub:openai/clip-vit-base-patch32"):
            load_checkpoint(adapter)
        with pytest.raises(NeuroMergeError, match="names no base"):
            load_checkpoint(write(tmp_path, tensors))

    def test_an_adapter_of_the_hub_chooses_no_local_path(
        self, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import huggingface_hub

        tensors = factors(LAYER.format(0, "q_proj"), 16, 16)
        write(tmp_path, tensors, base_model_name_or_path=str(clip_folder))
        monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **options: str(tmp_path))
        with pytest.raises(NeuroMergeError, match="names no base"):
            load_checkpoint("hub:a/stranger")
        assert load_checkpoint("hub:a/stranger", base=load_checkpoint(clip_folder)).name == "stranger"

    def test_an_adapter_that_was_never_trained(self, clip_folder: Path, tmp_path: Path) -> None:
        tensors = factors(LAYER.format(0, "q_proj"), 16, 16)
        tensors = {key: torch.zeros_like(value) if "lora_B" in key else value for key, value in tensors.items()}
        result = neuromerge.merge(clip_folder, [write(tmp_path / "untrained", tensors)])
        assert any("untrained is the same as the base" in text for text in result.warnings)


class TestRefused:
    @pytest.mark.parametrize(
        ("config", "reason"),
        [
            ({"use_dora": True}, "use_dora"),
            ({"peft_type": "LOHA"}, "LOHA"),
            ({"peft_type": "PROMPT_TUNING"}, "PROMPT_TUNING"),
            ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
            ({"init_lora_weights": "olora"}, "olora"),
            ({"lora_bias": True}, "lora_bias"),
            ({"layer_replication": [[0, 4]]}, "layer_replication"),
            ({"trainable_token_indices": [1]}, "trainable_token_indices"),
            ({"a_variant_of_tomorrow": True}, "a_variant_of_tomorrow"),
            ({"lora_alpha": "many"}, "lora_alpha"),
            ({"alpha_pattern": {"(": 3}}, "alpha_pattern"),
        ],
    )
    def test_what_is_not_plain_lora(self, config: dict[str, Any], reason: str, clip: State, tmp_path: Path) -> None:
        folder = write(tmp_path, factors(LAYER.format(0, "q_proj"), 16, 16), **config)
        with pytest.raises(CheckpointError, match=reason):
            adapted(folder, clip)

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            ("q.lora_magnitude_vector.weight", "DoRA"),
            ("q.hada_w1_a", "LoHa"),
            ("q.lokr_w1", "LoKr"),
            ("q.lora_up.weight", "lora_up"),
            ("transformer.resblocks.0.attn.base_layer.out_proj.lora_A.weight", "MultiheadAttention"),
        ],
    )
    def test_tensors_of_other_variants(self, key: str, reason: str, clip: State, tmp_path: Path) -> None:
        tensors = {**factors(LAYER.format(0, "q_proj"), 16, 16), PEFT + key: torch.ones(2)}
        with pytest.raises(CheckpointError, match=reason):
            adapted(write(tmp_path, tensors), clip)

    def test_what_does_not_fit(self, clip: State, tmp_path: Path) -> None:
        with pytest.raises(AlignmentError, match=r"'text_model\.nothing', which the base"):
            adapted(write(tmp_path, factors("text_model.nothing", 16, 16)), clip)
        with pytest.raises(AlignmentError, match="do not fit"):
            adapted(write(tmp_path, factors(LAYER.format(0, "q_proj"), 24, 16)), clip)
        with pytest.raises(AlignmentError, match="has shape"):
            adapted(write(tmp_path, {**factors(LAYER.format(0, "q_proj"), 16, 16), "logit_scale": torch.ones(3)}), clip)

    def test_half_an_adapter(self, clip: State, tmp_path: Path) -> None:
        tensors = factors(LAYER.format(0, "q_proj"), 16, 16)
        half = {key: value for key, value in tensors.items() if "lora_A" in key}
        with pytest.raises(CheckpointError, match="only one of"):
            adapted(write(tmp_path, half), clip)

    def test_two_adapters_in_one_file(self, clip: State, tmp_path: Path) -> None:
        tensors = factors(LAYER.format(0, "q_proj"), 16, 16)
        both = {
            key.replace(".weight", f".{name}.weight"): tensors[key].clone()
            for key in tensors
            for name in ("one", "two")
        }
        with pytest.raises(CheckpointError, match=r"2 adapters \(one, two\)"):
            adapted(write(tmp_path, both), clip)

    def test_no_configuration(self, clip: State, tmp_path: Path) -> None:
        folder = write(tmp_path, factors(LAYER.format(0, "q_proj"), 16, 16))
        (folder / "adapter_config.json").unlink()
        with pytest.raises(CheckpointError, match="lora_alpha"):
            adapted(folder / "adapter_model.safetensors", clip)

    def test_a_model_that_still_wears_its_adapter(self, clip: State, tmp_path: Path) -> None:
        module = LAYER.format(0, "q_proj")
        live = {f"{PEFT}{key}": value for key, value in clip.items()} | factors(module, 16, 16)
        live[f"{PEFT}{module}.base_layer.weight"] = live.pop(f"{PEFT}{module}.weight")
        save_file(live, tmp_path / "live.safetensors")
        with pytest.raises(CheckpointError, match="merge_and_unload"):
            load_checkpoint(tmp_path / "live.safetensors")

    def test_an_embedding_comes_with_its_own_weights(self, clip: State, clip_folder: Path, tmp_path: Path) -> None:
        """PEFT saves an embedding beside its factors."""
        tokens = "text_model.embeddings.token_embedding"
        tensors = {
            f"{PEFT}{tokens}.lora_embedding_A": drawn(4, 50, seed=3),
            f"{PEFT}{tokens}.lora_embedding_B": drawn(12, 4, seed=4),
            f"{PEFT}{tokens}.base_layer.weight": clip[f"{tokens}.weight"] + 1,
        }
        got = adapted(write(tmp_path, tensors), clip_folder)[f"{tokens}.weight"]
        down, up, own = tensors.values()
        assert torch.allclose(got, own + 2 * (up @ down).T, atol=1e-6)

    def test_a_folder_with_a_model_too(self, clip: State, tmp_path: Path) -> None:
        folder = write(tmp_path, factors(LAYER.format(0, "q_proj"), 16, 16))
        save_file(clip, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"model\.safetensors or .*adapter_model\.safetensors"):
            adapted(folder, clip)
        assert_close(load_checkpoint(folder / "model.safetensors").state_dict(), clip)
        assert adapted(folder / "adapter_model.safetensors", clip).keys() == clip.keys()
