"""The workspace on real tiny CLIP models, against the library's own merge and evaluation."""

from __future__ import annotations

import contextlib
import io
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import neuromerge
from neuromerge.checkpoints import load_checkpoint
from neuromerge.engine import regions
from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.contents import Contents
from neuromerge.engine.executor import Executor
from neuromerge.engine.stages import tasks_of
from neuromerge.errors import Cancelled, LimitError, SettingError
from neuromerge.evaluation.accuracy import evaluate
from neuromerge.evaluation.families import local_family
from neuromerge.evaluation.own_family import OwnExpert, with_own
from neuromerge.evaluation.samples import load_samples
from neuromerge.evaluation.towers import VisionModel
from neuromerge.exploration.results import Effect, EffectMap
from neuromerge.exploration.workspace import Workspace
from neuromerge.merging import registry
from neuromerge.merging.measures import measures
from neuromerge.merging.profile import make_profile, multiplied
from neuromerge.progress import Job
from neuromerge.settings.choices import PRESETS, change, make_setting
from neuromerge.settings.recipes import load_recipe, setting_of

METHODS = tuple(registry.methods())
VOTES, LEVELS = ("published", "balanced"), ("neuron", "matrix", "model")


@pytest.fixture
def setting(tiny):
    return make_setting(tiny)


def library_merge(tiny, setting):
    """The same merge by the library, as a vision model's weights."""
    base = load_checkpoint(tiny.base)
    experts = {task: load_checkpoint(tiny.experts[task], name=task) for task in setting.tasks}
    return neuromerge.merge(
        base,
        experts,
        setting.method,
        profile=setting.profile,
        task_weights=setting.task_weights,
        seed=setting.seed,
        **dict(setting.hyperparameters),
    )


def weights_of(workspace, setting):
    models = workspace.engine.of(setting.family).models
    with models.borrow(Contents(setting=setting)) as model:
        return {name: weight.clone() for name, weight in model.weights.items()}


@pytest.mark.parametrize("method", METHODS)
def test_the_live_merge_is_the_library_merge(tiny, workspace, method):
    setting = make_setting(tiny, ["animals", "signs"], method, seed=3)
    merged = library_merge(tiny, setting).state_dict
    expected = VisionModel.from_checkpoint(load_checkpoint(merged), base=load_checkpoint(tiny.base)).weights
    for name, weight in weights_of(workspace, setting).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-5)


SHAPE = {"fc1": [0.5, 1.5], "block 1": 0.25, "block 0/q": 3.0, "rest": 0.75}


@pytest.mark.parametrize("kept", [True, False], ids=["components kept", "too large to keep"])
@pytest.mark.parametrize("method", METHODS)
def test_the_live_merge_is_the_library_merge_with_profile_and_weights(tiny, method, kept):
    cache = BoundedCache(256 * 1024**2 if kept else 60_000)
    workspace = Workspace({tiny.name: tiny}, cache=cache, executor=Executor(1))
    weights = {"animals": 1.4, "signs": -0.3}
    setting = make_setting(tiny, None, method, seed=3, profile=SHAPE, task_weights=weights)
    assert workspace.engine.of(tiny.name).stages.keeps_components(tasks_of(setting)) == kept
    merged = library_merge(tiny, setting).state_dict
    expected = VisionModel.from_checkpoint(load_checkpoint(merged), base=load_checkpoint(tiny.base)).weights
    for name, weight in weights_of(workspace, setting).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_factor_moved_reads_no_task_vectors(tiny, workspace, method, monkeypatch):
    setting = make_setting(tiny, None, method, profile={"fc1": 0.5})
    workspace.board(setting, "quick")
    before = workspace.heatmap(setting, "applied_change")
    stages = workspace.engine.of(tiny.name).stages
    monkeypatch.setattr(type(stages.vectors(tasks_of(setting))), "read", lambda *_: pytest.fail("reads task vectors"))
    moved = replace(setting, profile=make_profile({"fc1": 2.0}))
    workspace.board(moved, "quick")
    after = workspace.heatmap(moved, "applied_change")
    place = after.columns.index("fc1")
    np.testing.assert_allclose(after.orthogonal[:, place], 4 * before.orthogonal[:, place], rtol=1e-9)
    others = [column for column in range(len(after.columns)) if column != place]
    np.testing.assert_array_equal(after.orthogonal[:, others], before.orthogonal[:, others])


