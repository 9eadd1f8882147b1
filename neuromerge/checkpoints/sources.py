"""Where a checkpoint named by a text lies: bundled, on the Hugging Face Hub, a file or a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuromerge.checkpoints import storage as stores
from neuromerge.checkpoints.text import shown
from neuromerge.deployment import deployment
from neuromerge.errors import AssetError, CheckpointError, SourceUnavailableError

BUNDLED = "bundled:"
HUB = "hub:"
OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"

# Weights a folder may hold, best first: (index or file, the configuration it belongs to).
_WEIGHTS = (
    ("open_clip_model.safetensors", OPEN_CLIP_CONFIG),
    ("open_clip_pytorch_model.safetensors", OPEN_CLIP_CONFIG),
    ("model.safetensors", TRANSFORMERS_CONFIG),
    ("model.safetensors.index.json", TRANSFORMERS_CONFIG),
    ("open_clip_pytorch_model.bin", OPEN_CLIP_CONFIG),
    ("open_clip_pytorch_model.pth", OPEN_CLIP_CONFIG),
    ("pytorch_model.bin", TRANSFORMERS_CONFIG),
    ("pytorch_model.bin.index.json", TRANSFORMERS_CONFIG),
)
# What goes with the weights when a model is written again. Nothing else is copied, and no code.
COMPANIONS = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    TRANSFORMERS_CONFIG,
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "merges.txt",
    "NOTICE",
    OPEN_CLIP_CONFIG,
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,120}")
_BUNDLED_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}")


@dataclass(frozen=True, slots=True)
class Located:
    """A source made concrete: its storage, a short name, its revision, configuration and companion files."""

    storage: stores.Storage
    name: str
    source: str
    revision: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    config_files: dict[str, Path] = field(default_factory=dict)


def locate(source: str | Path, allow_pickle: bool) -> Located:
    """The checkpoint that `source` names. Raises CheckpointError, AssetError or SourceUnavailableError."""
    text = os.fspath(source)
    if text.startswith(BUNDLED):
        return _bundled(text, allow_pickle)
    if text.startswith(HUB):
        return _hub(text, allow_pickle)
    if not text.strip():
        raise CheckpointError(
            'A checkpoint needs a source: a file, a folder, "bundled:pictoclip" or "hub:organisation/name".'
        )
    return _local(Path(text), text, allow_pickle)


def _local(path: Path, source: str, allow_pickle: bool) -> Located:
    try:
        is_folder, is_there = path.is_dir(), os.path.lexists(path)
    except (OSError, ValueError):
        is_folder, is_there = False, True  # refused, with the reason, when the file is opened
    if is_folder:
        return _folder(path, source, allow_pickle)
    if not is_there and _REPOSITORY.fullmatch(source):
        raise CheckpointError(
            f"{source}: no such file or folder. If this is a repository of the Hugging Face Hub, write {HUB}{source}."
        )
    storage = stores.open_file(path, allow_pickle)
    companions: dict[str, Path] = {}
    config: dict[str, Any] = {}
    name = path.stem
    if any(path.name == usual for usual, _ in _WEIGHTS):
        config, companions = _companions(path.parent)
        name = path.resolve().parent.name  # better than "model"
    return Located(storage, name, source, None, config, companions)


def _folder(path: Path, source: str, allow_pickle: bool) -> Located:
    weights = _weights_in(path)
    storage = (
        stores.open_index(weights, allow_pickle)
        if weights.name.endswith(".index.json")
        else stores.open_file(weights, allow_pickle)
    )
    config, companions = _companions(path)
    return Located(storage, path.resolve().name, source, None, config, companions)


def _weights_in(folder: Path) -> Path:
    """The file or index of weights in a folder: the one whose configuration is there first, else the best name."""
    try:
        present = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error.strerror}.") from None
    found = [(name, config in present) for name, config in _WEIGHTS if name in present]
    if found:
        return folder / next((name for name, configured in found if configured), found[0][0])
    if "adapter_model.safetensors" in present or "adapter_config.json" in present:
        raise CheckpointError(f"{folder} holds a LoRA adapter. Merge it into its base model first (merge_and_unload).")
    files = sorted(name for name in present if name.lower().endswith(stores.SAFETENSORS_SUFFIXES))
    files = files or sorted(name for name in present if name.lower().endswith(stores.PICKLE_SUFFIXES))
    if len(files) == 1:
        return folder / files[0]
    if files:
        raise CheckpointError(
            f"{folder} holds {len(files)} files of weights ({', '.join(files[:3])} ...) and no index that joins them. "
            "Name one of them."
        )
    raise CheckpointError(f"{folder} holds no weights (looked for {', '.join(n for n, _ in _WEIGHTS[:4])} ...).")


def _companions(folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """The transformers configuration of a folder ({} when there is none) and the files to copy with the weights."""
    files = {name: folder / name for name in COMPANIONS if (folder / name).is_file()}
    config = stores.read_json(files[TRANSFORMERS_CONFIG]) if TRANSFORMERS_CONFIG in files else {}
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
            f"There is no bundled family {family!r} in {deployment().assets}. Bundled: {', '.join(known) or 'none'}."
        )
    if not task:
        return _named(_folder(folder, source, allow_pickle=False), family)
    path = folder / "experts" / f"{task}.safetensors"
    if not path.is_file():
        known = sorted(p.stem for p in (folder / "experts").glob("*.safetensors"))
        raise AssetError(f"{source}: {family} has no expert {task!r}. It has: {', '.join(known) or 'none'}.")
    return _named(_local(path, source, allow_pickle=False), task)


def _named(located: Located, name: str) -> Located:
    return Located(located.storage, name, located.source, located.revision, located.config, located.config_files)


def parse_hub(source: str) -> tuple[str, str, str | None]:
    """(repository, path inside it or '', revision or None) of ``hub:organisation/name[/path][@revision]``.

    Raises CheckpointError where the text is no such address.
    """
    address, _, revision = source.removeprefix(HUB).partition("@")
    pieces = address.split("/")
    repository, inside = "/".join(pieces[:2]), "/".join(pieces[2:])
    legal = _REPOSITORY.fullmatch(repository) and ".." not in source and all(pieces)
    if not legal or ("@" in source and not _REVISION.fullmatch(revision)):
        raise CheckpointError(
            f"{shown(source)} is no address on the Hub. Expected hub:organisation/name, hub:organisation/name@revision "
            "or hub:organisation/name/file.safetensors@revision."
        )
    return repository, inside, revision or None


def _hub(source: str, allow_pickle: bool) -> Located:
    """Fetch (or find in the cache) the safetensors and configuration files of a repository of the Hub."""
    repository, inside, revision = parse_hub(source)
    snapshot = _snapshot(repository, inside, revision)
    try:
        located = _local(snapshot / inside if inside else snapshot, source, allow_pickle=False)
    except CheckpointError as error:
        if not any(snapshot.rglob("*.safetensors")):
            raise SourceUnavailableError(
                f"{repository} holds no safetensors weights at revision {revision or 'main'}. Name a revision "
                f"that does (often {HUB}{repository}@refs/pr/1, the Hub's own conversion), or convert it yourself."
            ) from None
        raise CheckpointError(f"{source}: {error}") from None
    name = Path(inside).stem if inside else repository.split("/")[1]
    return Located(located.storage, name, source, snapshot.name, located.config, located.config_files)


def _snapshot(repository: str, inside: str, revision: str | None) -> Path:
    """Folder of the cached snapshot. Raises SourceUnavailableError, naming the command that fetches it."""
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", "merges.txt", "vocab.txt", "*.model"]
    if inside:
        beside = Path(inside).parent.as_posix()
        wanted = [inside, f"{inside}/*", "*.json" if beside == "." else f"{beside}/*.json"]
    options: dict[str, Any] = {
        "repo_id": repository,
        "revision": revision,
        "allow_patterns": wanted,
        "ignore_patterns": None if inside else ["*/*"],
    }
    at_revision = f" --revision {revision}" if revision else ""
    fetch = f'hf download {repository}{at_revision} --exclude "*.bin"'
    # No network, an offline setting, a timeout, a connection lost on the way (HTTPError is the HTTP library's own).
    unreachable = (OSError, ValueError, hub.EntryNotFoundError, hub.HTTPError, hub.XetDownloadError)
    try:
        if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
            try:  # A commit never changes: no need to ask the network when it is there.
                return Path(snapshot_download(**options, local_files_only=True))
            except hub.LocalEntryNotFoundError:
                pass
        return Path(snapshot_download(**options))
    except hub.GatedRepoError:
        raise SourceUnavailableError(
            f"{repository} asks its users to accept terms first. Accept them on its page, run `hf auth login`, then "
            f"`{fetch}`."
        ) from None
    except hub.RepositoryNotFoundError:
        raise SourceUnavailableError(f"The Hub has no public repository {repository}. Check the name.") from None
    except hub.RevisionNotFoundError:
        raise SourceUnavailableError(f"{repository} has no revision {revision!r}. Check its list of commits.") from None
    except unreachable as error:
        raise SourceUnavailableError(
            f"{repository} is not on this machine and the Hugging Face Hub cannot be reached ({type(error).__name__}). "
            f"Fetch it where there is a network with `{fetch}`, then try again."
        ) from None
