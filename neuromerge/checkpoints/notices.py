"""What a user should hear about checkpoints before they are merged: what is left out, and what would do nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.align import Aligned
from neuromerge.checkpoints.checkpoint import Checkpoint
from neuromerge.checkpoints.clip_config import differences
from neuromerge.checkpoints.roles import Parameter
from neuromerge.checkpoints.text import shown

_SHOWN = 3


def notices(aligned: Aligned) -> tuple[str, ...]:
    """Sentences for the user about aligned checkpoints, experts in their order.

    Told are an expert that equals the base or lacks a part (it adds nothing there), a changed text tower of which
    nothing is merged, tensors that stand beside the model, another vocabulary, and another configuration. Reads weights
    up to the first difference from the base.
    """
    said = [*_left_out("base", aligned.base, aligned)]
    tasks = range(len(aligned.experts)) if aligned.towers == "vision" else ()
    if other := [aligned.task_names[task] for task in tasks if text_changed(aligned, task)]:
        said.append(
            f"Only the vision tower is merged, and the text tower is the base's, but that of {', '.join(other)} was "
            'changed too. towers="both" (--towers both) merges both.'
        )
    for task, (name, expert) in enumerate(zip(aligned.task_names, aligned.experts, strict=True)):
        if not changed(aligned, task):
            said.append(
                f"{name} is the same as the base in everything that is merged, so it adds nothing. Was the right file "
                "saved (an adapter that was never merged, a checkpoint from before the training)?"
            )
        if missing := aligned.lacking.get(name):
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            said.append(
                f"{name} does not hold {', '.join(shown(part, 60) for part in missing[:_SHOWN])}{more}, which other "
                "experts do: it adds nothing there."
            )
        said += _left_out(name, expert, aligned)
        said += differences(aligned.base, expert)
        for key, rows in aligned.other_rows.get(name, {}).items():
            said.append(
                f"{name} has {rows} tokens in {shown(key)}, the base {aligned.base.shape(key)[0]}: only the rows that "
                "both have are merged, and the result has the base's vocabulary."
            )
    return tuple(said)


def changed(aligned: Aligned, task: int) -> bool:
    """Whether an expert differs from the base in anything that is merged."""
    return any(
        values is not None and not same_values(aligned.base_tensor(parameter), values)
        for parameter in _likeliest_first(aligned.parameters)
        for values in (aligned.expert_tensor(task, parameter),)
    )


def text_changed(aligned: Aligned, task: int) -> bool:
    """Whether the text tower of a CLIP expert differs from the base's (not its temperature, nor missing parts)."""
    base, expert = aligned.base, aligned.experts[task]
    theirs = {parameter.name: parameter for parameter in expert.roles.text if parameter.tower == "text"}
    pairs = [(p, theirs[p.name]) for p in base.roles.text if p.name in theirs]
    return any(
        own.shape != other.shape or not same_values(base.view(own), expert.view(other))
        for own, other in sorted(pairs, key=lambda pair: pair[0].numel)
    )


def _likeliest_first(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Small tensors first, so that a difference is found after reading little; most training changes biases."""
    return sorted(parameters, key=lambda parameter: parameter.numel)


def same_values(base: torch.Tensor, expert: torch.Tensor) -> bool:
    """Whether two tensors hold the same values, as far as the coarser of their dtypes can tell."""
    if base.dtype != expert.dtype:
        coarser = min(base.dtype, expert.dtype, key=lambda dtype: torch.finfo(dtype).bits)
        base, expert = base.to(coarser), expert.to(coarser)
    return torch.equal(base, expert)


def _left_out(name: str, checkpoint: Checkpoint, aligned: Aligned) -> list[str]:
    """What stands beside the model in a file: one sentence a reason, the first few keys named."""
    by_reason: dict[str, list[str]] = {}
    for key, reason in weights_left_out(checkpoint, aligned).items():
        by_reason.setdefault(reason, []).append(key)
    said: list[str] = []
    for reason, keys in by_reason.items():
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        said.append(f"{name}: {', '.join(shown(key, 60) for key in keys[:_SHOWN])}{more}: {reason}.")
    return said


def weights_left_out(checkpoint: Checkpoint, aligned: Aligned | None = None) -> Mapping[str, str]:
    """Weights of a file that are not read -> why; with `aligned`, heads that only an expert has, too."""
    found = {key: why for key, why in checkpoint.left_out.items() if "training state" not in why}
    if aligned is not None and checkpoint is not aligned.base:
        known = {parameter.name for parameter in (*aligned.base.parameters, *aligned.base.roles.text)}
        known |= layouts.OPTIONAL_NAMES
        for parameter in checkpoint.parameters_as_in(aligned.base):
            if parameter.name not in known and parameter.key not in checkpoint.tied:
                found[parameter.key] = "the base has no such part, left out"
    return found