def test_a_part_that_is_not_there_is_explained(tiny, workspace):
    setting = make_setting(tiny, profile={"block 7": 0.0})
    for ask in (workspace.summary, workspace.board, lambda s: workspace.heatmap(s, "cosine")):
        with pytest.raises(SettingError, match=r"no part 'block 7'\. .*; layers: stem, block 0, block 1, head"):
            ask(setting)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        *(("neuromerging", {"vote": vote, "vote_level": level}) for vote in VOTES for level in LEVELS),
        ("neuromerging", {"lambda_orthogonal": "retention", "lambda_parallel": 0.4}),
        ("neuromerging", {"lambda_orthogonal": "retention:0.85", "vote": "balanced", "trim_ratio": 0.0}),
        *((name, {"scale": "retention:0.9"}) for name in METHODS if "scale" in registry.get_method(name).coefficients),
    ],
)
def test_votes_and_retention_of_the_live_merge_are_the_librarys(tiny, workspace, method, values):
    setting = make_setting(tiny, ["animals", "signs"], method, values, seed=3)
    merged = library_merge(tiny, setting).state_dict
    expected = VisionModel.from_checkpoint(load_checkpoint(merged), base=load_checkpoint(tiny.base)).weights
    for name, weight in weights_of(workspace, setting).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        *((name, {}) for name in METHODS),
        ("neuromerging", {"vote": "balanced", "trim_ratio": 0.0}),
        ("neuromerging", {"lambda_orthogonal": "retention:0.85", "lambda_parallel": 0.4}),
        ("tsv_m", {"scale": "retention:0.85"}),
    ],
)
def test_what_a_task_keeps_is_the_librarys(tiny, workspace, method, values):
    setting = make_setting(tiny, ["animals", "signs"], method, values, seed=3)
    told = workspace.summary(setting).retention
    assert told == pytest.approx(library_merge(tiny, setting).retention, rel=1e-3, abs=1e-3)
    if "retention:0.85" in values.values():
        assert sum(told.values()) / 2 == pytest.approx(0.85, rel=1e-4)


def test_a_large_model_tells_what_tasks_keep_only_where_that_is_no_pass_of_its_own(tiny, workspace):
    small = Workspace({tiny.name: tiny}, cache=BoundedCache(60_000), executor=Executor(1))
    for method, values in (("neuromerging", {}), ("ties", {"scale": "retention"})):
        setting = make_setting(tiny, None, method, values)
        assert small.summary(setting).retention == pytest.approx(workspace.summary(setting).retention, rel=1e-4)
    assert small.summary(make_setting(tiny, None, "ties")).retention == {}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "neuromerging"])
def test_a_new_scale_needs_no_new_merge_and_is_right(tiny, workspace, method):
    specs = {spec.name for spec in registry.get_method(method).hyperparameters}
    if "scale" not in specs:
        pytest.skip("this method has no scale")
    for scale in (0.3, 0.9):
        setting = make_setting(tiny, None, method, {"scale": scale})
        merged = library_merge(tiny, setting).state_dict
        expected = VisionModel.from_checkpoint(load_checkpoint(merged), base=load_checkpoint(tiny.base)).weights
        for name, weight in weights_of(workspace, setting).items():
            torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=2e-5)
    assert workspace.engine.cache.count(regions.COMPONENTS) == 1


@pytest.mark.parametrize("values", [{}, {"lambda_parallel": 1.3, "lambda_orthogonal": 0.7, "lambda_pointwise": 0.2}])
def test_parts_too_large_to_keep_give_the_same_merge(tiny, workspace, values):
    setting = make_setting(tiny, None, "neuromerging", values)
    small = Workspace({tiny.name: tiny}, cache=BoundedCache(60_000), executor=Executor(1))
    assert not small.engine.of(tiny.name).stages.keeps_components(tasks_of(setting))
    expected = weights_of(workspace, setting)
    for name, weight in weights_of(small, setting).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)
    other = make_setting(tiny, None, "ties")
    expected = weights_of(workspace, other)
    for name, weight in weights_of(small, other).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)


def test_scores_are_those_of_the_library(tiny, workspace):
    setting = make_setting(tiny, ["animals", "shapes"])
    board = workspace.board(setting, "test", pinned=make_setting(tiny, None, "ties"))
    table = evaluate(library_merge(tiny, setting), split="test", family=tiny, experts=False)
    assert board.tasks == ("animals", "shapes", "signs")
    assert board.merged == {"animals", "shapes"}
    for row in table.rows:
        assert (board.merge[row.task].correct, board.merge[row.task].n) == (row.correct, row.n)
        assert (board.merge[row.task].low, board.merge[row.task].high) == (row.low, row.high)
    for row in evaluate(load_checkpoint(tiny.base), split="test", family=tiny, experts=True).rows:
        assert board.base[row.task].correct == row.correct
        assert board.expert[row.task].value == pytest.approx(row.expert)
    assert board.pinned_label == "TIES"
    assert board.pinned is not None


def test_quick_is_a_part_of_validation_and_then_only_looked_up(workspace, setting):
    fresh = workspace.board(setting, "quick")
    workspace.engine.cache.clear()
    workspace.board(setting, "validation")
    before = workspace.engine.cache.statistics().misses
    again = workspace.board(setting, "quick")
    assert again.merge == fresh.merge
    assert workspace.engine.cache.statistics().misses == before


