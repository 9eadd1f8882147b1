from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
import torch

from neuromerge.engine.cache import Region, shared_cache
from neuromerge.errors import Cancelled, SettingError
from neuromerge.interface import guard
from neuromerge.interface.guard import guarded


@pytest.fixture
def shown(monkeypatch):
    messages = []
    monkeypatch.setattr(guard.gr, "Warning", lambda message, **more: messages.append((message, more.get("title"))))
    return messages


KEPT: Region[str, int] = Region("kept for speed")


def raising(error):
    def handler(*_):
        raise error

    return handler


def test_an_error_for_people_is_shown_and_nothing_changes(shown):
    result = guarded(raising(SettingError("Choose <b>one</b>.")), 2)()
    assert result == (gr.skip(), gr.skip())
    assert shown == [("Choose &lt;b&gt;one&lt;/b&gt;.", "Please check")]


def test_a_defect_is_logged_and_shown_as_a_sentence(shown, caplog):
    with caplog.at_level(logging.ERROR):
        assert guarded(raising(ZeroDivisionError("secret /path")), 1)() == gr.skip()
    assert "secret" not in shown[0][0]
    assert "ZeroDivisionError" in caplog.text


def test_stale_work_is_silent(shown):
    assert guarded(raising(Cancelled("newer")), 1)() == gr.skip()
    assert shown == []


def test_streams_end_with_the_message(shown):
    def stream():
        yield 1
        raise SettingError("no")

    assert list(guarded(stream, 1)()) == [1, gr.skip()]
    assert len(shown) == 1


def test_waiting_handlers_are_guarded_too(shown):
    async def later():
        raise SettingError("no")

    # In a thread of its own: a browser that the same session drives keeps a loop running in this one.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, guarded(later, 1)()).result() == gr.skip()
    assert len(shown) == 1


@pytest.mark.parametrize("ask", [lambda: [0] * 2**60, lambda: torch.empty(2**58)], ids=["python", "torch"])
def test_where_memory_runs_out_the_page_says_so_and_what_was_kept_goes(shown, ask):
    shared_cache().put(KEPT, "for speed", 1)
    assert guarded(ask, 1)() == gr.skip()
    assert "not enough memory" in shown[0][0]
    assert shared_cache().peek(KEPT, "for speed") is None
