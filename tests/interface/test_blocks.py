"""What the page's blocks read of Gradio's own tables: these tests fail where a new Gradio has moved one."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import gradio as gr
import httpx
import pytest

from neuromerge.benchmarks.clients import forwarded
from neuromerge.deployment import Limits
from neuromerge.interface.blocks import PageBlocks, address_of
from neuromerge.interface.presence import Presence
from tests.interface.conftest import in_a_loop, served


def repeat(text: str) -> str:
    return text


class Held:
    """A page with one slow event in a lane of its own, and two that the API may and may not see."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun: list[str] = []
        with PageBlocks(analytics_enabled=False) as self.demo:
            self.state = gr.State([1])
            self.menu = gr.Dropdown(["a", "b"], value="a")
            out = gr.Textbox()
            out.submit(
                self.slow,
                [out],
                [out],
                concurrency_id="slow",
                concurrency_limit=1,
                api_visibility="private",
            )
            gr.events.api(repeat, api_name="shown")
        self.demo.queue(api_open=False, default_concurrency_limit=1)

    def slow(self, text: str, request: gr.Request) -> str:
        """Wait until the test goes on."""
        self.begun.append(str(request.session_hash))
        self.go_on.wait(60)
        return text

    def ask(self, address: str, page: str, text: str = "x") -> None:
        """Send the slow event for a page, from an address of its own, without waiting for the answer."""
        event = {"data": [text], "fn_index": self.number("slow"), "session_hash": page}
        httpx.post(f"{address}gradio_api/queue/join", json=event, headers=forwarded(page)).raise_for_status()

    def number(self, name: str) -> int:
        """The index of an event."""
        (found,) = (
            index
            for index, function in self.demo.fns.items()
            if (function.concurrency_id == "slow") == (name == "slow")
        )
        return found


@pytest.fixture
def held() -> Iterator[tuple[Held, str]]:
    page = Held()
    with served(page.demo, Limits()) as address:
        yield page, address
        page.go_on.set()


