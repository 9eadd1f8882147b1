"""Accuracy against plain loops over open_clip's own model and transforms."""

from __future__ import annotations

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from neuromerge.checkpoints.checkpoint import load_checkpoint
from neuromerge.errors import CheckpointError, LimitError, SettingError
from neuromerge.evaluation import accuracy
from neuromerge.evaluation.families import local_family
from neuromerge.evaluation.heads import Heads, zero_shot_head
from neuromerge.evaluation.samples import load_samples
from neuromerge.evaluation.towers import TextModel, VisionModel


@pytest.fixture(scope="module")
def models(family):
    base = load_checkpoint(family.base)
    return VisionModel.from_checkpoint(base), TextModel.from_checkpoint(base)


def test_head_is_the_normalised_mean_of_normalised_prompts(models):
    _, text = models
    names, templates = ["dog", "red circle"], ["a photo of the {}.", "{}", "a small {}"]
    head = zero_shot_head(text, names, templates)
    for row, name in zip(head, names, strict=True):
        encoded = [text.encode([t.format(name)], normalised=False)[0] for t in templates]
        mean = torch.stack([e / e.norm() for e in encoded]).mean(0)
        torch.testing.assert_close(row, mean / mean.norm(), atol=1e-6, rtol=0)
    assert zero_shot_head(text, names, templates) is head, "kept"
    assert zero_shot_head(text, names, templates[:2]) is not head


def test_slow_heads_of_fixed_tasks_are_kept_on_disk(models, monkeypatch, tmp_path):
    _, text = models
    names, templates = ["dog", "cat"], ["{}"]
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path))
    before = Heads(slow_products=1)
    first = before.head(text, names, templates, keep=True)
    before.head(text, ["typed", "by a visitor"], templates)
    (kept,) = tmp_path.rglob("*.npy")
    written = kept.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(text, "encode", lambda *_: pytest.fail("read from the disk"))
        assert torch.equal(Heads(slow_products=1).head(text, names, templates, keep=True), first)
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(kept.read_bytes()[:-3])
    assert torch.equal(Heads(slow_products=1).head(text, names, templates, keep=True), first), "damaged: made again"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


@pytest.mark.parametrize("changed", ["tokenizer.json", "open_clip_config.json"])
def test_the_same_weights_with_another_tokenizer_or_setting_make_another_head(changed, family, tmp_path):
    """The weights alone do not say what a class name becomes."""
    folder = shutil.copytree(family.base, tmp_path / "base")
    heads, names = Heads(), ["dog", "red circle"]

    def head():
        return heads.head(TextModel.from_checkpoint(load_checkpoint(folder)), names, ["a {}"])

    first = head()
    assert head() is first, "the same again"
    path = folder / changed
    content = json.loads(path.read_text())
    if changed == "tokenizer.json":
        vocabulary = content["model"]["vocab"]
        one, other, *_ = vocabulary
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    else:
        content["model_cfg"]["quick_gelu"] = not content["model_cfg"].get("quick_gelu", False)
    path.write_text(json.dumps(content))
    assert head() is not first


def test_heads_that_were_not_used_for_long_are_dropped(models):
    _, text = models
    heads = Heads(most_bytes=1)
    first = heads.head(text, ["dog"], ["{}"])
    assert heads.head(text, ["dog"], ["{}"]) is first, "one is held whatever its size"
    heads.head(text, ["cat"], ["{}"])
    assert heads.head(text, ["dog"], ["{}"]) is not first


@pytest.mark.parametrize(
    ("names", "templates", "error"),
    [
        ([], ["{}"], SettingError),
        (["dog", " "], ["{}"], SettingError),
        ("dog", ["{}"], SettingError),
        (["dog", 3], ["{}"], SettingError),
        (["dog"], ["a photo"], SettingError),
        (["dog"], ["{} and {}"], SettingError),
        (["d" * 500], ["{}"], LimitError),
        (["dog"] * 6000, ["{}"], LimitError),
    ],
)
def test_unusable_prompts_are_refused(models, names, templates, error):
    with pytest.raises(error):
        zero_shot_head(models[1], names, templates)


def test_class_names_may_hold_braces_and_any_script(models):
    head = zero_shot_head(models[1], ["{0}", "{}", "{dog", "お", "\u202edog", "💡"], ["a {}."])
    assert torch.isfinite(head).all()


