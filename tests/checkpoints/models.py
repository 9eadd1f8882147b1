"""Tiny models with random weights, built from their configurations: no downloads, milliseconds each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

CLIP_SIZES: dict[str, Any] = {
    "embed_dim": 8,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 10, "vocab_size": 50, "width": 12, "heads": 2, "layers": 2, "mlp_ratio": 2.0},
}
SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def quiet_transformers() -> Any:
    """transformers, without its reports."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def randomised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The model with every floating weight drawn anew: freshly built ones hold zeros and ones in many places."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


def perturbed(state: dict[str, torch.Tensor], seed: int, scale: float = 0.05) -> dict[str, torch.Tensor]:
    """A state dict that a fine-tuning run might have left."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: value + scale * torch.randn(value.shape, generator=generator).to(value.dtype)
        if value.is_floating_point()
        else value
        for key, value in state.items()
    }


def open_clip_model(seed: int = 0, sizes: dict[str, Any] = CLIP_SIZES) -> torch.nn.Module:
    """A tiny open_clip CLIP."""
    import open_clip

    sizes = json.loads(json.dumps(sizes))  # open_clip empties what it is given
    model = open_clip.CLIP(**sizes)
    return randomised(model, seed)


def save_open_clip(model: torch.nn.Module, folder: Path, sizes: dict[str, Any] = CLIP_SIZES) -> Path:
    """The model as open_clip publishes it."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocess = {
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.2],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    content = {"model_cfg": sizes, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def load_open_clip(folder: Path) -> torch.nn.Module:
    """What open_clip itself makes of a folder."""
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval()


def clip_config() -> Any:
    """Configuration of a tiny transformers CLIPModel."""
    transformers = quiet_transformers()
    vision = {**SMALL, "projection_dim": 8, "image_size": 16, "patch_size": 8, "hidden_act": "quick_gelu"}
    text = {
        "hidden_size": 12,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 8,
        "vocab_size": 50,
        "max_position_embeddings": 10,
        "hidden_act": "quick_gelu",
        "bos_token_id": 48,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)


def clip_model(seed: int = 0, kind: str = "CLIPModel") -> Any:
    """A tiny transformers CLIPModel, CLIPVisionModel or CLIPVisionModelWithProjection."""
    transformers = quiet_transformers()
    config = clip_config() if kind == "CLIPModel" else clip_config().vision_config
    return randomised(getattr(transformers, kind)(config), seed)


def language_model(kind: str, seed: int = 0, **changes: Any) -> Any:
    """A tiny `llama`, `gpt2`, `t5`, `phi3`, `mixtral`, `gpt_oss` or `bert` with random weights."""
    t = quiet_transformers()
    plain = {**SMALL, "vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    grouped = {**plain, "num_key_value_heads": 1}
    gpt2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12}
    t5 = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    build = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**{**grouped, **changes})),
        "phi3": lambda: t.Phi3ForCausalLM(t.Phi3Config(**{**grouped, **changes})),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**{**grouped, "num_local_experts": 2, **changes})),
        "gpt_oss": lambda: t.GptOssForCausalLM(
            t.GptOssConfig(**{**grouped, "num_local_experts": 2, "num_experts_per_tok": 2, "head_dim": 8, **changes})
        ),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**{**gpt2, "bos_token_id": 1, "eos_token_id": 2, **changes})),
        "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**{**t5, "decoder_start_token_id": 0, **changes})),
        "bert": lambda: t.BertForSequenceClassification(t.BertConfig(**{**plain, **changes})),
    }
    return randomised(build[kind](), seed)


def logits(model: Any) -> torch.Tensor:
    """Outputs on a fixed input, for comparing two language models."""
    ids = torch.tensor([[1, 5, 7, 9]])
    extra = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **extra).logits


def entries_of(model: torch.nn.Module) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """What `resolve` takes, of a live model."""
    return {key: (tuple(value.shape), value.dtype) for key, value in model.state_dict().items()}
