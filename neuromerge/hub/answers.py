"""What the Hugging Face Hub answered, in words for people: every failure by its own name, with the remedy."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from neuromerge.deployment import deployment
from neuromerge.errors import NeuroMergeError, SourceUnavailableError, StorageError
from neuromerge.progress import UNATTENDED, Job

LONGEST_WAIT = 60.0
"""Seconds that a request is held back at most; a longer wait is told instead."""
_TRIES = 4
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_COMMIT = re.compile(r"[0-9a-f]{40}")
_RESETS = re.compile(r"\bt=(\d+)")
_Answer = TypeVar("_Answer")


def status_of(error: BaseException) -> int | None:
    """The status of the answer that an error stands for, None where there was no answer."""
    for each in _chain(error):
        status = getattr(getattr(each, "response", None), "status_code", None) or getattr(each, "code", None)
        if isinstance(status, int):
            return status
    return None


def wait_told(error: BaseException) -> float | None:
    """Seconds to wait as the answer says (``Retry-After``, or ``t`` of ``RateLimit``), None where it says nothing."""
    for each in _chain(error):
        headers: Mapping[str, str] = getattr(getattr(each, "response", None), "headers", None) or (
            getattr(each, "headers", None) or {}
        )
        if (after := str(headers.get("Retry-After") or "")).isdigit():
            return float(after)
        if resets := _RESETS.search(str(headers.get("RateLimit") or "")):
            return float(resets[1])
    return None


def patiently(ask: Callable[[], _Answer], job: Job = UNATTENDED) -> _Answer:
    """What `ask` returns. Too many requests (429) and a Hub in trouble (5xx) are waited for, as the answer says.

    `job` is told of the wait, and may end it. The last error is raised where waiting did not help, at once where the
    answer asks for more than `LONGEST_WAIT`.
    """
    for tried in range(_TRIES):
        try:
            return ask()
        except NeuroMergeError:
            raise
        except Exception as error:
            status = status_of(error)
            if tried == _TRIES - 1 or status is None or not (status == 429 or status >= 500):
                raise
            told = wait_told(error)
            if told is not None and told > LONGEST_WAIT:
                raise
            why = "The Hub has had too many requests from here" if status == 429 else "The Hub is in trouble"
            job.wait(told if told is not None else 2.0**tried, why)
    raise AssertionError("the last try returns or raises")


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed another day: no network, offline, too many requests, a Hub in trouble."""
    if any(isinstance(each, OSError) and each.errno in _FULL | _DENIED for each in _chain(error)):
        return False
    status = status_of(error)
    return status is None or status == 429 or status >= 500


def failure(error: BaseException, what: str, fetch: str, token: bool, revision: str | None = None) -> NeuroMergeError:
    """The error for people.

    Args:
        error: what a request for `what` (the name of a repository) ended with.
        what: what was asked for, as a reader knows it.
        fetch: the command that fetches it.
        token: whether a login was sent along.
        revision: the revision that was asked for.
    """
    for each in _chain(error):
        if isinstance(each, OSError) and each.errno in _FULL:
            return StorageError(
                f"{what} cannot be kept: the disk is full. Free some space, or point HF_HOME to a larger disk, and try "
                "again: what was fetched so far is kept."
            )
        if isinstance(each, OSError) and each.errno in _DENIED and not hasattr(each, "code"):
            return StorageError(
                f"{what} cannot be kept: {each.filename or 'the cache folder'} is not writable. Point HF_HOME to a "
                "folder that is."
            )
    return SourceUnavailableError(_sentence(error, what, fetch, token, revision))


def _sentence(error: BaseException, what: str, fetch: str, token: bool, revision: str | None) -> str:
    kinds = {type(each).__name__ for each in _chain(error)}
    status = status_of(error)
    if "GatedRepoError" in kinds:
        return (
            f"{what} asks its users to accept terms first. Accept them on its page, run `hf auth login`, then "
            f"`{fetch}`."
        )
    if "RevisionNotFoundError" in kinds and _COMMIT.fullmatch(revision or ""):
        return (
            f"The commit {revision} of {what} is gone from the Hub: its history was rewritten, or its branch deleted. "
            f"Leave it out, or name another one of https://huggingface.co/{what}/commits/main; of a family's own "
            "models, in the family's file."
        )
    if "RevisionNotFoundError" in kinds:
        return (
            f"{what} has no revision {revision or 'main'!r}: it is misspelt, or the branch was moved or deleted. "
            "Choose one from its list of commits."
        )
    if "DisabledRepoError" in kinds:
        return f"The Hub has disabled {what}. Choose another source."
    if status == 401 and token:
        return (
            f"The Hub does not accept your token, so {what} was not fetched. Run `hf auth login` with a valid one, or "
            "remove HF_TOKEN: public repositories need none."
        )
    if status in (401, 404) and ("RepositoryNotFoundError" in kinds or status == 401):
        return (
            f"The Hub has no public repository {what}. Check the name; if it is private, run `hf auth login` and try "
            "again."
        )
    if status == 403:
        return (
            f"The Hub refuses access to {what} (403 Forbidden). A token may lack the permission to read it, or a proxy "
            "on the way forbids it."
        )
    if status == 404:
        return f"The Hub does not have {what} (404 Not Found). Check the names of its repository and file."
    if status == 429:
        told = wait_told(error)
        when = f"in {told:.0f} seconds" if told else "in five minutes"
        login = "" if token else " A login (`hf auth login`) allows more requests."
        return f"The Hub has had too many requests from here, so {what} was not fetched. Try again {when}.{login}"
    if status is not None and status >= 500:
        return (
            f"The Hub is in trouble (it answered {status}), so {what} was not fetched. Try again later; see "
            "https://status.huggingface.co."
        )
    if status is not None:
        return f"The Hub answered {status} when it was asked for {what}. Try `{fetch}`, which says more."
    if deployment().offline or "OfflineModeIsEnabled" in kinds:
        return (
            f"{what} is not on this machine, and HF_HUB_OFFLINE forbids fetching it. Fetch it where there is a network "
            f"with `{fetch}`, or unset HF_HUB_OFFLINE."
        )
    reason = next((type(each).__name__ for each in reversed(list(_chain(error)))), "no answer")
    return (
        f"{what} is not on this machine and the Hugging Face Hub cannot be reached ({reason}). "
        f"Fetch it where there is a network with `{fetch}`, then try again."
    )


def kinds_of_error() -> tuple[type[BaseException], ...]:
    """Errors that tell of the Hub, the network or the disk, and are no defect of ours."""
    from huggingface_hub import errors as hub

    return (OSError, hub.EntryNotFoundError, hub.HfHubHTTPError, hub.HTTPError, hub.XetDownloadError)  # type: ignore[attr-defined]


def has_token() -> bool:
    """Whether requests carry a login."""
    from huggingface_hub import constants, get_token

    return get_token() is not None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        reason = getattr(error, "reason", None)  # urllib wraps the cause
        error = error.__cause__ or (reason if isinstance(reason, BaseException) else None)