def test_batch_equals_a_plain_loop(family, family_folder, models):
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{family_folder / 'base'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{family_folder / 'base'}")
    vision, text = models
    batch = accuracy.make_batch(accuracy.samples_for(family, family.tasks, "test"), vision)
    counts = accuracy.accuracy_of(vision, accuracy.heads_of(family, text), batch)
    for task, spec in family.tasks.items():
        samples = load_samples(family, task, "test")
        with torch.no_grad():
            prompts = tokenizer([spec.templates[0].format(name) for name in spec.classes])
            head = theirs.encode_text(prompts, normalize=True)
            features = [theirs.eval().encode_image(preprocess(p)[None], normalize=True) for p in samples.pictures()]
        expected = (torch.cat(features) @ head.T).argmax(1).numpy()
        assert np.array_equal(counts.predictions[task], expected)
        assert counts.correct[task] == int((expected == samples.labels).sum())
        assert counts.n[task] == len(samples)
    assert 0 <= counts.mean <= 1


def test_evaluate_finds_the_family_and_normalises(family, family_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("NEUROMERGE_FAMILIES", str(family_folder))
    monkeypatch.setenv("NEUROMERGE_ASSETS", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    table = accuracy.evaluate(family.experts["colours"])
    assert table.family == family.name
    assert [row.task for row in table.rows] == ["colours", "shades"]
    assert table["colours"].normalised in (1.0, None), "an expert reaches all of itself"
    assert table["shades"].expert == accuracy.evaluate(family.experts["shades"], ["shades"])["shades"].accuracy
    state = dict(load_checkpoint(family.base).items())
    assert accuracy.evaluate(state, family=family, split="validation", experts=False).mean_normalised is None
    read = json.loads(table.to_json())
    assert read["mean"] == pytest.approx(table.mean)
    assert [row["task"] for row in table.to_rows()] == ["colours", "shades"]
    assert "95 % interval" in table.to_text()


def test_evaluate_refuses_what_it_cannot_do(family):
    with pytest.raises(SettingError, match="split"):
        accuracy.evaluate(family.base, family=family, split="train")
    with pytest.raises(SettingError, match="no task"):
        accuracy.evaluate(family.base, ["cars"], family=family)
    with pytest.raises(CheckpointError, match="no CLIP vision tower"):
        accuracy.evaluate({"a.weight": torch.zeros(3, 3)}, family=family)
    partial = dict(load_checkpoint(family.base).items())
    partial.pop("visual.transformer.resblocks.1.mlp.c_fc.weight")
    with pytest.raises(CheckpointError, match="lacks"):
        accuracy.evaluate(partial, family=family)


def test_what_was_left_out_is_told(family, family_folder, tmp_path):
    pictures = tmp_path / "colours"
    shutil.copytree(family_folder / "samples" / "colours", pictures)
    (pictures / "red" / "broken.jpg").write_bytes(b"x")
    shutil.rmtree(pictures / "green")
    silent = accuracy.evaluate(family.base, ["shades"], family=family, experts=False)
    assert [note for note in silent.notes if "left out" in note or "no pictures" in note] == []
    table = accuracy.evaluate(
        family.base, ["colours"], family=family, split="quick", experts=False, samples={"colours": pictures}
    )
    told = "\n".join(table.notes)
    assert "colours: 1 file is left out: red/broken.jpg" in told
    assert "classes are seen: there are no pictures of green." in told
    assert "note: colours: 1 file" in table.to_text()
    assert json.loads(table.to_json())["notes"] == list(table.notes)


def test_pictures_of_one_s_own_in_an_archive(family, family_folder, tmp_path):
    folder = family_folder / "samples" / "colours"
    archive = shutil.make_archive(str(tmp_path / "colours"), "zip", folder)
    tables = [
        accuracy.evaluate(family.base, ["colours"], family=family, experts=False, samples={"colours": path})
        for path in (folder, archive)
    ]
    assert tables[0].rows == tables[1].rows


def test_pictures_for_a_task_that_is_not_evaluated(family, family_folder):
    folder = family_folder / "samples" / "colours"
    with pytest.raises(SettingError, match=r"Pictures were given for colors, which is not evaluated.*shades"):
        accuracy.evaluate(family.base, ["shades"], family=family, samples={"colors": folder})


def test_experts_are_measured_under_their_own_configuration(family_folder, tmp_path):
    shutil.copytree(family_folder, tmp_path / "own")
    expert = tmp_path / "own" / "experts" / "colours"
    expert.mkdir()
    base = load_file(tmp_path / "own" / "base" / "open_clip_model.safetensors")
    weights = load_file(expert.with_suffix(".safetensors"))
    save_file({**base, **weights}, expert / "open_clip_model.safetensors")
    expert.with_suffix(".safetensors").unlink()
    shutil.copy(tmp_path / "own" / "base" / "tokenizer.json", expert)
    content = json.loads((tmp_path / "own" / "base" / "open_clip_config.json").read_text())
    content["model_cfg"]["quick_gelu"] = True
    content["preprocess_cfg"]["mean"] = [0.1, 0.1, 0.1]
    (expert / "open_clip_config.json").write_text(json.dumps(content))
    own = local_family(tmp_path / "own", allowed=True)
    alone = accuracy.evaluate(str(expert), ["colours"], family=own, experts=False)
    assert any("quick_gelu (base: gelu)" in note and "under its own" in note for note in alone.notes)
    table = accuracy.evaluate(own.base, ["colours", "shades"], family=own)
    assert table["colours"].expert == alone["colours"].accuracy
    assert (
        table["shades"].expert == accuracy.evaluate(own.experts["shades"], family=own, experts=False)["shades"].accuracy
    )


def test_wilson_interval():
    low, high = accuracy.accuracy_interval(45, 50)
    assert (low, high) == (pytest.approx(0.7864, abs=1e-4), pytest.approx(0.9565, abs=1e-4))
    assert accuracy.accuracy_interval(0, 10)[0] == 0
    assert accuracy.accuracy_interval(10, 10)[1] == 1
    assert accuracy.accuracy_interval(0, 0) == (0, 1)
    with pytest.raises(SettingError):
        accuracy.accuracy_interval(3, 2)


def test_confusion_counts():
    counts = accuracy.confusion_counts(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_a_measurement_is_held_against_the_published_figure():
    from neuromerge.evaluation.accuracy import differs_from_published

    assert differs_from_published(0.903, 268, 300) == ""
    assert differs_from_published(0.903, 300, 300).startswith("differs from the published 90.3: 100.0 on 300 pictures")
    assert "(95 % interval" in differs_from_published(0.903, 240, 300)
    assert differs_from_published(0.903, 0, 0) == ""
