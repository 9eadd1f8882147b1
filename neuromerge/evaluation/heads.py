"""Zero-shot heads: class names and prompt templates turned into classifier weights by the text tower.

The text tower of a merge is always its base's, so a head depends on the tower, the names and the templates alone:
it is made once and kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuromerge.deployment import deployment
from neuromerge.errors import LimitError
from neuromerge.evaluation.families import MAX_CLASSES, check_templates, check_texts
from neuromerge.evaluation.hub import DAMAGE
from neuromerge.evaluation.towers import TextModel

MAX_PROMPTS = 50_000
_CACHE_BYTES = 32_000_000
_CHUNK_CLASSES = 256
_SLOW = 2_000_000_000  # prompts times weights: about a second of two cores


def zero_shot_head(
    text_model: TextModel, class_names: Sequence[str], templates: Sequence[str], *, keep: bool = False
) -> Tensor:
    """Classifier weights (C, dimensions), rows of unit length. Do not write to them: they are shared.

    Per class every template is encoded, projected and L2-normalised; their mean is L2-normalised (Radford et al.,
    2021, section 3.1.4). Logits are `text_model.logit_scale` times the product with normalised image embeddings.

    Args:
        keep: whether a head that takes seconds is also kept in the cache folder, for the next start. For the
            fixed tasks of a family only: what visitors type must not fill the disk.

    Raises:
        SettingError: no class, no template, or a template without ``{}``.
        LimitError: too many or too long texts.
    """
    names = check_texts(class_names, "Class names", MAX_CLASSES)
    prompts = check_templates(templates)
    if len(names) * len(prompts) > MAX_PROMPTS:
        raise LimitError(
            f"{len(names)} classes with {len(prompts)} templates make {len(names) * len(prompts):,} prompts; at most "
            f"{MAX_PROMPTS:,} are encoded."
        )
    key = _key(text_model, names, prompts)
    found = _heads.get(key)
    if found is None:
        slow = keep and len(names) * len(prompts) * text_model.size >= _SLOW
        path = deployment().cache / "heads" / f"{key}.npy" if slow else None
        found = _read(path, (len(names), text_model.dimensions)) if path else None
        if found is None:
            found = _encode(text_model, names, prompts)
            if path:
                _write(path, found)
        _heads.put(key, found)
    return found


def _encode(text_model: TextModel, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    head = torch.empty((len(names), text_model.dimensions))
    for start in range(0, len(names), _CHUNK_CLASSES):
        part = names[start : start + _CHUNK_CLASSES]
        texts = [template.replace("{}", name) for name in part for template in templates]
        encoded = text_model.encode(texts).view(len(part), len(templates), -1)
        head[start : start + len(part)] = F.normalize(encoded.mean(dim=1), dim=-1)
    return head


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """A kept head, None where there is none or it is damaged."""
    try:
        head = torch.from_numpy(np.load(path, allow_pickle=False))
    except DAMAGE:
        return None
    sound = head.dtype == torch.float32 and tuple(head.shape) == shape and bool(torch.isfinite(head).all())
    return head if sound else None


def _write(path: Path, head: Tensor) -> None:
    """Keep a head; where the folder cannot be written it is simply made again next time."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.save(file, head.numpy())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _key(text_model: TextModel, names: Sequence[str], templates: Sequence[str]) -> str:
    mark = hashlib.sha256(text_model.digest.encode())
    for group in (names, templates):
        mark.update(b"\x00group")
        for text in group:
            mark.update(b"\x00" + text.encode())
    return mark.hexdigest()


class _Cache:
    """Least recently used heads first out, bounded by their bytes; safe between threads."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._held: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Tensor | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: str, head: Tensor) -> None:
        with self._lock:
            if key in self._held:
                return
            self._held[key] = head
            self._bytes += head.numel() * head.element_size()
            while self._bytes > self._most and len(self._held) > 1:
                _, dropped = self._held.popitem(last=False)
                self._bytes -= dropped.numel() * dropped.element_size()


_heads = _Cache(_CACHE_BYTES)
