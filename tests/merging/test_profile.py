"""Profiles and task weights against merges put together by hand, over every method."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import neuromerge
from neuromerge.checkpoints import align, load_checkpoint
from neuromerge.errors import SettingError
from neuromerge.merging.profile import as_mapping, make_profile, make_task_weights, multiplied
from neuromerge.merging.profile import factors as shaped_cells
from neuromerge.merging.vectors import AlignedVectors

METHODS = tuple(neuromerge.methods())
BLOCKS = 4
TASKS = ("a", "b", "c")


@pytest.fixture(scope="module")
def model():
    """A language model of four blocks with stem and head in float64, and three experts of it."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (11, 6), "model.norm.weight": (6,), "lm_head.weight": (11, 6)}
    for block in range(BLOCKS):
        own = f"model.layers.{block}."
        shapes |= {
            f"{own}self_attn.q_proj.weight": (6, 6),
            f"{own}self_attn.o_proj.weight": (6, 6),
            f"{own}mlp.up_proj.weight": (8, 6),
            f"{own}mlp.down_proj.weight": (6, 8),
            f"{own}input_layernorm.weight": (6,),
        }

    def drawn(scale):
        return {n: scale * torch.randn(s, generator=generator, dtype=torch.float64) for n, s in shapes.items()}

    base = drawn(1.0)
    experts = {task: {n: base[n] + c for n, c in drawn(0.1 * (1 + t)).items()} for t, task in enumerate(TASKS)}
    return base, experts


def block_of(name):
    return int(name.split(".")[2]) if ".layers." in name else None


def kind_of(name):
    kinds = {"q_proj": "q", "o_proj": "out", "up_proj": "fc1", "down_proj": "fc2", "norm": "norm"}
    return next((kind for word, kind in kinds.items() if word in name), "other")


def changes(base, merged):
    return {name: merged.state_dict[name] - weight for name, weight in base.items()}


def shaped(base, change, factor):
    return {name: weight + factor(name) * change[name] for name, weight in base.items()}


def assert_same(found, expected):
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-10, atol=1e-12, msg=name)


PROFILES = [
    ({"fc1": 0.5}, lambda name: 0.5 if kind_of(name) == "fc1" else 1.0),
    ({"block 2": 0.0}, lambda name: 0.0 if block_of(name) == 2 else 1.0),
    ({"stem": 2.0, "head": -1.0}, lambda name: 2.0 if "embed" in name else 1.0 if block_of(name) is not None else -1.0),
    (
        {"fc1": [0.0, 3.0], "block 3": 0.5, "block 3/fc1": 4.0, "block 0/q": 7.0},
        lambda name: (
            (block_of(name) if kind_of(name) == "fc1" else 1.0)
            * (0.5 if block_of(name) == 3 else 1.0)
            * (4.0 if block_of(name) == 3 and kind_of(name) == "fc1" else 1.0)
            * (7.0 if block_of(name) == 0 and kind_of(name) == "q" else 1.0)
        ),
    ),
    (
        {"norm": [0.5, 1.0, 1.5]},  # the last norm is the head's, which a curve leaves alone
        lambda name: (
            float(np.interp(block_of(name), [0, 1.5, 3], [0.5, 1.0, 1.5]))
            if kind_of(name) == "norm" and block_of(name) is not None
            else 1.0
        ),
    ),
    (
        {"mlp": 0.25, "rest": [1.0, 2.0]},
        lambda name: (
            0.25
            if kind_of(name) in ("fc1", "fc2")
            else 1.0 + (block_of(name) / 3 if block_of(name) is not None else 0.0 if "embed" in name else 1.0)
        ),
    ),
    ({"block 1/attention": 3.0}, lambda name: 3.0 if block_of(name) == 1 and kind_of(name) in ("q", "out") else 1.0),
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("profile", "factor"), PROFILES, ids=[str(profile) for profile, _ in PROFILES])
def test_factors_multiply_the_change_of_their_parts(model, method, profile, factor):
    base, experts = model
    plain = neuromerge.merge(base, experts, method, seed=3)
    result = neuromerge.merge(base, experts, method, seed=3, profile=profile)
    assert_same(result.state_dict, shaped(base, changes(base, plain), factor))
    assert result.coefficients == plain.coefficients
    assert result.summary()["profile"] == profile


