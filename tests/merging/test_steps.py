"""Steps after a merge: LiNeS over the depth, SVC over the spectrum, for every method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import neuromerge
from neuromerge.checkpoints.roles import Parameter
from neuromerge.errors import SettingError
from neuromerge.merging import methods
from neuromerge.merging.spectra import calibrated
from neuromerge.merging.steps import Steps, lines_factors, parse_steps
from tests.merging.dense_vectors import SHAPES

GOLDEN = np.load(Path(__file__).parent.parent / "data" / "methods_golden.npz")


def part(block: int | None, tower: str = "vision") -> Parameter:
    layer = "stem" if block is None else f"block {block}"
    layer = layer if tower == "vision" else f"{tower} {layer}"
    return Parameter(f"{layer}.q", "", tower, layer, block, "q", "neurons", (4, 4), 0, 0, 4)


def test_lines_as_the_authors_scale() -> None:
    factors = lines_factors([part(None), part(0), part(1), part(2)], 0.2, 0.6)
    golden = {"stem": "stem.weight", **{f"block {i}": f"blocks.{i}.q.weight" for i in range(3)}}
    whole = torch.from_numpy(GOLDEN["three/tau/q.weight"]).sum(0)
    for layer, key in golden.items():
        torch.testing.assert_close(factors[layer] * whole, torch.from_numpy(GOLDEN[f"three/lines/{key}"]))


def test_towers_have_blocks_of_their_own_and_one_block_is_the_first() -> None:
    factors = lines_factors([part(0), part(1), part(0, "text")], 0.2, 0.6)
    assert factors == {"block 0": 0.2, "block 1": pytest.approx(0.8), "text block 0": 0.2}


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ((), Steps()),
        (None, Steps()),
        ("svc", Steps(svc=0.1)),
        ("SVC: 1", Steps(svc=1.0)),
        (["lines:0.2:0.6", "svc:0.3"], Steps(0.3, (0.2, 0.6))),
        (["svc:0.3", "lines"], Steps(0.3, (0.5, 0.5))),
    ],
)
def test_how_steps_are_written(given: object, steps: Steps) -> None:
    assert parse_steps(given) == steps  # type: ignore[arg-type]
    assert parse_steps(steps.texts) == steps


@pytest.mark.parametrize("given", ["sorting", "svc:0", "svc:-1", "svc:x", "lines:1", "svc:1:2", ["svc", "svc:0.2"], ""])
def test_steps_that_are_not_understood_are_refused(given: object) -> None:
    with pytest.raises(SettingError, match=r"step"):
        parse_steps(given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def weights() -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """A model of three blocks, in float64."""
    generator = torch.Generator().manual_seed(3)

    def model(size: float) -> dict[str, torch.Tensor]:
        return {
            f"layers.{block}.{name}": size * torch.randn(shape, generator=generator, dtype=torch.float64)
            for block in range(3)
            for name, shape in SHAPES.items()
            if not name.startswith(("patch", "scalar"))
        }

    base = model(1.0)
    return base, [{key: value + base[key] for key, value in model(0.01).items()} for _ in range(3)]


GIVEN = {"neuromerging": {"lambda_parallel": 0.7}, "wudi": {"steps": 3}}


@pytest.mark.parametrize("method", ["iso_c", "iso_cts"])
def test_where_svc_has_no_directions_to_work_on_it_is_told(method: str, weights) -> None:
    with pytest.warns(UserWarning, match="rounding alone decides"):
        neuromerge.merge(*weights, method, then="svc")


@pytest.mark.parametrize("method", [name for name, m in methods().items() if not m.flat_spectrum])
def test_svc_calibrates_the_change_of_every_matrix(method: str, weights) -> None:
    base, experts = weights
    plain = neuromerge.merge(base, experts, method, **GIVEN.get(method, {}))
    with_step = neuromerge.merge(base, experts, method, then="svc:0.4", **GIVEN.get(method, {}))
    assert with_step.then == ("svc:0.4",)
    for key, value in base.items():
        change, got = plain.state_dict[key] - value, with_step.state_dict[key] - value
        if value.ndim == 2:
            change = calibrated(change, torch.stack([expert[key] - value for expert in experts]), 0.4)
        torch.testing.assert_close(got, change, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", methods())
def test_lines_multiplies_the_change_of_every_block(method: str, weights) -> None:
    base, experts = weights
    plain = neuromerge.merge(base, experts, method, **GIVEN.get(method, {}))
    with_step = neuromerge.merge(base, experts, method, then="lines:0.2:0.6", **GIVEN.get(method, {}))
    for key, value in base.items():
        factor = 0.2 + 0.3 * int(key.split(".")[1])
        change = plain.state_dict[key] - value
        torch.testing.assert_close(with_step.state_dict[key] - value, factor * change, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("method", methods())
def test_the_result_says_what_every_task_retains(method: str, weights) -> None:
    base, experts = weights
    untrimmed = {"trim_ratio": 0.0} if methods()[method].trims else {}
    result = neuromerge.merge(base, {f"t{i}": expert for i, expert in enumerate(experts)}, method, **untrimmed)
    for task, expert in enumerate(experts):
        along = sum(float(((result.state_dict[k] - v) * (expert[k] - v)).sum()) for k, v in base.items())
        own = sum(float((expert[k] - v).square().sum()) for k, v in base.items())
        assert result.retention[f"t{task}"] == pytest.approx(along / own, rel=1e-6, abs=1e-9)
    assert result.summary()["retention"] == result.retention


COEFFICIENT = {name: "scale" for name, m in methods().items() if "scale" in m.coefficients} | {
    "neuromerging": "lambda_orthogonal"
}


@pytest.mark.parametrize("method", COEFFICIENT)
@pytest.mark.parametrize("target", ["retention", "retention:0.85"])
@pytest.mark.parametrize("then", [(), "lines:0.3:0.7"])
def test_the_coefficient_that_retains_what_is_asked_for(method: str, target: str, then: object, weights) -> None:
    base, experts = weights
    given = {**GIVEN.get(method, {}), COEFFICIENT[method]: target}
    result = neuromerge.merge(base, experts, method, then=then, **given)
    wanted = 0.85 if ":" in target else 1.0
    assert sum(result.retention.values()) / 3 == pytest.approx(wanted, rel=1e-6)
    assert result.parameters[COEFFICIENT[method]] == target


def test_a_far_coefficient_is_told(weights) -> None:
    base, experts = weights
    with pytest.warns(UserWarning, match="little in common"):
        neuromerge.merge(base, experts, "dare", drop_rate=0.5, scale="retention:40")


def test_retention_of_another_coefficient_is_no_number(weights) -> None:
    base, experts = weights
    with pytest.raises(SettingError, match="lambda_pointwise must be a number"):
        neuromerge.merge(base, experts, lambda_pointwise="retention")
