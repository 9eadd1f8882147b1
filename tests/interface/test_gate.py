"""One client cannot take the house: bodies, shapes, routes and quotas are refused in sentences, others go on."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from gradio.server_messages import CloseStreamMessage
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse

from neuromerge.benchmarks.clients import Client
from neuromerge.benchmarks.load import ORTHOGONAL
from neuromerge.deployment import Limits
from neuromerge.errors import Cancelled
from neuromerge.interface import gate
from neuromerge.interface.app import build
from neuromerge.interface.blocks import PageBlocks, address_of
from neuromerge.interface.bodies import MAX_DEPTH, MAX_ITEMS, fault
from neuromerge.interface.gate import Gate, route_of
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.interface.observing import FewLines
from neuromerge.interface.presence import Presence
from neuromerge.progress import UNATTENDED, Job
from tests.interface import fakes
from tests.interface.conftest import in_a_loop, served, serving

SMALL = Limits(
    max_upload_bytes=300_000,
    max_archive_bytes=400_000,
    max_checkpoint_bytes=400_000,
    max_body_bytes=500_000,
    events_per_page=6,
    queue_size=24,
)


@pytest.fixture(scope="module")
def small() -> Iterator[str]:
    """A page with narrow quotas."""
    family = fakes.family()
    with serving(WorkspaceLoader(fakes.FakeWorkspace), {family.name: family}, SMALL) as address:
        yield address


# ------------------------------------------------------------------------------------------------- bodies
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_whatever_is_small_and_flat_may_be_parsed(value: Any) -> None:
    assert fault(json.dumps(value).encode()) is None


@pytest.mark.parametrize("opening", ["[", '{"a":', '["]]]]",'])
def test_depth_is_told_without_parsing(opening: str) -> None:
    assert fault((opening * MAX_DEPTH).encode()) is None
    assert "deep" in str(fault((opening * (MAX_DEPTH + 1)).encode()))


def test_brackets_and_commas_of_texts_do_not_count() -> None:
    assert fault(json.dumps(['[{,"\\' * MAX_ITEMS]).encode()) is None
    assert "values" in str(fault(b"[" + b"1," * MAX_ITEMS + b"1]"))


def test_an_unfinished_text_costs_no_more_than_its_length() -> None:
    assert fault(b'["' + b"\\\\x" * 1_000_000) is None  # one that tries every way to end it takes for ever


@pytest.mark.parametrize("path", ["queue/join", "upload", "run/predict", "call/accuracy", "cancel", "reset"])
def test_a_large_body_is_refused_on_every_route(small: str, path: str) -> None:
    big = b'{"data": ["' + b"x" * SMALL.max_body_bytes + b'"]}'
    answer = httpx.post(f"{small}gradio_api/{path}", content=big, timeout=30)
    assert answer.status_code == 413
    assert "at most 500,000 bytes" in answer.json()["detail"]


def test_a_large_body_of_unknown_length_is_refused(small: str) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
    for chosen in ({}, headers):
        pieces = iter([part, *[b"x" * 100_000] * 10])
        answer = httpx.post(f"{small}gradio_api/upload", content=pieces, headers=chosen, timeout=30)
        assert answer.status_code == 413


@pytest.mark.parametrize(
    "change",
    [
        {"data": []},
        {"data": [None] * 500},
        {"data": "x"},
        {"fn_index": 10**9},
        {"fn_index": "x"},
        {"fn_index": None},
        {"session_hash": ""},
        {"session_hash": 5},
        {"session_hash": "x" * 100},
    ],
    ids=str,
)
def test_what_is_no_event_of_the_page_is_refused(small: str, change: dict[str, Any]) -> None:
    client = Client(small)
    event = next(e for e in client.events if e["backend_fn"] and e["api_visibility"] == "private" and e["inputs"])
    body = {"data": [None] * len(event["inputs"]), "fn_index": event["id"], "session_hash": client.page, **change}
    answer = client.http.post("/gradio_api/queue/join", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith(".")
    client.close()


def test_deep_json_is_refused_before_anything_walks_it(small: str) -> None:
    body = b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b', "fn_index": 1, "session_hash": "x"}'
    assert httpx.post(f"{small}gradio_api/queue/join", content=body).status_code == 413


def test_values_of_the_wrong_type_leave_one_line_and_no_traceback(
    small: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client = Client(small)
    event = next(e for e in client.events if e["backend_fn"] and len(e["inputs"]) > 5 and e["queue"] is not False)
    caplog.clear()
    capfd.readouterr()
    forged: list[Any] = [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, [[{}]], 5]
    for junk in forged:
        client.ask(event, [junk] * len(event["inputs"]))
    assert "Traceback" not in capfd.readouterr().err
    assert all(record.exc_info is None for record in caplog.records if record.name.startswith("neuromerge"))
    client.close()


# ------------------------------------------------------------------------------------------------- routes
@pytest.mark.parametrize("path", ["deep_link?session_hash=x", "vibe-code", "proxy=http://127.0.0.1/", "dev/reload"])
def test_routes_that_the_page_never_asks_for_are_not_there(small: str, path: str) -> None:
    assert httpx.get(f"{small}gradio_api/{path}").status_code == 404


@pytest.mark.parametrize("way", ["run/predict", "api/predict", "run/accuracy", "queue/join"])
@pytest.mark.parametrize("change", [{"fn_index": 9999}, {"fn_index": None}, {"data": [1, 2, 3]}, {"data": None}])
def test_events_that_are_none_are_refused_whichever_way_they_come(small: str, way: str, change: dict[str, Any]) -> None:
    client = Client(small)
    unqueued = next(event for event in client.events if event["backend_fn"] and event["queue"] is False)
    data = [None] * len(unqueued["inputs"])
    body = {"data": data, "fn_index": unqueued["id"], "session_hash": client.page, **change}
    assert client.http.post(f"/gradio_api/{way}", json=body).status_code == 422
    client.close()


def test_the_queue_cannot_be_skipped(small: str) -> None:
    client = Client(small)
    for event in client.events:
        if event["backend_fn"] and event["queue"] is not False:
            body = {"data": [None] * len(event["inputs"]), "fn_index": event["id"], "session_hash": client.page}
            for way in ("run", "api"):
                assert client.http.post(f"/gradio_api/{way}/predict", json=body).status_code in (404, 413, 422)
    client.close()


# ------------------------------------------------------------------------------------------------- quotas
def flood(address: str, pages: int, each: int, forwarded: str) -> list[int]:
    """Send so many events from so many pages that never listen; the answers."""
    http = httpx.Client(base_url=address, headers={"x-forwarded-for": forwarded}, timeout=30)
    event = next(e for e in http.get("/config").json()["dependencies"] if e["api_name"] == "accuracy")
    body = {"data": [None, "ties", None, "quick", 0, ""], "fn_index": event["id"]}
    return [
        http.post("/gradio_api/queue/join", json={**body, "session_hash": f"flood{page}"}).status_code
        for page in range(pages)
        for _ in range(each)
    ]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is not set, accuracy is not measured."""
    go = threading.Event()
    board = fakes.FakeWorkspace.board

    def waiting(self: Any, *args: Any, **kwargs: Any) -> Any:
        go.wait(30)
        return board(self, *args, **kwargs)

    monkeypatch.setattr(fakes.FakeWorkspace, "board", waiting)
    yield go
    go.set()
    time.sleep(0.5)