def test_the_previous_setting_shows_only_where_it_was_measured(tiny, workspace, setting):
    moved = change(setting, tiny, lambda_orthogonal=1.5)
    assert workspace.board(moved, "quick", previous=setting).previous is None
    first = workspace.board(setting, "quick")
    assert workspace.board(moved, "quick", previous=setting).previous == first.merge


def test_what_boards_refuse(tiny, workspace, setting):
    with pytest.raises(SettingError, match="split"):
        workspace.board(setting, "train")
    other = make_setting(tiny)
    object.__setattr__(other, "family", "elsewhere")
    with pytest.raises(SettingError, match="cannot be compared"):
        workspace.board(setting, "quick", pinned=other)
    with pytest.raises(SettingError, match="no model family"):
        workspace.summary(other)


def test_summary(tiny, workspace, setting):
    result = library_merge(tiny, setting)
    summary = workspace.summary(setting)
    assert summary.sigma == pytest.approx(result.sigma)
    assert summary.coefficients["lambda_orthogonal"] == pytest.approx(1 / (1 - result.sigma))
    assert summary.coefficients["lambda_parallel"] == 0.0
    assert summary.kept_share == pytest.approx(result.kept_share)
    assert summary.neurons == result.neurons
    assert summary.warnings == ()
    assert workspace.summary(change(setting, tiny, trim_ratio=0.995)).warnings
    assert workspace.summary(make_setting(tiny, None, "average")).coefficients == {}


# ------------------------------------------------------------------------------------------ interference


@pytest.mark.parametrize("key", [info.key for info in measures()])
def test_heatmaps_are_the_library_table(tiny, workspace, key):
    setting = make_setting(tiny, None, "neuromerging", {"lambda_parallel": 0.4, "trim_ratio": 0.5})
    heatmap = workspace.heatmap(setting, key)
    experts = {task: load_checkpoint(tiny.experts[task], name=task) for task in setting.tasks}
    table = neuromerge.interference(load_checkpoint(tiny.base), experts, 0.5, lambda_parallel=0.4)
    for subspace, values in (("parallel", heatmap.parallel), ("orthogonal", heatmap.orthogonal)):
        rows = table[(table.measure == key) & (table.subspace == subspace)]
        assert len(rows) > 10
        for row in rows.itertuples():
            shown = values[heatmap.rows.index(row.layer), heatmap.columns.index(row.matrix)]
            np.testing.assert_allclose(shown, row.value, rtol=1e-6, atol=1e-12, equal_nan=True)
    norms = heatmap.columns.index("norm")
    assert np.isnan(heatmap.parallel[:, norms]).all()
    assert heatmap.rows[0] == "stem"
    assert heatmap.columns[:6] == ("q", "k", "v", "out", "fc1", "fc2")


def test_heatmaps_of_other_methods_measure_their_own_merge(tiny, workspace):
    """Task arithmetic at scale s gives sum_t tau_t: retention follows from the Gram matrix alone."""
    setting = make_setting(tiny, None, "task_arithmetic", {"scale": 0.3})
    heatmap = workspace.heatmap(setting, "retention")
    stages = workspace.engine.of(tiny.name).stages
    for cell in stages.cells(setting):
        for subspace, values in (("parallel", heatmap.parallel), ("orthogonal", heatmap.orthogonal)):
            part = cell.part(subspace, stages.coefficients(setting))
            shown = values[heatmap.rows.index(cell.layer), heatmap.columns.index(cell.matrix)]
            if part is None:
                assert np.isnan(shown)
                continue
            expected = 0.3 * part.gram.sum(0) / np.diag(part.gram)
            assert shown == pytest.approx(expected.mean(), rel=1e-4)
    squares = workspace.heatmap(setting, "applied_change")
    twice = workspace.heatmap(change(setting, tiny, scale=0.6), "applied_change")
    np.testing.assert_allclose(2 * squares.orthogonal, twice.orthogonal, rtol=1e-9)


def test_notes_say_why_a_panel_is_flat(tiny, workspace, setting):
    assert "λ₁ (parallel) is 0" in workspace.heatmap(setting, "retention").note_parallel
    assert workspace.heatmap(setting, "retention").note_orthogonal == ""
    assert workspace.heatmap(setting, "cosine").note_parallel == ""
    alone = make_setting(tiny, ["signs"])
    assert "Only one task" in workspace.heatmap(alone, "cosine").note_orthogonal


def test_the_heatmap_of_a_new_lambda_reads_no_weights(tiny, workspace, setting, monkeypatch):
    workspace.heatmap(setting, "retention")
    stages = workspace.engine.of(tiny.name).stages
    monkeypatch.setattr(type(stages.vectors(tasks_of(setting))), "read", lambda *_: pytest.fail("reads weights"))
    workspace.heatmap(change(setting, tiny, lambda_orthogonal=0.5), "applied_change")
    workspace.summary(change(setting, tiny, lambda_orthogonal=0.5))


