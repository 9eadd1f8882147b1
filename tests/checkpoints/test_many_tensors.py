"""A file of more than any model has is refused before it is looked at piece by piece."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from neuromerge.checkpoints import filetypes, load_checkpoint, pickles, pytorch
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


def test_a_pickle_that_swells_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps("a" * 40_000_000, protocol=2))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(pytorch, "read_pickle", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(CheckpointError, match="too long a pickle"):
        load_checkpoint(path)
