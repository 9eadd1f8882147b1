"""The Tune tab: which coefficients are best on the validation images, by map and by search."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from neuromerge.deployment import deployment
from neuromerge.errors import Cancelled, LimitError, SettingError
from neuromerge.evaluation.families import Family
from neuromerge.figures import tuning
from neuromerge.figures.figure import message
from neuromerge.interface.components.comparison import NOTHING_YET, ComparisonTable, comparison_table
from neuromerge.interface.components.download import download_link
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.pictures import MAX_PATH, archive_limits, own_source
from neuromerge.interface.plotly_view import PlotlyView, read_pick
from neuromerge.interface.state import TabState
from neuromerge.interface.tab import Tab
from neuromerge.merging import registry
from neuromerge.merging.registry import MergeMethod
from neuromerge.progress import Job
from neuromerge.search.axes import axes_of
from neuromerge.search.compare import ComparedRow, Comparison
from neuromerge.search.landscape import Landscape
from neuromerge.search.objective import (
    get_goal,
    mean_score,
    read_weights,
    scored_as,
    scored_as_own,
    selection_noise,
    weighted_score,
)
from neuromerge.search.shape import SHAPES, read_groups, shape_axes
from neuromerge.search.storage import delete_study
from neuromerge.search.study import Search
from neuromerge.search.trials import Trial, ranked, trials_to_csv
from neuromerge.settings.choices import change, make_setting, short
from neuromerge.settings.setting import Setting

PAIRS = {
    "lambda_orthogonal:lambda_parallel": "λ₁ × λ₂",
    "lambda_orthogonal:trim_ratio": "λ₂ × trim ratio",
}
SPLITS = {"quick": "Quick look", "validation": "Whole validation"}
SAMPLERS = {"tpe": "TPE (learns where to look)", "grid": "Grid (even steps)"}
NO_MAP = "Press Map: every point is a full merge, measured on validation images."
NO_SEARCH = "Start a search, or move the controls: every setting you visit becomes a row."
NO_IMPORTANCE = "Four finished trials of a search show which coefficient matters most."
SEARCH_SECONDS = 1800
GOAL_TITLES = {
    "mean": "Mean accuracy",
    "worst": "Accuracy of the worst task",
    "weighted": "Mean accuracy, tasks weighted",
    "certainty": "Certainty (no labels needed)",
    "own": "Certainty on my own pictures",
}
ALL_CLASSES = ""
MAX_TYPED = 4_000
"""Characters of the groups and the weights."""
SHOWN_ROWS = 200


class TrialTable(gr.HTML):
    """Rows of trials; the event ``apply`` carries the number and origin of the row whose button was pressed."""

    def __init__(self, **more: Any) -> None:
        super().__init__(
            value=trial_rows(()),
            js_on_load="""
            element.addEventListener('click', (event) => {
              const button = event.target.closest('[data-row]');
              if (button) { trigger('apply', {row: Number(button.dataset.row)}); }
            });
            """,
            **more,
        )

    def get_block_name(self) -> str:
        """Gradio draws this with the frontend of its HTML component."""
        return "html"


@dataclass(frozen=True)
class TuneState(TabState):
    """What the last search found, the rows of the last comparison, and what the next search is asked for."""

    found: tuple[Trial, ...] = ()
    compared: tuple[ComparedRow, ...] = ()
    sampler: str = "tpe"
    trials: float | None = 30
    shape: str = ""
    groups: str = ""
    goal: str = "mean"
    weights: str = ""
    folder: str = ""
    classes_of: str = ALL_CLASSES
    storage: str = ""
    study: str = ""


class TuneTab(Tab[TuneState]):
    """A map of two coefficients, a search over all, and the list of everything visited."""

    key = "tune"
    title = "Tune"
    state = TuneState
    live = False

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self._running: dict[str, Job] = {}

    def build(self) -> None:
        """Make the map, the search and the table of trials."""
        gr.HTML(
            "<div class='nm-head'><h2>Find good coefficients</h2><p>All of this is measured on validation images, "
            "never on the test images. Without validation data, keep Auto.</p></div>"
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.pair = gr.Radio(
                [(title, key) for key, title in PAIRS.items()],
                value=next(iter(PAIRS)),
                label="Map of",
                elem_id="map-pair",
                elem_classes="nm-pills",
                min_width=220,
            )
            self.map = gr.Button("Map", variant="primary", elem_id="map", min_width=100, scale=0)
            self.stop_map = gr.Button("Stop", elem_id="stop-map", min_width=80, scale=0)
        self.landscape = PlotlyView(
            message(NO_MAP), label="Validation accuracy over two coefficients", height=380, elem_id="landscape"
        )

        gr.HTML(
            "<div class='nm-head nm-section'><h2>Search</h2><p>λ₁ (parallel), λ₂ (orthogonal) "
            "and the trim ratio together (for other methods: "
            "all their parameters), and where in the network the merge is strong.</p></div>"
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.sampler = gr.Dropdown(
                [(title, key) for key, title in SAMPLERS.items()],
                value="tpe",
                label="Sampler",
                elem_id="sampler",
                min_width=180,
            )
            self.trials = gr.Slider(
                5, self.page.limits.max_trials, value=30, step=1, label="Trials", elem_id="trials", min_width=200
            )
            self.shape = gr.Dropdown(
                [(title, key) for key, title in SHAPES.items()],
                value="",
                label="Search",
                elem_id="search-shape",
                min_width=220,
            )
            self.goal = gr.Dropdown(
                [(title, key) for key, title in GOAL_TITLES.items()],
                value="mean",
                label="Make large",
                elem_id="search-goal",
                min_width=220,
            )
            self.storage = gr.Textbox(
                "",
                label="Study storage",
                info="Optional: a database that other machines share, such as sqlite:///study.db.",
                visible=not deployment().public,
                elem_id="storage",
                min_width=220,
            )
            self.study = gr.Textbox(
                "",
                label="Study",
                info="Its name in the storage: the same one goes on, another one starts anew.",
                visible=not deployment().public,
                elem_id="study",
                min_width=220,
            )
        with gr.Column(visible=False) as self.grouping:
            self.groups = gr.Textbox(
                "",
                label="Groups of parts",
                info="One group a line, parts with commas between: a factor on each group is searched. “Search this in "
                "Tune”, under the map of the Interference tab, adds what is selected there. The search starts from "
                "factors of 1 everywhere else.",
                placeholder="block 1/fc1, block 2/fc1",
                lines=3,
                max_length=MAX_TYPED,
                elem_id="search-groups",
            )
        with gr.Column(visible=False) as self.weighing:
            self.weights = gr.Textbox(
                "",
                label="How much each task counts",
                info="task=weight, with commas between; a task that is not named counts 1.",
                placeholder="digits=2, flags=0.5",
                max_length=MAX_TYPED,
                elem_id="search-weights",
            )
        deployed = deployment()
        with gr.Row(visible=False, elem_classes="nm-own") as self.picturing:
            self.archive = gr.File(
                label="Zip archive of pictures, in any folders",
                file_types=[".zip"],
                height=130,
                visible=deployed.own_pictures,
                elem_id="search-archive",
                scale=2,
                min_width=240,
            )
            with gr.Column(scale=3, min_width=260):
                gr.HTML(
                    "<p class='nm-hint'>Nobody needs to say what they show: the search makes the merge as sure as it "
                    "can be of what it sees in them. Certain is not right: look at the accuracy, too.</p>"
                    if deployed.own_pictures
                    else "<p class='nm-empty'>Archives of pictures are not taken on this server. The app on your own "
                    "machine takes them, and so does <code>neuromerge sweep --pictures</code>.</p>"
                )
                self.folder = gr.Textbox(
                    "",
                    label="Or a folder on this machine",
                    placeholder="~/pictures",
                    max_length=MAX_PATH,
                    visible=deployed.allow_local,
                    elem_id="search-folder",
                )
                self.classes_of = gr.Dropdown(
                    self._tasks(next(iter(self.page.controls.families.values()))),
                    value=ALL_CLASSES,
                    label="They show classes of",
                    elem_id="search-classes",
                    min_width=200,
                )
        with gr.Row(elem_classes="nm-actions"):
            self.start = gr.Button(
                "Start the search", variant="primary", elem_id="start-search", min_width=140, scale=0
            )
            self.stop = gr.Button("Stop", elem_id="stop-search", min_width=80, scale=0)
            self.delete = gr.Button(
                "Delete the study",
                visible=not deployment().public,
                elem_id="delete-study",
                min_width=130,
                scale=0,
            )
            self.progress = gr.HTML(progress_bar(0, 0), elem_id="search-progress")
        self.noise = gr.HTML("", elem_id="search-noise")
        with gr.Row(elem_classes="nm-figures"):
            self.parallel = PlotlyView(
                message(NO_SEARCH), label="Every trial across its coefficients", height=320, elem_id="trial-lines"
            )
            self.importance = PlotlyView(
                message(NO_IMPORTANCE), label="Importance of the coefficients", height=320, elem_id="importances"
            )
        self.table = TrialTable(elem_id="trials-table")
        gr.HTML(
            "<div class='nm-head nm-section'><h2>All methods</h2><p>Every method on the ticked experts, as published "
            "and by retention, beside the merge of the controls.</p></div>"
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.split = gr.Radio(
                [(title, key) for key, title in SPLITS.items()],
                value=next(iter(SPLITS)),
                label="Measured on",
                elem_id="compare-split",
                elem_classes="nm-pills",
                min_width=220,
            )
            self.compare = gr.Button(
                "Compare all methods", variant="primary", elem_id="compare-methods", min_width=160, scale=0
            )
            self.stop_compare = gr.Button("Stop", elem_id="stop-compare", min_width=80, scale=0)
        self.compared = ComparisonTable(elem_id="compared")
        self.mapped = gr.State(None, time_to_live=self.page.limits.session_seconds)
        self.holders = {
            "sampler": self.sampler,
            "trials": self.trials,
            "shape": self.shape,
            "groups": self.groups,
            "goal": self.goal,
            "weights": self.weights,
            "folder": self.folder,
            "classes_of": self.classes_of,
            "storage": self.storage,
            "study": self.study,
        }
        self.folded = [self.grouping, self.weighing, self.picturing]
        self.outputs = [self.table, self.classes_of]

    def fold(self, state: TuneState) -> Changes:
        """What else the chosen search asks for."""
        asked = {self.grouping: state.shape == "own", self.weighing: state.goal == "weighted"}
        return {box: gr.update(visible=on) for box, on in {**asked, self.picturing: state.goal == "own"}.items()}

    @staticmethod
    def _tasks(family: Family) -> list[tuple[str, str]]:
        """Whose classes pictures may show."""
        return [("All merged tasks", ALL_CLASSES), *((spec.title, task) for task, spec in family.tasks.items())]

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> Changes:
        """The table: what the last search found, and what the visitor tried by hand."""
        tasks = self._tasks(self._family(moment))
        chosen = self.shown(moment).classes_of
        return {
            self.table: trial_rows(self._rows(moment)),
            self.classes_of: gr.update(
                choices=tasks, value=chosen if chosen in [task for _, task in tasks] else ALL_CLASSES
            ),
        }

    def _rows(self, moment: Moment) -> tuple[Trial, ...]:
        return (*self.shown(moment).found, *moment.session.trials)

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events) -> None:
        """Map, search, stop, apply. Maps and searches go on when the controls move, until they are stopped."""
        long = partial(events.listen, lane="search", lasting=True, deadline_seconds=SEARCH_SECONDS)
        mapped = [self.landscape, self.mapped]
        long(self.map.click, self.draw_map, mapped, extra=[self.pair], show_progress="minimal")
        searched = [self.progress, self.noise, self.parallel, self.importance, *self.outputs]
        long(self.start.click, self.search, searched, extra=[self.archive])
        events.listen(self.delete.click, self.delete_study, [self.progress, *self.outputs])
        events.listen([self.shape.input, self.goal.input], self.ask, self.folded)
        held = [] if self.held is None else [self.held]
        long(self.compare.click, self.compare_methods, [self.compared, *held], extra=[self.split])
        stops = [self.stop.click, self.stop_map.click, self.stop_compare.click]
        events.listen(stops, self.stop_work, [])
        shown = self.page.settable
        events.listen(self.table.apply, self.apply_row, shown)
        events.listen(self.compared.apply, self.apply_method, shown)
        events.listen(self.parallel.cell, self.apply_line, shown)
        events.listen(self.landscape.cell, self.apply_point, shown, extra=[self.mapped])

    def draw_map(self, moment: Moment) -> Iterator[Changes]:
        """The landscape, point by point."""
        pair = moment.value(self.pair)
        if pair not in PAIRS:
            raise SettingError(f"The map can be of {' or '.join(PAIRS.values())}.")
        x_name, y_name = pair.split(":")
        if not has_numbers(registry.get_method(moment.setting.method), x_name, y_name):
            usable = [entry.title for entry in registry.methods().values() if has_numbers(entry, x_name, y_name)]
            raise SettingError(f"{PAIRS[pair]} can be mapped for {', '.join(usable)}: choose that method first.")
        self._begin(moment)
        yield {self.landscape: message("The first points are being measured.", "loading"), self.mapped: None}
        for landscape in moment.workspace.landscape(x_name, y_name):
            yield {self.landscape: tuning.landscape_contour(landscape), self.mapped: landscape}

    def search(self, moment: Moment) -> Iterator[Changes]:
        """A search, trial by trial."""
        limits, asked, family = self.page.limits, self.shown(moment), self._family(moment)
        trials = asked.trials
        if isinstance(trials, bool) or not isinstance(trials, (int, float)) or trials != trials or not trials >= 1:
            raise SettingError(f"The number of trials must be from 1 to {limits.max_trials}.")
        if trials > limits.max_trials:
            raise LimitError(f"At most {limits.max_trials} trials are possible here.")
        if asked.storage and deployment().public:
            raise LimitError("A study storage can be named only when the app runs on your own machine.")
        groups = read_groups(asked.groups) if asked.shape == "own" else []
        search = Search(
            start=moment.setting,
            axes=(*axes_of(moment.setting.method), *shape_axes(asked.shape or "", groups)),
            trials=int(trials),
            sampler=asked.sampler,
            storage=asked.storage.strip() or None,
            study_name=asked.study.strip() or None,
            seed=moment.setting.seed,
            family=family,
            **self._sought(moment, asked),
        )
        self._begin(moment)
        yield self._progress(moment, search, running=True)
        try:
            for _ in search.run(moment.job):
                yield self._progress(moment, search, running=True)
        except Cancelled:
            pass
        changes = self._progress(moment, search, running=False)
        yield {**changes, self.noise: self._noise(moment, search, asked.goal)}

    def _sought(self, moment: Moment, asked: TuneState) -> dict[str, Any]:
        """What a search makes large, as `Search` takes it: objective, goal, and the name of the score."""
        workspace = moment.workspace
        if asked.goal == "own":
            source, limits = own_source(moment.value(self.archive), asked.folder), archive_limits(self.page.limits)
            name, task = Path(source).name, asked.classes_of

            def sure(setting: Setting, job: Job) -> dict[str, float]:
                return {name: workspace.own_certainty(setting, source, task, limits, job)}

            return {"objective": sure, "scored": scored_as_own(name, task)}
        if asked.goal == "certainty":
            return {"objective": workspace.objective(certain=True), "scored": scored_as(asked.goal)}
        if asked.goal == "weighted":
            weights = read_weights(asked.weights, moment.setting.tasks)
            goal, scored = weighted_score(weights), scored_as("mean", weights)
        else:
            goal, scored = get_goal(asked.goal), scored_as(asked.goal)
        return {"objective": workspace.objective(), "goal": goal, "scored": scored}

    def ask(self, moment: Moment) -> Changes:
        """Another kind of search asks for other things."""
        return self.fold(self.shown(moment))

    def adding(self, moment: Moment, parts: Sequence[str]) -> Changes:
        """One more group of parts for the search, and the tab that shows it."""
        asked = self.shown(moment)
        lines = [line for line in asked.groups.splitlines() if line.strip()]
        state = replace(asked, shape="own", groups="\n".join(dict.fromkeys([*lines, ", ".join(parts)])))
        return {
            self.shape: state.shape,
            self.groups: state.groups,
            **self.fold(state),
            **self.page.open_tab(self.key),
        }

    def delete_study(self, moment: Moment) -> Changes:
        """Remove the study of that name from its storage, and what it found from the page."""
        storage, name = self.shown(moment).storage.strip(), self.shown(moment).study.strip()
        if deployment().public:
            raise LimitError("A study storage can be named only when the app runs on your own machine.")
        if not storage or not name:
            raise SettingError("Name the storage and the study that shall be deleted.")
        self.forget(moment.page_id)
        delete_study(storage, name)
        return {
            **self.hold(replace(self.shown(moment), found=())),
            self.progress: progress_bar(0, 0),
            self.table: trial_rows(moment.session.trials),
        }

    def _noise(self, moment: Moment, search: Search, goal: str) -> str:
        """The winner's score, its accuracy, and how much better than it is the best of so many trials may look."""
        best, finished = search.best(), search.finished
        if best is None or best.setting is None or best.value is None:
            return ""
        asked = moment.workspace.objective()
        # Known by now, also where the search was stopped; own pictures have no labels, so a few others tell.
        at = 0 if goal == "own" else -1
        scores = asked.scores(best.setting, Job(), asked.levels[at])
        pictures = asked.pictures[at] or best.pictures
        return noise_html(GOAL_TITLES[goal], best, mean_score(scores), pictures, finished)

    def _progress(self, moment: Moment, search: Search, *, running: bool) -> Changes:
        found = search.rows()
        rows = (*found, *moment.session.trials)
        done = sum(row.state in ("complete", "pruned") for row in found)
        waiting = message("The first trials are running.", "loading")
        changes: Changes = {
            **self.hold(replace(self.shown(moment), found=found)),
            self.progress: progress_bar(done, search.total, sum(row.is_pruned for row in found), running=running),
            self.parallel: tuning.parallel_coordinates(rows) if done >= 2 else waiting,
            self.table: trial_rows(rows),
        }
        if not running or done % 5 == 0:
            changes[self.importance] = _importance(search.importances())
        return changes

    def compare_methods(self, moment: Moment) -> Iterator[Changes]:
        """All methods, one after the other; what is finished when it is stopped stays."""
        split = moment.value(self.split)
        if split not in SPLITS:
            raise SettingError(f"Methods are compared on {' or '.join(SPLITS.values())}.")
        titles = self.page.controls.titles(moment.setting)
        self._begin(moment)
        yield {self.compared: "<p class='nm-empty' role='status'>Base and experts are being measured.</p>"}
        found: Comparison | None = None
        with contextlib.suppress(Cancelled):
            for found in moment.workspace.comparison(split):
                yield self._compared(moment, found, titles, running=True)
        if found is None:
            yield {self.compared: NOTHING_YET}
        else:
            yield self._compared(moment, found, titles, running=False)

    def _compared(self, moment: Moment, found: Comparison, titles: Mapping[str, str], *, running: bool) -> Changes:
        state = replace(self.shown(moment), compared=found.rows)
        return {**self.hold(state), self.compared: comparison_table(found, titles, running=running)}

    def apply_method(self, moment: Moment) -> Changes:
        """Put a compared method, with its coefficients, into the controls."""
        row, rows = moment.detail("row"), self.shown(moment).compared
        if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < len(rows) or not rows[row].method:
            raise SettingError("That row is no longer in the table. Try again.")
        setting, chosen = moment.setting, rows[row]
        return self.page.set_controls(
            make_setting(self._family(moment), setting.tasks, chosen.method, chosen.hyperparameters, setting.seed)
        )

    def _begin(self, moment: Moment) -> None:
        """From now on this moment's job is the page's long work; its earlier one stops."""
        self.forget(moment.page_id)
        self._running[moment.page_id or ""] = moment.job

    def stop_work(self, moment: Moment) -> None:
        """Stop the page's map or search; what is finished stays."""
        self.forget(moment.page_id)

    def forget(self, page_id: str | None) -> None:
        """Stop the work of a page."""
        running = self._running.pop(page_id or "", None)
        if running is not None:
            running.stop()

    def apply_row(self, moment: Moment) -> Changes:
        """Put a trial's coefficients into the controls."""
        row, rows = moment.detail("row"), self._rows(moment)
        if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < len(rows):
            raise SettingError("That row is no longer in the table. Try again.")
        return self._apply_trial(moment, rows[row])

    def apply_line(self, moment: Moment) -> Changes:
        """Put the coefficients of a clicked line into the controls."""
        rows = self._rows(moment)
        return self._apply_trial(moment, rows[read_pick(moment.event, {"trial": (len(rows),)}).index])

    def apply_point(self, moment: Moment) -> Changes:
        """Put a clicked point of the map into the controls."""
        mapped = moment.value(self.mapped)
        if not isinstance(mapped, Landscape):
            raise SettingError("There is no map yet: press Map first.")
        pick = read_pick(moment.event, {"landscape": mapped.value.shape})
        place = {mapped.x_name: float(mapped.x[pick.column]), mapped.y_name: float(mapped.y[pick.row])}
        return self._apply(moment, place)

    def _apply_trial(self, moment: Moment, trial: Trial) -> Changes:
        """The merge that was scored, whatever the controls say by now."""
        if trial.setting is None:
            return self._apply(moment, trial.hyperparameters)
        return self.page.set_controls(trial.setting)

    def _apply(self, moment: Moment, hyperparameters: Mapping[str, Any]) -> Changes:
        return self.page.set_controls(change(moment.setting, self._family(moment), **hyperparameters))

    def _family(self, moment: Moment) -> Family:
        return self.page.controls.families[moment.setting.family]