def test_unknown_measures_are_explained(workspace, setting):
    with pytest.raises(SettingError, match="no measure"):
        workspace.heatmap(setting, "beauty")


@pytest.mark.parametrize("sort", ["contested", "strength", "index"])
def test_layer_of_neurons(workspace, setting, sort):
    detail = workspace.layer(setting, "block 1", "fc1", sort)
    heatmap = workspace.heatmap(setting, "cosine")
    place = heatmap.rows.index("block 1"), heatmap.columns.index("fc1")
    pairs = detail.cosine_orthogonal[np.triu_indices(3, 1)]
    assert pairs.mean() == pytest.approx(heatmap.orthogonal[place])
    assert detail.neurons == 128
    assert detail.inputs == 32
    assert detail.strength.shape == (64, 3)
    assert detail.bin_edges[-1] == 128
    assert detail.alpha_counts.sum() == 3 * 128
    assert (np.diff(detail.margin) >= 0).all() or sort != "contested"
    assert [c.margin for c in detail.contested] == sorted(c.margin for c in detail.contested)
    if sort == "strength":
        totals = np.linalg.norm(detail.strength, axis=1)
        assert totals[0] > totals[-1]


@pytest.mark.parametrize(("layer", "matrix"), [("block 0", "norm"), ("stem", "embedding"), ("block 1", "bias")])
def test_layer_of_entries(workspace, setting, layer, matrix):
    detail = workspace.layer(setting, layer, matrix)
    assert detail.kind == "pointwise"
    assert np.isnan(detail.cosine_parallel).all()
    assert detail.strength.shape == (len(detail.bin_edges) - 1, 3)
    assert np.isfinite(detail.strength).all()
    assert detail.contested


def test_one_neuron_is_rebuilt_from_what_is_drawn(tiny, workspace):
    setting = make_setting(tiny, None, "neuromerging", {"lambda_parallel": 0.6, "lambda_orthogonal": 1.4})
    detail = workspace.neuron(setting, "block 0", "q", 5, "shapes")
    weight = weights_of(workspace, setting)["vision.blocks.0.q.weight"][5].double()
    base = load_checkpoint(tiny.base)
    w0 = VisionModel.from_checkpoint(base).weights["vision.blocks.0.q.weight"][5].double()
    # Lengths along the base vector and along the singular directions give the merged neuron's length and its
    # shadow on the base vector.
    along = detail.base_norm * (1 + 0.6 * detail.c_merged)
    across = 1.4 * detail.singular * detail.elected
    assert detail.base_norm == pytest.approx(float(w0.norm()))
    assert float(weight @ w0) / detail.base_norm == pytest.approx(along, rel=1e-5)
    assert float(weight.norm()) == pytest.approx(np.hypot(along, np.linalg.norm(across)), rel=1e-5)
    np.testing.assert_allclose(detail.alpha, detail.left @ detail.elected, atol=1e-12)
    length = (detail.c * detail.base_norm) ** 2 + (detail.scores**2).sum(1)
    np.testing.assert_allclose(detail.tau_norm, np.sqrt(length), rtol=1e-9)
    # The pre-activations drawn are those of the real inputs.
    inputs, labels = workspace.engine.of(tiny.name).models.inputs("block 0", "q", "shapes", 64)
    before = torch.from_numpy(inputs).double() @ w0
    after = torch.from_numpy(inputs).double() @ weight
    np.testing.assert_allclose(detail.along_base * detail.base_norm, before, rtol=1e-6, atol=1e-6)
    drawn = detail.along_base * along + detail.along_direction @ across
    np.testing.assert_allclose(drawn, after, rtol=1e-4, atol=1e-4)
    assert detail.image_labels == labels
    assert len(labels) == 24


def test_a_new_lambda_moves_a_neuron_at_once(tiny, workspace, setting):
    first = workspace.neuron(setting, "stem", "patch", 3)
    second = workspace.neuron(change(setting, tiny, lambda_orthogonal=0.25), "stem", "patch", 3)
    assert second.lambda_orthogonal == 0.25
    assert second.along_direction is first.along_direction


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("block 9", "q", 0), "no cell"),
        (("block 0", "nothing", 0), "no cell"),
        (("block 0", "norm", 0), "no neurons"),
        (("block 0", "q", 32), "neurons 0 to 31"),
        (("block 0", "q", -1), "neurons 0 to 31"),
        (("block 0", "q", True), "neurons 0 to 31"),
        (("block 0", "q", "0"), "neurons 0 to 31"),
        (("block 0", "q", 0, "cooking"), "no task"),
    ],
)
def test_neurons_that_are_not_there(workspace, setting, arguments, message):
    with pytest.raises(SettingError, match=message):
        workspace.neuron(setting, *arguments)


def test_orders_that_are_not_there(workspace, setting):
    with pytest.raises(SettingError, match="sorted by"):
        workspace.layer(setting, "block 0", "q", "beauty")


# ---------------------------------------------------------------------------------------------- pictures


