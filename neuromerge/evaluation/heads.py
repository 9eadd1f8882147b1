"""Zero-shot heads: class names and prompt templates turned into classifier weights by the text tower.

The text tower of a merge is always its base's, so a head depends on the tower, the names and the templates alone:
it is made once and kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuromerge.atomic import replacing
from neuromerge.deployment import deployment
from neuromerge.errors import LimitError
from neuromerge.evaluation.families import MAX_CLASSES, check_templates, check_texts
from neuromerge.evaluation.picture_files import DAMAGE
from neuromerge.evaluation.towers import TextModel

MAX_PROMPTS = 50_000
CACHE_BYTES = 32_000_000
SLOW_PRODUCTS = 2_000_000_000
"""Prompts times weights of a head that takes about a second of two cores."""
_CHUNK_CLASSES = 256
_TURN_PRODUCTS = 1_500_000_000  # prompts times weights of two tenths of a second of two cores
_NAMED = 3  # texts that a note names; more are counted

Turn = Callable[[Callable[[], Tensor]], Tensor]
"""Does a piece of work of a few tenths of a second, when its turn comes; may raise Cancelled."""


def at_once(work: Callable[[], Tensor]) -> Tensor:
    """For who waits for nobody."""
    return work()


class Heads:
    """Zero-shot heads that were made, least recently used first out. Thread-safe.

    Args:
        most_bytes: of all heads that are held; the last one is held whatever its size.
        slow_products: a head of a fixed task that costs more products is also kept in the cache folder.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES, slow_products: int = SLOW_PRODUCTS) -> None:
        self._most_bytes, self._slow_products = most_bytes, slow_products
        self._bytes = 0
        self._heads: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def head(
        self,
        text_model: TextModel,
        class_names: Sequence[str],
        templates: Sequence[str],
        *,
        keep: bool = False,
        turn: Turn = at_once,
    ) -> Tensor:
        """See `zero_shot_head`."""
        names = check_texts(class_names, "Class names", MAX_CLASSES)
        prompts = check_templates(templates)
        count = len(names) * len(prompts)
        if count > MAX_PROMPTS:
            raise LimitError(
                f"{len(names)} classes with {len(prompts)} templates make {count:,} prompts; at most "
                f"{MAX_PROMPTS:,} are encoded."
            )
        key = _key(text_model, names, prompts)
        found = self._get(key)
        if found is None:
            slow = keep and count * text_model.size >= self._slow_products
            path = deployment().cache / "heads" / f"{key}.npy" if slow else None
            found = _read(path, (len(names), text_model.dimensions)) if path else None
            if found is None:
                found = _encode(text_model, names, prompts, turn)
                if path:
                    _write(path, found)
            self._put(key, found)
        return found

    def _get(self, key: str) -> Tensor | None:
        with self._lock:
            if key in self._heads:
                self._heads.move_to_end(key)
            return self._heads.get(key)

    def _put(self, key: str, head: Tensor) -> None:
        with self._lock:
            if key in self._heads:
                return
            self._heads[key] = head
            self._bytes += head.nbytes
            while self._bytes > self._most_bytes and len(self._heads) > 1:
                _, dropped = self._heads.popitem(last=False)
                self._bytes -= dropped.nbytes


_shared = Heads()


def zero_shot_head(
    text_model: TextModel,
    class_names: Sequence[str],
    templates: Sequence[str],
    *,
    keep: bool = False,
    turn: Turn = at_once,
) -> Tensor:
    """Classifier weights (C, dimensions), rows of unit length. Do not write to them: they are shared.

    Per class every template is encoded, projected and L2-normalised; their mean is L2-normalised (Radford et al.,
    2021, section 3.1.4). Logits are `text_model.logit_scale` times the product with normalised image embeddings.

    Args:
        keep: whether a head that takes seconds is also kept in the cache folder, for the next start. For the
            fixed tasks of a family only: what visitors type must not fill the disk.
        turn: does each piece of the work.

    Raises:
        SettingError: no class, no template, or a template without ``{}``.
        LimitError: too many or too long texts.
    """
    return _shared.head(text_model, class_names, templates, keep=keep, turn=turn)


def prompt_notes(text_model: TextModel, class_names: Sequence[str], templates: Sequence[str]) -> tuple[str, ...]:
    """Sentences for people about prompts that the text tower does not read as they stand.

    They tell of prompts that are longer than its context and so are cut, words it does not know, and classes that
    become the same to it. Of many templates the longest is looked at.

    Raises as `zero_shot_head`.
    """
    names = check_texts(class_names, "Class names", MAX_CLASSES)
    prompts = check_templates(templates)
    longest = max(prompts, key=len)
    tokenizer, context = text_model.tokenizer, text_model.context
    texts = [longest.replace("{}", name) for name in names]
    notes: list[str] = []
    if cut := [text for text, length in zip(texts, tokenizer.lengths(texts), strict=True) if length > context]:
        notes.append(
            f"{len(cut)} of {len(texts)} prompts are longer than the {context} tokens that the text tower reads, and "
            f"their ends are cut: {_first(cut)}"
        )
    unknown = [word for text in (longest.replace("{}", " "), *names) for word in tokenizer.unknown_words(text)]
    if unknown:
        notes.append(f"the text tower does not know all of {_first(list(dict.fromkeys(unknown)))}")
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, ids in zip(names, tokenizer(texts, context).tolist(), strict=True):
        alike.setdefault(tuple(ids), []).append(name)
    notes += [
        f"the text tower reads the same in {_first(group)}, so it cannot tell these classes apart"
        for group in alike.values()
        if len(group) > 1
    ][:_NAMED]
    return tuple(f"{note[0].upper()}{note[1:]}." for note in notes)


def _first(texts: Sequence[str]) -> str:
    """The first few texts, and how many more there are."""
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(f"“{text[:80]}”" for text in texts[:_NAMED]) + more


def _encode(text_model: TextModel, names: Sequence[str], templates: Sequence[str], turn: Turn) -> Tensor:
    head = torch.empty((len(names), text_model.dimensions))
    chunk = min(_CHUNK_CLASSES, max(1, _TURN_PRODUCTS // (text_model.size * len(templates))))
    for start in range(0, len(names), chunk):
        part = names[start : start + chunk]
        texts = [template.replace("{}", name) for name in part for template in templates]
        encoded = turn(partial(text_model.encode, texts)).view(len(part), len(templates), -1)
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
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            np.save(file, head.numpy())


def _key(text_model: TextModel, names: Sequence[str], templates: Sequence[str]) -> str:
    mark = hashlib.sha256(text_model.digest.encode())
    for group in (names, templates):
        mark.update(b"\x00group")
        for text in group:
            mark.update(b"\x00" + text.encode())
    return mark.hexdigest()
