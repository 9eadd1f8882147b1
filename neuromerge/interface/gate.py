"""Every request passes here first: its size, its shape, how much its page already has under way, and one log line.

What is refused here costs no parsing, no thread and no place in the queue. Refusals are sentences.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from neuromerge.deployment import Limits
from neuromerge.interface.blocks import PageBlocks, address_of
from neuromerge.interface.bodies import fault
from neuromerge.interface.pace import Pace

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

API = "/gradio_api/"
UNUSED = ("deep_link", "component_server", "process_recording", "vibe-", "undo-vibe-edit", "proxy=", "stream/", "dev/")
"""Routes of Gradio's that this page never asks for; some of them keep files, or a stream open for ever."""
EVENT_BYTES = 2**20
"""An event of the page: choices, numbers and short texts. Pictures are uploaded, not sent in events."""
MULTIPART_BYTES = 2**16
"""What stands around the file in a request that uploads one."""


LAST_WORD = b'data: {"msg":"close_stream"'
"""How the last message of a stream of answers begins."""
HEARD_SECONDS = 0.05
"""Time in which a browser surely hears that word."""
MOST_ENDED = 1024
"""Pages whose last word is remembered, for that long."""


class Refused(Exception):
    """A request that is answered here, with a status and a sentence."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Gate:
    """ASGI middleware. Streams pass through untouched; bodies are counted while they come in.

    Args:
        app: what answers the requests that may pass.
        limits: of one visitor.
        largest_upload: bytes of the largest file that may be uploaded, in a request that may be larger than others.
        frame_ancestors: sites that may show the page in a frame; every site where it is empty.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        limits: Limits,
        largest_upload: int = 0,
        frame_ancestors: str = "",
    ) -> None:
        self.app = app
        self.limits = limits
        self.largest_upload = largest_upload
        self._pace = Pace(limits.events_per_second)
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._always: list[tuple[bytes, bytes]] = []
        if frame_ancestors:
            self._always.append((b"content-security-policy", f"frame-ancestors {frame_ancestors}".encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number, begun, answered = uuid.uuid4().hex[:8], time.monotonic(), 0

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                message["headers"] = [*message.get("headers", ()), *self._always, (b"x-request-id", number.encode())]
            await send(message)

        try:
            with self._listening(scope):
                await self._pass(scope, receive, sending)
        except Refused as refused:
            if not answered:
                answer = JSONResponse({"detail": str(refused)}, refused.status, {"Retry-After": "5"})
                await answer(scope, receive, sending)
        except ClientDisconnect:
            logger.info("request=%s ended before its end", number)
        finally:
            level = logging.WARNING if answered >= 400 and answered != 404 else logging.INFO
            milliseconds = 1000 * (time.monotonic() - begun)
            what = f"{scope['method']} {route_of(scope['path'])}"
            logger.log(level, "request=%s %s status=%d ms=%.0f", number, what, answered, milliseconds)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        what = scope["path"].partition(API)[2]
        if what.startswith(UNUSED):
            raise Refused(404, "There is no such page.")
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            stream = what.startswith("queue/data")
            await self.app(scope, *(_ending(receive, send, partial(self._ends, scope)) if stream else (receive, send)))
            return
        headers = dict(scope["headers"])
        uploads = what.startswith("upload") and b"multipart/" in headers.get(b"content-type", b"")
        most = max(self.limits.max_body_bytes, self.largest_upload + MULTIPART_BYTES if uploads else 0)
        told = headers.get(b"content-length", b"")
        if told.isdigit() and (len(told) > 15 or int(told) > most):
            raise Refused(413, f"A request may have at most {most:,} bytes.")
        counted = _counting(receive, most)
        if b"multipart/" in headers.get(b"content-type", b""):
            await self.app(scope, counted, send)
            return
        body = await _whole(counted)
        if (why := fault(body)) is not None:
            raise Refused(413, why)
        if not what.startswith(("queue/join", "call/", "run/", "api/")):
            await self.app(scope, _replayed(body, receive), send)
            return
        await self._in_time(address_of(scope))
        page = await self._admit(scope, what, body)
        await self.app(scope, _replayed(body, receive), self._behind(page, send))

    async def _in_time(self, address: str) -> None:
        """Let an event of an address that asks too fast wait. Raises Refused where it would wait too long."""
        seconds = self._pace.wait(address)
        if seconds is None:
            raise Refused(429, "Your address asks faster than this server may answer. Try again in a moment.")
        if seconds:
            await asyncio.sleep(seconds)

    def _ends(self, scope: Scope) -> None:
        """Note that a page's stream of answers says its last word."""
        page = page_of(scope)
        self._ended.pop(page, None)
        self._ended[page] = time.monotonic()
        while len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)

    def _behind(self, page: str, send: Send) -> Send:
        """`send` for an event's receipt, which comes after the last word of the page's stream if that was just said.

        A browser that gets the receipt first takes the stream for open and opens none: nobody would hear the answer.
        """

        async def sending(message: MutableMapping[str, Any]) -> None:
            left = self._ended.get(page, -math.inf) + HEARD_SECONDS - time.monotonic()
            if message["type"] == "http.response.start" and left > 0:
                await asyncio.sleep(left)
            await send(message)

        return sending

    async def _admit(self, scope: Scope, what: str, body: bytes) -> str:
        """The page of an event. Refuses one that does not fit, or whose page or address has too much under way."""
        blocks = blocks_of(scope)
        try:
            event = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(422, "The request is no JSON.") from None
        if blocks is None or not isinstance(event, dict):
            raise Refused(422, "The request is no event.")
        index, data, page = event.get("fn_index"), event.get("data"), event.get("session_hash")
        if what.startswith(("queue/join", "run/", "api/")):
            inputs = blocks.inputs_of(index)
            if inputs is None or not isinstance(data, list):
                raise Refused(422, "There is no such event. Reload the page.")
            if len(data) != inputs and blocks.is_private(index):
                raise Refused(422, f"This event has {inputs} values, not {len(data)}. Reload the page.")
        if what.startswith("queue/join"):
            if not isinstance(page, str) or not 0 < len(page) <= 64:
                raise Refused(422, "The event names no page. Reload the page.")
            if blocks.is_private(index) and len(body) > EVENT_BYTES:
                raise Refused(413, f"An event of the page may have at most {EVENT_BYTES:,} bytes.")
            if blocks.presence.arrived(page):
                blocks.keep_listeners()
                await blocks.forget_the_gone()
        page = page if isinstance(page, str) else ""
        await self._within_bounds(blocks, page, index, address_of(scope))
        return page

    async def _within_bounds(self, blocks: PageBlocks, page: str, index: object, address: str) -> None:
        """Make room for one more event of a page. Raises Refused where its page or its address has more than a share.

        A page that is full loses its oldest waiting event of the same kind, which the new one makes useless. One
        address may fill three quarters of the queue; then it leaves the rest to the others.
        """
        waiting, size = blocks.waiting(), self.limits.queue_size
        if waiting.by_page[page] >= self.limits.events_per_page and not await blocks.drop_oldest(page, index):
            raise Refused(429, "This page already waits for many answers. Try again in a moment.")
        own = waiting.by_address[address]
        crowded = waiting.by_address.total() >= size * 3 // 4 and len(waiting.by_address) > 1
        if own >= size * 3 // 4 or (crowded and own >= size // 4):
            raise Refused(429, "Your address already waits for many answers. Try again in a moment.")

    @staticmethod
    def _listening(scope: Scope) -> Any:
        """Note, while a stream of a page is open, that the page is there."""
        what = scope["path"].partition(API)[2]
        page = ""
        if what.startswith("heartbeat/"):
            page = what.removeprefix("heartbeat/").strip("/")
        elif what.startswith("queue/data"):
            page = page_of(scope)
        blocks = blocks_of(scope)
        return blocks.presence.listening(page) if blocks is not None and 0 < len(page) <= 64 else nullcontext()


def page_of(scope: Scope) -> str:
    """The page that a stream of answers is for."""
    return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]


