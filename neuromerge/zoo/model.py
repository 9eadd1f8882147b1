"""PictoCLIP: a small open_clip CLIP with its own tokenizer, saved so that open_clip loads it unaided."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONTEXT = 14
VOCABULARY = 3000
EMBEDDING = 128
IMAGE = 48
PATCH = 12
MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)
_PAD, _START, _END = "<pad>", "<start>", "<end>"


def config(vocabulary: int) -> dict[str, Any]:
    """`open_clip_config.json` for a vocabulary of that many tokens."""
    return {
        "model_cfg": {
            "embed_dim": EMBEDDING,
            "vision_cfg": {"image_size": IMAGE, "patch_size": PATCH, "width": 192, "layers": 6, "head_width": 32},
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocabulary,
                "width": 128,
                "heads": 4,
                "layers": 2,
                # Any name will do: with `local-dir:` open_clip reads the tokenizer from the folder itself.
                "hf_tokenizer_name": "pictoclip",
                "tokenizer_kwargs": {"clean": "lower"},
            },
        },
        "preprocess_cfg": {
            "size": [IMAGE, IMAGE],
            "mode": "RGB",
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "fill_color": 0,
        },
    }


def build_tokenizer(captions: Iterable[str], more_words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Learn a byte-pair vocabulary from the captions.

    The end token gets the highest number: open_clip pools the text features at the position of the largest
    token number.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=None, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 1,
        special_tokens=[_PAD, _START],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([*captions, *more_words, *alphabet], trainer)
    tokenizer.add_special_tokens([_END])
    start, end = tokenizer.token_to_id(_START), tokenizer.token_to_id(_END)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=[(_START, start), (_END, end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_PAD, bos_token=_START, eos_token=_END, model_max_length=CONTEXT
    )


def build(vocabulary: int, seed: int) -> Any:
    """A freshly initialised CLIP in float32."""
    from open_clip.model import CLIP

    torch.manual_seed(seed)
    settings = config(vocabulary)["model_cfg"]
    text = {k: v for k, v in settings["text_cfg"].items() if k not in ("hf_tokenizer_name", "tokenizer_kwargs")}
    return CLIP(embed_dim=settings["embed_dim"], vision_cfg=settings["vision_cfg"], text_cfg=text)


def save_base(folder: Path, state: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerFast) -> None:
    """Write the folder that `open_clip.create_model_and_transforms("local-dir:FOLDER")` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(folder))
    settings = config(len(tokenizer))
    (folder / "open_clip_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    _save(half(state), folder / "open_clip_model.safetensors")


def save_expert(file: Path, state: dict[str, torch.Tensor]) -> None:
    """Write the vision tower of an expert with open_clip's names."""
    file.parent.mkdir(parents=True, exist_ok=True)
    vision = {key: tensor for key, tensor in half(state).items() if key.startswith("visual.")}
    _save(vision, file)


def _save(state: dict[str, torch.Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    part = file.with_suffix(".part")
    save_file(state, part, metadata={"format": "pt"})
    part.chmod(0o644)  # the writer creates private files, but these are to be shared
    part.replace(file)


def half(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous float16 copies on the CPU, buffers that are no weights left out."""
    return {k: v.detach().half().cpu().contiguous() for k, v in state.items() if k != "attn_mask"}
