from __future__ import annotations

import csv
import io
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from neuromerge.errors import Cancelled, SettingError, StorageError
from neuromerge.merging.profile import as_mapping
from neuromerge.progress import UNATTENDED, Job
from neuromerge.search.axes import Axis, axes_of
from neuromerge.search.objective import Growing, get_goal, selection_noise, weighted_score
from neuromerge.search.storage import delete_study
from neuromerge.search.study import Search
from neuromerge.search.sweep import sweep
from neuromerge.search.trials import hand_trial, ranked, trials_to_csv
from neuromerge.settings.choices import make_setting


def hill(setting, job):
    """A smooth hill over the coefficients, the same for two tasks but for a constant."""
    job.check()
    top = 0.9 - (setting.value("lambda_orthogonal") - 2) ** 2 / 50 - setting.value("lambda_parallel") ** 2 / 20
    top -= (setting.value("trim_ratio") - 0.6) ** 2
    return {"digits": top, "flags": top - 0.1}


def run(family, **options):
    return sweep(family, ["digits", "flags"], objective=hill, **options)


def test_tpe_climbs_and_its_best_setting_is_the_one_scored(family):
    result = run(family, trials=30, seed=1)
    assert len(result.trials) == 30
    assert all(trial.state == "complete" and trial.origin == "tpe" for trial in result.trials)
    scores = hill(result.best, UNATTENDED)
    assert result.best_value == pytest.approx(sum(scores.values()) / 2)
    assert result.best_value > 0.75
    assert result.trials[0].per_task.keys() == {"digits", "flags"}
    assert sum(result.importances.values()) == pytest.approx(1)


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_the_same_seed_draws_the_same_trials(family, sampler):
    def drawn(seed):
        return [trial.hyperparameters for trial in run(family, trials=14, sampler=sampler, seed=seed).trials]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_the_grid_visits_every_point_once_and_keeps_points_of_one_trim_together(family):
    result = run(family, trials=30, sampler="grid", ranges={"trim_ratio": (0.5, 0.9)})
    points = [tuple(sorted(trial.hyperparameters.items())) for trial in result.trials]
    assert len(points) == len(set(points)) == 27
    trims = [trial.hyperparameters["trim_ratio"] for trial in result.trials]
    assert sum(a != b for a, b in itertools.pairwise(trims)) == 2
    assert set(trims) == {0.5, 0.7, 0.9}


def test_ranges_and_fixed_parameters(family):
    result = run(
        family,
        trials=5,
        search=["lambda_orthogonal"],
        ranges={"lambda_orthogonal": (1.0, 1.5)},
        hyperparameters={"trim_ratio": 0.3, "lambda_parallel": 0.5},
    )
    assert all(set(t.hyperparameters) == {"lambda_orthogonal"} for t in result.trials)
    assert all(1.0 <= t.hyperparameters["lambda_orthogonal"] <= 1.5 for t in result.trials)
    assert result.best.value("trim_ratio") == 0.3


@pytest.mark.parametrize(
    "options",
    [
        {"trials": 0},
        {"trials": True},
        {"trials": 10**9},
        {"sampler": "random"},
        {"seed": -1},
        {"search": ["nothing"]},
        {"ranges": {"trim_ratio": (0.5, 2)}},
        {"ranges": {"trim_ratio": (0.5,)}},
        {"ranges": {"trim_ratio": (0.9, 0.5)}},
        {"ranges": {"lambda_orthogonal": ("auto", 1)}},
        {"ranges": {"lambda_orthogonal": (float("nan"), 1)}},
        {"storage": "  "},
    ],
    ids=str,
)
def test_illegal_searches_are_explained(family, options):
    with pytest.raises(SettingError):
        run(family, **options)


@pytest.mark.parametrize("storage", ["nosuch://user:secret@host/db", "sqlite:////no/such/folder/study.db"])
def test_an_unusable_storage_is_explained_without_its_password(family, storage):
    with pytest.raises(StorageError) as caught:
        run(family, trials=1, storage=storage)
    assert "secret" not in str(caught.value)


