"""Tiny random CLIP models of both libraries, saved as the Hub keeps them, and a view of them as checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

WORDS = ["a", "photo", "of", "the", "dog", "cat", "red", "blue", "circle", "square", "number", "letter", "small", "two"]
CLASSES = ("dog", "cat", "red circle", "blue square", "number two", "small letter")


def scatter(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights and biases everywhere, so that no term of the network is zero or one by chance."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit_scale" in name:
                parameter.fill_(3.0)
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            fan = parameter.shape[-1] if parameter.ndim > 1 else 4
            parameter.copy_(noise * fan**-0.5 + (1.0 if "ln_" in name or "norm" in name else 0.0))
    return model.eval()


def save_tokenizer(folder: Path) -> int:
    """A word-level tokenizer as Hugging Face keeps it; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", *WORDS, "<start>", "<end>"])}
    loaded = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    loaded.normalizer = normalizers.Lowercase()
    loaded.pre_tokenizer = pre_tokenizers.Whitespace()
    loaded.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(word, vocabulary[word]) for word in ("<start>", "<end>")]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=loaded, pad_token="<pad>", unk_token="<unk>", bos_token="<start>", eos_token="<end>"
    ).save_pretrained(folder)
    return len(vocabulary)


def save_open_clip(folder: Path, *, quick_gelu: bool = False, seed: int = 0) -> torch.nn.Module:
    """A tiny open_clip model in `folder`, with its configuration and a tokenizer of its own."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    folder.mkdir(parents=True, exist_ok=True)
    vision = {"image_size": 24, "patch_size": 8, "layers": 2, "width": 32, "head_width": 8}
    text = {
        "context_length": 10,
        "vocab_size": save_tokenizer(folder),
        "width": 16,
        "heads": 2,
        "layers": 2,
        "hf_tokenizer_name": "tokenizer",
    }
    torch.manual_seed(seed)
    model = scatter(CLIP(12, CLIPVisionCfg(**vision), CLIPTextCfg(**text), quick_gelu=quick_gelu), seed)
    model_cfg = {"embed_dim": 12, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": text}
    preprocess = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": preprocess}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return model


def save_transformers(
    folder: Path, *, seed: int = 0, eos: int | None = None, activation: str = "quick_gelu"
) -> torch.nn.Module:
    """A tiny transformers CLIPModel in `folder`, with its configuration and a tokenizer of its own."""
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    words = save_tokenizer(folder)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 24,
        "patch_size": 8,
        "hidden_act": activation,
    }
    text = {
        "hidden_size": 16,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 10,
        "vocab_size": words,
        "hidden_act": activation,
        "bos_token_id": words - 2,
        "eos_token_id": words - 1 if eos is None else eos,
        "pad_token_id": 0,
    }
    torch.manual_seed(seed)
    model = scatter(CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=12)), seed)
    model.save_pretrained(folder)  # type: ignore[operator]
    preprocessor = {"size": {"shortest_edge": 24}, "crop_size": 24, "image_mean": [0.5, 0.4, 0.3], "resample": 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model
