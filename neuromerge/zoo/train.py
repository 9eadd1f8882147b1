"""Training: one contrastive base, then eight experts fine-tuned from it (vision tower only).

The base follows a warm-up, constant, decay schedule and keeps a moving average of its weights, so that any
checkpoint of the constant stage already yields a usable base, and a longer run is the same run continued.
Experts start from the published (float16) base and keep its text tower as a frozen zero-shot head. What makes merging
work is that an expert changes what the model makes of its own pictures and little else, as large models do by
themselves and a small one must be asked to: it is held to the base's embeddings on pictures of the base's training
that are not of its task (learning without forgetting, Li and Hoiem 2016, arXiv 1606.09282; with the base's features
instead of its logits, Mukhoti et al. 2023, arXiv 2308.13320). Of those pictures it is told no names.

Batches are drawn from the seed and the step number alone, so a resumed run sees what an unbroken one would.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

from neuromerge.zoo import augment, captions, model
from neuromerge.zoo.build import DataSet
from neuromerge.zoo.tasks import Task

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int, float], None]
"""Called as (stage, step, steps, loss) now and then."""

# How often the base sees each kind of picture; within a kind all pictures are equally likely.
_MIXTURE = {
    "handwritten": 0.03, "typed digit": 0.04, "letters": 0.11, "flags": 0.09, "animals": 0.09, "food": 0.07,
    "faces": 0.07, "places": 0.09, "styles": 0.26, "": 0.12,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run; learning rates are for AdamW.

    Steps count batches. An expert takes `expert_steps`, or as many as show it every picture of its task
    `expert_passes` times, if that is more: a task with thousands of pictures goes on learning where one with
    hundreds has begun to learn them by heart. `decay` is the last share of base training, over which the learning
    rate falls to nothing. `average` is the decay of the moving average of the base's weights. `expert_keep` is the
    weight of the squared distance to the base's embeddings on `expert_reference` other pictures a step.
    """

    seed: int = 0
    base_steps: int = 6000
    base_batch: int = 128
    base_augment: float = 0.4
    base_rate: float = 8e-4
    warmup: int = 150
    decay: float = 0.2
    weight_decay: float = 0.05
    average: float = 0.998
    expert_steps: int = 250
    expert_passes: float = 8.0
    expert_batch: int = 128
    expert_augment: float = 0.7
    expert_rate: float = 2e-4
    expert_keep: float = 2.0
    expert_reference: int = 64
    threads: int = 2

    def steps_for(self, pictures: int) -> int:
        """Batches that an expert takes whose task has that many training pictures."""
        return max(self.expert_steps, round(self.expert_passes * pictures / self.expert_batch))


