"""The Zero-shot tab: real pictures, what the models make of them, and the visitor's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import gradio as gr

from neuromerge.errors import SettingError
from neuromerge.evaluation.families import TaskSpec
from neuromerge.figures.confusion import confusion_matrix
from neuromerge.interface.components.controls import short_title
from neuromerge.interface.components.pictures import (
    PictureGrid,
    PictureInput,
    gallery_cards,
    notes_below,
    prediction_columns,
)
from neuromerge.interface.components.text import bring, way_back
from neuromerge.interface.events import Events
from neuromerge.interface.limits import check_class_names, check_template
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.pictures import read_picture
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.state import TabState, linked, one_of
from neuromerge.interface.tab import Tab

FILTERS = {
    "all": "All pictures",
    "merge_wrong": "Merge wrong, expert right",
    "expert_wrong": "Merge right, expert wrong",
}
NOTHING_YET = (
    "<p class='nm-empty'>Add a picture and press Classify. "
    "The base, every expert and this merge answer side by side.</p>"
)


@dataclass(frozen=True)
class ZeroShotState(TabState):
    """The gallery's task ("" for the family's first), which of its pictures, and the page of them, from 0."""

    task: str = linked("task", "", one_of(lambda family: family.tasks), of_family=True)
    filter: str = next(iter(FILTERS))
    at: int = 0


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
        self.answer = gr.HTML(NOTHING_YET, elem_id="own-answer")
        self.holders = {"task": self.task, "filter": self.filter}
        self.outputs = [self.task, self.grid, self.confusion, self.items, self.earlier, self.later]

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> Changes:
        """Gallery and confusion of the chosen task."""
        state = self._chosen(moment)
        titles = self.page.controls.titles(moment.setting)
        page = moment.workspace.gallery(state.task, state.filter, state.at)
        confusion = moment.workspace.confusion(state.task)
        return {
            **self.hold(replace(state, at=page.page)),
            self.task: gr.update(choices=[(title, name) for name, title in titles.items()], value=state.task),
            self.grid: gallery_cards(page.items) + notes_below(page.notes),
            self.confusion: confusion_matrix(confusion),
            self.items: page.items,
            self.earlier: gr.update(interactive=page.page > 0),
            self.later: gr.update(interactive=page.page + 1 < page.pages),
        }

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
        events.listen([self.task.input, self.filter.input], self.first_page, self.outputs, lane="heavy")
        events.listen(self.earlier.click, self.page_before, self.outputs, lane="heavy")
        events.listen(self.later.click, self.page_after, self.outputs, lane="heavy")
        events.listen(self.grid.pick, self.pick, [self.picture], extra=[self.items])
        events.in_browser(self.grid.pick, [], [], bring("own-picture"))
        form = [self.classes, self.template]
        events.listen(self.fill.click, self.fill_classes, form)
        events.listen(self.task.change, self.follow_task, form, extra=form, lasting=True)
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
        return self.fill_classes(moment) if not written or written in known else {}

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
