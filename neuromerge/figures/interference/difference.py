"""The difference of two maps as a map of its own, so that every figure, sentence and table of maps draws it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from neuromerge.exploration.results import Heatmap
from neuromerge.merging.measures import Measure


def difference(this: Heatmap, other: Heatmap) -> Heatmap:
    """`this` minus `other`, cell by cell: two maps of one measure over the same family's cells."""
    return Heatmap(
        measure=of_difference(this.measure),
        rows=this.rows,
        columns=this.columns,
        parallel=this.parallel - other.parallel,
        orthogonal=this.orthogonal - other.orthogonal,
        factors=this.factors,
    )


def of_difference(measure: Measure) -> Measure:
    """What the difference of two values of a measure means: above 0, this merge has more of it."""

    def ends(tasks: int) -> Mapping[float, str]:
        return {0.0: "the same"}

    return replace(
        measure,
        key=f"{measure.key}_difference",
        title=f"Difference in {measure.title.lower()}",
        sentence=f"{measure.title} of this merge minus that of the other: above 0, this merge has more of it.",
        words=lambda tasks: ((-1e-9, "less in this merge"), (1e-9, "the same in both"), (None, "more in this merge")),
        ends=ends,
        low=0.0,
        high=None,
        signed=True,
        one_task="",
    )
