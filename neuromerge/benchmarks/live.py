"""The workspace under the app, without a browser: what a slider costs, stage by stage.

Each round changes the setting to one that was never seen, so that no result comes from the cache, and times
what the page asks for. Times are wall-clock, on whatever else the machine does; compare runs on an idle one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from neuromerge.benchmarks.memory import PeakMemory
from neuromerge.errors import NeuroMergeError
from neuromerge.evaluation.families import Family, get_family
from neuromerge.exploration.workspace import Workspace
from neuromerge.settings.choices import change, make_setting

MEASURE = "retention"


def main(argv: list[str]) -> int:
    """Print median and 95th percentile of every stage. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m neuromerge.benchmarks live", description=__doc__)
    parser.add_argument("--family", default="pictoclip", help="a registered family or a folder (default: pictoclip)")
    parser.add_argument(
        "--random", metavar="SHAPE", help="random weights instead: pictoclip, vit-b-32 or vit-l-14, with 8 experts"
    )
    parser.add_argument("--experts", type=int, default=8, help="number of random experts")
    parser.add_argument("--images", type=int, default=96, help="random validation pictures a task")
    parser.add_argument("--rounds", type=int, default=20, help="changes of each kind (default 20)")
    parser.add_argument("--users", type=int, default=8, help="simultaneous users of the last lines (0: none)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="neuromerge-live-") as folder:
        try:
            if options.random:
                from neuromerge.benchmarks.synthetic import SHAPES, random_family

                if options.random not in SHAPES:
                    parser.error(f"--random takes {', '.join(SHAPES)}")
                family = random_family(Path(folder) / "family", options.random, options.experts, options.images)
            else:
                family = get_family(options.family)
            run(family, options.rounds, options.users)
        except NeuroMergeError as error:
            print(error)
            return 2
    return 0


def run(family: Family, rounds: int, users: int) -> None:
    """Time the stages of one family and print them."""
    workspace = Workspace({family.name: family})
    start = make_setting(family)
    print(f"{family.title}: {len(start.tasks)} experts, {rounds} rounds; seconds\n")
    print(f"{'what':<46}{'median':>9}{'p95':>9}{'most':>9}")
    with PeakMemory() as memory:
        _report("first result (load, pass, quick scores)", _timed(lambda _: first_result(workspace, family), 1))

        def moved(round_: int) -> None:
            setting = change(start, family, lambda_orthogonal=round(1.0 + 0.01 * round_, 4))
            workspace.summary(setting)
            workspace.heatmap(setting, MEASURE)

        _report("lambda moved -> heatmap", _timed(moved, rounds))
        _report(
            "lambda moved -> heatmap and quick scores",
            _timed(lambda r: quick(workspace, family, 2.0 + 0.01 * r), rounds),
        )
        _report(
            "trim moved -> heatmap and quick scores",
            _timed(lambda r: quick(workspace, family, 1.0, 0.3 + 0.5 * r / rounds), rounds),
        )
        cells = [("block 0", name) for name in ("q", "k", "v", "out", "fc1", "fc2")]
        opened = _timed(lambda r: workspace.layer(start, f"block {r // 6 % 2}", cells[r % 6][1]), rounds)
        _report("cell clicked -> layer", opened)
        _report("neuron clicked -> neuron", _timed(lambda r: neuron(workspace, family, r), rounds))
        settled = _timed(
            lambda r: workspace.board(change(start, family, lambda_orthogonal=3.0 + 0.01 * r), "validation"),
            max(2, rounds // 5),
        )
        _report("slider at rest -> whole validation split", settled)
        for method in ("task_arithmetic", "ties"):
            _report(
                f"{method}: scale moved -> quick scores",
                _timed(partial(baseline, workspace, family, method), max(2, rounds // 4)),
            )
        if users:
            waits = several(workspace, family, users, max(2, rounds // 4))
            _report(f"{users} users move lambda at once", waits)
    statistics_ = workspace.statistics()
    print(f"\nanonymous memory: peak {memory.peak / 2**20:.0f} MB, at the start {memory.start / 2**20:.0f} MB")
    print(
        f"cache: {statistics_.bytes / 2**20:.0f} of {statistics_.limit / 2**20:.0f} MB, {statistics_.entries} entries"
    )


def first_result(workspace: Workspace, family: Family) -> None:
    """What a page shows first."""
    setting = make_setting(family)
    workspace.summary(setting)
    workspace.heatmap(setting, MEASURE)
    workspace.board(setting, "quick")


def quick(workspace: Workspace, family: Family, orthogonal: float, trim: float = 0.8) -> None:
    """What a moved slider asks for: summary, heatmap, quick scores."""
    setting = make_setting(
        family, None, "neuromerging", {"lambda_orthogonal": round(orthogonal, 4), "trim_ratio": round(trim, 4)}
    )
    workspace.board(setting, "quick")
    workspace.summary(setting)
    workspace.heatmap(setting, MEASURE)


def neuron(workspace: Workspace, family: Family, index: int) -> None:
    """One neuron of one layer with its real inputs."""
    workspace.neuron(make_setting(family), "block 1", "fc1", index)


def baseline(workspace: Workspace, family: Family, method: str, round_: int) -> None:
    """A baseline's scale moved."""
    workspace.board(make_setting(family, None, method, {"scale": round(0.2 + 0.01 * round_, 4)}), "quick")


def several(workspace: Workspace, family: Family, users: int, rounds: int) -> list[float]:
    """Waiting times of `users` who each move lambda to settings of their own, all at the same time."""

    def one(user: int) -> list[float]:
        return _timed(lambda r: quick(workspace, family, 4.0 + 0.1 * user + 0.001 * r), rounds)

    with ThreadPoolExecutor(users) as pool:
        return [wait for waits in pool.map(one, range(users)) for wait in waits]


def _timed(work: Callable[[int], object], rounds: int) -> list[float]:
    """Seconds that each of work(0), work(1), ... takes."""
    seconds = []
    for round_ in range(rounds):
        started = time.perf_counter()
        work(round_)
        seconds.append(time.perf_counter() - started)
    return seconds


def _report(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    print(f"{what:<46}{statistics.median(seconds):>9.3f}{p95:>9.3f}{ordered[-1]:>9.3f}", flush=True)
