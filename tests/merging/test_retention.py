"""Retention, and coefficients that reach a wanted one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.errors import SettingError
from neuromerge.merging.retention import InnerProducts, inner_products, retention_target

seeds = st.integers(0, 10_000)


def model(seed: int, tasks: int, entries: int = 60) -> torch.Tensor:
    return torch.randn(tasks, entries, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_an_expert_retains_all_of_itself_and_what_it_shares() -> None:
    tau = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    assert inner_products([tau[2]], tau).retention([1.0]).tolist() == [0.5, 1.0, 1.0]


@given(seed=seeds, tasks=st.integers(1, 8), target=st.floats(0.01, 3.0))
def test_the_resolved_coefficient_reaches_the_target(seed: int, tasks: int, target: float) -> None:
    tau = model(seed, tasks)
    found = inner_products([tau.mean(0)], tau)
    value = found.resolve([None], target)
    assert found.retention([value]).mean() == pytest.approx(target, rel=1e-9)


@given(seed=seeds, fixed=st.floats(-1.0, 1.0))
def test_coefficients_that_are_given_are_reckoned_with(seed: int, fixed: float) -> None:
    tau = model(seed, 3)
    found = inner_products([tau[0], tau.sum(0)], tau)
    value = found.resolve([fixed, None], 0.85)
    assert found.retention([fixed, value]).mean() == pytest.approx(0.85)


@given(seed=seeds, cut=st.integers(1, 59))
def test_parts_of_a_model_add_up(seed: int, cut: int) -> None:
    tau = model(seed, 4)
    merged = tau.sum(0)
    pieces = inner_products([merged[:cut]], tau[:, :cut]) + inner_products([merged[cut:]], tau[:, cut:])
    np.testing.assert_allclose(pieces.retention([0.3]), inner_products([merged], tau).retention([0.3]))


def test_long_float32_vectors_lose_no_digits() -> None:
    tau = model(1, 3, 300_000).float()
    exact = (tau.double() @ tau.double().sum(0)) / tau.double().square().sum(1)
    got = inner_products([tau.double().sum(0).float()], tau).retention([1.0])
    np.testing.assert_allclose(got, exact.numpy(), rtol=1e-5)


def test_a_task_that_changed_nothing_retains_nothing_and_does_not_count() -> None:
    tau = model(2, 3)
    tau[1] = 0.0
    found = inner_products([tau.sum(0)], tau)
    value = found.resolve([None], 1.0)
    retained = found.retention([value])
    assert retained[1] == 0.0
    assert retained[[0, 2]].mean() == pytest.approx(1.0)


def test_where_nothing_changed_any_coefficient_will_do() -> None:
    assert inner_products([torch.zeros(5)], torch.zeros(2, 5)).resolve([None], 0.85) == 0.85


def test_a_merge_that_has_nothing_of_the_tasks_is_refused() -> None:
    with pytest.raises(SettingError, match="Set the coefficient to a number"):
        InnerProducts(np.zeros((1, 2)), np.ones(2)).resolve([None])


@pytest.mark.parametrize(
    ("value", "target"),
    [("retention", 1.0), (" Retention ", 1.0), ("retention:0.85", 0.85), ("auto", None), (0.3, None), ("mean", None)],
)
def test_what_asks_for_retention(value: object, target: float | None) -> None:
    assert retention_target(value) == target


@pytest.mark.parametrize("value", ["retention:", "retention:much", "retention:0", "retention:-1", "retention:nan"])
def test_a_target_must_be_a_number_above_zero(value: str) -> None:
    with pytest.raises(SettingError, match=r"such as retention:0\.85"):
        retention_target(value)
