"""Downloads beside the app: shared, stopped, resumed, told; from a stand-in for the Hub, in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from neuromerge.engine.downloads import Downloads, Fetching
from neuromerge.engine.parts import Part
from neuromerge.errors import BeingFetched
from tests.evaluation.hub_stand_in import HubStandIn, served

PATIENCE = 90.0
ENTRIES = 1_500_000
BASE = Part("", "Family", "hub:org/base/model.safetensors@main")
EXPERT = Part("one", "One", "hub:org/one/model.safetensors@main")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with served(monkeypatch, tmp_path / "cache") as running:
        for number, name in enumerate(("org/base", "org/one")):
            weights = save({"layer.weight": torch.full((ENTRIES,), float(number))})
            running.publish(name, {"config.json": b"{}", "model.safetensors": weights, "flax_model.msgpack": b"f"})
        yield running


@pytest.fixture
def downloads() -> Iterator[Downloads]:
    made = Downloads()
    yield made
    made.close()


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.05)


def state(downloads: Downloads, who: str) -> Fetching:
    found = downloads.state(who)
    assert found is not None
    return found


def test_one_download_serves_all_who_want_it_and_its_size_is_known_before(hub, downloads):
    assert downloads.want("ann", [BASE, EXPERT]) is not None
    assert downloads.want("bob", [EXPERT]) is not None
    until(lambda: state(downloads, "ann").is_over and state(downloads, "bob").is_over)
    whole = state(downloads, "ann")
    assert whole.is_whole
    assert whole.done == whole.total > 2 * 4 * ENTRIES
    assert sorted(hub.fetched) == ["config.json", "config.json", "model.safetensors", "model.safetensors"]
    sizes = max(number for number, path in enumerate(hub.asked) if "/tree/" in path)
    assert not any("/resolve/" in path for path in hub.asked[:sizes]), "sizes are asked for before anything is fetched"
    assert downloads.want("eve", [BASE, EXPERT]) is None
    assert downloads.require(BASE) == f"hub:org/base/model.safetensors@{hub.refs['org/base']['main']}"


def test_a_stopped_download_ends_at_once_and_goes_on_where_it_was(hub, downloads):
    hub.rate = 1.5e6
    downloads.want("ann", [EXPERT])
    with pytest.raises(BeingFetched):
        downloads.require(EXPERT)
    until(lambda: state(downloads, "ann").done > 1_000_000)
    downloads.stop("ann")
    time.sleep(1.0)
    sent = hub.sent
    time.sleep(1.0)
    assert hub.sent == sent, "nothing is sent any more"
    assert state(downloads, "ann").stopped
    hub.rate = 0.0
    downloads.resume("ann")
    until(lambda: state(downloads, "ann").is_whole)
    assert hub.sent < 4 * ENTRIES + 2_500_000, "what had come was not fetched again"


def test_who_leaves_wants_nothing_any_more(hub, downloads):
    hub.rate = 1.5e6
    there = True
    downloads.want("ann", [EXPERT], lambda: there)
    until(lambda: state(downloads, "ann").done > 500_000)
    there = False
    until(lambda: downloads.state("ann") is None)
    until(lambda: not hub_is_busy(hub))


def hub_is_busy(hub: HubStandIn) -> bool:
    sent = hub.sent
    time.sleep(0.6)
    return hub.sent != sent


def test_an_expert_that_cannot_be_had_does_not_stop_the_rest(hub, downloads):
    hub.faults.append(["/api/models/org/one", 403, {}, 1])
    downloads.want("ann", [BASE, EXPERT])
    until(lambda: state(downloads, "ann").is_over)
    base, expert = state(downloads, "ann").items
    assert base.state == "done"
    assert expert.state == "failed"
    assert "403 Forbidden" in expert.why
    downloads.resume("ann")
    until(lambda: state(downloads, "ann").is_whole)


def test_a_pause_that_the_hub_asks_for_is_told(hub, downloads):
    hub.faults.append(["/api/models/org/one", 429, {"Retry-After": "2"}, 1])
    downloads.want("ann", [EXPERT])
    until(lambda: "waiting 2 s" in state(downloads, "ann").items[0].why)
    until(lambda: state(downloads, "ann").is_whole)
