"""The page: sidebar, readout, tabs, and the events that keep them in step.

Three things happen when a control moves. The *pictures* of the open tab are drawn, then *accuracy* is measured on
a small fixed part of the validation images, both for the newest position of the control. When the control has
rested for a moment, the page *settles*: the whole validation split is measured, the setting becomes a step of the
history, and the tabs that are costly to draw follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from neuromerge.deployment import Limits, deployment
from neuromerge.errors import NeuroMergeError, SettingError
from neuromerge.evaluation.families import Family, unreadable_families
from neuromerge.evaluation.families import families as known_families
from neuromerge.interface.api import add_api
from neuromerge.interface.controls import (
    FIRST_COMPARISON,
    NO_COMPARISON,
    SHOW_METHOD,
    build_controls,
    comparison_choices,
    pin_key,
    sigma_text,
    task_choices,
)
from neuromerge.interface.engine import Engine
from neuromerge.interface.export_tab import ExportTab
from neuromerge.interface.guard import guarded, unchanged, warn
from neuromerge.interface.interference_tab import InterferenceTab
from neuromerge.interface.memory import give_back
from neuromerge.interface.merge_tab import MergeTab
from neuromerge.interface.neuron_tab import NeuronTab
from neuromerge.interface.page import Moment, Page, Tab, applying, stamp
from neuromerge.interface.permalinks import decode
from neuromerge.interface.readout import empty_readout, loading_readout, readout, unreadable_notice
from neuromerge.interface.session import Pulse, Session
from neuromerge.interface.tour import Tour
from neuromerge.interface.tune_tab import TuneTab
from neuromerge.interface.zero_shot_tab import ZeroShotTab
from neuromerge.progress import UNATTENDED
from neuromerge.settings.choices import make_setting, preset
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.exploration.workspace import Workspace

TITLE = "NeuroMerge"
REST_SECONDS = 0.6
"""How long a control must be still before the page settles."""

TABS: tuple[type[Tab], ...] = (MergeTab, InterferenceTab, ZeroShotTab, NeuronTab, TuneTab, ExportTab)

HEADER = """
<header class="nm-header">
  <div class="nm-brand">
    <svg viewBox="0 0 32 32" width="30" height="30" aria-hidden="true">
      <path d="M5 27 L27 27" class="nm-mark-parallel"/><path d="M5 27 L5 5" class="nm-mark-orthogonal"/>
      <path d="M5 27 L22 10" class="nm-mark-merge"/><circle cx="22" cy="10" r="3.2" class="nm-mark-dot"/>
    </svg>
    <div><h1>NeuroMerge</h1>
    <p>Merge fine-tuned models neuron by neuron, and see where their tasks interfere.</p></div>
  </div>
  <button type="button" class="nm-mode" aria-label="Switch between light and dark">
    <svg viewBox="0 0 20 20" width="16" height="16" aria-hidden="true"><circle cx="10" cy="10" r="7" fill="none"
      stroke="currentColor" stroke-width="1.6"/><path d="M10 3 a7 7 0 0 1 0 14 z" fill="currentColor"/></svg>
    <span>Light / dark</span>
  </button>
