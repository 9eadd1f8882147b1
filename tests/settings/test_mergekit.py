"""Recipes in mergekit's words: the same merge where there is one, and all that cannot be merged in one message."""

from __future__ import annotations

import os

import pytest
import torch

import neuromerge
from neuromerge.errors import RecipeError
from neuromerge.settings.recipes import dump_recipe, load_recipe, parse_recipe

EXPERTS = ("one", "two", "three")
WEIGHED = (("one", 0.2), ("two", 0.9), ("three", 1.3))


def recipe_text(method, parameters=(), models=EXPERTS, base="base", **top):
    """A recipe; `models` are names, or (name, parameters) pairs."""
    lines = [f"merge_method: {method}"]
    lines += [f"base_model: {base}"] if base else []
    lines.append("models:")
    for model in models:
        name, own = (model, {}) if isinstance(model, str) else model
        lines.append(f"  - model: {name}")
        if own:
            lines.append(f"    parameters: {{{', '.join(f'{key}: {value}' for key, value in own.items())}}}")
    if parameters:
        lines += ["parameters:", *(f"  {key}: {value}" for key, value in dict(parameters).items())]
    lines += [f"{key}: {value}" for key, value in top.items()]
    return "\n".join(lines) + "\n"


def models(seed=0):
    """One tensor a model, so that a trim of the whole model is one of the tensor, as in mergekit."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(7, 9, generator=generator, dtype=torch.float64)
    return {
        "base": base,
        **{name: base + 0.1 * torch.randn(7, 9, generator=generator, dtype=torch.float64) for name in EXPERTS},
    }


def merged(text):
    """What the recipe merges `models` to."""
    recipe, weights = parse_recipe(text), models()
    base, *experts = ({"w": weights[source]} for source in (recipe.base, *(entry.model for entry in recipe.models)))
    given = {name: value for name, value in recipe.hyperparameters if value != "auto"}
    own = [entry.weight for entry in recipe.models]
    result = neuromerge.merge(
        base, experts, recipe.method, seed=recipe.seed, profile=recipe.profile, task_weights=own, **given
    )
    return result.state_dict["w"]


def mergekit(base, experts, *, density=1.0, weights=None, vote=False, normalize=False, factor=1.0):
    """Generalised task arithmetic as mergekit computes it, written down plainly."""
    weights = torch.tensor(weights or [1.0] * len(experts), dtype=torch.float64)[:, None, None]
    deltas = []
    for expert in experts:
        delta = expert - base
        removed = int((1 - density) * delta.numel() + 1e-9)
        least = delta.abs().flatten().sort().values[max(removed - 1, 0)]  # what lies on the threshold stays
        deltas.append(torch.where(delta.abs() >= least, delta, torch.zeros_like(delta)))
    weighted = weights * torch.stack(deltas)
    mask = torch.ones_like(weighted)
    if vote:
        mask = (weighted.sign() == (weighted.sum(0) >= 0) * 2.0 - 1).double()
    mixed = (weighted * mask).sum(0)
    if normalize:
        total = (weights * mask).sum(0)
        mixed = mixed / torch.where(total == 0, torch.ones_like(total), total)
    return base + factor * mixed


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (recipe_text("ties", {"density": "0.25"}), {"density": 0.25, "vote": True, "normalize": True}),
        (
            recipe_text("ties", {"density": "0.25", "lambda": "0.7", "int8_mask": "true"}),
            {"density": 0.25, "vote": True, "normalize": True, "factor": 0.7},
        ),
        (
            recipe_text("ties", {"normalize": "false"}, [(n, {"density": 0.5, "weight": 0.3}) for n in EXPERTS]),
            {"density": 0.5, "weights": [0.3] * 3, "vote": True},
        ),
        (recipe_text("task_arithmetic", {"lambda": "0.4"}), {"factor": 0.4}),
        (recipe_text("task_arithmetic", {"weight": "0.5"}), {"weights": [0.5] * 3}),
        (recipe_text("task_arithmetic", {"weight": "0.5", "normalize": "true"}), {"normalize": True}),
        (recipe_text("task_arithmetic", {"weight": "0.2"}, ["base", *EXPERTS]), {"weights": [0.2] * 3}),
        (recipe_text("dare_linear", {"weight": "0.4", "density": "1"}), {"weights": [0.4] * 3}),
        (recipe_text("dare_ties", {"weight": "0.5"}), {"weights": [0.5] * 3, "vote": True}),
        (
            recipe_text("dare_ties", {"normalize": "true", "lambda": "0.9"}),
            {"vote": True, "normalize": True, "factor": 0.9},
        ),
        (
            recipe_text("task_arithmetic", {"lambda": "0.5"}, [(n, {"weight": w}) for n, w in WEIGHED]),
            {"weights": [w for _, w in WEIGHED], "factor": 0.5},
        ),
        (
            recipe_text("task_arithmetic", {"normalize": "true"}, [(n, {"weight": w}) for n, w in WEIGHED]),
            {"weights": [w for _, w in WEIGHED], "normalize": True},
        ),
        (
            recipe_text("ties", {"density": 0.5, "normalize": "false"}, [(n, {"weight": w}) for n, w in WEIGHED]),
            {"density": 0.5, "weights": [w for _, w in WEIGHED], "vote": True},
        ),
        (
            recipe_text("linear", {}, [(n, {"weight": w}) for n, w in WEIGHED]),
            {"weights": [w for _, w in WEIGHED], "normalize": True},
        ),
        (recipe_text("linear"), {"normalize": True}),
        (recipe_text("linear", {"weight": "0.25", "normalize": "true"}), {"normalize": True}),
        (recipe_text("linear", base=None), {"normalize": True}),
        (recipe_text("linear", {"weight": "1"}, ["base", *EXPERTS]), {"weights": [0.25] * 3}),
    ],
)
def test_the_same_merge_as_mergekit_s(text, options):
    weights = models()
    expected = mergekit(weights["base"], [weights[name] for name in EXPERTS], **options)
    torch.testing.assert_close(merged(text), expected, atol=1e-12, rtol=1e-12)


def test_words_of_a_drop():
    recipe = parse_recipe(recipe_text("dare_ties", {"density": "0.5", "weight": "0.8"}, ["one"]))
    values = dict(recipe.hyperparameters)
    assert recipe.method == "dare"
    assert (values["after"], values["drop_rate"], values["ties_trim_ratio"], values["scale"]) == ("ties", 0.5, 0.0, 0.8)


def test_our_own_words_stay_ours():
    recipe = parse_recipe(recipe_text("task_arithmetic"))
    assert dict(recipe.hyperparameters) == {"scale": 0.3}
    recipe = parse_recipe(recipe_text("ties", {"density": "0.3", "combine": "sum", "scale": "0.2"}))
    assert dict(recipe.hyperparameters) == {"trim_ratio": 0.7, "combine": "sum", "scale": 0.2}
    recipe = parse_recipe(recipe_text("neuromerging", {"density": "0.1", "lambda_orthogonal": "1.5"}))
    assert dict(recipe.hyperparameters)["trim_ratio"] == 0.9


@pytest.mark.parametrize(
    ("top", "dtype"),
    [
        ({}, None),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": "float32", "out_dtype": "float16"}, "float16"),
        ({"out_dtype": "torch.float16"}, "float16"),
    ],
)
def test_what_is_written(top, dtype):
    recipe = parse_recipe(recipe_text("ties", **top))
    assert recipe.dtype == dtype
    assert parse_recipe(dump_recipe(recipe)) == recipe


@pytest.mark.parametrize("top", [{"tokenizer_source": "base"}, {"tokenizer": "{source: base}"}], ids=str)
def test_the_base_s_tokenizer_is_what_is_kept(top):
    assert parse_recipe(recipe_text("ties", **top)) == parse_recipe(recipe_text("ties"))


def test_how_words_were_read_is_told():
    notes = parse_recipe(recipe_text("ties", {"density": "0.2", "int8_mask": "true"}, dtype="float16")).notes
    assert any("trim_ratio 0.8" in note and "over the whole model" in note for note in notes)
    assert any("int8_mask" in note for note in notes)
    assert any("float16" in note for note in notes)
    assert parse_recipe(recipe_text("ties")).notes == ()


def test_all_that_cannot_be_merged_is_listed_at_once():
    text = recipe_text(
        "ties",
        {"epsilon": "0.1", "normalize": "maybe"},
        ["one", ("two", {"density": 0.5, "gamma": 0.01}), ("three", {"weight": "[0, 1]"})],
        dtype="int8",
        tokenizer_source="union",
        slices="[]",
        chat_template="auto",
        sed="4",
    )
    text = text.replace("- model: two", "- model: two\n    foo: 1")
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    said = str(caught.value)
    assert "11 things" in said
    assert "unknown key 'foo' of model 2" in said
    for word in (
        "epsilon",
        "normalize maybe",
        "density",
        "gamma",
        "weight",
        "dtype int8",
        "tokenizer_source",
        "slices",
    ):
        assert word in said, word
    for remedy in ("write float32, float16 or bfloat16", "list whole models under models", "unknown key 'sed'"):
        assert remedy in said, remedy
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (recipe_text("slerp"), "comes nearest is linear"),
        (recipe_text("breadcrumbs_ties"), "comes nearest is ties"),
        (recipe_text("linear", {"density": "0.5"}), "density: linear has none"),
        (recipe_text("linear", {"normalize": "false"}), "add up to 3"),
        (recipe_text("linear", {"weight": "0"}), "add up to 0"),
        (recipe_text("ties", {"density": "0"}), "a share above 0"),
        (recipe_text("ties", {"density": "2"}), "a share above 0"),
        (recipe_text("ties", {"density": "much"}), "is not a number"),
        (recipe_text("ties", {"density": "0.5", "trim_ratio": "0.5"}), "density: says the same as trim_ratio"),
        (recipe_text("ties", {"lambda": "0.5", "scale": "0.5"}), "says the same as scale"),
        (recipe_text("ties", {"rescale": "true"}), "rescale: true"),
        (recipe_text("dare_linear", {"rescale": "false"}), "rescale: false"),
        (recipe_text("ties", {"weight": "-1"}), "weights above 0"),
        (recipe_text("neuromerging", {"lambda": "0.5"}), "other coefficients"),
        (recipe_text("ties", {}, ["one", ("two", {"lambda": 0.5})]), "lambda of one model: holds for all models"),
        (recipe_text("ties", {}, [("one", {"colour": "red"})]), "colour of model 1: is not known"),
        (recipe_text("ties", modules="{}"), "modules: a model is merged as a whole"),
    ],
)
def test_what_means_something_else_says_what_to_write(text, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    pipe = tmp_path / "recipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(RecipeError, match="is not a file"):
        load_recipe(pipe)


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "recipe.yaml").write_text(recipe_text("ties"))
    assert load_recipe("~/recipe.yaml") == parse_recipe(recipe_text("ties"))


def test_a_weight_that_only_some_models_have_is_told():
    recipe = parse_recipe(recipe_text("task_arithmetic", models=(("one", {"weight": 0.5}), "two", "three")))
    assert "2 models give no weight beside those that do: 1 is taken" in recipe.notes
    assert [model.weight for model in recipe.models] == [0.5, 1.0, 1.0]
    everywhere = [(name, {"weight": weight}) for name, weight in WEIGHED]
    assert parse_recipe(recipe_text("task_arithmetic", models=everywhere)).notes == ()
    with pytest.raises(RecipeError, match="1 where none is given"):
        parse_recipe(recipe_text("ties", models=(("one", {"density": 0.5}), "two")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (recipe_text("TIES"), "Write ties"),
        (recipe_text("dare-ties"), "Write dare_ties"),
        (recipe_text("ties", base="{model: {path: z}}"), "base_model in the recipe is written as keys (model)"),
        (recipe_text("ties").replace("model: one", "model: {path: one, revision: main}"), "keys (path, revision)"),
        (
            recipe_text("ties").replace("model: one", "{model: one, weight: 2, parameters: {weight: 1}}"),
            "weight of model 1: it has two",
        ),
    ],
)
def test_near_misses_are_told_with_what_to_write(text, said):
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text)
    assert said in str(refused.value)


def test_an_expert_that_is_listed_twice_is_told():
    assert parse_recipe(recipe_text("ties", models=("one", "two", "one"))).notes == (
        "one is listed 2 times, and merged as often",
    )
    assert parse_recipe(recipe_text("ties")).notes == ()
