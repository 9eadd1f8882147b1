"""What is recalled at the start of a server is what a fresh page asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from neuromerge.deployment import Limits
from neuromerge.exploration.results import AccuracyBoard
from neuromerge.interface import app
from neuromerge.interface.flow import Flow
from neuromerge.interface.loader import WorkspaceLoader
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.setting import Setting
from tests.interface import fakes

FAMILY = fakes.family()
Asked = list[tuple[str, Setting, Setting | None]]


class Recording(fakes.FakeWorkspace):
    """Notes in order what it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Asked = []

    def recall(self, setting: Setting, compared: Setting) -> bool:
        self.asked.append(("recall", setting, compared))
        return True

    def prepare(self, setting: Setting, compared: Setting, job: Job = UNATTENDED) -> None:
        self.asked.append(("prepare", setting, compared))

    def board(
        self, setting: Setting, split: str = "quick", pinned: Setting | None = None, *more: Any, **named: Any
    ) -> AccuracyBoard:
        self.asked.append((f"board {split}", setting, pinned))
        return super().board(setting, split, pinned, *more, **named)


def test_a_fresh_page_finds_what_was_recalled(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Recording()
    families = {FAMILY.name: FAMILY}
    monkeypatch.setenv("NEUROMERGE_KERNELS", "off")
    monkeypatch.setattr(app, "make_workspace", lambda: workspace)
    loader = WorkspaceLoader(lambda: app.opening_workspace(families))
    with gr.Blocks(analytics_enabled=False):
        page, _ = app.lay_out(loader, families, Limits())
    request = SimpleNamespace(session_hash="page", query_params={})
    Flow(page).open_page(cast(gr.Request, request), gr.EventData(None, {}))
    app.warm_up(loader, families).join()
    recalled, opened, prepared = workspace.asked
    assert [what for what, *_ in workspace.asked] == ["recall", "board quick", "prepare"]
    assert recalled[1:] == opened[1:] == prepared[1:]
