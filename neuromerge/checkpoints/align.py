"""Fitting experts to their base: which parameters they share, and what comes from the base instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.checkpoint import Checkpoint, load_checkpoint
from neuromerge.checkpoints.parts import choice, plain_keys
from neuromerge.checkpoints.roles import Parameter
from neuromerge.checkpoints.text import shown
from neuromerge.errors import AlignmentError, CheckpointError, SettingError, quoted

_TRIED = 8  # keys of the base that an unknown prefix must explain

Source = str | Path | Mapping[str, torch.Tensor | np.ndarray] | Checkpoint
Towers = Literal["vision", "both"]
Vocabulary = Literal["equal", "shared"]


@dataclass(frozen=True)
class Aligned:
    """A base and its experts, matched parameter by parameter.

    Attributes:
        base: the base checkpoint.
        experts: the experts, in the order given; their layouts may differ from the base's.
        task_names: one unique name per expert.
        parameters: what is merged, in the order of the base's network.
        from_base: key of the base -> why it is copied and not merged.
        copies: key of the base -> key of its original: tied tensors, merged once and stored twice.
        lacking: task name -> names of the parameters it has not (its task vector is 0 there).
        towers: what is merged of a CLIP model: the vision tower, or both.
        other_rows: task name -> {key of the base: rows the expert has there}, where its vocabulary has another size.
    """

    base: Checkpoint
    experts: tuple[Checkpoint, ...]
    task_names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    from_base: dict[str, str]
    copies: dict[str, str] = field(default_factory=dict)
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)
    towers: Towers = "vision"
    other_rows: dict[str, dict[str, int]] = field(default_factory=dict)
    _matches: tuple[dict[str, Parameter], ...] = ()

    def base_tensor(self, parameter: Parameter) -> torch.Tensor:
        """The base's values, a view of `parameter.shape` in the stored dtype (read only)."""
        return self.base.view(parameter)

    def expert_tensor(self, task: int, parameter: Parameter) -> torch.Tensor | None:
        """The values of expert number `task`, as `base_tensor`; None where it legitimately has none (tau = 0)."""
        own = self._matches[task].get(parameter.name)
        if own is None:
            return None
        values = self.experts[task].view(own)
        if values.shape[0] == parameter.shape[0]:
            return values
        # A smaller vocabulary: where the expert has no row, its task vector is 0.
        return torch.cat([values, self.base_tensor(parameter)[values.shape[0] :].to(values.dtype)])


def align(
    base: Source | None,
    experts: Sequence[Source] | Mapping[str, Source],
    *,
    towers: Towers = "vision",
    vocabulary: Vocabulary = "equal",
) -> Aligned:
    """Match every expert with the base, by parameter names that are the same in every layout.

    What an expert may lack: the text tower and logit_scale of a CLIP model, integer and boolean buffers, its projection
    (tau = 0 there), and tied copies. Everything else must be there with the same shape; floating dtypes may differ.

    Args:
        base: the base; None takes the one that the experts' LoRA adapters name.
        experts: in any order; a mapping gives them names.
        towers: ``both`` merges the text tower of a CLIP model too (``vision`` takes it from the base). The temperature
            (logit_scale) always comes from the base.
        vocabulary: ``shared`` accepts experts with another number of tokens and merges the rows that both have (the
            result has the base's); ``equal`` refuses them.

    Raises:
        AlignmentError: no experts; a missing or extra key; another shape; another model altogether.
        SettingError: an unknown choice of towers or vocabulary, or both towers of what has only one.
        CheckpointError: as `load_checkpoint`.
    """
    _check_choice("towers", towers, get_args(Towers))
    _check_choice("vocabulary", vocabulary, get_args(Vocabulary))
    if not experts:
        raise AlignmentError("A merge needs at least one expert. Name one or more fine-tuned checkpoints.")
    foundation, opened = _opened(base, experts)
    merged = _with_text(foundation) if towers == "both" else foundation.parameters
    if not merged:
        raise AlignmentError(f"{foundation.source} holds nothing to merge: no floating weights. Choose another base.")

    copies = _shared_copies(foundation, opened)
    wanted = tuple(p for p in merged if p.key not in copies)
    matches = tuple(_match(foundation, expert, wanted, vocabulary) for expert in opened)
    names = _unique([expert.name for expert in opened])

    parameters = tuple(p for p in wanted if any(p.name in match for match in matches))
    from_base = {key: why for key, why in foundation.fixed.items() if all(key != p.key for p in merged)}
    for parameter in wanted:
        if not any(parameter.name in match for match in matches):
            from_base[parameter.key] = "no expert holds it, taken from the base"
    lacking: dict[str, tuple[str, ...]] = {}
    other_rows: dict[str, dict[str, int]] = {}
    for name, expert, match in zip(names, opened, matches, strict=True):
        if missing := tuple(p.name for p in parameters if p.name not in match):
            lacking[name] = missing
        if rows := _other_rows(foundation, expert, match):
            other_rows[name] = rows
    return Aligned(foundation, opened, names, parameters, from_base, copies, lacking, towers, other_rows, matches)


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SettingError(f"{name} must be {' or '.join(known)}, not {quoted(value)}.")


