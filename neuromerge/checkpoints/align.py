"""Fitting experts to their base: which parameters they share, and what comes from the base instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.checkpoint import Checkpoint, load_checkpoint
from neuromerge.checkpoints.roles import Parameter
from neuromerge.checkpoints.text import shown
from neuromerge.errors import AlignmentError

Source = str | Path | Mapping[str, torch.Tensor] | Checkpoint


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
    """

    base: Checkpoint
    experts: tuple[Checkpoint, ...]
    task_names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    from_base: dict[str, str]
    copies: dict[str, str] = field(default_factory=dict)
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _matches: tuple[dict[str, Parameter], ...] = ()

    def base_tensor(self, parameter: Parameter) -> torch.Tensor:
        """The base's values, a view of `parameter.shape` in the stored dtype (read only)."""
        return self.base.view(parameter)

    def expert_tensor(self, task: int, parameter: Parameter) -> torch.Tensor | None:
        """The values of expert number `task`, as `base_tensor`; None where it legitimately has none (tau = 0)."""
        own = self._matches[task].get(parameter.name)
        return None if own is None else self.experts[task].view(own)


def align(base: Source, experts: Sequence[Source]) -> Aligned:
    """Match every expert with the base, by parameter names that are the same in every layout.

    What an expert may lack: the text tower and logit_scale of a CLIP model, integer and boolean buffers (all of
    them always come from the base), its projection (tau = 0 there), and tied copies. Everything else must be
    there with the same shape; floating dtypes may differ.

    Raises:
        AlignmentError: no experts; a missing or extra key; another shape; another model altogether.
        CheckpointError: as `load_checkpoint`.
    """
    foundation = load_checkpoint(base, name="base" if isinstance(base, Mapping) else None)
    opened = tuple(
        load_checkpoint(expert, name=f"expert {number}" if isinstance(expert, Mapping) else None)
        for number, expert in enumerate(experts, start=1)
    )
    if not opened:
        raise AlignmentError("A merge needs at least one expert. Name one or more fine-tuned checkpoints.")
    if not foundation.parameters:
        raise AlignmentError(f"{foundation.source} holds nothing to merge: no floating weights. Choose another base.")

    copies = _shared_copies(foundation, opened)
    wanted = tuple(p for p in foundation.parameters if p.key not in copies)
    matches = tuple(_match(foundation, expert, wanted, copies) for expert in opened)
    names = _unique([expert.name for expert in opened])

    parameters = tuple(p for p in wanted if any(p.name in match for match in matches))
    from_base = dict(foundation.fixed)
    for parameter in wanted:
        if not any(parameter.name in match for match in matches):
            from_base[parameter.key] = "no expert holds it, taken from the base"
    lacking = {
        name: missing
        for name, match in zip(names, matches, strict=True)
        if (missing := tuple(p.name for p in parameters if p.name not in match))
    }
    return Aligned(foundation, opened, names, parameters, from_base, copies, lacking, matches)


def _shared_copies(base: Checkpoint, experts: Sequence[Checkpoint]) -> dict[str, str]:
    """Tied tensors of the base that every expert ties too; those it holds apart are merged apart."""
    return {
        copy: original
        for copy, original in base.tied.items()
        if all(copy not in expert or copy in expert.tied for expert in experts)
    }


def _match(
    base: Checkpoint, expert: Checkpoint, wanted: Sequence[Parameter], copies: Mapping[str, str]
) -> dict[str, Parameter]:
    """Name of a base parameter -> the expert's own parameter of that name."""
    parameters = expert.parameters_as_in(base)
    own = {parameter.name: parameter for parameter in parameters}
    if base.roles.layout != expert.roles.layout and not any(p.name in own for p in wanted):
        raise AlignmentError(
            f"{expert.source} ({expert.layout}) is another model than the base {base.source} ({base.layout}): they "
            "share no parameter. Give experts that were fine-tuned from this base."
        )
    by_key = {parameter.key: parameter for parameter in parameters}
    match: dict[str, Parameter] = {}
    missing: list[Parameter] = []
    for parameter in wanted:
        found = own.get(parameter.name)
        if found is None and (original := expert.original_of(parameter.key)) is not None:
            found = by_key.get(original)  # the expert ties what the base stores apart
        if found is not None:
            _require_shape(base, parameter, expert, found)
            match[parameter.name] = found
        elif parameter.name not in layouts.OPTIONAL_NAMES:
            missing.append(parameter)
    known = {p.name for p in base.parameters} | layouts.OPTIONAL_NAMES
    extra = [p for p in parameters if p.name not in known and p.key not in expert.tied]
    if missing or extra:
        raise AlignmentError(_mismatch(base, expert, missing, extra, len(wanted)))
    return match


def _require_shape(base: Checkpoint, wanted: Parameter, expert: Checkpoint, found: Parameter) -> None:
    if wanted.shape != found.shape:
        raise AlignmentError(
            f"{expert.where(found.key)}: {shown(found.key)} has shape {expert.shape(found.key)}, but the base "
            f"{base.source} has {base.shape(wanted.key)} in {shown(wanted.key)}. Give experts that were fine-tuned "
            "from this base, without a changed vocabulary, image size or head."
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
    return text[:-1] + ". Give experts that were fine-tuned from this base, with the same architecture."


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
