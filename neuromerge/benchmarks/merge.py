"""The merging engine at ViT-B/32 size, each stage beside the memory-bandwidth floor of the same bytes.

The floor is T plain passes ``out.add_(tau, alpha=x)``: no merge of T task vectors can be faster. Absolute
times depend on the machine and on its neighbours; the ratios are taken in one run, rounds interleaved, and
are what to quote.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch

from neuromerge.benchmarks.memory import PeakMemory
from neuromerge.merging import staged
from neuromerge.merging.linear import combine
from neuromerge.merging.registry import check_values, get_method
from neuromerge.merging.streaming import aligned_sources, merge_aligned
from neuromerge.merging.trim import MagnitudeSample
from neuromerge.merging.vectors import AlignedVectors

WIDTH, LAYERS, PATCH, TOKENS, OUTPUT = 768, 12, 32, 50, 512


def vision_tower(layers: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random float32 weights under the keys and shapes of transformers' CLIP ViT-B/32 vision tower."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).mul_(0.02)

    weights = {
        "vision_model.embeddings.class_embedding": normal(WIDTH),
        "vision_model.embeddings.patch_embedding.weight": normal(WIDTH, 3, PATCH, PATCH),
        "vision_model.embeddings.position_embedding.weight": normal(TOKENS, WIDTH),
        "visual_projection.weight": normal(OUTPUT, WIDTH),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for block in range(layers):
        prefix = f"encoder.layers.{block}"
        norms += [f"{prefix}.layer_norm1", f"{prefix}.layer_norm2"]
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights[f"vision_model.{prefix}.self_attn.{name}.weight"] = normal(WIDTH, WIDTH)
            weights[f"vision_model.{prefix}.self_attn.{name}.bias"] = normal(WIDTH)
        weights[f"vision_model.{prefix}.mlp.fc1.weight"] = normal(4 * WIDTH, WIDTH)
        weights[f"vision_model.{prefix}.mlp.fc1.bias"] = normal(4 * WIDTH)
        weights[f"vision_model.{prefix}.mlp.fc2.weight"] = normal(WIDTH, 4 * WIDTH)
        weights[f"vision_model.{prefix}.mlp.fc2.bias"] = normal(WIDTH)
    for norm in norms:
        weights[f"vision_model.{norm}.weight"] = torch.ones(WIDTH)
        weights[f"vision_model.{norm}.bias"] = torch.zeros(WIDTH)
    return weights


def perturbed(base: dict[str, torch.Tensor], size: float, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """An expert: every weight moved by normal noise of the given size."""
    return {name: torch.randn(w.shape, generator=generator).mul_(size).add_(w) for name, w in base.items()}


def stages(
    base: dict[str, torch.Tensor], experts: list[dict[str, torch.Tensor]], ratio: float
) -> dict[str, Callable[[], object]]:
    """Name -> what to time. The floor comes first."""
    aligned = aligned_sources(base, {f"task {i}": expert for i, expert in enumerate(experts)})
    vectors = AlignedVectors(aligned)
    sample = MagnitudeSample(vectors)
    thresholds = sample.thresholds(ratio)
    first = staged.first_pass(vectors, thresholds)
    weights = {p.name: vectors.base(p) for p in vectors.parameters}
    out = {name: weight.clone() for name, weight in weights.items()}  # not empty: the floor would pay for fresh pages
    taus = [[aligned.expert_tensor(t, p) for p in vectors.parameters] for t in range(len(experts))]

    def floor() -> None:
        for tau in taus:
            for target, source in zip(out.values(), tau, strict=True):
                assert source is not None
                target.add_(source, alpha=1e-3)

    def one_pass() -> None:
        for name, target in out.items():
            torch.add(weights[name], first.orthogonal[name], alpha=0.5, out=target)

    hook = get_method("neuromerging").first_pass
    assert hook is not None
    components = {name: hook.components(first.statistics[name], part) for name, part in first.orthogonal.items()}

    def lambda_change(parallel: float) -> None:
        used = {"lambda_parallel": parallel, "lambda_orthogonal": 1.5, "lambda_pointwise": 1.5}
        for name, target in out.items():
            combine(weights[name], components[name], used, target)

    def whole(method: str) -> None:
        chosen = get_method(method)
        merged: dict[str, torch.Tensor] = {}
        merge_aligned(aligned, chosen, check_values(chosen, {}), merged.__setitem__)

    return {
        "floor": floor,
        "one pass over a lambda change's bytes": one_pass,
        "lambda_2 change": lambda: lambda_change(0.0),
        "lambda_1 and lambda_2 change": lambda: lambda_change(0.3),
        "trim thresholds": lambda: sample.thresholds(ratio),
        "first pass": lambda: staged.first_pass(vectors, thresholds, count_conflict=False),
        "first pass with sign conflict": lambda: staged.first_pass(vectors, thresholds),
        "trim change": lambda: staged.first_pass(vectors, sample.thresholds(ratio), count_conflict=False),
        "whole merge: neuromerging": lambda: whole("neuromerging"),
        "whole merge: task_arithmetic": lambda: whole("task_arithmetic"),
        "whole merge: ties": lambda: whole("ties"),
    }


def main(argv: list[str]) -> int:
    """Print, for each T, the median of every stage in milliseconds and its ratio to the floor."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks merge", description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8, 16], help="numbers of experts")
    parser.add_argument("--layers", type=int, default=LAYERS, help="transformer blocks (12 is ViT-B/32)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all stages; medians are printed")
    parser.add_argument("--trim-ratio", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    base = vision_tower(options.layers, generator)
    entries = sum(w.numel() for w in base.values())
    print(f"{entries / 1e6:.1f} million parameters, float32, {options.threads} threads, torch {torch.__version__}")
    experts: list[dict[str, torch.Tensor]] = []
    for count in sorted(options.tasks):
        experts += [perturbed(base, 1e-3 * (1 + 0.2 * i), generator) for i in range(len(experts), count)]
        with PeakMemory() as memory, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            timed = stages(base, experts[:count], options.trim_ratio)
            times: dict[str, list[float]] = {name: [] for name in timed}
            for _ in range(options.rounds):
                for name, run in timed.items():
                    start = time.perf_counter()
                    run()
                    times[name].append(time.perf_counter() - start)
        floor = statistics.median(times["floor"])
        one = statistics.median(times["one pass over a lambda change's bytes"])
        inputs, peak = memory.start >> 20, memory.peak >> 20
        print(f"\nT = {count}: peak anonymous memory {peak} MiB, of which the inputs {inputs} MiB")
        print(f"{'stage':40s} {'median ms':>10s} {'/ floor':>8s} {'/ one pass':>11s}")
        for name, seconds in times.items():
            median = statistics.median(seconds)
            print(f"{name:40s} {median * 1e3:10.1f} {median / floor:8.2f} {median / one:11.2f}")
    return 0
