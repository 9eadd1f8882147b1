"""Tasks against tasks: the figure, the bars, and the sentence say the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuromerge.figures.figure import Figure
from neuromerge.figures.interference import interference_heatmaps, kept_shares, pairs_headline, task_pairs
from neuromerge.figures.layer import task_cosines
from neuromerge.figures.theme import SCALES, TOKEN, Mode
from tests.figures import examples

BETWEEN = examples.between_tasks()
HEATMAP = examples.heatmap("conflict")


def test_the_panels_hold_every_pair_and_no_diagonal() -> None:
    figure = task_pairs(BETWEEN)
    assert [trace["meta"]["source"] for trace in figure.data] == ["parallel", "orthogonal"]
    for trace in figure.data:
        drawn = np.array(trace["z"], float)
        expected = BETWEEN.conflict[trace["name"]]
        assert np.isnan(np.diag(drawn)).all()
        np.testing.assert_allclose(drawn, expected, atol=2e-3)
        assert trace["meta"]["hover"]["not_applicable"]["cells"] == [9 * at for at in range(8)]


def test_one_task_is_its_own_row() -> None:
    figure = task_pairs(BETWEEN, only="flags")
    place = BETWEEN.tasks.index("flags")
    for trace in figure.data:
        assert trace["meta"]["rows"] == ["flags"]
        np.testing.assert_allclose(np.array(trace["z"], float)[0], BETWEEN.conflict[trace["name"]][place], atol=2e-3)
        assert trace["meta"]["hover"]["not_applicable"]["cells"] == [place]


def test_the_bars_are_percent_of_each_tasks_own_change() -> None:
    figure = kept_shares(BETWEEN)
    for trace, name in zip(figure.data, ("parallel", "orthogonal", "both"), strict=True):
        np.testing.assert_allclose(trace["x"], 100 * BETWEEN.kept[name], atol=0.006)
    low, high = figure.layout["xaxis"]["range"]
    assert low < 100 * BETWEEN.kept["orthogonal"].min() < 0
    assert high > 100 * BETWEEN.kept["orthogonal"].max()


def test_the_sentence_names_the_pair_that_fights_most_where_and_who_pays() -> None:
    sentence = pairs_headline(BETWEEN, HEATMAP)
    both = BETWEEN.conflict["both"]
    a, b = sorted(np.unravel_index(np.nanargmax(both), both.shape))
    least = BETWEEN.tasks[np.argmin(BETWEEN.kept["both"])]
    assert sentence.text.startswith(f"{BETWEEN.tasks[a]} pulls against {BETWEEN.tasks[b]} most")
    assert f"{least} pays most" in sentence.text
    (link,) = sentence.links
    assert HEATMAP.rows[link.row] == BETWEEN.places[a, b].layer
    assert HEATMAP.columns[link.column] == "fc1"


def test_where_all_go_together_nobody_is_said_to_fight() -> None:
    together = {name: -np.abs(values) for name, values in BETWEEN.conflict.items()}
    sentence = pairs_headline(replace(BETWEEN, conflict=together), HEATMAP)
    assert sentence.text.startswith("No two tasks pull against each other")


@pytest.mark.parametrize("only", examples.TASKS)
def test_the_sentence_of_one_task_begins_with_it(only: str) -> None:
    sentence = pairs_headline(BETWEEN, HEATMAP, only=only)
    row = BETWEEN.conflict["both"][BETWEEN.tasks.index(only)]
    assert sentence.text.startswith(f"{only} pulls against {BETWEEN.tasks[np.nanargmax(row)]} most")
    assert f"{only} keeps" in sentence.text


def test_inside_one_cell_there_is_nowhere_to_go() -> None:
    sentence = pairs_headline(examples.between_tasks(layer="block 1", matrix="fc1"), HEATMAP)
    assert not sentence.links


def test_one_task_has_nobody_to_disagree_with() -> None:
    sentence = pairs_headline(examples.between_tasks(examples.TASKS[:1]), HEATMAP)
    assert sentence.text.startswith("Only one task changes anything here")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_against_each_other_has_one_colour_in_every_figure(mode: Mode) -> None:
    def end(figure: Figure, share: int) -> str:
        scale = SCALES[mode][figure.layout["coloraxis"]["colorscale"].removeprefix(TOKEN)]
        return scale[-1 if share else 0][1]

    against = {
        end(interference_heatmaps(examples.heatmap("conflict")), 1),
        end(interference_heatmaps(examples.heatmap("cosine")), 0),
        end(task_pairs(examples.between_tasks(), {}), 1),
        end(task_cosines(examples.layer_detail()), 0),
    }
    assert len(against) == 1
