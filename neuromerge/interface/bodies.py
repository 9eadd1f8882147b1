"""What a request's JSON may look like, told from its bytes: nothing is parsed that could cost more than it is worth."""

from __future__ import annotations

import re

MAX_DEPTH = 32
"""How deep lists and objects of an event may be nested; the page's own are five deep."""
MAX_ITEMS = 50_000
"""Values of one event: the page's own have some hundreds."""

# A string, its escapes included. Unrolled, so that an unfinished one costs no more than its length.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKET = bytes(code for code in range(256) if code not in b"[]{}")


def fault(body: bytes) -> str | None:
    """Why this JSON is not parsed, a sentence; None where it may be."""
    bare = _STRING.sub(b"", body)
    if bare.count(b",") + bare.count(b"[") + bare.count(b"{") > MAX_ITEMS:
        return f"The request holds more than {MAX_ITEMS:,} values."
    depth = 0
    for bracket in bare.translate(None, _NO_BRACKET):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            return f"The request is nested more than {MAX_DEPTH} deep."
    return None
