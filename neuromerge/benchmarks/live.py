"""The workspace under the app, without a browser: what a slider costs, stage by stage.

Each round changes the setting to one that was never seen, so that no result comes from the cache, and times
what the page asks for. Times are wall-clock, on whatever else the machine does; compare runs on an idle one. Kernels
are compiled before anything is timed, as a server has them when it has been up for a minute.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from neuromerge.benchmarks.memory import PeakMemory
from neuromerge.engine.contents import BASE, Contents
from neuromerge.errors import NeuroMergeError
from neuromerge.evaluation.families import Family, get_family
from neuromerge.exploration.workspace import Workspace
from neuromerge.merging import kernels
from neuromerge.settings.choices import change, make_setting

MEASURE = "retention"
FOLLOWING = ("base -> quick scores", "experts -> quick scores")
"""What of a large family is filled in after the first result."""


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
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="after so long no kind of change is repeated (default 60)"
    )
    parser.add_argument("--torch", action="store_true", help="without compiled kernels")
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
            with kernels.switched(not options.torch):
                kernels.load()
                run(family, Repeats(options.rounds, options.seconds), options.users)
        except NeuroMergeError as error:
            print(error)
            return 2
    return 0


@dataclass(frozen=True)
class Repeats:
    """How often a change is made: `rounds` times, but no more once `seconds` have gone."""

    rounds: int
    seconds: float

    def fewer(self, divisor: int) -> Repeats:
        """For what costs more."""
        return Repeats(max(2, self.rounds // divisor), self.seconds)

    def timed(self, work: Callable[[int], object]) -> list[float]:
        """Seconds that each of work(0), work(1), ... takes."""
        taken: list[float] = []
        while len(taken) < self.rounds and sum(taken) < self.seconds:
            started = time.perf_counter()
            work(len(taken))
            taken.append(time.perf_counter() - started)
        return taken


def run(family: Family, repeats: Repeats, users: int) -> None:
    """Time the stages of one family and print them."""
    workspace = Workspace({family.name: family})
    start = make_setting(family)
    way = "compiled kernels" if kernels.in_use() else "torch"
    print(f"{family.title}: {len(start.tasks)} experts, up to {repeats.rounds} rounds, {way}; seconds\n")
    print(f"{'what':<46}{'median':>9}{'p95':>9}{'most':>9}{'rounds':>9}")
    with PeakMemory() as memory:
        once = Repeats(1, repeats.seconds)
        parts = {part: once.timed(partial(_ignoring, work)) for part, work in first_result(workspace, family).items()}
        taken = [seconds for (seconds,) in parts.values()]
        _report("first result", [sum(taken[: -len(FOLLOWING)])])
        _report("first result, base and experts filled in", [sum(taken)])
        for part, seconds in parts.items():
            _report(f"  {part}", seconds)

        def moved(trim: float | None, round_: int) -> None:
            orthogonal = round((1.0 if trim is None else 1.5) + 0.01 * round_, 4)
            setting = change(start, family, lambda_orthogonal=orthogonal)
            if trim is not None:
                setting = change(setting, family, trim_ratio=round(trim + 0.5 * round_ / repeats.rounds, 4))
            workspace.summary(setting)
            workspace.heatmap(setting, MEASURE)

        _report("lambda moved -> heatmap", repeats.timed(partial(moved, None)))
        _report(
            "lambda moved -> heatmap and quick scores",
            repeats.timed(lambda r: quick(workspace, family, 2.0 + 0.01 * r)),
        )
        _report("trim moved -> heatmap", repeats.timed(partial(moved, 0.31)))
        _report(
            "trim moved -> heatmap and quick scores",
            repeats.timed(lambda r: quick(workspace, family, 1.0, 0.3 + 0.5 * r / repeats.rounds)),
        )
        cells = [("block 0", name) for name in ("q", "k", "v", "out", "fc1", "fc2")]
        opened = repeats.timed(lambda r: workspace.layer(start, f"block {r // 6 % 2}", cells[r % 6][1]))
        _report("cell clicked -> layer", opened)
        _report("neuron clicked -> neuron", repeats.timed(lambda r: neuron(workspace, family, r)))
        settled = repeats.fewer(5).timed(
            lambda r: workspace.validation_scores(change(start, family, lambda_orthogonal=3.0 + 0.01 * r))
        )
        _report("slider at rest -> merge on whole validation", settled)
        for method in ("task_arithmetic", "ties"):
            _report(
                f"{method}: scale moved -> quick scores",
                repeats.fewer(4).timed(partial(baseline, workspace, family, method)),
            )
        if users:
            waits = several(workspace, family, users, repeats.fewer(4))
            _report(f"{users} users move lambda at once", waits)
    statistics_ = workspace.statistics()
    print(f"\nanonymous memory: peak {memory.peak / 2**20:.0f} MB, at the start {memory.start / 2**20:.0f} MB")
    print(
        f"cache: {statistics_.bytes / 2**20:.0f} of {statistics_.limit / 2**20:.0f} MB, {statistics_.entries} entries"
    )


def first_result(workspace: Workspace, family: Family) -> dict[str, Callable[[], object]]:
    """What a page shows first, part by part, in the order in which they are computed."""
    setting = make_setting(family)
    models = workspace.engine.of(family.name).models

    def heatmap() -> None:
        workspace.summary(setting)
        workspace.heatmap(setting, MEASURE)

    return {
        "weights, first pass -> heatmap": heatmap,
        "text tower -> heads": lambda: [models.head(task) for task in setting.tasks],
        "pictures": lambda: [models.samples(task, "quick") for task in setting.tasks],
        "merge -> quick scores": lambda: models.scores(Contents(setting=setting), setting.tasks, "quick"),
        FOLLOWING[0]: lambda: models.scores(BASE, setting.tasks, "quick"),
        FOLLOWING[1]: lambda: workspace.board(setting, "quick"),
    }


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


def several(workspace: Workspace, family: Family, users: int, repeats: Repeats) -> list[float]:
    """Waiting times of `users` who each move lambda to settings of their own, all at the same time."""

    def one(user: int) -> list[float]:
        return repeats.timed(lambda r: quick(workspace, family, 4.0 + 0.1 * user + 0.001 * r))

    with ThreadPoolExecutor(users) as pool:
        return [wait for waits in pool.map(one, range(users)) for wait in waits]


def _ignoring(work: Callable[[], object], round_: int) -> None:
    work()


def _report(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    median, count = statistics.median(seconds), len(seconds)
    print(f"{what:<46}{median:>9.3f}{p95:>9.3f}{ordered[-1]:>9.3f}{count:>9}", flush=True)
