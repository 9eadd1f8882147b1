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
from dataclasses import dataclass
from functools import partial

import torch

from neuromerge.benchmarks.memory import PeakMemory
from neuromerge.merging import kernels, staged
from neuromerge.merging.linear import combine
from neuromerge.merging.registry import check_values, get_method
from neuromerge.merging.streaming import aligned_sources, merge_aligned
from neuromerge.merging.subspaces import orthogonal_vote
from neuromerge.merging.trim import MagnitudeSample
from neuromerge.merging.vectors import AlignedVectors
from neuromerge.threads import in_threads

METHODS = ("neuromerging", "average", "task_arithmetic", "ties", "dare", "pcb", "consensus")


@dataclass(frozen=True)
class Size:
    """The shape of a CLIP vision tower."""

    layers: int = 12
    width: int = 768
    patch: int = 32
    tokens: int = 50
    output: int = 512


VIT_L_14 = Size(layers=24, width=1024, patch=14, tokens=257, output=768)


def vision_tower(size: Size, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random float32 weights under the keys and shapes of transformers' CLIP vision tower of that size."""
    width = size.width

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).mul_(0.02)

    weights = {
        "vision_model.embeddings.class_embedding": normal(width),
        "vision_model.embeddings.patch_embedding.weight": normal(width, 3, size.patch, size.patch),
        "vision_model.embeddings.position_embedding.weight": normal(size.tokens, width),
        "visual_projection.weight": normal(size.output, width),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for block in range(size.layers):
        prefix = f"encoder.layers.{block}"
        norms += [f"{prefix}.layer_norm1", f"{prefix}.layer_norm2"]
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            weights[f"vision_model.{prefix}.self_attn.{name}.weight"] = normal(width, width)
            weights[f"vision_model.{prefix}.self_attn.{name}.bias"] = normal(width)
        weights[f"vision_model.{prefix}.mlp.fc1.weight"] = normal(4 * width, width)
        weights[f"vision_model.{prefix}.mlp.fc1.bias"] = normal(4 * width)
        weights[f"vision_model.{prefix}.mlp.fc2.weight"] = normal(width, 4 * width)
        weights[f"vision_model.{prefix}.mlp.fc2.bias"] = normal(width)
    for norm in norms:
        weights[f"vision_model.{norm}.weight"] = torch.ones(width)
        weights[f"vision_model.{norm}.bias"] = torch.zeros(width)
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
        **votes(torch.cat([s.gram for s in first.statistics.values() if isinstance(s, staged.NeuronStatistics)])),
        **{f"whole merge: {method}": partial(whole, method) for method in METHODS},
    }


def votes(gram: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The votes of all neurons by themselves, from their Gram matrices (k, T, T); nothing without compiled kernels."""
    if not kernels.in_use():
        return {"vote: published": lambda: orthogonal_vote(gram)}
    from neuromerge.merging.kernels import calls

    pieces = gram.split(1024)
    return {
        "vote: published": lambda: in_threads(calls.published_votes, pieces),
        "vote: balanced": lambda: in_threads(partial(calls.balanced_votes, ridge=0.1), pieces),
    }


def main(argv: list[str]) -> int:
    """Print, for each T, the median of every stage in milliseconds and its ratio to the floor."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks merge", description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8, 16], help="numbers of experts")
    parser.add_argument("--layers", type=int, default=Size.layers, help="transformer blocks (12 is ViT-B/32)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all stages; medians are printed")
    parser.add_argument("--trim-ratio", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--torch", action="store_true", help="without compiled kernels")
    parser.add_argument("--only", help="stages whose name holds this word (default: all)")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    if not options.torch:
        kernels.load()
    generator = torch.Generator().manual_seed(0)
    base = vision_tower(Size(options.layers), generator)
    entries = sum(w.numel() for w in base.values())
    print(f"{entries / 1e6:.1f} million parameters, float32, {options.threads} threads, torch {torch.__version__}")
    experts: list[dict[str, torch.Tensor]] = []
    for count in sorted(options.tasks):
        experts += [perturbed(base, 1e-3 * (1 + 0.2 * i), generator) for i in range(len(experts), count)]
        with PeakMemory() as memory, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            timed = stages(base, experts[:count], options.trim_ratio)
            floor, one = timed.pop("floor"), timed.pop("one pass over a lambda change's bytes")
            wanted = {name: run for name, run in timed.items() if (options.only or "") in name}
            times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in wanted}
            for _ in range(options.rounds):
                for name, run in wanted.items():
                    times[name].append((seconds(floor), seconds(one), seconds(run)))
        inputs, peak = memory.start >> 20, memory.peak >> 20
        print(f"\nT = {count}: peak anonymous memory {peak} MiB, of which the inputs {inputs} MiB")
        print(f"{'stage':40s} {'median ms':>10s} {'/ floor':>8s} {'/ one pass':>11s}")
        for name, taken in times.items():
            # Neighbours on the machine come and go: each time is set beside a floor of the same moment.
            median, by_floor, by_one = (
                statistics.median(column)
                for column in zip(*((own, own / least, own / single) for least, single, own in taken), strict=True)
            )
            print(f"{name:40s} {median * 1e3:10.1f} {by_floor:8.2f} {by_one:11.2f}", flush=True)
    return 0


def seconds(run: Callable[[], object]) -> float:
    """How long `run` takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
