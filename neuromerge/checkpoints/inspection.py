"""What is in a checkpoint, does it fit its base, and what would be merged of it: for looking before merging."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.align import Aligned, Source, Towers, Vocabulary, align
from neuromerge.checkpoints.checkpoint import Checkpoint, load_checkpoint
from neuromerge.checkpoints.notices import notices, weights_left_out
from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import CheckpointError

_NAMED = 4  # keys that a text names; more are counted
_MODELS = {
    layouts.OPEN_CLIP: "CLIP in open_clip's layout",
    layouts.TRANSFORMERS_CLIP: "CLIP in transformers' layout",
    layouts.TRANSFORMERS: "transformers model",
    layouts.STATE_DICT: "network without a configuration",
}


@dataclass(frozen=True, slots=True)
class LayerChange:
    """How far one layer moved from the base: Frobenius norms over all its merged weights."""

    layer: str
    change: float
    base: float

    @property
    def relative(self) -> float:
        """The change in units of the base's own norm; 0 where the base is 0 and nothing changed."""
        return self.change / self.base if self.base else float(self.change > 0)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a checkpoint holds, and what a merge would do with it.

    Attributes:
        name, source, revision: as `Checkpoint`.
        kind: what the file is, in words.
        model: what the network is, in words.
        layout: as `Checkpoint.layout`.
        prefix: what stands before the model's keys.
        nbytes, tensors: size of what the file holds for this model.
        dtypes: number of weights by their stored type.
        towers: number of weights by tower.
        blocks: number of transformer blocks by tower.
        merged: number of weights that a merge would change.
        from_base: key -> why a merge takes it from the base.
        left_out: key -> why it is no part of the model.
        base: source of the base it was compared with, None without one.
        problem: why it does not fit that base, None where it fits.
        changes: how far each layer moved from the base, in the order of the network.
        warnings: sentences that the user should see.
    """

    name: str
    source: str
    revision: str | None
    kind: str
    model: str
    layout: str
    prefix: str
    nbytes: int
    tensors: int
    dtypes: dict[str, int]
    towers: dict[str, int]
    blocks: dict[str, int]
    merged: int
    from_base: dict[str, str]
    left_out: dict[str, str]
    base: str | None = None
    problem: str | None = None
    changes: tuple[LayerChange, ...] = ()
    warnings: tuple[str, ...] = field(default_factory=tuple)

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """What there is to say about the file and its weights, as (title, text) in the order of reading."""
        blocks = ", ".join(
            f"{count} blocks" if len(self.blocks) < 2 else f"{count} {tower} blocks"
            for tower, count in self.blocks.items()
        )
        towers = ", ".join(f"{in_short(count)} in {tower}" for tower, count in self.towers.items())
        under = f", under {self.prefix}" if self.prefix else ""
        return (
            ("file", f"{self.kind}, {self.nbytes / 1e6:.1f} MB of weights"),
            ("model", self.model + (f", {blocks}" if blocks else "") + under),
            ("weights", f"{self.tensors} tensors: {towers}"),
            ("stored as", ", ".join(self.dtypes)),
            ("merged", f"{in_short(self.merged)} weights"),
            *_by_reason("base's", self.from_base),
            *_by_reason("left out", self.left_out),
        )


def in_short(number: int) -> str:
    """A number of weights in thousands, millions or thousands of millions."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return str(number)


def _by_reason(title: str, keys: Mapping[str, str]) -> list[tuple[str, str]]:
    """One text a reason, the first few keys named."""
    by_reason: dict[str, list[str]] = {}
    for key, reason in keys.items():
        by_reason.setdefault(reason, []).append(key)
    texts = []
    for reason, found in by_reason.items():
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        texts.append((title, f"{', '.join(found[:_NAMED])}{more}: {reason}"))
    return texts