def _opened(
    base: Source | None, experts: Sequence[Source] | Mapping[str, Source]
) -> tuple[Checkpoint, tuple[Checkpoint, ...]]:
    """Base and experts, loaded: adapters on the base, and the CLIP model inside a larger one where the base is CLIP."""
    named = dict(experts) if isinstance(experts, Mapping) else {}
    sources = list(named.values()) or list(experts)
    names: list[str | None] = [*named] or [
        f"expert {number}" if isinstance(source, Mapping) else None for number, source in enumerate(sources, start=1)
    ]
    if base is None:
        first = load_checkpoint(sources[0], name=names[0])
        if first.base is None:
            raise AlignmentError(
                f"{first.source} is no LoRA adapter that names its base. Name the base that all experts were "
                "fine-tuned from."
            )
        base = first.base
    foundation = load_checkpoint(base, name="base" if isinstance(base, Mapping) else None)
    opened = [load_checkpoint(source, name=name, base=foundation) for source, name in zip(sources, names, strict=True)]
    return foundation, tuple(_inside(foundation, expert) for expert in opened)


def _inside(base: Checkpoint, expert: Checkpoint) -> Checkpoint:
    """The model that `base` is, inside an expert that holds more: CLIP by its own form, others by the base's keys.

    Raises CheckpointError where there are several.
    """
    if base.layout in (layouts.OPEN_CLIP, layouts.TRANSFORMERS_CLIP):
        return expert.clip_alone()
    names = {parameter.name for parameter in base.parameters}
    if not names.isdisjoint(parameter.name for parameter in expert.parameters):
        return expert
    stored = {plain: key for plain, key in plain_keys(base.keys()).items() if key not in base.fixed}
    endings = ["." + plain.removeprefix(base.roles.prefix) for plain in list(stored)[:_TRIED]]
    theirs = plain_keys(expert.keys())
    found = [{key.removesuffix(ending) for key in theirs if key.endswith(ending)} for ending in endings]
    prefixes = sorted(set.intersection(*found)) if found else []
    live = [prefix for prefix in prefixes if not layouts.AVERAGED.search(prefix + ".")] or prefixes
    if len(live) > 1:
        raise CheckpointError(f"{expert.source} holds {len(live)} models like the base, under {choice(live)}.")
    return expert.narrowed(live[0]) if live else expert


def _with_text(base: Checkpoint) -> tuple[Parameter, ...]:
    """Both towers of a CLIP model, their layers told apart."""
    text = [parameter for parameter in base.roles.text if parameter.tower == "text"]
    if not text:
        raise SettingError(
            f"towers='both' needs a whole CLIP model, and {base.source} has no text tower of CLIP's form."
        )
    return tuple(replace(p, layer=f"{p.tower} {p.layer}") for p in (*base.parameters, *text))


def _other_rows(base: Checkpoint, expert: Checkpoint, match: Mapping[str, Parameter]) -> dict[str, int]:
    """Key of the base -> tokens of the expert, where its vocabulary has another size."""
    rows: dict[str, int] = {}
    for parameter in (*base.parameters, *base.roles.text):
        found = match.get(parameter.name)
        if found is not None and layouts.VOCABULARY.search(parameter.name) and found.index is None:
            theirs = expert.shape(found.key)[found.axis]
            if theirs != parameter.shape[0]:
                rows[parameter.key] = theirs
    return rows


def _shared_copies(base: Checkpoint, experts: Sequence[Checkpoint]) -> dict[str, str]:
    """Tied tensors of the base that every expert ties too; those it holds apart are merged apart."""
    names = {parameter.key: parameter.name for parameter in base.parameters}

    def ties(expert: Checkpoint, copy: str) -> bool:
        own = next((parameter for parameter in expert.parameters if parameter.name == names.get(copy)), None)
        return own is None or own.key in expert.tied

    return {copy: original for copy, original in base.tied.items() if all(ties(expert, copy) for expert in experts)}


