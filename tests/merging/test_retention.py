"""Retention, and coefficients that reach a wanted one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.merging.linear import AlongBase, Coefficients
from neuromerge.merging.retention import (
    Products,
    Tally,
    asking_for,
    component_products,
    dots,
    retention_target,
    squares,
)
from tests.merging.dense_vectors import parameter

seeds = st.integers(0, 10_000)


def model(seed: int, tasks: int, entries: int = 60) -> torch.Tensor:
    return torch.randn(tasks, entries, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def products(tau: torch.Tensor, **components: torch.Tensor) -> Products:
    """Of a model of one parameter."""
    found = {name: dots(tau, component) for name, component in components.items()}
    return Products((parameter("q", (1, tau.shape[1])),), (found,), squares(tau))


def test_an_expert_retains_all_of_itself_and_what_it_shares() -> None:
    tau = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    found = products(tau, scale=tau[2])
    np.testing.assert_allclose(found.retention(Coefficients({"scale": 1.0})), [0.5, 1.0, 1.0], rtol=1e-6)
    tripled = Coefficients({"scale": 1.0}, factors={("block 0", "fc1"): {"scale": 3.0}})
    np.testing.assert_allclose(found.retention(tripled), [1.5, 3.0, 3.0], rtol=1e-6)


@given(seed=seeds, tasks=st.integers(1, 8), target=st.floats(0.01, 3.0))
def test_the_resolved_coefficient_reaches_the_target(seed: int, tasks: int, target: float) -> None:
    tau = model(seed, tasks)
    found = products(tau, scale=tau.mean(0))

    def at(value: float) -> Coefficients:
        return Coefficients({"scale": value})

    assert found.retention(at(found.solve(at, target))).mean() == pytest.approx(target, rel=1e-9)


@given(seed=seeds, fixed=st.floats(-1.0, 1.0))
def test_coefficients_that_are_given_are_reckoned_with(seed: int, fixed: float) -> None:
    tau = model(seed, 3)
    found = products(tau, first=tau[0], second=tau.sum(0))

    def at(value: float) -> Coefficients:
        return Coefficients({"first": fixed, "second": value})

    assert found.retention(at(found.solve(at, 0.85))).mean() == pytest.approx(0.85)


@given(seed=seeds, cut=st.integers(1, 59))
def test_chunks_add_up(seed: int, cut: int) -> None:
    tau = model(seed, 4)
    merged = tau.sum(0)
    tally = Tally(4)
    tally.add(merged[:cut], tau[:, :cut])
    tally.add(merged[cut:], tau[:, cut:])
    whole = products(tau, scale=0.3 * merged).retention(Coefficients({"scale": 1.0}))
    np.testing.assert_allclose(0.3 * tally.retention(), whole)
    tally.add(merged, tau, new=False)
    np.testing.assert_allclose(0.15 * tally.retention(), whole)


@given(seed=seeds)
def test_a_component_along_the_base_is_what_it_stands_for(seed: int) -> None:
    tau, base = model(seed, 3).view(3, 6, 10), model(seed + 1, 1).view(6, 10)
    factor = torch.arange(6, dtype=torch.float64)
    along = component_products(AlongBase(factor), base, tau)
    np.testing.assert_allclose(along, dots(tau, factor.unsqueeze(1) * base), rtol=1e-9, atol=1e-12)


def test_long_float32_vectors_lose_no_digits() -> None:
    tau = model(1, 3, 300_000).float()
    exact = (tau.double() @ tau.double().sum(0)).numpy()
    np.testing.assert_allclose(dots(tau, tau.double().sum(0).float()), exact, rtol=1e-5)
    np.testing.assert_allclose(squares(tau), tau.double().square().sum(1).numpy(), rtol=1e-5)


def test_a_task_that_changed_nothing_retains_nothing_and_does_not_count() -> None:
    tau = model(2, 3)
    tau[1] = 0.0
    found = products(tau, scale=tau.sum(0))
    retained = found.retention(Coefficients({"scale": found.solve(lambda x: Coefficients({"scale": x}), 1.0)}))
    assert retained[1] == 0.0
    assert retained[[0, 2]].mean() == pytest.approx(1.0)


def test_where_nothing_changed_any_coefficient_will_do() -> None:
    found = products(torch.zeros(2, 5), scale=torch.zeros(5))
    assert found.solve(lambda x: Coefficients({"scale": x}), 0.85) == 0.85


def test_a_merge_that_has_nothing_of_the_tasks_is_refused() -> None:
    found = products(torch.ones(2, 5), scale=torch.zeros(5))
    with pytest.raises(SettingError, match="Set the coefficient to a number"):
        found.solve(lambda x: Coefficients({"scale": x}), 1.0)


@pytest.mark.parametrize(
    ("value", "target"),
    [("retention", 1.0), (" Retention ", 1.0), ("retention:0.85", 0.85), ("auto", None), (0.3, None), ("mean", None)],
)
def test_what_asks_for_retention(value: object, target: float | None) -> None:
    assert retention_target(value) == target
    if target is not None:
        assert retention_target(asking_for(target)) == target


@pytest.mark.parametrize("value", ["retention:", "retention:much", "retention:0", "retention:-1", "retention:nan"])
def test_a_target_must_be_a_number_above_zero(value: str) -> None:
    with pytest.raises(SettingError, match=r"such as retention:0\.85"):
        retention_target(value)
