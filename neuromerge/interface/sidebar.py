"""What the sidebar's buttons and menus do beside describing the merge."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import gradio as gr

from neuromerge.errors import SettingError
from neuromerge.interface.components.controls import (
    SHOW_FAMILY,
    SHOW_METHOD,
    comparison_choices,
    pin_key,
    task_choices,
    weight_rows,
)
from neuromerge.interface.components.readout import loading_readout
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.session import Session
from neuromerge.settings.choices import first_setting, preset

COPY_LINK = """
(query) => {
  const url = window.NeuroMergePage.address(query);
  history.replaceState(history.state, '', url);
  if (navigator.clipboard) { navigator.clipboard.writeText(url).catch(() => {}); }
}
"""
FOLLOW_LINK = """
(query) => {
  if (!new URLSearchParams(location.search).has('v')) { return; }
  history.replaceState(history.state, '', window.NeuroMergePage.address(query));
}
"""
"""An address that holds a permalink stays true: a reload shows the page as it is."""


class Sidebar:
    """Presets, undo and redo, families and experts, pins and links. All of it is wanted, whatever moves meanwhile."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def wire(self, events: Events) -> None:
        """Listen to the sidebar."""
        page, controls, signals = self.page, self.page.controls, self.page.signals
        listen = functools.partial(events.listen, lasting=True)
        for control in controls.hyperparameters:
            if control.auto is not None:
                # A slider that is moved by hand is meant: its Auto goes off at once, without asking the server.
                events.in_browser(control.widget.input, [], [control.auto], AUTO_OFF)
        # A family that is chosen brings other experts, and only then is the sidebar whole again.
        silent = (controls.family, controls.weights, controls.profile, controls.edit)
        for group in controls.groups:
            events.gather([component.input for component in group if component not in silent], group)
        events.gather(controls.weights.moved, [controls.weights])
        events.gather(signals.controls_set.change)
        events.in_browser(controls.method.change, [controls.method], [], SHOW_METHOD)
        events.in_browser(controls.family.change, [controls.family], [], SHOW_FAMILY)

        for key, button in controls.presets.items():
            listen(button.click, functools.partial(self.use_preset, key), page.settable)
        listen(controls.reset.click, self.reset, page.settable)
        history = [*page.settable, signals.session, controls.undo, controls.redo]
        for way, button in (("undo", controls.undo), ("redo", controls.redo)):
            listen(button.click, functools.partial(self.travel, way), history)
        shape = [controls.weights, controls.profile, controls.edit]
        family = [controls.tasks, *shape, page.readout, signals.controls_set, *page.fetch.outputs]
        listen(controls.family.input, self.change_family, family, extra=[controls.family])
        ticked = [controls.tasks, signals.controls_set]
        listen(controls.all_tasks.click, self.every_task, ticked, extra=[controls.family])
        listen(controls.no_tasks.click, self.no_task, ticked)
        for (name, count), button in controls.suites.items():
            listen(button.click, functools.partial(self.suite, name, count), ticked)
        listen(controls.pin.click, self.pin, [signals.session, controls.compare, signals.controls_set])
        copied = listen(controls.link.click, self.copy_link, [signals.address])
        events.in_browser(copied.then, [signals.address], [], COPY_LINK)

    # ------------------------------------------------------------------------------------------- the merge
    def use_preset(self, key: str, moment: Moment) -> Changes:
        """The preset on the present family and tasks."""
        family = self.page.controls.family_called(moment.setting.family)
        return self.page.set_controls(preset(key).apply(moment.setting, family))

    def reset(self, moment: Moment) -> Changes:
        """The merge that the page opens with."""
        return self.page.set_controls(first_setting(self.page.controls.families))

    def travel(self, way: str, moment: Moment) -> Changes:
        """One step back or forward in the history; controls that are not legal just now count as unmoved."""
        history = moment.session.history
        if history is None:
            return {}
        with contextlib.suppress(SettingError):
            history = history.visit(moment.setting)
        history = history.undo() if way == "undo" else history.redo()
        return {**self.page.set_controls(history.present), **remembered(self.page, moment.session.at(history))}

    # ------------------------------------------------------------------------------------------- the models
    def change_family(self, moment: Moment) -> Changes:
        """The experts of another family; the shape of the strength was one over the parts of the old model."""
        controls = self.page.controls
        entry = controls.family_called(moment.value(controls.family))
        held = controls.read(moment.value(self.page.signals.sidebar))
        if held[controls.profile] or held[controls.edit]:
            gr.Info("Factors on parts of the model begin anew with another family: its parts are others.", duration=6)
        tasks = gr.update(choices=task_choices(entry), value=list(entry.default_tasks or entry.experts))
        waiting = loading_readout(f"Opening {entry.title} and its experts …")
        fresh = {controls.weights: weight_rows(entry), **controls.shaped({})}
        shown = {self.page.readout: waiting, **self.page.fetch.nothing()}
        return self.page.announced({controls.tasks: tasks, **fresh, **shown})

    def every_task(self, moment: Moment) -> Changes:
        """Tick every expert."""
        controls = self.page.controls
        entry = controls.family_called(moment.value(controls.family))
        return self.page.announced({controls.tasks: list(entry.experts)})

    def suite(self, family: str, count: int, moment: Moment) -> Changes:
        """Tick the experts of a suite of the literature."""
        experts = list(self.page.controls.family_called(family).experts)
        return self.page.announced({self.page.controls.tasks: experts[:count]})

    def no_task(self, moment: Moment) -> Changes:
        """Untick every expert."""
        return self.page.announced({self.page.controls.tasks: []})

    # ------------------------------------------------------------------------------------------- comparing, sharing
    def pin(self, moment: Moment) -> Changes:
        """Remember the present setting as something to compare with."""
        session = moment.session.pin(moment.setting)
        gr.Info("Pinned. From now on every merge is compared with this setting.", duration=4)
        menu = gr.update(choices=comparison_choices(session), value=pin_key(moment.setting))
        return self.page.announced({self.page.signals.session: session, self.page.controls.compare: menu})

    def copy_link(self, moment: Moment) -> Changes:
        """The query string that restores this page; the browser puts it into the address and the clipboard."""
        gr.Info("This page's link is in the address bar, and in the clipboard where the browser allows it.", duration=4)
        return {self.page.signals.address: self.page.permalink(moment)}


AUTO_OFF = "() => false"


def remembered(page: Page, session: Session) -> dict[Any, Any]:
    """The page's memory, and undo and redo usable where there is a step to take."""
    history = session.history
    return {
        page.signals.session: session,
        page.controls.undo: gr.update(interactive=bool(history and history.past)),
        page.controls.redo: gr.update(interactive=bool(history and history.future)),
    }
