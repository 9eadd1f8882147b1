"""Tokenizers: texts to ids, padded to the context length.

The tokenizer belongs to the text tower, so it is read from the folder of the weights. A `tokenizer.json` is read
by the `tokenizers` library itself, which starts in a fraction of the time of transformers and gives the same ids.
"""

from __future__ import annotations

import html
import json
import string
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from neuromerge.errors import CheckpointError
from neuromerge.evaluation.configuration import CLIP_VOCABULARY, TextSettings

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Tokenizer(Protocol):
    """Called as tokenizer(texts, context): int64 ids (N, context), cut and padded."""

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        """The ids of `texts`, each row as long as the context."""
        ...


def tokenizer_for(settings: TextSettings, folder: Path | None, vocabulary: int) -> Tokenizer:
    """The tokenizer of a text tower.

    CLIP's own vocabulary comes with open_clip and is taken where the configuration asks for it, or where a
    transformers folder holds the weights alone.

    Raises CheckpointError when the folder holds no tokenizer and the vocabulary is not CLIP's.
    """
    if settings.tokenizer == "folder" and folder is not None:
        if (folder / "tokenizer.json").is_file():
            return _FastTokenizer(folder, settings)
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return _TransformersTokenizer(folder)
    if vocabulary == CLIP_VOCABULARY:
        return _StockTokenizer()
    raise CheckpointError(
        f"The text tower has {vocabulary} tokens, which is not CLIP's own vocabulary, and there is no tokenizer.json "
        f"in {folder or 'the folder of its weights'}."
    )


def cleaner(kind: str) -> Callable[[str], str]:
    """How open_clip cleans a text before splitting it: ``none``, ``whitespace``, ``lower`` or ``canonicalize``."""
    if kind == "none":
        return lambda text: text
    import ftfy

    def clean(text: str) -> str:
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        if kind == "canonicalize":
            text = text.replace("_", " ").translate(_NO_PUNCTUATION).lower()
        text = " ".join(text.split())
        return text.lower() if kind == "lower" else text

    return clean


class _FastTokenizer:
    """A `tokenizer.json`, with the padding token that `tokenizer_config.json` names."""

    def __init__(self, folder: Path, settings: TextSettings) -> None:
        from tokenizers import Tokenizer as Loaded

        path = folder / "tokenizer.json"
        try:
            self._loaded = Loaded.from_file(str(path))
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception for a bad file
            raise CheckpointError(f"{path} cannot be read: {error}.") from None
        self._clean = cleaner(settings.clean)
        self._pad = _padding_id(folder, self._loaded, settings.pad)
        self._lock = threading.Lock()  # the library cannot change its settings while another thread encodes

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        with self._lock:
            self._loaded.no_padding()
            self._loaded.enable_truncation(context)
            encodings = self._loaded.encode_batch([self._clean(text) for text in texts])
        ids = torch.full((len(texts), context), self._pad, dtype=torch.long)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = torch.tensor(encoding.ids, dtype=torch.long)
        return ids


class _TransformersTokenizer:
    """`vocab.json` and `merges.txt` of an older transformers folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTokenizerFast

        try:
            self._loaded = CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"The tokenizer in {folder} cannot be read: {error}.") from None

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        found = self._loaded(
            list(texts), padding="max_length", truncation=True, max_length=context, return_tensors="pt"
        )
        ids: Tensor = found.input_ids
        return ids


class _StockTokenizer:
    """CLIP's own vocabulary, as open_clip carries it."""

    def __init__(self) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._loaded = SimpleTokenizer()

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        ids: Tensor = self._loaded(list(texts), context_length=context)
        return ids


def _padding_id(folder: Path, loaded: Any, otherwise: int) -> int:
    """The id of the padding token that the folder's own files name."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            token = json.loads(path.read_text(encoding="utf-8")).get("pad_token")
        except (OSError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}.") from None
        token = token.get("content") if isinstance(token, dict) else token
        number = loaded.token_to_id(token) if isinstance(token, str) else None
        if number is not None:
            return int(number)
    return otherwise
