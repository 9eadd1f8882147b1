"""The settings of a CLIP model that its weights do not hold, as evaluation needs them.

They are read beside the weights, where conversions and merges compare them too.
"""

from neuromerge.checkpoints.clip_config import (
    CLIP_VOCABULARY,
    ClipConfiguration,
    TextSettings,
    TowerSettings,
    configuration_of,
    from_open_clip,
    from_transformers,
)
from neuromerge.checkpoints.image_processing import OPENAI_MEAN, OPENAI_STD, Preprocessing

__all__ = [
    "CLIP_VOCABULARY",
    "OPENAI_MEAN",
    "OPENAI_STD",
    "ClipConfiguration",
    "Preprocessing",
    "TextSettings",
    "TowerSettings",
    "configuration_of",
    "from_open_clip",
    "from_transformers",
]
