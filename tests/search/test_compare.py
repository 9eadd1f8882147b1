"""The comparison: the rules that make it fair, and its figures against merges made one by one."""

# ruff: noqa: F811  (fixtures of another folder, taken by name)
from __future__ import annotations

import json

import pytest

import neuromerge
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.engine import Engine
from neuromerge.engine.executor import Executor
from neuromerge.errors import SettingError
from neuromerge.evaluation import accuracy
from neuromerge.merging import methods
from neuromerge.merging.registry import check_values, get_method
from neuromerge.progress import Job
from neuromerge.search import compare as comparison
from tests.evaluation.conftest import family, family_folder  # noqa: F401


def test_every_tuned_method_gets_the_same_budget():
    sizes = {name: len(comparison.grid(method)) for name, method in methods().items()}
    assert sizes.pop("average") == 0
    assert set(sizes.values()) == {comparison.BUDGET}
    for name in sizes:
        method = get_method(name)
        for setting in comparison.grid(method):
            check_values(method, setting)


@pytest.fixture(scope="module")
def scorer(family):
    engine = Engine({family.name: family}, cache=BoundedCache(256 * 1024**2), executor=Executor(1))
    return engine.of(family.name).models


@pytest.fixture(scope="module")
def table(scorer):
    seen = []
    whole = comparison.grid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "grid", lambda method: whole(method)[::24])  # the whole grid takes minutes
        result = comparison.compare(scorer, seed=3, job=Job(lambda done, total, what: seen.append((done, total))))
    assert seen[-1] == (seen[-1][1], seen[-1][1])
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    return result


def test_rows(table, family):
    kinds = [(row.name, row.kind) for row in table.rows]
    assert kinds[:2] == [("base", "base"), ("experts", "expert")]
    for name in methods():
        assert (name, "default") in kinds
        assert ((name, "validation") in kinds) == (name != "average")
    experts = table.rows[1]
    for task in table.tasks:
        assert experts.accuracy[task] == accuracy.evaluate(family.experts[task], [task], family=family)[task].accuracy
    assert experts.normalised == pytest.approx(1.0)
    for row in table.rows:
        assert row.mean_interval[0] <= row.mean <= row.mean_interval[1]


def test_rows_are_the_merges_they_say_they_are(table, family):
    for row in table.rows[2:]:
        given = {name: value for name, value in row.hyperparameters.items() if value != "auto"}
        merged = neuromerge.merge(family.base, list(family.experts.values()), row.name, seed=3, **given)
        checked = accuracy.evaluate(merged, family=family, experts=False)
        assert {r.task: r.accuracy for r in checked.rows} == row.accuracy, row


def test_the_best_on_validation_was_chosen_by_the_merge_it_names(table, family):
    for row in table.rows:
        if row.kind != "validation":
            continue
        method = get_method(row.name)
        tried = comparison.grid(method)[::24]
        assert row.tried == len(tried)
        scores = []
        for values in tried:
            merged = neuromerge.merge(family.base, list(family.experts.values()), row.name, seed=3, **values)
            scores.append(accuracy.evaluate(merged, split="validation", family=family, experts=False).mean)
        assert row.validation == pytest.approx(max(scores))
        assert row.hyperparameters == tried[scores.index(max(scores))], "the first of equals"


def test_markdown_and_json(table):
    text = table.to_markdown()
    assert text.count("\n| ") == len(table.rows)
    assert "95 % interval" in text
    assert "*validation*: " in text
    rows = json.loads(table.to_json())["rows"]
    assert rows[0]["kind"] == "base"
    assert rows[2]["parameters"] == table.rows[2].hyperparameters


def test_unknown_names_are_refused(scorer):
    with pytest.raises(SettingError, match="no task"):
        comparison.compare(scorer, ["cars"])
    with pytest.raises(SettingError, match="no merge method"):
        comparison.compare(scorer, method_names=["magic"])
    with pytest.raises(SettingError, match="at least one"):
        comparison.compare(scorer, [])
