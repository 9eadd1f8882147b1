"""Record what other people's code makes of two small random models: writes baselines_golden.npz beside this file.

Run once, in an environment of its own, with checkouts and versions as named here; no test needs any of it:

    pip install torch numpy safetensors pydantic && pip install --no-deps mergekit==0.1.5 fusion-bench==0.2.33
    git clone https://github.com/duguodong7/pcb-merging     # commit 31fa2dc446704b59fb7925ff70fbc65ecb2ae012
    python tests/data/make_baselines_golden.py pcb-merging

Recorded (keys "<model>/<method>/<parameter>" or "<model>/<method>" for one flat vector, sorted by parameter name):
    fusionbench_ties_mean, _sum   merged task vector, keep 20 %, not scaled
    fusionbench_mask_<l>          number of TALL masks that hold an entry, l as given, reference scale 0.3
    fusionbench_tsv_m, _iso_c     merged task vector, not scaled
    mergekit_ties_mean, _sum      whole model as ONE tensor; mergekit keeps int(density * d) entries while TIES's own
                                  code keeps one more, so density is (kept entries + 0.5) / d
    mergekit_task_arithmetic      lambda 0.3
    mergekit_dare_ties            consensus and mean of task vectors already thinned (key "<model>/thinned"):
                                  mergekit draws other masks and rescales by the L1 norm, so its drop cannot be compared
    authors_pcb                   the vision code as published (it is written for eight tasks)
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import io
import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHAPES = {"fc1.bias": (24,), "fc1.weight": (24, 16), "fc2.weight": (16, 24), "norm.weight": (16,), "q.weight": (16, 16)}
TRIM_RATIO = 0.8
THRESHOLDS = (0.2, 0.4, 0.6)


def model(tasks: int, seed: int) -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Base weights and task vectors with heavy tails."""
    generator = torch.Generator().manual_seed(seed)
    base = {k: torch.randn(s, generator=generator, dtype=torch.float64) for k, s in SHAPES.items()}
    taus = [
        {k: 0.1 * torch.randn(s, generator=generator, dtype=torch.float64) ** 3 for k, s in SHAPES.items()}
        for _ in range(tasks)
    ]
    return base, taus


def flat(state: dict[str, torch.Tensor]) -> torch.Tensor:
    """One vector, parameters sorted by name."""
    return torch.cat([state[k].flatten() for k in sorted(state)])


def fusion_bench(module: str) -> Any:
    """One file of FusionBench, without the package around it."""
    root = Path(str(importlib.metadata.distribution("fusion-bench").locate_file("fusion_bench")))
    for name in ("fusion_bench", "fusion_bench.utils", "fusion_bench.utils.type"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["fusion_bench.utils.type"].StateDictType = dict
    utils = sys.modules["fusion_bench.utils"]
    utils.timeit_context = lambda *_: contextlib.nullcontext()
    utils.state_dict_to_vector = utils.vector_to_state_dict = None
    spec = importlib.util.spec_from_file_location(Path(module).stem, root / "method" / module)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def authors_pcb(checkout: Path, taus: torch.Tensor) -> torch.Tensor:
    """Run the functions and the main block of the published script, up to the merged task vector."""
    tree = ast.parse((checkout / "vision_source_code" / "pcb.py").read_text())
    wanted = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in ("normalize", "clamp", "act")]
    main = next(n for n in tree.body if isinstance(n, ast.If)).body
    stop = next(
        i for i, n in enumerate(main) if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "merged_tv"
    )
    scope: dict[str, Any] = {"torch": torch, "tv_flat_checks": taus.clone()}
    exec(compile(ast.Module(wanted + main[: stop + 1], []), "pcb.py", "exec"), scope)
    return scope["merged_tv"]


def mergekit(method: str, base: torch.Tensor, taus: torch.Tensor, density: float, **more: Any) -> torch.Tensor:
    """One method of mergekit on a model of one tensor: the merged task vector."""
    from mergekit.merge_methods.base import TensorGroup
    from mergekit.merge_methods.registry import get

    chosen = get(method)
    experts = range(1, len(taus) + 1)
    group = TensorGroup.from_tensors([base, *(base + tau for tau in taus)], base_index=0)
    given = {"int8_mask": False, "rescale": False, "normalize": False, "lambda": 1.0, **more}
    per_expert = {"weight": dict.fromkeys(experts, 1.0), "density": dict.fromkeys(experts, density)}
    return chosen.merge_group(group, **given, **per_expert) - base


def main(checkout: Path) -> None:
    """Run everything and write the file."""
    ties = fusion_bench("ties_merging/ties_merging_utils.py")
    tsv = fusion_bench("task_singular_vector/utils/TSVM_utils.py")
    iso = fusion_bench("isotropic_merging/iso_utils.py")
    tall = fusion_bench("tall_mask/utils.py")
    record: dict[str, np.ndarray] = {}
    for name, tasks, seed in (("three", 3, 11), ("eight", 8, 12)):
        base, taus = model(tasks, seed)
        stacked = torch.stack([flat(tau) for tau in taus])
        d = stacked.shape[1]
        for key in SHAPES:
            record[f"{name}/base/{key}"] = base[key].numpy()
            record[f"{name}/tau/{key}"] = torch.stack([tau[key] for tau in taus]).numpy()
        out: dict[str, torch.Tensor | dict[str, torch.Tensor]] = {}
        for function in ("mean", "sum"):
            keep = 1 - math.floor(TRIM_RATIO * d + 1e-9) / d
            out[f"fusionbench_ties_{function}"] = ties.ties_merging(stacked, keep, f"dis-{function}")
            kept = d - math.floor(TRIM_RATIO * d + 1e-9) + 1
            normalize = function == "mean"
            out[f"mergekit_ties_{function}"] = mergekit(
                "ties", flat(base), stacked, (kept + 0.5) / d, normalize=normalize
            )
        for threshold in THRESHOLDS:
            masks = tall.generate_task_masks(
                stacked, flat(base) + stacked, flat(base), 0.3 * stacked.sum(0), tall_mask_lambda=threshold
            )
            out[f"fusionbench_mask_{threshold}"] = masks.sum(0)
        out["fusionbench_tsv_m"] = tsv.compute_and_sum_svd_mem_reduction(taus, accelerator="cpu")
        out["fusionbench_iso_c"] = iso.iso_c(taus, accelerator="cpu")
        out["mergekit_task_arithmetic"] = mergekit("task_arithmetic", flat(base), stacked, 1.0, **{"lambda": 0.3})
        survivors = torch.rand(stacked.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
        out["thinned"] = stacked * survivors / 0.4
        out["mergekit_dare_ties"] = mergekit("dare_ties", flat(base), out["thinned"], 1.0, normalize=True)
        if tasks == 8:
            out["authors_pcb"] = authors_pcb(checkout, stacked)
        for method, value in out.items():
            if isinstance(value, dict):
                record.update({f"{name}/{method}/{key}": part.numpy() for key, part in value.items()})
            else:
                record[f"{name}/{method}"] = value.numpy()
    target = Path(__file__).with_name("baselines_golden.npz")
    np.savez_compressed(target, **record)
    print(f"{len(record)} arrays, {target.stat().st_size} bytes: {target}")


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()) as chatter:
        main(Path(sys.argv[1]))
    print(chatter.getvalue().splitlines()[-1])
