"""A file of more tensors than any model has is refused before each of them is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from neuromerge.checkpoints import filetypes, load_checkpoint, pickles
from neuromerge.errors import CheckpointError


def empty(count: int) -> dict[str, torch.Tensor]:
    return {f"blocks.{number}.weight": torch.empty(0) for number in range(count)}


def shared(count: int) -> dict[str, torch.Tensor]:
    """Tensors of one storage: a single member of an archive."""
    return dict(zip(empty(count), torch.ones(count, 2).unbind(), strict=True))


@pytest.mark.parametrize("kind", ["safetensors", "archive", "archive of one storage", "before 1.6"])
def test_more_tensors_than_any_model_has(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (filetypes, pickles):
        monkeypatch.setattr(module, "MOST_TENSORS", 40)

    def path(count: int) -> Path:
        file = tmp_path / (f"{count}.safetensors" if kind == "safetensors" else f"{count}.pt")
        if kind == "safetensors":
            save_file(empty(count), file)
        else:
            state = shared(count) if "one storage" in kind else empty(count)
            torch.save(state, file, _use_new_zipfile_serialization=kind != "before 1.6")
        return file

    assert len(load_checkpoint(path(30)).state_dict()) == 30
    with pytest.raises(CheckpointError, match="holds more than 40 tensors"):
        load_checkpoint(path(41))
