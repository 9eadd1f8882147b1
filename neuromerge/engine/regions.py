"""What the engine keeps, by what: every region of the cache, its keys and how many of its values are kept.

A key holds exactly what a value depends on. Whatever is not in the key (coefficients, a profile) may move without
the value being computed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from neuromerge.engine.cache import Region
from neuromerge.engine.resident import ResidentTask
from neuromerge.merging.linear import Components, nbytes
from neuromerge.merging.profile import TaskWeights
from neuromerge.merging.votes import Vote

if TYPE_CHECKING:
    import numpy as np
    import torch

    from neuromerge.engine.accuracy import Accuracy
    from neuromerge.engine.contents import Contents
    from neuromerge.engine.embeddings import Embeddings
    from neuromerge.evaluation.samples import SampleSet
    from neuromerge.merging.measures import Cell
    from neuromerge.merging.retention import Products
    from neuromerge.merging.staged import FirstPass
    from neuromerge.merging.trim import MagnitudeSample, Thresholds
    from neuromerge.merging.vectors import AlignedVectors
    from neuromerge.settings.setting import Setting

_CELL_BYTES = 4096  # of three Gram matrices of some tasks and a few numbers, about
_SAMPLE_BYTES = 1 << 23  # a sample of magnitudes, drawn at the first threshold: 2^18 float32 of eight tasks
_VECTORS_BYTES = 1 << 16  # what is resident is counted where it is shared, with its task


@dataclass(frozen=True, slots=True)
class FamilyKey:
    """Which family; one of the same name with another base is another."""

    name: str
    base: str


@dataclass(frozen=True, slots=True)
class Tasks:
    """Which task vectors: tasks by name, and a weight for each (all 1 when empty)."""

    names: tuple[str, ...]
    weights: TaskWeights = ()


@dataclass(frozen=True, slots=True)
class Pass:
    """What a first pass depends on: task vectors, the share trimmed of each, and the vote on orthogonal parts."""

    tasks: Tasks
    ratio: float
    vote: Vote


Asked = tuple[tuple[str, str, bytes], ...]
"""Pictures of several tasks: task, split and rows of each."""


def tensor_bytes(tensors: Mapping[str, torch.Tensor]) -> int:
    """Bytes of tensors by name."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _component_bytes(components: Mapping[str, Components]) -> int:
    return sum(map(nbytes, components.values()))


def _cells_bytes(cells: tuple[Cell, ...]) -> int:
    return len(cells) * _CELL_BYTES


# --------------------------------------------------------------------------------------------------- merges

VECTORS: Region[tuple[FamilyKey, Tasks], AlignedVectors] = Region("task vectors", lambda _: _VECTORS_BYTES)
RESIDENT: Region[tuple[FamilyKey, str], ResidentTask] = Region("resident task", lambda task: task.nbytes)
SAMPLE: Region[tuple[FamilyKey, Tasks], MagnitudeSample] = Region("magnitudes", lambda _: _SAMPLE_BYTES)
THRESHOLDS: Region[tuple[FamilyKey, Tasks, float], Thresholds] = Region("thresholds")
FIRST_PASS: Region[tuple[FamilyKey, Pass], FirstPass] = Region("first pass", lambda first: first.nbytes, most=16)
PARTS: Region[tuple[FamilyKey, Pass], dict[str, torch.Tensor]] = Region("merged parts", tensor_bytes, most=16)
COMPONENTS: Region[tuple[FamilyKey, Setting], dict[str, Components]] = Region("components", _component_bytes, most=16)
PRODUCTS: Region[tuple[FamilyKey, Setting], Products] = Region("products", most=64)
CELLS: Region[tuple[FamilyKey, Pass, bool], tuple[Cell, ...]] = Region("cells", _cells_bytes)
OWN_CELLS: Region[tuple[FamilyKey, Setting], tuple[Cell, ...]] = Region("cells of a method", _cells_bytes)

# --------------------------------------------------------------------------------------------------- models

SAMPLES: Region[tuple[FamilyKey, str, str], SampleSet] = Region("samples", lambda found: 4096 + 100 * len(found))
BATCH: Region[tuple[FamilyKey, Contents, Asked], dict[str, Embeddings]] = Region(
    "embeddings", lambda found: sum(each.nbytes for each in found.values())
)
EMBEDDING: Region[tuple[FamilyKey, Contents, str, str], Embeddings] = Region(
    "embedding",
    lambda found: found.nbytes,
    most=512,  # of one task's pictures under one merge: some 32 positions of a slider
)
TOKENS: Region[tuple[FamilyKey, Contents, str, str], torch.Tensor] = Region("class tokens", most=512)
TOKENS_BATCH: Region[
    tuple[FamilyKey, Contents, str, tuple[str, ...]], tuple[dict[str, Embeddings], dict[str, torch.Tensor]]
] = Region("class tokens of some tasks")
SCORE: Region[tuple[FamilyKey, Contents, str, str, int], Accuracy] = Region("score", most=8192)  # a kilobyte each
PICTURE: Region[tuple[FamilyKey, Contents, str], torch.Tensor] = Region("picture", most=1024)
OWN: Region[tuple[FamilyKey, Contents, str], torch.Tensor] = Region("own pictures", most=64)
INPUTS: Region[tuple[FamilyKey, str, str, str, int], np.ndarray] = Region("inputs of a layer")