def _match(
    base: Checkpoint, expert: Checkpoint, wanted: Sequence[Parameter], vocabulary: Vocabulary
) -> dict[str, Parameter]:
    """Name of a base parameter -> the expert's own parameter of that name."""
    parameters = expert.parameters_as_in(base)
    own = {parameter.name: parameter for parameter in (*parameters, *expert.roles.text)}
    if base.roles.layout != expert.roles.layout and not any(p.name in own for p in wanted):
        raise AlignmentError(
            f"{expert.source} ({expert.layout}) is another model than the base {base.source} ({base.layout}): they "
            f"share no parameter. The base has {_first_keys(base)}, the expert {_first_keys(expert)}. Give experts "
            "that were fine-tuned from this base."
        )
    by_key = {parameter.key: parameter for parameter in parameters}
    match: dict[str, Parameter] = {}
    missing: list[Parameter] = []
    for parameter in wanted:
        found = own.get(parameter.name)
        if found is None and (original := expert.original_of(parameter.key)) is not None:
            found = by_key.get(original)  # the expert ties what the base stores apart
        if found is not None:
            match[parameter.name] = _fitted(base, parameter, expert, found, vocabulary)
        elif parameter.name not in layouts.OPTIONAL_NAMES and not (parameter.tower == "text" and not expert.roles.text):
            missing.append(parameter)
    known = {p.name for p in base.parameters} | layouts.OPTIONAL_NAMES
    extra = [p for p in parameters if p.name not in known and p.key not in expert.tied and not _is_head(base, p)]
    if missing or extra:
        raise AlignmentError(_mismatch(base, expert, missing, extra, len(wanted)))
    return match


def _is_head(base: Checkpoint, extra: Parameter) -> bool:
    """Whether a parameter that only the expert has is a classifier on top of a CLIP tower, which is left out."""
    clip = base.layout in (layouts.OPEN_CLIP, layouts.TRANSFORMERS_CLIP)
    return clip and extra.block is None and bool(layouts.HEAD.search(extra.key))


def _first_keys(checkpoint: Checkpoint) -> str:
    keys = checkpoint.keys()
    return ", ".join(shown(key, 60) for key in keys[:3]) + (" ..." if len(keys) > 3 else "")


def _fitted(
    base: Checkpoint, wanted: Parameter, expert: Checkpoint, found: Parameter, vocabulary: Vocabulary
) -> Parameter:
    """The expert's parameter, cut to the rows that the base has where its vocabulary is larger."""
    if wanted.shape == found.shape:
        return found
    tokens = layouts.VOCABULARY.search(found.name) and wanted.shape[1:] == found.shape[1:]
    tokens = tokens and wanted.index is None and found.index is None
    if tokens and vocabulary == "shared":
        rows = min(wanted.shape[0], found.shape[0])
        return replace(found, stop=found.start + rows, shape=(rows, *found.shape[1:]))
    where = f"{expert.where(found.key)}: {shown(found.key)}"
    if tokens:
        more = found.shape[0] - wanted.shape[0]
        raise AlignmentError(
            f"{where} has {found.shape[0]} tokens, {abs(more)} {'more' if more > 0 else 'fewer'} than the base "
            f"{base.source} ({wanted.shape[0]}): its vocabulary was changed. To merge the tokens that both have, the "
            'first rows, ask for vocabulary="shared" (--vocabulary shared).'
        )
    raise AlignmentError(
        f"{where} has shape {expert.shape(found.key)}, but the base {base.source} has {base.shape(wanted.key)} in "
        f"{shown(wanted.key)}. Give experts that were fine-tuned from this base, without a changed vocabulary, image "
        "size or head."
    )


def _mismatch(
    base: Checkpoint, expert: Checkpoint, missing: Sequence[Parameter], extra: Sequence[Parameter], expected: int
) -> str:
    """One sentence a side, naming the first key of each."""
    text = f"{expert.source} does not fit the base {base.source}:"
    if missing:
        more = f" and {len(missing) - 1} more of {expected} parameters" if len(missing) > 1 else ""
        text += f" it lacks {shown(missing[0].key)}{more}, which the base holds;"
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        text += f" it holds {shown(extra[0].key)}{more}, which the base has not;"
    return (
        f"{text[:-1]}. The base begins with {_first_keys(base)}, the expert with {_first_keys(expert)}. Give experts "
        "that were fine-tuned from this base, with the same architecture."
    )


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, numbered where one occurs again."""
    seen: set[str] = set()
    unique: list[str] = []
    for name in names:
        candidate, number = name, 2
        while candidate in seen:
            candidate, number = f"{name} {number}", number + 1
        seen.add(candidate)
        unique.append(candidate)
    return tuple(unique)
