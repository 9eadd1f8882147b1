from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neuromerge.interface.memory import FreedMemory, trim_of_this_system


def test_pages_go_back_at_most_every_five_seconds_and_once_after_the_last_word() -> None:
    now = 1000.0
    calls: list[float] = []
    due: list[tuple[float, Callable[[], object]]] = []

    def trim(kept: int) -> int:
        assert kept == 0
        calls.append(now)
        return 1

    memory = FreedMemory(trim, clock=lambda: now, later=lambda seconds, call: due.append((seconds, call)))
    assert memory.give_back()
    now += 3
    assert not memory.give_back()
    assert not memory.give_back()
    [(seconds, call)] = due
    now += seconds
    call()
    now += 6
    assert memory.give_back()
    assert calls == [1000.0, 1005.0, 1011.0]
    assert len(due) == 1


def test_another_c_library_is_left_alone() -> None:
    assert not FreedMemory(None).give_back()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's own call")
def test_the_c_library_of_this_system_can_be_asked() -> None:
    trim = trim_of_this_system()
    assert trim is None or trim(0) in (0, 1)


def test_what_is_kept_for_good_is_not_looked_through_again_and_garbage_is_collected() -> None:
    code = "\n".join(
        (
            "import gc",
            "gc.disable()",
            "from neuromerge.interface.memory import keep_for_good",
            "kept = [[number] for number in range(100_000)]",
            "keep_for_good()",
            "assert gc.isenabled()",
            "assert gc.get_freeze_count() > 100_000",
            "assert len(gc.get_objects()) < 10_000",
            "class Loop: pass",
            "import weakref",
            "loop = Loop(); loop.own = loop; gone = weakref.ref(loop); del loop",
            "gc.collect()",
            "assert gone() is None",
        )
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


_HEAPS_OF_MANY_THREADS = """
import ctypes, sys, threading
from neuromerge.interface.memory import share_heaps
if sys.argv[1] == "shared":
    share_heaps()
library = ctypes.CDLL(None)
library.malloc.restype, library.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
together, done = threading.Barrier(13), threading.Event()
def work():
    library.malloc(100)
    together.wait()
    done.wait()
for _ in range(12):
    threading.Thread(target=work, daemon=True).start()
together.wait()
file = library.fopen(sys.argv[2].encode(), b"w")
library.malloc_info(0, ctypes.c_void_p(file))
library.fclose(ctypes.c_void_p(file))
"""


@pytest.mark.skipif(trim_of_this_system() is None, reason="not glibc")
def test_many_threads_share_few_heaps(tmp_path: Path) -> None:
    def heaps(*, how: str, **environment: str) -> int:
        subprocess.run(
            [sys.executable, "-c", _HEAPS_OF_MANY_THREADS, how, str(tmp_path / how)],
            env={**os.environ, **environment},
            check=True,
        )
        return (tmp_path / how).read_text().count("<heap nr=")

    assert heaps(how="shared") <= 4 < heaps(how="own")
    assert heaps(how="shared", MALLOC_ARENA_MAX="6") == 6, "as the operator says"
