"""What is the same for every visitor is made and compressed once: the page itself, and Gradio's scripts.

Gradio writes the page anew for each visitor, half a megabyte that it does not compress, and compresses a hundred
scripts at each visit. That was a third of what a visit cost the server. What Gradio is told to lay into the head, its
scripts lay there late; what shall stand there from the beginning is written here.
"""

from __future__ import annotations

import asyncio
import gzip
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST_PAGES = 8
"""Addresses under which the page is kept: a server has one or two, but a client may claim any."""
PAGE = "/"
PAGES = (PAGE, "/config")
_HEAD = b"<head>"
_OTHER_ANSWERS = ("page", "deep_link")
"""What of a query changes the page that Gradio writes; its own parameters are read by an event."""
_SCRIPT = re.compile(r"/assets/[\w.-]+-[\w-]{8}\.(?:js|css)")
"""Gradio's built scripts and styles: a fingerprint of the content is in the name."""
_FOR_EVER = (b"cache-control", b"public, max-age=31536000, immutable")
_ADDRESS = (b"host", b"x-forwarded-host", b"x-forwarded-proto", b"x-gradio-server")
"""What Gradio takes the page's own address from."""
_CONDITIONS = (b"range", b"if-none-match", b"if-modified-since")


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer with its body compressed; `headers` say nothing of that."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class SameForAll:
    """ASGI middleware that keeps some answers of `app`; `first` stands at the beginning of the page's head."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], first: str = "") -> None:
        self.app = app
        self._first = first.encode()
        self._pages: OrderedDict[Any, _Answer] = OrderedDict()
        self._scripts: dict[str, _Answer] = {}  # as many as there are files
        self._writing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, from what is kept where it is kept."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if any(name in headers for name in _CONDITIONS):
            await self.app(scope, receive, send)
        elif _SCRIPT.fullmatch(path):
            found = self._scripts.get(path) or await self._made(scope, receive, send, (_FOR_EVER,))
            if found is not None:
                self._scripts[path] = found
                await _sent(found, headers, send)
        elif path in PAGES and not set(parse_qs(scope["query_string"].decode("latin-1"))) & set(_OTHER_ANSWERS):
            key = (path, scope.get("scheme"), scope.get("root_path"), *(headers.get(name) for name in _ADDRESS))
            async with self._writing:  # of many who come at once, one has it written
                found = self._pages.get(key) or await self._made(scope, receive, send, ())
                if found is not None:
                    self._pages[key] = found
                    self._pages.move_to_end(key)
                    while len(self._pages) > MOST_PAGES:
                        self._pages.popitem(last=False)
            if found is not None:
                await _sent(found, headers, send)
        else:
            await self.app(scope, receive, send)

    async def _made(
        self, scope: Scope, receive: Receive, send: Send, more: tuple[tuple[bytes, bytes], ...]
    ) -> _Answer | None:
        """The answer of `app`, to be kept; None where it was no page and has been sent on."""
        messages: list[MutableMapping[str, Any]] = []

        async def collected(message: MutableMapping[str, Any]) -> None:
            messages.append(message)

        await self.app(scope, receive, collected)
        begun = messages[0] if messages else {}
        if begun.get("status") != 200:
            for message in messages:
                await send(message)
            return None
        changed = {b"content-length", b"content-encoding", b"vary", *(name for name, _ in more)}
        kept = tuple((name, value) for name, value in begun.get("headers", ()) if name.lower() not in changed)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        if scope["path"].removeprefix(scope.get("root_path", "")) == PAGE:
            body = body.replace(_HEAD, _HEAD + self._first, 1)
        return _Answer((*kept, *more), await asyncio.to_thread(gzip.compress, body, 6, mtime=0))


async def _sent(answer: _Answer, headers: MutableMapping[bytes, bytes], send: Send) -> None:
    """Send an answer, compressed to those who can read that."""
    told = [*answer.headers, (b"vary", b"accept-encoding")]
    if b"gzip" in headers.get(b"accept-encoding", b""):
        body = answer.body
        told.append((b"content-encoding", b"gzip"))
    else:
        body = gzip.decompress(answer.body)
    told.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": told})
    await send({"type": "http.response.body", "body": body})
