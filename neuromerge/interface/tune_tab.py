"""The Tune tab: which coefficients are best on the validation images, by map and by search."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from neuromerge.deployment import deployment
from neuromerge.errors import Cancelled, LimitError, SettingError
from neuromerge.evaluation.families import Family
from neuromerge.figures import tuning
from neuromerge.figures.figure import message
from neuromerge.interface.page import Moment, Tab, applying
from neuromerge.interface.plotly_view import PlotlyView, read_pick
from neuromerge.progress import Job
from neuromerge.search.landscape import Landscape
from neuromerge.search.study import Search
from neuromerge.search.trials import Trial, trials_to_csv
from neuromerge.settings.choices import change, short

PAIRS = {
    "lambda_orthogonal:lambda_parallel": "λ₁ × λ₂",
    "lambda_orthogonal:trim_ratio": "λ₂ × trim ratio",
}
SAMPLERS = {"tpe": "TPE (learns where to look)", "grid": "Grid (even steps)"}
NO_MAP = "Press Map: every point is a full merge, measured on validation images."
NO_SEARCH = "Start a search, or move the controls: every setting you visit becomes a row."
NO_IMPORTANCE = "Four finished trials of a search show which coefficient matters most."
SEARCH_SECONDS = 1800
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


class TuneTab(Tab):
    """A map of two coefficients, a search over all, and the list of everything visited."""

    key = "tune"
    title = "Tune"
    live = False

    def __init__(self, page: Any) -> None:
        super().__init__(page)
        self._running: dict[str, Job] = {}

    def build(self) -> None:
        """Make the map, the search and the table of trials."""
        seconds = self.page.limits.session_seconds
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
            "<div class='nm-head nm-section'><h2>Search</h2><p>λ₁, λ₂ and the trim ratio together (for other methods: "
            "all their parameters).</p></div>"
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
            self.storage = gr.Textbox(
                "",
                label="Study storage",
                info="Optional: a database that other machines share, such as sqlite:///study.db.",
                visible=not deployment().public,
                elem_id="storage",
                min_width=220,
            )
        with gr.Row(elem_classes="nm-actions"):
            self.start = gr.Button(
                "Start the search", variant="primary", elem_id="start-search", min_width=140, scale=0
            )
            self.stop = gr.Button("Stop", elem_id="stop-search", min_width=80, scale=0)
            self.progress = gr.HTML(progress_bar(0, 0), elem_id="search-progress")
        with gr.Row(elem_classes="nm-figures"):
            self.parallel = PlotlyView(
                message(NO_SEARCH), label="Every trial across its coefficients", height=320, elem_id="trial-lines"
            )
            self.importance = PlotlyView(
                message(NO_IMPORTANCE), label="Importance of the coefficients", height=320, elem_id="importances"
            )
        self.table = TrialTable(elem_id="trials-table")
        self.found = gr.State((), time_to_live=seconds)
        self.mapped = gr.State(None, time_to_live=seconds)
        self.inputs = [self.found]
        self.outputs = [self.table]

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> list[Any]:
        """The table, with the settings visited by hand up to now."""
        return [trial_rows(self._rows(moment))]

    def _rows(self, moment: Moment) -> tuple[Trial, ...]:
        (found,) = moment.own.get(self.key) or ((),)
        return (*found, *moment.session.trials)

    # ------------------------------------------------------------------------------------------- events
    def wire(self) -> None:
        """Map, search, stop, apply."""
        page = self.page
        page.listen(
            self.map.click,
            self.draw_map,
            [self.landscape, self.mapped],
            extra=[self.pair],
            lane="search",
            show_progress="minimal",
        )
        searching = [self.progress, self.parallel, self.importance, self.table, self.found]
        page.listen(
            self.start.click,
            self.search,
            searching,
            extra=[self.sampler, self.trials, self.storage],
            lane="search",
        )
        for button in (self.stop, self.stop_map):
            page.attach(button.click, self.stop_work, [], [])
        controls = page.controls
        shown = [*controls.inputs, page.applied]
        page.listen(self.table.apply, applying(self.apply_row), shown)
        page.listen(self.parallel.cell, applying(self.apply_line), shown)
        page.listen(self.landscape.cell, applying(self.apply_point), shown, extra=[self.mapped])

    def draw_map(self, moment: Moment, pair: Any) -> Iterator[list[Any]]:
        """The landscape, point by point."""
        if moment.setting.method != "neuromerging":
            raise SettingError("The map is of NeuroMerging's coefficients: choose that method first.")
        if pair not in PAIRS:
            raise SettingError(f"The map can be of {' or '.join(PAIRS.values())}.")
        x_name, y_name = pair.split(":")
        job = self._begin(moment)
        yield [message("The first points are being measured.", "loading"), None]
        for landscape in moment.workspace.landscape(moment.setting, x_name, y_name, job=job):
            yield [tuning.landscape_contour(landscape), landscape]

    def search(self, moment: Moment, sampler: Any, trials: Any, storage: Any) -> Iterator[list[Any]]:
        """A search, trial by trial."""
        limits = self.page.limits
        if isinstance(trials, bool) or not isinstance(trials, (int, float)) or trials != trials or not trials >= 1:
            raise SettingError(f"The number of trials must be from 1 to {limits.max_trials}.")
        if trials > limits.max_trials:
            raise LimitError(f"At most {limits.max_trials} trials are possible here.")
        if storage and deployment().public:
            raise LimitError("A study storage can be named only when the app runs on your own machine.")
        search = Search(
            moment.workspace.validation_scores,
            moment.setting,
            trials=int(trials),
            sampler=sampler,
            storage=storage.strip() or None if isinstance(storage, str) else None,
            seed=moment.setting.seed,
            family=self._family(moment),
        )
        job = self._begin(moment)
        yield self._state(moment, search, running=True)
        try:
            for _ in search.run(job):
                yield self._state(moment, search, running=True)
        except Cancelled:
            pass
        yield self._state(moment, search, running=False)

    def _state(self, moment: Moment, search: Search, *, running: bool) -> list[Any]:
        found = search.rows()
        rows = (*found, *moment.session.trials)
        done = sum(row.state == "complete" for row in found)
        enough = done >= 2
        importances = search.importances() if not running or done % 5 == 0 else None
        return [
            progress_bar(done, search.total, running=running),
            tuning.parallel_coordinates(rows) if enough else message("The first trials are running.", "loading"),
            gr.skip() if importances is None else _importance(importances),
            trial_rows(rows),
            found,
        ]

    def _begin(self, moment: Moment) -> Job:
        """The stop button of a new piece of work; the page's earlier work stops."""
        self._stop(moment.page_id)
        job = Job(deadline_seconds=SEARCH_SECONDS)
        self._running[moment.page_id or ""] = job
        return job

    def stop_work(self, request: gr.Request) -> None:
        """Stop the page's map or search; what is finished stays."""
        self._stop(request.session_hash)

    def _stop(self, page_id: str | None) -> None:
        running = self._running.pop(page_id or "", None)
        if running is not None:
            running.stop()

    def forget(self, page_id: str | None) -> None:
        """Stop the work of a page that was closed."""
        self._stop(page_id)

    def apply_row(self, moment: Moment) -> list[Any]:
        """Put a trial's coefficients into the controls."""
        data = getattr(moment.event, "_data", None)
        row = data.get("row") if isinstance(data, dict) else None
        rows = self._rows(moment)
        if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < len(rows):
            raise SettingError("That row is no longer in the table. Try again.")
        return self.page.controls.updates(change(moment.setting, self._family(moment), **rows[row].hyperparameters))

    def apply_line(self, moment: Moment) -> list[Any]:
        """Put the coefficients of a clicked line into the controls."""
        rows = self._rows(moment)
        pick = read_pick(moment.event, {"trial": (len(rows),)})
        return self.page.controls.updates(
            change(moment.setting, self._family(moment), **rows[pick.index].hyperparameters)
        )

    def apply_point(self, moment: Moment, mapped: Any) -> list[Any]:
        """Put a clicked point of the map into the controls."""
        if not isinstance(mapped, Landscape):
            raise SettingError("There is no map yet: press Map first.")
        pick = read_pick(moment.event, {"landscape": mapped.value.shape})
        place = {mapped.x_name: float(mapped.x[pick.column]), mapped.y_name: float(mapped.y[pick.row])}
        return self.page.controls.updates(change(moment.setting, self._family(moment), **place))

    def _family(self, moment: Moment) -> Family:
        return self.page.controls.families[moment.setting.family]


