from __future__ import annotations

import sys

import pytest

from neuromerge.interface import memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's own call")
def test_pages_go_back_at_most_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(memory.time, "monotonic", lambda: now)
    monkeypatch.setattr(memory, "_last", 0.0)
    calls: list[int] = []

    class Library:
        @staticmethod
        def malloc_trim(kept: int) -> int:
            calls.append(kept)
            return 1

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library)
    assert memory.give_back()
    now += 3
    assert not memory.give_back()
    now += 3
    assert memory.give_back()
    assert calls == [0, 0]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_last", -100.0)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.give_back()
