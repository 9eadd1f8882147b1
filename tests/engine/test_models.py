"""Pictures and models of a family: the pool, and what happens where something is missing."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch

from neuromerge.engine.cache import BoundedCache
from neuromerge.engine.contents import BASE, Contents
from neuromerge.engine.engine import FamilyEngine
from neuromerge.engine.executor import Executor
from neuromerge.engine.models import ModelPool, Models
from neuromerge.errors import Cancelled, CheckpointError, SettingError
from neuromerge.evaluation import heads
from neuromerge.evaluation.families import local_family
from neuromerge.evaluation.towers import TextModel, VisionModel
from neuromerge.exploration import comparisons, landscapes, pictures, scores
from neuromerge.exploration.workspace import Workspace
from neuromerge.figures.accuracy import averages
from neuromerge.progress import UNATTENDED, Job
from neuromerge.settings.choices import change, make_setting


class FakeModel:
    size_bytes = 400 * 1024**2

    def __init__(self) -> None:
        self.holds = None

    def copy(self) -> FakeModel:
        return FakeModel()


def fill(held, model, job):
    job.check()
    model.holds = held


def test_a_model_that_holds_the_right_weights_is_lent_again():
    filled = []
    pool = ModelPool(FakeModel, lambda held, model, job: (filled.append(held), fill(held, model, job)))
    first, second = Contents(task="a"), Contents(task="b")
    for held in (first, second, first, second, first):
        with pool.borrow(held) as model:
            assert model.holds == held
    assert filled == [first, second]


def test_nobody_shares_a_model():
    pool = ModelPool(FakeModel, fill)
    busy, most = set(), []
    lock = threading.Lock()

    def use(number: int) -> None:
        for step in range(20):
            held = Contents(task=str((number + step) % 5))
            with pool.borrow(held) as model:
                with lock:
                    assert id(model) not in busy
                    busy.add(id(model))
                    most.append(len(busy))
                assert model.holds == held
                with lock:
                    busy.remove(id(model))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(8)))
    assert max(most) <= 2, "two models of 400 MB at most"


def test_a_fill_that_fails_spoils_nothing():
    def failing(held, model, job):
        model.holds = "half"
        if held.task == "bad":
            raise CheckpointError("damaged")
        model.holds = held

    pool = ModelPool(FakeModel, failing)
    for held in (Contents(task="good"), Contents(task="bad"), Contents(task="other"), Contents(task="bad")):
        try:
            with pool.borrow(held) as model:
                assert model.holds == held
        except CheckpointError:
            assert held.task == "bad"


def test_who_waits_for_a_model_can_give_up():
    pool = ModelPool(FakeModel, fill)
    with pool.borrow(Contents(task="a")), pool.borrow(Contents(task="b")), pytest.raises(Cancelled):  # noqa: SIM117
        with pool.borrow(Contents(task="c"), Job(deadline_seconds=0.1)):
            pytest.fail("there is no third")


def test_the_base_comes_back_after_merges_and_experts(tiny, workspace):
    models = workspace.engine.of(tiny.name).models
    with models.borrow(BASE) as model:
        before = {name: weight.clone() for name, weight in model.weights.items()}
    for held in (Contents(task="signs"), Contents(setting=make_setting(tiny)), Contents(task="shapes")):
        with models.borrow(held) as model:
            assert any(not torch.equal(weight, before[name]) for name, weight in model.weights.items())
    with models.borrow(BASE) as model:
        assert all(torch.equal(weight, before[name]) for name, weight in model.weights.items())


def test_a_large_model_looks_at_fewer_pictures_while_a_slider_moves(workspace, tiny):
    engine = workspace.engine.of(tiny.name)
    assert len(engine.models.samples("animals", "quick")) == 18
    models = Models(tiny, engine.stages, BoundedCache(2**26), Executor(1), live_products=1.0)
    thin = models.samples("animals", "quick")
    assert len(thin) == 32 // 3
    whole = models.samples("animals", "validation")
    assert set(thin.ids) <= set(whole.ids)
    assert set(thin.labels) == {0, 1, 2}


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Nothing that another test has kept on disk is found."""
    monkeypatch.setenv("NEUROMERGE_CACHE", str(tmp_path / "kept"))


