"""Two maps side by side share their scales; their difference is a map of its own."""

from __future__ import annotations

import numpy as np

from neuromerge.figures.figure import Figure
from neuromerge.figures.interference import as_table, difference, headline, interference_heatmaps
from tests.figures import examples

ONE, OTHER = examples.heatmap("retention"), examples.heatmap("cosine")


def ends(figure: Figure) -> list[tuple[float, float]]:
    return [(axis["cmin"], axis["cmax"]) for name, axis in figure.layout.items() if name.startswith("coloraxis")]


def test_the_difference_is_cell_by_cell_and_diverges_from_nothing() -> None:
    found = difference(ONE, OTHER)
    np.testing.assert_allclose(found.parallel, ONE.parallel - OTHER.parallel)
    np.testing.assert_allclose(found.orthogonal, ONE.orthogonal - OTHER.orthogonal)
    for low, high in ends(interference_heatmaps(found, tasks=8)):
        assert low == -high < 0
    assert headline(found, 8).text.startswith("Difference in retention is highest in")
    assert "this merge has more of it" in as_table(found, 8)


def test_a_map_and_itself_differ_nowhere() -> None:
    assert headline(difference(ONE, ONE), 8).text == "Difference in retention is 0 everywhere."


def test_two_maps_share_the_scale_of_both() -> None:
    large = examples.heatmap("retention")
    large.orthogonal[:] *= 3
    first = interference_heatmaps(ONE, tasks=8, beside=large)
    second = interference_heatmaps(large, tasks=8, beside=ONE)
    assert ends(first) == ends(second)
    assert ends(first) != ends(interference_heatmaps(ONE, tasks=8))
