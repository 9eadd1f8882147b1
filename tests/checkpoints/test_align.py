"""What an expert may lack, what it must not, and that the form of storage makes no difference to a merge."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuromerge
from neuromerge.checkpoints import CheckpointWriter, align, load_checkpoint, resolve, save_checkpoint
from neuromerge.errors import AlignmentError, CheckpointError, NeuroMergeError
from tests.checkpoints import models


def clip_state(seed: int | None = None, kind: str = "CLIPModel") -> dict[str, torch.Tensor]:
    """The base (None), or an expert of it."""
    state = dict(models.clip_model(0, kind).state_dict())
    return state if seed is None else models.perturbed(state, seed)


def without(state: dict[str, torch.Tensor], *parts: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not any(part in key for part in parts)}


class TestWhatMayBeMissing:
    def test_vision_only_experts(self) -> None:
        base, expert = clip_state(), clip_state(1)
        vision = without(expert, "text", "logit_scale")
        aligned = align(base, [vision, without(vision, "visual_projection")])
        assert aligned.task_names == ("expert 1", "expert 2")
        assert aligned.lacking == {"expert 2": ("vision.head.projection",)}
        projection = next(p for p in aligned.parameters if p.name == "vision.head.projection")
        assert aligned.expert_tensor(1, projection) is None
        assert torch.equal(aligned.expert_tensor(0, projection), expert["visual_projection.weight"])  # type: ignore[arg-type]
        assert "logit_scale" in aligned.from_base
        assert "text_projection.weight" in aligned.from_base

    def test_a_projection_that_nobody_has(self) -> None:
        aligned = align(clip_state(), [without(clip_state(1), "visual_projection")])
        assert "vision.head.projection" not in {p.name for p in aligned.parameters}
        assert "no expert" in aligned.from_base["visual_projection.weight"]

    def test_a_projection_that_the_base_has_not(self) -> None:
        base = without(clip_state(), "visual_projection", "text", "logit_scale")
        aligned = align(base, [clip_state(1)])
        assert "vision.head.projection" not in {p.name for p in aligned.parameters}

    def test_integer_buffers_on_either_side(self) -> None:
        ids = {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
        aligned = align({**clip_state(), **ids}, [clip_state(1)])
        assert "integer" in aligned.from_base["vision_model.embeddings.position_ids"]
        align(clip_state(), [{**clip_state(1), **ids}])

    def test_dtypes_may_differ(self) -> None:
        half = {key: value.half() for key, value in clip_state(1).items()}
        aligned = align(clip_state(), [half])
        parameter = aligned.parameters[0]
        assert aligned.base_tensor(parameter).dtype == torch.float32
        assert aligned.expert_tensor(0, parameter).dtype == torch.float16  # type: ignore[union-attr]

    def test_a_tied_head(self) -> None:
        model = models.language_model("llama")
        state = dict(model.state_dict())
        expert = models.perturbed(without(state, "lm_head"), 1)
        aligned = align(state, [expert])
        head = next(p for p in aligned.parameters if p.name == "lm_head.weight")
        assert torch.equal(aligned.expert_tensor(0, head), expert["model.embed_tokens.weight"])  # type: ignore[arg-type]

    def test_tied_tensors_are_merged_once(self) -> None:
        state = dict(models.language_model("gpt2").state_dict())
        aligned = align(state, [dict(models.language_model("gpt2", 1).state_dict())])
        assert aligned.copies == {"lm_head.weight": "transformer.wte.weight"}
        assert "lm_head.weight" not in {p.name for p in aligned.parameters}
        # Stored once or twice, in the base or in the expert: the same parameters.
        once = align(without(state, "lm_head"), [state])
        assert [p.name for p in once.parameters] == [p.name for p in aligned.parameters]

    def test_experts_are_split_as_the_base_is(self, tmp_path: Path) -> None:
        """Phi-3's fused attention needs the configuration to be told apart; a bare file has none."""
        model = models.language_model("phi3")
        model.save_pretrained(tmp_path / "phi3")
        state = models.perturbed(dict(model.state_dict()), 1)
        whole = align(tmp_path / "phi3", [state])
        assert "layers.0.self_attn.qkv_proj.q.weight" in {p.name for p in whole.parameters}
        bare = align(state, [tmp_path / "phi3"])
        assert "layers.0.self_attn.qkv_proj.weight" in {p.name for p in bare.parameters}

    def test_names_are_unique(self, tmp_path: Path) -> None:
        for number in (1, 2):
            models.clip_model(number).save_pretrained(tmp_path / str(number) / "expert")
        aligned = align(clip_state(), [tmp_path / "1" / "expert", tmp_path / "2" / "expert"])
        assert aligned.task_names == ("expert", "expert 2")


