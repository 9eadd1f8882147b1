"""The training loop on a handful of made-up pictures: losses, schedules, resuming, moving gently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromerge.errors import AssetError
from neuromerge.zoo import __main__ as command
from neuromerge.zoo import augment, build, captions, model, publish, tasks, train
from neuromerge.zoo.build import DataSet, Picture

CPU = torch.device("cpu")
TINY = train.Recipe(
    base_steps=2, base_batch=6, warmup=1, expert_steps=2, expert_passes=0.0, expert_batch=4, expert_reference=4
)


@pytest.fixture(scope="module")
def data() -> DataSet:
    random = np.random.default_rng(0)
    table = tasks.all_tasks(("France", "Japan"))
    pictures = []
    for split in ("train", "validation", "test"):
        for name, task in table.items():
            kind = {"digits": "handwritten", "letters": "letter", "flags": "flag"}.get(name, "emoji")
            for label in range(2):
                identity = f"{split}:{name}{label}"
                pictures.append(
                    Picture(
                        identity, "made-up", identity, [task.classes[label]], kind, name, label, split, kind == "letter"
                    )
                )
    pictures.append(Picture("train:7", "made-up", "typed", ["seven"], "typed digit", ink=True))
    pictures.append(Picture("train:x", "made-up", "other", ["a lamp"], "icon"))
    rgba = random.integers(0, 256, (len(pictures), 64, 64, 4), dtype=np.uint8)
    return DataSet(rgba, pictures, table)


@pytest.fixture(scope="module")
def tokenizer(data: DataSet):
    texts = [c for picture in data.pictures for c in captions.captions(picture, data.tasks)]
    return model.build_tokenizer(texts)


def test_loss_counts_equal_captions_as_one() -> None:
    texts = torch.eye(2, 4)
    images = torch.stack([texts[0], texts[0], texts[1]])
    owner = torch.tensor([0, 0, 1])
    good = train.contrastive_loss(images, texts, owner, torch.tensor(50.0))
    # Each picture finds its caption; the first caption shares its weight between two pictures: ln 2 / 2 / 2.
    assert good == pytest.approx(np.log(2) / 4, abs=1e-4)
    assert train.contrastive_loss(images, texts, torch.tensor([1, 1, 0]), torch.tensor(50.0)) > 10


def test_an_expert_of_a_large_task_takes_more_steps_but_never_fewer_than_asked() -> None:
    recipe = train.Recipe(expert_steps=100, expert_batch=10, expert_passes=3.0)
    assert recipe.steps_for(50) == 100
    assert recipe.steps_for(1000) == 300


def test_rate_warms_up_stays_and_decays() -> None:
    rates = [train.rate_at(step, 100, 10, 0.2) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


def test_augmentation_is_seeded_and_keeps_ink_visible(data: DataSet) -> None:
    rgba = torch.zeros(64, 64, 64, 4, dtype=torch.uint8)
    rgba[:, 16:48, 16:48, 3] = 255
    ink = torch.ones(64, dtype=torch.bool)
    one = augment.compose(rgba, ink, torch.Generator().manual_seed(1))
    two = augment.compose(rgba, ink, torch.Generator().manual_seed(1))
    torch.testing.assert_close(one, two)
    assert one.shape == (64, 3, 48, 48)
    assert ((one[:, :, 24, 24] - one[:, :, 0, 0]).abs().amax(1) > 0.1).all()


def test_augmentation_of_no_strength_is_the_test_view() -> None:
    rgba = torch.zeros(2, 64, 64, 4, dtype=torch.uint8)
    rgba[:, 8:56, 8:56] = torch.tensor([200, 30, 30, 255], dtype=torch.uint8)
    seen = augment.compose(rgba, torch.zeros(2, dtype=torch.bool), torch.Generator().manual_seed(0), strength=0.0)
    assert seen[0, :, 0, 0].tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close(seen[0, :, 24, 24], augment.as_tested(rgba[:1, :, :, :3])[0, :, 24, 24])


def test_interrupted_base_goes_on_to_the_same_weights(data: DataSet, tokenizer, tmp_path: Path) -> None:
    train.train_base(data, tokenizer, tmp_path / "parts", replace(TINY, base_steps=1), CPU)
    parts = train.train_base(data, tokenizer, tmp_path / "parts", TINY, CPU)
    unbroken = train.train_base(data, tokenizer, tmp_path / "unbroken", TINY, CPU)
    for key, value in unbroken.items():
        torch.testing.assert_close(parts[key], value)


def test_expert_moves_only_the_vision_tower_and_publishes(data: DataSet, tokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = model.build(len(tokenizer), 0).state_dict()
    model.save_base(tmp_path, base, tokenizer)
    base = publish.read_state(tmp_path / "open_clip_model.safetensors")
    for name in ("faces", "digits"):
        state = train.train_expert(data, data.tasks[name], base, tokenizer, TINY, CPU)
        assert 0 < train.movement(base, state) < 0.1
        for key in base:
            assert key.startswith("visual.") or torch.equal(state[key], base[key])
        model.save_expert(tmp_path / "experts" / f"{name}.safetensors", state)
    publish.write_samples(data, tmp_path)
    command.write_card(tmp_path, data, CPU, {"seed": 0})
    figures = publish.measure(data, tmp_path, CPU)
    assert set(figures) == {"faces", "digits"}
    assert figures["faces"]["expert"]["test"]["n"] == 2
    assert (tmp_path / "samples" / "mnist" / "digits.npz").exists()
    assert "| faces |" in (tmp_path / "README.md").read_text()


def test_the_reference_holds_the_base_s_embeddings_of_other_tasks_training_pictures(data: DataSet, tokenizer) -> None:
    base = model.build(len(tokenizer), 0)
    reference = train.Reference(data, "faces", base, CPU)
    others = {n for n, p in enumerate(data.pictures) if p.split == "train" and p.task != "faces"}
    assert set(reference.rows) == others
    images, embeddings = reference.batch(5, torch.Generator().manual_seed(0), 0.4)
    assert images.shape == (5, 3, model.IMAGE, model.IMAGE)
    with torch.no_grad():
        torch.testing.assert_close(embeddings, base.encode_image(images, normalize=True))


def test_an_expert_held_to_the_base_changes_other_pictures_less(data: DataSet, tokenizer) -> None:
    base = model.build(len(tokenizer), 0)
    seen, before = train.Reference(data, "digits", base, CPU).batch(32, torch.Generator().manual_seed(0), 0.0)
    recipe = replace(TINY, expert_steps=12, expert_rate=1e-3, expert_reference=16)
    shift = []
    for keep in (0.0, 100.0):
        state = train.train_expert(
            data, data.tasks["digits"], base.state_dict(), tokenizer, replace(recipe, expert_keep=keep), CPU
        )
        expert = model.build(len(tokenizer), 0)
        expert.load_state_dict(state)
        with torch.no_grad():
            shift.append(float((expert.encode_image(seen, normalize=True) - before).square().sum(1).mean()))
    assert shift[1] < shift[0] / 2


def test_step_times_are_measured_in_seconds(data: DataSet, tokenizer) -> None:
    base, expert = train.step_seconds(data, tokenizer, TINY, CPU)
    assert 0 < base < 60
    assert expert == pytest.approx(base * 0.8 * (4 + 4 / 3 * 4) / 6)


def test_missing_data_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="build-data"):
        build.load(tmp_path)


def test_command_line_tells_users_what_to_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["train", "--cache", str(tmp_path)]) == 2
    assert "build-data" in capsys.readouterr().err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("build-data", "train", "publish"))


def test_wilson_interval_of_a_known_case() -> None:
    low, high = publish.interval(50, 100)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)
