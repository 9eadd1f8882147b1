"""The page's blocks: what does not fit its components is refused in one line, and the queue can be looked at."""

from __future__ import annotations

import logging
import random
from collections import Counter, deque
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import gradio as gr
from gradio.server_messages import EstimationMessage, LogMessage, ProcessCompletedMessage
from gradio.utils import get_function_params

from neuromerge.deployment import without_statistics
from neuromerge.interface.page_states import remember_little
from neuromerge.interface.presence import Presence

logger = logging.getLogger(__name__)

_ADDRESS = "neuromerge.address"
_RECENT_EVENTS = 64
"""In which what an address and a page have had is counted."""
_MOST_UNREAD = 16
"""Messages of a page from which it is told no more about its place in the queue."""
_STATUS_SECONDS = 1.0
"""Between two messages to an event about its place in the queue."""


@dataclass(frozen=True)
class Waiting:
    """Events of the queue that wait or run, by page and by address."""

    by_page: Counter[str]
    by_address: Counter[str]
    lanes: dict[str, int]


def address_of(scope: MutableMapping[str, Any]) -> str:
    """Where a request comes from: behind a proxy, the last public address it names; earlier ones may be made up.

    Noted in the scope: the queue asks again and again for as long as an event waits.
    """
    if _ADDRESS not in scope:
        forwarded = dict(scope["headers"]).get(b"x-forwarded-for", b"")
        scope[_ADDRESS] = _last_public(forwarded) or str((scope.get("client") or ("",))[0])
    return str(scope[_ADDRESS])


def owner_of(request: gr.Request) -> str:
    """For whom an event's work is done: the address it came from; empty where it came over no connection."""
    return address_of(request.request.scope) if request.request else ""


def _last_public(forwarded: bytes) -> str:
    """The last public address of a list; empty where there is none."""
    for name in reversed(forwarded.decode("latin-1").split(",")):
        try:
            if ip_address(name.strip()).is_global:
                return name.strip()
        except ValueError:
            continue
    return ""


@contextmanager
def _refused() -> Iterator[None]:
    """A component's complaint about a crafted value becomes an error that is no traceback in the log."""
    try:
        yield
    except gr.Error as error:
        error.print_exception = False
        raise
    except Exception as error:  # noqa: BLE001
        logger.warning("an event's values do not fit its components: %s", type(error).__name__)
        raise gr.Error(
            "The values of this event do not fit the page. Reload the page.", print_exception=False
        ) from None


def _address(event: Any) -> str:
    return address_of(event.request.scope)


def _has_room(lane: Any) -> bool:
    """Whether another event of a lane may begin."""
    return lane.concurrency_limit is None or lane.current_concurrency < lane.concurrency_limit