class TestWhatMustFit:
    def test_a_missing_key_is_named(self) -> None:
        key = "vision_model.encoder.layers.1.mlp.fc1.weight"
        with pytest.raises(AlignmentError, match=key):
            align(clip_state(), [without(clip_state(1), key)])

    def test_an_extra_key_is_named(self) -> None:
        extra = {"vision_model.encoder.layers.2.mlp.fc1.weight": torch.zeros(32, 16)}
        with pytest.raises(AlignmentError, match=r"layers\.2\.mlp\.fc1\.weight"):
            align(clip_state(), [{**clip_state(1), **extra}])

    def test_another_shape_names_both(self) -> None:
        key = "vision_model.embeddings.position_embedding.weight"
        with pytest.raises(AlignmentError) as caught:
            align(clip_state(), [{**clip_state(1), key: torch.zeros(10, 16)}])
        for part in (key, "(10, 16)", "(5, 16)"):
            assert part in str(caught.value)

    def test_another_text_tower_does_not_matter(self) -> None:
        key = "text_model.embeddings.token_embedding.weight"
        align(clip_state(), [{**clip_state(1), key: torch.zeros(99, 12)}])

    def test_another_model(self) -> None:
        with pytest.raises(AlignmentError, match="another model"):
            align(clip_state(), [dict(models.language_model("llama").state_dict())])

    def test_a_changed_vocabulary(self) -> None:
        base, expert = models.language_model("llama"), models.language_model("llama", vocab_size=41)
        with pytest.raises(AlignmentError, match="vocabulary"):
            align(dict(base.state_dict()), [dict(expert.state_dict())])

    def test_no_experts(self) -> None:
        with pytest.raises(AlignmentError, match="at least one"):
            align(clip_state(), [])

    def test_nothing_to_merge(self) -> None:
        with pytest.raises(AlignmentError, match="nothing to merge"):
            align({"ids": torch.arange(3)}, [{"ids": torch.arange(3)}])

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("who", ["base", "expert"])
    def test_weights_that_are_no_numbers(self, value: float, who: str, tmp_path: Path) -> None:
        states = {"base": clip_state(), "expert": clip_state(1)}
        key = "vision_model.encoder.layers.0.mlp.fc1.weight"
        states[who][key] = states[who][key].clone()
        states[who][key][3, 2] = value
        for name, state in states.items():
            save_checkpoint_raw(state, tmp_path / f"{name}.safetensors")
        with pytest.raises(CheckpointError) as caught:
            neuromerge.merge(tmp_path / "base.safetensors", [tmp_path / "expert.safetensors"], out=tmp_path / "out")
        assert key in str(caught.value)
        assert f"{who}.safetensors" in str(caught.value)
        assert not (tmp_path / "out").exists()


def save_checkpoint_raw(state: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: value.contiguous() for key, value in state.items()}, path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("forms")
    ours = [models.save_open_clip(models.open_clip_model(0), folder / "open_clip-0")]
    for seed in (1, 2, 3):
        model = models.open_clip_model(0)
        model.load_state_dict(models.perturbed(dict(model.state_dict()), seed))
        ours.append(models.save_open_clip(model, folder / f"open_clip-{seed}"))
    theirs = [folder / f"transformers-{number}" for number in range(4)]
    for source, target in zip(ours, theirs, strict=True):
        save_checkpoint(source, target, "transformers")
    return {"open_clip": ours, "transformers": theirs}


class TestTheSameMergeInEveryForm:
    """One base and three experts, stored by open_clip and by transformers, merge to the same weights."""

    @pytest.mark.parametrize("method", ["neuromerging", "ties", "tsv_m", "average", "dare", "pcb"])
    def test_weights_agree(self, method: str, stored: dict[str, list[Path]], tmp_path: Path) -> None:
        results = {}
        for form, (base, *experts) in stored.items():
            results[form] = neuromerge.merge(base, dict(zip("abc", experts, strict=True)), method)
            results[form].save(tmp_path / form, layout="transformers")
        experts = dict(zip("abc", stored["transformers"][1:], strict=True))
        mixed = neuromerge.merge(stored["open_clip"][0], experts, method)
        mixed.save(tmp_path / "mixed", layout="transformers")
        forms = ("open_clip", "transformers", "mixed")
        states = {form: load_checkpoint(tmp_path / form).state_dict() for form in forms}
        for name in ("open_clip", "mixed"):
            assert set(states[name]) == set(states["transformers"])
            for key, value in states["transformers"].items():
                assert (states[name][key] - value).abs().max() <= 1e-6, (name, key)

    def test_a_merge_with_prefixes_and_without(self, stored: dict[str, list[Path]]) -> None:
        base, *experts = stored["transformers"]
        expected = neuromerge.merge(base, experts).state_dict
        bare = [
            {
                key.removeprefix("vision_model."): value
                for key, value in load_checkpoint(path).state_dict().items()
                if key.startswith("vision_model.")
            }
            for path in experts
        ]
        merged = neuromerge.merge(base, bare).state_dict
        differing = {key for key, value in expected.items() if not torch.equal(merged[key], value)}
        # Without a projection to merge, the global trim counts other entries; only then may anything differ.
        assert torch.equal(merged["visual_projection.weight"], load_checkpoint(base).tensor("visual_projection.weight"))
        assert "text_projection.weight" not in differing

    def test_streamed_and_in_memory(self, stored: dict[str, list[Path]], tmp_path: Path) -> None:
        base, *experts = stored["open_clip"]
        expected = neuromerge.merge(base, experts).state_dict
        streamed = neuromerge.merge(base, experts, out=tmp_path / "out").state_dict
        for key, value in expected.items():
            assert torch.equal(streamed[key], value), key


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_language_models_merge_and_load_again(kind: str, tmp_path: Path) -> None:
    model: Any = models.language_model(kind)
    model.save_pretrained(tmp_path / "base")
    experts = []
    for seed in (1, 2):
        other = models.language_model(kind)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        other.save_pretrained(tmp_path / f"expert-{seed}")
        experts.append(tmp_path / f"expert-{seed}")
    neuromerge.merge(tmp_path / "base", experts, out=tmp_path / "merged")
    merged = type(model).from_pretrained(tmp_path / "merged").eval()
    assert torch.isfinite(models.logits(merged)).all()
    assert not torch.equal(models.logits(merged), models.logits(model))
    # One expert, nothing trimmed, both coefficients 1: the expert comes back.
    neuromerge.merge(
        tmp_path / "base", experts[:1], trim_ratio=0, lambda_parallel=1, lambda_orthogonal=1, out=tmp_path / "one"
    )
    one, expert = type(model).from_pretrained(tmp_path / "one"), type(model).from_pretrained(experts[0])
    torch.testing.assert_close(models.logits(one.eval()), models.logits(expert.eval()), atol=1e-4, rtol=1e-4)


