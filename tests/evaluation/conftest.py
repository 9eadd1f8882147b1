"""A tiny family on disk: base, two experts and pictures, in the layout that a user's own family has."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from neuromerge.evaluation.families import Family, local_family
from tests.evaluation.networks import save_open_clip

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 180, 40)}
SIZES = ((24, 24), (40, 31), (20, 52))


def save_pictures(folder, seed, each=12):
    """Noisy plain pictures of several sizes and formats, one subfolder a colour."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            height, width = SIZES[number % len(SIZES)]
            noise = rng.integers(-25, 25, (height, width, 3))
            image = Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))
            image.save(folder / name / f"{number}.{'png' if number % 2 else 'jpg'}")


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    save_open_clip(folder / "base")
    base = load_file(folder / "base" / "open_clip_model.safetensors")
    (folder / "experts").mkdir()
    rng = np.random.default_rng(3)
    for seed, task in enumerate(("colours", "shades")):
        expert = {
            key: value + 0.05 * value.new_tensor(rng.standard_normal(tuple(value.shape)))
            for key, value in base.items()
            if key.startswith("visual.")
        }
        save_file(expert, folder / "experts" / f"{task}.safetensors")
        save_pictures(folder / "samples" / task, seed)
    return folder


@pytest.fixture(scope="session")
def family(family_folder) -> Family:
    return local_family(family_folder, allowed=True)
