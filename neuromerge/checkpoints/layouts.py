"""The tables that say how networks are stored: every key pattern the package knows, and nothing else.

Two kinds of knowledge live here. The CLIP tables translate between open_clip and transformers, tensor by
tensor, so that the same model merges to the same weights in either form and can be written in either form.
The generic tables classify the keys of any other model by the words its authors use. To support another
naming, add a row; no code changes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# --------------------------------------------------------------------------------------------------------
# CLIP: one row per tensor of a tower. `{i}` is the block, `{leaf}` stands for both `weight` and `bias`.
# --------------------------------------------------------------------------------------------------------

OPEN_CLIP = "open_clip"
TRANSFORMERS_CLIP = "transformers-clip"
TRANSFORMERS = "transformers"
STATE_DICT = "state_dict"
LAYOUTS = (OPEN_CLIP, TRANSFORMERS_CLIP, TRANSFORMERS, STATE_DICT)


@dataclass(frozen=True, slots=True)
class ClipRow:
    """One tensor of CLIP: its canonical name, its key in both layouts, and what it is.

    `third` numbers the part (0 q, 1 k, 2 v) of a tensor that open_clip stores fused. `columns` says that
    open_clip counts the neurons in columns (used as ``x @ proj``); transformers counts rows everywhere.
    """

    name: str
    open_clip: str
    transformers: str
    matrix: str
    pointwise: bool = False
    third: int | None = None
    columns: bool = False


def _both_leaves(*rows: ClipRow) -> tuple[ClipRow, ...]:
    """Each row with `{leaf}` written out for the weight and for the bias."""
    expanded: list[ClipRow] = []
    for row in rows:
        for leaf in ("weight", "bias") if "{leaf}" in row.name else ("",):
            name, ours, theirs = (text.replace("{leaf}", leaf) for text in (row.name, row.open_clip, row.transformers))
            matrix = "bias" if leaf == "bias" and row.matrix != "norm" else row.matrix
            expanded.append(ClipRow(name, ours, theirs, matrix, row.pointwise, row.third, row.columns))
    return tuple(expanded)


_OURS = "transformer.resblocks.{i}."
_THEIRS = "encoder.layers.{i}."

CLIP_BLOCK = _both_leaves(
    ClipRow("blocks.{i}.norm1.{leaf}", _OURS + "ln_1.{leaf}", _THEIRS + "layer_norm1.{leaf}", "norm"),
    ClipRow("blocks.{i}.q.{leaf}", _OURS + "attn.in_proj_{leaf}", _THEIRS + "self_attn.q_proj.{leaf}", "q", third=0),
    ClipRow("blocks.{i}.k.{leaf}", _OURS + "attn.in_proj_{leaf}", _THEIRS + "self_attn.k_proj.{leaf}", "k", third=1),
    ClipRow("blocks.{i}.v.{leaf}", _OURS + "attn.in_proj_{leaf}", _THEIRS + "self_attn.v_proj.{leaf}", "v", third=2),
    ClipRow("blocks.{i}.out.{leaf}", _OURS + "attn.out_proj.{leaf}", _THEIRS + "self_attn.out_proj.{leaf}", "out"),
    ClipRow("blocks.{i}.norm2.{leaf}", _OURS + "ln_2.{leaf}", _THEIRS + "layer_norm2.{leaf}", "norm"),
    ClipRow("blocks.{i}.fc1.{leaf}", _OURS + "mlp.c_fc.{leaf}", _THEIRS + "mlp.fc1.{leaf}", "fc1"),
    ClipRow("blocks.{i}.fc2.{leaf}", _OURS + "mlp.c_proj.{leaf}", _THEIRS + "mlp.fc2.{leaf}", "fc2"),
)

CLIP_VISION = (
    *_both_leaves(
        ClipRow("stem.patch.{leaf}", "conv1.{leaf}", "embeddings.patch_embedding.{leaf}", "patch"),
        ClipRow("stem.class_embedding", "class_embedding", "embeddings.class_embedding", "embedding", True),
        ClipRow(
            "stem.position_embedding", "positional_embedding", "embeddings.position_embedding.weight", "embedding", True
        ),
        # "pre_layrnorm" is transformers' own spelling.
        ClipRow("stem.norm_pre.{leaf}", "ln_pre.{leaf}", "pre_layrnorm.{leaf}", "norm"),
    ),
    *CLIP_BLOCK,
    *_both_leaves(ClipRow("head.norm_post.{leaf}", "ln_post.{leaf}", "post_layernorm.{leaf}", "norm")),
)

CLIP_TEXT = (
    ClipRow("stem.token_embedding", "token_embedding.weight", "embeddings.token_embedding.weight", "embedding"),
    ClipRow(
        "stem.position_embedding", "positional_embedding", "embeddings.position_embedding.weight", "embedding", True
    ),
    *CLIP_BLOCK,
    *_both_leaves(ClipRow("head.norm_final.{leaf}", "ln_final.{leaf}", "final_layer_norm.{leaf}", "norm")),
)

# Outside both towers' prefixes, with the tower each belongs to. The keys are absolute.
CLIP_TOP = (
    ("vision", ClipRow("head.projection", "visual.proj", "visual_projection.weight", "projection", columns=True)),
    ("text", ClipRow("head.projection", "text_projection", "text_projection.weight", "projection", columns=True)),
    ("model", ClipRow("logit_scale", "logit_scale", "logit_scale", "other", True)),
    ("model", ClipRow("logit_bias", "logit_bias", "logit_bias", "other", True)),
)

# Prefix of each tower's keys, by layout.
CLIP_PREFIX = {
    OPEN_CLIP: {"vision": "visual.", "text": ""},
    TRANSFORMERS_CLIP: {"vision": "vision_model.", "text": "text_model."},
}

# The projection may be missing from an expert (a CLIPVisionModel has none).
OPTIONAL_NAMES = frozenset({"vision.head.projection"})

# First words of the keys that a CLIP state dict may hold beside its vision tower.
OPEN_CLIP_TOP_WORDS = frozenset(
    [
        "visual",
        "transformer",
        "token_embedding",
        "positional_embedding",
        "ln_final",
        "text_projection",
        "logit_scale",
        "logit_bias",
        "text",
        "attn_mask",
        "input_resolution",
        "context_length",
        "vocab_size",
    ]
)
TRANSFORMERS_CLIP_TOP_WORDS = frozenset(
    ["vision_model", "text_model", "visual_projection", "text_projection", "logit_scale", "logit_bias"]
)
TRANSFORMERS_VISION_TOP_WORDS = frozenset(["embeddings", "encoder", "pre_layrnorm", "post_layernorm"])
OPEN_CLIP_VISION_TOP_WORDS = frozenset(
    ["conv1", "class_embedding", "positional_embedding", "ln_pre", "transformer", "ln_post", "proj", "attn_pool"]
)
CLIP_TOP_WORDS = {OPEN_CLIP: OPEN_CLIP_TOP_WORDS, TRANSFORMERS_CLIP: TRANSFORMERS_CLIP_TOP_WORDS}
CLIP_TOWER_WORDS = {OPEN_CLIP: OPEN_CLIP_VISION_TOP_WORDS, TRANSFORMERS_CLIP: TRANSFORMERS_VISION_TOP_WORDS}

# Keys that tell a CLIP vision transformer from any other network: one to look for, and what must stand beside it.
CLIP_ANCHORS = {
    OPEN_CLIP: ("ln_pre.weight", ("conv1.weight", "class_embedding", "positional_embedding")),
    TRANSFORMERS_CLIP: (
        "pre_layrnorm.weight",
        ("embeddings.patch_embedding.weight", "embeddings.class_embedding", "embeddings.position_embedding.weight"),
    ),
}
# Prefixes of a running average of the model that stands beside it.
AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|averaged?)(?=[._]|$)", re.IGNORECASE)
# A tensor of a head that a tower carries for one task (a linear probe on it), outside its blocks.
HEAD = re.compile(r"(?:^|[._])(?:head|heads|classifier|fc|classification_head|score)(?=[._]|$)")

# --------------------------------------------------------------------------------------------------------
# Any model: classified by the words in its keys.
# --------------------------------------------------------------------------------------------------------

# Marks that torch.compile, activation checkpointing, FSDP and Lightning leave anywhere inside a key.
INNER_WRAPPERS = re.compile(
    r"(?<![^.])(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|_forward_module|_fpw_module)\."
)
# Wrappers that put a prefix before every key; removed while all keys share one.
WRAPPERS = (
    "module.",
    "model.",
    "base_model.",
    "net.",
    "network.",
    "clip.",
    "clip_model.",
    "image_encoder.",
    "student.",
    "ema_model.",
    "model_ema.",
    "ema.",
)

# Trunk prefixes that a model with a head has and the bare model has not: dropped from names (not from keys), so
# that `LlamaForCausalLM` and `LlamaModel` match.
TRUNKS = re.compile(r"^(?:model|transformer|bert|roberta|distilbert|gpt_neox|vit|backbone)\.")

# Where the block number stands: the first container word followed by a number.
BLOCK = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block|resblocks|stages|stage|resnets)\.(\d+)(?=\.|$)")

# Floating tensors that are no weights: recomputed, or statistics of data. They come from the base.
FIXED = (
    (re.compile(r"(?:^|\.)logit_(?:scale|bias)$"), "temperature of the classifier, taken from the base"),
    (re.compile(r"(?:^|\.)running_(?:mean|var)$"), "running statistics, not a weight; taken from the base"),
    (re.compile(r"(?:^|\.)rotary\w*\.(?:inv_freq|cos_cached|sin_cached)$"), "computed buffer, taken from the base"),
    (re.compile(r"(?:^|\.)(?:attn|attention)\.masked_bias$"), "attention mask, taken from the base"),
    (re.compile(r"(?:^|\.)attn_mask$"), "attention mask, taken from the base"),
)
# Masks hold minus infinity on purpose.
MASK = re.compile(r"(?:^|\.)(?:attn_mask|causal_mask|masked_bias|mask)$")
# GPT-2's causal mask shares its name with a bias, but has four axes.
CAUSAL_MASK = re.compile(r"(?:^|\.)(?:attn|attention)\.bias$")

# Tensors of two and more axes whose rows are not the incoming weights of neurons: a position, a class or a
# segment adds its row to the signal, whatever the input; T5's `relative_attention_bias` is a table of offsets.
POINTWISE = re.compile(
    r"(?:^|[._])(?:pos_embed|position(?:al)?_embeddings?|embed_positions|wpe|cls_token|class_embedding|mask_token|"
    r"dist_token|reg(?:ister)?_tokens?|token_type_embeddings?|relative_attention_bias|relative_position_bias_table|"
    r"A_log|sinks|probe|bias)(?:\.weight|$)"
)

# Fused tensors that are equal parts stacked along the axis of the neurons: (module pattern, names of the parts).
FUSED = (
    (re.compile(r"(?:^|\.)in_proj_(?:weight|bias)$"), ("q", "k", "v")),  # torch.nn.MultiheadAttention
    (re.compile(r"(?:^|\.)attn\.qkv\.(?:weight|bias)$"), ("q", "k", "v")),  # timm
    (re.compile(r"(?:^|\.)gate_up_proj(?:\.(?:weight|bias))?$"), ("gate", "fc1")),  # Phi-3, GLM, fused experts
)
# Parts of unequal size, which only the configuration tells: heads * size, then the key and value heads.
FUSED_ATTENTION = re.compile(r"(?:^|\.)qkv_proj\.(?:weight|bias)$")  # Phi-3, OLMo
# GPT-2's Conv1D stores (inputs, neurons); `c_attn` is q, k and v side by side.
CONV1D = re.compile(r"(?:^|\.)(?:c_attn|q_attn|c_proj|c_fc)\.weight$")
CONV1D_ATTENTION = re.compile(r"(?:^|\.)c_attn\.(?:weight|bias)$")
# Mixtures of experts held in one three-axis tensor: (experts, neurons, inputs), or its transpose.
STACKED_EXPERTS = re.compile(r"(?:^|\.)experts\.(?:gate_up_proj|up_proj|gate_proj|down_proj)(?:\.weight)?$")

# Which column of a heatmap a map belongs to, by the end of its module path; the first match wins.
MATRICES = tuple(
    (re.compile(rf"(?:^|[._])(?:{words})$"), matrix)
    for words, matrix in (
        ("query_key_value|qkv_proj|qkv|c_attn|Wqkv|in_proj", "qkv"),
        ("q_proj|q_lin|q_attn|to_q|query|wq|q", "q"),
        ("k_proj|k_lin|to_k|key|wk|k", "k"),
        ("v_proj|v_lin|to_v|value|wv|v", "v"),
        ("o|o_proj|out_proj|out_lin|to_out|to_out\\.0|attn\\.c_proj|attn\\.proj|(?:self_)?attention\\.dense", "out"),
        ("attention\\.output\\.dense|attention\\.wo|self_attn\\.dense", "out"),
        ("gate_proj|wi_0|experts\\.\\d+\\.w1|feed_forward\\.w1", "gate"),
        ("mlp\\.gate|block_sparse_moe\\.gate|router", "router"),
        ("fc1|c_fc|up_proj|gate_up_proj|wi|wi_1|lin1|linear1|intermediate\\.dense|dense_h_to_4h|w3", "fc1"),
        ("fc2|down_proj|wo|lin2|linear2|output\\.dense|dense_4h_to_h|mlp\\.c_proj|w2", "fc2"),
        ("patch_embedding|patch_embed\\.proj|patch_embeddings\\.projection", "patch"),
        (
            "\\w*projection|proj|lm_head|score|classifier|pooler\\.dense|head|fc|cls\\.predictions\\.decoder",
            "projection",
        ),
        ("embed_tokens|word_embeddings|token_embedding|tok_embeddings|wte|shared|embed_in|embeddings?", "embedding"),
    )
)
NORM = re.compile(r"(?:^|[._])\w*(?:norm|ln|bn)\w*$", re.IGNORECASE)
EMBEDDING = re.compile(r"(?:^|[._])(?:\w*embed\w*|wte|wpe|shared|\w*_tokens?)$")
STEM = re.compile(
    r"(?:^|[._])(?:\w*embed\w*|wte|wpe|shared|cls_token|mask_token|conv[12]|ln_pre|pre_layrnorm|norm_pre|stem)(?=[._]|$)"
)

# Integer matrices under these names are quantised weights: merging round them would leave out most of the model.
QUANTISED = re.compile(r"(?:^|\.)(?:qweight|qzeros|weight|weight_packed)$")

# Names of parameters with a row (or an entry) for each token of the vocabulary.
VOCABULARY = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|shared|token_embedding|tok_embeddings|embed_in|lm_head|embed_out|"
    r"cls\.predictions\.decoder|cls\.predictions)(?:\.weight|\.bias)?$"
)

# Tensors that a model may tie (store once, or several times with the same values): copy -> where the original is.
TIED = (
    (
        re.compile(r"^(?:.*\.)?(?:lm_head|embed_out)\.weight$"),
        re.compile(r"(?:^|\.)(?:shared|embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$"),
    ),
    (re.compile(r"^(?:.*\.)?(?:encoder|decoder)\.embed_tokens\.weight$"), re.compile(r"(?:^|\.)shared\.weight$")),
    (re.compile(r"^cls\.predictions\.decoder\.weight$"), re.compile(r"(?:^|\.)word_embeddings\.weight$")),
    (re.compile(r"^cls\.predictions\.decoder\.bias$"), re.compile(r"^cls\.predictions\.bias$")),
)