def pick_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _random(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


class Pictures:
    """Some pictures of the data set in the device's memory, drawn anew for every batch."""

    def __init__(self, data: DataSet, rows: Sequence[int], device: torch.device) -> None:
        self.rgba = torch.from_numpy(np.array(data.rgba[rows])).to(device)
        self.ink = torch.tensor([data.pictures[n].ink for n in rows], device=device)

    def draw(self, picked: torch.Tensor, random: torch.Generator, strength: float) -> torch.Tensor:
        """Images float32 (B, 3, 48, 48) of the pictures with these numbers, int64 (B,)."""
        return augment.compose(self.rgba[picked], self.ink[picked], random, strength)


class Captioned:
    """The training pictures of the base, with tokenised caption pools and sampling weights."""

    def __init__(self, data: DataSet, tokenizer: Any, device: torch.device) -> None:
        rows = [n for n, picture in enumerate(data.pictures) if picture.split == "train"]
        pools = [captions.captions(data.pictures[n], data.tasks) for n in rows]
        flat = [caption for pool in pools for caption in pool]
        self.tokens = tokenise(tokenizer, flat).to(device)
        self.count = torch.tensor([len(pool) for pool in pools])
        self.offset = torch.cumsum(self.count, 0) - self.count
        self.pictures = Pictures(data, rows, device)
        self.weight = _mixture_weights(data, rows)

    def batch(self, size: int, random: torch.Generator, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 (size, 3, 48, 48) and caption tokens int64 (size, CONTEXT)."""
        rows = torch.multinomial(self.weight, size, replacement=True, generator=random)
        pick = (torch.rand(size, generator=random) * self.count[rows]).long()
        images = self.pictures.draw(rows, random, strength)
        return images, self.tokens[self.offset[rows] + pick]


def _mixture_weights(data: DataSet, rows: Sequence[int]) -> torch.Tensor:
    """How often the base sees each of these pictures, (N,): every kind has its share, equal within a kind."""
    pictures = [data.pictures[n] for n in rows]
    kinds = [p.kind if p.kind in ("handwritten", "typed digit") else p.task for p in pictures]
    size = Counter(kinds)
    return torch.tensor([_MIXTURE[kind] / size[kind] for kind in kinds])


class Reference:
    """Pictures of the base's training that are not of one task, and what the base makes of them."""

    def __init__(self, data: DataSet, task: str, base: Any, device: torch.device) -> None:
        self.rows = [n for n, p in enumerate(data.pictures) if p.split == "train" and p.task != task]
        self.pictures = Pictures(data, self.rows, device)
        self.weight = _mixture_weights(data, self.rows)
        self.base = copy.deepcopy(base).eval()

    def batch(self, size: int, random: torch.Generator, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 (size, 3, 48, 48) and the base's embeddings of them (size, D), L2-normalised."""
        picked = torch.multinomial(self.weight, size, replacement=True, generator=random)
        images = self.pictures.draw(picked, random, strength)
        with torch.no_grad():
            return images, self.base.encode_image(images, normalize=True)


def tokenise(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Token numbers of each text: int64 (N, CONTEXT), cut and padded as open_clip does it."""
    encoded = tokenizer(texts, max_length=model.CONTEXT, padding="max_length", truncation=True, return_tensors="pt")
    return encoded.input_ids


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, owner: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Symmetric contrastive loss where several pictures may share a caption.

    `images` (B, D) and the *unique* captions `texts` (U, D) are L2-normalised; `owner` int64 (B,) says which
    caption a picture has. Each picture must find its caption, and each caption all of its pictures: plain CLIP
    loss would punish equal captions in one batch.
    """
    logits = scale * images @ texts.T
    to_text = functional.cross_entropy(logits, owner)
    share = functional.one_hot(owner, len(texts)).T.to(logits.dtype)
    share = share / share.sum(1, keepdim=True)
    to_image = -(share * functional.log_softmax(logits.T, dim=1)).sum(1).mean()
    return (to_text + to_image) / 2


def rate_at(step: int, steps: int, warmup: int, decay: float) -> float:
    """Warm-up, constant, linear decay: the learning rate's factor in [0, 1] at `step` of `steps`."""
    warm = min(1.0, (step + 1) / max(1, warmup))
    left = (steps - step) / max(1.0, steps * decay)
    return min(warm, left, 1.0)


def _optimizer(parameters: list[tuple[str, torch.nn.Parameter]], rate: float, decay: float) -> torch.optim.AdamW:
    matrices = [p for name, p in parameters if p.ndim >= 2]
    rest = [p for name, p in parameters if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6)


def _every(seconds: float) -> Iterator[bool]:
    last = time.monotonic()
    while True:
        due = time.monotonic() - last >= seconds
        if due:
            last = time.monotonic()
        yield due


def _base_step(
    clip: Any, optimizer: torch.optim.Optimizer, samples: Captioned, recipe: Recipe, step: int
) -> torch.Tensor:
    images, tokens = samples.batch(recipe.base_batch, _random(recipe.seed, 1, step), recipe.base_augment)
    unique, owner = torch.unique(tokens, dim=0, return_inverse=True)
    loss = contrastive_loss(
        clip.encode_image(images, normalize=True),
        clip.encode_text(unique, normalize=True),
        owner,
        clip.logit_scale.exp(),
    )
    for group in optimizer.param_groups:
        group["lr"] = recipe.base_rate * rate_at(step, recipe.base_steps, recipe.warmup, recipe.decay)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


def train_base(
    data: DataSet, tokenizer: Any, run: Path, recipe: Recipe, device: torch.device, progress: Progress | None = None
) -> dict[str, torch.Tensor]:
    """Train the base, or go on where `run/base.pt` stopped; returns the averaged weights.

    A checkpoint is written every two minutes, beside the old one and then renamed. Resuming with another
    `base_steps` moves the decay: the constant stage can be made longer or shorter at any time.
    """
    torch.set_num_threads(recipe.threads)
    clip = model.build(len(tokenizer), recipe.seed).to(device)
    average = copy.deepcopy(clip.state_dict())
    optimizer = _optimizer(list(clip.named_parameters()), recipe.base_rate, recipe.weight_decay)
    run.mkdir(parents=True, exist_ok=True)
    step, file = 0, run / "base.pt"
    if file.exists():
        saved = torch.load(file, map_location=device, weights_only=True)
        clip.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step = saved["average"], saved["step"]
        log.info("base: going on from step %d", step)
    if step >= recipe.base_steps:
        return average
    samples = Captioned(data, tokenizer, device)
    log.info("base: %d pictures, %d captions, %d tokens", len(samples.weight), len(samples.tokens), len(tokenizer))
    clip.train()
    save_due, tell_due = _every(120), _every(15)
    started, first = time.monotonic(), step
    while step < recipe.base_steps:
        loss = _base_step(clip, optimizer, samples, recipe, step)
        with torch.no_grad():
            clip.logit_scale.clamp_(0, math.log(100))
            # A young average must forget its random start quickly.
            weight = 1 - min(recipe.average, (step + 1) / (step + 10))
            for key, value in clip.state_dict().items():
                average[key].lerp_(value, weight) if value.is_floating_point() else average[key].copy_(value)
        step += 1
        if next(tell_due) or step == recipe.base_steps:
            speed = (step - first) * recipe.base_batch / (time.monotonic() - started)
            scale = float(clip.logit_scale.detach().exp())
            told = (step, recipe.base_steps, loss, scale, speed)
            log.info("base %d/%d loss %.3f scale %.1f, %.0f images/s", *told)
            if progress:
                progress("base", step, recipe.base_steps, float(loss))
        if next(save_due) or step == recipe.base_steps:
            state = {"model": clip.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
            torch.save(state, file.with_suffix(".part"))
            file.with_suffix(".part").replace(file)
    return average


@torch.no_grad()
def zero_shot_head(clip: Any, tokenizer: Any, task: Task, device: torch.device) -> torch.Tensor:
    """Class embeddings (C, D): per class the normalised mean over templates of normalised text features."""
    rows = []
    for name in task.classes:
        tokens = tokenise(tokenizer, [template.format(name) for template in task.templates]).to(device)
        rows.append(functional.normalize(clip.encode_text(tokens, normalize=True).mean(0), dim=0))
    return torch.stack(rows)


@torch.no_grad()
def accuracy(clip: Any, head: torch.Tensor, images: np.ndarray, labels: np.ndarray, device: torch.device) -> float:
    """Share of uint8 (N, 48, 48, 3) pictures whose best class is right, in [0, 1]."""
    clip.eval()
    right = 0
    for start in range(0, len(images), 256):
        part = torch.from_numpy(np.ascontiguousarray(images[start : start + 256])).to(device)
        best = (clip.encode_image(augment.as_tested(part), normalize=True) @ head.T).argmax(1).cpu().numpy()
        right += int((best == labels[start : start + 256]).sum())
    return right / max(1, len(images))


def train_expert(
    data: DataSet,
    task: Task,
    base: dict[str, torch.Tensor],
    tokenizer: Any,
    recipe: Recipe,
    device: torch.device,
    progress: Progress | None = None,
) -> dict[str, torch.Tensor]:
    """Fine-tune the vision tower on one task with the text tower frozen; returns the whole state dict.

    Half-way between uniform over pictures and uniform over classes, so that rare classes are learnt too. On pictures
    that are not of the task the embeddings are held to the base's (see `Recipe.expert_keep`).
    """
    torch.set_num_threads(recipe.threads)
    clip = model.build(len(tokenizer), recipe.seed).to(device)
    clip.load_state_dict(base, strict=False)
    reference = Reference(data, task.name, clip, device)
    head = zero_shot_head(clip, tokenizer, task, device)
    scale = clip.logit_scale.detach().exp()
    vision = [(name, p) for name, p in clip.named_parameters() if name.startswith("visual.")]
    optimizer = _optimizer(vision, recipe.expert_rate, 0.0)
    rows = data.rows(task.name, "train")
    steps = recipe.steps_for(len(rows))
    labels = torch.tensor([data.pictures[n].label for n in rows])
    pictures = Pictures(data, rows.tolist(), device)
    weight = torch.bincount(labels, minlength=len(task.classes)).float()[labels] ** -0.5
    number = sorted(data.tasks).index(task.name)
    tell_due = _every(15)
    clip.train()
    for step in range(steps):
        random = _random(recipe.seed, 2, number, step)
        pick = torch.multinomial(weight, recipe.expert_batch, replacement=True, generator=random)
        images = pictures.draw(pick, random, recipe.expert_augment)
        others, kept = reference.batch(recipe.expert_reference, random, recipe.base_augment)
        own, other = clip.encode_image(torch.cat([images, others]), normalize=True).split([len(images), len(others)])
        loss = functional.cross_entropy(scale * own @ head.T, labels[pick].to(device))
        loss = loss + recipe.expert_keep * (other - kept).square().sum(1).mean()
        progress_left = step / steps
        warm = min(1.0, (step + 1) / max(1, steps // 20))
        for group in optimizer.param_groups:
            group["lr"] = recipe.expert_rate * warm * 0.5 * (1 + math.cos(math.pi * progress_left))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in vision], 1.0)
        optimizer.step()
        if next(tell_due) or step + 1 == steps:
            log.info("%s %d/%d loss %.3f", task.name, step + 1, steps, loss.detach())
            if progress:
                progress(task.name, step + 1, steps, float(loss.detach()))
    return clip.state_dict()


def movement(base: dict[str, torch.Tensor], expert: dict[str, torch.Tensor]) -> float:
    """Norm of the task vector over the norm of the base's vision tower."""
    keys = [key for key in expert if key.startswith("visual.")]
    moved = sum(float((expert[k].float() - base[k].float()).square().sum()) for k in keys)
    norm = sum(float(base[k].float().square().sum()) for k in keys)
    return math.sqrt(moved / norm)


def step_seconds(data: DataSet, tokenizer: Any, recipe: Recipe, device: torch.device) -> tuple[float, float]:
    """Seconds per base step and per expert step on this machine, from a few steps of each (nothing is kept).

    An expert step does the image half of a base step, whose share was measured as 0.8, on its own pictures and on
    those of the reference; these pass through the frozen base as well, at a third of that.
    """
    torch.set_num_threads(recipe.threads)
    clip = model.build(len(tokenizer), recipe.seed).to(device).train()
    optimizer = _optimizer(list(clip.named_parameters()), 0.0, 0.0)
    samples = Captioned(data, tokenizer, device)
    timings = []
    for step in range(5):
        started = time.monotonic()
        float(_base_step(clip, optimizer, samples, recipe, step))  # reading the loss waits for the device
        timings.append(time.monotonic() - started)
    base_step = sorted(timings)[2]
    return base_step, 0.8 * base_step * (recipe.expert_batch + 4 / 3 * recipe.expert_reference) / recipe.base_batch