def test_coefficients_apart(model):
    base, experts = model
    used = {"lambda_parallel": 0.7, "lambda_orthogonal": 1.3, "lambda_pointwise": 0.9}
    alone = {
        name: changes(base, neuromerge.merge(base, experts, trim_ratio=0.4, **{**dict.fromkeys(used, 0.0), name: 1.0}))
        for name in used
    }
    profile = {
        "block 3/fc1": {"lambda_parallel": 0, "lambda_orthogonal": 1.5},
        "fc1": 0.5,
        "norm": {"lambda_pointwise": [2.0, 0.0]},
        "rest": {"lambda_pointwise": 5.0, "lambda_parallel": 0.25},
    }
    result = neuromerge.merge(base, experts, trim_ratio=0.4, profile=profile, **used)

    def factors(name):
        block, kind = block_of(name), kind_of(name)
        fc1, there = kind == "fc1", kind == "fc1" and block == 3
        pointwise = 5.0
        if kind == "norm":
            pointwise = 1.0 if block is None else 2.0 - 2.0 * block / 3
        return {
            "lambda_parallel": (0.5 if fc1 else 1.0) * (0.0 if there else 0.25),
            "lambda_orthogonal": (0.5 if fc1 else 1.0) * (1.5 if there else 1.0),
            "lambda_pointwise": pointwise * (0.5 if fc1 else 1.0),
        }

    expected = {
        name: weight + sum(used[c] * factors(name)[c] * alone[c][name] for c in used) for name, weight in base.items()
    }
    assert_same(result.state_dict, expected)


@pytest.mark.parametrize("method", METHODS)
def test_weights_multiply_task_vectors(model, method):
    base, experts = model
    weights = {"a": 1.7, "c": -0.5}
    result = neuromerge.merge(base, experts, method, seed=1, task_weights=weights)
    moved = {
        task: {name: base[name] + weights.get(task, 1.0) * (w - base[name]) for name, w in expert.items()}
        for task, expert in experts.items()
    }
    expected = neuromerge.merge(base, moved, method, seed=1).state_dict
    for name, weight in expected.items():
        torch.testing.assert_close(result.state_dict[name], weight, rtol=1e-7, atol=1e-9, msg=name)
    assert result.task_weights == (1.7, 1.0, -0.5)
    assert result.summary()["task_weights"] == {"a": 1.7, "b": 1.0, "c": -0.5}
    same = neuromerge.merge(base, list(experts.values()), method, seed=1, task_weights=[1.7, 1, -0.5])
    if not neuromerge.methods()[method].stochastic:  # chance goes by the names of tasks
        assert_same(same.state_dict, result.state_dict)


