"""Finding CLIP among other things: under whatever prefix a trainer put it, beside heads, losses and copies.

A CLIP vision tower is recognised by a few keys that only it has together. What stands before them is the
prefix; the keys after it that are CLIP's own are the part, and all others stand beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.text import shown
from neuromerge.errors import CheckpointError

Entry = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype of one stored tensor."""

_MAX_PARTS = 16  # more than anybody trains together; a stranger's file may name thousands
TOP = "."
"""What names the part whose keys have no prefix, where a part is asked for."""


@dataclass(frozen=True, slots=True)
class ClipPart:
    """A CLIP model inside a set of keys.

    Attributes:
        prefix: what stands before its own keys, e.g. ``module.image_encoder.model.`` ('' for nothing).
        layout: ``open_clip`` or ``transformers-clip``.
        bare: it is a vision tower alone, its keys without the tower's own ``visual.`` or ``vision_model.``.
        keys: its keys, with the prefix.
    """

    prefix: str
    layout: str
    bare: bool
    keys: frozenset[str]

    @property
    def name(self) -> str:
        """What chooses this part: the prefix without its last dot, or ``.``."""
        return self.prefix.rstrip(".") or TOP

    @property
    def averaged(self) -> bool:
        """Whether it calls itself a running average of another model."""
        return bool(layouts.AVERAGED.search(self.prefix))


def plain_keys(entries: Collection[str]) -> dict[str, str]:
    """Key without the marks that torch.compile, FSDP and checkpointing leave inside it -> stored key.

    Raises CheckpointError for two keys that differ in nothing else, and for FSDP's flattened weights.
    """
    plain: dict[str, str] = {}
    for stored in entries:
        if stored.endswith("_flat_param"):
            raise CheckpointError(
                f"{shown(stored)} is a flattened shard of FSDP. Save a full state dict (FULL_STATE_DICT) instead."
            )
        key = layouts.INNER_WRAPPERS.sub("", stored)
        if key in plain:
            raise CheckpointError(
                f"{shown(plain[key])} and {shown(stored)} are the same tensor, once wrapped and once not. "
                "Remove one of them."
            )
        plain[key] = stored
    return plain


def find_clips(keys: Collection[str]) -> tuple[ClipPart, ...]:
    """Every CLIP among the keys (see `plain_keys`), in the order of the file."""
    present = set(keys)
    found: dict[str, ClipPart] = {}
    for key in keys:
        if len(found) == _MAX_PARTS:
            break
        for layout, (anchor, others) in layouts.CLIP_ANCHORS.items():
            before = key.removesuffix(anchor)
            if before == key or (before and not before.endswith(".")):
                continue
            if not all(before + other in present for other in others):
                continue
            tower = layouts.CLIP_PREFIX[layout]["vision"]
            bare = before != tower and not before.endswith("." + tower)
            prefix = before if bare else before[: len(before) - len(tower)]
            own = layouts.CLIP_TOWER_WORDS[layout] if bare else layouts.CLIP_TOP_WORDS[layout]
            part = frozenset(k for k in keys if k.startswith(prefix) and _first_word(k[len(prefix) :]) in own)
            found.setdefault(prefix, ClipPart(prefix, layout, bare, part))
    return tuple(found.values())


def _first_word(key: str) -> str:
    return key.split(".", 1)[0]


def choose_clip(
    parts: Sequence[ClipPart],
    wanted: str | None,
    same: Callable[[ClipPart, ClipPart], bool] = lambda one, other: False,
) -> ClipPart | None:
    """The part that is meant: the one asked for, the only one, or the only one that is no running average.

    Args:
        parts: what `find_clips` found.
        wanted: name of the part asked for, None where nothing was said.
        same: whether two parts hold the same values (a model registered twice); the larger one is taken then.

    Raises CheckpointError where several remain, or where there is no part of that name.
    """
    if wanted is not None:
        asked = [part for part in parts if part.name == wanted.rstrip(".")] or [p for p in parts if p.name == wanted]
        if asked:
            return asked[0]
        known = ", ".join(part.name for part in parts) or "none"
        raise CheckpointError(f"there is no CLIP model under {shown(wanted)}. Found: {known}.")
    if len(parts) < 2:
        return parts[0] if parts else None
    live = [part for part in parts if not part.averaged] or list(parts)
    largest = max(live, key=lambda part: len(part.keys))
    if all(part is largest or same(part, largest) for part in live):
        return largest
    names = [part.name for part in parts]
    raise CheckpointError(f"it holds {len(names)} CLIP models, under {choice(names)}.")


def choice(names: Sequence[str]) -> str:
    """The names of several models in one file, and how one of them is chosen."""
    return (
        f"{', '.join(names[:-1])} and {names[-1]}. Choose one: write #{names[0]} or #{names[1]} after the file's name, "
        f'or load_checkpoint(..., part="{names[0]}") in Python'
    )


def is_main_part(part: ClipPart, parts: Sequence[ClipPart], entries: Mapping[str, Entry]) -> bool:
    """Whether the part is most of what the keys hold, copies of CLIP aside.

    A head or a projection beside CLIP is left out; a language model around a CLIP tower is the model itself.
    """
    copies = frozenset().union(*(other.keys for other in parts))
    beside = sum(_numel(shape) for key, (shape, _) in entries.items() if key not in copies)
    return beside <= sum(_numel(entries[key][0]) for key in part.keys)


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
