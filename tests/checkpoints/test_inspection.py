"""Looking into a checkpoint before merging it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from neuromerge.checkpoints import inspect_checkpoint
from neuromerge.errors import CheckpointError
from tests.checkpoints import models

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def ours() -> State:
    return dict(models.open_clip_model().state_dict())


def test_what_is_in_a_file(ours: State, tmp_path: Path) -> None:
    state = {f"module.{key}": value.half() for key, value in ours.items()}
    torch.save({"state_dict": {**state, "head.weight": torch.ones(3, 8)}, "epoch": 3}, tmp_path / "last.ckpt")
    found = inspect_checkpoint(tmp_path / "last.ckpt")
    assert (found.kind, found.layout, found.prefix) == ("PyTorch file", "open_clip", "module.")
    assert found.tensors == len(ours)
    assert found.nbytes == 2 * sum(value.numel() for value in ours.values())
    assert found.dtypes == {"float16": sum(value.numel() for value in ours.values())}
    assert found.blocks == {"vision": 2, "text": 2}
    vision = sum(value.numel() for key, value in ours.items() if key.startswith("visual."))
    assert (found.towers["vision"], found.merged) == (vision, vision)
    assert sum(found.towers.values()) == sum(value.numel() for value in ours.values())
    assert set(found.left_out) == {"head.weight", "epoch"}
    assert "module.logit_scale" in found.from_base
    assert (found.base, found.problem, found.changes, found.warnings) == (None, None, (), ())


def test_the_change_of_each_layer(ours: State) -> None:
    expert = dict(ours)
    expert["visual.ln_pre.bias"] = ours["visual.ln_pre.bias"] + torch.full((16,), 0.5)
    key = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    expert[key] = 3 * ours[key]
    found = inspect_checkpoint(expert, ours)
    changes = {change.layer: change for change in found.changes}
    assert list(changes) == ["stem", "block 0", "block 1", "head"]
    assert changes["stem"].change == pytest.approx(2.0)
    assert changes["block 1"].change == pytest.approx(2 * float(ours[key].norm()), rel=1e-6)
    assert changes["block 0"].change == changes["head"].relative == 0
    block = [value for name, value in ours.items() if name.startswith("visual.transformer.resblocks.1.")]
    norm = float(torch.cat([value.flatten() for value in block]).norm())
    assert changes["block 1"].base == pytest.approx(norm, rel=1e-6)
    assert changes["block 1"].relative == pytest.approx(changes["block 1"].change / norm)
    assert found.warnings == ()


def test_a_change_that_overflows_in_float32_has_a_norm(ours: State) -> None:
    key = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    base, expert = (ours | {key: torch.full_like(ours[key], size)} for size in (-3e38, 3e38))
    [block] = [change for change in inspect_checkpoint(expert, base).changes if change.layer == "block 1"]
    assert block.change == pytest.approx(6e38 * ours[key].numel() ** 0.5, rel=1e-6)
    assert block.relative == pytest.approx(2)


def test_both_towers(ours: State) -> None:
    expert = models.perturbed(ours, 1)
    assert any("text tower" in text for text in inspect_checkpoint(expert, ours).warnings)
    found = inspect_checkpoint(expert, ours, towers="both")
    assert found.warnings == ()
    assert found.merged == sum(value.numel() for key, value in ours.items() if key != "logit_scale")
    assert {"vision block 0", "text block 1"} <= {change.layer for change in found.changes}


def test_what_does_not_fit_is_told_and_not_raised(ours: State) -> None:
    found = inspect_checkpoint(dict(models.language_model("llama").state_dict()), ours)
    assert found.problem is not None
    assert "share no parameter" in found.problem
    assert found.layout == "state_dict"
    with pytest.raises(CheckpointError):
        inspect_checkpoint({}, ours)


def test_shards_and_configurations(tmp_path: Path) -> None:
    models.language_model("llama").save_pretrained(tmp_path / "llama", max_shard_size="6KB")
    found = inspect_checkpoint(tmp_path / "llama")
    assert "shards" in found.kind
    assert "llama" in found.model
    save_file({"fc.weight": torch.ones(2, 2)}, tmp_path / "w.safetensors")
    assert inspect_checkpoint(tmp_path / "w.safetensors").kind == "safetensors file"
