"""The comparison: the rules that make it fair, and its figures against merges made one by one."""

# ruff: noqa: F811  (fixtures of another folder, taken by name)
from __future__ import annotations

import json

import pytest

import neuromerge
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
def table(family):
    seen = []
    whole = comparison.grid
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "grid", lambda method: whole(method)[::24])  # the whole grid takes minutes
        result = comparison.compare(family, seed=3, job=Job(lambda done, total, what: seen.append((done, total))))
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


def test_the_search_sees_the_merges_it_scores(family):
    """Multiplying unit changes gives what the merge itself gives."""
    bench = comparison._Bench.open(family, list(family.tasks), "validation", True, 0)
    for name in ("neuromerging", "ties", "task_arithmetic"):
        method = get_method(name)
        settings = comparison.grid(method)[20:24]
        for setting in bench._written(method, settings):
            got = {name: weight.clone() for name, weight in bench.model.weights.items()}
            bench.merge(method, setting)
            for parameter, weight in bench.model.weights.items():
                assert (weight - got[parameter]).abs().max() < 1e-4, (name, parameter)


def test_markdown_and_json(table):
    text = table.to_markdown()
    assert text.count("\n| ") == len(table.rows)
    assert "95 % interval" in text
    assert "*validation*: " in text
    assert json.loads(table.to_json())["rows"][0]["kind"] == "base"


def test_unknown_names_are_refused(family):
    with pytest.raises(SettingError, match="no expert"):
        comparison.compare(family, ["cars"])
    with pytest.raises(SettingError, match="no merge method"):
        comparison.compare(family, method_names=["magic"])
