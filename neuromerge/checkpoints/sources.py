"""Where a checkpoint named by a text lies: bundled, on the Hugging Face Hub, a file or a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from neuromerge.checkpoints import storage as stores
from neuromerge.checkpoints.adapters import AdapterConfig, is_adapter, read_adapter
from neuromerge.checkpoints.text import shown
from neuromerge.deployment import deployment
from neuromerge.errors import AssetError, CheckpointError, quoted
from neuromerge.hub import files as hub_files
from neuromerge.hub.addresses import HUB, hub_address, is_repository, parse_hub
from neuromerge.hub.weight_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    COMPANIONS,
    TRANSFORMERS_CONFIG,
    WEIGHTS,
    all_shards,
    hub_weights,
)
from neuromerge.json_files import read_json

BUNDLED = "bundled:"

_BUNDLED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")
# Folders of weights in a form that is not read: what one of their files is called, what they are, and the remedy.
_OTHER_FOLDERS = (
    (
        re.compile(r"\.metadata|.*\.distcp"),
        "a distributed checkpoint of PyTorch. Join it: python -m torch.distributed.checkpoint.format_utils "
        "dcp_to_torch FOLDER weights.pt",
    ),
    (
        re.compile(r"zero_to_fp32\.py|zero_pp_rank_.*|global_step\d+"),
        "a checkpoint of DeepSpeed ZeRO. Join it with the zero_to_fp32.py that DeepSpeed puts beside it.",
    ),
    (
        re.compile(r"flax_model\.msgpack|tf_model\.h5|.*\.onnx"),
        "weights of another library only. Load them there and save them as PyTorch or safetensors.",
    ),
)
# Words of file and folder names that every training run has.
_SAYS_NOTHING = frozenset(
    [
        "adapter",
        "blobs",
        "best",
        "checkpoint",
        "checkpoints",
        "ckpt",
        "ckpts",
        "consolidated",
        "dict",
        "ema",
        "epoch",
        "epochs",
        "fine",
        "final",
        "finetuned",
        "ft",
        "full",
        "global",
        "iter",
        "last",
        "latest",
        "lightning",
        "logs",
        "model",
        "models",
        "out",
        "output",
        "outputs",
        "pytorch",
        "run",
        "runs",
        "save",
        "saved",
        "snapshots",
        "state",
        "step",
        "steps",
        "tuned",
        "version",
        "weights",
        "whole",
    ]
)
_LIBRARY_NAME = re.compile(r"open_clip_(?:pytorch_)?model")
_WORD_BREAKS = re.compile(r"[-_.= ]+")
_CACHED_REPOSITORY = re.compile(r"models--(?:.+?--)?(?P<name>[\w.-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_LEVELS = 6


@dataclass(frozen=True, slots=True)
class Located:
    """A source made concrete.

    Attributes:
        storage: its tensors; of an adapter, those of the adapter.
        name: a short name, from the part of the path that says something.
        source: what was asked for.
        revision: commit of the Hub snapshot.
        config, config_files: the transformers configuration and the files to copy with the weights.
        part: prefix of the keys that was asked for among several models.
        adapter: the configuration, where this is a LoRA adapter and no model.
    """

    storage: stores.Storage
    name: str
    source: str
    revision: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    config_files: dict[str, Path] = field(default_factory=dict)
    part: str | None = None
    adapter: AdapterConfig | None = None


def locate(source: str | Path, allow_pickle: bool, part: str | None = None) -> Located:
    """The checkpoint that `source` names. Raises CheckpointError, AssetError or SourceUnavailableError.

    `part` chooses among several models in one file; ``#part`` at the end of the source does the same.
    """
    text = os.fspath(source)
    if text.startswith(BUNDLED):
        return _bundled(text, allow_pickle)
    text, part = _without_part(text, part)
    found = _named(text, allow_pickle, part)
    return found if part is None else replace(found, source=f"{found.source}#{part}")


def _named(text: str, allow_pickle: bool, part: str | None) -> Located:
    if (address := hub_address(text)) is not None:
        return _hub(address, allow_pickle, part)
    if not text.strip():
        raise CheckpointError(
            'A checkpoint needs a source: a file, a folder, "bundled:pictoclip" or "hub:organisation/name".'
        )
    return _local(expanded(text), text, allow_pickle, part)


def expanded(path: str | Path) -> Path:
    """The path with a leading ``~`` made the home folder (a shell leaves it alone in ``--task=~/x``)."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # a user that does not exist
        return Path(path)


