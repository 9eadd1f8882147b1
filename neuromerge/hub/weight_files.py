"""Which files of a folder or a repository are a checkpoint, by their names alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Weights a folder may hold, best first: (index or file, the configuration it belongs to).
WEIGHTS = (
    ("open_clip_model.safetensors", OPEN_CLIP_CONFIG),
    ("open_clip_pytorch_model.safetensors", OPEN_CLIP_CONFIG),
    ("model.safetensors", TRANSFORMERS_CONFIG),
    ("model.safetensors.index.json", TRANSFORMERS_CONFIG),
    ("open_clip_pytorch_model.bin", OPEN_CLIP_CONFIG),
    ("open_clip_pytorch_model.pth", OPEN_CLIP_CONFIG),
    ("pytorch_model.bin", TRANSFORMERS_CONFIG),
    ("pytorch_model.bin.index.json", TRANSFORMERS_CONFIG),
)
# What goes with the weights when a model is written again. Nothing else is copied, and no code.
COMPANIONS = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    TRANSFORMERS_CONFIG,
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "merges.txt",
    "NOTICE",
    OPEN_CLIP_CONFIG,
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<total>\d+)(?P<ending>\.\w+)")


def hub_weights(present: Collection[str]) -> Sequence[str]:
    """The file, index or shards of weights among the files of a folder of the Hub: safetensors only, as in a folder.

    Of a model and an adapter both, of which one has to be named; none where a name has to be given.
    """
    safe = {name for name in present if name.endswith((".safetensors", ".safetensors.index.json"))}
    found = [(name, config in present) for name, config in WEIGHTS if name in safe]
    adapters = [name for name in ADAPTER_WEIGHTS if name in safe]
    if found:
        return [next((name for name, configured in found if configured), found[0][0]), *adapters]
    if adapters:
        return adapters
    files = sorted(name for name in safe if name.endswith(".safetensors"))
    return files if len(files) == 1 else all_shards(files) if files else []


def all_shards(files: Sequence[str]) -> list[str]:
    """The files where their names count one set of shards without a gap (``model-00001-of-00002``), else none."""
    found = [_SHARD.fullmatch(name) for name in files]
    stems = {(match["stem"], match["total"], match["ending"]) for match in found if match}
    if not all(found) or len(stems) != 1:
        return []
    numbers = [int(match["number"]) for match in found if match]
    return list(files) if sorted(numbers) == list(range(1, int(next(iter(stems))[1]) + 1)) else []
