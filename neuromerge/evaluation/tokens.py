"""Tokenizers: texts to ids, padded to the context length.

The tokenizer belongs to the text tower, so it is read from the folder of the weights. A `tokenizer.json` is read
by the `tokenizers` library itself, which starts in a fraction of the time of transformers and gives the same ids.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import importlib
import importlib.util
import json
import string
import sys
import threading
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuromerge.checkpoints.fields import Fields
from neuromerge.errors import CheckpointError
from neuromerge.evaluation.configuration import CLIP_VOCABULARY, TextSettings
from neuromerge.json_files import beginning, read_json

_MOST_BYTES = 40 * 1024 * 1024  # the largest in use, of 260,000 tokens, have 33
_MOST_MERGES = 8 * 1024 * 1024  # bytes; CLIP's have half a million
_MOST_PIECES = 600_000  # tokens, and merges: of the largest in use there are 515,000; each takes a kilobyte to read
_MOST_GROWTH = 64  # of a text by what is done to it before it is split; Unicode's own forms make 18 of 1
_MOST_MARKS = 256  # tokens at the ends of a text
_MOST_SIGNS = 256  # of a token that is put in, of what is put around a piece, and of a word that is looked up in pieces
_PUT_IN = ("continuing_subword_prefix", "end_of_word_suffix", "unk_token")
_GROWTH = {"Metaspace": 2, "ByteLevel": 4}  # a sign before each piece; a sign for each byte
_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", *_TOKENIZER_SETTINGS)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Tokenizer(ABC):
    """Texts to ids. Called as tokenizer(texts, context): int64 ids (N, context), cut and padded."""

    @abstractmethod
    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        """The ids of `texts`, each row as long as the context."""

    @abstractmethod
    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, with those that mark its ends; more than the context are cut."""

    @abstractmethod
    def _word(self, word: str) -> list[int]:
        """The ids of one word, without those that mark the ends of a text."""

    _unknown: int | None = None
    """The id that stands for what the vocabulary does not have, None where there is none."""

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """The words of a text of which the vocabulary lacks all or some signs, so that the text tower misses them."""
        return tuple(word for word in dict.fromkeys(text.split()) if self._lacks(word))

    def _lacks(self, word: str) -> bool:
        ids = self._word(word)
        if not ids or self._unknown in ids:
            return True
        # Some vocabularies drop a sign that they lack without a mark. Signs that only change others may well be gone.
        signs = {sign for sign in word if ord(sign) > 127 and unicodedata.category(sign)[0] not in "MCZ"}
        return any(not self._word(sign) for sign in signs)


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


def tokenizer_mark(folder: Path | None) -> str:
    """A mark of the tokenizer's files in a folder: another for other files, whatever their names and ages."""
    mark = hashlib.sha256()
    for path in [] if folder is None else [folder / name for name in _FILES]:
        with contextlib.suppress(OSError):
            mark.update(f"{path.name}\0".encode() + beginning(path, _MOST_BYTES) + b"\0")
    return mark.hexdigest()[:16]


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


class _FastTokenizer(Tokenizer):
    """A `tokenizer.json`, with the padding token that `tokenizer_config.json` names."""

    def __init__(self, folder: Path, settings: TextSettings) -> None:
        from tokenizers import Tokenizer as Loaded

        self._path = folder / "tokenizer.json"
        content = Fields(read_json(self._path, _MOST_BYTES), str(self._path))
        _require_bounded(content)
        with _library_errors(self._path):
            self._loaded = Loaded.from_file(str(self._path))
            self._normalizers = [_normalizer(step) for step in _steps(content.get("normalizer"))]
            self._loaded.no_padding()
            self._loaded.no_truncation()
            unknown = getattr(self._loaded.model, "unk_token", None)
            self._unknown = self._loaded.token_to_id(unknown) if isinstance(unknown, str) else None
        self._clean = cleaner(settings.clean)
        self._pad = _padding_id(folder, self._loaded, settings.pad)
        self._lock = threading.Lock()  # the library cannot change its settings while another thread encodes

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        rows = self._encoded(texts)
        if long := [row for row, ids in enumerate(rows) if len(ids) > context]:
            for row, ids in zip(long, self._encoded([texts[row] for row in long], context), strict=True):
                rows[row] = ids
        return _padded(rows, context, self._pad, self._path)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._encoded(texts)]

    def _word(self, word: str) -> list[int]:
        with self._lock, _library_errors(self._path):
            return list(self._loaded.encode(self._clean(word), add_special_tokens=False).ids)

    def _encoded(self, texts: Sequence[str], context: int | None = None) -> list[list[int]]:
        cleaned = [self._clean(text) for text in texts]
        self._require_short(cleaned)
        with self._lock, _library_errors(self._path):
            if context is not None:
                self._loaded.enable_truncation(context)
            try:
                return [list(encoding.ids) for encoding in self._loaded.encode_batch(cleaned)]
            finally:
                self._loaded.no_truncation()

    def _require_short(self, texts: Sequence[str]) -> None:
        """Raise CheckpointError before a text is split that a step of the normaliser has made many times as long.

        Step by step: each may make little more of the text, and all together more than there is memory.
        """
        for text in texts:
            grown = text
            for normalizer in self._normalizers:
                with _library_errors(self._path):
                    grown = normalizer.normalize_str(grown)
                if len(grown) > _MOST_GROWTH * (len(text) + 1):
                    raise CheckpointError(
                        f"{self._path}: its normalizer makes a text of {len(text)} signs {len(grown):,} long."
                    )


