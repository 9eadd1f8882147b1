"""`merge`: any method over any checkpoints, streaming one parameter at a time.

    load -> align -> prepare (global passes) -> for each parameter: read, merge, write

Nothing but one chunk of weights of every checkpoint is held, unless the result is wanted in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from neuromerge.checkpoints import (
    Aligned,
    Checkpoint,
    CheckpointWriter,
    align,
    load_checkpoint,
    notices,
    save_checkpoint,
)
from neuromerge.checkpoints.align import Towers, Vocabulary
from neuromerge.checkpoints.notices import weights_left_out
from neuromerge.checkpoints.roles import Parameter
from neuromerge.checkpoints.sources import expanded
from neuromerge.errors import SettingError
from neuromerge.hub.addresses import at_commit
from neuromerge.merging import kernels
from neuromerge.merging.devices import find_device
from neuromerge.merging.linear import LAMBDAS, SCALE
from neuromerge.merging.method import MergeMethod, MergeReport
from neuromerge.merging.passes import findings, merged_weights
from neuromerge.merging.profile import Profile, TaskWeights, as_mapping, factors, make_profile, make_task_weights
from neuromerge.merging.registry import check_values, get_method
from neuromerge.merging.retention import Tally
from neuromerge.merging.steps import NO_STEPS, Steps, parse_steps, with_lines
from neuromerge.merging.vectors import AlignedVectors, WatchedVectors
from neuromerge.pages import LARGE, own_pages
from neuromerge.progress import UNATTENDED, Job

Source = str | Path | Mapping[str, torch.Tensor] | Checkpoint


@dataclass(frozen=True)
class MergeResult:
    """A merged model and how it came about.

    Attributes:
        method: name of the merge method.
        parameters: the method's hyperparameters as given, defaults filled in.
        seed: the seed of whatever chance the method uses.
        task_names: names of the merged checkpoints.
        task_weights: what multiplied each task vector, in the same order; empty where all are 1.
        profile: factors on the coefficients by part of the model.
        sources: where base and experts came from, with revision where one is known.
        from_base: keys that were taken from the base unchanged, with the reason.
        left_out: by checkpoint, the keys of weights beside the model that were not read, with the reason.
        towers: what was merged of a CLIP model, ``vision`` or ``both``.
        notices: sentences about the checkpoints that the user should see.
        then: the steps taken after the merge.
        report: what the method found out: coefficients in use, what the trim removed, ill-conditioned neurons.
        path: where the result was written, if it was.
    """

    method: str
    parameters: dict[str, Any]
    seed: int
    task_names: tuple[str, ...]
    sources: dict[str, str]
    from_base: dict[str, str]
    report: MergeReport
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)
    towers: Towers = "vision"
    notices: tuple[str, ...] = ()
    profile: Profile = ()
    task_weights: TaskWeights = ()
    then: tuple[str, ...] = ()
    path: Path | None = None
    _aligned: Aligned | None = field(default=None, repr=False)
    _merged: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)

    @property
    def coefficients(self) -> dict[str, float]:
        """The coefficients used, by name: "auto" resolved."""
        return self.report.coefficients

    @property
    def lambda_parallel(self) -> float | None:
        """lambda_1 as used; None for a method without it."""
        return self.coefficients.get(LAMBDAS["parallel"])

    @property
    def lambda_orthogonal(self) -> float | None:
        """lambda_2 as used; None for a method without it."""
        return self.coefficients.get(LAMBDAS["orthogonal"])

    @property
    def lambda_pointwise(self) -> float | None:
        """Coefficient of biases and norms as used; None for a method without it."""
        return self.coefficients.get(LAMBDAS["pointwise"])

    @property
    def scale(self) -> float | None:
        """Coefficient of the whole change as used; None for a method without one."""
        return self.coefficients.get(SCALE)

    @property
    def sigma(self) -> float | None:
        """Largest share of a task vector's L1 norm that the trim removed; None where nothing was trimmed."""
        return self.report.sigma

    @property
    def sigma_per_task(self) -> dict[str, float]:
        """The share of L1 norm removed, by task name."""
        return self.report.sigma_per_task

    @property
    def kept_share(self) -> dict[str, float]:
        """The share of entries kept, by task name."""
        return self.report.kept_share

    @property
    def retention(self) -> dict[str, float]:
        """How far the merge goes along what each task learned, by task name: 1 is all of the way."""
        return self.report.retention

    @property
    def neurons(self) -> int:
        """Number of neurons decomposed."""
        return self.report.neurons

    @property
    def ill_conditioned_per_layer(self) -> dict[str, int]:
        """Number of neurons whose merge hangs on rounding, by layer."""
        return self.report.ill_conditioned_per_layer

    @property
    def ill_conditioned(self) -> int:
        """Number of ill-conditioned neurons over all layers."""
        return sum(self.ill_conditioned_per_layer.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that the user should see."""
        return self.notices + self.report.warnings

    @cached_property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """The merged weights under the base's keys, in the base's dtypes (read from `path` where it was written)."""
        if self.path is not None:
            return load_checkpoint(self.path).state_dict()
        assert self._aligned is not None
        return assemble(self._aligned, self._merged)

    def save(
        self,
        path: str | Path,
        layout: str | None = None,
        *,
        dtype: str | torch.dtype | None = None,
        force: bool = False,
    ) -> Path:
        """Write the merged checkpoint; it loads again in open_clip or transformers.

        Args:
            path: target folder (made where it does not exist), or a file ending in ``.safetensors``.
            layout: ``open_clip`` or ``transformers`` to convert a CLIP model; the base's layout when None.
            dtype: of the floating tensors, e.g. ``float16``; the base's when None.
            force: write over what is there.

        Raises StorageError when it cannot be written; nothing half-written is left.
        """
        if self.path is not None:
            save_checkpoint(self.path, path, layout, dtype=dtype, force=force)
            return expanded(path)
        assert self._aligned is not None
        base, record = self._aligned.base, self.summary()
        with CheckpointWriter(
            path, base, layout, dtype=dtype, force=force, expected=tuple(self._merged), record=record
        ) as writer:
            for name, merged in self._merged.items():
                writer.write(name, merged)
        return writer.out

    def summary(self) -> dict[str, Any]:
        """Everything but the weights, as plain values for JSON."""
        report = asdict(self.report)
        return {
            "method": self.method,
            "parameters": self.parameters,
            "seed": self.seed,
            "task_names": self.task_names,
            "task_weights": dict(zip(self.task_names, self.task_weights, strict=False)),
            "profile": as_mapping(self.profile),
            "sources": self.sources,
            "from_base": self.from_base,
            "left_out": self.left_out,
            "towers": self.towers,
            "then": self.then,
            **report.pop("coefficients"),
            **report,
            "warnings": self.warnings,
            "ill_conditioned": self.ill_conditioned,
            "path": str(self.path) if self.path else None,
        }


def merge(
    base: Source | None,
    tasks: Sequence[Source] | Mapping[str, Source],
    method: str = "neuromerging",
    *,
    profile: Mapping[str, Any] | Profile | None = None,
    task_weights: Mapping[str, float] | Sequence[float] | None = None,
    then: str | Sequence[str] = (),
    seed: int = 0,
    out: str | Path | None = None,
    layout: str | None = None,
    dtype: str | torch.dtype | None = None,
    force: bool = False,
    device: str = "cpu",
    towers: Towers = "vision",
    vocabulary: Vocabulary = "equal",
    job: Job = UNATTENDED,
    **parameters: Any,
) -> MergeResult:
    """Merge fine-tuned checkpoints of one base model into a single model.

    Args:
        base: the base model: a source that `load_checkpoint` takes, a `Checkpoint`, or a plain state dict. None takes
            the base that the experts' LoRA adapters name.
        tasks: the fine-tuned checkpoints, in any order; a mapping gives them names.
        method: one of `neuromerge.methods()`.
        profile: factors on the coefficients by part of the model, such as ``{"fc1": [0.5, 1.0, 1.5], "block 3": 0.0}``:
            matrices, layers or cells to numbers, or to curves over depth; see `neuromerge.merging.profile`.
        task_weights: what multiplies task vectors before all else (the trim included): task names to numbers, or one
            number a task. 1 where nothing is said.
        then: steps after the merge, ``svc:ALPHA`` and ``lines:ALPHA:BETA``, one or both (see `steps`).
        seed: for methods that draw at random (dare).
        out: write the result into this folder as it is made, holding one parameter at a time in memory.
        layout, dtype, force: as in `MergeResult.save`.
        device: where to compute, e.g. ``cpu`` or ``cuda``.
        towers: ``both`` merges the text tower of a whole CLIP model too; by default it is the base's.
        vocabulary: ``shared`` merges the tokens that base and experts have in common where experts added some.
        job: told how far it is; stops it.
        **parameters: the method's own parameters, see `neuromerge.methods()`.

    Returns:
        MergeResult; `.state_dict` has the base's keys, shapes and dtypes.

    Raises:
        SettingError: an unknown method or parameter, or a value out of range.
        CheckpointError, AlignmentError: weights that cannot be read or do not fit together.
        StorageError: the result cannot be written.
    """
    chosen = get_method(method)
    values, shape, steps = check_values(chosen, parameters), make_profile(profile), parse_steps(then)
    aligned = aligned_sources(base, tasks, towers, vocabulary)
    weights = make_task_weights(task_weights, aligned.task_names)
    made = MergeResult(
        method=method,
        parameters=values,
        seed=seed,
        task_names=tuple(aligned.task_names),
        sources=_sources(aligned),
        from_base=dict(aligned.from_base),
        then=steps.texts,
        report=MergeReport(),
        left_out=_left_out(aligned),
        towers=aligned.towers,
        notices=notices(aligned),
        path=None if out is None else expanded(out),
        profile=shape,
        task_weights=weights,
    )
    find_device(device)  # before a folder is made
    if out is None:
        merged: dict[str, torch.Tensor] = {}
        report = merge_aligned(aligned, chosen, values, merged.__setitem__, seed, device, job, shape, weights, steps)
        result = replace(made, report=report, _aligned=aligned, _merged=merged)
    else:
        names = tuple(p.name for p in aligned.parameters)
        with CheckpointWriter(out, aligned.base, layout, dtype=dtype, force=force, expected=names) as writer:
            report = merge_aligned(aligned, chosen, values, writer.write, seed, device, job, shape, weights, steps)
            result = replace(made, report=report)
            writer.record.update(result.summary())
    for sentence in result.warnings:
        warnings.warn(sentence, stacklevel=2)
    return result


def merge_aligned(
    aligned: Aligned,
    method: MergeMethod,
    values: Mapping[str, Any],
    write: Callable[[str, torch.Tensor], None],
    seed: int = 0,
    device: str = "cpu",
    job: Job = UNATTENDED,
    profile: Profile = (),
    task_weights: TaskWeights = (),
    steps: Steps = NO_STEPS,
) -> MergeReport:
    """Merge parameter by parameter; `write(name, merged)` gets each in the base's dtype."""
    aligned_vectors = AlignedVectors(aligned, device, task_weights)
    kernels.prepare(aligned_vectors.entries * len(aligned_vectors.task_names), aligned_vectors.dtype, device)
    vectors = _reporting(aligned_vectors, job)
    shape = factors(profile, vectors.parameters, method.component_names)
    if steps.lines is not None:
        shape = with_lines(shape, vectors.parameters, method.component_names, *steps.lines)
    run = method.begin(vectors, values, seed, job=job)
    coefficients = method.resolve(findings(vectors, method, run, shape))
    tally = Tally(len(vectors.task_names))

    def target(parameter: Parameter) -> torch.Tensor:
        dtype = aligned.base_tensor(parameter).dtype
        large = parameter.numel * dtype.itemsize >= LARGE
        return own_pages(parameter.shape, dtype) if large else torch.empty(parameter.shape, dtype=dtype)

    merging = merged_weights(vectors, method, run, coefficients, target, svc=steps.svc, tally=tally)
    for parameter, merged in merging:
        write(parameter.name, merged)
    report = method.report(run, coefficients)
    if steps.svc is not None and method.flat_spectrum:
        sentence = (
            f"svc after {method.title} is arbitrary: all singular values are equal there, so rounding alone decides "
            "along which directions tasks are counted. Take another method, or leave svc out."
        )
        report = replace(report, warnings=(*report.warnings, sentence))
    retention = dict(zip(vectors.task_names, tally.retention().tolist(), strict=True))
    return replace(report, retention=retention)


def assemble(aligned: Aligned, merged: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The base's state dict with the merged parameters put in; what is not merged is the base's own tensor.

    Tied copies share the tensor of their original, as in the model.
    """
    base = aligned.base
    by_key: dict[str, list[Parameter]] = {}
    for parameter in aligned.parameters:
        by_key.setdefault(parameter.key, []).append(parameter)
    result: dict[str, torch.Tensor] = {}
    for key in base.keys():  # noqa: SIM118  (a checkpoint is no dict)
        stored = base.tensor(key)
        if key in by_key:
            stored = stored.clone(memory_format=torch.contiguous_format)
            for parameter in by_key[key]:
                parameter.view(stored).copy_(merged[parameter.name])
        result[key] = stored
    for copy, original in aligned.copies.items():
        result[copy] = result[original]
    return result


def _reporting(vectors: AlignedVectors, job: Job) -> WatchedVectors:
    """`vectors` that report how far each pass over them has come, from whichever thread reads them."""
    done, turn = 0, Lock()

    def read(entries: int) -> None:
        nonlocal done
        with turn:
            done += entries
            finished, within = divmod(done - 1, vectors.entries)
            job.report(within + 1, vectors.entries, f"pass {finished + 1} over the weights")

    return WatchedVectors(vectors, read)


def aligned_sources(
    base: Source | None,
    tasks: Sequence[Source] | Mapping[str, Source],
    towers: Towers = "vision",
    vocabulary: Vocabulary = "equal",
) -> Aligned:
    """Load base and experts and match their parameters. Raises SettingError without any task."""
    if isinstance(tasks, str | Path) or not tasks:
        raise SettingError("A merge needs at least one task checkpoint: give a list of them.")
    return align(base, tasks, towers=towers, vocabulary=vocabulary)


def _left_out(aligned: Aligned) -> dict[str, dict[str, str]]:
    named = {"base": aligned.base, **dict(zip(aligned.task_names, aligned.experts, strict=True))}
    found = {name: dict(weights_left_out(checkpoint, aligned)) for name, checkpoint in named.items()}
    return {name: keys for name, keys in found.items() if keys}


def _sources(aligned: Aligned) -> dict[str, str]:
    def described(checkpoint: Checkpoint) -> str:
        address, mark, part = checkpoint.source.partition("#") if checkpoint.part else (checkpoint.source, "", "")
        return f"{at_commit(address, checkpoint.revision)}{mark}{part}" if checkpoint.revision else checkpoint.source

    named = {name: described(expert) for name, expert in zip(aligned.task_names, aligned.experts, strict=True)}
    return {"base": described(aligned.base), **named}