@pytest.fixture
def encoded(monkeypatch):
    """How many pictures went through a network, in the order of the calls."""
    counts, encode = [], VisionModel.encode

    def counting(self, pictures):
        counts.append(len(pictures))
        return encode(self, pictures)

    monkeypatch.setattr(VisionModel, "encode", counting)
    return counts


def test_scores_of_a_large_model_grow_and_no_picture_is_looked_at_twice(tiny, workspace, encoded):
    setting = make_setting(tiny)
    models = Models(tiny, workspace.engine.of(tiny.name).stages, BoundedCache(2**26), Executor(1), live_products=1.0)
    quick = scores.board(models, setting, "quick", None, None, "", UNATTENDED)
    boards = list(scores.growing_board(models, setting, None, None, "", UNATTENDED))
    assert boards[0].merge == quick.merge, "what is known comes first"
    assert len(boards) > 4
    for before, after in pairwise(boards):
        assert before.is_growing
        for task in tiny.experts:
            for name in ("base", "expert", "merge"):
                assert getattr(before, name)[task].n <= getattr(after, name)[task].n
    whole = boards[-1]
    assert not whole.is_growing
    count = sum(len(models.samples(task, "validation")) for task in tiny.experts)
    assert whole.pictures == whole.looked_at == count
    assert sum(encoded) == 3 * count, "each under base, its expert and the merge"
    assert scores.board(models, setting, "validation", None, None, "", UNATTENDED) == whole
    assert sum(encoded) == 3 * count
    plain = workspace.board(setting, "validation")
    assert [plain.merge, plain.base, plain.expert] == [whole.merge, whole.base, whole.expert]


def test_a_large_family_shows_its_merge_first_and_says_what_is_to_come(tiny, workspace, encoded):
    setting, pinned, tasks = make_setting(tiny), make_setting(tiny, None, "ties"), tuple(tiny.experts)
    models = large(tiny, workspace)
    boards = list(scores.growing_board(models, setting, pinned, None, "", UNATTENDED, "quick"))
    assert [len(board.merge) for board in boards[: len(tasks)]] == [1, 2, 3], "task after task"
    for board in boards[: len(tasks)]:
        assert (board.base, board.expert, board.pinned) == ({}, {}, {})
        known = tuple(board.merge)
        assert board.tasks == known
        coming = {"merge": tuple(task for task in tasks if task not in known)} if len(known) < len(tasks) else {}
        assert board.awaited == {"base": known, "expert": known, "pinned": known, **coming}
        assert board.is_growing
        assert board.is_glance == bool(coming)
    assert not any(board.is_glance for board in boards[len(tasks) - 1 :])
    first, *others = boards[len(tasks) - 1 :]
    assert set(first.merge) == set(tasks)
    left = [sum(map(len, board.awaited.values())) for board in (first, *others)]
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    whole = scores.board(models, setting, "quick", pinned, None, "", UNATTENDED)
    assert others[-1] == whole
    seen = sum(encoded)
    moved = change(setting, tiny, lambda_orthogonal=0.7)
    *growing, whole = scores.growing_board(models, moved, pinned, None, "", UNATTENDED, "quick")
    assert not any(board.awaited for board in (*growing, whole)), "what base and experts say is known now"
    assert sum(encoded) == seen + whole.looked_at


def test_the_task_with_the_fewest_prompts_has_its_score_first_and_merged_ones_before_others(tiny, workspace):
    models = large(tiny, workspace)
    setting = make_setting(tiny, tuple(tiny.experts)[1:])
    first, *_ = scores.growing_board(models, setting, None, None, "", UNATTENDED, "quick")
    assert tuple(first.merge) == (min(setting.tasks, key=lambda task: models.task(task).prompts),)
    assert first.measured == tuple(first.merge)


def test_a_board_that_waits_for_a_classifier_goes_on_with_pictures_that_come_meanwhile(tiny, workspace, monkeypatch):
    models = large(tiny, workspace)
    by_prompts = sorted(tiny.experts, key=lambda task: models.task(task).prompts)
    here = by_prompts[-1:]
    monkeypatch.setattr(Models, "with_pictures", lambda self, tasks, split: tuple(t for t in tasks if t in here))

    def wait_for_head(self, task, job, or_until=lambda: False):
        here[:] = by_prompts  # the wait is long enough for them
        return not or_until()

    monkeypatch.setattr(Models, "wait_for_head", wait_for_head)
    setting = make_setting(tiny)
    boards = list(scores.growing_board(models, setting, None, None, "", UNATTENDED, "quick"))
    assert [set(board.merge) for board in boards[:3]] == [set(by_prompts[:count]) for count in (1, 2, 3)]
    assert boards[-1] == scores.board(models, setting, "quick", None, None, "", UNATTENDED)