class _TransformersTokenizer(Tokenizer):
    """`vocab.json` and `merges.txt` of an older transformers folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTokenizerFast

        self._folder = folder
        for name in ("vocab.json", *_TOKENIZER_SETTINGS, "added_tokens.json"):
            if (folder / name).is_file():
                read_json(folder / name, _MOST_BYTES)
        if (size := (folder / "merges.txt").stat().st_size) > _MOST_MERGES:
            raise CheckpointError(f"{folder / 'merges.txt'} has {size:,} bytes; at most {_MOST_MERGES:,} are read.")
        with _library_errors(folder):
            self._loaded = CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True)
            self._unknown = self._loaded.unk_token_id

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        with _library_errors(self._folder):
            found = self._loaded(list(texts), truncation=True, max_length=context)
            return _padded(found.input_ids, context, self._loaded.pad_token_id or 0, self._folder)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        with _library_errors(self._folder):
            return [len(ids) for ids in self._loaded(list(texts)).input_ids]

    def _word(self, word: str) -> list[int]:
        with _library_errors(self._folder):
            return list(self._loaded(word, add_special_tokens=False).input_ids)


class _StockTokenizer(Tokenizer):
    """CLIP's own vocabulary, as open_clip carries it."""

    def __init__(self) -> None:
        self._loaded = _stock_module().SimpleTokenizer()

    def __call__(self, texts: Sequence[str], context: int) -> Tensor:
        ids: Tensor = self._loaded(list(texts), context_length=context)
        return ids

    def lengths(self, texts: Sequence[str]) -> list[int]:
        return [len(self._word(text)) + 2 for text in texts]

    def _word(self, word: str) -> list[int]:
        return list(self._loaded.encode(word))


def _stock_module() -> Any:
    """open_clip's module of tokenizers by itself: importing the package around it takes seconds."""
    name = "open_clip.tokenizer"
    package = None if "open_clip" in sys.modules else importlib.util.find_spec("open_clip")
    for folder in (package and package.submodule_search_locations) or ():
        spec = importlib.util.spec_from_file_location(f"_{name.replace('.', '_')}", Path(folder) / "tokenizer.py")
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module(name)