def test_one_page_and_one_address_leave_room_for_others(small: str, held: threading.Event) -> None:
    page = flood(small, 1, 16, "8.8.8.8")
    assert page.count(200) >= SMALL.events_per_page
    address = flood(small, 16, 2, "8.8.8.8")
    assert 429 in address
    assert httpx.get(f"{small}health").json()["events"] == SMALL.queue_size * 3 // 4
    assert flood(small, 2, 1, "1.1.1.1") == [200, 200]
    held.set()


def test_a_drag_of_thirty_steps_meets_no_quota(small: str) -> None:
    client = Client(small)
    assert client.load() == []
    for step in range(30):
        assert client.move(ORTHOGONAL, 0.5 + step / 100) == []
    client.close()


def test_pages_that_only_ask_do_not_push_out_the_history_of_one_that_listens() -> None:
    family, limits = fakes.family(), Limits(sessions=4)
    demo = build(WorkspaceLoader(fakes.FakeWorkspace), {family.name: family}, limits)
    with served(demo, limits) as address:
        client = Client(address)
        client.load()
        event = next(e for e in client.events if e["api_name"] == "accuracy")
        for number in range(12):
            body = {"data": [None, "ties", None, "quick", 0, ""], "fn_index": event["id"], "session_hash": f"p{number}"}
            assert client.http.post("/gradio_api/queue/join", json=body).status_code == 200
        client.ask(event, body["data"])  # the queue has come to its end
        assert client.page in demo.state_holder
        assert "p0" not in demo.state_holder
        client.close()


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [("", "10.0.0.9"), ("8.8.8.8", "8.8.8.8"), ("1.1.1.1, 8.8.8.8, 10.1.2.3", "8.8.8.8"), ("x, y", "10.0.0.9")],
)
def test_the_address_is_one_that_a_proxy_saw(forwarded: str, address: str) -> None:
    scope = {"headers": [(b"x-forwarded-for", forwarded.encode())], "client": ("10.0.0.9", 1)}
    assert address_of(scope) == address