def has_numbers(method: MergeMethod, *names: str) -> bool:
    """Whether a method has hyperparameters of these names that are numbers."""
    return set(names) <= {spec.name for spec in method.hyperparameters if spec.kind in ("float", "int")}


def noise_html(goal: str, best: Trial, accuracy: float, pictures: int, trials: int) -> str:
    """How to read the winner of a search."""
    error, feigned = selection_noise(pictures, trials, accuracy)
    won = f"trial {best.number}, {goal.lower()} {100 * (best.value or 0.0):.1f} %"
    return (
        f"<p class='nm-hint' role='status'>Best: {won}, mean accuracy {100 * accuracy:.1f} % on {pictures:,} "
        f"validation pictures. One such score is unsure by {100 * error:.1f} points (standard error); the best of "
        f"{trials} equally good settings would look up to {100 * feigned:.1f} points better than it is. The test "
        "pictures tell: look once.</p>"
    )


def _importance(importances: dict[str, float]) -> Any:
    if not importances:
        return message(NO_IMPORTANCE)
    return tuning.importance_bars(importances)


def progress_bar(done: int, total: int, early: int = 0, *, running: bool = False) -> str:
    """How far a search is; `early` of its trials were given up before they had seen all pictures."""
    if not total:
        return "<div class='nm-progress' hidden></div>"
    text = (
        f"{done} of {total} trials"
        + (f" ({early} given up early)" if early else "")
        + ("" if running else ", finished" if done >= total else ", stopped")
    )
    return (
        "<div class='nm-progress'>"
        f"<progress value='{done}' max='{total}' aria-label='Progress of the search'></progress>"
        f"<span role='status'>{text}</span></div>"
    )