def blocks_of(scope: Scope) -> PageBlocks | None:
    """The page that the application serves."""
    app = scope.get("app")
    found = app.get_blocks() if app is not None and hasattr(app, "get_blocks") else None
    return found if isinstance(found, PageBlocks) else None


def route_of(path: str) -> str:
    """A path as logs may hold it: its first parts, without names of pages, files or visitors."""
    parts = [part for part in path.split("/") if part]
    shown = parts[:2] if parts[:1] == ["gradio_api"] else parts[:1]
    return "/" + "/".join(
        part.partition("=")[0][:40] if part.isascii() and part.isprintable() else "?" for part in shown
    )


def _ending(receive: Receive, send: Send, ends: Callable[[], None]) -> tuple[Receive, Send]:
    """A stream of answers that is left to end by itself once it has said that it ends; then `ends` is called.

    The browser hangs up at that word, and may have opened the next stream of the page by then. Gradio takes a hang-up
    for a visitor who has gone, and drops what the next stream waits for: the page would lose its connection.
    """
    ending = False

    async def sending(message: MutableMapping[str, Any]) -> None:
        nonlocal ending
        if message.get("body", b"").startswith(LAST_WORD):
            ending = True
            ends()
        await send(message)

    async def receiving() -> MutableMapping[str, Any]:
        message = await receive()
        if ending and message["type"] == "http.disconnect":
            await asyncio.Event().wait()  # until the answer, which has nothing more to say, is over
        return message

    return receiving, sending


def _counting(receive: Receive, most: int) -> Receive:
    """`receive` that raises Refused once more than `most` bytes have come, whatever was announced."""
    count = 0

    async def counted() -> MutableMapping[str, Any]:
        nonlocal count
        message = await receive()
        count += len(message.get("body", b""))
        if count > most:
            raise Refused(413, f"A request may have at most {most:,} bytes.")
        return message

    return counted


async def _whole(receive: Receive) -> bytes:
    """The whole body. Raises Refused where the client leaves in the middle of it."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The request ended before its end.")
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` as if `body` were still to come."""
    sent = False

    async def replayed() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
