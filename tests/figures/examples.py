"""Realistic results for the figures, without an engine: drawn from the decomposition's own mathematics.

A few neurons with random task vectors are decomposed in numpy exactly as the method says (c, the orthogonal
parts, their singular directions, the election, alpha), so that the pictures are tried on numbers that hang together.
"""

from __future__ import annotations

import math

import numpy as np

from neuromerge.exploration.results import (
    Accuracy,
    AccuracyBoard,
    BetweenTasks,
    Confusion,
    ContestedNeuron,
    Drift,
    Effect,
    EffectMap,
    Heatmap,
    LayerDetail,
    NeuronDetail,
    PairPlace,
    StrengthCurve,
)
from neuromerge.merging.measures import get_measure
from neuromerge.search.landscape import Landscape
from neuromerge.search.trials import Trial

TASKS = ("digits", "letters", "flags", "shapes", "icons", "colours", "textures", "faces")
UNSEEN = ("clocks", "maps")
MATRICES = ("q", "k", "v", "out", "fc1", "fc2", "norm", "bias", "patch", "embedding", "projection")
LAYERS = ("stem", *(f"block {i}" for i in range(12)), "head")


def wilson(correct: int, n: int) -> Accuracy:
    """Accuracy with its 95 % Wilson interval."""
    z, p = 1.96, correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Accuracy(correct, n, centre - half, centre + half)


def elect(values: np.ndarray) -> float:
    """Elected mean of one coordinate over tasks: the mean of the values whose sign has the larger sum."""
    total = values.sum()
    if abs(total) <= 1e-6 * np.abs(values).sum():
        return 0.0
    kept = values[np.sign(values) == np.sign(total)]
    return float(kept.sum() / max(len(kept), 1))


def decompose(base: np.ndarray, tau: np.ndarray) -> dict[str, np.ndarray]:
    """One neuron: base (n,), tau (T, n) -> c (T,), left U (T, R), singular (R,), directions V (n, R), e (R,), alpha."""
    c = tau @ base / (base @ base)
    orthogonal = tau - np.outer(c, base)
    left, singular, right = np.linalg.svd(orthogonal, full_matrices=False)
    keep = singular > 1e-7 * singular[0]
    left, singular, right = left[:, keep], singular[keep], right[keep]
    left = np.where(np.abs(left) <= 1e-7, 0.0, left)
    elected = np.array([elect(left[:, r]) for r in range(left.shape[1])])
    return {"c": c, "left": left, "singular": singular, "right": right, "elected": elected, "alpha": left @ elected}


def task_vectors(rng: np.random.Generator, base: np.ndarray, tasks: int, size: float = 0.03) -> np.ndarray:
    """(T, n) task vectors of about `size` times the base's norm, with a shared and a private part each."""
    n = len(base)
    shared = rng.normal(size=(3, n))
    tau = rng.normal(size=(tasks, 3)) @ shared + 1.2 * rng.normal(size=(tasks, n))
    tau += np.outer(rng.normal(0.4, 1.0, tasks), base / np.linalg.norm(base)) * math.sqrt(n) * 0.35
    norms = size * rng.uniform(0.6, 1.5, tasks) * np.linalg.norm(base)
    return tau * (norms / np.linalg.norm(tau, axis=1))[:, None]