def trial_rows(trials: Sequence[Trial]) -> str:
    """The table of trials, best first, with a button to apply each and a link to all of them as CSV.

    Those that were given up early come last: their score is of fewer pictures.
    """
    place = {id(trial): place for place, trial in enumerate(trials)}
    scored = ranked(trials)[::-1]
    if not scored:
        return f"<p class='nm-empty'>{NO_SEARCH}</p>"
    names = list(dict.fromkeys(name for trial in scored for name in trial.hyperparameters))
    counted = any(trial.pictures for trial in scored)
    head = "".join(f"<th scope='col'>{html.escape(tuning.coefficient(name))}</th>" for name in names)
    body = "".join(
        f"<tr><th scope='row'>{html.escape(trial.origin)} {trial.number}</th>"
        f"<td><b>{100 * (trial.value or 0):.2f} %</b></td>"
        + (f"<td>{_seen(trial)}</td>" if counted else "")
        + "".join(
            f"<td>{html.escape(short(trial.hyperparameters[name])) if name in trial.hyperparameters else '–'}</td>"
            for name in names
        )
        + f"<td>{trial.seconds:.1f} s</td>"
        f"<td><button type='button' data-row='{place[id(trial)]}'>Apply</button></td></tr>"
        for trial in scored[:SHOWN_ROWS]
    )
    pictures = "<th scope='col'>Pictures</th>" if counted else ""
    save = download_link(trials_to_csv(trials), "trials.csv", "text/csv", "Save all as CSV")
    return (
        f"<div class='nm-scroll' tabindex='0'><table class='nm-table nm-trials'>"
        f"<caption>{len(scored)} setting{'s' if len(scored) != 1 else ''}, best first. "
        f"{save}</caption><thead><tr>"
        f"<th scope='col'>Setting</th><th scope='col'>Score on validation</th>{pictures}{head}<th scope='col'>Time</th>"
        f"<th scope='col'><span class='nm-alt'>Apply</span></th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def _seen(trial: Trial) -> str:
    """On how many pictures a trial was scored."""
    return (f"{trial.pictures:,}" if trial.pictures else "–") + (", given up early" if trial.is_pruned else "")
