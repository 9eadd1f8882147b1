"""CLIP as it lies in other people's files: under any prefix, beside heads, losses, copies and other models."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import neuromerge
from neuromerge.checkpoints import align, load_checkpoint
from neuromerge.errors import AlignmentError, CheckpointError, NeuroMergeError
from tests.checkpoints import models

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def ours() -> State:
    return dict(models.open_clip_model().state_dict())


@pytest.fixture(scope="module")
def theirs() -> State:
    return dict(models.clip_model().state_dict())


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def merged(base: State, expert: State | Path | neuromerge.Checkpoint) -> State:
    """The base with all of the expert's change."""
    return dict(merge(base, expert).state_dict)


def merge(base: State, expert: State | Path | neuromerge.Checkpoint) -> neuromerge.MergeResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return neuromerge.merge(base, [expert], "task_arithmetic", scale=1.0)


def assert_same(one: State, other: State) -> None:
    assert set(one) == set(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


PREFIXES = [
    "module.",
    "model.",
    "net.clip.",
    "image_encoder.model.",
    "module.prompt_learner.clip_model.",
    "backbone.",
    "student.",
    "vision_tower.",
    "base_model.model.",
    "ema_model.",
    "_fsdp_wrapped_module.",
    "_forward_module.",
    "_orig_mod.module.",
    "system.3.encoder.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_taken_off(prefix: str, ours: State, theirs: State) -> None:
    for state in (ours, theirs):
        expert = models.perturbed(state, 1)
        assert_same(merged(state, under(prefix, expert)), merged(state, expert))
        beside = {**under(prefix, expert), "head.weight": torch.ones(3, 8), "criterion.centre": torch.ones(2)}
        assert_same(merged(state, beside), merged(state, expert))


@pytest.mark.parametrize("mark", ["_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module."])
def test_marks_of_wrappers_inside_keys(mark: str, ours: State) -> None:
    expert = models.perturbed(ours, 1)
    marked = {key.replace("resblocks.1.", f"resblocks.1.{mark}"): value for key, value in expert.items()}
    assert set(marked) != set(expert)
    assert_same(merged(ours, marked), merged(ours, expert))
    twice = {**marked, **expert}
    with pytest.raises(CheckpointError, match="same tensor"):
        load_checkpoint(twice)


def test_flattened_shards_of_fsdp_are_named() -> None:
    with pytest.raises(CheckpointError, match="FULL_STATE_DICT"):
        load_checkpoint({"visual._fsdp_wrapped_module._flat_param": torch.ones(5)})


@pytest.mark.parametrize("prefix", ["", "image_encoder.", "model.visual_encoder."])
def test_a_vision_tower_alone(prefix: str, ours: State, theirs: State) -> None:
    for state, tower in ((ours, "visual."), (theirs, "vision_model.")):
        expert = models.perturbed(state, 1)
        alone = {key.removeprefix(tower): value for key, value in expert.items() if key.startswith(tower)}
        beside = {"fc.weight": torch.ones(3, 8), "logit_scale": torch.tensor(1.0)}
        got = merged(state, {**under(prefix, alone), **beside})
        want = merged(state, {tower + key: value for key, value in alone.items()})
        assert_same(got, want)


def test_what_stands_beside_is_listed(theirs: State) -> None:
    expert = {**models.perturbed(theirs, 1), "classifier.weight": torch.ones(3, 16), "classifier.bias": torch.ones(3)}
    assert set(load_checkpoint(expert).left_out) == {"classifier.weight", "classifier.bias"}
    result = merge(theirs, expert)
    assert set(result.left_out["expert 1"]) == {"classifier.weight", "classifier.bias"}
    assert any("classifier.weight" in text and "left out" in text for text in result.warnings)
    assert "classifier.weight" not in result.state_dict
    assert merge(theirs, models.perturbed(theirs, 1)).left_out == {}


def test_a_head_inside_the_tower_is_left_out_and_an_adapter_is_not(ours: State) -> None:
    expert = models.perturbed(ours, 1)
    result = merge(ours, {**expert, "visual.head.weight": torch.ones(3, 16)})
    assert_same(dict(result.state_dict), merged(ours, expert))
    assert set(result.left_out["expert 1"]) == {"visual.head.weight"}
    inside = {**expert, "visual.transformer.resblocks.0.adapter.weight": torch.ones(3, 16)}
    with pytest.raises(AlignmentError, match=r"adapter\.weight"):
        merge(ours, inside)


def test_a_base_keeps_what_stands_beside_its_model(theirs: State) -> None:
    base = {**theirs, "classifier.weight": torch.full((3, 16), 7.0)}
    expert = {**models.perturbed(theirs, 1), "classifier.weight": torch.ones(3, 16)}
    got = merged(base, expert)
    assert torch.equal(got.pop("classifier.weight"), base["classifier.weight"])
    assert_same(got, merged(theirs, models.perturbed(theirs, 1)))


class TestTwoModels:
    def both(self, state: State) -> State:
        return {**under("model.", models.perturbed(state, 1)), **under("teacher.", models.perturbed(state, 2))}

    def test_both_are_named_and_a_choice_is_asked(self, ours: State, tmp_path: Path) -> None:
        for state in (ours, under("clip.", ours)):
            with pytest.raises(CheckpointError) as caught:
                load_checkpoint(self.both(state))
            assert "#model" in str(caught.value)
            assert "#teacher" in str(caught.value)
        save_file(self.both(ours), tmp_path / "two.safetensors")
        with pytest.raises(NeuroMergeError, match="#teacher"):
            merge(ours, tmp_path / "two.safetensors")

    def test_one_is_chosen_by_name(self, ours: State, tmp_path: Path) -> None:
        save_file(self.both(ours), tmp_path / "two.safetensors")
        for part, seed in (("model", 1), ("teacher", 2)):
            want = merged(ours, models.perturbed(ours, seed))
            assert_same(merged(ours, load_checkpoint(self.both(ours), part=part)), want)
            assert_same(merged(ours, Path(f"{tmp_path}/two.safetensors#{part}")), want)
            other = {"model": "teacher.", "teacher": "model."}[part]
            assert all(key.startswith(other) for key in load_checkpoint(self.both(ours), part=part).left_out)
        with pytest.raises(CheckpointError, match=r"no CLIP model under 'pupil'.*model, teacher"):
            load_checkpoint(self.both(ours), part="pupil")
        with pytest.raises(CheckpointError, match="Give one of them"):
            load_checkpoint(f"{tmp_path}/two.safetensors#model", part="teacher")

    def test_the_one_without_a_prefix(self, ours: State) -> None:
        state = {**models.perturbed(ours, 1), **under("teacher.", models.perturbed(ours, 2))}
        with pytest.raises(CheckpointError, match=r"#\. or #teacher"):
            load_checkpoint(state)
        got = merged(ours, load_checkpoint(state, part="."))
        assert_same(got, merged(ours, models.perturbed(ours, 1)))

    def test_an_average_gives_way_and_is_listed(self, ours: State) -> None:
        for name in ("ema.", "model_ema.", "ema_model.module.", "swa."):
            average = under(name, models.perturbed(ours, 2))
            state = {**under("model.", models.perturbed(ours, 1)), **average}
            loaded = load_checkpoint(state)
            assert set(loaded.left_out) == set(average)
            assert_same(merged(ours, loaded), merged(ours, models.perturbed(ours, 1)))
            alone = merged(ours, load_checkpoint(average))
            assert_same(alone, merged(ours, models.perturbed(ours, 2)))

    def test_a_model_that_is_registered_twice_is_one(self, ours: State) -> None:
        expert = models.perturbed(ours, 1)
        visual = {key.removeprefix("visual."): value for key, value in expert.items() if key.startswith("visual.")}
        assert_same(merged(ours, {**under("clip.", expert), **under("encoder.", visual)}), merged(ours, expert))

    def test_a_file_whose_name_holds_the_sign(self, ours: State, tmp_path: Path) -> None:
        save_file(models.perturbed(ours, 1), tmp_path / "run#2.safetensors")
        assert load_checkpoint(tmp_path / "run#2.safetensors").name == "run#2"


class TestLargerModels:
    """A language model with a CLIP tower in it is that model, unless the base is CLIP."""

    def whole(self, theirs: State, seed: int) -> State:
        language = models.language_model("llama", hidden_size=64, intermediate_size=256).state_dict()
        state = {**under("vision_tower.", theirs), **under("language_model.", language)}
        return models.perturbed(state, seed)

    def test_all_of_it_is_merged(self, theirs: State) -> None:
        base, expert = self.whole(theirs, 1), self.whole(theirs, 2)
        assert load_checkpoint(base).layout == "state_dict"
        got = merged(base, expert)
        assert all(torch.allclose(got[key], expert[key], atol=1e-5) for key in base if not key.endswith("logit_scale"))

    def test_its_tower_fits_a_clip_base(self, theirs: State) -> None:
        expert = self.whole(theirs, 2)
        alone = {k.removeprefix("vision_tower."): v for k, v in expert.items() if k.startswith("vision_tower.")}
        result = merge(theirs, expert)
        assert_same(dict(result.state_dict), merged(theirs, alone))
        assert any(key.startswith("language_model.") for key in result.left_out["expert 1"])


class TestOtherModels:
    """Language models are found under a prefix by the keys of their base."""

    @pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
    @pytest.mark.parametrize("prefix", ["policy.", "module.llm.base.", "net."])
    def test_any_prefix_is_taken_off(self, kind: str, prefix: str) -> None:
        base = dict(models.language_model(kind).state_dict())
        expert = models.perturbed(base, 1)
        assert_same(merged(base, under(prefix, expert)), merged(base, expert))
        result = merge(base, {**under(prefix, expert), "value_head.weight": torch.ones(1, 16)})
        assert_same(dict(result.state_dict), merged(base, expert))
        assert set(result.left_out["expert 1"]) == {"value_head.weight"}

    def test_one_of_two(self) -> None:
        base = dict(models.language_model("llama").state_dict())
        both = {**under("policy.", models.perturbed(base, 1)), **under("reference.", models.perturbed(base, 2))}
        with pytest.raises(CheckpointError, match=r"policy and reference.*#policy or #reference"):
            merge(base, both)
        assert_same(merged(base, load_checkpoint(both, part="reference")), merged(base, models.perturbed(base, 2)))


def test_unknown_keys_show_both_sides(ours: State) -> None:
    with pytest.raises(AlignmentError) as caught:
        merge(ours, {"features.0.weight": torch.ones(3, 3), "features.0.bias": torch.ones(3)})
    assert "'features.0.weight', 'features.0.bias'" in str(caught.value)
    assert repr(next(iter(ours))) in str(caught.value)
    llama = dict(models.language_model("llama").state_dict())
    other = {key.replace("q_proj", "query"): value for key, value in llama.items()}
    with pytest.raises(AlignmentError) as caught:
        merge(llama, other)
    assert caught.value.args[0].count("'model.embed_tokens.weight'") == 2


class TestTold:
    """Nothing that is not merged is passed over in silence."""

    def test_an_expert_that_equals_the_base(self, ours: State) -> None:
        for copy in (ours, {key: value.half() for key, value in ours.items() if value.is_floating_point()}):
            result = merge(ours, copy)
            assert any("expert 1 is the same as the base" in text for text in result.warnings)
        nearly = {**ours, "visual.ln_post.bias": ours["visual.ln_post.bias"] + 1e-3}
        assert merge(ours, nearly).warnings == ()

    def test_a_text_tower_that_was_changed_too(self, ours: State) -> None:
        expert = models.perturbed(ours, 1)
        assert any("text tower" in text and "expert 1" in text for text in merge(ours, expert).warnings)
        vision_only = {key: value if key.startswith("visual.") else ours[key] for key, value in expert.items()}
        assert merge(ours, vision_only).warnings == ()
        without_text = {key: value for key, value in expert.items() if key.startswith("visual.")}
        assert merge(ours, without_text).warnings == ()


class TestBothTowers:
    @pytest.mark.parametrize("method", ["task_arithmetic", "neuromerging", "ties"])
    def test_the_text_tower_is_merged_on_request(self, method: str, ours: State, theirs: State) -> None:
        for state in (ours, theirs):
            experts = [models.perturbed(state, seed) for seed in (1, 2)]
            result = neuromerge.merge(state, experts, method, towers="both")
            changed = {key for key in state if not torch.equal(state[key], result.state_dict[key])}
            assert set(state) - changed == {"logit_scale"}
            assert result.towers == "both"
            assert not any("text tower" in text for text in result.warnings)
            assert set(result.from_base) == {"logit_scale"}

    def test_all_of_an_expert(self, ours: State) -> None:
        expert = models.perturbed(ours, 1)
        result = neuromerge.merge(ours, [expert], "task_arithmetic", towers="both", scale=1.0)
        for key, value in expert.items():
            assert torch.allclose(result.state_dict[key], ours[key] if key == "logit_scale" else value, atol=1e-6)

    def test_layers_of_the_towers_are_told_apart(self, ours: State) -> None:
        layers = {parameter.layer for parameter in align(ours, [models.perturbed(ours, 1)], towers="both").parameters}
        assert {"vision stem", "vision block 1", "text block 1", "text head"} <= layers
        assert "block 1" not in layers

    def test_an_expert_without_a_text_tower_adds_nothing_there(self, ours: State) -> None:
        whole, expert = models.perturbed(ours, 1), models.perturbed(ours, 2)
        vision = {key: value for key, value in expert.items() if key.startswith("visual.")}
        result = neuromerge.merge(ours, [whole, vision], "task_arithmetic", towers="both", scale=1.0)
        assert torch.allclose(result.state_dict["ln_final.weight"], whole["ln_final.weight"], atol=1e-6)

    def test_it_is_written_and_read_back(self, ours: State, tmp_path: Path) -> None:
        expert = models.perturbed(ours, 1)
        neuromerge.merge(ours, [expert], "task_arithmetic", towers="both", out=tmp_path / "m.safetensors")
        held = neuromerge.merge(ours, [expert], "task_arithmetic", towers="both").state_dict
        assert_same(dict(load_checkpoint(tmp_path / "m.safetensors").state_dict()), dict(held))

    def test_what_has_no_second_tower(self, ours: State) -> None:
        vision = {key: value for key, value in ours.items() if key.startswith("visual.")}
        with pytest.raises(NeuroMergeError, match="no text tower"):
            neuromerge.merge(vision, [models.perturbed(vision, 1)], towers="both")
        with pytest.raises(NeuroMergeError, match="vision or both"):
            neuromerge.merge(ours, [ours], towers="text")  # type: ignore[arg-type]


class TestVocabulary:
    def states(self, kind: str, rows: int) -> tuple[State, State]:
        base = dict(models.language_model(kind).state_dict())
        expert = models.perturbed(base, 1)
        for key, value in expert.items():
            if value.ndim == 2 and value.shape[0] == 40:
                more = torch.full((rows - 40, value.shape[1]), 9.0) if rows > 40 else value[:0]
                expert[key] = torch.cat([value[:rows], more])
        return base, expert

    @pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
    @pytest.mark.parametrize("rows", [43, 37])
    def test_shared_rows_are_merged_on_request(self, kind: str, rows: int) -> None:
        base, expert = self.states(kind, rows)
        with pytest.raises(AlignmentError, match=r"3 (more|fewer) than the base.*vocabulary=\"shared\""):
            neuromerge.merge(base, [expert], "task_arithmetic")
        result = neuromerge.merge(base, [expert], "task_arithmetic", vocabulary="shared", scale=1.0)
        assert any(f"{rows} tokens" in text and "40" in text for text in result.warnings)
        for key, value in result.state_dict.items():
            assert value.shape == base[key].shape
            if expert[key].shape != value.shape:
                shared = min(rows, 40)
                assert torch.allclose(value[:shared], expert[key][:shared], atol=1e-5)
                assert torch.equal(value[shared:], base[key][shared:])

    def test_other_shapes_are_refused_all_the_same(self) -> None:
        base, expert = self.states("llama", 40)
        expert["model.norm.weight"] = torch.ones(17)
        with pytest.raises(AlignmentError, match="shape"):
            neuromerge.merge(base, [expert], "task_arithmetic", vocabulary="shared")