def until(holds: Callable[[], bool]) -> None:
    """Wait a moment for what another thread does."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def messages_of(address: str, page: str) -> list[dict[str, Any]]:
    """What a page is told, to the last word."""
    told: list[dict[str, Any]] = []
    with httpx.stream("GET", f"{address}gradio_api/queue/data", params={"session_hash": page}, timeout=20) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                told.append(json.loads(line.removeprefix("data:")))
                if told[-1]["msg"] == "close_stream":
                    break
    return told


def test_what_waits_is_told_by_page_by_address_and_by_lane(held: tuple[Held, str]) -> None:
    page, address = held
    assert page.demo.waiting().by_page.total() == 0
    for who in ("one", "one", "two"):
        page.ask(address, who)
    until(lambda: page.demo.waiting().lanes["slow"] == 2)  # and one runs
    waiting = page.demo.waiting()
    assert waiting.by_page == {"one": 2, "two": 1}
    expected = {address_of({"headers": [(b"x-forwarded-for", forwarded(who)["x-forwarded-for"].encode())]}): count
                for who, count in (("one", 2), ("two", 1))}  # fmt: skip
    assert waiting.by_address == expected


def test_the_oldest_waiting_event_of_a_page_is_dropped_and_its_browser_told(held: tuple[Held, str]) -> None:
    page, address = held
    page.ask(address, "one", "runs")
    until(lambda: page.demo.waiting().lanes["slow"] == 0 and page.demo.waiting().by_page["one"] == 1)
    for text in ("old", "new"):
        page.ask(address, "two", text)
    drop = page.demo.drop_oldest

    async def dropped() -> tuple[bool, bool]:
        return await drop("two", page.number("slow")), await drop("three", page.number("slow"))

    # In the server's own loop, as the gate asks: its queues wake nobody who waits in another.
    (running,) = page.demo._queue._asyncio_tasks
    assert asyncio.run_coroutine_threadsafe(dropped(), running.get_loop()).result(20) == (True, False)
    assert page.demo.waiting().by_page == {"one": 1, "two": 1}
    page.go_on.set()
    told = messages_of(address, "two")
    assert "oldest request was dropped" in str([each for each in told if each["msg"] == "log"])
    data = [each["output"]["data"] for each in told if each["msg"] == "process_completed"]
    assert data[0] == [{"__type__": "update"}], "nothing changes on the page"
    assert data[1] == ["new"]


def test_a_page_that_reads_nothing_is_not_told_its_place_again_and_again(held: tuple[Held, str]) -> None:
    page, address = held
    page.ask(address, "one", "runs")
    until(lambda: page.demo.waiting().lanes["slow"] == 0 and page.demo.waiting().by_page["one"] == 1)
    page.ask(address, "two", "waits")
    queue = page.demo._queue

    async def told() -> int:
        for _ in range(500):
            queue.broadcast_estimations("slow")
        return int(queue.pending_messages_per_session["two"].qsize())

    (running,) = queue._asyncio_tasks
    assert 2 <= asyncio.run_coroutine_threadsafe(told(), running.get_loop()).result(20) <= 16
    page.go_on.set()
    messages = messages_of(address, "two")
    assert messages[0]["msg"] == "estimation"
    assert [each["output"]["data"] for each in messages if each["msg"] == "process_completed"] == [["waits"]]


def test_whoever_asks_for_much_at_once_waits_for_himself(held: tuple[Held, str]) -> None:
    page, address = held
    page.ask(address, "runs")
    until(lambda: page.demo.waiting().lanes["slow"] == 0 and page.demo.waiting().by_page["runs"] == 1)
    for who in ("gone", "greedy", "greedy", "modest"):
        page.ask(address, who)
    with page.demo.presence.listening("greedy"), page.demo.presence.listening("modest"):
        page.go_on.set()
        until(lambda: len(page.begun) == 5)
    assert page.begun == ["runs", "greedy", "modest", "greedy", "gone"]


@pytest.mark.parametrize(("others", "at_once"), [(0, 6), (1, 2)])
def test_one_address_gets_a_part_of_the_workers_where_others_are(
    held: tuple[Held, str], others: int, at_once: int
) -> None:
    page, address = held
    for who in [f"other {number}" for number in range(others)]:
        page.ask(address, who)
    for _ in range(6):
        page.ask(address, "greedy")
    page.demo._queue.event_queue_per_concurrency_id["slow"].concurrency_limit = 8
    until(lambda: len(page.begun) == others + at_once)
    time.sleep(0.2)
    assert len(page.begun) == others + at_once


def test_a_server_remembers_of_a_page_only_what_differs(held: tuple[Held, str]) -> None:
    """Gradio copies the settings of all components for each page, and keeps every value that it sends."""
    page, address = held
    page.go_on.set()
    page.ask(address, "one", "a long text")
    until(lambda: page.demo.waiting().by_page.total() == 0 and "one" in page.demo.state_holder)
    remembered = page.demo.state_holder["one"]
    assert not any(remembered.config_values.values())
    assert remembered[page.state._id] == [1]
    remembered[page.menu._id] = gr.Dropdown(["c"], render=False)
    assert page.demo.state_holder["one"][page.menu._id].choices == [("c", "c")]
    assert page.demo.state_holder["two"][page.menu._id] is page.menu
    assert "a long text" not in repr(list(remembered.components))


def test_nothing_is_kept_for_pages_that_have_gone(held: tuple[Held, str]) -> None:
    page, address = held
    page.demo.presence = Presence(grace_seconds=0)
    kept = page.demo._queue.pending_messages_per_session
    with page.demo.presence.listening("stays"):
        for who in ("runs", "waits", "stays", "next"):
            page.ask(address, who)
        until(lambda: page.demo.waiting().by_page == {"runs": 1, "stays": 1, "next": 1})
        assert set(kept) == {"runs", "stays", "next"}, "the one that waits has gone"
        page.go_on.set()
        until(lambda: not page.demo.waiting().by_page)
        page.ask(address, "last")
        until(lambda: set(kept) == {"stays", "last"})


def test_events_are_known_by_their_number(held: tuple[Held, str]) -> None:
    page, _ = held
    demo, slow, shown = page.demo, page.number("slow"), page.number("shown")
    assert demo.inputs_of(slow) == 1
    with PageBlocks(analytics_enabled=False) as scripted:
        gr.Textbox().change(None, js="() => []")
    assert scripted.inputs_of(0) is None, "the browser answers it"
    assert demo.is_private(slow)
    assert not demo.is_private(shown)
    for index in (-1, 99, True, None, "0", 1.0):
        assert demo.inputs_of(index) is None
        assert not demo.is_private(None if index is True else index)


def test_what_a_page_holds_is_looked_up_by_component(held: tuple[Held, str]) -> None:
    page, _ = held
    demo = page.demo
    assert demo.recall("unknown", [page.state]) == {page.state: [1]}
    demo.state_holder["one"][page.state._id] = [2]
    assert demo.recall("one", [page.state]) == {page.state: [2]}
    assert demo.taken("one", page.menu, "b") == "b"
    with pytest.raises(gr.Error):
        demo.taken("one", page.menu, "c")
    demo.state_holder["one"][page.menu._id] = gr.Dropdown(["c"], value="c")
    assert demo.taken("one", page.menu, "c") == "c"


def test_gradio_calls_what_is_overridden_and_reads_what_is_set() -> None:
    overridden: Any = PageBlocks.preprocess_data
    own, gradios = (list(inspect.signature(each).parameters) for each in (overridden, gr.Blocks.preprocess_data))
    assert own[:3] == gradios[:3] == ["self", "block_fn", "inputs"]
    assert "GRADIO_ANALYTICS_CACHE_FREQUENCY" in inspect.getsource(inspect.getmodule(gr.queueing.Queue))  # type: ignore[arg-type]


def answers(blocks: PageBlocks, predictions: Any, of: type[gr.Blocks]) -> list[Any]:
    """What an event with a state, a menu and a text answers, as `of` makes it of the handler's predictions."""
    (function,) = (function for function in blocks.fns.values() if len(function.outputs) == 3)
    session = blocks.state_holder[of.__name__]
    return in_a_loop(of.postprocess_data(blocks, function, predictions, session))


