"""Merging on another device gives what the CPU gives, and mixes no tensors of the two."""

from __future__ import annotations

import pytest
import torch

import neuromerge
from neuromerge.merging import kernels
from neuromerge.merging.registry import methods
from tests.merging.elsewhere import DEVICE, Elsewhere, There


def states(dtype: torch.dtype = torch.float32) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    random = torch.Generator().manual_seed(5)
    shapes = {"blocks.0.fc1.weight": (12, 20), "blocks.0.fc1.bias": (12,), "blocks.0.fc2.weight": (20, 12)}
    base = {key: torch.randn(shape, generator=random) for key, shape in shapes.items()}
    tasks = [
        {key: value + 0.05 * torch.randn(value.shape, generator=random) for key, value in base.items()}
        for _ in range(3)
    ]
    return {k: v.to(dtype) for k, v in base.items()}, [{k: v.to(dtype) for k, v in task.items()} for task in tasks]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("method", tuple(methods()))
def test_every_method_computes_elsewhere(method: str, dtype: torch.dtype) -> None:
    base, tasks = states(dtype)
    here = neuromerge.merge(base, tasks, method=method, seed=1)
    with Elsewhere() as device:
        there = neuromerge.merge(base, tasks, method=method, seed=1, device=str(DEVICE))
    assert device.ran > 20
    for key, value in here.state_dict.items():
        assert not isinstance(there.state_dict[key], There)
        torch.testing.assert_close(there.state_dict[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("room", [0, 1 << 24, 1 << 40])
@pytest.mark.parametrize("method", ["neuromerging", "ties", "dare", "pcb", "average"])
def test_large_weights_are_sampled_and_held_elsewhere(method: str, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large to be sorted whole, with room on the device for nothing, a part, and all of them."""
    monkeypatch.setattr("neuromerge.merging.vectors.room", lambda device: room if device.type == DEVICE.type else 0)
    random = torch.Generator().manual_seed(6)
    shapes = {"fc1.weight": (1200, 500), "fc1.bias": (1200,), "fc2.weight": (500, 1200)}
    base = {key: torch.randn(shape, generator=random) for key, shape in shapes.items()}
    tasks = [{k: v + 0.05 * torch.randn(v.shape, generator=random) for k, v in base.items()} for _ in range(2)]
    with kernels.switched(False):
        here = neuromerge.merge(base, tasks, method=method, seed=1)
    with Elsewhere():
        there = neuromerge.merge(base, tasks, method=method, seed=1, device=str(DEVICE))
    assert there.kept_share == here.kept_share
    assert there.retention == pytest.approx(here.retention, rel=1e-4)
    for key, value in here.state_dict.items():
        torch.testing.assert_close(there.state_dict[key], value, rtol=1e-5, atol=1e-6)


def test_interference_is_measured_elsewhere() -> None:
    base, tasks = states()
    here = neuromerge.interference(base, tasks)
    with Elsewhere() as device:
        there = neuromerge.interference(base, tasks, device=str(DEVICE))
    assert device.ran > 20
    assert list(there["measure"]) == list(here["measure"])
    assert list(there["value"]) == pytest.approx(list(here["value"]), rel=1e-5, nan_ok=True)


def test_the_pretended_device_refuses_what_a_real_one_refuses() -> None:
    with Elsewhere():
        there = torch.ones(3, device=DEVICE)
        assert (there * 2).device.type == DEVICE.type
        assert (there + torch.tensor(1.0)).cpu().tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)
        with pytest.raises((TypeError, RuntimeError)):
            there.numpy()
        there.add_(1)
        assert there.to("cpu").tolist() == [2.0, 2.0, 2.0]