def _share(workers: int | None, addresses: int) -> int | None:
    """How many of a lane's workers one address may have; None for all."""
    return None if workers is None or addresses < 2 else max(1, workers // 4)


class PageBlocks(gr.Blocks):
    """Gradio's blocks with an account of their visitors. The queue's own tables are read here and nowhere else."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        without_statistics()
        remember_little()
        super().__init__(*args, **kwargs)
        self.presence = Presence()
        self._had: deque[str] = deque(maxlen=2 * _RECENT_EVENTS)  # their addresses and pages

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *args: Any, **kwargs: Any) -> Any:
        """As Gradio's, but crafted values raise an error that is no traceback in the log."""
        if block_fn.api_visibility == "public" and len(inputs) != len(block_fn.inputs):
            names = ", ".join(name for name, *_ in get_function_params(block_fn.fn))
            raise gr.Error(
                f"{block_fn.api_name} takes {len(block_fn.inputs)} values ({names}), not {len(inputs)}.",
                print_exception=False,
            )
        with _refused():
            return await super().preprocess_data(block_fn, inputs, *args, **kwargs)

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """As Gradio's, but what an event leaves as it is costs nothing: Gradio makes every such component anew."""
        outputs = list(block_fn.outputs)
        if not isinstance(predictions, dict) or len(outputs) < 2:
            return await super().postprocess_data(block_fn, predictions, state)
        changes = {} if predictions == gr.skip() else predictions
        answered = iter(())
        if changes:
            changed = copy(block_fn)
            changed.outputs = [output for output in outputs if output in changes]
            if len(changed.outputs) < len(changes):  # one that is no output: Gradio says so
                return await super().postprocess_data(block_fn, predictions, state)
            values = [changes[output] for output in changed.outputs]
            answer = await super().postprocess_data(changed, values if len(values) > 1 else values[0], state)
            answered = iter(answer)
        return [next(answered) if output in changes else None if output.stateful else gr.skip() for output in outputs]

    def queue(self, *args: Any, **kwargs: Any) -> Any:
        """As Gradio's, but what waits is answered in turns and not in order of arrival: see `_next_event`.

        What waits is told its place now and then, not whenever something begins: with hundreds of events of somebody
        who reads no answers, that was hundreds of thousands of messages, half a kilobyte each.
        """
        super().queue(*args, status_update_rate=_STATUS_SECONDS, **kwargs)
        self._queue.get_events = self._next_event  # type: ignore[method-assign]
        self._queue.send_message = self._send  # type: ignore[method-assign]
        return self

    def _send(self, event: Any, event_message: Any) -> None:
        """As the queue's own, but a page that reads nothing is not told its place again and again."""
        queue = self._queue
        unread = queue.pending_messages_per_session.get(event.session_hash)
        told_enough = unread is not None and unread.qsize() >= _MOST_UNREAD
        if not (told_enough and isinstance(event_message, EstimationMessage)):
            type(queue).send_message(queue, event, event_message)

    def _next_event(self) -> tuple[list[Any], bool, str] | None:
        """What is answered next, taken out of its lane; None where nothing may begin now.

        Whoever asks for a hundred things at once waits for himself: first comes a page that listens, then whose address
        and page have least under way and have had least of late, then who came first. One address gets no more than a
        part of a lane's workers while others are there: Python's threads share one processor between them.
        """
        lanes = list(self._queue.event_queue_per_concurrency_id.items())
        with_room = [(name, lane) for name, lane in lanes if lane.queue and _has_room(lane)]
        if not with_room:
            return None  # the queue asks every millisecond while something waits
        active = [event for job in self._queue.active_jobs for event in job or ()]
        present = {_address(event) for event in active + [event for _, lane in lanes for event in lane.queue]}
        had = Counter(self._had) + Counter(name for event in active for name in (_address(event), event.session_hash))
        random.shuffle(with_room)
        for name, lane in with_room:
            most = _share(lane.concurrency_limit, len(present))
            running = Counter(_address(event) for event in active if event.concurrency_id == name)
            free = [event for event in lane.queue if most is None or running[_address(event)] < most]
            if free:
                event = min(
                    free,
                    key=lambda e: (not self.presence.listens(e.session_hash), had[_address(e)], had[e.session_hash]),
                )
                lane.queue.remove(event)
                self._had.extend((_address(event), event.session_hash))
                return [event], False, name
        return None

    def recall(self, page: str | None, states: Sequence[Any]) -> dict[Any, Any]:
        """What the server holds for a page, by component; an event need not name these among its inputs for that.

        The browser tells every input of an event of each step on the event's way, and is slow at it.
        """
        held = self.state_holder.session_data.get(page) if page else None
        return {state: state.value if held is None else held[state._id] for state in states}

    def taken(self, page: str | None, component: Any, value: Any) -> Any:
        """`value`, which the browser sent for `component`, as the page's own copy takes it: choices may have changed.

        Raises gr.Error for what the component does not take.
        """
        held = self.state_holder.session_data.get(page) if page else None
        own = held[component._id] if held is not None and component._id in held else component
        with _refused():
            return own.preprocess(value)

    def keep_listeners(self) -> None:
        """Before a new page comes: those that listen are remembered before those that only ask."""
        for page in self.presence.listeners:
            self.state_holder.update(page)

    async def forget_the_gone(self) -> None:
        """Drop what waits for pages that nobody looks at any more: their events, and answers they never took.

        Gradio keeps the answers of two thousand pages, and some are a whole page.
        """
        queue = self._queue
        for page in [page for page in list(queue.pending_messages_per_session) if not self.presence.is_there(page)]:
            await queue.clean_events(session_hash=page)
            if not any(event.session_hash == page for job in queue.active_jobs for event in job or ()):
                queue.pending_messages_per_session.pop(page, None)
                queue.pending_event_ids_session.pop(page, None)

    def inputs_of(self, index: object) -> int | None:
        """How many values an event takes; None for one that does not exist, or that the browser answers by itself."""
        function = self.fns.get(index) if isinstance(index, int) and not isinstance(index, bool) else None
        return None if function is None or function.fn is None else len(function.inputs)

    def is_private(self, index: object) -> bool:
        """Whether an event is one of the page's own, none of the API."""
        function = self.fns.get(index) if isinstance(index, int) else None
        return function is not None and function.api_visibility == "private"

    def waiting(self) -> Waiting:
        """What waits and runs now."""
        queued = self._queue.event_queue_per_concurrency_id
        lanes = {str(name): len(lane.queue) for name, lane in queued.items()}
        events = [event for lane in queued.values() for event in lane.queue]
        events += [event for job in self._queue.active_jobs for event in job or ()]
        return Waiting(
            by_page=Counter(event.session_hash for event in events),
            by_address=Counter(map(_address, events)),
            lanes=lanes,
        )

    async def drop_oldest(self, page: str, index: object) -> bool:
        """Take the page's oldest event of that kind out of the queue, if one still waits; its browser is told."""
        for lane in self._queue.event_queue_per_concurrency_id.values():
            for event in list(lane.queue):
                if event.session_hash == page and event.fn._id == index:
                    unchanged = {"data": [gr.skip()] * len(event.fn.outputs), "is_generating": False}
                    await self._queue.remove_from_queue(event._id)
                    told = LogMessage(
                        log="This page asked for more than it may have waiting, so the oldest request was dropped.",
                        level="info",
                        duration=8,
                        title="Too many at once",
                    )
                    self._queue.send_message(event, told)
                    self._queue.send_message(event, ProcessCompletedMessage(output=unchanged, success=True))
                    return True
        return False