def test_gallery_and_confusion_agree_with_the_scores(workspace, setting):
    board = workspace.board(setting, "validation")
    for task in board.tasks:
        (confusion,) = workspace.confusion(setting, task)
        assert confusion.counts.sum() == board.merge[task].n
        assert np.trace(confusion.counts) == board.merge[task].correct
        everything = workspace.gallery(setting, task, per_page=1000)
        assert everything.total == board.merge[task].n
        assert sum(item.merge == item.truth for item in everything) == board.merge[task].correct
        assert sum(item.base == item.truth for item in everything) == board.base[task].correct
        assert sum(item.expert == item.truth for item in everything) == board.expert[task].correct
        wrong = workspace.gallery(setting, task, filter="merge_wrong", per_page=1000)
        assert all(item.merge != item.truth and item.expert == item.truth for item in wrong)
        assert all(item.merge == item.truth for item in workspace.gallery(setting, task, filter="expert_wrong"))


def test_gallery_pages(workspace, setting):
    first = workspace.gallery(setting, "animals", per_page=10)
    last = workspace.gallery(setting, "animals", per_page=10, page=99)
    assert (first.total, first.pages, len(first)) == (24, 3, 10)
    assert (last.page, len(last)) == (2, 4)
    assert first.items[0].image.shape == (24, 24, 3)
    classes = len({item.truth for item in workspace.gallery(setting, "animals", per_page=1000)})
    assert len({item.truth for item in first.items}) == min(10, classes)  # one of every class in turn
    with pytest.raises(SettingError, match="gallery can show"):
        workspace.gallery(setting, "animals", filter="best")
    with pytest.raises(SettingError, match="no task"):
        workspace.gallery(setting, "cooking")


def test_what_the_text_tower_misses_is_told(workspace, setting):
    assert workspace.prompt_notes(setting, ["dog", "cat"], "a photo of the {}") == ()
    (note, *_) = workspace.prompt_notes(setting, ["dog", "🦄"], "a photo of the {}")
    assert "does not know all of “🦄”" in note
    with pytest.raises(SettingError):
        workspace.prompt_notes(setting, ["dog"], "no place")


def test_the_gallery_tells_what_it_leaves_out(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / "own")
    (tmp_path / "own" / "samples" / "animals" / "validation" / "dog" / "broken.png").write_bytes(b"no picture")
    own = local_family(tmp_path / "own", allowed=True)
    workspace = Workspace({own.name: own}, cache=BoundedCache(2**24), executor=Executor(1))
    page = workspace.gallery(make_setting(own), "animals", per_page=1000)
    assert page.total == 24
    assert page.notes == (
        "animals: 1 file is left out: dog/broken.png (could not be read as a picture: it is none of PNG, JPEG, WEBP, "
        "BMP, DIB, GIF, TIFF, PPM, AVIF).",
    )


def test_classify_own_picture(workspace, setting):
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    predictions = workspace.classify(setting, picture, ["dog", " small  letter ", "two"], "a photo of the {}")
    assert [p.model for p in predictions] == ["Base", *setting.tasks, "This merge"]
    for prediction in predictions:
        assert set(prediction.labels) == {"dog", "small letter", "two"}
        assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)
        assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
    for names, template in (([], "a {}"), (["dog"], "no place"), (["x" * 5000], "a {}")):
        with pytest.raises(neuromerge.errors.NeuroMergeError):
            workspace.classify(setting, picture, names, template)
    with pytest.raises(SettingError):
        workspace.classify(setting, "not a picture", ["dog"], "a {}")


# --------------------------------------------------------------------------------------- tune and export


def test_landscape_grows_and_its_points_are_real(tiny, workspace, setting):
    grown = list(workspace.landscape(setting, points=(3, 3), split="validation"))
    last = grown[-1]
    assert last.value.shape == (3, 3)
    assert np.isfinite(last.value).all()
    assert last.images == 72
    assert last.current == (pytest.approx(workspace.summary(setting).coefficients["lambda_orthogonal"]), 0.0)
    point = change(setting, tiny, lambda_orthogonal=float(last.x[1]), lambda_parallel=float(last.y[2]))
    scores = workspace.validation_scores(point)
    assert last.value[2, 1] == pytest.approx(sum(scores.values()) / 3)
    by_trim = list(workspace.landscape(setting, "lambda_orthogonal", "trim_ratio", points=(2, 3)))[-1]
    assert np.isfinite(by_trim.value).all()
    assert by_trim.fixed["lambda_parallel"] == 0.0


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": "test"},
        {"x_name": "trim_ratio", "y_name": "trim_ratio"},
        {"x_name": "beauty"},
        {"points": (1, 5)},
        {"points": (100, 100)},
    ],
)
def test_landscapes_that_cannot_be(workspace, setting, arguments):
    with pytest.raises(SettingError):
        list(workspace.landscape(setting, **arguments))


