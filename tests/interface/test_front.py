"""The page and Gradio's scripts are made and compressed once, and are the answers that Gradio gives."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import httpx
import pytest

from neuromerge.deployment import Limits
from neuromerge.interface import static_files
from neuromerge.interface.front import MOST_PAGES, SameForAll
from neuromerge.interface.launch import server_options
from tests.interface.conftest import in_a_loop

SCRIPT = "/assets/Index-BNME6_a6.js"


class Inner:
    """An application that counts what it is asked, and tells the address that it is asked by."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        self.asked[path] += 1
        await asyncio.sleep(0.01)
        headers = dict(scope["headers"])
        seen = bytes(headers.get(b"x-forwarded-host") or headers[b"host"])
        status = 404 if "missing" in path else 200
        sent = [(b"content-type", b"text/html"), (b"content-length", str(len(seen) + 1000).encode())]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": seen, "more_body": True})
        await send({"type": "http.response.body", "body": b"." * 1000})


def asked(inner: Inner, *requests: tuple[str, dict[str, str]], first: str = "") -> list[httpx.Response]:
    """The answers to requests that come all at once."""
    kept = SameForAll(inner, first)

    async def all_of_them() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(kept), base_url="http://here") as client:
            return await asyncio.gather(*(client.get(path, headers=headers) for path, headers in requests))

    return in_a_loop(all_of_them())


def test_the_page_is_written_once_for_all_who_come() -> None:
    inner = Inner()
    answers = asked(inner, *[("/?recipe=1", {}), ("/", {})] * 8)
    assert inner.asked == {"/": 1}
    assert {answer.text for answer in answers} == {"here" + "." * 1000}
    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert all(int(answer.headers["content-length"]) < 100 for answer in answers)


def test_what_shall_stand_first_stands_at_the_beginning_of_the_page_s_head_alone() -> None:
    host = {"x-forwarded-host": "<head><title><head>"}
    page, settings = asked(Inner(), ("/", host), ("/config", host), first="<script>first</script>")
    assert page.text.startswith("<head><script>first</script><title><head>.")
    assert settings.text.startswith("<head><title><head>.")


def test_who_cannot_unpack_gets_it_plain() -> None:
    plain, packed = asked(Inner(), ("/", {"accept-encoding": "identity"}), ("/", {"accept-encoding": "gzip"}))
    assert "content-encoding" not in plain.headers
    assert plain.text == packed.text
    assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"


def test_a_claimed_address_is_told_to_nobody_else() -> None:
    claimed, other = asked(Inner(), ("/", {"x-forwarded-host": "evil.example"}), ("/", {}))
    assert claimed.text.startswith("evil.example.")
    assert other.text.startswith("here.")


def test_claimed_addresses_do_not_fill_the_memory() -> None:
    inner = Inner()
    many = [("/", {"x-forwarded-host": f"h{number}"}) for number in range(3 * MOST_PAGES)]
    asked(inner, *many, ("/", {"x-forwarded-host": f"h{3 * MOST_PAGES - 1}"}), ("/", {"x-forwarded-host": "h0"}))
    assert inner.asked["/"] == 3 * MOST_PAGES + 1


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/?deep_link=x", {}),
        ("/?page=x", {}),
        ("/assets/missing-BNME6_a6.js", {}),
        ("/assets/nofingerprint.js", {}),
        ("/assets/../secret-BNME6_a6.js", {}),
        (SCRIPT, {"range": "bytes=0-3"}),
        ("/gradio_api/heartbeat/x", {}),
    ],
)
def test_everything_else_is_asked_for_each_time(path: str, headers: dict[str, str]) -> None:
    inner = Inner()
    first, second = asked(inner, (path, headers), (path, headers))
    assert sum(inner.asked.values()) == 2
    assert first.content == second.content
    assert "immutable" not in first.headers.get("cache-control", "")


def test_scripts_are_kept_by_the_browser_for_ever() -> None:
    (answer,) = asked(Inner(), (SCRIPT, {}))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_gradio_names_its_scripts_by_their_content(server: str) -> None:
    """Else they could not be kept: a new version of Gradio would meet the old scripts."""
    page = httpx.get(server)
    scripts = re.findall(r"/assets/[\w.-]+\.(?:js|css)", page.text)
    assert scripts
    for script in scripts:
        answer = httpx.get(server.rstrip("/") + script)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"


def test_the_page_is_the_one_that_gradio_writes(server: str) -> None:
    """Asked with its own empty `deep_link`, Gradio writes the same page, and nothing of it is kept."""
    kept, written = httpx.get(server), httpx.get(server, params={"deep_link": "-"})
    assert kept.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in written.headers
    assert len(kept.text) > 100_000
    ours = written.text.replace("<head>", f"<head>{static_files.early()}", 1)
    assert kept.text == ours.replace('"deep_link_state":"invalid"', '"deep_link_state":"none"')


# ------------------------------------------------------------------------------------------------ frames
def test_any_site_may_frame_the_page_unless_said(server: str) -> None:
    headers = httpx.get(server).headers
    assert "content-security-policy" not in headers
    assert "x-frame-options" not in headers


def test_sites_that_may_frame_the_page_are_named_in_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMERGE_FRAME_ANCESTORS", "'self' https://huggingface.co")
    gate, *_ = server_options(Limits())["app_kwargs"]["middleware"]
    app = gate.cls(Inner(), **gate.kwargs)

    async def answers() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return [await client.get("/"), await client.get("/missing"), await client.get("/gradio_api/deep_link")]

    page, missing, refused = in_a_loop(answers())
    assert [answer.status_code for answer in (page, missing, refused)] == [200, 404, 404]
    for answer in (page, missing, refused):
        assert answer.headers["content-security-policy"] == "frame-ancestors 'self' https://huggingface.co"
