"""Every figure: drawable by the real Plotly, complete, small, and honest about its numbers."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromerge.figures import accuracy, confusion, interference, layer, neuron, theme, tuning
from neuromerge.figures.figure import Figure, message
from neuromerge.figures.hover import with_hover
from neuromerge.figures.interference import heatmaps
from neuromerge.figures.interference.columns import limits, panels
from neuromerge.figures.neuron import coordinates, labels
from neuromerge.figures.numbers import nice_ceiling, number, round_frame
from neuromerge.figures.patch import merge_patch
from neuromerge.figures.tasks import task_looks
from neuromerge.figures.text import plain
from neuromerge.figures.tuning.trials import Scale
from neuromerge.merging.measures import measures
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
def drawn(figure: Figure) -> list[dict[str, Any]]:
    """The traces that hold the map's numbers: parallel, orthogonal, single numbers."""
    return [trace for trace in figure.data if trace.get("name")]


def test_the_open_cell_is_outlined_wherever_it_is_drawn() -> None:
    def frames(selected: tuple[int, int]) -> list[tuple[str, float, float]]:
        figure = interference.interference_heatmaps(examples.heatmap(), tasks=8, selected=selected)
        shapes = [shape for shape in figure.layout["shapes"] if shape["type"] == "rect"]
        return [(shape["xref"], shape["x0"], shape["y0"]) for shape in shapes]

    assert frames((3, 2)) == [("x", 1.5, 2.5), ("x2", 1.5, 2.5)]
    assert frames((3, examples.MATRICES.index("bias"))) == [("x3", 0.5, 2.5)]
    assert frames((99, 2)) == []


def test_single_numbers_stand_apart_and_every_cell_is_drawn_where_it_belongs() -> None:
    heatmap = examples.heatmap()
    parallel, orthogonal, single = drawn(interference.interference_heatmaps(heatmap, tasks=8))
    assert single["meta"]["columns"] == ["norm", "bias", "embedding"]
    assert parallel["meta"]["columns"] == ["q", "k", "v", "out", "fc1", "fc2", "patch", "projection"]
    for trace, values in ((parallel, heatmap.parallel), (orthogonal, heatmap.orthogonal), (single, heatmap.orthogonal)):
        z = np.array(trace["z"], dtype=float)
        np.testing.assert_allclose(z, values[:, trace["meta"]["places"]], rtol=5e-3)
    assert {trace["meta"]["source"] for trace in (orthogonal, single)} == {"orthogonal"}


def test_what_has_no_value_looks_and_says_why() -> None:
    heatmap = examples.heatmap("cosine")
    heatmap.orthogonal[3, 0] = np.nan  # exists in the parallel panel, so the measure does not apply here
    figure = interference.interference_heatmaps(heatmap, tasks=8)
    texts = figure.to_dict()["data"]
    orthogonal = next(trace for trace in texts if trace.get("name") == "orthogonal")
    assert "not applicable" in orthogonal["hovertext"][3][0]
    assert "no such matrix" in orthogonal["hovertext"][0][0]
    grey = next(trace for trace in figure.data if "name" not in trace and trace["xaxis"] == "x2")
    assert grey["z"][3][0] == 1
    assert grey["z"][0][0] is None
    legend = " ".join(note["text"] for note in figure.layout["annotations"])
    assert "no such matrix" in legend
    assert "not applicable" in legend
    whole = interference.interference_heatmaps(examples.heatmap("cosine"), tasks=8)
    assert "not applicable" not in " ".join(note["text"] for note in whole.layout["annotations"])


@pytest.mark.parametrize("key", [info.key for info in measures()])
def test_each_panel_has_a_scale_that_tells_its_own_cells_apart(key: str) -> None:
    heatmap = examples.heatmap(key)
    for panel in panels(heatmap):
        low, high = limits(panel, heatmap.measure)
        known = panel.values[np.isfinite(panel.values)]
        inside = (known >= low) & (known <= high)
        assert inside.mean() > 0.9
        assert heatmap.measure.low <= high
        if heatmap.measure.signed:
            assert low == -high
            assert high <= 2.1 * np.quantile(np.abs(known), 0.98)
        else:
            assert high - low <= 3 * (known.max() - known.min()) or low == 0


