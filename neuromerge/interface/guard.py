"""Errors of event handlers become readable messages, and the page goes on."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable

import gradio as gr

from neuromerge.errors import Cancelled, NeuroMergeError, out_of_memory
from neuromerge.interface.moment import Changes

logger = logging.getLogger(__name__)

DEFECT = (
    "Something failed inside the app, and it was logged. Your settings are unchanged: "
    "try again, undo the last change, or reload the page."
)

Told = Callable[[NeuroMergeError], Changes]
"""Where an error for people is shown on the page."""


def warn(message: str, title: str = "Please check") -> None:
    """Show a message beside the page. User text in it is shown as text, never as markup."""
    gr.Warning(html.escape(message, quote=False), title=title, duration=8)


def warned(error: NeuroMergeError) -> Changes:
    """The usual place of an error: a message beside the page."""
    warn(str(error))
    return {}


def silent(error: NeuroMergeError) -> Changes:
    """For what follows by itself, where another event has told the error already."""
    return {}


def answered(error: Exception, told: Told = warned) -> Changes:
    """What a handler that raised `error` changes on the page.

    A `NeuroMergeError` is shown as it is, by `told`, because it was written for people. Anything else is a defect of
    ours: it is logged with its traceback, and the visitor reads a sentence instead of it. `Cancelled` is
    silent: its cause is a newer request of the same visitor. Where memory ran out, what is kept for speed alone is
    dropped, and the visitor is told so. Raises `error` itself where Gradio has to show it.
    """
    if isinstance(error, gr.Error):
        raise error
    if isinstance(error, Cancelled):
        return {}
    too_large = out_of_memory(error)
    if too_large is not None:
        from neuromerge.engine.cache import shared_cache

        logger.error("memory ran out; what was kept for later is dropped", exc_info=error)
        shared_cache().clear()
        return told(too_large)
    if isinstance(error, NeuroMergeError):
        return told(error)
    logger.error("a handler of the page failed", exc_info=error)
    warn(DEFECT, title="Our mistake")
    return {}
