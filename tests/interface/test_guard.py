"""What becomes of a handler's errors."""

from __future__ import annotations

import logging
from collections.abc import Callable

import gradio as gr
import pytest
import torch

from neuromerge.engine.cache import Region, shared_cache
from neuromerge.errors import Cancelled, SettingError
from neuromerge.interface.guard import answered, silent

Shown = list[tuple[str, str]]
KEPT: Region[str, int] = Region("kept for speed")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    messages: Shown = []

    def show(message: str, title: str, duration: float) -> None:
        messages.append((message, title))

    monkeypatch.setattr(gr, "Warning", show)
    return messages


def test_an_error_for_people_is_shown_and_nothing_changes(shown: Shown) -> None:
    assert answered(SettingError("Choose <b>one</b>.")) == {}
    assert shown == [("Choose &lt;b&gt;one&lt;/b&gt;.", "Please check")]


def test_an_error_may_have_a_place_of_its_own(shown: Shown) -> None:
    assert answered(SettingError("No."), lambda error: {"readout": str(error)}) == {"readout": "No."}
    assert answered(SettingError("No."), silent) == {}
    assert shown == []


def test_a_defect_is_logged_and_shown_as_a_sentence(shown: Shown, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert answered(ZeroDivisionError("secret /path"), silent) == {}
    assert "secret" not in shown[0][0]
    assert shown[0][1] == "Our mistake"
    assert "ZeroDivisionError" in caplog.text


def test_overtaken_work_is_silent(shown: Shown) -> None:
    assert answered(Cancelled("newer"), lambda error: {"readout": str(error)}) == {}
    assert shown == []


def test_what_gradio_shall_show_goes_on_to_it() -> None:
    with pytest.raises(gr.Error):
        answered(gr.Error("no"))


@pytest.mark.parametrize("ask", [lambda: [0] * 2**60, lambda: torch.empty(2**58)], ids=["python", "torch"])
def test_where_memory_runs_out_the_page_says_so_and_what_was_kept_goes(shown: Shown, ask: Callable[[], object]) -> None:
    shared_cache().put(KEPT, "for speed", 1)
    try:
        ask()
    except (MemoryError, RuntimeError) as error:
        answered(error)
    assert "not enough memory" in shown[0][0]
    assert shared_cache().peek(KEPT, "for speed") is None
