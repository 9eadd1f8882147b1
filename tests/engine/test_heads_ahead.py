"""Heads of tasks are made while their experts still come, by a process that asks the Hub for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from neuromerge.checkpoints import load_checkpoint
from neuromerge.engine import downloads as downloads_module
from neuromerge.engine.downloads import Downloads
from neuromerge.engine.parts import parts_of
from neuromerge.evaluation import heads
from neuromerge.evaluation.families import families
from neuromerge.evaluation.heads import Heads
from neuromerge.evaluation.towers import TextModel
from neuromerge.exploration.workspace import Workspace
from neuromerge.progress import UNATTENDED
from neuromerge.settings.choices import make_setting
from tests.evaluation.hub_stand_in import HubStandIn
from tests.exploration.test_kept_embeddings import publish
from tests.interface.test_hub_whole import tiny_family

PATIENCE = 120.0


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with tiny_family(tmp_path, monkeypatch, lambda hub, name, seed: publish(hub, tmp_path, name, seed)) as running:
        yield running


def wait_for_heads(downloads: Downloads, folder: Path, count: int) -> None:
    """Until so many heads are made, and all that is wanted is here."""
    end = time.monotonic() + PATIENCE
    while (
        len(list((folder / "kept" / "heads").glob("*.npy"))) < count
        or (found := downloads.state("ann")) is None
        or not found.is_whole
    ):
        assert time.monotonic() < end, "they never came"
        time.sleep(0.05)


def test_heads_are_there_before_the_first_score_asks_for_them(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "families" / "tasks" / "two.yaml"
    other.write_text(other.read_text().replace("[dog, cat]", "[cat, dog]"))
    family, downloads = families()["tiny-hub"], Downloads()
    tasks = list(family.experts)
    assert downloads.want("ann", parts_of(family, tasks[:1])) is not None
    wait_for_heads(downloads, tmp_path, 1)
    # Another task is chosen, whose base is here already.
    assert downloads.want("ann", parts_of(family, tasks)) is not None
    wait_for_heads(downloads, tmp_path, 2)
    downloads.close()
    text = TextModel.from_checkpoint(load_checkpoint(family.base))
    monkeypatch.setattr(TextModel, "encode", lambda self, texts: pytest.fail("it was made ahead"))
    for task in tasks:
        spec = family.task(task)
        head = Heads(slow_products=1).head(text, spec.classes, spec.templates, keep=True)
        assert head.shape[0] == len(spec.classes)


@pytest.mark.parametrize("patience", [PATIENCE, 0.0])
def test_who_asks_for_a_head_that_is_being_made_waits_for_it_but_not_for_ever(
    hub: HubStandIn, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(heads, "_shared", Heads(slow_products=1))
    monkeypatch.setattr(downloads_module, "_HEAD_SECONDS", patience)
    family, downloads, made, encode = families()["tiny-hub"], Downloads(), [], TextModel.encode

    def counting(self: TextModel, texts: Sequence[str]) -> torch.Tensor:
        made.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(TextModel, "encode", counting)
    setting = make_setting(family)
    workspace = Workspace({family.name: family}, downloads=downloads)
    workspace.want(setting, "ann")
    base, *experts = parts_of(family, setting.tasks)[: 1 + len(setting.tasks)]
    # Its heads are being made, or already there, when all weights have come; certainly not yet when the base just has.
    end, awaited = time.monotonic() + PATIENCE, [base, *experts] if patience else [base]
    while not all(downloads.here(part) for part in awaited):
        assert time.monotonic() < end, "they never came"
        time.sleep(0.01)
    models = workspace.engine.of(family.name).models
    if patience:
        asked: list[bool] = []
        is_there = models.wait_for_head("one", UNATTENDED, lambda: bool(asked.append(True) or asked))
        assert is_there != bool(asked), "it is there, or the wait was ended"
    head = models.head("one")
    downloads.close()
    assert head.shape[0] == 2
    assert bool(made) == (patience == 0.0)