# ------------------------------------------------------------------------------------------------- presence
def test_a_page_without_a_stream_is_gone_after_its_grace() -> None:
    now = [0.0]
    presence = Presence(grace_seconds=8, capacity=3, clock=lambda: now[0])
    assert presence.is_there("never heard of")
    presence.arrived("silent")
    with presence.listening("open"):
        now[0] = 9.0
        presence.arrived("silent")  # asking on is not listening
        assert not presence.is_there("silent")
        assert presence.is_there("open")
        assert presence.listeners == ["open"]
    assert presence.is_there("open")
    now[0] = 18.0
    assert not presence.is_there("open")
    for name in "abcd":
        presence.arrived(name)
    assert presence.is_there("open")  # forgotten


def test_a_search_that_nobody_waits_for_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    asked = threading.Event()

    def board(self: Any, *args: Any, job: Job = UNATTENDED, **kwargs: Any) -> Any:
        asked.set()
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            try:
                job.check()
            except Cancelled as reason:
                ended.append(str(reason))
                raise
            time.sleep(0.05)
        raise AssertionError("nobody ended it")

    family = fakes.family()
    with serving(WorkspaceLoader(fakes.FakeWorkspace), {family.name: family}, SMALL) as address:
        client = Client(address)
        client.load()
        monkeypatch.setattr(fakes.FakeWorkspace, "board", board)
        readout = client.ids["readout"]
        follow = next(
            e for e in client.events if e["backend_fn"] and e["js"] and readout in e["outputs"] and e["inputs"]
        )
        values = [client.values.get(place) for place in follow["inputs"]]
        body = {"data": values, "fn_index": follow["id"], "session_hash": "silent", "trigger_id": None}
        assert client.http.post("/gradio_api/queue/join", json=body).status_code == 200
        assert asked.wait(20)
        for _ in range(300):
            if ended:
                break
            time.sleep(0.1)
        client.close()
    assert ended == ["The page was closed."]


# ------------------------------------------------------------------------------------------------- observing
def test_health_tells_what_waits_and_names_nobody(small: str) -> None:
    client = Client(small)
    client.load()
    found = httpx.get(f"{small}health").json()
    assert found["status"] == "ok"
    assert found["pages"] >= 1
    assert set(found["waiting"]) <= {"light", "heavy", "settle", "search", "fill", "idle"}
    assert client.page not in json.dumps(found)
    client.close()


def test_a_request_is_one_line_without_what_visitors_wrote(small: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="neuromerge.interface.gate"):
        answer = httpx.get(f"{small}gradio_api/file=/tmp/secret-name.png")
        httpx.get(f"{small}?tasks=secret-name")
    lines = [record.getMessage() for record in caplog.records if record.name == "neuromerge.interface.gate"]
    assert any(answer.headers["x-request-id"] in line and "ms=" in line and "status=" in line for line in lines)
    assert not any("secret-name" in line or "\n" in line for line in lines)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/gradio_api/heartbeat/abc", "/gradio_api/heartbeat"),
        ("/gradio_api/file=/home/me", "/gradio_api/file"),
        ("/neuromerge-static/v/view.js", "/neuromerge-static"),
        ("/a\nb", "/?"),
    ],
)
def test_routes_name_no_visitor(path: str, route: str) -> None:
    assert route_of(path) == route


