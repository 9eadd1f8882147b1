from __future__ import annotations

import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import RecipeError
from neuromerge.merging import registry
from neuromerge.settings.choices import PRESETS, make_setting
from neuromerge.settings.recipes import (
    Recipe,
    RecipeModel,
    dump_recipe,
    load_recipe,
    parse_recipe,
    recipe_of,
    setting_of,
)

GOOD = """
merge_method: neuromerging
base_model: bundled:tiny
models:
  - model: bundled:tiny/digits
  - model: bundled:tiny/flags
    name: flags
parameters:
  trim_ratio: 0.8
  lambda_parallel: 1e-3
  lambda_orthogonal: auto
seed: 4
"""


def test_a_recipe_is_read_as_meant():
    recipe = parse_recipe(GOOD)
    assert recipe.method == "neuromerging"
    assert recipe.base == "bundled:tiny"
    assert recipe.models == (RecipeModel("bundled:tiny/digits"), RecipeModel("bundled:tiny/flags", "flags"))
    values = dict(recipe.hyperparameters)
    assert values["trim_ratio"] == 0.8
    assert values["lambda_parallel"] == 1e-3
    assert values["lambda_orthogonal"] == "auto"
    assert recipe.seed == 4


def test_parameters_may_stand_at_the_top():
    flat = GOOD.replace("parameters:\n  trim_ratio", "trim_ratio").replace("\n  lambda", "\nlambda")
    assert parse_recipe(flat) == parse_recipe(GOOD)


def test_the_base_among_the_models_adds_nothing_as_in_mergekit():
    assert parse_recipe(GOOD.replace("models:\n", "models:\n  - model: bundled:tiny\n")) == parse_recipe(GOOD)


def test_words_that_yaml_would_turn_into_other_things_stay_words():
    recipe = parse_recipe("merge_method: ties\nbase_model: no\nmodels: [{model: 2024-01-01}, {model: ~}]\n")
    assert recipe.base == "no"
    assert [entry.model for entry in recipe.models] == ["2024-01-01", "~"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.key)
def test_settings_come_back_from_their_recipe(family, preset):
    setting = preset.apply(make_setting(family, ["styles", "digits"], seed=11), family)
    text = dump_recipe(recipe_of(setting, family), notes=["sigma 0.25\nmerge_method: evil"])
    assert setting_of(parse_recipe(text), [family]) == setting


def test_a_recipe_of_no_family_here_says_how_to_run_it(family):
    recipe = parse_recipe(GOOD.replace("tiny/flags", "other/flags"))
    with pytest.raises(RecipeError, match="neuromerge merge"):
        setting_of(recipe, [family])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("merge_method: neuromerging", "merge_method: best"), "merge_method 'best'"),
        (("merge_method: neuromerging", "method: ties"), "lacks merge_method"),
        (("merge_method: neuromerging", "merge_method: [ties]"), "must be one of"),
        (("base_model: bundled:tiny\n", ""), "lacks base_model"),
        (("base_model: bundled:tiny\n", "base_model: [a]\n"), "place of a checkpoint"),
        (("trim_ratio: 0.8", "trim_ratio: 8"), "trim_ratio must be"),
        (("trim_ratio: 0.8", "trim_ratio: [0.8]"), "single value"),
        (("trim_ratio: 0.8", "trim_ration: 0.8"), "no parameter 'trim_ration'"),
        (("trim_ratio: 0.8", "trim_ratio: 0.8\n  trim_ratio: 0.7"), "repeats the key"),
        (("seed: 4", "seed: four"), "seed"),
        (("seed: 4", "seed: 4\ndtyp: float16"), "unknown key 'dtyp'"),
        (("seed: 4", "trim_ratio: 0.4"), "twice"),
        (("    name: flags", "    parameters: {trim_ratio: 1}"), "holds for all models"),
        (("    name: flags", "    name: [a]"), "name in model 2"),
        (("  - model: bundled:tiny/digits", "  - bundled:tiny/digits"), "Model 1 of the recipe must be written"),
        (("  - model: bundled:tiny/digits", "  - model: ''"), "lacks model"),
        (("bundled:tiny/digits", "&a bundled:tiny/digits"), "anchor"),
        (("bundled:tiny/digits", "*a"), "anchor"),
        (("bundled:tiny/digits", "!!python/object:os.system x"), "tag"),
        (("seed: 4", "seed: ["), "not valid YAML in line"),
        (("seed: 4", "? [a]\n: b"), "key that is not a word"),
        (("seed: 4", "seed: 4\n---\nx: 1"), "not valid YAML"),
        (("seed: 4", "seed: " + "[" * 50 + "]" * 50), "nested more than"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(change, message):
    assert change[0] in GOOD
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe(GOOD.replace(*change))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n \n",
        "just words",
        "- a\n- b",
        b"\xff\xfem\x00",
        GOOD.encode("utf-16"),
        b"\x00" * 10,
        "a: \x07",
        "\ud800: 1",
        "x: " + "a" * 70_000,
        b"x" * 70_000,
        "[" * 60_000,
        "a: &a [*a]",
        "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)),
        "? " * 20_000,
        "- " * 20_000,
        "{" * 10_000,
        "merge_method: ties\nbase_model: b\nmodels: []",
        "merge_method: ties\nbase_model: b\nmodels: [{model: b}]",
        "merge_method: ties\nbase_model: b\nmodels: [" + "{model: a}, " * 300 + "]",
    ],
    ids=range(20),
)
def test_nasty_texts_give_recipe_errors(text):
    with pytest.raises(RecipeError):
        parse_recipe(text)


