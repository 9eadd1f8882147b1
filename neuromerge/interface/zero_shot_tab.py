"""The Zero-shot tab: real pictures, what the models make of them, and the visitor's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from neuromerge.errors import SettingError
from neuromerge.figures.confusion import confusion_matrix
from neuromerge.interface.controls import short_title
from neuromerge.interface.page import Moment, Tab
from neuromerge.interface.permalinks import PageState
from neuromerge.interface.pictures import (
    PictureGrid,
    PictureInput,
    gallery_cards,
    prediction_columns,
    read_picture,
)
from neuromerge.interface.plotly_view import PlotlyView
from neuromerge.interface.typed import check_class_names, check_template

FILTERS = {
    "all": "All pictures",
    "merge_wrong": "Merge wrong, expert right",
    "expert_wrong": "Merge right, expert wrong",
}
NOTHING_YET = (
    "<p class='nm-empty'>Add a picture and press Classify. "
    "The base, every expert and this merge answer side by side.</p>"
)


class ZeroShotTab(Tab):
    """Gallery, confusion and the visitor's own picture. Costs an evaluation, so it follows when controls rest."""

    key = "zero_shot"
    title = "Zero-shot"
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
        self.at = gr.State(0, time_to_live=limits.session_seconds)
        self.items = gr.State((), time_to_live=limits.session_seconds)
        self.grid = PictureGrid(elem_id="gallery")
        with gr.Row(elem_classes="nm-actions"):
            self.earlier = gr.Button("← Earlier", size="sm", elem_id="gallery-earlier", min_width=0, scale=0)
            self.later = gr.Button("More →", size="sm", elem_id="gallery-later", min_width=0, scale=0)
        self.confusion = PlotlyView(label="Confusion of the merge", height=360, elem_id="confusion")

        gr.HTML(
            "<div class='nm-head nm-section'><h2>Your own picture</h2><p>Any picture, any classes. It stays on this "
            "server for a few minutes and is then deleted.</p></div>"
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
                    "\n".join(family.tasks[choices[0][1]].classes[:12]),
                    label="Class names",
                    info=f"One a line; 2 to {limits.max_classes}.",
                    lines=6,
                    max_lines=10,
                    max_length=limits.max_classes * (limits.max_class_length + 2),
                    elem_id="own-classes",
                )
                self.template = gr.Textbox(
                    "a picture of a {}",
                    label="Prompt",
                    info="{} stands for the class name.",
                    max_length=limits.max_prompt_length,
                    elem_id="own-template",
                )
                with gr.Row(elem_classes="nm-actions"):
                    self.classify = gr.Button("Classify", variant="primary", elem_id="classify", min_width=120, scale=0)
                    self.fill = gr.Button("Use the classes of this task", size="sm", elem_id="fill-classes", scale=0)
        self.answer = gr.HTML(NOTHING_YET, elem_id="own-answer")
        self.inputs = [self.task, self.filter, self.at]
        self.outputs = [self.task, self.grid, self.confusion, self.at, self.items, self.earlier, self.later]

    # ------------------------------------------------------------------------------------------- drawing
    def draw(self, moment: Moment) -> list[Any]:
        """Gallery and confusion of the chosen task."""
        task, chosen, at = self._chosen(moment)
        titles = self.page.controls.titles(moment.setting)
        page = moment.workspace.gallery(moment.setting, task, "validation", chosen, at, job=moment.job)
        confusion = moment.workspace.confusion(moment.setting, task, "validation", job=moment.job)
        return [
            gr.update(choices=[(title, name) for name, title in titles.items()], value=task),
            gallery_cards(page.items),
            confusion_matrix(confusion),
            page.page,
            page.items,
            gr.update(interactive=page.page > 0),
            gr.update(interactive=page.page + 1 < page.pages),
        ]

    def _chosen(self, moment: Moment) -> tuple[str, str, int]:
        """Task, filter and page; a task of another family gives way to the first of this one."""
        task, chosen, at = moment.own.get(self.key) or ("", "all", 0)
        tasks = self.page.controls.titles(moment.setting)
        if task not in tasks:
            task = next(iter(tasks))
        if chosen not in FILTERS:
            raise SettingError(f"The gallery can show: {', '.join(FILTERS.values())}.")
        return task, chosen, at if isinstance(at, int) and at >= 0 else 0

    # ------------------------------------------------------------------------------------------- events
    def wire(self) -> None:
        """Another task, filter or page; a picture picked; a picture classified."""
        page = self.page
        page.listen([self.task.input, self.filter.input], self.first_page, self.outputs, lane="heavy")
        page.listen(self.earlier.click, self.page_before, self.outputs, lane="heavy")
        page.listen(self.later.click, self.page_after, self.outputs, lane="heavy")
        page.listen(self.grid.pick, self.pick, [self.picture], extra=[self.items])
        page.listen(self.fill.click, self.fill_classes, [self.classes, self.template])
        page.listen(self.picture.upload, self.check_picture, [self.answer], extra=[self.picture])
        own = [self.picture, self.classes, self.template]
        for trigger in (self.classify.click, self.template.submit):
            page.listen(trigger, self.answer_own, [self.answer], extra=own, lane="heavy", show_progress="minimal")

    def first_page(self, moment: Moment) -> list[Any]:
        """The gallery from its start."""
        return self._turn(moment, None)

    def page_before(self, moment: Moment) -> list[Any]:
        """The page before."""
        return self._turn(moment, -1)

    def page_after(self, moment: Moment) -> list[Any]:
        """The page after."""
        return self._turn(moment, 1)

    def _turn(self, moment: Moment, step: int | None) -> list[Any]:
        task, chosen, at = self._chosen(moment)
        at = 0 if step is None else max(0, at + step)
        return self.draw(replace(moment, own={**moment.own, self.key: (task, chosen, at)}))

    def pick(self, moment: Moment, items: Any) -> Any:
        """Put a sample picture into the form."""
        data = getattr(moment.event, "_data", None)
        place = data.get("place") if isinstance(data, dict) else None
        if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < len(items):
            raise SettingError("That picture is no longer in the gallery. Click again.")
        return items[place].image

    def fill_classes(self, moment: Moment) -> list[Any]:
        """The classes and the first prompt of the chosen task."""
        task = self.page.controls.families[moment.setting.family].task(self._chosen(moment)[0])
        return ["\n".join(task.classes[: self.page.limits.max_classes]), task.templates[0]]

    def check_picture(self, moment: Moment, path: Any) -> Any:
        """Say at once when an uploaded file is no picture."""
        read_picture(path, self.page.limits)
        return gr.skip()

    def answer_own(self, moment: Moment, path: Any, classes: Any, template: Any) -> str:
        """Classify the visitor's picture under base, experts and merge."""
        limits = self.page.limits
        names, prompt = check_class_names(classes, limits), check_template(template, limits)
        picture = read_picture(path, limits)
        return prediction_columns(moment.workspace.classify(moment.setting, picture, names, prompt))

    # ------------------------------------------------------------------------------------------- permalinks
    def remember(self, state: PageState, moment: Moment) -> PageState:
        """The gallery's task."""
        return replace(state, task=self._chosen(moment)[0])

    def restore(self, state: PageState) -> list[Any]:
        """The same from a link."""
        return [gr.update(value=state.task) if state.task else gr.skip(), gr.skip(), 0]
