"""What every event handler is wrapped in: errors become readable messages, and the page goes on."""

from __future__ import annotations

import functools
import html
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import gradio as gr

from neuromerge.errors import Cancelled, NeuroMergeError, out_of_memory

logger = logging.getLogger(__name__)

DEFECT = (
    "Something failed inside the app, and it was logged. Your settings are unchanged: "
    "try again, undo the last change, or reload the page."
)


def warn(message: str, title: str = "Please check") -> None:
    """Show a message beside the page. User text in it is shown as text, never as markup."""
    gr.Warning(html.escape(message, quote=False), title=title, duration=8)


Told = Callable[[NeuroMergeError], Any]


def guarded(handler: Callable[..., Any], outputs: int, told: Told | None = None) -> Callable[..., Any]:
    """`handler` with errors shown as messages; on an error all of its `outputs` stay as they are.

    A `NeuroMergeError` is shown as it is, because it was written for people. Anything else is a defect of
    ours: it is logged with its traceback, and the visitor reads a sentence instead of it. `Cancelled` is
    silent: its cause is a newer request of the same visitor. Where memory ran out, what is kept for speed alone is
    dropped, and the visitor is told so. `told` takes an error for people to a place of its
    own on the page: it returns the outputs, or None where nothing is to be said.
    """

    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def stream_later(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            try:
                async for value in handler(*args, **kwargs):
                    yield value
            except Exception as error:  # noqa: BLE001 - the last wall before the page
                yield _shown(error, outputs, told)

        return stream_later

    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def later(*args: Any, **kwargs: Any) -> Any:
            try:
                return await handler(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the last wall before the page
                return _shown(error, outputs, told)

        return later

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the last wall before the page
                yield _shown(error, outputs, told)

        return stream

    @functools.wraps(handler)
    def now(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the last wall before the page
            return _shown(error, outputs, told)

    return now


def unchanged(outputs: int) -> Any:
    """The answer that leaves every output as it is."""
    return gr.skip() if outputs == 1 else tuple(gr.skip() for _ in range(outputs))


def _shown(error: Exception, outputs: int, told: Told | None) -> Any:
    """Show `error` to the visitor; returns the unchanged outputs."""
    if isinstance(error, gr.Error):
        raise error
    too_large = out_of_memory(error)
    if too_large is not None:
        from neuromerge.engine.cache import shared_cache

        logger.error("memory ran out; what was kept for later is dropped", exc_info=error)
        shared_cache().clear()
        error = too_large
    if isinstance(error, Cancelled):
        pass
    elif isinstance(error, NeuroMergeError):
        if told is not None:
            answer = told(error)
            return unchanged(outputs) if answer is None else answer
        warn(str(error))
    else:
        logger.error("a handler of the page failed", exc_info=error)
        warn(DEFECT, title="Our mistake")
    return unchanged(outputs)