def _padded(rows: Sequence[Sequence[int]], context: int, pad: int, where: Path) -> Tensor:
    """Ids of texts as one tensor. Raises CheckpointError for a text that the tokenizer did not cut to the context."""
    ids = torch.full((len(rows), context), pad, dtype=torch.long)
    for number, row in enumerate(rows):
        if len(row) > context:
            raise CheckpointError(
                f"{where} marks the ends of a text with more tokens than the text tower reads ({context}): they do not "
                "belong together."
            )
        ids[number, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids


def _require_bounded(content: Fields) -> None:
    """Raise CheckpointError for a `tokenizer.json` that may multiply its text or draw its tokens at random."""
    for part in ("normalizer", "pre_tokenizer"):
        growth = 1
        for step in _steps(content.get(part)):
            growth *= max(len(str(step.get("content") or step.get("prepend") or "")), 1)
            growth *= _GROWTH.get(str(step.get("type")), 1)
            if max(growth, _longest_replacement(step, content.where)) > _MOST_GROWTH:
                raise CheckpointError(
                    f"{content.where}: its {part} makes a text more than {_MOST_GROWTH} times as long. Use the model's "
                    "own."
                )
    _require_few_marks(content.get("post_processor"), content.where)
    model = content.section("model")
    if model.get("dropout"):
        raise model.wrong("dropout", "0: the same text must give the same tokens")
    put_in = [content.get("post_processor"), *(model.get(name) for name in _PUT_IN)]
    if (signs := _longest_text(put_in)) > _MOST_SIGNS:
        raise CheckpointError(
            f"{content.where}: it puts a text of {signs:,} signs in where a token of at most {_MOST_SIGNS} belongs."
        )
    pieces = model.get("vocab")  # a list in SentencePiece's unigrams, which are looked for at every place of a text
    if isinstance(pieces, list) and (signs := _longest_text(pieces)) > _MOST_SIGNS:
        raise CheckpointError(
            f"{content.where}: its vocab has a piece of {signs:,} signs; at most {_MOST_SIGNS} are read."
        )
    for name in ("vocab", "merges"):
        many = model.get(name)
        if isinstance(many, list | dict) and len(many) > _MOST_PIECES:
            raise CheckpointError(
                f"{content.where}: model: {name} has {len(many):,} entries; at most {_MOST_PIECES:,} are read."
            )
    longest = model.get("max_input_chars_per_word")
    if isinstance(longest, int) and longest > _MOST_SIGNS:
        raise model.wrong("max_input_chars_per_word", f"at most {_MOST_SIGNS}")


def _longest_text(value: Any) -> int:
    """Signs of the longest text within a JSON value."""
    if isinstance(value, str):
        return len(value)
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return max(map(_longest_text, inner), default=0)


def _steps(part: Any) -> list[Mapping[str, Any]]:
    """The steps of a normaliser or a splitter in the order they are taken, however deep they are grouped."""
    if not isinstance(part, Mapping):
        return []
    groups = [part[name] for name in ("normalizers", "pretokenizers") if isinstance(part.get(name), list)]
    return [step for group in groups for inner in group for step in _steps(inner)] if groups else [part]


def _normalizer(step: Mapping[str, Any]) -> Any:
    """One step of a normaliser by itself."""
    from tokenizers import Tokenizer as Loaded

    model = {"type": "WordLevel", "vocab": {"": 0}, "unk_token": ""}
    return Loaded.from_str(json.dumps({"version": "1.0", "normalizer": step, "model": model})).normalizer


def _longest_replacement(step: Mapping[str, Any], where: str) -> int:
    """Signs of the longest text in SentencePiece's table of replacements; 0 where a step has none.

    Raises CheckpointError for a table that is none: the library takes as much memory as it says, and panics.
    """
    if "precompiled_charsmap" not in step and step.get("type") != "Precompiled":
        return 0
    try:
        content = base64.b64decode(step["precompiled_charsmap"], validate=True)
        texts = content[4 + (trie := int.from_bytes(content[:4], "little")) :].decode()
        is_whole = 4 <= 4 + trie <= len(content)
    except (KeyError, TypeError, ValueError):
        is_whole, texts = False, ""
    if not is_whole:
        raise CheckpointError(f"{where}: precompiled_charsmap is damaged or cut short.")
    return max(map(len, texts.split("\0")))


def _require_few_marks(processor: Any, where: str) -> None:
    """Raise CheckpointError for a post-processor that puts a text in more than once, or many tokens around it."""
    if not isinstance(processor, Mapping):
        return
    if isinstance(inner := processor.get("processors"), list):
        for each in inner:
            _require_few_marks(each, where)
    single, special = processor.get("single"), processor.get("special_tokens")
    if not isinstance(single, list):
        return
    if sum(isinstance(piece, Mapping) and "Sequence" in piece for piece in single) > 1:
        raise CheckpointError(f"{where}: its post_processor puts a text in more than once. Use the model's own.")
    known = special if isinstance(special, Mapping) else {}
    ids = [token.get("ids") for token in known.values() if isinstance(token, Mapping)]
    longest = max((len(each) for each in ids if isinstance(each, list)), default=1)
    if (marks := longest * len(single)) > _MOST_MARKS:
        raise CheckpointError(f"{where}: its post_processor marks the ends of a text with {marks:,} tokens.")


@contextlib.contextmanager
def _library_errors(where: Path) -> Iterator[None]:
    """Errors of the tokenizer libraries, which raise bare ones and panic, as CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # noqa: BLE001 - the libraries raise bare Exception for a bad file
        raise CheckpointError(f"The tokenizer in {where} cannot be read: {str(error)[:200]}.") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"The tokenizer in {where} cannot be read: {str(error)[:200]}.") from None


def _padding_id(folder: Path, loaded: Any, otherwise: int) -> int:
    """The id of the padding token that the folder's own files name. Raises CheckpointError for a bad file."""
    for name in _TOKENIZER_SETTINGS:
        path = folder / name
        if not path.is_file():
            continue
        settings = Fields(read_json(path, _MOST_BYTES), str(path))
        token = settings.get("pad_token")
        token = token.get("content") if isinstance(token, Mapping) else token
        if token is not None and not isinstance(token, str):
            raise settings.wrong("pad_token", "a text")
        number = loaded.token_to_id(token) if token is not None else None
        if number is not None:
            return int(number)
    return otherwise