def inspect_checkpoint(
    source: Source, base: Source | None = None, *, towers: Towers = "vision", vocabulary: Vocabulary = "equal"
) -> Inspection:
    """Look into a checkpoint, and compare it with its base where one is given.

    Args:
        source: what `load_checkpoint` takes. A LoRA adapter is put into `base`, or into the base that it names.
        base: the model it was fine-tuned from.
        towers, vocabulary: as in a merge.

    Raises:
        CheckpointError and its family: the source or the base cannot be read. That they do not fit together is no error
            here but `Inspection.problem`.
    """
    foundation = None if base is None else load_checkpoint(base)
    checkpoint = load_checkpoint(source, base=foundation)
    foundation = foundation or checkpoint.base
    if foundation is None:
        return _described(checkpoint)
    try:
        aligned = align(foundation, [checkpoint], towers=towers, vocabulary=vocabulary)
    except CheckpointError as error:
        return _described(checkpoint, base=foundation.source, problem=str(error))
    return _described(
        aligned.experts[0],
        aligned,
        base=foundation.source,
        changes=tuple(_changes(aligned)),
        warnings=notices(aligned),
    )


def _described(
    checkpoint: Checkpoint,
    aligned: Aligned | None = None,
    *,
    base: str | None = None,
    problem: str | None = None,
    changes: tuple[LayerChange, ...] = (),
    warnings: tuple[str, ...] = (),
) -> Inspection:
    held = (*checkpoint.parameters, *checkpoint.roles.text)
    keys = [key for key in checkpoint if key not in checkpoint.roles.beside]
    merged = checkpoint.parameters if aligned is None else aligned.parameters
    fixed = checkpoint.fixed if aligned is None else aligned.from_base
    return Inspection(
        name=checkpoint.name,
        source=checkpoint.source,
        revision=checkpoint.revision,
        kind=checkpoint.kind,
        model=_model(checkpoint),
        layout=checkpoint.layout,
        prefix=checkpoint.roles.prefix,
        nbytes=sum(checkpoint.dtype(key).itemsize * _numel(checkpoint.shape(key)) for key in keys),
        tensors=len(keys),
        dtypes=_counted(
            (str(checkpoint.dtype(key)).removeprefix("torch."), _numel(checkpoint.shape(key))) for key in keys
        ),
        towers=_counted((parameter.tower, parameter.numel) for parameter in held),
        blocks={tower: len(found) for tower, found in _blocks(held).items()},
        merged=sum(parameter.numel for parameter in merged),
        from_base={key: why for key, why in fixed.items() if key not in checkpoint.roles.beside},
        left_out={**checkpoint.left_out, **weights_left_out(checkpoint, aligned)},
        base=base,
        problem=problem,
        changes=changes,
        warnings=warnings,
    )


def _model(checkpoint: Checkpoint) -> str:
    kind = checkpoint.config.get("model_type")
    plain = _MODELS[checkpoint.layout]
    return f"{plain} ({kind})" if isinstance(kind, str) and checkpoint.layout == layouts.TRANSFORMERS else plain


def _blocks(parameters: Iterable[Parameter]) -> Mapping[str, set[int]]:
    found: dict[str, set[int]] = {}
    for parameter in parameters:
        if parameter.block is not None:
            found.setdefault(parameter.tower, set()).add(parameter.block)
    return found


def _counted(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, count in pairs:
        counts[name] = counts.get(name, 0) + count
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _changes(aligned: Aligned) -> list[LayerChange]:
    """Norms of the change and of the base by layer, one tensor in memory at a time."""
    squares: dict[str, list[float]] = {}
    for parameter in aligned.parameters:
        base = aligned.base_tensor(parameter)
        expert = aligned.expert_tensor(0, parameter)
        sums = squares.setdefault(parameter.layer, [0.0, 0.0])
        sums[1] += _squared_distance(base)
        if expert is not None:
            sums[0] += _squared_distance(expert, base)
    return [LayerChange(layer, change**0.5, base**0.5) for layer, (change, base) in squares.items()]


def _squared_distance(values: torch.Tensor, origin: torch.Tensor | None = None) -> float:
    """In float32, or wider where the values are, or where it overflows."""
    own = values.dtype if origin is None else torch.promote_types(values.dtype, origin.dtype)
    for wide in (torch.promote_types(own, torch.float32), torch.float64):
        moved = values.to(wide) if origin is None else values.to(wide) - origin.to(wide)
        found = float(torch.linalg.vector_norm(moved))
        if math.isfinite(found):
            break
    return found**2
