"""The files of a repository of the Hugging Face Hub that a checkpoint needs, fetched or found in the cache."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from neuromerge.errors import NeuroMergeError, SourceUnavailableError
from neuromerge.hub import answers, transfer
from neuromerge.progress import UNATTENDED, Job

_COMMIT = re.compile(r"[0-9a-f]{40}")
_INDEX = ".index.json"
_WEIGHTS = ".safetensors"

Choice = Callable[[Collection[str]], Sequence[str]]
"""The file, index or shards of weights among the files of one folder; none where there are none."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What has to be fetched of a repository: the commit of `revision`, and its files, each with its bytes."""

    repository: str
    revision: str | None
    commit: str
    files: tuple[tuple[str, int], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all files together."""
        return sum(size for _, size in self.files)


def snapshot(
    repository: str,
    inside: str,
    revision: str | None,
    choice: Choice,
    companions: Sequence[str],
    job: Job = UNATTENDED,
) -> Path:
    """Folder of the cached snapshot with the weights and the files beside them, and nothing else fetched.

    Raises SourceUnavailableError or StorageError, naming what is wrong and the remedy.
    """
    found = kept(repository, inside, revision, choice)
    if found is not None and revision and _COMMIT.fullmatch(revision):
        return found  # A commit never changes: no need to ask the network when it is there.
    wanted: Listing | None = None
    try:
        wanted = _listed(repository, inside, revision, choice, companions, job)
        return transfer.fetch(repository, revision, wanted.commit, wanted.files, job)
    except NeuroMergeError:
        raise
    except Exception as error:
        if not _is_of_the_hub(error):
            raise
        if found is not None and answers.is_passing(error):
            return found
        names = [name for name, _ in wanted.files] if wanted else patterns(inside, companions)
        raise _failure(error, repository, revision, names) from None


def listing(
    repository: str,
    inside: str,
    revision: str | None,
    choice: Choice,
    companions: Sequence[str],
    job: Job = UNATTENDED,
) -> Listing:
    """What `snapshot` would fetch, and how many bytes that are. Raises as `snapshot`."""
    with _told(repository, revision, patterns(inside, companions)):
        return _listed(repository, inside, revision, choice, companions, job)


def fetch(wanted: Listing, job: Job = UNATTENDED) -> Path:
    """Fetch what was listed; the folder of the snapshot. What is there already is kept. Raises as `snapshot`."""
    with _told(wanted.repository, wanted.revision, [name for name, _ in wanted.files]):
        return transfer.fetch(wanted.repository, wanted.revision, wanted.commit, wanted.files, job)


def _listed(
    repository: str, inside: str, revision: str | None, choice: Choice, companions: Sequence[str], job: Job
) -> Listing:
    from huggingface_hub import HfApi, RepoFile

    api = HfApi()
    commit = str(answers.patiently(lambda: api.model_info(repository, revision=revision).sha, job))
    tree = answers.patiently(lambda: list(api.list_repo_tree(repository, recursive=True, revision=commit)), job)
    sizes = {entry.path: int(entry.size) for entry in tree if isinstance(entry, RepoFile)}
    wanted = files_wanted(list(sizes), repository, inside, revision, choice, companions)
    return Listing(repository, revision, commit, tuple((name, sizes[name]) for name in wanted))


@contextlib.contextmanager
def _told(repository: str, revision: str | None, names: Sequence[str]) -> Iterator[None]:
    """What goes wrong inside with the Hub, the network or the disk is raised in words for people."""
    try:
        yield
    except NeuroMergeError:
        raise
    except Exception as error:
        if not _is_of_the_hub(error):
            raise
        raise _failure(error, repository, revision, names) from None


def _failure(error: Exception, repository: str, revision: str | None, names: Sequence[str]) -> NeuroMergeError:
    command = fetch_command(repository, revision, names)
    return answers.failure(error, repository, command, answers.has_token(), revision)


def files_wanted(
    listed: Sequence[str],
    repository: str,
    inside: str,
    revision: str | None,
    choice: Choice,
    companions: Sequence[str],
) -> list[str]:
    """The files of a repository that the checkpoint `inside` it (a file, a folder, '' for its top) needs.

    Raises SourceUnavailableError where it is not there.
    """
    at = f"at revision {revision or 'main'}"
    folder = inside if inside not in listed else PurePosixPath(inside).parent.as_posix()
    top = "" if folder in ("", ".") else f"{folder}/"
    names = [name[len(top) :] for name in listed if name.startswith(top) and "/" not in name[len(top) :]]
    if inside in listed:
        weights: Sequence[str] = [PurePosixPath(inside).name]
    else:
        if not names:
            raise SourceUnavailableError(
                f"{repository} has no file or folder {inside!r} {at}. It holds: {_some(_weights_among(listed))}."
            )
        weights = choice([name for name in names if name.endswith((_WEIGHTS, ".json"))])
        loose = [name for name in names if name.endswith(_WEIGHTS)]
        if not weights and loose:
            raise SourceUnavailableError(
                f"{repository} holds {len(loose)} files of weights ({_some(loose)}) and no index that joins them. Name "
                f"one of them: hub:{repository}/{top}{loose[0]}{'@' + revision if revision else ''}."
            )
        if not weights:
            raise SourceUnavailableError(
                f"{repository} holds no safetensors weights {at}. Name a revision that does (often "
                f"hub:{repository}@refs/pr/1, the Hub's own conversion), or convert it yourself."
            )
    shards = [
        name
        for index in weights
        if index.endswith(_INDEX)
        for name in names
        if name.startswith(index.removesuffix(_WEIGHTS + _INDEX) + "-") and name.endswith(_WEIGHTS)
    ]
    beside = [name for name in names if name in companions]
    return [top + name for name in dict.fromkeys([*weights, *shards, *beside])]


def fetch_command(repository: str, revision: str | None, wanted: Sequence[str]) -> str:
    """The command that fetches these files (or patterns) and no others."""
    at = ["--revision", revision] if revision else []
    if any("*" in name for name in wanted):
        files = [part for name in wanted for part in ("--include", name)]
        return shlex.join(["hf", "download", repository, *at, *files])
    return shlex.join(["hf", "download", repository, *wanted, *at])


def patterns(inside: str, companions: Sequence[str]) -> list[str]:
    """Patterns for the same files, where it cannot be asked which there are: never a twin of another library."""
    if inside.endswith(_WEIGHTS):
        beside = PurePosixPath(inside).parent
        return [inside, "*.json" if beside == PurePosixPath(".") else f"{beside}/*.json", "merges.txt"]
    top = f"{inside}/" if inside else ""
    return [f"{top}*{_WEIGHTS}", f"{top}*.json", f"{top}merges.txt"]


def kept_commit(repository: str, revision: str | None) -> str | None:
    """The commit that a revision stands for in the cache, None where it is not there. No network."""
    folder = _kept_folder(repository, revision)
    return folder.name if folder is not None and _COMMIT.fullmatch(folder.name) else None


def kept(repository: str, inside: str, revision: str | None, choice: Choice) -> Path | None:
    """The snapshot in the cache where it holds all weights that are asked for, else None."""
    folder = _kept_folder(repository, revision)
    if folder is None:
        return None
    place = folder / inside if inside else folder
    if place.is_file():
        weights = [place]
    elif place.is_dir():
        weights = [place / name for name in choice([entry.name for entry in place.iterdir() if entry.is_file()])]
    else:
        return None
    return folder if weights and all(_is_whole(path) for path in weights) else None


def _kept_folder(repository: str, revision: str | None) -> Path | None:
    """The folder of a snapshot in the cache, whatever it holds."""
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"repo_id": repository, "revision": revision, "allow_patterns": []}
    try:
        return Path(snapshot_download(**options, local_files_only=True))
    except Exception as error:
        if not _is_of_the_hub(error):
            raise
        return None


def _is_whole(weights: Path) -> bool:
    """Whether the file is there, and all shards of an index."""
    if not weights.is_file():
        return False
    if not weights.name.endswith(_INDEX):
        return True
    try:
        shards = set(json.loads(weights.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return all((weights.parent / str(shard)).is_file() for shard in shards)


def _is_of_the_hub(error: BaseException) -> bool:
    """Whether an error tells of the Hub, the network or the disk, and is no defect of ours."""
    return isinstance(error, (*answers.kinds_of_error(), ValueError))


def _weights_among(listed: Sequence[str]) -> list[str]:
    return [name for name in listed if name.endswith(_WEIGHTS)] or list(listed)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "nothing"