def test_a_log_takes_few_lines_and_says_how_many_it_left_out() -> None:
    now = [0.0]
    few = FewLines(rate=1, burst=5, clock=lambda: now[0])
    record = [logging.LogRecord("n", logging.INFO, "p", 1, "line %d", (number,), None) for number in range(21)]
    assert [few.filter(one) for one in record[:20]].count(True) == 5
    now[0] = 1.0
    assert few.filter(record[20])
    assert record[20].getMessage() == "line 20 left_out=15"


# ------------------------------------------------------------------------------------------------- streams
def hang_up_at(word: bytes, *messages: bytes) -> bool:
    """Whether a stream of `messages` comes to its own end where the browser hangs up as soon as it hears `word`."""
    left, ended = asyncio.Event(), False

    async def answers() -> AsyncIterator[bytes]:
        nonlocal ended
        for message in messages:
            yield message
            await asyncio.sleep(0.05)  # a busy machine: the hang-up is there before the next step
        ended = True

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await StreamingResponse(answers())(scope, receive, send)

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if word in message.get("body", b""):
            left.set()

    scope = {
        "type": "http",
        "asgi": {"spec_version": "2.3"},
        "method": "GET",
        "path": "/gradio_api/queue/data",
        "query_string": b"session_hash=one",
        "headers": [],
    }
    in_a_loop(Gate(app, Limits())(scope, receive, send))
    return ended


def test_a_stream_that_has_said_its_last_word_is_not_cut_short() -> None:
    """Else Gradio drops what the page's next stream waits for, and the page loses its connection."""
    last = f"data: {CloseStreamMessage().model_dump_json()}\n\n".encode()
    assert hang_up_at(b"close_stream", b"data: {}\n\n", last)


def test_a_stream_whose_visitor_has_gone_stops() -> None:
    told = b'data: {"msg":"log","log":"close_stream"}\n\n'
    assert not hang_up_at(b"close_stream", told, b"data: {}\n\n")


def test_an_upload_that_breaks_off_is_no_fault_of_the_server() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("nobody is there to be answered")

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "query_string": b"", "headers": headers}
    in_a_loop(Gate(app, Limits())(scope, receive, send))


def test_a_receipt_comes_after_the_last_word_of_the_page_s_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that has the receipt first takes the stream for open, opens none, and never hears the answer."""
    monkeypatch.setattr(gate, "HEARD_SECONDS", 0.3)
    heard: list[str] = []

    class Blocks(PageBlocks):
        def inputs_of(self, index: object) -> int:
            return 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].endswith("data"):
            await StreamingResponse(iter([CloseStreamMessage().model_dump_json().join(("data: ", ""))]))(
                scope, receive, send
            )
        else:
            await JSONResponse({})(scope, receive, send)

    passing = Gate(app, Limits())

    def request(path: str, page: str, body: bytes = b"") -> Any:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                heard.append(f"{path} {page}")

        scope = {
            "type": "http",
            "asgi": {"spec_version": "2.4"},
            "app": serving_app,
            "method": "POST" if body else "GET",
            "path": f"/gradio_api/queue/{path}",
            "query_string": f"session_hash={page}".encode(),
            "headers": [],
        }
        return passing(scope, receive, send)

    blocks = Blocks(analytics_enabled=False)
    serving_app = SimpleNamespace(get_blocks=lambda: blocks)

    async def visit() -> None:
        await request("data", "one")
        events = [json.dumps({"fn_index": 0, "data": [], "session_hash": page}).encode() for page in ("one", "two")]
        await asyncio.gather(request("join", "one", events[0]), request("join", "two", events[1]))
        await request("join", "one", events[0])

    in_a_loop(visit())
    assert heard == ["data one", "join two", "join one", "join one"]
