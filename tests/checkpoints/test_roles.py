"""Which axis is the neuron, and that the same network has the same parameters in every form."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neuromerge.checkpoints import Parameter, resolve
from neuromerge.errors import CheckpointError
from tests.checkpoints import models


def parameters_of(model: torch.nn.Module, config: dict[str, Any] | None = None) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in resolve(models.entries_of(model), config).parameters}


def config_of(model: Any) -> dict[str, Any]:
    return dict(model.config.to_dict())


class TestClip:
    def test_both_libraries_hold_the_same_parameters(self) -> None:
        ours, theirs = parameters_of(models.open_clip_model()), parameters_of(models.clip_model())
        assert list(ours) == list(theirs)
        for name, parameter in ours.items():
            other = theirs[name]
            assert (parameter.shape, parameter.kind, parameter.layer, parameter.matrix, parameter.tower) == (
                other.shape,
                other.kind,
                other.layer,
                other.matrix,
                other.tower,
            ), name

    def test_names_follow_the_network(self) -> None:
        parameters = list(parameters_of(models.open_clip_model()).values())
        names = [parameter.name for parameter in parameters]
        assert names[0] == "vision.stem.patch.weight"
        assert names[-1] == "vision.head.projection"
        assert list(dict.fromkeys(p.layer for p in parameters)) == ["stem", "block 0", "block 1", "head"]
        assert {"vision.blocks.1.q.bias", "vision.blocks.0.fc2.weight", "vision.head.norm_post.bias"} <= set(names)

    def test_fused_attention_is_shown_apart(self) -> None:
        model = models.open_clip_model()
        state = model.state_dict()
        fused = state["visual.transformer.resblocks.0.attn.in_proj_weight"]
        for third, letter in enumerate("qkv"):
            parameter = parameters_of(model)[f"vision.blocks.0.{letter}.weight"]
            assert torch.equal(parameter.view(fused), fused[16 * third : 16 * (third + 1)])
            assert parameter.matrix == letter

    def test_the_projection_has_its_neurons_in_columns(self) -> None:
        model = models.open_clip_model()
        parameter = parameters_of(model)["vision.head.projection"]
        assert parameter.axis == 1
        assert parameter.shape == (8, 16)
        assert torch.equal(parameter.view(model.state_dict()["visual.proj"]), model.state_dict()["visual.proj"].T)
        theirs = parameters_of(models.clip_model())["vision.head.projection"]
        assert (theirs.axis, theirs.shape) == (0, (8, 16))

    def test_a_patch_is_one_input_vector(self) -> None:
        parameter = parameters_of(models.clip_model())["vision.stem.patch.weight"]
        assert (parameter.kind, parameter.shape) == ("neurons", (16, 3 * 8 * 8))

    def test_embeddings_are_pointwise(self) -> None:
        parameters = parameters_of(models.open_clip_model())
        for name in ("vision.stem.class_embedding", "vision.stem.position_embedding"):
            assert parameters[name].kind == "pointwise"
        assert parameters["vision.stem.position_embedding"].shape == (5 * 16,)

    def test_text_tower_and_temperature_come_from_the_base(self) -> None:
        for model in (models.open_clip_model(), models.clip_model()):
            roles = resolve(models.entries_of(model))
            assert "logit_scale" in roles.fixed
            text = [key for key in roles.fixed if "text" in key or key.startswith(("transformer", "token"))]
            assert len(text) > 20
            assert not set(roles.fixed) & {parameter.key for parameter in roles.parameters}
            assert roles.clip_complete

    @pytest.mark.parametrize("prefix", ["module.", "model.", "module.model."])
    def test_wrappers_are_seen_through(self, prefix: str) -> None:
        entries = models.entries_of(models.open_clip_model())
        wrapped = resolve({prefix + key: entry for key, entry in entries.items()})
        assert [p.name for p in wrapped.parameters] == [p.name for p in resolve(entries).parameters]
        assert all(parameter.key.startswith(prefix) for parameter in wrapped.parameters)

    def test_a_vision_tower_alone(self) -> None:
        whole = [p.name for p in resolve(models.entries_of(models.clip_model())).parameters]
        for kind in ("CLIPVisionModelWithProjection", "CLIPVisionModel"):
            alone = [p.name for p in resolve(models.entries_of(models.clip_model(kind=kind))).parameters]
            assert alone == [name for name in whole if name in alone]
            assert set(whole) - set(alone) <= {"vision.head.projection"}
        visual = models.open_clip_model().visual
        assert [p.name for p in resolve(models.entries_of(visual)).parameters] == whole

    def test_integer_buffers_of_old_checkpoints(self) -> None:
        entries = models.entries_of(models.clip_model())
        entries["vision_model.embeddings.position_ids"] = ((1, 5), torch.int64)
        assert "integer" in resolve(entries).fixed["vision_model.embeddings.position_ids"]


class TestOtherModels:
    @pytest.mark.parametrize("kind", ["llama", "gpt2", "t5", "phi3", "mixtral", "gpt_oss", "bert"])
    def test_every_entry_has_one_place(self, kind: str) -> None:
        """Marking every parameter's view once marks every weight once: nothing overlaps, nothing is left out."""
        model = models.language_model(kind)
        marks = {key: torch.zeros(value.shape) for key, value in model.state_dict().items()}
        roles = resolve(models.entries_of(model), config_of(model))
        for parameter in roles.parameters:
            view = parameter.view(marks[parameter.key])
            assert view.shape == parameter.shape
            parameter.view(marks[parameter.key]).add_(1)
        for key, mark in marks.items():
            assert torch.equal(mark, torch.full_like(mark, 0.0 if key in roles.fixed else 1.0)), key
        assert len({parameter.name for parameter in roles.parameters}) == len(roles.parameters)

    def test_gpt2_counts_neurons_in_columns(self) -> None:
        model = models.language_model("gpt2")
        parameters = parameters_of(model, config_of(model))
        state = model.state_dict()
        query = parameters["h.0.attn.c_attn.q.weight"]
        assert (query.axis, query.shape, query.matrix) == (1, (16, 16), "q")
        fused = state["transformer.h.0.attn.c_attn.weight"]
        assert torch.equal(query.view(fused), fused[:, :16].T)
        assert parameters["h.1.mlp.c_fc.weight"].shape == (64, 16)
        assert parameters["h.1.mlp.c_proj.weight"].matrix == "fc2"
        assert parameters["wpe.weight"].kind == "pointwise"
        assert parameters["wte.weight"].shape == (40, 16)

    def test_the_masks_of_old_gpt2_files_are_no_weights(self) -> None:
        entries = models.entries_of(models.language_model("gpt2"))
        entries["transformer.h.0.attn.bias"] = ((1, 1, 12, 12), torch.float32)
        entries["transformer.h.0.attn.masked_bias"] = ((), torch.float32)
        fixed = resolve(entries).fixed
        assert {"transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"} <= set(fixed)

    def test_t5_has_two_towers(self) -> None:
        model = models.language_model("t5")
        parameters = parameters_of(model, config_of(model))
        assert {p.tower for p in parameters.values()} == {"encoder", "decoder", "model"}
        assert parameters["decoder.block.1.layer.1.EncDecAttention.o.weight"].layer == "decoder block 1"
        bias = parameters["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        assert (bias.kind, bias.matrix) == ("pointwise", "embedding")
        assert parameters["shared.weight"].kind == "neurons"

    def test_grouped_attention_needs_the_configuration(self) -> None:
        model = models.language_model("phi3")
        shapes = {
            n: p.shape for n, p in parameters_of(model, config_of(model)).items() if "layers.0.self_attn.qkv" in n
        }
        assert shapes == {
            "layers.0.self_attn.qkv_proj.q.weight": (16, 16),
            "layers.0.self_attn.qkv_proj.k.weight": (8, 16),
            "layers.0.self_attn.qkv_proj.v.weight": (8, 16),
        }
        whole = parameters_of(model)["layers.0.self_attn.qkv_proj.weight"]
        assert (whole.shape, whole.matrix) == ((32, 16), "qkv")

    def test_mixtures_of_experts(self) -> None:
        mixtral = models.language_model("mixtral")
        gate = parameters_of(mixtral, config_of(mixtral))["layers.0.mlp.experts.gate_up_proj.1.gate"]
        stored = mixtral.state_dict()["model.layers.0.mlp.experts.gate_up_proj"]
        assert torch.equal(gate.view(stored), stored[1, :32])
        # gpt-oss stores the transpose, and gate and up by turns.
        oss = models.language_model("gpt_oss")
        up = parameters_of(oss, config_of(oss))["layers.0.mlp.experts.gate_up_proj.1"]
        stored = oss.state_dict()["model.layers.0.mlp.experts.gate_up_proj"]
        assert torch.equal(up.view(stored), stored[1].T)

    def test_the_bare_model_matches_the_one_with_a_head(self) -> None:
        whole = models.language_model("llama")
        bare = {p.name for p in resolve(models.entries_of(whole.model)).parameters}
        assert bare | {"lm_head.weight"} == set(parameters_of(whole))

    def test_plain_networks(self) -> None:
        entries = {
            "features.0.weight": ((8, 3, 3, 3), torch.float32),
            "features.1.weight": ((8,), torch.float32),
            "features.1.running_mean": ((8,), torch.float32),
            "features.1.num_batches_tracked": ((), torch.int64),
            "classifier.weight": ((2, 8), torch.float16),
            "temperature": ((), torch.float32),
        }
        roles = resolve(entries)
        kinds = {p.name: (p.kind, p.shape) for p in roles.parameters}
        assert kinds == {
            "features.0.weight": ("neurons", (8, 27)),
            "features.1.weight": ("pointwise", (8,)),
            "classifier.weight": ("neurons", (2, 8)),
            "temperature": ("pointwise", (1,)),
        }
        assert set(roles.fixed) == {"features.1.running_mean", "features.1.num_batches_tracked"}

    def test_quantised_weights_are_refused(self) -> None:
        with pytest.raises(CheckpointError, match="quantised"):
            resolve({"layers.0.fc1.qweight": ((8, 8), torch.int32)})

    def test_nothing_at_all(self) -> None:
        assert resolve({}).parameters == ()

    def test_two_tensors_for_one_place(self) -> None:
        entries = models.entries_of(models.open_clip_model())
        entries["visual.transformer.resblocks.00.ln_1.weight"] = ((16,), torch.float32)
        with pytest.raises(CheckpointError, match="same part"):
            resolve(entries)

    def test_fused_attention_of_an_odd_size(self) -> None:
        entries = models.entries_of(models.open_clip_model())
        entries["visual.transformer.resblocks.0.attn.in_proj_weight"] = ((47, 16), torch.float32)
        with pytest.raises(CheckpointError, match="q, k and v"):
            resolve(entries)
