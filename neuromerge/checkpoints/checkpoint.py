"""A checkpoint: named weights that are read when they are needed, and what each of them is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuromerge.checkpoints import layouts
from neuromerge.checkpoints.adapters import AdapterConfig, AdapterStorage
from neuromerge.checkpoints.parts import choose_clip, find_clips, plain_keys
from neuromerge.checkpoints.roles import Parameter, Roles, resolve
from neuromerge.checkpoints.sources import Located, locate
from neuromerge.checkpoints.storage import MappingStorage, Storage, require_mergeable
from neuromerge.checkpoints.text import shown
from neuromerge.deployment import deployment
from neuromerge.errors import CheckpointError, NeuroMergeError

_SAMPLE = 64  # entries of each end of a tensor that go into the fingerprint


class Checkpoint:
    """Weights of one model, lazily read.

    Attributes:
        name: short name, for messages and as a task's name.
        source: what was asked for (a path, ``bundled:...``, ``hub:...``), or ``state dict``.
        revision: commit of the Hub snapshot, None for other sources.
        layout: ``open_clip``, ``transformers-clip``, ``transformers`` or ``state_dict``.
        config: the transformers configuration beside the weights ({} when there is none).
        config_files: name -> path of the files that belong with the weights (configuration, tokenizer, licence).
        part: prefix of the CLIP model that was asked for among several, None where nothing was asked.
        base: the model that a LoRA adapter was put into, None for other checkpoints.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        name: str,
        source: str,
        revision: str | None = None,
        config: Mapping[str, Any] | None = None,
        config_files: Mapping[str, Path] | None = None,
        part: str | None = None,
        base: Checkpoint | None = None,
    ):
        require_mergeable(storage)
        self._storage = storage
        self._finite: set[str] = set()
        self.name = name
        self.source = source
        self.revision = revision
        self.config = dict(config or {})
        self.config_files = dict(config_files or {})
        self.part = part
        self.base = base
        try:
            self.roles: Roles = resolve(storage.entries, self.config, part, self._same)
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from None
        self.layout = self.roles.layout

    def __repr__(self) -> str:
        return f"Checkpoint({self.source!r}, {self.layout}, {len(self)} tensors)"

    def __len__(self) -> int:
        return len(self._storage.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._storage.entries)

    def __contains__(self, key: object) -> bool:
        return key in self._storage.entries

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What can be merged, in the order of the network."""
        return self.roles.parameters

    def parameters_as_in(self, other: Checkpoint) -> tuple[Parameter, ...]:
        """The parameters, with fused tensors split as the configuration of `other` splits them."""
        if self.config == other.config:
            return self.parameters
        return resolve(self._storage.entries, other.config, self.part, self._same).parameters

    @property
    def left_out(self) -> dict[str, str]:
        """What the file holds beside this model -> why it is not read: heads, copies, other state dicts."""
        return {**self._storage.left_out, **self.roles.beside}

    def clip_alone(self) -> Checkpoint:
        """The CLIP model inside a larger one (a vision-language model, say), itself where it is one or holds none.

        Raises CheckpointError where there are several.
        """
        if self.roles.layout in (layouts.OPEN_CLIP, layouts.TRANSFORMERS_CLIP):
            return self
        try:
            parts = find_clips(plain_keys(self._storage.entries))
            chosen = choose_clip(parts, self.part)
        except CheckpointError as error:
            raise CheckpointError(f"{self.source}: {error}") from None
        return self if chosen is None else self.narrowed(chosen.name)

    def narrowed(self, part: str) -> Checkpoint:
        """The model whose keys are under the prefix `part`, without what stands beside it."""
        return Checkpoint(
            self._storage,
            name=self.name,
            source=self.source,
            revision=self.revision,
            config=self.config,
            config_files=self.config_files,
            part=part,
            base=self.base,
        )

    @property
    def fixed(self) -> dict[str, str]:
        """Key -> why it is never merged."""
        return self.roles.fixed

    @property
    def kind(self) -> str:
        """What the file is, in words for people."""
        return self._storage.kind

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of weights (none for a state dict in memory)."""
        return self._storage.paths

    def keys(self) -> tuple[str, ...]:
        """Keys of the stored tensors, in the order of the file."""
        return tuple(self._storage.entries)

    def shape(self, key: str) -> tuple[int, ...]:
        """Stored shape of a tensor. Raises CheckpointError for an unknown key."""
        return self._entry(key)[0]

    def dtype(self, key: str) -> torch.dtype:
        """Stored dtype of a tensor. Raises CheckpointError for an unknown key."""
        return self._entry(key)[1]

    def where(self, key: str) -> str:
        """The file that holds a key, for messages."""
        return self._storage.where(key)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(self._bytes(key) for key in self.keys())

    def _bytes(self, key: str) -> int:
        shape, dtype = self._entry(key)
        count = dtype.itemsize
        for size in shape:
            count *= size
        return count

    def _entry(self, key: str) -> tuple[tuple[int, ...], torch.dtype]:
        try:
            return self._storage.entries[key]
        except KeyError:
            raise CheckpointError(f"{self.source} has no tensor {shown(key)}.") from None

    def tensor(self, key: str) -> torch.Tensor:
        """One tensor in its stored dtype and shape. It may be the mapped file: do not write to it.

        The first reading of a floating tensor checks that all its values are finite.

        Raises:
            CheckpointError: unknown key, unreadable file, or NaN or infinite values.
        """
        self._entry(key)
        tensor = self._storage.read(key)
        if key not in self._finite:
            if tensor.is_floating_point() and not layouts.MASK.search(key) and not _all_finite(tensor):
                raise CheckpointError(
                    f"{self.where(key)}: {shown(key)} holds NaN or infinite values (expected finite numbers). The "
                    "training run probably diverged; use an earlier checkpoint, or leave this one out."
                )
            self._finite.add(key)
        return tensor

    def view(self, parameter: Parameter) -> torch.Tensor:
        """One parameter of this checkpoint, a view of `parameter.shape` in the stored dtype (read only)."""
        return parameter.view(self.tensor(parameter.key))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Every tensor by key, lazily loaded pages and all (read only: they may be the mapped file)."""
        return {key: self.tensor(key) for key in self.keys()}

    def items(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(key, tensor), one at a time."""
        return ((key, self.tensor(key)) for key in self.keys())

    @cached_property
    def tied(self) -> dict[str, str]:
        """Key of a tied copy -> key of its original: the same values stored twice (an `lm_head` and its embedding)."""
        pairs: dict[str, str] = {}
        for copy in self.keys():
            for original in self._tie_candidates(copy):
                if original not in pairs and self._same(copy, original):
                    pairs[copy] = original
                    break
        return pairs

    def original_of(self, copy: str) -> str | None:
        """The stored tensor that a model would tie the (absent) key `copy` to, None when there is none."""
        return next(iter(self._tie_candidates(copy)), None)

    def _tie_candidates(self, copy: str) -> list[str]:
        for pattern, original in layouts.TIED:
            if pattern.search(copy):
                return [key for key in self.keys() if key != copy and original.search(key)]
        return []

    def _same(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same values."""
        if self._entry(one) != self._entry(other):
            return False
        a, b = self.tensor(one), self.tensor(other)
        # Most untied pairs differ at their beginning already.
        return a.data_ptr() == b.data_ptr() or (torch.equal(_start(a), _start(b)) and torch.equal(a, b))

    def digest(self) -> str:
        """A cheap fingerprint of the weights: keys, shapes, dtypes and a sample of every tensor (16 hex digits).

        Two checkpoints of the same model from different training runs differ in it; it is no proof of equality.
        """
        mark = hashlib.sha256()
        for key in sorted(self.keys()):
            shape, dtype = self._entry(key)
            mark.update(f"{key}|{shape}|{dtype}\n".encode())
            flat = self._storage.read(key).reshape(-1) if 0 not in shape else torch.empty(0, dtype=dtype)
            for sample in (flat[:_SAMPLE], flat[-_SAMPLE:]):
                mark.update(sample.contiguous().view(torch.uint8).numpy().tobytes())
        return mark.hexdigest()[:16]


def _start(tensor: torch.Tensor) -> torch.Tensor:
    """The first few entries."""
    return tensor.reshape(-1)[:_SAMPLE]


def _all_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite. One sum tells, unless the sum itself overflows."""
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    if bool(torch.isfinite(tensor.sum(dtype=wide))):
        return True
    return bool(torch.isfinite(tensor).all())


def load_checkpoint(
    source: str | Path | Mapping[str, torch.Tensor | np.ndarray] | Checkpoint,
    *,
    name: str | None = None,
    part: str | None = None,
    base: Checkpoint | None = None,
    allow_pickle: bool | None = None,
) -> Checkpoint:
    """Open a checkpoint. Only headers are read here; weights are mapped and read when they are used.

    Args:
        source: one of

            - a safetensors or PyTorch file, told by its content: a state dict, one inside a training state or a
              Lightning checkpoint, a pickled module, a TorchScript archive. It is read as data; code in it never runs;
            - a folder: transformers (also sharded), open_clip, or one file of weights;
            - a LoRA adapter as PEFT writes it, a folder or its file: its base with the adapter in it;
            - ``bundled:pictoclip`` (a bundled base) or ``bundled:pictoclip/flags`` (a bundled expert);
            - ``hub:organisation/name``, optionally ``@revision``, and ``/file.safetensors`` before that: fetched
              once from the Hugging Face Hub (safetensors and configuration files only) and kept in its cache. Also
              ``hf-hub:...`` and addresses of the Hub's pages and files;
            - a state dict in memory, of tensors or NumPy arrays; a Checkpoint is returned as it is.
            ``#part`` after a file's name is `part`.
        name: short name to use instead of the one the source suggests.
        part: which model is meant where a file holds several (a model and its teacher, say): the prefix of its keys
            or the name of its container, such as ``teacher``; ``.`` for the one without a prefix.
        base: what a LoRA adapter is put into; by default the base that its configuration names.
        allow_pickle: whether PyTorch files may be read; by default yes, unless the environment variable
            NEUROMERGE_SAFETENSORS_ONLY is set or this is a public deployment.

    Raises:
        CheckpointError: missing, truncated, damaged, unsafe, quantised, or of an unknown format.
        AssetError: a bundled model that does not exist.
        SourceUnavailableError: the Hub cannot be reached or has no such entry.
        LimitError: a PyTorch file where they are not allowed.
    """
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, Mapping):
        label = name or "state dict"
        return Checkpoint(MappingStorage(source, label), name=label, source=label, part=part)
    if not isinstance(source, (str, Path)):
        raise CheckpointError(
            f"A checkpoint is named by a path or an address, or given as a state dict, not as {type(source).__name__}."
        )
    allowed = deployment().pickles_allowed if allow_pickle is None else allow_pickle
    found = locate(source, allowed, part)
    if found.adapter is not None:
        return _adapted(found, found.adapter, name, base, allowed)
    return Checkpoint(
        found.storage,
        name=name or found.name,
        source=found.source,
        revision=found.revision,
        config=found.config,
        config_files=found.config_files,
        part=found.part,
    )


def _adapted(
    found: Located, adapter: AdapterConfig, name: str | None, base: Checkpoint | None, allow_pickle: bool
) -> Checkpoint:
    """The base of a LoRA adapter with the adapter in it."""
    if base is None:
        trained_on = adapter.base_source(from_hub=found.revision is not None)
        if trained_on is None:
            raise CheckpointError(
                f"{found.source} is a LoRA adapter and names no base. Give the model that it was trained on as base."
            )
        try:
            base = load_checkpoint(trained_on, allow_pickle=allow_pickle)
        except NeuroMergeError as error:
            raise type(error)(f"{found.source} is a LoRA adapter of {trained_on}: {error}") from None
    return Checkpoint(
        AdapterStorage(found.storage, adapter, base),
        name=name or found.name,
        source=found.source,
        revision=found.revision,
        config=base.config,
        config_files=base.config_files,
        part=base.part,
        base=base,
    )