def test_errors_are_of_the_family() -> None:
    assert issubclass(AlignmentError, CheckpointError)
    assert issubclass(CheckpointError, NeuroMergeError)


# Keys of real models beside keys that only look like them, in shapes that fit and shapes that do not.
_KEYS = st.sampled_from(
    [
        "visual.proj",
        "visual.class_embedding",
        "visual.conv1.weight",
        "visual.ln_pre.weight",
        "visual.transformer.resblocks.0.attn.in_proj_weight",
        "visual.transformer.resblocks.0.attn.in_proj_bias",
        "visual.transformer.resblocks.00.attn.in_proj_bias",
        "visual.transformer.resblocks.0.mlp.c_fc.weight",
        "text_projection",
        "logit_scale",
        "vision_model.encoder.layers.0.self_attn.q_proj.weight",
        "vision_model.embeddings.position_ids",
        "visual_projection.weight",
        "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.mlp.experts.down_proj",
        "model.layers.0.self_attn.qkv_proj.weight",
        "model.embed_tokens.weight",
        "lm_head.weight",
        "h.0.attn.c_attn.weight",
        "h.0.attn.c_attn.bias",
        "h.0.attn.bias",
        "shared.weight",
        "encoder.embed_tokens.weight",
        "blocks.0.attn.qkv.weight",
        "weight",
        "",
        ".",
        "..weight",
        "a.running_mean",
        "\0",
    ]
)
_STATES = st.dictionaries(
    _KEYS,
    st.tuples(
        st.lists(st.integers(0, 6), max_size=4),
        st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]),
    ),
    max_size=6,
)
_CONFIGS = st.sampled_from(
    [{}, {"num_attention_heads": 2, "hidden_size": 4}, {"num_attention_heads": 0}, {"head_dim": "x"}]
)


@given(shapes=_STATES, others=_STATES, layout=st.sampled_from([None, "open_clip", "transformers"]), config=_CONFIGS)
def test_any_state_dicts_are_merged_and_written_or_refused(
    shapes: dict[str, Any],
    others: dict[str, Any],
    layout: str | None,
    config: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    states = [
        {key: torch.ones(shape).to(dtype) for key, (shape, dtype) in given_shapes.items()}
        for given_shapes in (shapes, shapes, others)
    ]
    folder = tmp_path_factory.mktemp("any", numbered=True)
    with contextlib.suppress(NeuroMergeError):
        resolve({key: (tuple(t.shape), t.dtype) for key, t in states[0].items()}, config)
    with contextlib.suppress(NeuroMergeError):
        aligned = align(states[0], states[1:])
        assert all(aligned.base_tensor(p).shape == p.shape for p in aligned.parameters)
    with contextlib.suppress(NeuroMergeError):
        aligned = align(states[0], states[1:2])
        with CheckpointWriter(folder / "out.safetensors", aligned.base, layout) as writer:
            for parameter in aligned.parameters:
                writer.write(parameter.name, aligned.base_tensor(parameter).clone())
        again = load_checkpoint(folder / "out.safetensors")
        if layout is None:
            assert all(torch.equal(again.tensor(key), value) for key, value in states[0].items())
    assert not [path for path in folder.iterdir() if "partial" in path.name]
