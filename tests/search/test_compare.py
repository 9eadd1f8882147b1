"""The comparison: the rules that make it fair, and its figures against merges made one by one."""

# ruff: noqa: F811  (fixtures of another folder, taken by name)
from __future__ import annotations

import json
import shutil

import pytest

import neuromerge
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.contents import Contents
from neuromerge.engine.engine import Engine
from neuromerge.engine.executor import Executor
from neuromerge.errors import Cancelled, SettingError
from neuromerge.evaluation import accuracy
from neuromerge.evaluation.families import local_family
from neuromerge.merging import methods
from neuromerge.merging.registry import check_values
from neuromerge.progress import Job
from neuromerge.search import compare as comparison
from neuromerge.search.entries import BUDGET, entries
from neuromerge.settings.choices import make_setting
from tests.evaluation.conftest import family, family_folder  # noqa: F401


@pytest.mark.parametrize("budget", [BUDGET, 6, 1])
def test_every_entry_gets_the_same_budget(budget):
    for entry in entries():
        settings = entry.grid(budget)
        assert len(settings) == (budget if entry.method.coefficients else 0)
        assert len({tuple(setting.items()) for setting in settings}) == len(settings)
        for setting in settings:
            values = check_values(entry.method, setting)
            assert setting in entry.grid()
            for name, value in entry.own.items():
                assert values[name] == value or name in entry.tuned


def test_retention_is_asked_of_every_method_with_a_coefficient():
    for entry in entries():
        assert (entry.retention is None) == (not entry.method.coefficients)
        if entry.retention is not None:
            assert "retention" in check_values(entry.method, entry.retention).values()


@pytest.fixture(scope="module")
def scorer(family):
    engine = Engine({family.name: family}, cache=BoundedCache(256 * 1024**2), executor=Executor(1))
    return engine.of(family.name).models


@pytest.fixture(scope="module")
def table(scorer):
    seen = []
    job = Job(lambda done, total, what: seen.append((done, total)))
    result = comparison.compare(scorer, budget=3, seed=3, job=job)  # the whole budget takes minutes
    assert seen[-1] == (seen[-1][1], seen[-1][1])
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    return result


def test_rows(table, family):
    kinds = [(row.name, row.kind) for row in table.rows]
    assert kinds[:2] == [("base", "base"), ("experts", "expert")]
    for name in ("neuromerging_balanced", *methods()):
        assert (name, "default") in kinds
        for kind in ("retention", "validation"):
            assert ((name, kind) in kinds) == (name != "average")
    experts = table.rows[1]
    for task in table.tasks:
        assert experts.accuracy[task] == accuracy.evaluate(family.experts[task], [task], family=family)[task].accuracy
    assert experts.normalised == pytest.approx(1.0)
    for row in table.rows:
        assert row.mean_interval[0] <= row.mean <= row.mean_interval[1]


@pytest.mark.slow
def test_rows_are_the_merges_they_say_they_are(table, family):
    of = {entry.name: entry.method.name for entry in entries()}
    for row in table.rows[2:]:
        given = {name: value for name, value in row.hyperparameters.items() if value != "auto"}
        merged = neuromerge.merge(family.base, list(family.experts.values()), of[row.name], seed=3, **given)
        checked = accuracy.evaluate(merged, family=family, experts=False)
        assert {r.task: r.accuracy for r in checked.rows} == row.accuracy, row


@pytest.mark.slow
def test_the_best_on_validation_was_chosen_by_the_merge_it_names(table, family):
    for row in table.rows:
        if row.kind != "validation":
            continue
        (entry,) = entries([row.name])
        tried = entry.grid(3)
        assert row.tried == len(tried)
        scores = []
        for values in tried:
            merged = neuromerge.merge(family.base, list(family.experts.values()), entry.method.name, seed=3, **values)
            scores.append(accuracy.evaluate(merged, split="validation", family=family, experts=False).mean)
        assert row.validation == pytest.approx(max(scores))
        assert row.hyperparameters == tried[scores.index(max(scores))], "the first of equals"