def test_a_stop_keeps_what_is_done(family):
    cancellation = Job()
    seen = []

    def on_trial(trial, total):
        seen.append(total)
        if len(seen) == 3:
            cancellation.stop()

    result = run(family, trials=20, on_trial=on_trial, job=cancellation)
    assert seen == [20, 20, 20]
    assert sum(t.state == "complete" for t in result.trials) == 3


def test_a_deadline_that_has_passed_stops_before_the_first_trial(family):
    with pytest.raises(Cancelled):
        run(family, trials=3, job=Job(deadline_seconds=-1))


def test_a_study_resumes_as_if_it_had_not_stopped(family, tmp_path):
    storage = str(tmp_path / "study.db")
    run(family, trials=6, storage=storage, seed=2)
    resumed = run(family, trials=14, storage=storage, seed=2)
    assert [t.hyperparameters for t in resumed.trials] == [
        t.hyperparameters for t in run(family, trials=14, seed=2).trials
    ]
    assert len(run(family, trials=14, storage=storage, seed=2).trials) == 14


def race(asked):
    """The hill, looked at through 8, 16, 32 and 40 pictures of two tasks: fewer flatter it."""

    def scores(setting, job, most):
        asked.append(most)
        return {task: score + 0.5 * (40 - most) / 40 for task, score in hill(setting, job).items()}

    return Growing(scores, (8, 16, 32, 40), (16, 32, 64, 80))


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
def test_a_race_looks_at_all_pictures_for_the_better_settings_alone(family, sampler):
    asked = []
    result = sweep(family, ["digits", "flags"], objective=race(asked), trials=30, sampler=sampler, seed=1)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    complete = [trial for trial in result.trials if trial.state == "complete"]
    assert len(pruned) + len(complete) == len(result.trials)
    assert len(pruned) >= len(result.trials) // 3
    assert complete
    assert {trial.pictures for trial in complete} == {80}
    assert {trial.pictures for trial in pruned} <= {16, 32, 64}
    assert asked.count(8) == len(result.trials)
    assert asked.count(40) == len(complete)
    assert all(trial.value is not None and trial.per_task for trial in pruned)
    best = max(complete, key=lambda trial: trial.value)
    assert result.best_value == best.value
    assert max(trial.value for trial in pruned) > best.value, "a score on fewer pictures is never the best"
    assert result.best_value > run(family, trials=30, sampler=sampler, seed=1).best_value - 0.03
    assert sum(result.importances.values()) == pytest.approx(1), "over all trials, by what all of them have seen"


@pytest.mark.parametrize(("sampler", "trials"), [("tpe", 18), ("grid", 27)])
def test_a_race_that_was_stopped_resumes_as_if_it_had_not(family, tmp_path, sampler, trials):
    storage = str(tmp_path / "study.db")

    def run_to(count=None, **more):
        job = Job()
        options = {"trials": trials, "sampler": sampler, "seed": 2, "job": job, **more}

        def on_trial(trial, total):
            if trial.number + 1 == count:
                job.stop()

        return sweep(family, ["digits", "flags"], objective=race([]), on_trial=on_trial, **options).trials

    assert len(run_to(7, storage=storage)) == 7
    whole = run_to(storage=storage)
    assert len(whole) == trials
    assert [(t.hyperparameters, t.state, t.pictures) for t in whole] == [
        (t.hyperparameters, t.state, t.pictures) for t in run_to()
    ]


def test_pruned_trials_are_told_apart(family):
    trials = sweep(family, ["digits", "flags"], objective=race([]), trials=20, seed=1).trials
    states = [trial.state for trial in ranked(trials)[::-1]]
    assert states == sorted(states), "complete before pruned"
    rows = list(csv.DictReader(io.StringIO(trials_to_csv(trials))))
    assert [(row["state"], row["pictures"]) for row in rows] == [(t.state, str(t.pictures)) for t in trials]


