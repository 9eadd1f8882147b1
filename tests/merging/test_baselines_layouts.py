"""The same models, stored by open_clip and by transformers, merge to the same weights with every method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import neuromerge
from tests.checkpoints.models import open_clip_model, perturbed, save_open_clip

METHODS = ("average", "task_arithmetic", "ties", "dare", "pcb", "consensus", "tsv_m", "iso_c")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Folders of one base and three experts, in either layout."""
    root = tmp_path_factory.mktemp("layouts")
    model = open_clip_model(seed=0)
    base = {key: value.clone() for key, value in model.state_dict().items()}
    folders: dict[str, list[Path]] = {"open_clip": [], "transformers": []}
    for index, name in enumerate(["base", "one", "two", "three"]):
        model.load_state_dict(perturbed(base, seed=index) if index else base)
        folder = save_open_clip(model, root / "open_clip" / name)
        folders["open_clip"].append(folder)
        # A model merged with itself is itself: this only rewrites it.
        neuromerge.merge(folder, [folder], method="average", out=root / "hf" / name, layout="transformers")
        folders["transformers"].append(root / "hf" / name)
    return folders


@pytest.mark.parametrize("method", METHODS)
def test_layouts_merge_to_the_same_weights(method: str, stored: dict[str, list[Path]], tmp_path: Path) -> None:
    results = []
    for layout, (base, *experts) in stored.items():
        folder = tmp_path / layout
        neuromerge.merge(base, experts, method=method, seed=7, out=folder, layout="open_clip")
        results.append(neuromerge.load_checkpoint(folder).state_dict())
    first, second = results
    assert first.keys() == second.keys()
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["dare", "tsv_m"])
def test_written_as_made_equals_held_in_memory(method: str, stored: dict[str, list[Path]], tmp_path: Path) -> None:
    base, *experts = stored["transformers"]
    held = neuromerge.merge(base, experts, method=method).state_dict
    neuromerge.merge(base, experts, method=method, out=tmp_path / "out")
    written = neuromerge.load_checkpoint(tmp_path / "out").state_dict()
    assert held.keys() == written.keys()
    assert all(torch.equal(held[key], written[key]) for key in held)
