"""Whole merges on an accelerator, beside the least that it takes there: the same bytes copied once and added once.

Weights lie in host memory, as a checkpoint's do, and the result goes back there. The size is that of CLIP ViT-L/14.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from neuromerge.benchmarks.merge import METHODS, VIT_L_14, perturbed, vision_tower
from neuromerge.errors import SettingError
from neuromerge.merging.devices import find_device
from neuromerge.merging.registry import check_values, get_method, methods
from neuromerge.merging.streaming import aligned_sources, merge_aligned


def main(argv: list[str]) -> int:
    """Print, for each method, the median of a whole merge in milliseconds and its ratio to the floor."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks device", description=__doc__)
    parser.add_argument("--device", default="cuda", help="where to merge (cuda)")
    parser.add_argument("--tasks", type=int, default=8, help="number of experts (8)")
    parser.add_argument("--layers", type=int, default=VIT_L_14.layers, help="transformer blocks (24 is ViT-L/14)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all methods; medians are printed")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=sorted(methods()), help="which to time")
    options = parser.parse_args(argv)
    try:
        device = find_device(options.device)
    except SettingError as error:
        parser.error(str(error))
    generator = torch.Generator().manual_seed(0)
    base = vision_tower(replace(VIT_L_14, layers=options.layers), generator)
    experts = [perturbed(base, 1e-3 * (1 + 0.2 * task), generator) for task in range(options.tasks)]
    aligned = aligned_sources(base, {f"task {task}": expert for task, expert in enumerate(experts)})

    def floor() -> None:
        there = {name: weight.to(device) for name, weight in base.items()}
        for expert in experts:
            for name, weight in expert.items():
                there[name].add_(weight.to(device), alpha=1e-3)
        for weight in there.values():
            weight.cpu()

    def whole(name: str) -> None:
        method = get_method(name)
        merged: dict[str, torch.Tensor] = {}
        merge_aligned(aligned, method, check_values(method, {}), merged.__setitem__, device=str(device))

    def seconds(run: Callable[[], object]) -> float:
        start = time.perf_counter()
        run()  # ends with a copy to the host, so that nothing is still under way
        return time.perf_counter() - start

    entries = sum(weight.numel() for weight in base.values())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(f"{name}, {entries / 1e6:.1f} million parameters, T = {options.tasks}, torch {torch.__version__}")
    print(f"{'whole merge':20s} {'median ms':>10s} {'/ floor':>8s}")
    floor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in options.methods:
            whole(method)
            taken = [(seconds(floor), seconds(partial(whole, method))) for _ in range(options.rounds)]
            median, ratio = (
                statistics.median(c) for c in zip(*((own, own / least) for least, own in taken), strict=True)
            )
            print(f"{method:20s} {median * 1e3:10.0f} {ratio:8.2f}", flush=True)
    return 0