def test_a_study_of_something_else_is_not_mixed_up(family, tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    run(family, trials=2, storage=storage, study_name="mine")
    with pytest.raises(SettingError, match="something else"):
        sweep(family, ["styles"], objective=hill, trials=2, storage=storage, study_name="mine")


WORKER = """
import sys, time
sys.path.insert(0, {root!r})
from dataclasses import dataclass, field
from neuromerge.search import storage
from neuromerge.search.sweep import sweep
storage.HEARTBEAT_SECONDS, storage.GRACE_SECONDS = 1, 2

@dataclass(frozen=True)
class Family:
    name: str = "tiny"
    base: str = "b"
    experts: dict = field(default_factory=lambda: dict.fromkeys(("digits", "flags", "styles"), "x"))

def slow(setting, job):
    time.sleep(0.15)
    return {{"digits": 1 - abs(setting.value("lambda_orthogonal") - 2) / 10}}

print("started", flush=True)
sweep(Family(), ["digits"], objective=slow, trials=18, sampler={sampler!r}, storage={storage!r}, seed=5,
             search=["lambda_orthogonal", "lambda_parallel"],
             on_trial=lambda trial, total: print(trial.number, flush=True))
"""


@pytest.mark.slow
def test_two_processes_share_a_study_and_one_may_be_killed(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    root = str(Path(__file__).parents[2])
    script = textwrap.dedent(WORKER).format(root=root, sampler="grid", storage=storage)
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    survivor = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert victim.stdout is not None
    for _ in range(3):
        victim.stdout.readline()
    time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    out, _ = survivor.communicate(timeout=120)
    assert survivor.returncode == 0
    assert len(out.splitlines()) > 3

    import optuna

    study = optuna.load_study(study_name="tiny-neuromerging-digits", storage=storage)
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    points = {tuple(sorted(trial.params.items())) for trial in complete}
    assert len(points) == 16, "every point of the grid, the killed one's too"


def test_two_searches_on_one_storage_share_their_trials(family, tmp_path):
    start = make_setting(family, ["digits"])
    searches = [Search(hill, start, family=family, trials=9, storage=str(tmp_path / "s.db")) for _ in range(2)]
    runs = [search.run() for search in searches]
    for turn in range(9):
        next(runs[turn % 2])
    assert [list(run) for run in runs] == [[], []]
    rows = searches[0].rows()
    assert rows == searches[1].rows()
    assert len({tuple(row.hyperparameters.values()) for row in rows}) == 9


def test_axes():
    assert [axis.name for axis in axes_of("neuromerging")] == ["lambda_parallel", "lambda_orthogonal", "trim_ratio"]
    for axis in axes_of("neuromerging"):
        assert axis.low < axis.high
    assert Axis("x", 0.0, 1.0).grid(3) == [0.0, 0.5, 1.0]
    assert Axis("x", 0.0, 3.0, whole=True).grid(10) == [0, 1, 2, 3]
    assert Axis("x", choices=("a", "b")).grid(5) == ["a", "b"]
    assert Axis("x", 1.0, 1.0).grid(5) == [1.0]


def test_a_fixed_hyperparameter_is_not_searched(family):
    result = run(family, trials=4, ranges={"lambda_orthogonal": (0.5, 3)}, hyperparameters={"lambda_parallel": 0})
    assert all(set(t.hyperparameters) == {"lambda_orthogonal", "trim_ratio"} for t in result.trials)
    assert result.best.value("lambda_parallel") == 0


@pytest.mark.parametrize("options", [{"search": ["trim_ratio"]}, {"ranges": {"trim_ratio": (0.1, 0.9)}}], ids=str)
def test_searching_what_is_fixed_is_refused(family, options):
    with pytest.raises(SettingError, match="trim_ratio is to be searched and has a fixed value too"):
        run(family, trials=1, hyperparameters={"trim_ratio": 0.5}, **options)


def test_where_everything_is_fixed_nothing_is_left_to_search(family):
    fixed = {"lambda_parallel": 0, "lambda_orthogonal": 1, "trim_ratio": 0.8}
    with pytest.raises(SettingError, match="Nothing is left to search"):
        run(family, trials=1, hyperparameters=fixed)


def test_csv(family):
    result = run(family, trials=3)
    start = make_setting(family, ["digits"])
    rows = [*result.trials, hand_trial(7, start, {"digits": 0.5}, 0.2)]
    table = list(csv.DictReader(io.StringIO(trials_to_csv(rows))))
    assert len(table) == 4
    assert float(table[0]["mean_validation_accuracy"]) == pytest.approx(result.trials[0].value, abs=1e-5)
    assert table[3]["origin"] == "hand"
    assert table[3]["lambda_orthogonal"] == str(start.value("lambda_orthogonal"))
    assert table[3]["accuracy_flags"] == ""


def blocks(setting, job):
    """Best where the profile rises from 0.5 to 1.5."""
    curve = as_mapping(setting.profile)["rest"]
    away = abs(curve[0] - 0.5) + abs(curve[-1] - 1.5)
    return {"digits": 0.9 - 0.2 * away, "flags": 0.5 - 0.1 * away}


def test_a_depth_curve_is_searched_and_its_best_setting_has_it(family):
    result = sweep(family, ["digits", "flags"], objective=blocks, shape="depth:2", trials=40, seed=2)
    assert {f"depth_{place}" for place in (1, 2)} < set(result.trials[0].hyperparameters)
    ((part, coefficient, curve),) = [(f.part, f.coefficient, f.curve) for f in result.best.profile]
    assert (part, coefficient, len(curve)) == ("rest", "", 2)
    assert blocks(result.best, UNATTENDED)["digits"] > 0.8
    for trial in result.trials:
        assert trial.value == pytest.approx(sum(blocks(trial.setting, UNATTENDED).values()) / 2)


def test_groups_of_matrices_are_searched(family):
    def mlp(setting, job):
        return {"digits": 1.0 - abs(as_mapping(setting.profile)["mlp"] - 2.0) / 2}

    result = sweep(family, ["digits"], objective=mlp, shape="groups", trials=25, seed=1)
    assert set(as_mapping(result.best.profile)) == {"attention", "mlp", "rest"}
    assert result.best_value > 0.8


def test_an_unknown_shape_is_refused(family):
    with pytest.raises(SettingError, match="Known: depth:2"):
        run(family, shape="depth:9", trials=1)


def test_goals(family):
    scores = {"digits": 0.9, "flags": 0.3}
    assert get_goal("mean")(scores) == pytest.approx(0.6)
    assert get_goal("worst")(scores) == 0.3
    assert weighted_score({"digits": 3.0})(scores) == pytest.approx((2.7 + 0.3) / 4)
    for weights, message in (
        ({"digits": -1.0}, "from 0 on"),
        ({"cats": 1.0}, "no score of cats"),
        ({"digits": 0.0, "flags": 0.0}, "weight 0"),
    ):
        with pytest.raises(SettingError, match=message):
            weighted_score(weights)(scores)
    with pytest.raises(SettingError, match="Known: mean, worst"):
        get_goal("median")
    worst = run(family, goal=get_goal("worst"), scored="worst", trials=5)
    for trial in worst.trials:
        assert trial.value == pytest.approx(min(trial.per_task.values()))


def test_a_stored_study_holds_one_kind_of_score(family, tmp_path):
    run(family, trials=1, storage=str(tmp_path / "study.db"))
    with pytest.raises(SettingError, match="scored"):
        run(family, trials=1, storage=str(tmp_path / "study.db"), goal=get_goal("worst"), scored="worst")


def test_selection_noise_is_that_of_normal_numbers():
    error, feigned = selection_noise(1600, 30, 0.5)
    assert error == pytest.approx(0.0125)
    drawn = np.random.default_rng(0).normal(0, error, (4000, 30)).max(1).mean()
    assert drawn < feigned < 1.4 * drawn
    assert selection_noise(100, 1)[1] == 0.0


def test_a_study_is_deleted_and_started_anew(family, tmp_path):
    storage = str(tmp_path / "study.db")
    run(family, trials=3, storage=storage, study_name="mine")
    with pytest.raises(SettingError, match="It has: mine"):
        delete_study(storage, "another")
    delete_study(storage, "mine")
    assert len(run(family, trials=1, storage=storage, study_name="mine").trials) == 1