@pytest.fixture(scope="module")
def three() -> tuple[PageBlocks, list[Any]]:
    with PageBlocks(analytics_enabled=False) as blocks:
        outputs: list[Any] = [gr.State(1), gr.Dropdown(["a", "b"], value="a"), gr.Textbox()]
        outputs[2].submit(lambda: None, [], outputs)
    return blocks, outputs


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {2: "one"},
        {0: 2},
        {1: gr.update(choices=["c"], value="c")},
        {0: gr.update(value=3), 2: gr.update(visible=False)},
        {0: 4, 1: "b", 2: "all"},
    ],
)
def test_answers_are_as_gradio_makes_them(three: tuple[PageBlocks, list[Any]], changes: dict[int, Any]) -> None:
    blocks, outputs = three

    def predictions() -> dict[Any, Any]:  # Gradio takes entries out of them
        return {outputs[place]: deepcopy(value) for place, value in changes.items()} or gr.skip()

    assert answers(blocks, predictions(), PageBlocks) == answers(blocks, predictions(), gr.Blocks)


def test_what_an_event_leaves_as_it_is_is_not_made_anew(three: tuple[PageBlocks, list[Any]]) -> None:
    blocks, (state, menu, text) = three
    (function,) = (function for function in blocks.fns.values() if len(function.outputs) == 3)
    session = blocks.state_holder["page"]
    in_a_loop(blocks.postprocess_data(function, {state: 5, text: gr.update(value="new")}, session))
    assert session[menu._id] is menu
    assert session[text._id] is not text
    assert session[state._id] == 5


def test_an_answer_to_what_is_no_output_is_refused(three: tuple[PageBlocks, list[Any]]) -> None:
    blocks, (_, menu, _) = three
    with pytest.raises(ValueError, match="not specified as output"):
        answers(blocks, {gr.Number(render=False): 1, menu: "b"}, PageBlocks)
