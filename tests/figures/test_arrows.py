"""Two arrows at a value of a measure: the angle at which two such changes have that value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuromerge.figures.interference import arrows
from neuromerge.merging.measures import measures
from tests.figures import examples


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 150.0, 180.0])
def test_the_arrows_stand_as_two_changes_with_that_value(degrees: float) -> None:
    turned = math.radians(degrees)
    a, b = np.array([1.0, 0.0]), np.array([math.cos(turned), math.sin(turned)])
    cancelled = 1 - np.linalg.norm(a + b) / 2
    for key, value in {"cosine": a @ b, "conflict": -(a @ b), "cancellation": cancelled}.items():
        assert arrows.pose(key, float(value)) == (pytest.approx(degrees, abs=1e-5), 1.0)


def test_random_changes_at_an_angle_disagree_in_sign_as_the_arrows_say() -> None:
    random = np.random.default_rng(0)
    a, other = random.normal(size=(2, 100_000))
    b = math.cos(1.0) * a + math.sin(1.0) * other
    angle, _ = arrows.pose("sign_conflict", float(((a > 0) != (b > 0)).mean())) or (0, 0)
    assert math.radians(angle) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("value", "pose"), [(0.5, (0.0, 0.5)), (-0.5, (180.0, 0.5)), (9.0, (0.0, 1.1))])
def test_retention_is_a_length(value: float, pose: tuple[float, float]) -> None:
    assert arrows.pose("retention", value) == pose


@pytest.mark.parametrize("info", measures(), ids=lambda info: info.key)
def test_the_drawing_stands_at_the_median_and_says_it(info) -> None:  # type: ignore[no-untyped-def]
    drawn = arrows.arrows_html(examples.heatmap(info.key), 8)
    if arrows.pose(info.key, 0.5) is None:
        assert drawn == ""
        return
    middle = arrows.median(examples.heatmap(info.key))
    assert middle is not None
    assert f"data-median='{float(f'{middle:.6g}')!r}'" in drawn
    assert "aria-label='Median of the map. " in drawn


def test_a_map_without_values_has_no_drawing() -> None:
    empty = examples.heatmap("conflict")
    empty.parallel[:] = empty.orthogonal[:] = np.nan
    assert arrows.arrows_html(empty, 8) == ""
