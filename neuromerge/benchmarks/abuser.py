"""One client that takes what it can get: floods of events, huge and malformed requests, uploads that break off.

It is refused or left waiting; nobody else may notice. What counts as a fault is an answer of the server that says that
the server itself failed (a status of 500), or none within a minute.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from neuromerge.benchmarks.clients import Client, Record, forwarded

FLOOD = 300
HUGE = 60 * 2**20


class Abuser:
    """Attacks one after another until the time is over; `answers` counts the statuses that it got."""

    def __init__(self, address: str, number: int, record: Record) -> None:
        self.address, self.record = address, record
        self.answers: Counter[int] = Counter()
        self._headers = forwarded(f"abuser {number}")
        self._dice = random.Random(number)
        self._http = httpx.Client(base_url=address, timeout=60, headers=self._headers)

    def run(self, until: float) -> None:
        """Attack until then (`time.monotonic`)."""
        attacks: list[Callable[[], None]] = [
            self.flood,
            self.huge_body,
            self.deep_json,
            self.wrong_values,
            self.broken_upload,
            self.pages_without_listeners,
        ]
        while time.monotonic() < until:
            attack = self._dice.choice(attacks)
            try:
                attack()
            except httpx.TimeoutException:
                self.record.failed(f"abuse, {attack.__name__}: no answer within a minute")
            except (httpx.HTTPError, OSError, RuntimeError):
                time.sleep(0.2)  # refused in the middle of it: as it should be

    def flood(self) -> None:
        """More events of one page than it may have, never listened to."""
        client = Client(self.address, self._headers)
        with contextlib.closing(client):
            event = next(event for event in client.events if event["backend_fn"] and len(event["inputs"]) > 5)
            for _ in range(FLOOD):
                data = [client.values.get(place) for place in event["inputs"]]
                self._post(json.dumps({"data": data, "fn_index": event["id"], "session_hash": client.page}).encode())

    def huge_body(self) -> None:
        """A body far above the limit."""
        self._post(b'{"data": ["' + b"x" * HUGE + b'"]}')

    def deep_json(self) -> None:
        """Brackets in brackets."""
        self._post(b"[" * 200_000)

    def wrong_values(self) -> None:
        """Events of every number, with values of every kind."""
        kinds = [None, "", -1, 1e308, True, [], {}, ["x" * 1000] * 100, {"__type__": "update"}]
        for number in range(0, 200, 7):
            data = [self._dice.choice(kinds) for _ in range(self._dice.randrange(60))]
            self._post(json.dumps({"data": data, "fn_index": number, "session_hash": uuid.uuid4().hex[:11]}).encode())

    def broken_upload(self) -> None:
        """An upload that ends in the middle."""
        place = urlsplit(self.address)
        with socket.create_connection((place.hostname or "127.0.0.1", place.port or 80), timeout=10) as line:
            line.sendall(
                b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                b"Content-Length: 5000000\r\n\r\n--b\r\nContent-Disposition: form-data; name=files; filename=a.png\r\n"
                b"Content-Type: image/png\r\n\r\n" + b"x" * 100_000
            )
            time.sleep(0.1)

    def pages_without_listeners(self) -> None:
        """Many pages that are opened and left at once."""
        for _ in range(5):
            with contextlib.closing(Client(self.address, self._headers)) as client:
                for event in client.events:
                    if any(name == "load" for _, name in event["targets"]) and event["backend_fn"]:
                        data = [client.values.get(place) for place in event["inputs"]]
                        body = {"data": data, "fn_index": event["id"], "session_hash": client.page}
                        self._post(json.dumps(body).encode())

    def _post(self, body: bytes) -> None:
        answer = self._http.post("/gradio_api/queue/join", content=body, headers={"content-type": "application/json"})
        self.answers[answer.status_code] += 1
        if answer.status_code >= 500 and answer.status_code != 503:
            self.record.failed(f"abuse: the server failed with {answer.status_code}: {answer.text[:100]}")
