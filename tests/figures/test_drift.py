"""The drift figure and its sentence say the numbers that they are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neuromerge.figures.interference import drift_headline, drift_heatmaps
from tests.figures import examples

DRIFT = examples.drift()


def test_the_panels_hold_drift_and_common_share() -> None:
    figure = drift_heatmaps(DRIFT)
    assert [trace["meta"]["source"] for trace in figure.data] == ["drift", "common"]
    for trace, expected in zip(figure.data, (DRIFT.drift, DRIFT.common), strict=True):
        np.testing.assert_allclose(np.array(trace["z"], float), expected, atol=2e-3)
        assert trace["meta"]["rows"] == list(DRIFT.blocks)


def test_the_sentence_names_the_block_of_the_steepest_rise_and_the_furthest_task() -> None:
    far = np.full((4, 2), 0.1)
    far[2:] += 0.3
    far[3, 1] = 0.9
    drift = replace(
        DRIFT, tasks=("digits", "flags"), blocks=tuple("abcd"), drift=far, common=np.full((4, 2), 0.25), pictures=(9, 9)
    )
    sentence = drift_headline(drift, {"flags": "Flags"})
    block, furthest, nearest = sentence.links
    assert (block.text, block.row) == ("c", 2)
    assert (furthest.text, furthest.row, furthest.column) == ("Flags (0.9)", 3, 1)
    assert (nearest.row, nearest.column) == (3, 0)
    assert "rises by 0.3 on average" in sentence.text
    assert "25 % of it the same on all pictures" in sentence.text


def test_a_network_that_is_its_expert_does_not_leave_it() -> None:
    same = replace(DRIFT, drift=np.zeros_like(DRIFT.drift), common=np.full_like(DRIFT.common, np.nan))
    assert drift_headline(same).text == "The merged network's features are those of its experts."
    assert drift_heatmaps(same).to_json()