def _without_part(source: str, part: str | None) -> tuple[str, str | None]:
    """The source without its ``#part``, unless a file of that very name is there."""
    plain, mark, asked = source.rpartition("#")
    try:
        literal = not mark or not asked or os.path.lexists(expanded(source))
    except ValueError:
        literal = True
    if literal:
        return source, part
    if part is not None and part != asked:
        raise CheckpointError(
            f"{shown(source)} asks for #{asked}, and part={quoted(part)} for another. Give one of them."
        )
    return plain, asked


def _local(path: Path, source: str, allow_pickle: bool, part: str | None = None) -> Located:
    try:
        is_folder, is_there = path.is_dir(), os.path.lexists(path)
    except (OSError, ValueError):
        is_folder, is_there = False, True  # refused, with the reason, when the file is opened
    if is_folder:
        return _file(*_weights_in(path), named=path, source=source, allow_pickle=allow_pickle, part=part)
    if not is_there and is_repository(source):
        raise CheckpointError(
            f"{source}: no such file or folder. If this is a repository of the Hugging Face Hub, write {HUB}{source}."
        )
    if not is_there and "+" in source:
        raise CheckpointError(
            f"{source}: no such file or folder. A model and an adapter in one (mergekit's model+adapter) are not read: "
            "give the adapter by itself, whose configuration names the model."
        )
    return _file(path, named=path, source=source, allow_pickle=allow_pickle, part=part)


def _file(weights: Path, *shards: Path, named: Path, source: str, allow_pickle: bool, part: str | None) -> Located:
    """The file or index `weights`, or the shards that belong together, found under the name of a file or folder."""
    storage: stores.Storage
    if shards:
        storage, rest = stores.open_shards([weights, *shards], allow_pickle), part
    elif weights.name.endswith(".index.json"):
        storage, rest = stores.open_index(weights, allow_pickle), part
    else:
        storage, rest = stores.open_file(weights, allow_pickle, part)
    name = meaningful_name(named)
    if is_adapter(storage.entries):
        return Located(storage, name, source, part=rest, adapter=read_adapter(storage.entries, weights))
    usual = named != weights or any(weights.name == name for name, _ in WEIGHTS)
    config, companions = _companions(weights.parent) if usual else ({}, {})
    return Located(storage, name, source, None, config, companions, rest)


def meaningful_name(path: Path) -> str:
    """The last part of a path that says what the checkpoint is: ``DTD/finetuned.pt`` is DTD.

    Names that every training run has (``model``, ``checkpoint-500``, ``epoch_5``) and the folders of the Hub's cache
    are passed over.
    """
    parts = [_stem(path), *(folder.name for folder in path.absolute().parents)][:_LEVELS]
    for part in parts:
        if cached := _CACHED_REPOSITORY.fullmatch(part):
            return cached["name"]
        words = [word for word in _WORD_BREAKS.split(part.lower()) if word]
        says_nothing = _COMMIT.fullmatch(part) or _LIBRARY_NAME.fullmatch(part)
        if not says_nothing and any(word not in _SAYS_NOTHING and not word.isdigit() for word in words):
            return part
    return parts[0]


def _stem(path: Path) -> str:
    """The name without the ending of a file of weights."""
    name = path.name or path.absolute().name
    lower = name.lower()
    endings = sorted(stores.SAFETENSORS_SUFFIXES + stores.PICKLE_SUFFIXES, key=len, reverse=True)
    return next((name[: -len(ending)] for ending in endings if lower.endswith(ending) and lower != ending), name)


