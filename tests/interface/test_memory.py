from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

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
