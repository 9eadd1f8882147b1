"""The load command's client follows the page's events as a browser does."""

from __future__ import annotations

import random
import re
import time

from neuromerge.benchmarks.load import ORTHOGONAL, Client, Record, visit_once


def test_a_moved_slider_is_answered_and_settled(server: str) -> None:
    client = Client(server)
    assert client.load() == []
    assert client.seconds_until("readout") is not None
    assert client.move(ORTHOGONAL, 1.25) == []
    assert "lambda_orthogonal 1.25" in str(client.value("readout"))
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
    assert "lambda_orthogonal 1000000000" not in str(client.value("readout"))
    client.close()