def _weights_in(folder: Path) -> tuple[Path, ...]:
    """The file or index of weights in a folder: the one whose configuration is there first, else the best name.

    Several only where they are all the shards of one model, without an index.
    """
    try:
        # What hides is no model: macOS leaves a ._model.safetensors beside each file that it copies.
        present = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}.") from None
    found = [(name, config in present) for name, config in WEIGHTS if name in present]
    adapters = [name for name in ADAPTER_WEIGHTS if name in present]
    if found and adapters:
        raise CheckpointError(
            f"{folder} holds a model ({found[0][0]}) and a LoRA adapter ({adapters[0]}). Name the one you mean: "
            f"{folder / found[0][0]} or {folder / adapters[0]}."
        )
    if adapters:
        return (folder / adapters[0],)
    if found:
        return (folder / next((name for name, configured in found if configured), found[0][0]),)
    if ADAPTER_CONFIG in present:
        raise CheckpointError(f"{folder} holds the configuration of a LoRA adapter, but no {ADAPTER_WEIGHTS[0]}.")
    files = sorted(name for name in present if name.lower().endswith(stores.SAFETENSORS_SUFFIXES))
    files = files or sorted(name for name in present if name.lower().endswith(stores.PICKLE_SUFFIXES))
    if len(files) == 1:
        return (folder / files[0],)
    if files and (shards := all_shards(files)):
        return tuple(folder / name for name in shards)
    if files:
        raise CheckpointError(
            f"{folder} holds {len(files)} files of weights ({', '.join(files[:3])} ...) and no index that joins them. "
            "Name one of them."
        )
    for pattern, remedy in _OTHER_FOLDERS:
        if any(pattern.fullmatch(name) for name in present):
            raise CheckpointError(f"{folder} holds {remedy}")
    raise CheckpointError(f"{folder} holds no weights (looked for {', '.join(n for n, _ in WEIGHTS[:4])} ...).")


def _companions(folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """The transformers configuration of a folder ({} when there is none) and the files to copy with the weights."""
    files = {name: folder / name for name in COMPANIONS if (folder / name).is_file()}
    config = read_json(files[TRANSFORMERS_CONFIG]) if TRANSFORMERS_CONFIG in files else {}
    return config, files


def _bundled(source: str, allow_pickle: bool) -> Located:
    """`bundled:family` is the base of a bundled family, `bundled:family/task` one of its experts."""
    family, _, task = source.removeprefix(BUNDLED).partition("/")
    for part in (family, task or family):
        if not _BUNDLED_NAME.fullmatch(part):
            raise AssetError(f"{shown(source)} is no bundled model. Expected bundled:family or bundled:family/task.")
    folder = deployment().assets / family
    if not folder.is_dir():
        known = sorted(p.parent.name for p in deployment().assets.glob("*/*.safetensors"))
        raise AssetError(
            f"There is no bundled family {quoted(family)} in {deployment().assets}. "
            f"Bundled: {', '.join(known) or 'none'}."
        )
    if not task:
        return replace(_local(folder, source, allow_pickle=False), name=family)
    path = folder / "experts" / f"{task}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in (folder / "experts").glob("*.safetensors"))
        raise AssetError(f"{source}: {family} has no expert {quoted(task)}. It has: {', '.join(known) or 'none'}.")
    return replace(_local(path, source, allow_pickle=False), name=task)


def _hub(source: str, allow_pickle: bool, part: str | None) -> Located:
    """Fetch (or find in the cache) the safetensors and configuration files of a repository of the Hub."""
    repository, inside, revision = parse_hub(source)
    snapshot = hub_files.snapshot(repository, inside, revision, hub_weights, COMPANIONS)
    try:
        located = _local(snapshot / inside if inside else snapshot, source, allow_pickle=False, part=part)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    name = meaningful_name(Path(repository.split("/")[1]) / inside) if inside else repository.split("/")[1]
    return replace(located, name=name, source=source, revision=snapshot.name)
