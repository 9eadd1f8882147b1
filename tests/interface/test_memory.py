from __future__ import annotations

import sys

import pytest

from neuromerge.interface.memory import FreedMemory, trim_of_this_system


def test_pages_go_back_at_most_every_five_seconds() -> None:
    now = 1000.0
    calls: list[int] = []

    def trim(kept: int) -> int:
        calls.append(kept)
        return 1

    memory = FreedMemory(trim, clock=lambda: now)
    assert memory.give_back()
    now += 3
    assert not memory.give_back()
    now += 3
    assert memory.give_back()
    assert calls == [0, 0]


def test_another_c_library_is_left_alone() -> None:
    assert not FreedMemory(None).give_back()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's own call")
def test_the_c_library_of_this_system_can_be_asked() -> None:
    trim = trim_of_this_system()
    assert trim is None or trim(0) in (0, 1)
