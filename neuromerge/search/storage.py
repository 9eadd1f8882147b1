"""Where a study is kept: an SQLite file or a database that several machines share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuromerge.errors import NeuroMergeError, SettingError, StorageError, quoted

HEARTBEAT_SECONDS = 10
GRACE_SECONDS = 60
_DRIVERS = ("sqlalchemy", "sqlite3", "alembic")


def open_storage(storage: str | None) -> Any:
    """An Optuna storage with heartbeats; None (in memory) for None."""
    if storage is None:
        return None
    if not isinstance(storage, str) or not storage.strip() or "\0" in storage:
        raise SettingError("The storage must be a database URL such as sqlite:///study.db.")
    from optuna.storages import RDBStorage

    url = storage if "://" in storage else f"sqlite:///{Path(storage).expanduser()}"
    return RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 30}} if url.startswith("sqlite") else None,
        heartbeat_interval=HEARTBEAT_SECONDS,
        grace_period=GRACE_SECONDS,
    )


def delete_study(storage: str, name: str) -> None:
    """Remove a study and all its trials from a storage.

    Raises SettingError where there is none of that name, listing those there are, StorageError where the storage
    cannot be used.
    """
    import optuna

    with storage_errors(storage):
        opened = open_storage(storage)
        known = optuna.get_all_study_names(opened)
        if name not in known:
            listed = ", ".join(known) or "none"
            raise SettingError(f"The storage has no study {quoted(name)} to delete. It has: {listed}.")
        optuna.delete_study(study_name=name, storage=opened)


@contextmanager
def storage_errors(storage: str | None) -> Iterator[None]:
    """Turns what a database driver raises into a StorageError that never shows a password."""
    try:
        yield
    except NeuroMergeError:
        raise
    except Exception as error:
        if storage is None or not _from_driver(error):
            raise
        shown = re.sub(r"//([^:/@]+):[^@]*@", r"//\1:***@", storage)
        reason = str(getattr(error, "orig", None) or error).splitlines()[0][:200].replace(storage, shown)
        raise StorageError(f"The study storage {quoted(shown)} cannot be used: {reason}.") from None


def _from_driver(error: Exception) -> bool:
    module = type(error).__module__.split(".")[0]
    return module in _DRIVERS or type(error).__name__ in ("StorageInternalError", "ModuleNotFoundError")