def test_one_extreme_cell_does_not_wash_out_the_others() -> None:
    heatmap = examples.heatmap("retention")
    panel = panels(heatmap)[1]
    before = limits(panel, heatmap.measure)
    heatmap.orthogonal[5, 2] = 400.0
    assert limits(panels(heatmap)[1], heatmap.measure)[1] <= 2 * before[1]


def test_the_ends_of_a_colour_bar_say_what_lies_further_out() -> None:
    named = {-1.0: "together", 0.0: "independent", 1.0: "against"}
    assert heatmaps.colour_ticks((-0.15, 0.15), named) == [
        (-0.15, "−0.15<br>← together"),
        (0.0, "0<br>independent"),
        (0.15, "0.15<br>against →"),
    ]
    assert heatmaps.colour_ticks((-1.0, 1.0), named)[0] == (-1.0, "−1<br>together")
    # A named value replaces an end that would stand too near.
    assert [value for value, _ in heatmaps.colour_ticks((0.5, 0.66), {0.0: "agree", 0.65: "independent"})] == [
        0.5,
        0.65,
    ]


def test_cells_with_a_factor_of_their_own_say_so_in_the_cell_the_hover_and_the_table() -> None:
    heatmap = examples.heatmap("conflict")
    row, column = heatmap.rows.index("block 3"), heatmap.columns.index("fc1")
    factors = np.where(np.isfinite(heatmap.parallel), 1.0, np.nan)
    factors[row, column] = 0.5
    figure = interference.interference_heatmaps(replace(heatmap, factors={"parallel": factors}), tasks=8)
    parallel, orthogonal = (next(t for t in figure.data if t.get("name") == n) for n in ("parallel", "orthogonal"))
    at = parallel["meta"]["places"].index(column)
    texts = parallel["text"]
    assert "×0.5" in texts[row][at]
    assert sum(bool(text) for line in texts for text in line) == 1
    assert "text" not in orthogonal
    hover = with_hover(parallel)["hovertext"]
    assert "strength here ×0.5" in hover[row][at]
    assert sum("×0.5" in text for line in hover for text in line) == 1
    table = interference.as_table(replace(heatmap, factors={"parallel": factors}), 8)
    assert table.count("<b>×0.5</b>") == 1


# ------------------------------------------------------------------------------------------------ the sentence
def test_the_sentence_names_the_three_highest_cells_and_the_lowest() -> None:
    heatmap = examples.heatmap("cosine")
    heatmap.parallel[4, 1], heatmap.orthogonal[2, 5], heatmap.orthogonal[6, 0] = 0.99, 0.98, 0.97
    heatmap.orthogonal[9, 3] = -0.99
    sentence = interference.headline(heatmap, 8)
    places = [(link.source, link.row, link.column) for link in sentence.links]
    assert places == [("parallel", 4, 1), ("orthogonal", 2, 5), ("orthogonal", 6, 0), ("orthogonal", 9, 3)]
    assert sentence.text == (
        "Mean cosine is highest in block 3 k (parallel, 0.99), block 1 fc2 (orthogonal, 0.98) and block 5 q "
        "(orthogonal, 0.97): the tasks pull the same way; lowest in block 8 out (orthogonal, −0.99): "
        "the tasks pull in opposite directions."
    )


def test_the_sentence_leaves_out_flat_panels_and_single_numbers() -> None:
    flat = examples.heatmap("retention", note_parallel="λ₁ = 0: nothing is added")
    flat.orthogonal[:, examples.MATRICES.index("norm")] = 9.0
    assert {link.source for link in interference.headline(flat).links} == {"orthogonal"}
    assert all(link.value < 9 for link in interference.headline(flat).links)


