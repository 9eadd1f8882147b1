"""What exploration keeps in the cache beside the engine's own regions, by what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuromerge.engine.cache import Region
from neuromerge.engine.regions import Pass

if TYPE_CHECKING:
    from neuromerge.engine.effects import Trial
    from neuromerge.evaluation.samples import SampleSet
    from neuromerge.exploration.results import Effect, LayerDetail, MergeSummary, NeuronDetail, StrengthCurve
    from neuromerge.settings.setting import Setting

_CLOSE_UPS = 64

OWN_PICTURES: Region[tuple[str, str, int, int], SampleSet] = Region(
    "own samples", lambda found: 4096 + found.images.nbytes + 100 * len(found), most=16
)
EFFECT: Region[tuple[Setting, str, Trial], Effect] = Region("effect", most=8192)
SUMMARY: Region[Setting, MergeSummary] = Region("summary", most=1024)
CURVE: Region[Setting, StrengthCurve] = Region("strength curve", most=64)
LAYER: Region[tuple[str, Pass, str, str, str], LayerDetail] = Region("layer", most=_CLOSE_UPS)
NEURON: Region[tuple[str, Pass, str, str, int, str | None], NeuronDetail] = Region("neuron", most=_CLOSE_UPS)
