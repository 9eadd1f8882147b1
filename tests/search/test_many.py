"""The comparison over subsets of tasks: the same for all, reproducible, and its figures those of merges one by one."""

# ruff: noqa: F811  (fixtures of another folder, taken by name)
from __future__ import annotations

import json

import pytest

import neuromerge
from neuromerge.engine.engine import Engine
from neuromerge.engine.executor import Executor
from neuromerge.errors import SettingError
from neuromerge.evaluation import accuracy
from neuromerge.progress import Job
from neuromerge.search.many import compare_subsets
from neuromerge.search.subsets import paired_difference, random_subsets, share_of_the_way
from tests.evaluation.conftest import family, family_folder  # noqa: F401

NAMES = ["ties", "task_arithmetic", "average", "neuromerging_balanced"]


@pytest.fixture(scope="module")
def scorer(family):
    return Engine({family.name: family}, executor=Executor(1)).of(family.name).models


@pytest.fixture(scope="module")
def found(scorer):
    seen = []
    result = compare_subsets(
        scorer,
        compared=NAMES,
        subsets=3,
        budget=2,
        seed=5,
        job=Job(lambda done, total, what: seen.append((done, total))),
    )
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]
    return result


def test_every_row_has_every_subset(found, family):
    assert found.subsets == random_subsets(tuple(family.tasks), 3, 5)
    kinds = [(row.name, row.kind) for row in found.rows]
    assert kinds == [
        *((name, kind) for name in NAMES[:2] for kind in ("default", "retention", "validation")),
        ("average", "default"),
        *(("neuromerging_balanced", kind) for kind in ("default", "retention", "validation")),
    ]
    for row in found.rows:
        assert len(row.accuracy) == len(row.way) == len(row.hyperparameters) == len(found.subsets)
        assert row.mean == pytest.approx(sum(row.accuracy) / len(row.accuracy))


def test_figures_are_those_of_merges_made_one_by_one(found, family):
    for place, subset in enumerate(found.subsets):
        experts = {task: family.experts[task] for task in subset}
        base = accuracy.evaluate(family.base, list(subset), family=family, experts=False)
        best = [accuracy.evaluate(family.experts[task], [task], family=family)[task].accuracy for task in subset]
        zero, full = base.mean, sum(best) / len(best)
        for row in found.rows:
            method = {"neuromerging_balanced": "neuromerging"}.get(row.name, row.name)
            merged = neuromerge.merge(family.base, experts, method, seed=5, **row.hyperparameters[place])
            alone = accuracy.evaluate(merged, list(subset), family=family, experts=False).mean
            assert row.accuracy[place] == pytest.approx(alone)
            assert row.way[place] == pytest.approx(share_of_the_way(row.accuracy[place], zero, full), nan_ok=True)


def test_differences_are_to_task_arithmetic_as_published(found):
    reference = next(row for row in found.rows if (row.name, row.kind) == ("task_arithmetic", "default"))
    assert reference.difference is None
    for row in found.rows:
        if row is not reference:
            assert row.difference == paired_difference(row.way, reference.way)


def test_text_and_json(found):
    text = found.to_markdown()
    assert "| Task arithmetic | " in text
    assert "(reference)" in text
    assert "Seed 5" in text
    assert json.loads(found.to_json())["subsets"] == [list(subset) for subset in found.subsets]


def test_what_cannot_be_compared(scorer, family):
    with pytest.raises(SettingError, match="two tasks"):
        compare_subsets(scorer, list(family.tasks)[:1])
    with pytest.raises(SettingError, match="at least one subset"):
        compare_subsets(scorer, subsets=0)
