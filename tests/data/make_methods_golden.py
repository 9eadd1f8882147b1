"""Record what the authors' and FusionBench's code makes of two small random models: writes methods_golden.npz.

Run once, with checkouts of the code in one folder; no test needs any of it:

    git clone https://github.com/danielm1405/iso-merging       # commit d34010a
    git clone https://github.com/nathanielyvo/WUDI-Merging     # commit dc3cd12
    git clone https://github.com/wang-kee/LiNeS                # commit 43a7bdd
    git clone https://github.com/tanganke/fusion_bench         # commit 54c9e8c
    python tests/data/make_methods_golden.py FOLDER

The functions named below are run as published, in float64 on the CPU; nothing of theirs is kept here.
Recorded, keys "<model>/<method>/<parameter>"; q, k and v also as the one matrix that open_clip stores ("qkv.weight"):
    iso_c, tsv_m     FusionBench's iso_c and compute_and_sum_svd_mem_reduction
    iso_cts          the authors' iso_cts at a common share of 0.8, the published one, and of 0.5
    regmean_<ridge>  FusionBench's merging_with_regmean_weights, with A_t = tau_t^T tau_t / |tau_t|^2 in the place of
                     data and the ridge as one more expert, the base itself, whose inputs are white
    wudi             the authors' get_redundant_task_vector, 300 steps
    svc_<alpha>      FusionBench's subspace_consistency_spectral_calibration of 0.3 times the summed task vectors
    lines            the authors' LiNeS_scaling of the summed task vectors, alpha 0.2 and beta 0.6, over three blocks
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import sys
import types
import typing
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHAPES = {
    "fc1.weight": (24, 16),
    "fc2.weight": (16, 24),
    "k.weight": (16, 16),
    "norm.weight": (16,),
    "q.weight": (16, 16),
    "v.weight": (16, 16),
}
RIDGES = (0.001, 0.1)
ALPHAS = (0.1, 1.0)


def task_vectors(tasks: int, seed: int) -> list[dict[str, torch.Tensor]]:
    """Task vectors with heavy tails, of a size that real ones have: the steps of WUDI are absolute."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {k: 1e-3 * torch.randn(s, generator=generator, dtype=torch.float64) ** 3 for k, s in SHAPES.items()}
        for _ in range(tasks)
    ]


def functions(path: Path, *names: str, **scope: Any) -> types.SimpleNamespace:
    """Functions of a file, run in a scope of their own: the packages around them want far more than they do."""
    tree = ast.parse(path.read_text())
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    known = {"torch": torch, "copy": copy, **{name: getattr(typing, name) for name in ("Dict", "List", "Optional")}}
    known |= {"Tensor": torch.Tensor, "StateDictType": dict, "timeit_context": contextlib.nullcontext, **scope}
    exec(compile(ast.Module(wanted, []), str(path), "exec"), known)
    return types.SimpleNamespace(**{name: known[name] for name in names})


def joined(task: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same task vector with q, k and v as one matrix too."""
    return {**task, "qkv.weight": torch.cat([task["q.weight"], task["k.weight"], task["v.weight"]])}


def main(folder: Path) -> None:
    """Run everything and write the file."""
    bench = folder / "fusion_bench" / "fusion_bench" / "method"
    iso_c = functions(bench / "isotropic_merging" / "iso_utils.py", "iso_c").iso_c
    tsv = functions(
        bench / "task_singular_vector" / "utils" / "TSVM_utils.py", "compute_and_sum_svd_mem_reduction"
    ).compute_and_sum_svd_mem_reduction
    regmean = functions(
        bench / "regmean" / "regmean.py", "merging_with_regmean_weights", "reduce_non_diagonal_elements"
    ).merging_with_regmean_weights
    svc_file = bench / "singular_value_calibration" / "utils.py"
    svc = functions(
        svc_file,
        "project_onto_singular_vectors",
        "compute_projection_coefficient",
        "subspace_consistency_spectral_calibration",
    ).subspace_consistency_spectral_calibration
    iso_cts = functions(folder / "iso-merging" / "src" / "utils" / "iso.py", "iso_cts").iso_cts
    lines = functions(folder / "LiNeS" / "src" / "eval" / "eval.py", "LiNeS_scaling").LiNeS_scaling
    torch.Tensor.cuda = lambda self: self  # the authors' code names the device
    wudi = functions(
        folder / "WUDI-Merging" / "vit" / "wudi_main.py", "get_redundant_task_vector", tqdm=lambda steps: steps
    ).get_redundant_task_vector
    torch.set_default_dtype(torch.float64)

    record: dict[str, np.ndarray] = {}
    for name, tasks, seed in (("three", 3, 21), ("eight", 8, 22)):
        plain = task_vectors(tasks, seed)
        for key in SHAPES:
            record[f"{name}/tau/{key}"] = torch.stack([task[key] for task in plain]).numpy()
        taus = [joined(task) for task in plain]
        holders = [types.SimpleNamespace(vector=task) for task in taus]
        out: dict[str, dict[str, torch.Tensor]] = {
            "iso_c": iso_c(taus, accelerator="cpu"),
            "tsv_m": tsv(taus, accelerator="cpu"),
        }
        for share in (0.5, 0.8):
            settings = types.SimpleNamespace(
                device="cpu", DATASETS=range(tasks), method=types.SimpleNamespace(common_space_fraction=share)
            )
            out[f"iso_cts_{share}"] = iso_cts(holders, settings)
        matrices = [key for key, value in taus[0].items() if value.ndim == 2]
        stacks = {key: torch.stack([task[key] for task in taus]) for key in matrices}
        out["wudi"] = {key: wudi(key, stack) for key, stack in stacks.items()}
        for ridge in RIDGES:
            out[f"regmean_{ridge}"] = {}
            for key, stack in stacks.items():
                grams = [task.T @ task / task.square().sum() for task in stack]
                white = ridge * sum(grams).trace() / stack.shape[2] * torch.eye(stack.shape[2])
                merged = regmean(
                    {"map.weight": [*stack, torch.zeros_like(stack[0])]}, [{"map": gram} for gram in (*grams, white)]
                )
                out[f"regmean_{ridge}"][key] = merged["map.weight"]
        for alpha in ALPHAS:
            out[f"svc_{alpha}"] = {
                key: svc(torch.zeros_like(stack[0]), list(stack), 0.3 * stack.sum(0), alpha, torch.device("cpu"))
                for key, stack in stacks.items()
            }
        blocks = {f"blocks.{i}.{key}": sum(task[key] for task in plain) for i, key in enumerate(("q.weight",) * 3)}
        blocks["stem.weight"] = blocks["blocks.0.q.weight"]
        out["lines"] = lines(types.SimpleNamespace(vector=blocks), 0.2, 0.6, 3).vector
        for method, change in out.items():
            record.update({f"{name}/{method}/{key}": part.numpy() for key, part in change.items()})
    target = Path(__file__).with_name("methods_golden.npz")
    np.savez_compressed(target, **record)
    print(f"{len(record)} arrays, {target.stat().st_size} bytes: {target}")


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()) as chatter:
        main(Path(sys.argv[1]))
    print(chatter.getvalue().splitlines()[-1])
