"""A family with experts of a visitor's own beside its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from neuromerge.evaluation.families import Family, ModelEntry

_LONGEST_NAME = 32
_STRANGE = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class OwnExpert:
    """An expert that somebody brought: what it is called, where it lies, and what recipes call it.

    `path` is what `load_checkpoint` takes; `written` is the same where its owner has it, which for an uploaded file is
    its bare name.
    """

    name: str
    path: str
    written: str


def own_name(wanted: str, taken: Collection[str]) -> str:
    """A name for an expert: letters, digits and underscores, another than the taken ones."""
    plain = _STRANGE.sub("_", wanted).strip("_")[:_LONGEST_NAME] or "own"
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}_{number}", number + 1
    return name


def with_own(family: Family, name: str, own: Mapping[str, OwnExpert]) -> Family:
    """`family` under another name, with experts of one's own after its own. They have no pictures of their own."""
    return replace(
        family,
        name=name,
        title=f"{family.title}, with your own",
        experts={**family.experts, **{task: expert.path for task, expert in own.items()}},
        entries={**family.entries, **{task: ModelEntry(expert.written) for task, expert in own.items()}},
        brought=tuple(own),
    )
