"""When the compiled kernels serve: nobody waits for the compiler, and no result depends on when it is done.

Compiling takes up to a minute on a machine that has never done it, loading what is compiled about a second. So another
process compiles into a folder of the cache, with whatever of the machine is idle; meanwhile torch answers; then a
thread loads. What is compiled depends on the sources, numba and the processor, and the folder's name on the first
two (numba itself asks for the third).
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

import torch

from neuromerge.deployment import deployment, inherited
from neuromerge.merging.kernels.switch import in_use, is_loaded, is_on, mark_loaded

_LOG = logging.getLogger(__name__)

LOADING_PAYS = 1 << 27
"""Entries over all tasks from which a merge waits for compiled kernels to be loaded: torch takes as long for it."""
COMPILING_PAYS = 1 << 29
"""Entries over all tasks from which a merge has kernels compiled beside it, for the next one."""
WAITING_PAYS = 1 << 34
"""Entries over all tasks from which a merge waits for the compiler: torch would take minutes."""
_SOURCES = (
    *("lanes", "rows", "blocks", "products", "votes", "neurons", "magnitudes", "changes", "scores", "masks", "codes"),
    *("../subspaces", "../election"),  # their constants are compiled in
)
"""All that compiled code is made of: numba by itself sees only changes in the file of a kernel, not behind it."""
DTYPES = (torch.float32, torch.float64)
"""Working dtypes, each of which has kernels of its own."""

_loading, _starting = threading.Lock(), threading.Lock()
_background: dict[torch.dtype, threading.Thread] = {}
_failed = False


def prepare(entries: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> bool:
    """Before a merge of `entries` entries over all tasks: get the kernels where that pays. As `in_use`, then."""
    if not in_use(dtype, device) and _wanted() and torch.device(device).type == "cpu":
        waits = entries >= (LOADING_PAYS if compiled(dtype) else WAITING_PAYS)
        if waits:
            load(dtype)
        elif entries >= COMPILING_PAYS:
            load_in_background(dtype)
    return in_use(dtype, device)


def load(dtype: torch.dtype = torch.float32) -> bool:
    """Load the kernels, compiling what is not on the disk; says whether they are there. Waits."""
    global _failed
    with _loading:
        if is_loaded(dtype) or not _wanted():
            return is_loaded(dtype)
        try:
            compile_into(folder(), dtype)
        except Exception as error:  # noqa: BLE001  whatever goes wrong in a compiler, torch does the work
            _failed = True
            _LOG.warning(
                "The compiled kernels cannot be used (%s: %s); torch does the work.", type(error).__name__, error
            )
            return False
        mark_loaded(dtype)
        return True


def compile_into(place: Path, dtype: torch.dtype) -> None:
    """Make the kernels callable here, from what `place` holds of them; what it lacks is compiled and kept there."""
    import numba

    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(place)  # looked at when a kernel is declared
    try:
        from neuromerge.merging.kernels.warm import warm
    finally:
        numba.config.CACHE_DIR = before
    warm(dtype)
    _marker(place, dtype).touch()


def load_in_background(dtype: torch.dtype = torch.float32) -> threading.Thread | None:
    """Have the kernels compiled by another process, then load them in a thread; the thread, None if nothing to do."""
    with _starting:
        if is_loaded(dtype) or not _wanted():
            return None
        running = _background.get(dtype)
        if running is None or not running.is_alive():
            running = threading.Thread(target=_compile_and_load, args=(dtype,), name="neuromerge-kernels", daemon=True)
            _background[dtype] = running
            running.start()
        return running


def compiled(dtype: torch.dtype) -> bool:
    """Whether the kernels of a working dtype are on the disk."""
    return _marker(folder(), dtype).exists()


@cache
def folder() -> Path:
    """Where compiled kernels are kept: in the cache folder, or where that cannot be written to, for this process."""
    mark = hashlib.sha256(repr(_versions()).encode())
    for source in _SOURCES:
        mark.update((Path(__file__).parent / f"{source}.py").read_bytes())
    # What numba keeps is code: nobody else may put it there.
    place = deployment().cache / f"kernels-{mark.hexdigest()[:16]}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = not hasattr(os, "getuid") or place.stat().st_uid == os.getuid()
        if own and os.access(place, os.W_OK):
            return place
    except OSError:
        pass
    place = Path(tempfile.mkdtemp(prefix="neuromerge-kernels-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def _versions() -> tuple[str, ...]:
    from importlib.metadata import PackageNotFoundError, version

    found = [sys.implementation.cache_tag or sys.version]
    for package in ("numba", "llvmlite", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(version(package))
    return tuple(found)


def _wanted() -> bool:
    """Whether kernels could be used at all; asks without importing numba, which takes as long as a small merge."""
    return is_on() and not _failed and deployment().kernels and importlib.util.find_spec("numba") is not None


def _marker(place: Path, dtype: torch.dtype) -> Path:
    return place / f"{_name(dtype)}.compiled"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _compile_and_load(dtype: torch.dtype) -> None:
    if not compiled(dtype):
        command = [sys.executable, "-m", "neuromerge.merging.kernels", _name(dtype), str(folder())]
        nowhere = subprocess.DEVNULL
        environment = inherited(PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
        try:
            process = subprocess.Popen(command, env=environment, stdin=nowhere, stdout=nowhere, stderr=nowhere)
        except OSError as error:
            _LOG.warning("No process to compile kernels in (%s); torch does the work.", error)
            return
        # Kernels are kept one by one as they are done: who ends early loses the last.
        atexit.register(process.kill)
        process.wait()
        atexit.unregister(process.kill)
        if process.returncode != 0 or not compiled(dtype):
            _LOG.warning("Kernels could not be compiled (exit code %s); torch does the work.", process.returncode)
            return
    load(dtype)
