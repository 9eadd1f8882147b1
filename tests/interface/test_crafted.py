"""What no browser sends, sent all the same: every event answers in words, and none by a defect of ours."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from neuromerge.benchmarks.clients import Client

JUNK: list[Any] = [None, True, -1, 2.5, 1e9, "", "x", "NaN", "stem", "a" * 300, [], ["x"], [[]], {}, {"a": 1}]
SOURCES = ["parallel", "orthogonal", "neuron", "trial", "landscape", 3]


def spoilt(values: list[Any], dice: random.Random) -> list[Any]:
    """`values` with one of them, or a part of one, replaced."""
    values = list(values)
    if values:
        place = dice.randrange(len(values))
        if isinstance(values[place], list) and values[place] and dice.random() < 0.5:
            values[place] = spoilt(values[place], dice)
        else:
            values[place] = dice.choice(JUNK)
    return values


def said(dice: random.Random) -> Any:
    """What a browser might say about an event."""
    indices = {name: dice.choice(JUNK) for name in ("row", "column", "index", "place")}
    return dice.choice([None, "x", [1], {}, {"source": dice.choice(SOURCES), **indices}])


@pytest.mark.filterwarnings("ignore::UserWarning:gradio.*")  # messages to the visitor
def test_no_crafted_event_meets_a_defect(
    server: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a study's storage is a file that a visitor of one's own machine may name
    dice = random.Random(0)
    client = Client(server)
    client.load()
    for tab in ("interference", "zero_shot", "neuron"):
        client.fire(f"tab-{tab}", "select")
    asked = [event for event in client.events if event["backend_fn"]]
    assert len(asked) > 40
    for event in asked * 2:
        if event["queue"] is False:
            continue
        client.ask(event, spoilt([client.values.get(place) for place in event["inputs"]], dice), said(dice))
    client.close()
    failed = [record for record in caplog.records if record.name.startswith("neuromerge") and record.exc_info]
    assert failed == []
    assert client.value("readout")


@pytest.mark.parametrize("junk", [value for value in JUNK if value not in (None, "")])
def test_no_crafted_family_of_the_api_meets_a_defect(server: str, junk: Any) -> None:
    client = Client(server)
    (event,) = (event for event in client.events if event["api_name"] == "merge_summary")
    assert "There is no model family" in str(client.ask(event, [None, "ties", None, 0, junk]))
    client.close()
