"""A folder put onto the Hugging Face Hub as a repository of its owner's. The token is used and never kept."""

from __future__ import annotations

import re
from pathlib import Path

from neuromerge.deployment import deployment
from neuromerge.errors import NeuroMergeError, SettingError, SourceUnavailableError, quoted
from neuromerge.hub import answers

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_CONFLICT = 409


def check_repository(name: object) -> str:
    """``you/name`` of a repository; ``hub:`` before it is understood. Raises SettingError for anything else."""
    text = name.strip().removeprefix("hub:") if isinstance(name, str) else ""
    if not _REPOSITORY.fullmatch(text) or ".." in text or "--" in text:
        raise SettingError(f"A repository is written as you/name, such as ada/merged-clip, not {quoted(name)}.")
    return text


def push(folder: Path, repository: str, token: str | None, *, private: bool = True, existing: bool = False) -> str:
    """Upload the files of a folder as one commit, and return the address of the repository's page.

    Args:
        folder: what to upload; folders in it are left out.
        repository: ``you/name``; made where it does not exist.
        token: with the right to write; None takes the login of this machine (``hf auth login``).
        private: whether a repository that is made here is private.
        existing: whether one that is there may get the files, over those of the same names.

    Raises SettingError without a token or where the repository is there, SourceUnavailableError for what the Hub
    refuses. No message holds the token.
    """
    if deployment().offline:
        raise SourceUnavailableError("HF_HUB_OFFLINE forbids to reach the Hub. Unset it, or keep the exported file.")
    if token is None and not answers.has_token():
        raise SettingError("Give a token of yours with the right to write: https://huggingface.co/settings/tokens.")
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        page = api.create_repo(repository, private=private, exist_ok=existing)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Merge by NeuroMerge",
            allow_patterns=[path.name for path in folder.iterdir() if path.is_file()],
        )
    except Exception as error:  # noqa: BLE001 - whatever it is: its own words may hold the token
        raise _failure(error, repository) from None
    return str(page)


def _failure(error: Exception, repository: str) -> NeuroMergeError:
    status = answers.status_of(error)
    if status == _CONFLICT:
        return SettingError(f"{repository} is there already. Choose another name, or allow to write into it.")
    if status == 401:
        return SourceUnavailableError(
            "The Hub does not accept this token: it is misspelt, or was revoked. Make one with the right to write at "
            "https://huggingface.co/settings/tokens."
        )
    if status in (403, 404):
        return SourceUnavailableError(
            f"The Hub does not let this token write to {repository}: it is a token for reading, or of another user. "
            "Make one with the right to write, and use your own name or that of an organisation of yours."
        )
    if status is not None:
        return SourceUnavailableError(
            f"The Hub answered {status} when {repository} was written to. Nothing is lost here: try again later."
        )
    return SourceUnavailableError(
        f"The Hub cannot be reached ({type(error).__name__}), so {repository} was not written. Try again later."
    )
