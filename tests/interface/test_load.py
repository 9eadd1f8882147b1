"""The load command's client follows the page's events as a browser does."""

from __future__ import annotations

import random
import re
import threading
import time
from pathlib import Path

import pytest

from neuromerge.benchmarks.abuser import Abuser
from neuromerge.benchmarks.clients import Client, Record
from neuromerge.benchmarks.load import ORTHOGONAL, visit_once
from neuromerge.errors import StorageError
from tests.interface.fakes import FakeWorkspace


def test_a_moved_slider_is_answered_and_settled(server: str) -> None:
    client = Client(server)
    assert client.load() == []
    assert client.seconds_until("readout") is not None
    assert client.move(ORTHOGONAL, 1.25) == []
    assert "λ₂ (orthogonal) 1.25" in str(client.value("readout"))
    assert client.value(f"{ORTHOGONAL}-auto") is False
    quick, whole = client.seconds_until("readout"), time.perf_counter() - client.begun
    assert quick is not None
    assert quick + 0.5 < whole  # the page rests before it settles
    assert client.fire("tab-interference", "select") == []
    assert client.seconds_of("tab-interference", "select") > 0
    client.close()


def test_a_whole_visit_goes_without_errors_or_mix_ups(server: str) -> None:
    record = Record()
    visit_once(server, random.Random(3), time.monotonic() + 6, record, leaves_abruptly=True)
    assert record.errors == []
    assert record.crossed == 0
    assert record.seconds["move lambda: quick answer"]
    assert all(re.match("open|move|export", what) for what in record.seconds)


def test_an_illegal_value_is_reported_and_not_counted_as_an_answer(server: str) -> None:
    client = Client(server)
    client.load()
    client.move(ORTHOGONAL, 1e9)
    assert "λ₂ (orthogonal) 1000000000" not in str(client.value("readout"))
    client.close()


def test_a_full_disk_is_told_without_the_servers_folders(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, setting: object, layout: str, directory: Path, *, job: object) -> None:
        raise StorageError(f"{directory}: the disk has 0.00 GB free.")

    client = Client(server)
    client.load()
    monkeypatch.setattr(FakeWorkspace, "export", full)
    problems = client.fire("make-checkpoint", "click")
    assert len(problems) == 1
    assert "server's disk is full" in problems[0]
    assert "neuromerge-export-" not in problems[0]
    monkeypatch.undo()
    assert client.fire("make-checkpoint", "click") == []
    assert "is ready" in client.value("export-note")
    client.close()


def test_an_abuser_is_refused_and_a_visitor_notices_nothing(server: str) -> None:
    record, until = Record(), time.monotonic() + 8
    abuser = Abuser(server, 1, record)
    attacks = threading.Thread(target=abuser.run, args=(until,), daemon=True)
    attacks.start()
    visit_once(server, random.Random(4), until, record, leaves_abruptly=False)
    attacks.join(60)
    assert record.errors == []
    assert record.crossed == 0
    assert any(status in abuser.answers for status in (413, 422, 429))
    assert not any(status >= 500 for status in abuser.answers if status != 503)
