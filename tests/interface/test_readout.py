from __future__ import annotations

from dataclasses import replace

from neuromerge.interface.components.readout import readout, unreadable_notice
from neuromerge.settings.choices import make_setting
from tests.interface.fakes import FakeWorkspace, family


def test_what_could_not_be_measured_is_said_with_its_reason() -> None:
    setting, workspace = make_setting(family()), FakeWorkspace()
    board, summary = workspace.board(setting), workspace.summary(setting)
    assert "Not measured" not in readout(setting, board, summary)
    told = readout(setting, replace(board, unmeasured={"flags": "The file <flags> is cut.", "food": "Too."}), summary)
    assert "Not measured: flags, food. The file &lt;flags&gt; is cut." in told


def test_a_family_that_cannot_be_offered_is_named_with_its_reason() -> None:
    notice = unreadable_notice({"<mine>": "tasks.json & more are missing."})
    assert "&lt;mine&gt;" in notice
    assert "tasks.json &amp; more are missing." in notice
