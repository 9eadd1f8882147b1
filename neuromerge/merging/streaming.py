"""`merge`: any method over any checkpoints, streaming one parameter at a time.

    load -> align -> prepare (global passes) -> for each parameter: read, merge, write

Nothing but one chunk of weights of every checkpoint is held, unless the result is wanted in memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from neuromerge.checkpoints import Aligned, Checkpoint, CheckpointWriter, align, load_checkpoint, save_checkpoint
from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError
from neuromerge.merging.chunks import as_they_are, map_chunks, merge_units
from neuromerge.merging.registry import MergeMethod, check_values, get_method, read_chunk
from neuromerge.merging.vectors import AlignedVectors
from neuromerge.progress import UNATTENDED, Job

Source = str | Path | Mapping[str, torch.Tensor] | Checkpoint


@dataclass
class MergeResult:
    """A merged model and how it came about.

    Attributes:
        method: name of the merge method.
        parameters: the method's parameters as given, defaults filled in.
        seed: the seed of whatever chance the method uses.
        task_names: names of the merged checkpoints.
        sources: where base and experts came from, with revision where one is known.
        lambda_parallel, lambda_orthogonal, lambda_pointwise: coefficients used (neuromerging; else None).
        scale: coefficient of the merged change (the methods that have one, ``"auto"`` resolved; else None).
        sigma: largest share of L1 norm that the trim removed; `sigma_per_task` and `kept_share` by task name.
        ill_conditioned: number of neurons whose merge hangs on rounding; `ill_conditioned_per_layer` splits it.
        neurons: number of neurons decomposed.
        from_base: keys that were taken from the base unchanged, with the reason.
        report: what else the method reports.
        warnings: sentences that the user should see.
        path: where the result was written, if it was.
    """

    method: str
    parameters: dict[str, Any]
    seed: int
    task_names: tuple[str, ...]
    sources: dict[str, str]
    from_base: dict[str, str]
    lambda_parallel: float | None = None
    lambda_orthogonal: float | None = None
    lambda_pointwise: float | None = None
    scale: float | None = None
    sigma: float | None = None
    sigma_per_task: dict[str, float] = field(default_factory=dict)
    kept_share: dict[str, float] = field(default_factory=dict)
    ill_conditioned_per_layer: dict[str, int] = field(default_factory=dict)
    neurons: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    _aligned: Aligned | None = field(default=None, repr=False)
    _merged: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)

    @property
    def ill_conditioned(self) -> int:
        """Number of ill-conditioned neurons over all layers."""
        return sum(self.ill_conditioned_per_layer.values())

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
            return Path(path)
        assert self._aligned is not None
        base, record = self._aligned.base, self.summary()
        with CheckpointWriter(
            path, base, layout, dtype=dtype, force=force, expected=tuple(self._merged), record=record
        ) as writer:
            for name, merged in self._merged.items():
                writer.write(name, merged)
        return Path(path)

    def summary(self) -> dict[str, Any]:
        """Everything but the weights, as plain values for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if not f.name.startswith("_")}
        plain["path"] = str(self.path) if self.path else None
        plain["ill_conditioned"] = self.ill_conditioned
        return plain


