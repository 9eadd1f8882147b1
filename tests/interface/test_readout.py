from __future__ import annotations

from dataclasses import replace

import pytest

from neuromerge.interface.components.readout import readout, unreadable_notice
from neuromerge.interface.components.tables import accuracy_table
from neuromerge.settings.choices import make_setting
from tests.interface.fakes import FakeWorkspace, family


def test_what_could_not_be_measured_is_said_with_its_reason() -> None:
    setting, workspace = make_setting(family()), FakeWorkspace()
    board, summary = workspace.board(setting), workspace.summary(setting)
    assert "Not measured" not in readout(setting, board, summary)
    told = readout(setting, replace(board, unmeasured={"flags": "The file <flags> is cut.", "food": "Too."}), summary)
    assert "Not measured: flags, food. The file &lt;flags&gt; is cut." in told


@pytest.mark.parametrize(("kept", "past"), [(0.85, False), (1.0000001, False), (1.6, True)])
def test_what_tasks_keep_is_shown_with_its_meaning_and_where_the_sum_runs_away(kept: float, past: bool) -> None:
    setting, workspace = make_setting(family()), FakeWorkspace()
    board, summary = workspace.board(setting), workspace.summary(setting)
    retention = dict.fromkeys(setting.tasks, kept)
    strip = readout(setting, board, replace(summary, retention=retention))
    table = accuracy_table(board, {}, retention)
    for shown in (strip, table):
        assert f"a task keeps {100 * kept:.0f} % of what it learned" in shown
        assert ("runs past its experts" in shown) is past
    assert table.count(f"<td>{100 * kept:.0f} %</td>") == len(setting.tasks)


def test_where_it_is_not_known_nothing_is_said_of_it() -> None:
    setting, workspace = make_setting(family()), FakeWorkspace()
    board, summary = workspace.board(setting), workspace.summary(setting)
    assert "learned" not in readout(setting, board, replace(summary, retention={})) + accuracy_table(board, {}, {})


def test_a_family_that_cannot_be_offered_is_named_with_its_reason() -> None:
    notice = unreadable_notice({"<mine>": "tasks.json & more are missing."})
    assert "&lt;mine&gt;" in notice
    assert "tasks.json &amp; more are missing." in notice