def _importance(importances: dict[str, float]) -> Any:
    if not importances:
        return message(NO_IMPORTANCE)
    return tuning.importance_bars(importances)


def progress_bar(done: int, total: int, *, running: bool = False) -> str:
    """How far a search is."""
    if not total:
        return "<div class='nm-progress' hidden></div>"
    text = f"{done} of {total} trials" + ("" if running else ", finished" if done >= total else ", stopped")
    return (
        "<div class='nm-progress'>"
        f"<progress value='{done}' max='{total}' aria-label='Progress of the search'></progress>"
        f"<span role='status'>{text}</span></div>"
    )


def trial_rows(trials: Sequence[Trial]) -> str:
    """The table of trials, best first, with a button to apply each and a link to all of them as CSV."""
    complete = [(place, trial) for place, trial in enumerate(trials) if trial.value is not None]
    if not complete:
        return f"<p class='nm-empty'>{NO_SEARCH}</p>"
    complete.sort(key=lambda entry: -(entry[1].value or 0.0))
    names = list(dict.fromkeys(name for _, trial in complete for name in trial.hyperparameters))
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr><th scope='row'>{html.escape(trial.origin)} {trial.number}</th>"
        f"<td><b>{100 * (trial.value or 0):.2f} %</b></td>"
        + "".join(
            f"<td>{html.escape(short(trial.hyperparameters[name])) if name in trial.hyperparameters else '–'}</td>"
            for name in names
        )
        + f"<td>{trial.seconds:.1f} s</td><td><button type='button' data-row='{place}'>Apply</button></td></tr>"
        for place, trial in complete[:SHOWN_ROWS]
    )
    data = base64.b64encode(trials_to_csv(trials).encode()).decode("ascii")
    return (
        f"<div class='nm-scroll' tabindex='0'><table class='nm-table nm-trials'>"
        f"<caption>{len(complete)} setting{'s' if len(complete) != 1 else ''}, best first. "
        f"<a download='trials.csv' href='data:text/csv;base64,{data}'>Save all as CSV</a></caption><thead><tr>"
        f"<th scope='col'>Setting</th><th scope='col'>Mean validation accuracy</th>{head}<th scope='col'>Time</th>"
        f"<th scope='col'><span class='nm-alt'>Apply</span></th></tr></thead><tbody>{body}</tbody></table></div>"
    )