</header>
"""

HEADER_SCRIPT = """
const mode = element.querySelector('.nm-mode');
const root = document.body;
root.style.background = 'var(--nm-raised)';
mode.addEventListener('click', () => {
  root.classList.toggle('dark');
  try { localStorage.setItem('neuromerge-mode', root.classList.contains('dark') ? 'dark' : 'light'); } catch (e) {}
});
try {
  const kept = localStorage.getItem('neuromerge-mode');
  const asked = new URLSearchParams(location.search).get('__theme');
  if (kept && !asked) root.classList.toggle('dark', kept === 'dark');
} catch (e) {}
"""

# On a phone the controls are a sheet over the lower half of the screen: it starts closed, so that the page is seen.
CLOSE_SIDEBAR_ON_PHONES = """
() => {
  if (window.innerWidth < 768) {
    const close = () => {
      const button = document.querySelector('.sidebar.open .toggle-button');
      if (button) { button.click(); }
    };
    setTimeout(close, 0);
  }
}
"""


def build(
    engine: Engine | None = None, families: Mapping[str, Family] | None = None, limits: Limits | None = None
) -> gr.Blocks:
    """The page as Gradio blocks, not launched yet.

    Args:
        engine: where the workspace comes from; None makes the process's own when it is first needed.
        families: the model families to offer; None: every known one.
        limits: what visitors may do; None reads them from the environment.

    Raises:
        SettingError: when a limit in the environment is not a number, or no family can be read.
    """
    unreadable = unreadable_families() if families is None else {}
    families = known_families() if families is None else families
    limits = deployment().limits if limits is None else limits
    engine = Engine() if engine is None else engine
    pulse = Pulse(4 * limits.sessions)

    with gr.Blocks(
        title=TITLE, fill_width=True, analytics_enabled=False, delete_cache=(300, limits.export_seconds)
    ) as demo:
        with gr.Sidebar(width=328, elem_id="controls"):
            controls = build_controls(families)
        gr.HTML(HEADER, js_on_load=HEADER_SCRIPT)
        if unreadable:
            gr.HTML(unreadable_notice(unreadable))
        strip = gr.HTML(loading_readout(), elem_id="readout")
        page = Page(
            engine=engine,
            limits=limits,
            controls=controls,
            pulse=pulse,
            tab=gr.State(TABS[0].key, time_to_live=limits.session_seconds),
            session=gr.State(Session(), time_to_live=limits.session_seconds),
            applied=gr.State(0, time_to_live=limits.session_seconds),
            rested=gr.State(0, time_to_live=limits.session_seconds),
            gathered=gr.JSON([component.value for component in controls.gathered], visible=False),
            readout=strip,
            turn=gr.Textbox(visible="hidden", elem_id="turn", label="Tab to open", interactive=False),
        )
        tour = Tour(page, families)
        tour.build()
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            for make in TABS:
                entry = make(page)
                with gr.Tab(entry.title, id=entry.key, elem_id=f"tab-{entry.key}") as panel:
                    entry.build()
                page.tabs.append(entry)
                page.panels[entry.key] = panel
        link = gr.Textbox(visible="hidden", elem_id="permalink", label="Permalink", interactive=False)
        Wiring(page, link).connect(demo)
        tour.wire()
        add_api(engine, families, limits)
    demo.queue(max_size=limits.queue_size, default_concurrency_limit=limits.light_workers)
    return demo


class Wiring:
    """The events that belong to the page as a whole."""

    def __init__(self, page: Page, link: gr.Textbox) -> None:
        self.page = page
        self.link = link
        self.merge: MergeTab = page.named(MergeTab.key)
        controls = page.controls
        self.scores = [page.readout, controls.sigma, *controls.auto_widgets, *self.merge.outputs]
        self.live = [tab for tab in page.tabs if tab.live and tab is not self.merge]
        self.resting = [tab for tab in page.tabs if not tab.live]
        self.history = [page.session, controls.undo, controls.redo]

    # ------------------------------------------------------------------------------------------- connecting
    def connect(self, demo: gr.Blocks) -> None:
        """Attach every handler."""
        page, controls = self.page, self.page.controls
        for control in controls.hyperparameters:
            if control.auto is not None:
                # A slider that is moved by hand is meant: its Auto goes off at once, without asking the server.
                control.widget.input(None, None, control.auto, js="() => false", show_progress="hidden")
        page.gather([component.input for component in controls.gathered if component is not controls.family])
        page.gather(page.applied.change)
        self._live(page.gathered.change)
        page.attach(controls.method.change, None, [controls.method], [], js=SHOW_METHOD)

        applied = [*controls.inputs, page.applied]
        for key, button in controls.presets.items():
            page.listen(button.click, applying(functools.partial(self.use_preset, key)), applied)
        page.attach(controls.reset.click, guarded(applying(self.reset), len(applied)), [], applied)
        for way, button in (("undo", controls.undo), ("redo", controls.redo)):
            changed = [*controls.inputs, *self.history, page.applied]
            handler = guarded(applying(functools.partial(self.travel, way)), len(changed))
            page.attach(button.click, handler, [page.session, page.gathered], changed)
        family = [controls.tasks, page.readout, page.applied]
        page.attach(
            controls.family.input, guarded(applying(self.change_family), len(family)), [controls.family], family
        )
        ticked = [controls.tasks, page.applied]
        page.attach(controls.all_tasks.click, guarded(applying(self.every_task), 2), [controls.family], ticked)
        page.attach(controls.no_tasks.click, guarded(applying(self.no_task), 2), [], ticked)

        page.listen(controls.pin.click, applying(self.pin), [page.session, controls.compare, page.applied])
        copy = page.listen(controls.link.click, self.copy_link, [self.link])
        copy.then(None, [self.link], None, js=COPY_LINK)

        for tab in page.tabs:
            outputs = self.scores if tab is self.merge else tab.outputs
            select = functools.partial(self.open_tab, tab)
            page.gather(page.panels[tab.key].select)  # what opened it may just have set the controls, too
            page.listen(
                page.panels[tab.key].select, select, [page.tab, *outputs], lane="heavy" if not tab.live else "light"
            )
            tab.wire()

        opened = [
            *controls.inputs,
            *self.history,
            controls.compare,
            page.turn,
            page.tab,
            page.applied,
            *(component for tab in page.tabs for component in tab.inputs),
            *self.scores,
        ]
        load = page.attach(demo.load, guarded(self.open_page, len(opened)), [], opened, js=CLOSE_SIDEBAR_ON_PHONES)
        self._follow(load)
        page.turn.change(None, [page.turn], None, js=OPEN_TAB)
        page.listen(
            page.rested.change,
            lambda moment: self._drawn(moment, self.resting),
            [output for tab in self.resting for output in tab.outputs],
            lane="heavy",
            told=lambda error: None,
            trigger_mode="always_last",
        )
        demo.unload(self.close_page)

    def _live(self, trigger: Any) -> None:
        """On `trigger`: draw the open tab, which costs least, then measure, and then settle.

        One event for drawing and measuring, which holds only the newest position of the control: another request
        between the two costs a tenth of a second, and two handlers of one event may not wait side by side (Gradio
        repeats the whole event for each that had to wait, so they would call each other without end). Why a merge
        cannot be made stands where its score would be, once; the pictures just stay.
        """
        pictures = [output for tab in self.live for output in tab.outputs]

        def follow(moment: Moment) -> Iterator[list[Any]]:
            if self._open(moment) in self.live:
                yield [*self._drawn(moment, self.live), *unchanged(len(self.scores))]
            yield [*unchanged(len(pictures)), *self.measure(moment)]

        def why(error: NeuroMergeError) -> list[Any]:
            return [*unchanged(len(pictures)), *self.why(error)]

        event = self.page.listen(
            trigger,
            follow,
            [*pictures, *self.scores],
            moves=True,
            told=why,
            trigger_mode="always_last",
        )
        self._follow(event)

    def _follow(self, event: Any) -> None:
        """After a quick measurement: wait until the controls rest, then settle."""
        rest = event.then(
            rest_a_while,
            None,
            None,
            show_progress="hidden",
            api_visibility="private",
            concurrency_limit=None,
            concurrency_id="idle",
            trigger_mode="multiple",
        )
        outputs = [*self.history, *self.scores, self.page.rested]
        self.page.listen(
            rest.then,
            self.settle,
            outputs,
            lane="settle",
            told=lambda error: None,
            trigger_mode="multiple",
        )

    @staticmethod
    def _drawn(moment: Moment, tabs: list[Tab]) -> list[Any]:
        """The outputs of `tabs`: the open one is drawn, the others stay as they are."""
        return [value for tab in tabs for value in (tab.draw(moment) if tab.key == moment.tab else tab.skip())]

    # ------------------------------------------------------------------------------------------- live
    def measure(self, moment: Moment) -> list[Any]:
        """Accuracy on the quick split, and what Auto came to."""
        board = self.merge.board(moment, "quick")
        scores = self._scores(moment, board)
        self.page.pulse.answered(moment.page_id)
        return scores

    def why(self, error: NeuroMergeError) -> list[Any]:
        """The reason why there is no score, in its place."""
        return [empty_readout(str(error)), *unchanged(len(self.scores) - 1)]

    def _scores(self, moment: Moment, board: Any) -> list[Any]:
        summary = moment.workspace.summary(moment.setting)
        controls = self.page.controls
        bars = self.merge.show(moment, board) if moment.tab == self.merge.key else self.merge.skip()
        return [
            readout(moment.setting, board, summary),
            sigma_text(moment.setting, summary),
            *controls.resolved(moment.setting, summary),
            *bars,
        ]

    def _open(self, moment: Moment) -> Tab:
        tab: Tab = self.page.named(moment.tab)
        return tab

    def settle(self, moment: Moment) -> Any:
        """The whole validation split, a step of the history, and the tabs that were waiting."""
        if not self.page.pulse.settle(moment.page_id, REST_SECONDS * 0.9):
            return unchanged(len(self.history) + len(self.scores) + 1)
        begun = time.monotonic()
        board = self.merge.board(moment, "validation")
        seconds = time.monotonic() - begun
        scores = self._scores(moment, board)
        by_task = {task: score.value for task, score in board.merge.items() if task in board.merged}
        session = moment.session.visit(moment.setting).score(moment.setting, by_task, seconds)
        give_back()
        return [session, *history_buttons(session), *scores, gr.skip() if self._open(moment).live else stamp()]

    def open_tab(self, tab: Tab, moment: Moment) -> Any:
        """Remember the open tab and draw it.

        A fresh page selects its first tab by itself; what opens the page draws that one.
        """
        if tab is self.merge and self.page.pulse.number(moment.page_id) == 0:
            return unchanged(1 + len(self.scores))
        moment = replace(moment, tab=tab.key)
        if tab is not self.merge:
            return [tab.key, *tab.draw(moment)]
        split = "validation" if self.page.pulse.is_settled(moment.page_id) else "quick"
        return [tab.key, *self._scores(moment, self.merge.board(moment, split))]

    # ------------------------------------------------------------------------------------------- controls
    def use_preset(self, key: str, moment: Moment) -> list[Any]:
        """The preset on the present family and tasks."""
        family = self.page.controls.families[moment.setting.family]
        return self.page.controls.updates(preset(key).apply(moment.setting, family))

    def reset(self) -> list[Any]:
        """The merge that the page opens with."""
        return self.page.controls.updates(first_setting(self.page.controls.families))

    def travel(self, way: str, session: Session, gathered: Any) -> list[Any]:
        """One step back or forward in the history; controls that are not legal just now count as unmoved."""
        history = session.history
        if history is None:
            return list(unchanged(len(self.page.controls.inputs) + len(self.history)))
        with contextlib.suppress(SettingError):
            _, *values = self.page.controls.held(gathered)
            history = history.visit(self.page.controls.setting(values))
        session = session.at(history.undo() if way == "undo" else history.redo())
        assert session.history is not None
        return [*self.page.controls.updates(session.history.present), session, *history_buttons(session)]

    def change_family(self, family: str) -> list[Any]:
        """The experts of another family."""
        entry = self.page.controls.families.get(family)
        if entry is None:
            return list(unchanged(2))
        tasks = gr.update(choices=task_choices(entry), value=list(entry.default_tasks or entry.experts))
        return [tasks, loading_readout(f"Opening {entry.title} and its experts …")]

    def every_task(self, family: str) -> list[Any]:
        """Tick every expert."""
        entry = self.page.controls.families.get(family)
        return [list(entry.experts) if entry else gr.skip()]

    @staticmethod
    def no_task() -> list[Any]:
        """Untick every expert."""
        return [[]]

    def pin(self, moment: Moment) -> list[Any]:
        """Remember the present setting as something to compare with."""
        session = moment.session.pin(moment.setting)
        gr.Info("Pinned. From now on every merge is compared with this setting.", duration=4)
        return [session, gr.update(choices=comparison_choices(session), value=pin_key(moment.setting))]

    def copy_link(self, moment: Moment) -> str:
        """The query string that restores this page; the browser puts it into the address and the clipboard."""
        gr.Info("This page's link is in the address bar, and in the clipboard where the browser allows it.", duration=4)
        return self.page.permalink(moment)

    # ------------------------------------------------------------------------------------------- opening
    def open_page(self, request: gr.Request, event: gr.EventData) -> list[Any]:
        """A fresh page: what its address asks for, merged and measured."""
        page, controls = self.page, self.page.controls
        page.pulse.beat(request.session_hash)
        state, messages = decode(dict(request.query_params), controls.families, next(iter(controls.families)))
        for message in messages:
            warn(message, title="The link")
        session, choice, compare = Session(), gr.skip(), controls.compare.value
        if not state.compared:
            compare = NO_COMPARISON
            choice = gr.update(value=compare)
        elif state.pinned is not None:
            plain = controls.comparison(state.pinned.method, state.setting, session)[0]
            if state.pinned == plain:
                compare = state.pinned.method
            else:
                session, compare = session.pin(state.pinned), pin_key(state.pinned)
            choice = gr.update(choices=comparison_choices(session), value=compare)
        tab = state.tab or self.merge.key
        values: list[Any] = [*self.page.controls.updates(state.setting), session, *history_buttons(session)]
        values += [choice, gr.skip() if tab == self.merge.key else page.turn_to(tab), tab]
        values += [stamp() if request.query_params else gr.skip()]
        values += [value for entry in page.tabs for value in entry.restore(state)]
        try:
            pinned, label = controls.comparison(compare, state.setting, session)
            moment = Moment(
                page_id=request.session_hash,
                tab=tab,
                session=session,
                setting=state.setting,
                pinned=pinned,
                pinned_label=label,
                own={},
                event=event,
                progress=gr.Progress(),
                job=UNATTENDED,
                workspace=page.engine.workspace(),
            )
            return [*values, *self.measure(moment)]
        except NeuroMergeError as error:
            # The page itself stays usable, and the reason stays on it.
            return [*values, *self.why(error)]

    def close_page(self, request: gr.Request) -> None:
        """Forget a page that was closed."""
        self.page.pulse.forget(request.session_hash)
        for tab in self.page.tabs:
            tab.forget(request.session_hash)


# A click on the tab, so that what a visitor's own click starts follows here, too.
OPEN_TAB = """
(turn) => {
  const button = document.getElementById(`tab-${turn.split(' ')[0]}-button`);
  if (button && button.getAttribute('aria-selected') !== 'true') { button.click(); }
}
"""

COPY_LINK = """
(query) => {
  const url = location.origin + location.pathname + '?' + query;
  history.replaceState(null, '', url);
  if (navigator.clipboard) { navigator.clipboard.writeText(url).catch(() => {}); }
}
"""


async def rest_a_while() -> None:
    """Wait, without a thread, until the controls may have come to rest."""
    await asyncio.sleep(REST_SECONDS)


def history_buttons(session: Session) -> list[Any]:
    """Undo and redo, usable where there is a step to take."""
    history = session.history
    return [
        gr.update(interactive=bool(history and history.past)),
        gr.update(interactive=bool(history and history.future)),
    ]


def first_setting(families: Mapping[str, Family]) -> Setting:
    """The merge that a fresh page opens with: the first family, its default tasks, the default method on auto."""
    family = next(iter(families.values()))
    return make_setting(family, family.default_tasks or None)


def warm_up(engine: Engine, families: Mapping[str, Family]) -> None:
    """Make, in the background, the merge that every fresh page opens with, and what it is compared with."""
    setting = first_setting(families)

    def work(workspace: Workspace) -> None:
        pinned = make_setting(families[setting.family], setting.tasks, FIRST_COMPARISON)
        for split in ("quick", "validation"):
            workspace.board(setting, split, pinned=pinned)
        workspace.summary(setting)

    engine.warm_up(work)
