"""What strangers type and what their files say: typed errors, never anything else."""

from __future__ import annotations

import contextlib
import json
import re
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from neuromerge.checkpoints import load_checkpoint
from neuromerge.checkpoints.fields import Fields
from neuromerge.errors import CheckpointError, NeuroMergeError
from neuromerge.evaluation import configuration
from neuromerge.evaluation.families import check_templates, check_texts
from neuromerge.evaluation.heads import prompt_notes, zero_shot_head
from neuromerge.evaluation.towers import TextModel, VisionModel

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
SURROGATES = st.text(st.characters(exclude_categories=()), max_size=40)


@pytest.fixture(scope="module")
def text_model(family):
    return TextModel.from_checkpoint(load_checkpoint(family.base))


USABLE = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(str.strip)


@given(names=st.lists(USABLE, min_size=1, max_size=4), words=st.lists(USABLE, min_size=1, max_size=3))
def test_any_usable_class_names_and_templates(text_model, names, words):
    templates = [f"{{}} {word.replace('{}', '')}" for word in words]
    head = zero_shot_head(text_model, names, templates)
    assert torch.isfinite(head).all()
    torch.testing.assert_close(head.norm(dim=1), torch.ones(len(names)), atol=1e-4, rtol=0)
    assert all(isinstance(note, str) and note.endswith(".") for note in prompt_notes(text_model, names, templates))


@given(names=st.lists(SURROGATES, max_size=4), templates=st.lists(SURROGATES | st.just("a {}."), max_size=3))
def test_any_class_names_and_templates(text_model, names, templates):
    expected = contextlib.nullcontext()
    for check in (lambda: check_texts(names, "Class names", 100), lambda: check_templates(templates)):
        with contextlib.suppress(NeuroMergeError):
            check()
            continue
        expected = pytest.raises(NeuroMergeError)
    with expected:
        assert torch.isfinite(zero_shot_head(text_model, names, templates)).all()


@given(value=ANYTHING)
def test_anything_as_texts(value):
    for check in (lambda: check_texts(value, "Class names", 100), lambda: check_templates(value)):
        with contextlib.suppress(NeuroMergeError):
            assert all(isinstance(text, str) and text for text in check())


OPEN_CLIP_KEYS = ("vision_cfg", "text_cfg", "quick_gelu")
TOWER_KEYS = (
    "heads",
    "head_width",
    "layers",
    "width",
    "pool_type",
    "norm_kwargs",
    "tokenizer_kwargs",
    "context_length",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tower=st.dictionaries(st.sampled_from(TOWER_KEYS), ANYTHING, max_size=3),
    top=st.dictionaries(st.sampled_from(OPEN_CLIP_KEYS), ANYTHING, max_size=1),
    preprocess=st.dictionaries(
        st.sampled_from(["size", "mean", "std", "resize_mode", "fill_color"]), ANYTHING, max_size=2
    ),
)
def test_any_open_clip_configuration(family_folder, tmp_path, tower, top, preprocess):
    good = json.loads((family_folder / "base" / "open_clip_config.json").read_text())
    model = {**good["model_cfg"], **top}
    for key in ("vision_cfg", "text_cfg"):
        if isinstance(model[key], dict):
            model[key] = {**model[key], **tower}
    _write_and_read(
        tmp_path, family_folder, {"model_cfg": model, "preprocess_cfg": {**good["preprocess_cfg"], **preprocess}}
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(whole=ANYTHING)
def test_any_json_as_configuration(family_folder, tmp_path, whole):
    _write_and_read(tmp_path, family_folder, whole)


def _write_and_read(folder, family_folder, content):
    weights = folder / "open_clip_model.safetensors"
    if not weights.exists():
        shutil.copy(family_folder / "base" / weights.name, weights)
        shutil.copy(family_folder / "base" / "tokenizer.json", folder)
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    checkpoint = load_checkpoint(folder)
    for build in (VisionModel.from_checkpoint, TextModel.from_checkpoint):
        with contextlib.suppress(NeuroMergeError):
            build(checkpoint)


@given(
    where=st.sampled_from(["hidden_act", "num_attention_heads", "eos_token_id", "layer_norm_eps", "image_size"]),
    value=ANYTHING,
    preprocessor=st.dictionaries(
        st.sampled_from(
            ["size", "crop_size", "image_mean", "image_std", "resample", "do_resize", "rescale_factor", "other"]
        ),
        ANYTHING,
        max_size=2,
    ),
)
def test_any_transformers_configuration(where, value, preprocessor):
    data = {"model_type": "clip", "vision_config": {where: value}, "text_config": {where: value}}
    with contextlib.suppress(NeuroMergeError):
        found = configuration.from_transformers(data, Fields(preprocessor, "preprocessor_config.json"))
        assert found.preprocessing.size > 0


def open_both(folder):
    checkpoint = load_checkpoint(folder)
    return VisionModel.from_checkpoint(checkpoint), TextModel.from_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("visual.conv1.weight", (32, 3, 8, 7)),
        ("visual.positional_embedding", (9, 32)),
        ("visual.ln_pre.bias", (31,)),
        ("visual.transformer.resblocks.0.mlp.c_fc.weight", (100, 32)),
        ("visual.transformer.resblocks.1.attn.out_proj.weight", (32, 16)),
        ("visual.transformer.resblocks.1.ln_2.weight", (1,)),
        ("visual.proj", (31, 12)),
        ("text_projection", (15, 12)),
        ("token_embedding.weight", (20, 0)),
        ("positional_embedding", (9, 15)),
        ("transformer.resblocks.0.attn.in_proj_weight", (47, 16)),
    ],
)
def test_networks_that_do_not_fit_together(family_folder, tmp_path, key, shape):
    shutil.copytree(family_folder / "base", tmp_path / "base")
    path = tmp_path / "base" / "open_clip_model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, key: torch.ones(shape)}, path)
    with pytest.raises(CheckpointError):
        open_both(tmp_path / "base")


@pytest.mark.parametrize("size", [3e38, 1e25, 1e17])
def test_weights_whose_sums_overflow_are_named_and_give_no_chance_score(family, size):
    model = VisionModel.from_checkpoint(load_checkpoint(family.base))
    side = model.preprocessing.size
    dice = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8, generator=dice)
    for name, weight in model.weights.items():
        if re.search(r"[.][qk][.]", name) and size < 1e36:
            continue  # attention that is all on one token is sound
        sound = weight.clone()
        weight.copy_(size * torch.randn(weight.shape, generator=dice).sign())
        for look in (model.encode, model.encode_blocks, lambda p: model.embed_from(model.enter(p), 0)):
            with pytest.raises(CheckpointError, match=f"{model.source}.*{name.replace('.', '[.]')}"):
                look(pictures)
        weight.copy_(sound)
    assert torch.isfinite(model.encode(pictures)).all()


@pytest.mark.parametrize("key", ["token_embedding.weight", "text_projection", "ln_final.weight", "logit_scale"])
def test_a_text_tower_that_overflows_is_told(family, key, tmp_path):
    folder = tmp_path / "huge"
    shutil.copytree(family.base, folder)
    [path] = folder.glob("*.safetensors")
    state = load_file(path)
    [whole] = [name for name in state if name.endswith(key) and not name.startswith("visual.")]
    save_file(state | {whole: torch.full_like(state[whole], 3e38)}, path)
    with pytest.raises(CheckpointError, match=f"{folder}.*{'logit_scale' if key == 'logit_scale' else '3e[+]38'}"):
        zero_shot_head(TextModel.from_checkpoint(load_checkpoint(folder)), ["one", "two"], ["a {}"])
