"""The Zero-shot tab: real pictures, what the models make of them, and the visitor's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import gradio as gr

from neuromerge.deployment import deployment
from neuromerge.errors import Cancelled, NeuroMergeError, SettingError
from neuromerge.evaluation.families import TaskSpec
from neuromerge.exploration.results import USUAL_PROMPT
from neuromerge.figures.confusion import confusion_matrix
from neuromerge.interface.components.controls import short_title
from neuromerge.interface.components.pictures import (
    PictureGrid,
    PictureInput,
    gallery_cards,
    notes_below,
    prediction_columns,
)
from neuromerge.interface.components.tables import own_table
from neuromerge.interface.components.text import bring, way_back
from neuromerge.interface.events import Events
from neuromerge.interface.guard import silent
from neuromerge.interface.limits import check_class_names, check_template
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.pictures import MAX_PATH, archive_limits, own_source, read_picture
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.signals import stamp
from neuromerge.interface.state import TabState, linked, one_of
from neuromerge.interface.tab import Tab
from neuromerge.settings.choices import describe

FILTERS = {
    "all": "All pictures",
    "merge_wrong": "Merge wrong, expert right",
    "expert_wrong": "Merge right, expert wrong",
}
NOTHING_YET = (
    "<p class='nm-empty'>Add a picture and press Classify. "
    "The base, every expert and this merge answer side by side.</p>"
)
TAKE_SUGGESTED = """
(suggested, ...held) => {
  const untouched = suggested && held.every((text, place) => text === suggested.instead_of[place]);
  return untouched ? suggested.values : held.map(() => ({ __type__: 'update' }));
}
"""
"""The classes and the prompt of another task, where the visitor has not written some while the server answered."""


@dataclass(frozen=True)
class ZeroShotState(TabState):
    """The gallery's task ("" for the family's first), which of its pictures, and the page of them, from 0.

    `own` is where the visitor's own folders of classes are ("" for none), and `prompt` what they were asked with.
    """

    task: str = linked("task", "", one_of(lambda family: family.tasks), of_family=True)
    filter: str = next(iter(FILTERS))
    at: int = 0
    own: str = ""
    prompt: str = ""


class ZeroShotTab(Tab[ZeroShotState]):
    """Gallery, confusion and the visitor's own picture. Costs an evaluation, so it follows when controls rest."""

    key = "zero_shot"
    title = "Zero-shot"
    state = ZeroShotState
    live = False

    def build(self) -> None:
        """Make the gallery with its filters, the confusion picture and the form for an own picture."""
        limits = self.page.limits
        family = next(iter(self.page.controls.families.values()))
        choices = [(short_title(family, name), name) for name in family.tasks]
        gr.HTML(
            "<div class='nm-head'><h2>What the models see</h2><p>A CLIP model names a picture by comparing it with the "
            "class names, written out as sentences. No class was ever trained into the merge as such. Validation "
            "pictures of one task:</p></div>"
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.task = gr.Dropdown(
                choices, value=choices[0][1], label="Task", elem_id="gallery-task", min_width=160, scale=0
            )
            self.filter = gr.Radio(
                [(title, key) for key, title in FILTERS.items()],
                value="all",
                label="Show",
                elem_id="gallery-filter",
                elem_classes="nm-pills",
                min_width=320,
                scale=1,
            )
        self.items = gr.State((), time_to_live=limits.session_seconds)
        self.grid = PictureGrid(elem_id="gallery")
        with gr.Row(elem_classes="nm-actions"):
            self.earlier = gr.Button("← Earlier", size="sm", elem_id="gallery-earlier", min_width=0, scale=0)
            self.later = gr.Button("More →", size="sm", elem_id="gallery-later", min_width=0, scale=0)
        self.confusion = PlotlyView(label="Confusion of the merge", height=360, elem_id="confusion")

        gr.HTML(
            "<div class='nm-head nm-section'><h2>Your own picture</h2><p>Any picture, any classes. It stays on this "
            f"server for a few minutes and is then deleted.</p>{way_back('gallery', 'the pictures')}</div>",
            elem_id="own-head",
        )
        with gr.Row(elem_classes="nm-own"):
            with gr.Column(scale=2, min_width=240):
                self.picture = PictureInput(
                    label="Picture",
                    sources=["upload", "clipboard", "webcam"],
                    height=240,
                    elem_id="own-picture",
                    buttons=[],
                )
            with gr.Column(scale=3, min_width=260):
                self.classes = gr.Textbox(
                    self._class_list(family.tasks[choices[0][1]]),
                    label="Class names",
                    info=f"One a line; 2 to {limits.max_classes}.",
                    lines=6,
                    max_lines=10,
                    max_length=limits.max_classes * (limits.max_class_length + 2),
                    elem_id="own-classes",
                )
                self.template = gr.Textbox(
                    family.tasks[choices[0][1]].templates[0],
                    label="Prompt",
                    info="{} stands for the class name.",
                    max_length=limits.max_prompt_length,
                    elem_id="own-template",
                )
                with gr.Row(elem_classes="nm-actions"):
                    self.classify = gr.Button("Classify", variant="primary", elem_id="classify", min_width=120, scale=0)
                    self.fill = gr.Button("Use the classes of this task", size="sm", elem_id="fill-classes", scale=0)
        self.suggested = gr.JSON(visible=False)
        self.answer = gr.HTML(NOTHING_YET, elem_id="own-answer")
        self._build_own_classes()
        self.holders = {"task": self.task, "filter": self.filter}
        self.filled = [self.confusion]
        self.outputs = [self.task, self.grid, self.confusion, self.items, self.earlier, self.later, self.own_board]

    def _build_own_classes(self) -> None:
        """The form for many own pictures."""
        deployed, limits = deployment(), self.page.limits
        gr.HTML(
            "<div class='nm-head nm-section'><h2>Many pictures of your own</h2><p>A zip archive with one folder for "
            "each class: how often are base, experts and this merge right? The names of the folders are the "
            "classes. The answer follows the controls.</p></div>",
            elem_id="own-classes-head",
        )
        if not deployed.own_pictures:
            gr.HTML(
                "<p class='nm-empty'>Archives of pictures are not taken on this server. The app on your own machine "
                "takes them, and so does <code>neuromerge evaluate --images</code>.</p>"
            )
        with gr.Row(elem_classes="nm-own", visible=deployed.own_pictures):
            self.archive = gr.File(
                label=f"Zip archive, up to {limits.max_archive_bytes / 2**20:.0f} MB",
                file_types=[".zip"],
                height=130,
                elem_id="own-archive",
                scale=2,
                min_width=240,
            )
            with gr.Column(scale=3, min_width=260):
                self.folder = gr.Textbox(
                    label="Or a folder on this machine",
                    placeholder="~/pictures/birds",
                    max_length=MAX_PATH,
                    visible=deployed.allow_local,
                    elem_id="own-folder",
                )
                self.own_prompt = gr.Textbox(
                    label="Prompt for these classes",
                    placeholder=f"empty: that of the task with these classes, or: {USUAL_PROMPT}",
                    max_length=limits.max_prompt_length,
                    elem_id="own-prompt",
                )
                self.measure = gr.Button(
                    "Measure on these pictures", variant="primary", elem_id="measure-own", min_width=180, scale=0
                )
        self.own_board = gr.HTML("", elem_id="own-board")

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> Changes:
        """Gallery of the chosen task, and its confusion as far as it is known; `fill_in` has the rest."""
        state = self._chosen(moment)
        titles = self.page.controls.titles(moment.setting)
        page = moment.workspace.gallery(state.task, state.filter, state.at)
        confusion = next(moment.workspace.confusion(state.task))
        return {
            **self.hold(replace(state, at=page.page)),
            self.task: gr.update(choices=[(title, name) for name, title in titles.items()], value=state.task),
            self.grid: gallery_cards(page.items) + notes_below(page.notes),
            self.confusion: confusion_matrix(confusion),
            self.items: page.items,
            self.earlier: gr.update(interactive=page.page > 0),
            self.later: gr.update(interactive=page.page + 1 < page.pages),
            **self._draw_own(moment, state),
        }

    def fill_in(self, moment: Moment) -> Iterator[Changes]:
        """The confusion matrix on ever more pictures, after `draw` has shown what was known."""
        growing = moment.workspace.confusion(self._chosen(moment).task)
        next(growing)
        for confusion in growing:
            yield {self.confusion: confusion_matrix(confusion)}

    def put_off(self, moment: Moment) -> Changes:
        """Said beside the page: the figure tells on how many images it stands."""
        known = next(moment.workspace.confusion(self._chosen(moment).task))
        if known.counts.sum() < known.pictures:
            gr.Info(
                "Many visitors wait, so the confusion stays at the images it has. Leave the tab and come back to go on."
            )
        return {}

    def _draw_own(self, moment: Moment, state: ZeroShotState) -> Changes:
        """The board of the visitor's own pictures; why it cannot be drawn stands in its place."""
        if not state.own:
            return {}
        try:
            return {self.own_board: self._own_answer(moment, state)}
        except Cancelled:
            raise
        except NeuroMergeError as error:
            return {self.own_board: notes_below((str(error),))}

    def _own_answer(self, moment: Moment, state: ZeroShotState) -> str:
        limits = self.page.limits
        board = moment.workspace.own_pictures(state.own, state.prompt, archive_limits(limits), limits.max_classes)
        return own_table(board, describe(moment.setting)) + notes_below(board.notes)

    def _chosen(self, moment: Moment) -> ZeroShotState:
        """The state; a task of another family gives way to the first of this one."""
        state = self.shown(moment)
        tasks = self.page.controls.titles(moment.setting)
        if state.filter not in FILTERS:
            raise SettingError(f"The gallery can show: {', '.join(FILTERS.values())}.")
        return state if state.task in tasks else replace(state, task=next(iter(tasks)))

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events) -> None:
        """Another task, filter or page; a picture picked; a picture classified."""
        for trigger, turn in (
            ([self.task.input, self.filter.input], self.first_page),
            (self.earlier.click, self.page_before),
            (self.later.click, self.page_after),
        ):
            turned = events.listen(trigger, turn, self.outputs, lane="heavy")
            events.listen(turned.then, self.fill_in, self.filled, lane="fill", told=silent, trigger_mode="multiple")
        events.listen(self.grid.pick, self.pick, [self.picture], extra=[self.items])
        events.in_browser(self.grid.pick, [], [], bring("own-picture"))
        form = [self.classes, self.template]
        events.listen(self.fill.click, self.fill_classes, form)
        events.listen(self.task.change, self.follow_task, [self.suggested], extra=form, lasting=True)
        events.in_browser(self.suggested.change, [self.suggested, *form], form, TAKE_SUGGESTED)
        events.listen(self.picture.upload, self.check_picture, [], extra=[self.picture])
        own = [self.picture, self.classes, self.template]
        events.listen(
            [self.classify.click, self.template.submit],
            self.answer_own,
            [self.answer],
            extra=own,
            lane="heavy",
            lasting=True,
            show_progress="minimal",
        )

        events.listen(
            [self.archive.upload, self.folder.submit, self.own_prompt.submit, self.measure.click],
            self.measure_own,
            [self.own_board, *([] if self.held is None else [self.held])],
            extra=[self.archive, self.folder, self.own_prompt],
            lane="heavy",
            lasting=True,
            show_progress="minimal",
            show_progress_on=self.own_board,
        )
        events.listen(
            self.archive.clear, self.forget_own, [self.own_board, *([] if self.held is None else [self.held])]
        )

    def measure_own(self, moment: Moment) -> Changes:
        """Accuracy on the visitor's own pictures; from now on it follows the controls."""
        written = str(moment.value(self.own_prompt) or "").strip()
        prompt = check_template(written, self.page.limits) if written else ""
        source = own_source(moment.value(self.archive), moment.value(self.folder))
        state = replace(self.shown(moment), own=source, prompt=prompt)
        return {self.own_board: self._own_answer(moment, state), **self.hold(state)}

    def forget_own(self, moment: Moment) -> Changes:
        """The archive was taken away."""
        return {self.own_board: "", **self.hold(replace(self.shown(moment), own=""))}

    def first_page(self, moment: Moment) -> Changes:
        """The gallery from its start."""
        return self._turn(moment, 0)

    def page_before(self, moment: Moment) -> Changes:
        """The page before."""
        return self._turn(moment, self.shown(moment).at - 1)

    def page_after(self, moment: Moment) -> Changes:
        """The page after."""
        return self._turn(moment, self.shown(moment).at + 1)

    def _turn(self, moment: Moment, at: int) -> Changes:
        return self.draw(moment.showing(self.key, replace(self.shown(moment), at=max(0, at))))

    def pick(self, moment: Moment) -> Changes:
        """Put a sample picture into the form."""
        place, items = moment.detail("place"), moment.value(self.items)
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(items):
            raise SettingError("That picture is no longer in the gallery. Click again.")
        return {self.picture: items[place].image}

    def fill_classes(self, moment: Moment) -> Changes:
        """The classes and the first prompt of the chosen task."""
        task = self.page.controls.families[moment.setting.family].task(self._chosen(moment).task)
        return {self.classes: self._class_list(task), self.template: task.templates[0]}

    def follow_task(self, moment: Moment) -> Changes:
        """Another task brings its classes and prompt, unless the visitor has written classes of their own."""
        written = str(moment.value(self.classes) or "").strip()
        families = self.page.controls.families.values()
        known = {self._class_list(task) for family in families for task in family.tasks.values()}
        if written and written not in known:
            return {}
        form = [self.classes, self.template]
        suggested = self.fill_classes(moment)
        return {
            self.suggested: {
                "instead_of": [moment.value(part) for part in form],
                "values": [suggested[part] for part in form],
                "stamp": stamp(),
            }
        }

    def _class_list(self, task: TaskSpec) -> str:
        """The task's classes, one a line, as many as the form takes."""
        return "\n".join(task.shown_classes[: self.page.limits.max_classes])

    def check_picture(self, moment: Moment) -> None:
        """Say at once when an uploaded file is no picture."""
        read_picture(moment.value(self.picture), self.page.limits)

    def answer_own(self, moment: Moment) -> Changes:
        """Classify the visitor's picture under base, experts and merge."""
        limits = self.page.limits
        names = check_class_names(moment.value(self.classes), limits)
        prompt = check_template(moment.value(self.template), limits)
        picture = read_picture(moment.value(self.picture), limits)
        answers = prediction_columns(moment.workspace.classify(picture, names, prompt))
        return {self.answer: answers + notes_below(moment.workspace.prompt_notes(names, prompt))}