def merge(
    base: Source,
    tasks: Sequence[Source] | Mapping[str, Source],
    method: str = "neuromerging",
    *,
    seed: int = 0,
    out: str | Path | None = None,
    layout: str | None = None,
    dtype: str | torch.dtype | None = None,
    force: bool = False,
    device: str = "cpu",
    job: Job = UNATTENDED,
    **parameters: Any,
) -> MergeResult:
    """Merge fine-tuned checkpoints of one base model into a single model.

    Args:
        base: the base model: a source that `load_checkpoint` takes, a `Checkpoint`, or a plain state dict.
        tasks: the fine-tuned checkpoints, in any order; a mapping gives them names.
        method: one of `neuromerge.methods()`.
        seed: for methods that draw at random (dare).
        out: write the result into this folder as it is made, holding one parameter at a time in memory.
        layout, dtype, force: as in `MergeResult.save`.
        device: where to compute, e.g. ``cpu`` or ``cuda``.
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
    values = check_values(chosen, parameters)
    aligned = aligned_sources(base, tasks)
    merged: dict[str, torch.Tensor] = {}
    result = MergeResult(
        method=method,
        parameters=values,
        seed=seed,
        task_names=tuple(aligned.task_names),
        sources=_sources(aligned),
        from_base=dict(aligned.from_base),
        _aligned=aligned,
        _merged=merged,
    )
    if out is None:
        _run(result, aligned, chosen, merged.__setitem__, device, job)
        return result
    names = tuple(p.name for p in aligned.parameters)
    with CheckpointWriter(out, aligned.base, layout, dtype=dtype, force=force, expected=names) as writer:
        _run(result, aligned, chosen, writer.write, device, job)
        result.path = Path(out)
        writer.record.update(result.summary())
    return result


def _run(
    result: MergeResult,
    aligned: Aligned,
    method: MergeMethod,
    write: Callable[[str, torch.Tensor], None],
    device: str,
    job: Job,
) -> None:
    """Merge, and put what the method reports and warns of into `result`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        report = merge_aligned(aligned, method, result.parameters, write, result.seed, device, job)
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    result.warnings = tuple(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    known = {f.name for f in fields(result)}
    for name, value in report.items():
        if name in known:
            setattr(result, name, value)
        else:
            result.report[name] = value


def merge_aligned(
    aligned: Aligned,
    method: MergeMethod,
    values: Mapping[str, Any],
    write: Callable[[str, torch.Tensor], None],
    seed: int = 0,
    device: str = "cpu",
    job: Job = UNATTENDED,
) -> dict[str, Any]:
    """Merge parameter by parameter; `write(name, merged)` gets each in the base's dtype. Returns the report."""
    vectors = _Reporting(AlignedVectors(aligned, device), job)
    run = method.begin(vectors, values, seed)
    begun: dict[str, torch.Tensor] = {}

    def split(parameter: Parameter) -> Iterator[tuple[int, int]]:
        begun[parameter.name] = torch.empty(parameter.shape, dtype=aligned.base_tensor(parameter).dtype)
        return merge_units(parameter, len(vectors.task_names), method.by_rows)

    def work(parameter: Parameter, start: int, stop: int) -> None:
        chunk = read_chunk(vectors, parameter, start, stop)
        begun[parameter.name][start:stop] = method.merge_chunk(chunk, run).add_(chunk.base)

    # What looks at whole matrices (singular values, say) wants all of torch's threads for one of them.
    for parameter, _ in map_chunks(work, vectors.parameters, split, as_they_are, None if method.by_rows else 1):
        out = begun.pop(parameter.name)
        settled = method.settle(parameter, run)
        if settled is not None:
            rows_index, scale = (part.cpu() for part in settled)
            rows = vectors.base(parameter).cpu()[rows_index]
            out[rows_index] = (out[rows_index].to(rows.dtype) + scale.to(rows.dtype).unsqueeze(1) * rows).to(out.dtype)
        write(parameter.name, out)
    return method.report(run)


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


class _Reporting:
    """Task vectors that report how far each pass over them has come, from whichever thread reads them."""

    def __init__(self, vectors: AlignedVectors, job: Job):
        self._vectors = vectors
        self._job = job
        self._done = 0
        self._turn = Lock()
        self.parameters = vectors.parameters
        self.task_names = vectors.task_names
        self.base = vectors.base

    def read(self, parameter: Parameter, start: int = 0, stop: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        base, tau = self._vectors.read(parameter, start, stop)
        total = self._vectors.entries
        with self._turn:
            self._done += base.numel()
            finished, done = divmod(self._done - 1, total)
            self._job.report(done + 1, total, f"pass {finished + 1} over the weights")
        return base, tau


def aligned_sources(base: Source, tasks: Sequence[Source] | Mapping[str, Source]) -> Aligned:
    """Load base and experts and match their parameters. Raises SettingError without any task."""
    if isinstance(tasks, str | Path) or not tasks:
        raise SettingError("A merge needs at least one task checkpoint: give a list of them.")
    if isinstance(tasks, Mapping):
        tasks = [load_checkpoint(source, name=name) for name, source in tasks.items()]
    return align(base, tasks)


def _sources(aligned: Aligned) -> dict[str, str]:
    def described(checkpoint: Checkpoint) -> str:
        return f"{checkpoint.source}@{checkpoint.revision}" if checkpoint.revision else str(checkpoint.source)

    named = {name: described(expert) for name, expert in zip(aligned.task_names, aligned.experts, strict=True)}
    return {"base": described(aligned.base), **named}