def test_a_quick_look_that_takes_longer_than_a_glance_begins_with_some_pictures(tiny, workspace, encoded, monkeypatch):
    monkeypatch.setattr(Models, "glance", lambda self, tasks: 2)
    setting, pinned = make_setting(tiny), make_setting(tiny, None, "ties")
    moved = change(setting, tiny, lambda_orthogonal=0.7)
    models = Models(tiny, workspace.engine.of(tiny.name).stages, BoundedCache(2**26), Executor(1))

    def quick(chosen, beside):
        return list(scores.growing_board(models, chosen, pinned, None, "", UNATTENDED, "quick", beside))

    (before,) = quick(setting, None)
    assert before == scores.board(models, setting, "quick", pinned, None, "", UNATTENDED)
    assert len(quick(setting, moved)) == 1, "nothing is known of the merge beside"
    encoded.clear()
    glance, whole = quick(moved, setting)
    assert encoded == [6, whole.looked_at - 6], "no picture is looked at twice"
    known, paired = glance.paired
    assert known == before.merge
    assert {score.n for score in (*glance.merge.values(), *paired.values())} == {2}
    assert (glance.base, glance.expert, glance.pinned) == (whole.base, whole.expert, whole.pinned)
    assert (glance.is_growing, glance.is_glance, glance.awaited) == (True, True, {})
    assert glance.looked_at < glance.pictures == whole.looked_at
    assert whole == scores.board(models, moved, "quick", pinned, None, "", UNATTENDED)
    assert quick(moved, setting) == [whole], "known by now"
    all_known, seen, seen_before = (np.mean([a.value for a in of.values()]) for of in (known, glance.merge, paired))
    assert averages(glance)["merge"][0] == pytest.approx(all_known + seen - seen_before)
    assert len(list(scores.growing_board(models, moved, None, None, "", UNATTENDED, beside=setting))) == 1


def test_an_expert_of_no_merged_task_that_cannot_be_opened_is_left_out(tiny, workspace, tmp_path):
    folder = tmp_path / "family"
    shutil.copytree(tiny.folder, folder)
    (folder / "experts" / "shapes.safetensors").write_bytes(b"no weights")
    family = local_family(folder, allowed=True)
    stages = Workspace({family.name: family}).engine.of(family.name).stages
    models = Models(family, stages, BoundedCache(2**26), Executor(1), live_products=1.0)
    setting = make_setting(family, ("animals", "signs"))
    *_, whole = scores.growing_board(models, setting, None, None, "", UNATTENDED, "quick")
    assert set(whole.expert) == {"animals", "signs"}
    assert set(whole.base) == set(tiny.experts)
    assert whole == scores.board(models, setting, "quick", None, None, "", UNATTENDED)
    with pytest.raises(CheckpointError):
        next(scores.growing_board(models, make_setting(family), None, None, "", UNATTENDED, "quick"))


def test_a_small_family_has_one_board_the_whole_one(tiny, workspace):
    setting = make_setting(tiny)
    assert list(workspace.growing_board(setting)) == [workspace.board(setting, "validation")]


def test_growing_stops_with_its_job_and_goes_on_where_it_stopped(tiny, workspace, encoded):
    setting, job = make_setting(tiny), Job()
    models = Models(tiny, workspace.engine.of(tiny.name).stages, BoundedCache(2**26), Executor(1), live_products=1.0)
    growing = scores.growing_board(models, setting, None, None, "", job)
    reached = [next(growing).looked_at for _ in range(3)][-1]
    job.stop()
    with pytest.raises(Cancelled):
        next(growing)
    assert next(scores.growing_board(models, setting, None, None, "", UNATTENDED)).looked_at == reached


def large(tiny, workspace):
    """The tiny family as if it were a large one."""
    return Models(tiny, workspace.engine.of(tiny.name).stages, BoundedCache(2**26), Executor(1), live_products=1.0)


