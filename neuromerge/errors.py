"""The one exception family of the package.

Every error a user can cause is a `NeuroMergeError` whose message says what is wrong, where, and what to
do about it. The command line prints the message and exits with 2; the app shows it beside the control.
Anything else that escapes is a defect of ours.
"""


class NeuroMergeError(Exception):
    """Base of all errors that a user can cause and mend."""


class CheckpointError(NeuroMergeError):
    """A file or folder of weights cannot be read: missing, truncated, unsafe, not finite, unknown format."""


class AlignmentError(CheckpointError):
    """An expert does not fit its base: a missing or extra key, or another shape."""


class StorageError(NeuroMergeError):
    """Results cannot be written: the disk is full, the folder is not writable, the target exists."""


class SettingError(NeuroMergeError):
    """A value is out of its range, of the wrong type, or names something that does not exist."""


class RecipeError(SettingError):
    """A YAML recipe or a permalink cannot be understood."""


class AssetError(NeuroMergeError):
    """A bundled file is missing or damaged."""


class SourceUnavailableError(NeuroMergeError):
    """A remote source (the Hugging Face Hub) cannot be reached, or holds no such entry."""


class BeingFetched(SourceUnavailableError):
    """What is asked for is on its way from the Hub: ask again later. Told where the download is shown."""


class LimitError(NeuroMergeError):
    """A limit of a public deployment was passed: too large, too long, or not allowed there."""


class Cancelled(NeuroMergeError):
    """A long job was stopped by its user or by its deadline; what was finished is kept."""


def out_of_memory(error: BaseException) -> LimitError | None:
    """`error` in words for people where it says that memory could not be had, else None."""
    said = str(error)
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError) and ("allocate memory" in said or "out of memory" in said)
    ):
        return None
    return LimitError(
        "There is not enough memory on this machine for that. Choose fewer experts or a smaller family, or try again "
        "when less is going on."
    )


def quoted(value: object) -> str:
    """A value that came from a user, quoted for a message and cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
