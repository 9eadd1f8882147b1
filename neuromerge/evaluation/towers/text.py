"""CLIP's text tower: texts to embeddings, by a forward pass in float32 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from neuromerge.checkpoints.checkpoint import Checkpoint
from neuromerge.errors import CheckpointError
from neuromerge.evaluation.configuration import TextSettings, configuration_of
from neuromerge.evaluation.tokens import Tokenizer, tokenizer_for, tokenizer_mark
from neuromerge.evaluation.towers.blocks import ACTIVATIONS, MIN_ROWS, block_forward, bound_threads
from neuromerge.evaluation.towers.weights import (
    Shapes,
    block_names,
    block_shapes,
    copy_weights,
    count_blocks,
    fingerprint,
    head_count,
    matrix_shape,
    new_block,
    norm_shapes,
    require_bounded,
    require_names,
    require_shapes,
)
from neuromerge.threads import cores, in_threads

_TOKENS = "text.stem.token_embedding"
_STEM = (_TOKENS, "text.stem.position_embedding")
_HEAD = ("text.head.norm_final.weight", "text.head.norm_final.bias", "text.head.projection")


class TextModel:
    """A CLIP text transformer with its projection and tokenizer, in float32 on the CPU.

    Attributes:
        digest: a fingerprint of weights, settings and tokenizer; heads are cached under it.
        logit_scale: the factor on cosine similarities (already exponentiated).
        context: how many tokens a text may have; what is longer is cut.
        source: whose weights they are, as messages name them.
    """

    def __init__(
        self,
        shapes: Shapes,
        settings: TextSettings,
        tokenizer: Tokenizer,
    ) -> None:
        """A model with zero weights of these shapes. Raises CheckpointError if they misfit."""
        bound_threads()
        self.settings, self.tokenizer, self.digest = settings, tokenizer, ""
        self.weights: dict[str, Tensor] = {}
        blocks = count_blocks(shapes, "text")
        require_names(shapes, [*_STEM, *block_names("text", blocks), *_HEAD], "text")
        self.vocabulary, self.width = matrix_shape(shapes, _TOKENS)
        self.context = shapes["text.stem.position_embedding"][0] // self.width
        self.dimensions = shapes["text.head.projection"][0]
        expected = {
            "text.stem.position_embedding": (self.context * self.width,),
            "text.head.projection": (self.dimensions, self.width),
            **norm_shapes(["text.head.norm_final"], self.width),
        }
        require_shapes(shapes, expected | block_shapes(shapes, "text", blocks, self.width))
        self.heads = head_count(settings.tower, self.width)
        self.logit_scale, self.source = 100.0, "The model"
        self._activation = ACTIVATIONS[settings.tower.activation]
        self._blocks = [new_block(self.weights, shapes, "text", number) for number in range(blocks)]
        for name in _STEM + _HEAD:
            self.weights[name] = torch.zeros(shapes[name])

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> TextModel:
        """The text tower of an open_clip or transformers CLIP checkpoint.

        Raises CheckpointError when the checkpoint has no text tower, configuration or tokenizer.
        """
        found = {parameter.name: parameter for parameter in checkpoint.roles.text}
        configuration = configuration_of(checkpoint)
        if not any(name.startswith("text.") for name in found):
            raise CheckpointError(
                f"{checkpoint.name} holds no text tower, so class names cannot be read. Use the base model's."
            )
        if configuration is None or configuration.text is None:
            raise CheckpointError(f"{checkpoint.name}: there is no configuration of the text tower beside the weights.")
        scale = found.pop("logit_scale", None)
        found.pop("logit_bias", None)
        shapes = {name: parameter.shape for name, parameter in found.items()}
        vocabulary = shapes.get("text.stem.token_embedding", (0,))[0]
        tokenizer = tokenizer_for(configuration.text, configuration.folder, vocabulary)
        model = cls(shapes, configuration.text, tokenizer)
        # Nothing writes to the table of tokens, the largest part of the tower: it is used where it is stored.
        table = checkpoint.view(found.pop(_TOKENS)).to(torch.float32)
        model.weights[_TOKENS] = table.view(shapes[_TOKENS])
        copy_weights(model.weights, found, checkpoint)
        model.source = checkpoint.source
        for name in _STEM:
            require_bounded(model.weights[name], model.weights, model.source)
        model.digest = f"{fingerprint(model.weights)} {configuration.text!r} {tokenizer_mark(configuration.folder)}"
        if scale is not None:
            factor = checkpoint.tensor(scale.key).float().exp()
            if factor.numel() != 1 or not bool(torch.isfinite(factor).all()):
                raise CheckpointError(
                    f"{checkpoint.where(scale.key)}: {scale.key} must be one number up to 88, the logarithm of the "
                    "factor on similarities."
                )
            model.logit_scale = float(factor)
        return model

    @property
    def size(self) -> int:
        """Number of weights in the transformer's blocks."""
        return sum(weight.numel() for name, weight in self.weights.items() if ".blocks." in name)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], *, normalised: bool = True) -> Tensor:
        """Text embeddings (N, dimensions), L2-normalised unless told otherwise.

        Texts are sorted by length and cut after the token that is read: with causal attention the later ones
        change nothing, and class names are short.

        Raises CheckpointError where the tokenizer does not fit, or the weights make numbers that are too large.
        """
        ids = self.tokenizer(list(texts), self.context)
        if ids.numel() and int(ids.max()) >= self.vocabulary:
            raise CheckpointError(
                "The tokenizer's vocabulary is larger than the text tower's: they do not belong together."
            )
        read = self._read(ids)
        order = read.argsort(stable=True) if self.settings.causal else torch.arange(len(ids))
        result = torch.empty((len(ids), self.dimensions))

        @torch.no_grad()
        def look(rows: Tensor) -> None:
            length = int(read[rows].max()) + 1 if self.settings.causal else ids.shape[1]
            result[rows] = self._embed(ids[rows, :length], read[rows])

        length = float(read.float().mean()) + 1 if self.settings.causal else ids.shape[1]
        in_threads(look, order.split(self._chunk(len(ids), length)))
        require_bounded(result, self.weights, self.source)
        return F.normalize(result, dim=-1) if normalised else result

    def _embed(self, ids: Tensor, read: Tensor) -> Tensor:
        eps, causal = self.settings.tower.eps, self.settings.causal
        length = ids.shape[1]
        x = self.weights[_TOKENS][ids]
        x += self.weights["text.stem.position_embedding"].view(self.context, self.width)[:length]
        for weights in self._blocks[:-1]:
            x = block_forward(x, weights, self.heads, self._activation, eps, causal=causal)
        if self._blocks:
            x = block_forward(x, self._blocks[-1], self.heads, self._activation, eps, causal=causal, only=read)
        else:
            x = x[torch.arange(len(x)), read]
        require_bounded(x, self.weights, self.source)
        weight, bias = self.weights["text.head.norm_final.weight"], self.weights["text.head.norm_final.bias"]
        return F.linear(F.layer_norm(x, (self.width,), weight, bias, eps), self.weights["text.head.projection"])

    def _read(self, ids: Tensor) -> Tensor:
        """(N,) position of the token whose embedding stands for the text."""
        if self.settings.pool == "first":
            return torch.zeros(len(ids), dtype=torch.long)
        if self.settings.pool == "last":
            return torch.full((len(ids),), ids.shape[1] - 1)
        if self.settings.pool == "eos":
            return ids.eq(self.settings.eos or 0).int().argmax(dim=-1)
        return ids.argmax(dim=-1)

    def _chunk(self, texts: int, length: float) -> int:
        """How many of so many texts, `length` tokens on average, go through the network at a time: fair to all cores.

        A core takes some texts through the whole network: splitting each operation costs more.
        """
        return max(1, min(math.ceil(texts / cores()), round(MIN_ROWS / length)))
