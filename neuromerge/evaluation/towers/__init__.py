"""The two towers of CLIP, runnable on weights that a merge writes in place."""

from neuromerge.evaluation.towers.text import TextModel
from neuromerge.evaluation.towers.vision import VisionModel, vision_fingerprint

__all__ = ["TextModel", "VisionModel", "vision_fingerprint"]
