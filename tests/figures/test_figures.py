"""Every figure: drawable by the real Plotly, complete, small, and honest about its numbers."""

from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.figures import accuracy, confusion, interference, layer, neuron, theme, tuning
from neuromerge.figures.figure import Figure, message
from neuromerge.figures.interference import heatmaps
from neuromerge.figures.neuron import coordinates
from neuromerge.figures.numbers import nice_ceiling, number
from neuromerge.figures.patch import merge_patch
from neuromerge.figures.text import plain
from neuromerge.figures.tuning.trials import Scale
from tests.figures import examples
from tests.figures.gallery import FIGURES


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return {name: build() for name, build in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_real_plotly_accepts_it(figures: dict[str, Figure], name: str) -> None:
    for mode in ("light", "dark"):
        for narrow in (False, True):
            figures[name].to_plotly(mode, narrow=narrow)


@pytest.mark.parametrize("name", FIGURES)
def test_no_token_is_left_over_and_none_is_unknown(figures: dict[str, Figure], name: str) -> None:
    for narrow in (False, True):
        assert theme.TOKEN not in json.dumps(figures[name].to_dict("dark", narrow=narrow))


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_small_described_and_has_its_numbers(figures: dict[str, Figure], name: str) -> None:
    figure = figures[name]
    text = figure.to_json()
    assert len(text) < (48_000 if "many" in name else 24_000)
    sent = json.loads(text)
    assert len(sent["alt"]) > 30
    assert sent["layout"]["uirevision"]
    assert sent["layout"]["height"] > 100
    holds_numbers = any(trace.get("z") or trace.get("x") for trace in figure.data)
    rows = list(csv.DictReader(io.StringIO(figure.to_csv())))
    assert bool(rows) == holds_numbers
    assert not rows or "" not in rows[0]
    assert re.fullmatch(r"[a-z0-9 _-]+", figure.name)


@pytest.mark.parametrize("name", FIGURES)
def test_no_number_that_json_does_not_know(figures: dict[str, Figure], name: str) -> None:
    assert not re.search(r"\b(NaN|Infinity)\b", figures[name].to_json())


# ------------------------------------------------------------------------------------------------ accuracy
def test_merged_tasks_come_first_and_averages_count_only_them() -> None:
    board = examples.board()
    figure = accuracy.accuracy_bars(board)
    names = figure.data[0]["hovertext"]
    assert names == ["average", *examples.TASKS, *examples.UNSEEN]
    assert figure.data[0]["meta"]["index"] == [-1, *range(10)]
    mean = np.mean([board.merge[task].value for task in examples.TASKS])
    merge = next(trace for trace in figure.data if trace["name"] == "this merge")
    assert merge["customdata"][0][2] == "mean of the 8 merged tasks"
    assert merge["y"][0] == pytest.approx(100 * mean, abs=0.01)


def test_error_bars_are_the_intervals() -> None:
    board = examples.board()
    trace = accuracy.accuracy_bars(board).data[2]
    digits = board.merge["digits"]
    assert trace["y"][1] + trace["error_y"]["array"][1] == pytest.approx(100 * digits.high, abs=0.02)
    assert trace["y"][1] - trace["error_y"]["arrayminus"][1] == pytest.approx(100 * digits.low, abs=0.02)


def test_a_model_without_a_task_has_no_average_and_a_gap() -> None:
    board = examples.board()
    del board.pinned["digits"]
    assert "pinned" not in accuracy.averages(board)
    assert accuracy.accuracy_bars(board).data[3]["y"][1] is None


def test_an_average_of_nothing_is_said_to_be_none() -> None:
    board = examples.board()
    empty = type(board)(board.split, board.tasks, frozenset(), board.base, board.expert, board.merge)
    assert "Nothing is merged" in accuracy.accuracy_bars(empty).description


@pytest.mark.parametrize(("value", "text"), [(0.0142, "+1.4"), (-0.003, "−0.3"), (0.0001, "±0.0"), (-0.0001, "±0.0")])
def test_differences_are_signed_points(value: float, text: str) -> None:
    assert accuracy.points(value) == text


# ------------------------------------------------------------------------------------------------ interference
def test_both_panels_share_one_scale_and_the_selected_cell_is_outlined_in_both() -> None:
    figure = interference.interference_heatmaps(examples.heatmap(), tasks=8, selected=(3, 2))
    cells = [trace for trace in figure.data if trace.get("name")]
    assert {trace["coloraxis"] for trace in cells} == {"coloraxis"}
    frames = [shape for shape in figure.layout["shapes"] if shape["type"] == "rect"]
    assert [(shape["x0"], shape["y0"]) for shape in frames] == [(1.5, 2.5)] * 2


def test_missing_cells_say_why() -> None:
    figure = interference.interference_heatmaps(examples.heatmap(), tasks=8).to_dict()
    parallel, orthogonal = (trace for trace in figure["data"] if trace.get("name"))
    norm, q = examples.MATRICES.index("norm"), examples.MATRICES.index("q")
    assert "not applicable" in parallel["text"][1][norm]
    assert "not applicable" not in orthogonal["text"][1][norm]
    assert "no such matrix" in parallel["text"][0][q]


def test_the_scale_of_a_bounded_measure_stays_put() -> None:
    assert heatmaps.limits(examples.heatmap("cancellation")) == (0.0, 1.0)
    assert heatmaps.limits(examples.heatmap("cosine")) == (-1.0, 1.0)
    low, high = heatmaps.limits(examples.heatmap("applied_change"))
    assert (low, high) == (0.0, nice_ceiling(high))


def test_the_table_twin_has_the_same_numbers() -> None:
    heatmap = examples.heatmap()
    header, rows = interference.as_rows(heatmap)
    assert header[:2] == ["layer", "subspace"]
    by_place = {(row[0], row[1]): row[2:] for row in rows}
    assert by_place["block 3", "orthogonal"][1] == pytest.approx(heatmap.orthogonal[4, 1], rel=1e-2)
    assert by_place["block 3", "parallel"][header.index("norm") - 2] is None
    table = interference.as_table(heatmap, 8)
    assert table.count("<tr>") == len(rows) + 1
    assert "<caption>" in table


# ------------------------------------------------------------------------------------------------ neuron
def test_shares_outside_the_plane_complete_the_squared_length() -> None:
    detail = examples.neuron_detail()
    inside = sum(1 - coordinates.outside_plane(detail, r) for r in range(detail.scores.shape[1]))
    parallel = (detail.c * detail.base_norm / detail.tau_norm) ** 2
    np.testing.assert_allclose(inside - (detail.scores.shape[1] - 1) * parallel, 1, atol=1e-6)


def test_the_merge_arrow_is_the_merge() -> None:
    detail = examples.neuron_detail()
    step, rise = coordinates.merged_change(detail)
    assert step == pytest.approx(detail.lambda_parallel * detail.c_merged)
    np.testing.assert_allclose(rise, detail.lambda_orthogonal * detail.elected * detail.singular, rtol=1e-6)


def test_the_parallel_part_alone_puts_every_answer_on_the_line() -> None:
    detail = examples.neuron_detail(lambda_orthogonal=0.0)
    figure = neuron.pre_activations(detail)
    step, _ = coordinates.merged_change(detail)
    for trace in figure.data:
        if trace.get("mode") == "markers" and "customdata" in trace:
            np.testing.assert_allclose(trace["y"], step * np.array(trace["x"]), atol=1e-3)


def test_a_dead_neuron_and_one_task_can_be_drawn() -> None:
    detail = examples.neuron_detail(examples.TASKS[:1])
    for figure in (neuron.neuron_plane(detail, 99), neuron.pre_activations(detail), neuron.votes(detail)):
        figure.to_plotly()
    zero = np.zeros(1)
    none = np.zeros((1, 0))
    dead = type(detail)(
        "head", "projection", 0, ("one",), 0.0, zero, 0.0, none, np.zeros(0), none, np.zeros(0), zero, zero, 0.0, 1.0,
        np.zeros(0), np.zeros((0, 0)),
    )  # fmt: skip
    for figure in (neuron.neuron_plane(dead), neuron.pre_activations(dead), neuron.votes(dead)):
        figure.to_plotly(narrow=True)
        json.loads(figure.to_json())


def test_twenty_tasks_stay_distinguishable() -> None:
    looks = {(theme.task_colour(i), theme.task_dash(i), theme.task_symbol(i)) for i in range(20)}
    assert len(looks) == 20
    names = tuple(f"task {i}" for i in range(20))
    neuron.neuron_plane(examples.neuron_detail(names)).to_plotly()
    layer.task_cosines(examples.layer_detail(names, neurons=6, bins=3)).to_plotly()


def test_a_layer_of_single_entries_and_of_one_task() -> None:
    detail = examples.layer_detail(examples.TASKS[:1], neurons=6, bins=3)
    pointwise = type(detail)(
        **{**vars(detail), "kind": "pointwise", "contested": (), "cosine_parallel": np.full((1, 1), np.nan)}
    )
    for one in (detail, pointwise):
        for draw in (layer.neurons_by_tasks, layer.task_cosines, layer.alpha_histogram, layer.contested_neurons):
            draw(one).to_plotly(narrow=True)


# ------------------------------------------------------------------------------------------------ tuning
def test_only_finished_trials_are_lines_and_clicks_find_them() -> None:
    trials = examples.trials()
    figure = tuning.parallel_coordinates(trials)
    assert len(figure.data) == sum(trial.value is not None for trial in trials)
    best = figure.data[-1]["meta"]["index"][0]
    assert trials[best].value == max(t.value for t in trials if t.value is not None)


def test_words_and_numbers_share_an_axis() -> None:
    scale = Scale.of([0.5, 1.5, "auto"])
    assert scale.place(0.5) == 0
    assert scale.place(1.5) < scale.place("auto") == 1
    assert scale.place(None) is None


def test_an_empty_search_and_an_empty_landscape_are_drawn() -> None:
    tuning.parallel_coordinates(()).to_plotly()
    tuning.importance_bars({}).to_plotly()
    land = examples.landscape()
    empty = type(land)(land.x_name, land.y_name, land.x, land.y, np.full_like(land.value, np.nan))
    assert "Nothing is computed" in tuning.landscape_contour(empty).description


def test_confusion_counts_what_is_mixed_up() -> None:
    assert "class 3 taken for class 5 (14)" in confusion.confusion_matrix(examples.confusion()).description
    many = examples.confusion(60)
    confusion.confusion_matrix(many).to_plotly(narrow=True)


# ------------------------------------------------------------------------------------------------ theme and helpers
def _lab(colour: str, vision: np.ndarray) -> np.ndarray:
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(vision @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("vision", VISION)
def test_task_colours_stay_apart_for_every_vision(mode: theme.Mode, vision: str) -> None:
    colours = [_lab(theme.COLOURS[mode][f"task-{i}"], VISION[vision]) for i in range(theme.TASK_COLOURS)]
    apart = min(np.linalg.norm(a - b) for i, a in enumerate(colours) for b in colours[:i])
    assert apart > 15


def test_both_modes_have_the_same_tokens_and_css_has_them_all() -> None:
    assert set(theme.COLOURS["light"]) == set(theme.COLOURS["dark"])
    css = theme.css_variables()
    for name in theme.COLOURS["light"]:
        assert css.count(f"--nm-{name}:") == 2
    with pytest.raises(KeyError):
        theme.token("mauve")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_resolving_leaves_other_data_alone(value: object) -> None:
    if theme.TOKEN not in json.dumps(value):
        assert theme.resolve(value) == value


def test_patches_follow_the_standard() -> None:
    assert merge_patch({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 4}}) == {"b": {"c": 4, "d": 3}}
    assert merge_patch({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_nice_ceiling_is_near_above(value: float) -> None:
    assert value * (1 - 1e-6) <= nice_ceiling(value) <= 2.1 * value


def test_texts_cannot_become_tags() -> None:
    assert plain("<img src=x onerror=alert(1)>") == "&lt;img src=x onerror=alert(1)&gt;"
    assert len(plain("x" * 500)) <= 40
    assert number(float("nan")) is None
    assert json.loads(message("a <b>", "error")) == {"message": "a <b>", "kind": "error"}