def test_files(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_recipe(path) == load_recipe(str(path)) == load_recipe(GOOD)
    for bad in (tmp_path / "none.yaml", tmp_path, "a\0b", "x" * 5000):
        with pytest.raises(RecipeError):
            load_recipe(bad)


@given(text=st.one_of(st.text(max_size=300), st.binary(max_size=300)))
def test_no_text_causes_another_error(text):
    with contextlib.suppress(RecipeError):
        parse_recipe(text)


_scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.dates())
_trees = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    document=st.fixed_dictionaries(
        {},
        optional={
            "merge_method": st.sampled_from([*registry.methods(), "x"]) | _trees,
            "base_model": st.text(max_size=10) | _trees,
            "models": st.lists(st.fixed_dictionaries({"model": _trees}), max_size=3) | _trees,
            "parameters": st.dictionaries(st.sampled_from(["trim_ratio", "lambda_parallel", "x"]), _trees),
            "seed": _trees,
            "extra": _trees,
        },
    )
)
def test_no_document_causes_another_error(document):
    with contextlib.suppress(RecipeError):
        recipe = parse_recipe(yaml.safe_dump(document, allow_unicode=True))
        assert parse_recipe(dump_recipe(recipe)) == recipe


_lines = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cf", "Cn", "Co", "Zs"]), min_size=1, max_size=20
)


@given(sources=st.lists(_lines, min_size=2, max_size=4, unique=True), name=_lines, seed=st.integers(0, 2**32 - 1))
def test_recipes_come_back_from_their_yaml(sources, name, seed):
    hyperparameters = tuple(sorted(registry.check_values(registry.get_method("ties"), {}).items()))
    models = tuple(RecipeModel(source, name) for source in sources[1:])
    recipe = Recipe("ties", sources[0], models, hyperparameters, seed)
    assert parse_recipe(dump_recipe(recipe)) == recipe


def test_steps_after_the_merge_are_read_and_written():
    text = "merge_method: ties\nbase_model: b\nmodels: [{model: a}]\nthen: [svc:0.3, lines]\n"
    recipe = parse_recipe(text)
    assert recipe.then == ("lines:0.5:0.5", "svc:0.3")
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert parse_recipe(text.replace("[svc:0.3, lines]", "svc")).then == ("svc:0.1",)
    with pytest.raises(RecipeError, match="not taken here"):
        setting_of(recipe, [])
    for wrong in ("then: [sorting]", "then: {svc: 0.1}", "then: [[svc]]"):
        with pytest.raises(RecipeError, match="step"):
            parse_recipe(text.replace("then: [svc:0.3, lines]", wrong))


def test_retention_is_a_value_of_a_coefficient():
    text = "merge_method: tsv_m\nbase_model: b\nmodels: [{model: a}]\nparameters: {scale: 'retention: 0.85'}\n"
    recipe = parse_recipe(text)
    assert dict(recipe.hyperparameters)["scale"] == "retention:0.85"
    assert parse_recipe(dump_recipe(recipe)) == recipe