@pytest.mark.parametrize("layout", [None, "open_clip", "transformers"])
def test_an_export_is_the_merge_and_its_recipe_makes_it_again(tiny, workspace, tmp_path, layout):
    setting = make_setting(tiny, ["animals", "shapes"], "neuromerging", {"lambda_parallel": 0.5})
    files = workspace.export(setting, layout, tmp_path / "out")
    names = {path.name for path in files}
    assert {"recipe.yaml", "reproduce.py"} <= names
    assert any(name.endswith(".safetensors") for name in names)
    exported = load_checkpoint(tmp_path / "out")
    board = workspace.board(setting, "test")
    for row in evaluate(exported, split="test", family=tiny, experts=False).rows:
        assert row.correct == board.merge[row.task].correct
    assert setting_of(load_recipe(tmp_path / "out" / "recipe.yaml"), [tiny]) == setting
    script = (tmp_path / "out" / "reproduce.py").read_text()
    made: dict[str, object] = {}
    exec(compile(script.replace('result.save("merged")', ""), "reproduce.py", "exec"), made)
    state = load_checkpoint(tmp_path / "out").state_dict() if layout != "transformers" else None
    if state is not None:
        for key, weight in made["result"].state_dict.items():
            torch.testing.assert_close(weight, state[key])
    notes = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "# sigma" in notes
    assert yaml.safe_load(notes)["merge_method"] == "neuromerging"


# ----------------------------------------------------------------------------------- many at the same time


def test_eight_visitors_do_not_see_each_other(tiny, workspace):
    presets = [preset.apply(make_setting(tiny), tiny) for preset in PRESETS]
    trimming = [s for s in presets if "trim_ratio" in dict(s.hyperparameters)]
    settings = [change(s, tiny, trim_ratio=r) for s in trimming[:4] for r in (0.2, 0.6)]
    alone = Workspace({tiny.name: tiny}, cache=BoundedCache(256 * 1024**2), executor=Executor(1))
    expected = [alone.board(s, "validation") for s in settings]
    gate = threading.Barrier(8)

    def visit(number: int) -> list[object]:
        gate.wait()
        seen = []
        for step in range(3):
            place = (number + step) % 8
            seen.append((place, workspace.board(settings[place], "validation")))
            workspace.heatmap(settings[place], "retention")
        return seen

    with ThreadPoolExecutor(8) as pool:
        for seen in pool.map(visit, range(8)):
            for place, board in seen:
                assert board == expected[place]


def test_work_that_is_overtaken_stops_and_leaves_nothing_broken(tiny, workspace, setting):
    for limit in range(0, 80, 7):
        calls = iter(range(10_000))

        def overtaken(limit=limit, calls=calls):
            if next(calls) >= limit:
                raise Cancelled("Overtaken by a newer change.")

        stop = Job(check=overtaken)
        moved = change(setting, tiny, trim_ratio=0.5 + limit / 1000)
        with contextlib.suppress(Cancelled):
            workspace.board(moved, "quick", job=stop)
        assert workspace.board(moved, "quick").merge == workspace.board(moved, "quick").merge
    fresh = Workspace({tiny.name: tiny}, cache=BoundedCache(256 * 1024**2), executor=Executor(1))
    assert fresh.board(moved, "quick") == workspace.board(moved, "quick")


def test_a_tiny_cache_changes_no_result(tiny, workspace, setting):
    forgetful = Workspace({tiny.name: tiny}, cache=BoundedCache(0), executor=Executor(1))
    assert forgetful.board(setting, "quick") == workspace.board(setting, "quick")
    np.testing.assert_allclose(
        forgetful.heatmap(setting, "cosine").orthogonal, workspace.heatmap(setting, "cosine").orthogonal
    )
    assert forgetful.statistics().bytes == 0


def test_many_visitors_of_a_cache_that_keeps_nothing_do_not_block_each_other(tiny, workspace):
    forgetful = Workspace({tiny.name: tiny}, cache=BoundedCache(0), executor=Executor(1))
    settings = [make_setting(tiny, None, method) for method in ("ties", "neuromerging", "task_arithmetic", "ties")]
    expected = [workspace.board(s, "quick") for s in settings]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(forgetful.board, s, "quick") for s in settings]
        assert [future.result(timeout=120) for future in futures] == expected


def test_own_pictures_of_a_task_give_the_scores_of_the_task(tiny, workspace, setting, tmp_path):
    """The same pictures, packed with one folder a class, are named as they are in the task."""
    spec = tiny.task("shapes")
    samples = load_samples(tiny, "shapes", "validation")
    packed = tmp_path / "shapes.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for number, label in enumerate(samples.labels):
            out = io.BytesIO()
            Image.fromarray(samples.images[number]).save(out, "PNG")
            archive.writestr(f"{spec.classes[label]}/{number}.png", out.getvalue())
    board = workspace.own_pictures(setting, str(packed), spec.templates[0])
    scores = workspace.board(setting, "validation")
    assert board.scores["Base"] == scores.base["shapes"]
    assert board.scores["This merge"] == scores.merge["shapes"]
    assert board.scores[spec.title] == scores.expert["shapes"]
    assert sum(board.pictures.values()) == len(samples)
    assert board.notes[0] == f"Asked with “{spec.templates[0]}”."
    unasked = workspace.own_pictures(setting, str(packed), "")
    assert unasked.scores == board.scores
    assert unasked.notes[0] == f"These are classes of {spec.title}, so its prompts are used."
    packed.unlink()
    with pytest.raises(SettingError, match="Add it again"):
        workspace.own_pictures(setting, str(packed), spec.templates[0])


