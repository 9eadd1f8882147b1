"""Profiles and weights in recipes: read, written, and mergekit's lists and filters against their own meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import neuromerge
from neuromerge.errors import RecipeError, SettingError
from neuromerge.merging import registry
from neuromerge.merging.profile import make_profile
from neuromerge.settings.choices import change, describe, make_setting
from neuromerge.settings.recipes import dump_recipe, parse_recipe, recipe_of, setting_of

HEAD = """
merge_method: {method}
base_model: bundled:tiny
models:
  - model: bundled:tiny/digits
  - model: bundled:tiny/flags
"""


def recipe(text, method="task_arithmetic"):
    return parse_recipe(HEAD.format(method=method) + text)


def test_profile_and_weights_are_read():
    read = parse_recipe(
        HEAD.format(method="neuromerging").replace("tiny/flags", "tiny/flags\n    weight: 1.2")
        + "profile:\n  fc1: [0.5, 1.0, 1.5]\n  block 3: 0\n"
        "  block 3/fc1: {lambda_parallel: 0, lambda_orthogonal: [1, 1.5]}\n"
    )
    assert read.profile == make_profile(
        {
            "fc1": [0.5, 1.0, 1.5],
            "block 3": 0.0,
            "block 3/fc1": {"lambda_parallel": 0.0, "lambda_orthogonal": [1.0, 1.5]},
        }
    )
    assert [model.weight for model in read.models] == [1.0, 1.2]
    assert parse_recipe(dump_recipe(read)) == read


@pytest.mark.parametrize(
    ("text", "scale", "profile"),
    [
        ("parameters: {scale: [0.2, 0.5, 0.8]}", 1.0, {"rest": [0.2, 0.5, 0.8]}),
        ("scale: [0.2, 0.5]", 1.0, {"rest": [0.2, 0.5]}),
        ("scale: [{filter: mlp, value: 0.4}, {value: 0.8}]", 0.8, {"mlp": 0.5}),
        ("scale: [{filter: self_attn, value: [0, 0.8]}, {filter: '*', value: 0.4}]", 0.4, {"attention": [0.0, 2.0]}),
        ("scale: [{filter: mlp, value: 0.6}]", 0.3, {"mlp": 2.0}),  # everything else is the default
        ("scale: [{filter: fc1, value: 2}, {value: [0, 1]}]", 1.0, {"fc1": 2.0, "rest": [0.0, 1.0]}),
        (
            "scale: [{filter: q_proj, value: 2}, {filter: attn, value: 4}, {value: 1}]",
            1.0,
            {"q": 0.5, "attention": 4.0},
        ),
        ("parameters: {lambda: [0.2, 0.5]}", 1.0, {"rest": [0.2, 0.5]}),
        ("parameters: {weight: [{filter: mlp, value: 0.4}, {value: 0.8}], lambda: 0.5}", 0.4, {"mlp": 0.5}),
    ],
)
def test_mergekits_way_is_read(text, scale, profile):
    read = recipe(text)
    assert dict(read.hyperparameters)["scale"] == pytest.approx(scale)
    assert read.profile == make_profile(profile)
    assert parse_recipe(dump_recipe(read)) == read


def test_each_coefficient_may_differ():
    read = recipe("lambda_parallel: [0, 1]\nlambda_orthogonal: [{filter: fc1, value: 3}, {value: 1.5}]", "neuromerging")
    values = dict(read.hyperparameters)
    assert (values["lambda_parallel"], values["lambda_orthogonal"], values["lambda_pointwise"]) == (1.0, 1.5, "auto")
    assert read.profile == make_profile({"rest": {"lambda_parallel": [0.0, 1.0]}, "fc1": {"lambda_orthogonal": 2.0}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale: []", "empty list"),
        ("scale: [0.1, high]", "numbers from 0 to 10"),
        ("scale: [0.1, 11]", "numbers from 0 to 10"),
        ("scale: [{filter: mlp}]", "needs `value`"),
        ("scale: [{filter: mlp, value: 1, colour: red}]", "needs `value`"),
        ("scale: [{filter: mlp, value: []}, {value: 1}]", "empty list"),
        ("scale: [{filter: layers.3, value: 1}, {value: 1}]", "the filter 'layers.3'. Known: .*self_attn"),
        ("scale: [{value: 1}, {filter: mlp, value: 1}]", "never holds"),
        ("scale: [{filter: mlp, value: 1}, {filter: mlp, value: 2}]", "never holds"),
        ("scale: [{filter: mlp, value: 1}, {filter: fc1, value: 2}]", "never holds"),
        ("scale: [{filter: fc1, value: 1}, {filter: mlp, value: [1, 2]}, {value: 1}]", "overlap"),
        ("parameters: {normalize: true, weight: [1, 2]}", "write one number"),
        ("scale: [1, 2]\nprofile: {rest: 2}", "by itself and under profile"),
        ("profile: [1, 2]", "parts with factors"),
        ("profile: {fc1: half}", "must be a number"),
        ("profile: {fc1: {lambda_parallel: 1}}", "no coefficient of task_arithmetic"),
        ("profile: {fc1: {scale: {deep: 1}}}", "must be a number"),
    ],
)
def test_what_cannot_be_read_is_explained(text, message):
    with pytest.raises(RecipeError, match=message):
        recipe(text)


def test_automatic_values_do_not_mix_with_filters():
    with pytest.raises(RecipeError, match="needs an entry without a filter"):
        recipe("lambda_orthogonal: [{filter: fc1, value: 3}]", "neuromerging")
    with pytest.raises(RecipeError, match="not 'auto'"):
        recipe("lambda_orthogonal: [{filter: fc1, value: 3}, {value: auto}]", "neuromerging")


def test_weights_that_are_none_are_explained():
    text = HEAD.format(method="ties").replace("tiny/flags", "tiny/flags\n    weight: heavy")
    with pytest.raises(RecipeError, match="model 2 of the recipe must be a number"):
        parse_recipe(text)


def test_a_list_over_depth_is_what_mergekit_makes_of_it():
    """mergekit interpolates at layer / (layers - 1); weights before the layers stand at 0, those after them at 1."""
    generator = torch.Generator().manual_seed(0)
    names = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.up_proj.weight" for i in range(5)), "lm_head.weight"]
    base = {name: torch.randn(4, 3, generator=generator, dtype=torch.float64) for name in names}
    expert = {name: weight + 1.0 for name, weight in base.items()}
    read = recipe("parameters: {weight: [0.1, 0.9, 0.3]}")
    result = neuromerge.merge(
        base, [expert], read.method, profile=read.profile, **dict(read.hyperparameters)
    ).state_dict
    depth = [0.0, *(i / 4 for i in range(5)), 1.0]
    for name, t in zip(names, depth, strict=True):
        expected = np.interp(t, [0.0, 0.5, 1.0], [0.1, 0.9, 0.3])
        np.testing.assert_allclose((result[name] - base[name]).numpy(), expected, rtol=1e-12)


numbers = st.sampled_from([0.0, 0.25, 0.1, 1.0, 1.5, -2.0, 3.3])
factors = numbers | st.lists(numbers, min_size=1, max_size=3)
parts = st.sampled_from(["fc1", "mlp", "attention", "q", "rest", "block 1", "block 1/fc1", "stem", "norm"])


@given(data=st.data(), method=st.sampled_from(sorted(registry.methods())))
def test_settings_come_back_from_their_recipe_and_hash(family, data, method):
    own = registry.get_method(method).coefficients
    choice = factors | st.dictionaries(st.sampled_from(own), factors, min_size=1) if own else factors
    profile = data.draw(st.dictionaries(parts, choice, max_size=4))
    weights = data.draw(st.dictionaries(st.sampled_from(["digits", "styles"]), numbers, max_size=2))
    values = {name: data.draw(st.sampled_from([0.25, 1.0, 0.3])) for name in own}
    setting = make_setting(family, ["styles", "digits"], method, values, seed=3, profile=profile, task_weights=weights)
    text = dump_recipe(recipe_of(setting, family))
    assert setting_of(parse_recipe(text), [family]) == setting
    assert hash(setting) == hash(setting_of(parse_recipe(text), [family]))


def test_mergekits_way_is_written_where_it_says_the_same(family):
    setting = make_setting(family, None, "ties", {"scale": 1.0}, profile={"mlp": 0.5, "q": [0.0, 2.0]})
    text = dump_recipe(recipe_of(setting, family))
    assert "profile" not in text
    assert "filter: mlp" in text
    inexact = make_setting(family, None, "ties", {"scale": 0.7}, profile={"mlp": 0.1})
    assert "profile:" in dump_recipe(recipe_of(inexact, family))
    blocks = make_setting(family, None, "ties", {"scale": 1.0}, profile={"block 1": 0.5})
    assert "profile:" in dump_recipe(recipe_of(blocks, family))


def test_a_setting_keeps_its_shape_when_a_value_changes(family):
    setting = make_setting(family, profile={"fc1": 0.5}, task_weights={"digits": 1.2, "flags": 1})
    moved = change(setting, family, lambda_orthogonal=1.5)
    assert moved.profile == setting.profile
    assert moved.task_weights == (1.2, 1.0, 1.0)
    assert describe(moved) == "NeuroMerging · λ₂ (orthogonal) 1.5 · profile of 1 part: fc1 × 0.5 · weights digits 1.2"


def test_a_lone_coefficient_is_meant_by_its_name_too(family):
    by_name = make_setting(family, None, "ties", profile={"fc1": {"scale": 0.5}})
    assert by_name == make_setting(family, None, "ties", profile={"fc1": 0.5})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"profile": {"fc1": {"scale": 1.0}}}, "no coefficient of neuromerging"),
        ({"task_weights": {"letters": 1.0}}, "not merged"),
        ({"task_weights": [1.0]}, "names with numbers"),
    ],
)
def test_what_is_not_legal_is_said(family, given, message):
    with pytest.raises(SettingError, match=message):
        make_setting(family, ["digits"], **given)
