"""What a text names on the Hugging Face Hub: repository, path and revision."""

from __future__ import annotations

import re

from neuromerge.errors import CheckpointError, quoted
from neuromerge.hub import files

HUB = "hub:"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,120}")
_HUB_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repository>[\w.-]+/[\w.-]+)/?"
    r"(?:(?:tree|blob|resolve)/(?P<revision>[\w.-]+|refs/pr/\d+)/?(?P<inside>[\w./-]*?)/?(?:\?[\w=&]*)?)?"
)


def is_repository(text: str) -> bool:
    """Whether a text has the form of a repository's name: organisation/name."""
    return _REPOSITORY.fullmatch(text) is not None


def hub_address(source: str) -> str | None:
    """The source as ``hub:organisation/name[/path][@revision]`` where it names something on the Hub, else None.

    Besides ``hub:``, open_clip's ``hf-hub:`` and the addresses of pages and files of the Hub are understood.
    Raises CheckpointError for an address elsewhere.
    """
    if source.startswith(HUB):
        return source
    for prefix in ("hf-hub:", "hf://"):
        if source.startswith(prefix):
            return HUB + source.removeprefix(prefix)
    match = _HUB_PAGE.fullmatch(source)
    if match:
        repository, revision, inside = match.group("repository", "revision", "inside")
        return HUB + repository + (f"/{inside}" if inside else "") + (f"@{revision}" if revision else "")
    if re.match(r"[a-z][a-z0-9+]*://", source):
        raise CheckpointError(
            f"{quoted(source)}: only addresses of the Hugging Face Hub are fetched. Download the file and give its "
            "path."
        )
    return None


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
            f"{quoted(source)} is no address on the Hub. Expected hub:organisation/name, "
            "hub:organisation/name@revision or hub:organisation/name/file.safetensors@revision."
        )
    return repository, inside, revision or None


def resolved(source: str) -> str:
    """A source of the Hub with the commit that its branch stands for in the cache; any other as it is. No network."""
    if not source.startswith(HUB):
        return source
    plain, mark, part = source.partition("#")
    repository, _, revision = parse_hub(plain)
    commit = files.kept_commit(repository, revision)
    return source if commit is None else at_commit(plain, commit) + mark + part


def at_commit(source: str, commit: str) -> str:
    """A source of the Hub with its revision replaced by a commit."""
    return f"{source.partition('@')[0]}@{commit}"
