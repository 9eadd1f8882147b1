"""Configurations of CLIP models: every setting is honoured or refused by its name, and compared with the base's."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import neuromerge
from neuromerge.checkpoints import load_checkpoint, save_checkpoint
from neuromerge.checkpoints.clip_config import configuration_of, differences, from_open_clip, from_transformers
from neuromerge.checkpoints.fields import Fields
from neuromerge.checkpoints.image_processing import Preprocessing, to_open_clip, to_transformers
from neuromerge.checkpoints.image_processing import from_open_clip as pictures_from_open_clip
from neuromerge.checkpoints.image_processing import from_transformers as pictures_from_transformers
from neuromerge.errors import CheckpointError
from neuromerge.evaluation import preprocessing
from neuromerge.evaluation.towers import TextModel, VisionModel
from tests.checkpoints import models

PLAIN = Preprocessing(16, crop_offset="down")
PIXELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def open_clip_folder(folder, preprocess=None, seed=0, **model):
    """A tiny model whose `open_clip_config.json` says other things than usual."""
    models.save_open_clip(models.open_clip_model(seed), folder)
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text())
    for name, value in model.items():
        if isinstance(value, dict):
            content["model_cfg"][name].update(value)
        else:
            content["model_cfg"][name] = value
    content["preprocess_cfg"].update(preprocess or {})
    path.write_text(json.dumps(content))
    return folder


def transformers_folder(folder, preprocessor=None, **changes):
    """The same in the layout of transformers; `changes` of ``vision_config`` and ``text_config``."""
    models.clip_model().save_pretrained(folder)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for name, value in changes.items():
        content[name].update(value)
    path.write_text(json.dumps(content))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


# ------------------------------------------------------------------------------------------------- honoured


def test_processor_config_goes_before_preprocessor_config(tmp_path):
    usual = {"size": {"shortest_edge": 16}, "crop_size": 16}
    folder = transformers_folder(tmp_path, {**usual, "image_mean": [0.1, 0.1, 0.1]})
    processor = {"processor_class": "CLIPProcessor", "image_processor": {**usual, "image_mean": [0.5, 0.5, 0.5]}}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    assert configuration_of(load_checkpoint(folder)).preprocessing.mean == (0.5, 0.5, 0.5)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert configuration_of(load_checkpoint(folder)).preprocessing.mean == (0.1, 0.1, 0.1)
    (folder / "processor_config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"processor_config\.json"):
        configuration_of(load_checkpoint(folder))


def test_of_two_configurations_that_of_the_weights_is_read(tmp_path):
    folder = transformers_folder(tmp_path, vision_config={"hidden_act": "gelu"}, text_config={"hidden_act": "gelu"})
    other = {"model_cfg": {"embed_dim": 8, "quick_gelu": True, "vision_cfg": {"head_width": 8}, "text_cfg": {}}}
    (folder / "open_clip_config.json").write_text(json.dumps(other))
    assert configuration_of(load_checkpoint(folder / "model.safetensors")).vision.activation == "gelu"


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({}, PLAIN),
        ({"size": 20, "crop_size": 16}, Preprocessing(16, edge=20, crop_offset="down")),
        (
            {"size": 20, "default_to_square": True, "do_center_crop": False},
            Preprocessing(20, resize_mode="squash", crop_offset="down"),
        ),
        ({"do_resize": False}, Preprocessing(16, resize_mode="none", crop_offset="down")),
        ({"do_rescale": False}, Preprocessing(16, scale=1.0, crop_offset="down")),
        ({"rescale_factor": 0.5}, Preprocessing(16, scale=0.5, crop_offset="down")),
        ({"do_normalize": False}, Preprocessing(16, (0.0,) * 3, (1.0,) * 3, crop_offset="down")),
        ({"resample": 0}, Preprocessing(16, interpolation="nearest", crop_offset="down")),
        (
            {"do_convert_rgb": False, "image_processor_type": "CLIPImageProcessorFast"},
            Preprocessing(16, crop_offset="down"),
        ),
        (
            {"image_processor_type": "SiglipImageProcessor"},
            Preprocessing(16, (0.5,) * 3, (0.5,) * 3, resize_mode="squash", crop_offset="down"),
        ),
        (
            {"image_processor_type": "ViTImageProcessor"},
            Preprocessing(16, (0.5,) * 3, (0.5,) * 3, "bilinear", "squash", crop_offset="down"),
        ),
    ],
    ids=str,
)
def test_image_processors(processor, expected):
    assert pictures_from_transformers(Fields(processor, "file"), 16) == expected


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(16, crop_offset="down"),
        Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), "lanczos", "shortest", 0, 20, 1 / 255, "down"),
        Preprocessing(16, resize_mode="squash", crop_offset="down"),
        Preprocessing(16, resize_mode="squash", edge=24, interpolation="nearest", crop_offset="down"),
        Preprocessing(16, resize_mode="none", crop_offset="down"),
        Preprocessing(16, (0.0,) * 3, (1.0,) * 3, scale=1.0, crop_offset="down"),
        Preprocessing(16, scale=1 / 127.5, crop_offset="down"),
    ],
)
def test_transformers_files_read_back_the_same(how):
    assert pictures_from_transformers(Fields(json.loads(json.dumps(to_transformers(how))), "file"), 16) == how


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_open_clip_files_read_back_the_same(resize_mode, interpolation):
    how = Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), interpolation, resize_mode)
    assert pictures_from_open_clip(Fields(to_open_clip(how, 16), "file"), 16) == how


def test_another_factor_becomes_mean_and_std_of_open_clip():
    how = Preprocessing(16, (1.0, 0.9, 0.8), (1.0, 0.9, 0.8), scale=1 / 127.5)
    again = pictures_from_open_clip(Fields(to_open_clip(how, 16), "file"), 16)
    levels = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)
    torch.testing.assert_close(preprocessing.normalise(levels, again), preprocessing.normalise(levels, how))


def test_the_activation_with_tanh(tmp_path):
    tanh, eps = {"act_kwargs": {"approximate": "tanh"}}, {"norm_kwargs": {"eps": 1e-3}}
    folder = open_clip_folder(tmp_path / "ours", quick_gelu=False, vision_cfg=tanh, text_cfg=eps)
    found = configuration_of(load_checkpoint(folder))
    assert (found.vision.activation, found.text.tower.activation, found.text.tower.eps) == ("gelu_tanh", "gelu", 1e-3)
    theirs = models.load_open_clip(folder)
    with torch.no_grad():
        expected = theirs.encode_image(PIXELS, normalize=True)
    ours = VisionModel.from_checkpoint(load_checkpoint(folder))
    torch.testing.assert_close(ours.encode(PIXELS), expected, atol=1e-5, rtol=0)
    save_checkpoint(folder, tmp_path / "theirs", "transformers")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["vision_config"]["hidden_act"] == "gelu_pytorch_tanh"
    save_checkpoint(tmp_path / "theirs", tmp_path / "again", "open_clip")
    again = configuration_of(load_checkpoint(tmp_path / "again"))
    assert (again.vision, again.text.tower) == (found.vision, found.text.tower)
    torch.testing.assert_close(
        VisionModel.from_checkpoint(load_checkpoint(tmp_path / "theirs")).encode(PIXELS), expected, atol=1e-5, rtol=0
    )


def test_pooling_at_a_token_survives_both_ways(tmp_path):
    folder = open_clip_folder(tmp_path / "ours", text_cfg={"pool_type": "eos", "eos_id": 31, "pad_id": 5})
    save_checkpoint(folder, tmp_path / "theirs", "transformers")
    found = configuration_of(load_checkpoint(tmp_path / "theirs")).text
    assert (found.pool, found.eos, found.pad) == ("eos", 31, 5)
    save_checkpoint(tmp_path / "theirs", tmp_path / "again", "open_clip")
    again = configuration_of(load_checkpoint(tmp_path / "again")).text
    assert (again.pool, again.eos) == ("eos", 31)


def test_a_processor_config_is_translated_and_not_left_behind(tmp_path):
    folder = transformers_folder(tmp_path / "theirs")
    pictures = {"size": {"shortest_edge": 16}, "crop_size": 16, "image_mean": [0.5, 0.4, 0.3], "resample": 2}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": pictures}))
    save_checkpoint(folder, tmp_path / "ours", "open_clip")
    assert not list((tmp_path / "ours").glob("*processor*"))
    found = configuration_of(load_checkpoint(tmp_path / "ours")).preprocessing
    assert (found.mean, found.interpolation) == ((0.5, 0.4, 0.3), "bilinear")


# -------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"do_pad": True}, "do_pad"),
        ({"crop_pct": 0.875}, "crop_pct"),
        ({"do_reduce_labels": True, "do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"auto_map": {"AutoImageProcessor": "code.Processor"}}, "auto_map"),
        ({"do_center_crop": False}, "do_center_crop"),
        ({"do_center_crop": False, "do_resize": False}, "do_resize and do_center_crop"),
        ({"size": {"shortest_edge": 16, "longest_edge": 32}}, "size"),
        ({"size": {"longest_edge": 16}}, "size"),
        ({"size": {"height": 16, "width": 20}}, "size"),
        ({"size": {"max_pixels": 9, "min_pixels": 3}}, "size"),
        ({"crop_size": {"shortest_edge": 16}}, "crop_size"),
        ({"crop_size": [16, 20]}, "crop_size"),
        ({"resample": 6}, "resample"),
        ({"resample": "cubic"}, "resample"),
        ({"resample": True}, "resample"),
        ({"do_resize": "no"}, "do_resize"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"rescale_factor": "1/255"}, "rescale_factor"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "image_processor_type"),
        ({"image_processor_type": ["CLIPImageProcessor"]}, "image_processor_type"),
        ({"feature_extractor_type": "DeiTFeatureExtractor"}, "feature_extractor_type"),
    ],
    ids=str,
)
def test_image_processors_that_are_refused(settings, named):
    with pytest.raises(CheckpointError, match=rf"file\b.*{named}"):
        pictures_from_transformers(Fields(settings, "file"), 16)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mode": "L"}, "mode"),
        ({"interpolation": "nearest"}, "interpolation"),
        ({"resize_mode": "crop"}, "resize_mode"),
        ({"fill_color": 256}, "fill_color"),
        ({"fill_color": [1, 2, 3]}, "fill_color"),
        ({"size": [16, 20]}, "size"),
        ({"size": "16"}, "size"),
        ({"mean": "0.5"}, "mean"),
        ({"std": [0.2, -0.2, 0.2]}, "std"),
        ({"crop_pct": 0.9}, "crop_pct"),
        ({"do_normalize": True, "pad": 3}, "do_normalize"),
    ],
    ids=str,
)
def test_preprocessing_of_open_clip_that_is_refused(settings, named):
    with pytest.raises(CheckpointError, match=rf"file\b.*{named}"):
        pictures_from_open_clip(Fields(settings, "file"), 16)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"vision_cfg": {"qk_norm": True}}, "qk_norm"),
        ({"vision_cfg": {"something_new": 3}}, "something_new"),
        ({"vision_cfg": {"norm_kwargs": [1e-5]}}, "norm_kwargs"),
        ({"vision_cfg": {"norm_kwargs": "eps"}}, "norm_kwargs"),
        ({"vision_cfg": {"norm_kwargs": {"eps": "small"}}}, "eps"),
        ({"vision_cfg": {"norm_kwargs": {"eps": 1e-5, "elementwise_affine": False, "other": 1}}}, "other"),
        ({"vision_cfg": {"act_kwargs": {"approximate": "other"}}}, "approximate"),
        ({"vision_cfg": {"act_kwargs": {"slope": 1}}}, "slope"),
        ({"vision_cfg": {"head_width": 8.5}}, "head_width"),
        ({"vision_cfg": {"pool_type": "avg"}}, "pool_type"),
        ({"text_cfg": {"tokenizer_kwargs": ["clean"]}}, "tokenizer_kwargs"),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": 3}}}, "clean"),
        ({"text_cfg": {"tokenizer_kwargs": {"reduction_mask": "syntax"}}}, "reduction_mask"),
        ({"text_cfg": {"tokenizer_mode": "clips"}}, "tokenizer_mode"),
        ({"text_cfg": {"embed_cls": True}}, "embed_cls"),
        ({"text_cfg": {"proj_type": "none"}}, "proj_type"),
        ({"text_cfg": {"heads": None, "context_length": -1}}, "context_length"),
        ({"quick_gelu": "yes"}, "quick_gelu"),
        ({"multimodal_cfg": {"width": 8}}, "multimodal_cfg"),
    ],
    ids=str,
)
def test_networks_of_open_clip_that_are_refused(tmp_path, model, named):
    open_clip_folder(tmp_path)
    content = json.loads((tmp_path / "open_clip_config.json").read_text())
    for name, value in model.items():
        if isinstance(value, dict) and name in content["model_cfg"]:
            content["model_cfg"][name].update(value)
        else:
            content["model_cfg"][name] = value
    with pytest.raises(CheckpointError, match=rf"open_clip_config\.json.*{named}"):
        from_open_clip(content, tmp_path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    for build in (VisionModel.from_checkpoint, TextModel.from_checkpoint):
        with pytest.raises(CheckpointError, match=named):
            build(load_checkpoint(tmp_path))
    with pytest.raises(CheckpointError, match=named):
        save_checkpoint(tmp_path, tmp_path / "out", "transformers")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("vision_config", {"hidden_act": "relu"}),
        ("vision_config", {"hidden_act": ["gelu"]}),
        ("vision_config", {"layer_norm_eps": "1e-5"}),
        ("vision_config", {"num_attention_heads": 0}),
        ("vision_config", {"num_channels": 4}),
        ("vision_config", {"image_size": {"height": 16}}),
        ("text_config", {"max_position_embeddings": None, "eos_token_id": [1, 2]}),
        ("text_config", {"pad_token_id": "<pad>"}),
    ],
    ids=str,
)
def test_networks_of_transformers_that_are_refused(section, settings):
    named = list(settings)[-1]
    with pytest.raises(CheckpointError, match=rf"config\.json: {section}: {named}"):
        from_transformers({"model_type": "clip", section: settings}, None)


@pytest.mark.parametrize(
    ("how", "write", "named"),
    [
        (Preprocessing(16, resize_mode="longest"), to_transformers, "resize_mode = longest"),
        (Preprocessing(16, interpolation="lanczos"), lambda how: to_open_clip(how, 16), "resample = lanczos"),
        (Preprocessing(16, resize_mode="none"), lambda how: to_open_clip(how, 16), "do_resize = false"),
        (Preprocessing(16, edge=20), lambda how: to_open_clip(how, 16), "size = 20 with crop_size = 16"),
        (Preprocessing(20), lambda how: to_open_clip(how, 16), "crop_size = 20"),
    ],
)
def test_what_the_other_library_has_no_word_for_is_refused(how, write, named):
    with pytest.raises(CheckpointError, match=named):
        write(how)


@pytest.mark.parametrize(
    "settings", [{"no_causal_mask": True}, {"pool_type": "last"}, {"pool_type": "eos", "eos_id": 2}]
)
def test_text_towers_that_transformers_does_not_have(tmp_path, settings):
    folder = open_clip_folder(tmp_path / "ours", text_cfg=settings)
    with pytest.raises(CheckpointError, match=next(iter(settings))):
        save_checkpoint(folder, tmp_path / "theirs", "transformers")


# ------------------------------------------------------------------------------------------------- compared


def tuned(folder, out):
    """The weights of a folder, a little different, without configuration."""
    out.mkdir(parents=True, exist_ok=True)
    state = load_file(next(folder.glob("*.safetensors")))
    changed = {key: value + 0.01 if value.is_floating_point() and value.ndim else value for key, value in state.items()}
    save_file(changed, out / next(folder.glob("*.safetensors")).name)
    return out


OPEN_CLIP_CHANGES = [
    ({"quick_gelu": False}, None, ("activation of the vision tower gelu (base: quick_gelu)", "text tower gelu")),
    ({"vision_cfg": {"head_width": 4}}, None, ("attention heads of the vision tower 4 (base: 2)",)),
    ({"text_cfg": {"heads": 4}}, None, ("attention heads of the text tower 4 (base: 2)",)),
    ({"vision_cfg": {"norm_kwargs": {"eps": 1e-3}}}, None, ("layer norm eps of the vision tower 0.001 (base: 1e-05)",)),
    ({}, {"mean": [0.1, 0.4, 0.3]}, ("image mean 0.1, 0.4, 0.3 (base: 0.5, 0.4, 0.3)",)),
    ({}, {"std": [0.9, 0.3, 0.2]}, ("image std 0.9, 0.3, 0.2 (base:",)),
    ({}, {"interpolation": "bilinear"}, ("interpolation bilinear (base: bicubic)",)),
    ({}, {"resize_mode": "squash"}, ("resize mode squash (base: shortest)",)),
]


@pytest.mark.parametrize(("model", "preprocess", "named"), OPEN_CLIP_CHANGES, ids=str)
def test_a_difference_is_a_warning_that_names_both_values(tmp_path, model, preprocess, named):
    base = open_clip_folder(tmp_path / "base")
    expert = open_clip_folder(tmp_path / "expert", preprocess, seed=1, **model)
    with pytest.warns(UserWarning, match="expert: its configuration differs"):
        result = neuromerge.merge(base, [expert])
    (warning,) = (text for text in result.warnings if "configuration" in text)
    for each in named:
        assert each in warning
    assert configuration_of(load_checkpoint(expert)) != configuration_of(load_checkpoint(base))


def test_equal_configurations_are_silent_in_every_layout(tmp_path):
    base = open_clip_folder(tmp_path / "base")
    save_checkpoint(base, tmp_path / "theirs", "transformers")
    bare = tuned(base, tmp_path / "bare")
    first = load_checkpoint(base)
    for other in (base, tmp_path / "theirs", bare):
        assert differences(first, load_checkpoint(other)) == ()
    (tmp_path / "theirs" / "preprocessor_config.json").unlink()
    assert differences(first, load_checkpoint(tmp_path / "theirs")) == (), "what is not described is not compared"


def test_layouts_are_compared_with_one_another(tmp_path):
    base = open_clip_folder(tmp_path / "base")
    save_checkpoint(base, tmp_path / "theirs", "transformers")
    path = tmp_path / "theirs" / "preprocessor_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "do_rescale": False, "size": {"shortest_edge": 20}}))
    (told,) = differences(load_checkpoint(base), load_checkpoint(tmp_path / "theirs"))
    assert "resized edge 20 (base: 16)" in told
    assert "rescale factor 1 (base: 0.00392157)" in told


def test_a_configuration_that_cannot_be_read_is_told_and_the_merge_goes_on(tmp_path):
    base = open_clip_folder(tmp_path / "base")
    expert = open_clip_folder(tmp_path / "expert", {"crop_pct": 0.9}, seed=1)
    with pytest.warns(UserWarning, match=r"not compared with the base's.*crop_pct"):
        assert neuromerge.merge(base, [expert]).warnings


def test_language_models_are_compared_too():
    def model(**changes):
        config = {
            "model_type": "llama",
            "hidden_act": "silu",
            "num_attention_heads": 2,
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_theta": 10_000.0, "rope_type": "default"},
            **changes,
        }
        weights = {"model.layers.0.self_attn.q_proj.weight": torch.ones(4, 4), "model.norm.weight": torch.ones(4)}
        checkpoint = load_checkpoint(weights, name="expert")
        checkpoint.config = config
        return checkpoint

    base = model()
    assert differences(base, model()) == ()
    assert differences(base, model(rope_parameters=None)) == ()
    (told,) = differences(base, model(hidden_act="gelu", rms_norm_eps=1e-5))
    assert "hidden_act gelu (base: silu)" in told
    assert "rms_norm_eps 1e-05 (base: 1e-06)" in told
    (told,) = differences(base, model(rope_parameters={"rope_theta": 5e5, "rope_type": "default"}))
    assert "500000.0" in told


def test_an_expert_is_evaluated_under_its_own_configuration(tmp_path):
    base = open_clip_folder(tmp_path / "base")
    expert = open_clip_folder(tmp_path / "expert", {"mean": [0.1, 0.1, 0.1]}, seed=1, quick_gelu=False)
    own = VisionModel.from_checkpoint(load_checkpoint(expert), base=load_checkpoint(base))
    assert own.settings.activation == "gelu"
    assert own.preprocessing.mean == (0.1, 0.1, 0.1)
    with torch.no_grad():
        expected = models.load_open_clip(expert).encode_image(PIXELS, normalize=True)
    torch.testing.assert_close(own.encode(PIXELS), expected, atol=1e-5, rtol=0)
    bare = tuned(expert, tmp_path / "bare")
    inherited = VisionModel.from_checkpoint(load_checkpoint(bare), base=load_checkpoint(base))
    assert inherited.settings.activation == "quick_gelu"