def test_interference_takes_both(model):
    base, experts = model
    plain = neuromerge.interference(base, experts, 0.5, lambda_parallel=0.5)
    moved = neuromerge.interference(
        base, experts, 0.5, lambda_parallel=0.5, profile={"fc1": 0.5}, task_weights={"a": 1}
    )
    for row, other in zip(plain.itertuples(), moved.itertuples(), strict=True):
        follows = row.measure.split(":")[0] in ("retention", "applied_change") and row.matrix == "fc1"
        assert other.value == pytest.approx(row.value * (0.5 if follows else 1.0), rel=1e-9, nan_ok=True)
    alone = neuromerge.interference(base, experts, 0.0, task_weights=[1, 0, 0])
    shares = alone[alone.measure == "cancellation"].value.dropna()
    np.testing.assert_allclose(shares, 0.0, atol=1e-7)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"fc9": 1.0}, "no part 'fc9'. Matrices: .*fc1.*; layers: stem, block 0"),
        ({"block 9": 1.0}, "no part"),
        ({"block 0/embedding": 1.0}, "no part"),
        ({"fc1": {"scale": 1.0}}, "no coefficient of this method. It has: lambda_parallel"),
        ({"stem": [1.0, 2.0]}, "in no block"),
        ({"fc1": "half"}, "must be a number"),
        ({"fc1": True}, "must be a number"),
        ({"fc1": float("nan")}, "must be a number"),
        ({"fc1": 1e3}, "from -100 to 100"),
        ({"fc1": []}, "1 to 256 numbers"),
        ({"fc1": [1.0, None]}, "must be a number"),
        ({"fc1": {}}, "names no factor"),
        ({1: 1.0}, "must be a name"),
        ({"": 1.0}, "must be a name"),
        ([1.0], "maps parts"),
        ("fc1", "maps parts"),
    ],
)
def test_what_is_no_profile_is_explained(model, profile, message):
    base, experts = model
    with pytest.raises(SettingError, match=message):
        neuromerge.merge(base, experts, profile=profile)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"z": 1.0}, "'z' has a weight, but is not merged. Merged: a, b, c"),
        ({"a": "x"}, "weight of a must be a number"),
        ({"a": float("inf")}, "weight of a"),
        ([1.0], "map tasks to numbers"),
        ("abc", "map tasks to numbers"),
        (3, "map tasks to numbers"),
    ],
)
def test_what_is_no_weight_is_explained(model, weights, message):
    base, experts = model
    with pytest.raises(SettingError, match=message):
        neuromerge.merge(base, experts, task_weights=weights)


numbers = st.floats(-100, 100)
factors = numbers | st.lists(numbers, min_size=1, max_size=4)
mappings = st.dictionaries(
    st.sampled_from(["fc1", "block 3", "block 3/fc1", "rest", "mlp"]),
    factors | st.dictionaries(st.sampled_from(["scale", "lambda_parallel"]), factors, min_size=1),
)


@given(given_=mappings)
def test_a_profile_is_a_value(given_):
    profile = make_profile(given_)
    assert make_profile(dict(reversed(given_.items()))) == profile
    assert make_profile(as_mapping(profile)) == profile
    assert make_profile(profile) == profile
    assert hash(profile) == hash(make_profile(as_mapping(profile)))


def test_weights_of_one_are_none():
    assert make_task_weights({"a": 1, "b": 1.0}, TASKS) == ()
    assert make_task_weights(None, TASKS) == make_task_weights({}, TASKS) == ()


PARTS = ("rest", "fc1", "attention", "block 1", "block 2/fc1", "block 3/q", "stem", "head")
AMOUNTS = st.one_of(
    st.floats(-2, 2).map(lambda value: round(value, 2)),
    st.lists(st.floats(-2, 2).map(lambda value: round(value, 2)), min_size=1, max_size=4),
)
COEFFICIENTS = ("lambda_parallel", "lambda_orthogonal", "lambda_pointwise")


@given(data=st.data())
def test_multiplied_cells_are_multiplied_and_no_other_cell_changes(model, data):
    base, experts = model
    parameters = AlignedVectors(align(load_checkpoint(base), [load_checkpoint(e) for e in experts.values()])).parameters
    apart = st.dictionaries(st.sampled_from(COEFFICIENTS), AMOUNTS, min_size=1)
    given_profile = data.draw(st.dictionaries(st.sampled_from(PARTS), st.one_of(AMOUNTS, apart), max_size=4))
    for outside in ("stem", "head"):
        assume(not isinstance(given_profile.get(outside), list | dict))
    profile = make_profile(given_profile)
    cells = sorted({(parameter.layer, parameter.matrix) for parameter in parameters})
    by = {cell: data.draw(st.sampled_from([0.0, 0.5, 2.0])) for cell in data.draw(st.sets(st.sampled_from(cells)))}
    before = shaped_cells(profile, parameters, COEFFICIENTS)
    after = shaped_cells(multiplied(profile, by, parameters, COEFFICIENTS), parameters, COEFFICIENTS)
    for cell in cells:
        for name in COEFFICIENTS:
            here = before.get(cell, {}).get(name, 1.0) * by.get(cell, 1.0)
            assert after.get(cell, {}).get(name, 1.0) == pytest.approx(here, rel=1e-12, abs=1e-15)