def test_a_map_without_differences_has_a_sentence_too() -> None:
    heatmap = examples.heatmap()
    for values in (heatmap.parallel, heatmap.orthogonal):
        values[np.isfinite(values)] = 0.5
    assert interference.headline(heatmap).text == "Cancellation is 0.5 everywhere."
    for values in (heatmap.parallel, heatmap.orthogonal):
        values[:] = np.nan
    assert interference.headline(heatmap).links == ()
    assert "nothing to compare" in interference.headline(heatmap).text
    interference.interference_heatmaps(heatmap).to_plotly(narrow=True)


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
            np.testing.assert_allclose(trace["y"], (1 + step) * np.array(trace["x"]), rtol=2e-3, atol=1e-3)


POINTS = st.tuples(st.floats(-9, 9), st.floats(-9, 9))


@given(st.lists(POINTS, min_size=2, max_size=12), st.data())
def test_labels_never_lie_on_one_another_or_on_a_marker(tips: list[tuple[float, float]], data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text("abc", min_size=1, max_size=14), min_size=len(tips), max_size=len(tips)))
    asked = [labels.Label(name, len(name), at, "token:ink") for name, at in zip(names, tips, strict=True)]
    scale = labels.NARROW_PX[1] / 20

    def box(note: dict[str, Any]) -> tuple[float, float, float, float]:
        width = labels.LETTER_PX * len(note["text"])
        left = note["x"] * scale + note["xshift"] - (width if note["xanchor"] == "right" else 0)
        share = {"bottom": 0.0, "middle": 0.5, "top": 1.0}[note["yanchor"]]
        bottom = note["y"] * scale - share * labels.LINE_PX
        return left, bottom, left + width, bottom + labels.LINE_PX

    def apart(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]

    boxes = [box(note) for note in labels.placed(asked, tips, ((-10, 10), (-10, 10)), labels.NARROW_PX)]
    half = labels.MARKER_PX / 2
    marks = [(x * scale - half, y * scale - half, x * scale + half, y * scale + half) for x, y in tips]
    assert all(apart(a, b) for i, a in enumerate(boxes) for b in [*boxes[:i], *marks])
    assert all(-labels.NARROW_PX[0] / 2 <= box[0] and box[2] <= labels.NARROW_PX[0] / 2 for box in boxes)


def test_short_arrows_are_drawn_once_more_enlarged() -> None:
    detail = examples.neuron_detail()
    tiny = replace(detail, c=detail.c * np.array([1, 1, 0.02, *[1] * 5]), scores=detail.scores.copy())
    tiny.scores[2] *= 0.02
    figure = neuron.neuron_plane(tiny)
    arrows = [note for note in figure.layout["annotations"] if note.get("axref") == "x3"]
    assert len(arrows) == 1
    assert arrows[0]["arrowcolor"] == theme.task_colour(2)
    assert max(abs(arrows[0]["x"]), abs(arrows[0]["y"])) > 0.25 * figure.layout["xaxis3"]["range"][1]


def test_the_axes_of_a_neuron_hold_their_origin_and_every_tip() -> None:
    for seed in range(5):
        figure = neuron.neuron_plane(examples.neuron_detail(seed=seed))
        for letter in "xy":
            low, high = figure.layout[f"{letter}axis"]["range"]
            assert low < 0 < high
            values = [value for trace in figure.data if "marker" in trace for value in trace[letter]]
            assert low < min(values)
            assert max(values) < high
    assert {"xaxis.range", "yaxis.range"} <= set(figure.held)


def test_a_dead_neuron_and_one_task_can_be_drawn() -> None:
    detail = examples.neuron_detail(examples.TASKS[:1])
    for figure in (neuron.neuron_plane(detail, 99), neuron.pre_activations(detail), neuron.votes(detail)):
        figure.to_plotly()
    dead = examples.dead_neuron()
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