def board(
    *, pinned: bool = True, previous: bool = True, unseen: bool = True, split: str = "validation"
) -> AccuracyBoard:
    """Eight merged tasks and two that are not."""
    rng = np.random.default_rng(3)
    tasks = TASKS + (UNSEEN if unseen else ())
    n = 400 if split != "quick" else 16

    def table(low: float, high: float, shift: dict[str, float] | None = None) -> dict[str, Accuracy]:
        values = {task: rng.uniform(low, high) + (shift or {}).get(task, 0) for task in tasks}
        return {task: wilson(int(np.clip(round(v * n), 0, n)), n) for task, v in values.items()}

    base = table(0.2, 0.5)
    expert = table(0.9, 0.99)
    merge = table(0.6, 0.88, dict.fromkeys(UNSEEN, -0.35))
    before = {
        task: wilson(int(np.clip(a.correct - rng.integers(-n // 30 - 1, n // 14 + 2), 0, n)), n)
        for task, a in merge.items()
    }
    task_arithmetic = table(0.5, 0.78, dict.fromkeys(UNSEEN, -0.3))
    return AccuracyBoard(
        split=split,
        tasks=tasks,
        merged=frozenset(TASKS),
        base=base,
        expert=expert,
        merge=merge,
        pinned=task_arithmetic if pinned else None,
        pinned_label="task arithmetic, λ 0.3" if pinned else "",
        previous=before if previous else None,
    )


def heatmap(key: str = "cancellation", *, note_parallel: str = "") -> Heatmap:
    """A ViT-B's cells; norms and biases have no parallel part, blocks have no patch matrix."""
    rng = np.random.default_rng(5)
    info = get_measure(key)
    depth = np.linspace(0, 1, len(LAYERS))[:, None]
    shape = 0.35 + 0.3 * depth + 0.12 * rng.normal(size=(len(LAYERS), len(MATRICES)))
    scale = {"applied_change": 0.08, "cosine": 1.0}.get(key, 1.0)
    shift = {"cosine": -0.45, "retention": -0.25}.get(key, 0.0)
    parallel = np.clip((shape * 0.5 + shift) * scale, -1, 1.0)
    orthogonal = np.clip((shape + 0.15 + shift) * scale, -1, 1.0)
    for i, layer in enumerate(LAYERS):
        for j, matrix in enumerate(MATRICES):
            ends = layer in ("stem", "head")
            present = {"stem": ("patch", "embedding", "norm", "bias"), "head": ("projection", "norm", "bias")}
            exists = matrix in present[layer] if ends else matrix in (*MATRICES[:6], "norm", "bias")
            if not exists:
                parallel[i, j] = orthogonal[i, j] = np.nan
            elif matrix in ("norm", "bias", "embedding"):
                parallel[i, j] = np.nan
    if note_parallel:
        parallel = np.where(np.isfinite(parallel), 0.0, np.nan)
    return Heatmap(info, LAYERS, MATRICES, parallel, orthogonal, note_parallel=note_parallel)


def between_tasks(tasks: tuple[str, ...] = TASKS, layer: str = "", matrix: str = "") -> BetweenTasks:
    """Tasks that mostly go their own ways; without the parallel part in a norm."""
    rng = np.random.default_rng(8)
    count = len(tasks)
    vectors = {name: task_vectors(rng, rng.normal(size=64), count) for name in ("parallel", "orthogonal")}
    vectors["both"] = np.concatenate(list(vectors.values()), axis=1)
    conflict = {name: -np.corrcoef(values).reshape(count, count) for name, values in vectors.items()}
    for values in conflict.values():
        np.fill_diagonal(values, np.nan)
    kept = {"parallel": np.zeros(count), "orthogonal": np.linspace(-0.2, 1.3, count), "both": rng.uniform(0, 1, count)}
    if matrix == "norm":
        conflict["parallel"], kept["parallel"] = np.full((count, count), np.nan), np.full(count, np.nan)
    places = {
        (a, b): PairPlace(f"block {(a + b) % 12}", "fc1", "orthogonal", 0.1)
        for a in range(count)
        for b in range(a + 1, count)
    }
    return BetweenTasks(tasks, layer, matrix, conflict, kept, np.full(count, 1 / count), places)


def drift(tasks: tuple[str, ...] = TASKS, blocks: int = 12) -> Drift:
    """Features that leave their experts ever further."""
    rng = np.random.default_rng(9)
    far = np.cumsum(rng.random((blocks, len(tasks))), axis=0) / blocks / 2
    common = rng.random((blocks, len(tasks)))
    common[0, 0] = np.nan
    return Drift(tasks, tuple(f"block {at}" for at in range(blocks)), far, common, (16,) * len(tasks))


def layer_detail(tasks: tuple[str, ...] = TASKS, *, neurons: int = 384, bins: int = 48) -> LayerDetail:
    """A layer of `neurons` neurons with 192 inputs."""
    rng = np.random.default_rng(11)
    n, count = 192, len(tasks)
    norms, margins, alphas, ratio = [], [], [], []
    parallel, orthogonal = np.zeros((count, count)), np.zeros((count, count))
    for _ in range(neurons):
        base = rng.normal(size=n)
        tau = task_vectors(rng, base, count)
        d = decompose(base, tau)
        norms.append(np.linalg.norm(tau, axis=1) / np.linalg.norm(base))
        sums = np.abs(d["left"].sum(0)) / np.abs(d["left"]).sum(0)
        margins.append(float((sums * d["singular"]).sum() / d["singular"].sum()))
        alphas.append(d["alpha"])
        ratio.append(float(np.linalg.norm(d["singular"]) / np.linalg.norm(base)))
        parallel += np.outer(d["c"], d["c"]) * (base @ base)
        orthogonal += (d["left"] * d["singular"] ** 2) @ d["left"].T

    def cosine(gram: np.ndarray) -> np.ndarray:
        root = np.sqrt(np.diag(gram))
        return gram / np.outer(root, root)

    order = np.argsort(margins)
    strength, margin, alpha = np.array(norms)[order], np.array(margins)[order], np.array(alphas)
    edges = np.linspace(0, neurons, bins + 1).round().astype(int)
    alpha_edges = np.linspace(-0.5, 1.25, 36)
    return LayerDetail(
        layer="block 7",
        matrix="fc1",
        kind="neurons",
        tasks=tasks,
        neurons=neurons,
        inputs=n,
        sort="most contested first",
        strength=np.stack([strength[a:b].mean(0) for a, b in zip(edges[:-1], edges[1:], strict=True)]),
        margin=np.array([margin[a:b].mean() for a, b in zip(edges[:-1], edges[1:], strict=True)]),
        bin_edges=edges,
        cosine_parallel=cosine(parallel),
        cosine_orthogonal=cosine(orthogonal),
        alpha_edges=alpha_edges,
        alpha_counts=np.stack([np.histogram(np.clip(alpha[:, t], -0.5, 1.25), alpha_edges)[0] for t in range(count)]),
        contested=tuple(
            ContestedNeuron(int(i), float(margins[i]), float(alpha[i].mean()), ratio[i], bool(k % 5 == 3))
            for k, i in enumerate(order[:12])
        ),
        ill_conditioned=17,
    )


def neuron_detail(
    tasks: tuple[str, ...] = TASKS,
    *,
    lambda_parallel: float = 0.8,
    lambda_orthogonal: float = 1.4,
    seed: int = 21,
    images: int = 96,
    size: float = 0.03,
) -> NeuronDetail:
    """One neuron with 192 inputs and its real-looking pre-activations."""
    rng = np.random.default_rng(seed)
    n = 192
    base = rng.normal(size=n)
    tau = task_vectors(rng, base, len(tasks), size)
    d = decompose(base, tau)
    labels = tuple(tasks[i % len(tasks)] for i in range(images))
    kinds = rng.normal(size=(len(tasks), n)) * 1.2
    inputs = rng.normal(size=(images, n)) + np.stack([kinds[tasks.index(label)] for label in labels])
    return NeuronDetail(
        layer="block 7",
        matrix="fc1",
        index=137,
        tasks=tasks,
        base_norm=float(np.linalg.norm(base)),
        c=d["c"],
        c_merged=elect(d["c"]),
        scores=d["left"] * d["singular"],
        singular=d["singular"],
        left=d["left"],
        elected=d["elected"],
        alpha=d["alpha"],
        tau_norm=np.linalg.norm(tau, axis=1),
        lambda_parallel=lambda_parallel,
        lambda_orthogonal=lambda_orthogonal,
        along_base=inputs @ base / np.linalg.norm(base),
        along_direction=inputs @ d["right"].T,
        image_labels=labels,
    )


def landscape() -> Landscape:
    """Accuracy over lambda_1 and lambda_2, with one corner not computed yet."""
    x, y = np.linspace(0, 2, 9), np.linspace(0, 4, 11)
    value = 0.78 - 0.05 * (x[None] - 0.4) ** 2 - 0.03 * (y[:, None] - 1.8) ** 2
    value[-2:, -2:] = np.nan
    return Landscape("lambda_parallel", "lambda_orthogonal", x, y, value, (0.5, 1.25), {"trim_ratio": 0.8})


def strength_curve(known: int = 13) -> StrengthCurve:
    """A hill with its top at 0.83 times; only the first points of it are measured where `known` says so."""
    strengths = np.linspace(0, 2, 13)
    accuracy = 0.32 + 0.16 * np.exp(-4 * (strengths - 0.83) ** 2)
    accuracy[known:] = np.nan
    marks = {"auto": 1.0, "retention": 1.11}
    return StrengthCurve(strengths, accuracy, 140, {"lambda_orthogonal": 1.0}, marks)


def effects(known: int = 200) -> EffectMap:
    """Layers and matrices left at the base; only the first are measured where `known` says so."""
    rng = np.random.default_rng(4)
    parts = [(layer, matrix) for matrix in ("", "q", "k", "v", "out", "fc1", "fc2") for layer in LAYERS[1:-1]]
    measured = []
    for layer, matrix in parts[:known]:
        gained, lost = (int(count) for count in rng.integers(0, 15, 2))
        by_task = {task: float(rng.normal(0, 0.02)) for task in TASKS}
        measured.append(Effect(layer, matrix, 0.0, (gained - lost) / 140, 0.02, by_task, gained, lost))
    conflict = rng.normal(0, 0.1, (len(LAYERS), len(MATRICES)))
    before = dict.fromkeys(TASKS, 0.5)
    return EffectMap(LAYERS, MATRICES, "quick", 140, before, conflict, tuple(measured), len(parts))


def trials(count: int = 40) -> tuple[Trial, ...]:
    """A search with some trials by hand, one failed and one running."""
    rng = np.random.default_rng(8)
    result = []
    for i in range(count):
        l1, l2, r = rng.uniform(0, 2), rng.uniform(0, 4), rng.uniform(0.5, 0.95)
        value = 0.78 - 0.05 * (l1 - 0.4) ** 2 - 0.03 * (l2 - 1.8) ** 2 - 0.2 * (r - 0.8) ** 2 + rng.normal(0, 0.004)
        state = "running" if i == count - 1 else "failed" if i == 5 else "complete"
        hyperparameters: dict[str, float | str] = {"lambda_parallel": l1, "lambda_orthogonal": l2, "trim_ratio": r}
        origin = "hand" if i % 9 == 4 else "tpe"
        result.append(Trial(i, origin, hyperparameters, value if state == "complete" else None, 1.4, state))
    return tuple(result)


def confusion(classes: int = 10) -> Confusion:
    """Mostly right, with two pairs that are mixed up."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(0.6, (classes, classes)) + np.diag(rng.integers(18, 40, classes))
    counts[3, 5] = 14
    counts[7, 1] = 11
    return Confusion("digits", tuple(f"class {i}" for i in range(classes)), counts)


def dead_neuron() -> NeuronDetail:
    """A neuron whose base weights are all zero and that no task moves; no pictures reach it."""
    zero, none = np.zeros(1), np.zeros((1, 0))
    return NeuronDetail(
        layer="head",
        matrix="projection",
        index=0,
        tasks=("one",),
        base_norm=0.0,
        c=zero,
        c_merged=0.0,
        scores=none,
        singular=np.zeros(0),
        left=none,
        elected=np.zeros(0),
        alpha=zero,
        tau_norm=zero,
        lambda_parallel=0.0,
        lambda_orthogonal=1.0,
        along_base=np.zeros(0),
        along_direction=np.zeros((0, 0)),
    )
