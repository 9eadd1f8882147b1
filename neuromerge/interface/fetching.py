"""The panel of a download: it shows how far it is, and the page goes on by itself when something has arrived.

No event waits for a download. A clock in the browser asks once a second how far it is; what has arrived sets
`signals.arrived`, and the page follows as if a control had moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from neuromerge.engine.downloads import Fetching
from neuromerge.interface.components.fetching import fetching_panel
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.signals import Signals
from neuromerge.settings.choices import first_setting
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.exploration.protocol import Explorer
    from neuromerge.interface.events import Events
    from neuromerge.interface.page import Page

ASK_SECONDS = 1.0


class FetchPanel:
    """The download of what the page shows."""

    def __init__(self, signals: Signals) -> None:
        """Make the components where the caller's layout context is."""
        self.signals = signals
        self.panel = gr.HTML(visible=False, elem_id="fetching")
        with gr.Row(visible=False, elem_classes="nm-actions nm-fetching-actions") as self.buttons:
            self.stop = gr.Button("Stop", size="sm", min_width=0, scale=0, elem_id="fetch-stop")
            self.resume = gr.Button("Go on", size="sm", min_width=0, scale=0, elem_id="fetch-resume")
            self.without = gr.Button("Merge the others", size="sm", min_width=0, scale=0, elem_id="fetch-without")
            self.back = gr.Button("Back", size="sm", min_width=0, scale=0, elem_id="fetch-back")
        self.clock = gr.Timer(ASK_SECONDS, active=False)

    @property
    def outputs(self) -> list[Any]:
        """What `shown` changes."""
        return [self.panel, self.buttons, self.stop, self.resume, self.without, self.back, self.clock]

    # ------------------------------------------------------------------------------------------- asking
    def want(self, page: Page, explorer: Explorer, setting: Setting, page_id: str | None) -> Fetching | None:
        """Fetch what a setting needs for as long as the page is there; how far that is."""
        who = page_id or ""
        return explorer.want(setting, who, lambda: page.presence.is_there(who))

    def nothing(self) -> Changes:
        """No panel: nothing is being fetched."""
        return {
            self.panel: gr.update(value="", visible=False),
            self.buttons: gr.update(visible=False),
            self.clock: gr.Timer(active=False),
        }

    def shown(self, page: Page, fetching: Fetching, family: str) -> Changes:
        """The panel for a download of the family of that name."""
        families = page.controls.families
        first = next(iter(families.values()))
        failed = [item for item in fetching.failed if item.part.is_weights]
        some_left = len(failed) < len(fetching.weights) - 1 and all(item.part.task for item in failed)
        return {
            self.panel: gr.update(value=fetching_panel(fetching, families[family].title), visible=True),
            self.buttons: gr.update(visible=True),
            self.stop: gr.update(visible=not fetching.is_over),
            self.resume: gr.update(
                visible=fetching.stopped or bool(fetching.failed), value="Go on" if fetching.stopped else "Try again"
            ),
            self.without: gr.update(visible=bool(failed) and some_left, value="Merge without what is missing"),
            self.back: gr.update(
                visible=not fetching.has_weights and family != first.name, value=f"Back to {first.title}"
            ),
            self.clock: gr.Timer(active=not fetching.is_over),
        }

    # ------------------------------------------------------------------------------------------- events
    def wire(self, page: Page, events: Events) -> None:
        """Listen to the clock and the buttons."""
        arrived = self.signals.arrived
        family = page.controls.family
        events.attach(
            self.clock.tick, self._tick(page), [arrived, family], [*self.outputs, arrived], lane="idle", queue=False
        )
        events.listen(self.stop.click, self._then(page, "stop_fetching"), self.outputs, lasting=True)
        events.listen(self.resume.click, self._then(page, "resume_fetching"), self.outputs, lasting=True)
        events.listen(self.without.click, self._without_failed(page), page.settable, lasting=True)
        events.listen(self.back.click, self._go_back(page), [*page.settable, *self.outputs], lasting=True)

    def _tick(self, page: Page) -> Callable[..., Changes]:
        def tick(arrived: float | None, family: str, request: gr.Request) -> Changes:
            fetching = page.loader.workspace().fetching(request.session_hash or "")
            if fetching is None or family not in page.controls.families:
                return self.nothing()
            changes = self.nothing() if fetching.is_whole else self.shown(page, fetching, family)
            return changes if fetching.arrived == arrived else {**changes, self.signals.arrived: fetching.arrived}

        return tick

    def _then(self, page: Page, what: str) -> Callable[[Moment], Changes]:
        def act(moment: Moment) -> Changes:
            explorer, who = moment.explorer(), moment.page_id or ""
            getattr(explorer, what)(who)
            fetching = explorer.fetching(who)
            return self.nothing() if fetching is None else self.shown(page, fetching, moment.setting.family)

        return act

    def _without_failed(self, page: Page) -> Callable[[Moment], Changes]:
        def act(moment: Moment) -> Changes:
            fetching = moment.explorer().fetching(moment.page_id or "")
            missing = {item.part.task for item in fetching.failed if item.part.is_weights} if fetching else set()
            left = [task for task in moment.setting.tasks if task not in missing]
            return page.announced({page.controls.tasks: gr.update(value=left)})

        return act

    def _go_back(self, page: Page) -> Callable[[Moment], Changes]:
        def act(moment: Moment) -> Changes:
            moment.explorer().stop_fetching(moment.page_id or "")
            return {**page.set_controls(first_setting(page.controls.families)), **self.nothing()}

        return act