def test_trials_that_were_given_up_early_are_dotted_and_never_the_best() -> None:
    trials = [replace(trial, pictures=1_600) for trial in examples.trials()]
    flattered = replace(trials[0], state="pruned", value=0.99, pictures=128)
    figure = tuning.parallel_coordinates([flattered, *trials[1:]])
    first, *others = figure.data
    assert first["line"]["dash"] == "dot"
    assert "on 128 pictures, then given up" in first["hovertemplate"]
    assert all("dash" not in line["line"] for line in others)
    assert "on 1,600 pictures<br>" in others[-1]["hovertemplate"]
    assert "1 of them given up early" in figure.description


def test_a_map_tells_how_many_pictures_each_point_is_of() -> None:
    land = examples.landscape()
    pictures = np.where(np.isfinite(land.value), 32, 0)
    pictures[4, 2] = 128
    grown = tuning.landscape_contour(replace(land, images=1_600, pictures=pictures))
    assert f"{100 * land.value[4, 2]:.1f} % on 128 pictures" in grown.description, "the best of those seen most"
    assert "%{customdata} pictures" in grown.data[0]["hovertemplate"]
    assert any("32 to 128 of 1,600 images a point" in note["text"] for note in grown.layout["annotations"])
    whole = tuning.landscape_contour(replace(land, images=1_600, pictures=np.full(land.value.shape, 1_600)))
    assert "pictures" not in whole.data[0]["hovertemplate"]


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


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("scale", ["sequential", "diverging"])
def test_text_can_be_read_on_every_colour_of_every_scale(mode: theme.Mode, scale: str) -> None:
    for share in np.linspace(0, 1, 2001):
        under = theme.luminance(theme.colour_at(theme.SCALES[mode][scale], share))
        ink = theme.resolve(theme.ink_on(scale, share), mode)
        light = 1.0 if ink == "#ffffff" else 0.0
        assert (max(under, light) + 0.05) / (min(under, light) + 0.05) >= 4.5


def test_every_number_in_a_cell_has_the_ink_of_its_colour(figures: dict[str, Figure]) -> None:
    found = 0
    for figure in figures.values():
        for trace in figure.data:
            if trace["type"] == "heatmap" and trace.get("texttemplate") == "%{text}":
                texts = [text for line in trace["text"] for text in line if text]
                assert all("color:token:on-" in text for text in texts)
                found += len(texts)
    assert found > 50


def test_a_colour_in_between_is_what_plotly_draws() -> None:
    scale: theme.Scale = [(0, "#000000"), (0.5, "#ff0000"), (1, "#ff00ff")]
    assert theme.colour_at(scale, 0.25) == (127.5, 0, 0)
    assert theme.colour_at(scale, 1) == (255, 0, 255)
    assert theme.colour_at(scale, 0) == (0, 0, 0)


def test_a_task_keeps_its_colour_whatever_else_is_selected() -> None:
    titles = {task: task.title() for task in examples.TASKS}
    whole = {look.name: look.colour for look in task_looks(examples.TASKS, titles)}
    assert len(set(whole.values())) == 8
    for some in (examples.TASKS[3:5], examples.TASKS[::2]):
        assert {look.name: look.colour for look in task_looks(some, titles)}.items() <= whole.items()
    assert [look.name for look in task_looks(["new"], titles)] == ["new"]
    assert task_looks(["new"], titles)[0].colour == theme.task_colour(8)


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


@given(st.lists(st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)))
def test_a_round_frame_holds_its_values_and_zero(values: list[float]) -> None:
    low, high = round_frame(values)
    assert low < 0 < high
    assert all(low <= value <= high for value in values)


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_nice_ceiling_is_near_above(value: float) -> None:
    assert value * (1 - 1e-6) <= nice_ceiling(value) <= 2.1 * value


def test_texts_cannot_become_tags() -> None:
    assert plain("<img src=x onerror=alert(1)>") == "&lt;img src=x onerror=alert(1)&gt;"
    assert len(plain("x" * 500)) <= 40
    assert number(float("nan")) is None
    assert json.loads(message("a <b>", "error")) == {"message": "a <b>", "kind": "error"}
