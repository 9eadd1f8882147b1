from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.merging.registry import get_method
from neuromerge.settings import choices
from neuromerge.settings.choices import History, change, check_seed, make_setting


def test_equal_choices_in_another_order_make_equal_settings(family):
    first = make_setting(family, ["styles", "digits"], "ties", {}, seed="3")
    second = make_setting(family, ("digits", "styles"), "ties", None, seed=3)
    assert first == second
    assert hash(first) == hash(second)
    assert first.tasks == ("digits", "styles")


def test_defaults_are_filled_in_so_that_spelling_them_out_changes_nothing(family):
    bare = make_setting(family)
    assert bare.tasks == tuple(family.experts)
    assert make_setting(family, None, bare.method, dict(bare.hyperparameters)) == bare
    assert bare.hyperparameters == tuple(sorted(bare.hyperparameters))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "at least one task"),
        (["digits", "digits"], "twice"),
        (["nothing"], "no task 'nothing'"),
        ("digits", "list of names"),
        (7, "list of names"),
        ([["digits"]], "no task"),
    ],
)
def test_impossible_task_choices_are_explained(family, tasks, message):
    with pytest.raises(SettingError, match=message):
        make_setting(family, tasks)


@pytest.mark.parametrize(
    "hyperparameters",
    [{"trim_ratio": 1.0}, {"trim_ratio": float("nan")}, {"trim_ratio": "a"}, {"no_such": 1}, {3: 4}, [1]],
)
def test_illegal_parameters_are_explained(family, hyperparameters):
    with pytest.raises(SettingError):
        make_setting(family, None, "neuromerging", hyperparameters)


@pytest.mark.parametrize("method", ["no_such", None, 3, [], {}])
def test_unknown_methods_are_explained(family, method):
    with pytest.raises(SettingError, match="no merge method"):
        make_setting(family, None, method)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, float("inf"), float("nan"), True, None, "x", [], "1e400"])
def test_illegal_seeds_are_explained(seed):
    with pytest.raises(SettingError, match="whole number"):
        check_seed(seed)


@pytest.mark.parametrize("seed", [0, 7, 7.0, "7", 2**32 - 1])
def test_legal_seeds(seed):
    assert check_seed(seed) == int(seed)


def test_change_checks_again(family):
    setting = make_setting(family)
    assert change(setting, family, lambda_orthogonal=1.5).value("lambda_orthogonal") == 1.5
    with pytest.raises(SettingError):
        change(setting, family, trim_ratio=2)


def test_every_preset_makes_a_legal_setting(family):
    start = make_setting(family, ["flags", "digits"], seed=5)
    for preset in choices.PRESETS:
        setting = preset.apply(start, family)
        assert setting.tasks == start.tasks
        assert setting.seed == 5
        assert choices.preset(preset.key) is preset
        assert choices.describe(setting)
    with pytest.raises(SettingError, match="no preset"):
        choices.preset("other")


def test_the_page_opens_with_a_preset_and_the_librarys_default_stays_the_published_method(family):
    opening = choices.opening_setting(family)
    assert opening == choices.preset(choices.OPENING).apply(make_setting(family, family.default_tasks or None), family)
    assert opening == choices.first_setting({family.name: family})
    assert dict(opening.hyperparameters)["vote"] == "balanced"
    assert make_setting(family) == choices.preset("auto").apply(make_setting(family), family)


def test_the_balanced_preset_is_the_variant_that_comparisons_list(family):
    (variant,) = get_method("neuromerging").variants
    balanced = choices.preset("balanced")
    assert balanced.title == variant.title
    assert balanced.apply(make_setting(family), family) == make_setting(family, None, "neuromerging", variant.values)


def test_the_plain_sum_is_the_plain_sum(family):
    expected = make_setting(family, None, "task_arithmetic", {"scale": 1})
    assert choices.preset("plain_sum").apply(make_setting(family), family) == expected


def test_one_undo_takes_back_a_whole_drag(family):
    start = make_setting(family)
    history = History(start)
    history = history.visit(change(start, family, lambda_orthogonal=1.0))
    for step in (1.1, 1.2, 1.3):
        history = history.visit(change(start, family, lambda_orthogonal=step), replacing=True)
    assert history.present.value("lambda_orthogonal") == 1.3
    undone = history.undo()
    assert undone.present == start
    assert undone.redo() == history
    assert undone.undo() == undone
    assert history.redo() == history


@given(steps=st.lists(st.sampled_from(["undo", "redo", 0.5, 1.0, 1.5]), max_size=40))
def test_history_moves_along_what_was_visited(family, steps):
    start = make_setting(family)
    history = History(start, limit=5)
    for step in steps:
        if step == "undo":
            history = history.undo()
        elif step == "redo":
            history = history.redo()
        else:
            history = history.visit(change(start, family, lambda_orthogonal=step))
            assert history.future == ()
        assert len(history.past) <= 5
        if history.past:
            assert history.undo().redo() == history
