"""Methods that take matrices apart, beside FusionBench's own code on the same tensors: processor time and difference.

Needs a checkout of FusionBench (https://github.com/tanganke/fusion_bench); its functions are read from there and run
as they are. The tensors are a part of ViT-B/32: as many transformer blocks as asked for, random, eight experts. Rounds
are interleaved and the ratio is of medians, but processor time depends on what else runs: a library that lets threads
wait for each other is charged for the waiting. Differences are relative, in the Frobenius norm: most of them is the
rounding of an SVD in float32, so those against a run in float64 are printed too.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import statistics
import time
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from neuromerge.benchmarks.merge import Size, perturbed, vision_tower
from neuromerge.merging.registry import check_values, get_method
from neuromerge.merging.spectra import is_matrix
from neuromerge.merging.streaming import aligned_sources, merge_aligned

Weights = dict[str, torch.Tensor]


def functions(path: Path, *names: str, **scope: Any) -> dict[str, Callable[..., Any]]:
    """Functions of a file, run in a scope of their own: the packages around them want far more than they do."""
    wanted: list[ast.stmt] = [
        n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name in names
    ]
    known: dict[str, Any] = {"torch": torch, "Tensor": torch.Tensor, "StateDictType": dict, **scope}
    known |= {name: getattr(typing, name) for name in ("Dict", "List", "Optional")}
    known["timeit_context"] = contextlib.nullcontext
    exec(compile(ast.Module(wanted, []), str(path), "exec"), known)
    return {name: known[name] for name in names}


class _Silent:
    """Stands for tqdm."""

    def __new__(cls, steps: Any, **_: Any) -> Any:
        return steps

    @staticmethod
    def write(_: str) -> None:
        pass


def published(checkout: Path) -> dict[str, Callable[[list[Weights]], Weights]]:
    """Method -> FusionBench's function of the task vectors; data-free regression is compared with WUDI, its loss."""
    folder = checkout / "fusion_bench" / "method"
    iso = functions(folder / "isotropic_merging" / "iso_utils.py", "iso_c", "iso_cts")
    tsv = functions(folder / "task_singular_vector" / "utils" / "TSVM_utils.py", "compute_and_sum_svd_mem_reduction")
    wudi = functions(folder / "wudi" / "wudi.py", "wudi_merging", tqdm=_Silent)["wudi_merging"]
    return {
        "iso_c": lambda taus: iso["iso_c"](taus, accelerator="cpu"),
        "iso_cts": lambda taus: iso["iso_cts"](taus, 0.8, accelerator="cpu"),
        "tsv_m": lambda taus: tsv["compute_and_sum_svd_mem_reduction"](taus, accelerator="cpu"),
        "regmean_free": lambda taus: wudi(taus, accelerator="cpu", iter_num=300),
        "wudi": lambda taus: wudi(taus, accelerator="cpu", iter_num=300),
    }


def ours(method: str, base: Weights, experts: list[Weights]) -> Weights:
    """The merged change of all matrices, by the merge that the library itself runs."""
    chosen, merged = get_method(method), dict[str, torch.Tensor]()
    aligned = aligned_sources(base, {f"task {i}": expert for i, expert in enumerate(experts)})
    merge_aligned(aligned, chosen, check_values(chosen, {}), merged.__setitem__)
    return {p.key: merged[p.name].view_as(base[p.key]) - base[p.key] for p in aligned.parameters if is_matrix(p)}


def theirs(method: Callable[[list[Weights]], Weights], base: Weights, experts: list[Weights]) -> Weights:
    """The merged change, by FusionBench's function of the task vectors."""
    with contextlib.redirect_stdout(io.StringIO()):
        return method([{key: expert[key] - value for key, value in base.items()} for expert in experts])


def difference(one: Weights, other: Weights) -> float:
    """|one - other| / |other| over the matrices of `one`.

    FusionBench takes the position embeddings, stored with two axes, for a matrix too; here they are averaged.
    """
    squares = sum(float((part.double() - other[key].detach().double()).square().sum()) for key, part in one.items())
    return (squares / sum(float(other[key].detach().double().square().sum()) for key in one)) ** 0.5


def main(argv: list[str]) -> int:
    """Print, per method, the processor seconds of both, their ratio, and the differences."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks beside", description=__doc__)
    parser.add_argument("fusion_bench", type=Path, help="a checkout of FusionBench")
    parser.add_argument("--methods", nargs="+", default=["iso_c", "tsv_m", "iso_cts"])
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--layers", type=int, default=1, help="transformer blocks (default 1; ViT-B/32 has 12)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--exact", action="store_true", help="also compare both with FusionBench in float64")
    options = parser.parse_args(argv)
    generator = torch.Generator().manual_seed(0)
    base = vision_tower(Size(options.layers), generator)
    experts = [perturbed(base, 1e-3 * (1 + 0.2 * i), generator) for i in range(options.experts)]
    known = published(options.fusion_bench)
    print(f"{options.experts} experts, {options.layers} blocks, {torch.get_num_threads()} threads")
    print(f"{'method':14s} {'FusionBench s':>14s} {'here s':>8s} {'ratio':>6s}  difference")
    for method in options.methods:
        spent: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(options.rounds):
            start = time.process_time()
            reference = theirs(known[method], base, experts)
            middle = time.process_time()
            merged = ours(method, base, experts)
            spent["theirs"].append(middle - start)
            spent["ours"].append(time.process_time() - middle)
        them, us = (statistics.median(seconds) for seconds in spent.values())
        line = f"{method:14s} {them:14.2f} {us:8.2f} {them / us:6.1f}  {difference(merged, reference):.1e}"
        if options.exact:
            wide = theirs(known[method], *_doubled(base, experts))
            published_part = {key: reference[key] for key in merged}
            line += f" (to float64: here {difference(merged, wide):.1e}, theirs {difference(published_part, wide):.1e})"
        print(line, flush=True)
    return 0


def _doubled(base: Weights, experts: list[Weights]) -> tuple[Weights, list[Weights]]:
    return {k: v.double() for k, v in base.items()}, [{k: v.double() for k, v in e.items()} for e in experts]