def test_markdown_and_json(table, family):
    text = table.to_markdown()
    titles = {row.title for row in table.rows}
    assert text.count("\n| ") == len(titles) + 1 + len(table.rows)
    for title in titles:
        assert f"| {title} |" in text
    assert "published default | retention 1 | chosen on validation" in text
    assert "95 % interval" in text
    assert "*validation*: " in text
    assert json.loads(table.to_json())["sources"] == family.commits(table.tasks)
    rows = json.loads(table.to_json())["rows"]
    assert rows[0]["kind"] == "base"
    assert rows[2]["parameters"] == table.rows[2].hyperparameters


def test_unknown_names_are_refused(scorer):
    with pytest.raises(SettingError, match="no task"):
        comparison.compare(scorer, ["cars"])
    with pytest.raises(SettingError, match=r"no merge method .*neuromerging_balanced"):
        comparison.compare(scorer, method_names=["magic"])
    with pytest.raises(SettingError, match="at least one"):
        comparison.compare(scorer, [])


def test_what_was_left_out_of_the_pictures_is_told(scorer, monkeypatch):
    """Of the split of the rows, and of validation where it chooses; each once."""
    asked = []

    def notes(tasks, splits):
        asked.append((tuple(tasks), splits))
        return ("animals: 1 file is left out: x.png (it is torn).",)

    monkeypatch.setattr(scorer, "notes", notes)
    found = comparison.compare(scorer, None, ["average"], tuned=False, split="validation")
    assert asked == [(found.tasks, ("validation",))]
    assert "Note: animals: 1 file is left out" in found.to_markdown()
    assert json.loads(found.to_json())["notes"] == list(found.notes)
    assert comparison.looked_at("test", True) == ("test", "validation")


def test_notes_of_a_folder_with_a_torn_picture_reach_the_table(tiny, tmp_path):
    folder = shutil.copytree(tiny.folder, tmp_path / "torn")
    (next(path for path in sorted((folder / "samples" / "shapes").rglob("*.png"))).parent / "zz.png").write_bytes(b"x")
    family = local_family(folder)
    engine = Engine({family.name: family}, cache=BoundedCache(64 * 1024**2), executor=Executor(1))
    models = engine.of(family.name).models
    (note,) = (note for note in models.notes(("shapes",), ("validation", "test")) if "zz.png" in note)
    assert note.startswith("shapes: 1 file is left out")


def test_what_was_measured_stays_when_a_comparison_is_stopped(scorer):
    class Stopping(Job):
        def report(self, done, total, what):
            if what.startswith("TIES"):
                self.stop()

    found = comparison.compare(scorer, method_names=["average", "ties", "task_arithmetic"], tuned=False, job=Stopping())
    assert (found.done, found.entries) == (1, 3)
    assert [row.name for row in found.rows] == ["base", "experts", "average"]
    assert "Stopped after 1 of 3 methods." in found.to_text()
    with pytest.raises(Cancelled):
        comparison.compare(scorer, method_names=["ties"], job=Job(deadline_seconds=-1))


def test_a_comparison_grows_method_by_method_with_a_row_of_ones_own(scorer):
    given = make_setting(scorer.family, None, "ties", {"scale": 0.4})
    names = ["average", "task_arithmetic"]
    tables = list(comparison.growing(scorer, None, names, given=given, tuned=False, split="quick"))
    assert [table.done for table in tables] == [0, 1, 2]
    assert {table.entries for table in tables} == {2}
    last = tables[-1]
    for table in tables:
        assert table.rows == last.rows[: len(table.rows)]
    kinds = ["base", "expert", "given", "default", "default", "retention"]
    assert [row.kind for row in last.rows] == kinds
    assert [row.method for row in last.rows] == ["", "", "ties", "average", "task_arithmetic", "task_arithmetic"]
    scores = scorer.scores(Contents(setting=given), last.tasks, "quick")
    assert last.rows[2].accuracy == {task: score.value for task, score in scores.items()}
    assert comparison.compare(scorer, None, names, tuned=False, split="quick").rows == last.rows[:2] + last.rows[3:]
    assert "This merge" in last.to_markdown()