def test_the_certainty_of_own_pictures_needs_no_labels_and_is_that_of_the_task(tiny, workspace, setting, tmp_path):
    """The same pictures, packed without any classes, leave the merge as sure as they do in the task."""
    samples = load_samples(tiny, "shapes", "validation")
    packed = tmp_path / "mine.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for number, image in enumerate(samples.images):
            out = io.BytesIO()
            Image.fromarray(image).save(out, "PNG")
            archive.writestr(f"{'holidays/' * (number % 3)}{number}.png", out.getvalue())
    known = workspace.certainty(setting)["shapes"]
    assert workspace.own_certainty(setting, str(packed), "shapes") == pytest.approx(known, abs=1e-6)
    together = workspace.own_certainty(setting, str(packed))
    assert 0 <= together <= 1
    assert together != pytest.approx(known, abs=1e-3), "classes of all merged tasks are asked for"
    with pytest.raises(SettingError, match="no merged task"):
        workspace.own_certainty(setting, str(packed), "magic")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="holds no pictures"):
        workspace.own_certainty(setting, str(tmp_path / "empty"))


def test_own_pictures_of_too_many_classes_are_refused(workspace, setting, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "x.png")
    board = workspace.own_pictures(setting, str(tmp_path), "", most_classes=3)
    assert board.pictures == {"a": 1, "b": 1, "c": 1}
    assert board.notes[0] == "Asked with “a picture of a {}”."
    with pytest.raises(LimitError, match="at most 2"):
        workspace.own_pictures(setting, str(tmp_path), "{}", most_classes=2)


def test_an_expert_that_a_visitor_brought_is_merged_exported_and_forgotten(tiny, workspace, tmp_path):
    place = tmp_path / "server" / "birds.safetensors"
    place.parent.mkdir()
    shutil.copy(tiny.experts["shapes"], place)
    extended = with_own(tiny, "tiny-own", {"birds": OwnExpert("birds", str(place), "birds.safetensors")})
    assert workspace.inspect(tiny.name, str(place)).problem is None
    workspace.add(extended)
    setting = make_setting(extended, ["animals", "birds"])
    board = workspace.board(setting, "quick")
    assert list(board.unmeasured) == ["birds"]
    twin = workspace.board(make_setting(tiny, ["animals", "shapes"]), "quick")
    assert {task: score.correct for task, score in board.merge.items()} == {
        task: score.correct for task, score in twin.merge.items()
    }
    for written in workspace.export(setting, None, tmp_path / "out"):
        if written.suffix in (".json", ".yaml", ".py"):
            assert str(place.parent) not in written.read_text(encoding="utf-8")
    workspace.forget("tiny-own")
    with pytest.raises(SettingError, match="no model family"):
        workspace.board(setting, "quick")


STRENGTHS = {"neuromerging": {}, "task_arithmetic": {"scale": 0.4}, "average": {}}


@pytest.mark.parametrize("profile", [None, {"rest": [0.5, 1.5], "fc1": 0.5}], ids=["even", "shaped"])
@pytest.mark.parametrize("method", STRENGTHS)
def test_every_point_of_the_strength_curve_is_the_librarys_merge_of_that_strength(tiny, workspace, method, profile):
    setting = make_setting(tiny, None, method, STRENGTHS[method], profile=profile)
    *_, curve = workspace.strength_curve(setting)
    assert curve.complete
    assert curve.strengths[[0, 6, 12]].tolist() == [0.0, 1.0, 2.0]
    base = load_checkpoint(tiny.base)
    half, whole = (library_merge(tiny, workspace.at_strength(setting, times)) for times in (0.5, 1.0))
    for name, weight in base.state_dict().items():
        if weight.is_floating_point():
            change, halved = whole.state_dict[name] - weight, half.state_dict[name] - weight
            torch.testing.assert_close(halved, 0.5 * change, rtol=1e-4, atol=1e-6)
    for place in (0, 3, 6, 11):
        merged = library_merge(tiny, workspace.at_strength(setting, float(curve.strengths[place])))
        table = evaluate(merged, list(setting.tasks), split="quick", family=tiny, experts=False)
        assert curve.accuracy[place] == pytest.approx(np.mean([row.accuracy for row in table.rows]), abs=1e-9)