def test_a_search_of_a_large_family_asks_on_growing_parts_of_the_pictures(tiny, workspace, encoded):
    setting = make_setting(tiny)
    models = large(tiny, workspace)
    for certain in (False, True):
        asked = scores.objective(models, setting, "validation", certain=certain, first=5)
        assert asked.levels == (5, 10, 20, 24)
        assert asked.pictures == (15, 30, 60, 72)
        grown = [asked.scores(setting, UNATTENDED, level) for level in asked.levels]
        plain = workspace.certainty(setting) if certain else workspace.validation_scores(setting)
        assert grown[-1] == pytest.approx(plain)
        assert grown[0] != grown[-1]
    assert sum(encoded) == 2 * 72, "no picture is looked at twice, here and by the plain workspace"
    whole = workspace.objective(setting)
    assert (whole.levels, whole.pictures) == ((24,), (72,)), "a small family is looked at as a whole"
    assert whole.scores(setting, UNATTENDED, 24) == workspace.validation_scores(setting)


def test_the_map_of_a_large_family_spends_its_pictures_where_it_is_high(tiny, workspace):
    setting = make_setting(tiny)
    models, stages = large(tiny, workspace), workspace.engine.of(tiny.name).stages
    engine = FamilyEngine(stages, models, workspace.engine.cache)
    axes = ("lambda_orthogonal", "lambda_parallel", (3, 3), "quick")
    *_, last = landscapes.landscape(engine, setting, *axes, UNATTENDED)
    assert last.images == 72
    quick = sum(len(models.samples(task, "quick")) for task in tiny.experts)
    assert sorted(last.pictures.ravel()) == [quick] * 5 + [2 * quick] * 2 + [72] * 2
    assert np.isfinite(last.value).all()
    assert last.most_seen.sum() == 2
    row, column = np.argwhere(last.most_seen)[0]
    point = change(setting, tiny, lambda_orthogonal=float(last.x[column]), lambda_parallel=float(last.y[row]))
    assert last.value[row, column] == pytest.approx(np.mean(list(workspace.validation_scores(point).values())))


def test_all_methods_of_a_large_family_are_compared_on_few_pictures_first(tiny, workspace, encoded):
    setting = make_setting(tiny)
    models = large(tiny, workspace)
    tables = list(comparisons.comparison(models, setting, "validation", UNATTENDED))
    whole = [table for table in tables if table.done == table.entries]
    assert [sum(table.n.values()) for table in whole] == [30, 72]
    refined = [table for table in tables if table.refined_on]
    assert {table.refined_on for table in refined} == {72}
    assert all(table.rows == whole[0].rows for table in refined), "the whole table of fewer pictures stays meanwhile"
    assert not whole[-1].refined_on
    *_, plain = workspace.comparison(setting, "validation")
    assert whole[-1] == plain


def test_the_final_test_of_a_large_family_grows(tiny, workspace):
    setting = make_setting(tiny)
    boards = list(scores.growing_board(large(tiny, workspace), setting, None, None, "", UNATTENDED, "test"))
    assert len(boards) > 2
    assert {board.split for board in boards} == {"test"}
    assert boards[-1].merge == workspace.board(setting, "test").merge
    assert list(workspace.growing_board(setting, split="test")) == [workspace.board(setting, "test")]


def test_a_head_that_takes_long_is_made_in_turns_and_stops(tiny, workspace, monkeypatch):
    monkeypatch.setattr(heads, "_shared", heads.Heads())
    monkeypatch.setattr(heads, "_TURN_PRODUCTS", 1)
    job, encode, made = Job(), TextModel.encode, []

    def slow(self, texts):
        made.append(len(texts))
        job.stop()
        return encode(self, texts)

    monkeypatch.setattr(TextModel, "encode", slow)
    models = large(tiny, workspace)
    with pytest.raises(Cancelled):
        models.head("animals", job)
    templates = len(tiny.task("animals").templates)
    assert made == [templates], "one class, then it is asked whether anybody waits"
    monkeypatch.undo()
    assert models.head("animals").shape[0] == len(tiny.task("animals").classes)


