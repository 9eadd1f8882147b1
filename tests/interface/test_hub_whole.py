"""The whole way of a family from the Hub: chosen in a browser, fetched, merged, scored, and there again without net."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants

from neuromerge.engine.downloads import Downloads
from neuromerge.evaluation.families import families
from neuromerge.exploration.workspace import Workspace
from neuromerge.interface.loader import WorkspaceLoader
from tests.evaluation.hub_stand_in import HubStandIn, served
from tests.evaluation.networks import save_transformers
from tests.evaluation.parquet_files import table_of
from tests.interface.conftest import Visitor, serving

FAMILY = """
title: Tiny from the Hub
online: true
base: {source: "hub:org/base@main", file: model.safetensors}
experts:
  one: {source: "hub:org/one@main", file: model.safetensors}
  two: {source: "hub:org/two@main", file: model.safetensors}
"""
TASK = """
title: Task {name}
classes: [dog, cat]
templates: ["a photo of the {{}}"]
samples: {{kind: hub, dataset: org/{name}-pictures}}
"""


@contextmanager
def tiny_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: Callable[[HubStandIn, str, int], None]
) -> Iterator[HubStandIn]:
    """A stand-in with the family of base, one and two, whose weights `publish(hub, name, seed)` puts there."""
    described = tmp_path / "families"
    (described / "tasks").mkdir(parents=True)
    (described / "tiny-hub.yaml").write_text(FAMILY)
    monkeypatch.setenv("NEUROMERGE_FAMILIES", str(described))
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path / "kept"))
    with served(monkeypatch, tmp_path / "cache") as running:
        for seed, name in enumerate(("base", "one", "two")):
            publish(running, name, seed)
        for name in ("one", "two"):
            (described / "tasks" / f"{name}.yaml").write_text(TASK.format(name=name))
            running.publish(f"datasets.org/{name}-pictures", {"data/test-0-of-1.parquet": table_of(np.arange(80) % 2)})
        yield running


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    def publish(running: HubStandIn, name: str, seed: int) -> None:
        folder = tmp_path / name
        save_transformers(folder, seed=seed)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        running.publish(f"org/{name}", {**files, "flax_model.msgpack": b"twin", "README.md": b"#"})

    with tiny_family(tmp_path, monkeypatch, publish) as running:
        yield running


def page() -> Any:
    """The page over a workspace of its own, as after a start of the app."""
    return serving(WorkspaceLoader(lambda: Workspace(families(), downloads=Downloads())), families())


def test_a_family_is_chosen_fetched_merged_and_there_again_without_network(
    chromium: Any, hub: HubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    hub.rate = 40_000
    with page() as address:
        visitor = Visitor(chromium, address)
        opened = visitor.open()
        assert hub.asked == [], "nothing is asked for before somebody wants it"
        opened.locator("#family input").click()
        opened.get_by_role("option", name="Tiny from the Hub").click()
        expect(opened.locator("#fetching")).to_contain_text("for base and 2 experts")
        expect(opened.locator("#tabs")).to_be_hidden()
        hub.rate = 0.0
        expect(opened.locator("#readout")).to_contain_text("2 tasks")
        expect(opened.locator("#readout .nm-score-value")).to_be_visible()
        expect(opened.locator("#fetching")).to_be_hidden()
        visitor.context.close()
        assert visitor.complaints == []
    counts = Counter(hub.fetched)
    assert counts["model.safetensors"] == 3, "each model once"
    assert not {"flax_model.msgpack", "README.md"} & set(counts)
    asked = len(hub.asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with page() as address:
        visitor = Visitor(chromium, address)
        opened = visitor.open("v=1&f=tiny-hub")
        expect(opened.locator("#readout")).to_contain_text("2 tasks")
        visitor.context.close()
        assert visitor.complaints == []
    assert len(hub.asked) == asked, "nothing more is asked for"