def test_a_strength_curve_that_was_measured_is_there_at_once(tiny, workspace, setting):
    begun = next(workspace.strength_curve(setting))
    assert not begun.complete
    *_, last = workspace.strength_curve(setting)
    np.testing.assert_array_equal(next(workspace.strength_curve(setting)).accuracy, last.accuracy)


def test_the_marks_of_a_strength_curve_are_where_auto_and_retention_lead(tiny, workspace):
    automatic = workspace.summary(make_setting(tiny)).coefficients["lambda_orthogonal"]
    hand = make_setting(tiny, None, "neuromerging", {"lambda_orthogonal": automatic / 1.25})
    marks = next(workspace.strength_curve(hand)).marks
    assert marks["auto"] == pytest.approx(1.25)
    if "retention" in marks:
        kept = workspace.summary(workspace.at_strength(hand, marks["retention"])).retention
        assert np.mean(list(kept.values())) == pytest.approx(1.0, rel=1e-4)
    aside = make_setting(tiny, None, "neuromerging", {"lambda_parallel": 0.5})
    assert "auto" not in next(workspace.strength_curve(aside)).marks


def test_a_merge_of_nothing_has_no_strength(tiny, workspace):
    nothing = make_setting(tiny, None, "task_arithmetic", {"scale": 0.0})
    with pytest.raises(SettingError, match="Every coefficient is 0"):
        next(workspace.strength_curve(nothing))


@pytest.mark.parametrize(
    ("method", "profile"),
    [("neuromerging", None), ("task_arithmetic", {"rest": [0.5, 1.5], "fc1": 0.5}), ("average", None)],
)
def test_every_effect_is_that_of_a_whole_merge_with_that_profile(tiny, workspace, method, profile):
    setting = make_setting(tiny, None, method, profile=profile)
    weights = weights_of(workspace, setting)
    *_, found = workspace.effects(setting)
    assert found.complete
    assert len(found.effects) == found.total
    before = {row.task: row for row in accuracies(tiny, setting)}
    for effect in found.effects:
        parts = [(effect.layer, effect.matrix)] if effect.matrix else cells_of(workspace, setting, effect.layer)
        shaped = multiplied(
            setting.profile,
            dict.fromkeys(parts, effect.times),
            workspace.engine.of(tiny.name).stages.vectors(tasks_of(setting)).parameters,
            registry.get_method(method).component_names,
        )
        after = accuracies(tiny, replace(setting, profile=shaped))
        for row in after:
            assert effect.by_task[row.task] == pytest.approx(row.accuracy - before[row.task].accuracy, abs=1e-12)
        assert effect.difference == pytest.approx(np.mean(list(effect.by_task.values())), abs=1e-12)
        turned = sum(row.correct - before[row.task].correct for row in after)
        assert effect.gained - effect.lost == turned
    for name, weight in weights_of(workspace, setting).items():
        assert torch.equal(weight, weights[name]), "the borrowed model was not given back as it was"
    assert next(workspace.effects(setting)).complete


def accuracies(tiny, setting):
    return evaluate(library_merge(tiny, setting), list(setting.tasks), "quick", tiny, experts=False).rows


def cells_of(workspace, setting, layer):
    parameters = workspace.engine.of(setting.family).stages.vectors(tasks_of(setting)).parameters
    return [(p.layer, p.matrix) for p in parameters if p.layer == layer]


def test_a_stopped_effect_map_keeps_what_is_measured_and_gives_the_model_back(tiny, workspace, setting):
    weights = weights_of(workspace, setting)
    job = Job()
    growing = workspace.effects(setting, job=job)
    for _ in range(4):
        begun = next(growing)
    job.stop()
    with pytest.raises(Cancelled):
        list(growing)
    for name, weight in weights_of(workspace, setting).items():
        assert torch.equal(weight, weights[name])
    assert next(workspace.effects(setting)).effects == begun.effects


def test_ranks_and_noise_of_effects():
    def effect(layer, difference, gained, lost):
        return Effect(layer, "q", 0.0, difference, 0.0, {}, gained, lost)

    assert effect("a", 0.1, 5, 0).probability == pytest.approx(2 / 32)
    assert not effect("a", 0.1, 6, 0).is_noise
    assert effect("a", 0.0, 0, 0).probability == 1.0
    assert effect("a", 0.0, 700, 690).probability == pytest.approx(0.81, abs=0.02)
    rows = ("a", "b", "c", "d")
    effects = tuple(effect(row, value, 0, 0) for row, value in zip(rows, (0.3, 0.1, 0.1, -0.2), strict=True))
    conflict = np.array([[0.1], [0.2], [0.3], [0.4]])
    found = EffectMap(rows, ("q",), "quick", 9, {}, conflict, effects, 4)
    correlation, cells = found.agreement()
    assert cells == 4
    assert correlation == pytest.approx(-0.9486833)  # scipy.stats.spearmanr
    assert replace(found, effects=effects[:3]).agreement() is None
