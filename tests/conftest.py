from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.executor import Executor
from neuromerge.evaluation.families import local_family
from neuromerge.exploration.workspace import Workspace
from tests.evaluation import networks


@dataclass(frozen=True)
class FakeFamily:
    """As much of a family as settings, recipes and permalinks look at."""

    name: str = "tiny"
    base: str = "bundled:tiny"
    experts: dict[str, str] = field(
        default_factory=lambda: {task: f"bundled:tiny/{task}" for task in ("digits", "flags", "styles")}
    )
    default_tasks: tuple[str, ...] = ()

    @property
    def tasks(self) -> dict[str, str]:
        return dict(self.experts)

    def written(self, task: str) -> str:
        return self.experts[task]

    def is_source(self, source: str, task: str | None = None) -> bool:
        return source == str(self.base if task is None else self.experts[task])


@pytest.fixture(scope="session")
def family() -> FakeFamily:
    return FakeFamily()


TINY_TASKS = ("animals", "shapes", "signs")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A family of real (random) CLIP models with two blocks on disk, three experts and a few pictures a task."""
    folder = tmp_path_factory.mktemp("tiny")
    base = networks.save_open_clip(folder / "base").state_dict()
    (folder / "experts").mkdir()
    generator = torch.Generator().manual_seed(1)
    numbers = np.random.default_rng(0)
    for number, task in enumerate(TINY_TASKS):
        moved = {
            key: weight + (0.05 + 0.03 * number) * torch.randn(weight.shape, generator=generator)
            for key, weight in base.items()
            if key.startswith("visual.")
        }
        save_file(
            {key: weight.contiguous() for key, weight in moved.items()}, folder / "experts" / f"{task}.safetensors"
        )
        for name in networks.CLASSES[number : number + 3]:
            for split, count in (("validation", 8), ("test", 3)):
                place = folder / "samples" / task / split / name.replace(" ", "_")
                place.mkdir(parents=True)
                for image in range(count):
                    picture = Image.fromarray(numbers.integers(0, 255, (24, 24, 3), dtype=np.uint8))
                    picture.save(place / f"{image}.png")
        (folder / "tasks").mkdir(exist_ok=True)
        (folder / "tasks" / f"{task}.yaml").write_text(
            f"name: {task}\ntitle: {task.title()}\ndescription: Noise.\n"
            f"classes: {list(networks.CLASSES[number : number + 3])}\n"
            "templates: ['a photo of the {}']\nsamples: {kind: folder}\n"
        )
    return local_family(folder, allowed=True)


@pytest.fixture
def workspace(tiny):
    """A workspace with a cache of its own, so that tests do not see each other's results."""
    return Workspace({tiny.name: tiny}, cache=BoundedCache(256 * 1024**2), executor=Executor(1))