def test_the_gallery_looks_at_no_more_than_it_shows(tiny, workspace, encoded):
    setting = make_setting(tiny)
    models = Models(tiny, workspace.engine.of(tiny.name).stages, BoundedCache(2**26), Executor(1), live_products=1.0)
    page = pictures.gallery(models, setting, "animals", "validation", "all", 0, 4, UNATTENDED)
    assert len(page) == 4
    assert page.total == len(models.samples("animals", "validation")) == 24
    assert sum(encoded) == 3 * 4, "under base, expert and merge"
    plain = workspace.gallery(setting, "animals", per_page=4)
    assert [(item.index, item.merge, item.expert) for item in page] == [
        (item.index, item.merge, item.expert) for item in plain
    ]
    wrong = pictures.gallery(models, setting, "animals", "validation", "merge_wrong", 0, 1, UNATTENDED)
    whole = workspace.gallery(setting, "animals", filter="merge_wrong", per_page=1)
    assert [item.index for item in wrong] == [item.index for item in whole]
    assert wrong.total <= whole.total
    assert wrong.total == whole.total or any("looked through" in note for note in wrong.notes)


def test_a_confusion_of_a_large_model_grows_to_the_whole(tiny, workspace):
    setting = make_setting(tiny)
    models = Models(tiny, workspace.engine.of(tiny.name).stages, BoundedCache(2**26), Executor(1), live_products=1.0)
    grown = list(pictures.confusion(models, setting, "animals", "validation", UNATTENDED))
    assert [int(each.counts.sum()) for each in grown] == [8, 16, 24]
    assert {each.pictures for each in grown} == {24}
    (plain,) = workspace.confusion(setting, "animals")
    assert (grown[-1].counts == plain.counts).all()


@pytest.fixture
def broken(tiny, tmp_path):
    """A copy of the tiny family to break, and its workspace."""
    folder = tmp_path / "broken"
    shutil.copytree(tiny.folder, folder)

    def opened():
        family = local_family(folder, allowed=True)
        return family, Workspace({family.name: family}, cache=BoundedCache(2**26), executor=Executor(1))

    return folder, opened


def test_tasks_without_pictures_are_left_out(broken):
    folder, opened = broken
    shutil.rmtree(folder / "samples" / "signs")
    family, workspace = opened()
    board = workspace.board(make_setting(family), "quick")
    assert board.tasks == ("animals", "shapes")
    assert board.merged == {"animals", "shapes", "signs"}
    assert list(board.unmeasured) == ["signs"]
    assert "signs" in board.unmeasured["signs"]
    assert set(workspace.validation_scores(make_setting(family))) == {"animals", "shapes"}


def test_without_any_pictures_the_reason_is_said_and_heatmaps_still_work(broken):
    folder, opened = broken
    for task in ("signs", "animals"):
        shutil.rmtree(folder / "samples" / task)
        (folder / "tasks" / f"{task}.yaml").unlink()
    shutil.rmtree(folder / "samples" / "shapes")
    (folder / "samples" / "shapes").mkdir()
    family, workspace = opened()
    setting = make_setting(family)
    for _ in range(2):
        with pytest.raises(SettingError, match=r"no folder|no pictures"):
            workspace.board(setting, "quick")
    with pytest.raises(SettingError, match=r"no task|None of the merged"):
        workspace.validation_scores(make_setting(family, ["signs"]))
    assert workspace.heatmap(setting, "retention").orthogonal.size


def test_a_damaged_expert_hurts_only_merges_that_use_it(broken):
    folder, opened = broken
    (folder / "experts" / "signs.safetensors").write_bytes(b"not a checkpoint")
    family, workspace = opened()
    board = workspace.board(make_setting(family, ["animals", "shapes"]), "quick")
    assert set(board.expert) == {"animals", "shapes"}
    for _ in range(2):
        with pytest.raises(CheckpointError, match="signs"):
            workspace.board(make_setting(family), "quick")
    assert workspace.board(make_setting(family, ["animals", "shapes"]), "quick") == board


def test_progress_is_told(tiny, workspace):
    told = []
    job = Job(progress=lambda done, total, what: told.append((done, total, what)))
    workspace.board(make_setting(tiny), "quick", job=job)
    assert any("neurons" in what for *_, what in told)
    assert any("pictures" in what for *_, what in told)
    assert all(0 < done <= total for done, total, _ in told)
