"""The Import tab: experts of one's own, looked into before they are merged, and a recipe put into the controls."""

from __future__ import annotations

import html
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from neuromerge.deployment import deployment
from neuromerge.errors import Cancelled, LimitError, NeuroMergeError, RecipeError, SettingError
from neuromerge.evaluation.own_family import OwnExpert, own_name, with_own
from neuromerge.interface.components.controls import task_choices
from neuromerge.interface.components.inspection import inspection_card, refusal_card
from neuromerge.interface.components.pictures import notes_below
from neuromerge.interface.events import Events
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.own_models import OwnFiles, without_folder
from neuromerge.interface.page import Page
from neuromerge.interface.state import TabState
from neuromerge.interface.tab import Tab
from neuromerge.settings.choices import describe, make_setting
from neuromerge.settings.recipes import MAX_BYTES, parse_recipe, setting_of

if TYPE_CHECKING:
    from neuromerge.checkpoints.inspection import Inspection

MAX_SOURCES = 8
MAX_TEXT = 4_096
FAMILIES_PER_PAGE = 2
"""Families of one page that are remembered: the present one, and the one before it for undo."""
NOTHING_YET = "<p class='nm-empty'>Add files and press Look inside: nothing is merged before you have seen them.</p>"
OFF = (
    "<p class='nm-empty'>Experts of your own are not taken on this server. Run the app on your own machine for that: "
    "<code>neuromerge app</code>.</p>"
)


@dataclass(frozen=True)
class BringState(TabState):
    """The experts that were looked into and fit the base of the family `of`, not added yet."""

    of: str = ""
    found: tuple[OwnExpert, ...] = ()


class BringTab(Tab[BringState]):
    """Own experts and recipes. Draws nothing by itself."""

    key = "import"
    title = "Import"
    state = BringState
    live = False

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self.files = OwnFiles(page.limits)
        self._families: dict[str | None, list[str]] = {}

    def build(self) -> None:
        """Make the form for experts and the one for a recipe."""
        deployed, limits = deployment(), self.page.limits
        allowed = deployed.own_checkpoints or deployed.allow_local
        gr.HTML(
            "<div class='nm-head'><h2>Experts of your own</h2><p>Models that were fine-tuned from the base of the "
            "family that is chosen. What is in them, and how far they moved from the base, is shown before anything "
            "is merged.</p></div>"
        )
        with gr.Row(elem_classes="nm-own", visible=allowed):
            self.upload = gr.File(
                label=f"safetensors files, up to {limits.max_checkpoint_bytes / 2**20:,.0f} MB each",
                file_types=[".safetensors"],
                file_count="multiple",
                height=150,
                visible=deployed.own_checkpoints,
                elem_id="own-experts",
                scale=2,
                min_width=240,
            )
            with gr.Column(scale=3, min_width=260):
                self.places = gr.Textbox(
                    label="Or files and folders on this machine, or hub: addresses",
                    info="One a line; also LoRA adapters.",
                    placeholder="~/runs/birds/checkpoint.safetensors",
                    lines=3,
                    max_lines=8,
                    max_length=MAX_TEXT,
                    visible=deployed.allow_local,
                    elem_id="own-places",
                )
                with gr.Row(elem_classes="nm-actions"):
                    self.look = gr.Button("Look inside", elem_id="look-inside", min_width=120, scale=0)
                    self.add = gr.Button(
                        "Add to the experts",
                        variant="primary",
                        elem_id="add-own",
                        interactive=False,
                        min_width=160,
                        scale=0,
                    )
        self.inside = gr.HTML(NOTHING_YET if allowed else OFF, elem_id="inside")
        gr.HTML(
            "<div class='nm-head nm-section'><h2>A recipe</h2><p>Paste or drop a YAML recipe of this page, of the "
            "<code>neuromerge</code> command or of mergekit: the controls take it over.</p></div>"
        )
        with gr.Row(elem_classes="nm-own"):
            with gr.Column(scale=3, min_width=260):
                self.recipe = gr.Textbox(
                    label="Recipe",
                    lines=10,
                    max_lines=24,
                    max_length=MAX_BYTES,
                    placeholder="merge_method: ties\nbase_model: bundled:pictoclip\nmodels:\n  - model: ...",
                    elem_id="import-recipe",
                    elem_classes="nm-mono",
                )
                self.use = gr.Button("Use this recipe", variant="primary", elem_id="use-recipe", min_width=140, scale=0)
            self.drop = gr.File(
                label="Or a file",
                file_types=[".yaml", ".yml"],
                height=150,
                elem_id="recipe-file",
                scale=2,
                min_width=200,
            )
        self.said = gr.HTML("", elem_id="recipe-said")

    # ------------------------------------------------------------------------------------------- events
    def wire(self, events: Events) -> None:
        """Look into files, add them, take over a recipe. All of it is wanted, whatever moves meanwhile."""
        held = [] if self.held is None else [self.held]
        events.listen(
            [self.look.click, self.upload.upload],
            self.look_inside,
            [self.inside, self.add, *held],
            extra=[self.upload, self.places],
            lane="heavy",
            lasting=True,
            show_progress="minimal",
            show_progress_on=self.inside,
        )
        events.listen(self.add.click, self.add_found, [*self.page.settable, self.inside, self.add, *held], lasting=True)
        taken = [*self.page.settable, self.said]
        events.listen(
            self.use.click, self.use_text, taken, extra=[self.recipe], lane="heavy", lasting=True, told=self.why
        )
        events.listen(
            self.drop.upload,
            self.use_file,
            [*taken, self.recipe],
            extra=[self.drop],
            lane="heavy",
            lasting=True,
            told=self.why,
        )

    def forget(self, page_id: str | None) -> None:
        """A page was closed: its files and families go."""
        for name in self._families.pop(page_id, []):
            self._drop(name)
        self.files.forget(page_id)

    # ------------------------------------------------------------------------------------------- own experts
    def look_inside(self, moment: Moment) -> Changes:
        """What is in each file; one that cannot be read says why, and the others are shown all the same."""
        asked = self._asked(moment)
        families = [self.page.families[name] for name in self._families.get(moment.page_id, ())]
        merged = [Path(entry.experts[task]) for entry in families for task in entry.brought]
        self.files.keep_only(moment.page_id, [*(given for given in asked if isinstance(given, Path)), *merged])
        family = self.page.controls.family_called(moment.setting.family)
        cards: list[str] = []
        found: list[OwnExpert] = []
        taken = {*family.experts}
        for given in asked:
            place = given
            try:
                place = given if isinstance(given, str) else self._kept(moment, given)
                inspection = _as_visitor_knows(moment.workspace.inspect(str(place)), place)
            except Cancelled:
                raise
            except NeuroMergeError as error:
                cards.append(refusal_card(_called(given), _known(str(error), place)))
                continue
            cards.append(inspection_card(_called(given), inspection, family.title))
            if inspection.problem is None:
                name = own_name(given.stem if isinstance(given, Path) else inspection.name, taken)
                taken.add(name)
                found.append(OwnExpert(name, str(place), _called(given)))
        count = f"Add {len(found)} to the experts" if len(found) > 1 else "Add to the experts"
        return {
            self.inside: "".join(cards),
            self.add: gr.update(interactive=bool(found), value=count),
            **self.hold(BringState(family.name, tuple(found))),
        }

    def add_found(self, moment: Moment) -> Changes:
        """The experts that were looked into, beside those of the family, and ticked."""
        state, controls = self.shown(moment), self.page.controls
        if not state.found:
            raise SettingError("Add files and press Look inside first.")
        if state.of != moment.setting.family:
            raise SettingError("The family was changed meanwhile: press Look inside again, so that the base is right.")
        family = controls.family_called(state.of)
        own = {expert.name: expert for expert in state.found}
        root = family.name.partition("-own-")[0]
        extended = with_own(family, f"{root}-own-{secrets.token_hex(8)}", own)
        moment.explorer().add(extended)
        self.page.families.add(extended)
        self._remember(moment.page_id, extended.name)
        old = moment.setting
        weights = dict(zip(old.tasks, old.task_weights, strict=True)) if old.task_weights else None
        setting = make_setting(
            extended,
            [*old.tasks, *own],
            old.method,
            dict(old.hyperparameters),
            old.seed,
            profile=old.profile,
            task_weights=weights,
        )
        choices = [
            *((entry.title, name) for name, entry in self.page.families.items()),
            (extended.title, extended.name),
        ]
        names = ", ".join(own)
        return {
            **self.page.set_controls(setting),
            controls.family: gr.update(choices=choices, value=extended.name),
            controls.tasks: gr.update(choices=task_choices(extended), value=list(setting.tasks)),
            self.inside: notes_below(
                [
                    f"{names}: ticked under Experts, and merged from now on. There are no labelled pictures of such a "
                    "task here; the Zero-shot tab measures on pictures of your own."
                ]
            ),
            self.add: gr.update(interactive=False, value="Add to the experts"),
            **self.hold(BringState()),
        }

    def _asked(self, moment: Moment) -> list[Path | str]:
        """Uploaded files, and sources on this machine where they may be named. Raises SettingError or LimitError."""
        deployed = deployment()
        uploads, places = moment.value(self.upload), moment.value(self.places)
        asked: list[Path | str] = []
        if isinstance(uploads, list) and uploads:
            if not deployed.own_checkpoints:
                raise LimitError("Experts of your own are not taken here. Run the app on your own machine for that.")
            asked += [Path(upload) for upload in uploads if isinstance(upload, str)]
        lines = [line.strip() for line in places.splitlines() if line.strip()] if isinstance(places, str) else []
        if lines and not deployed.allow_local:
            raise LimitError("Files of this machine cannot be named on this public deployment. Upload them.")
        asked += lines
        if not asked:
            raise SettingError("Add a file first.")
        if len(asked) > MAX_SOURCES:
            raise LimitError(f"At most {MAX_SOURCES} experts can be looked into together.")
        return asked

    def _kept(self, moment: Moment, upload: Path) -> Path:
        """An uploaded file in the page's keeping."""
        return self.files.keep(moment.page_id, upload, Path(self.upload.GRADIO_CACHE))

    def _remember(self, page_id: str | None, name: str) -> None:
        """The page has one more family; its oldest goes where there are too many."""
        own = self._families.setdefault(page_id, [])
        own.append(name)
        while len(own) > FAMILIES_PER_PAGE:
            self._drop(own.pop(0))

    def _drop(self, name: str) -> None:
        self.page.families.drop(name)
        self.page.loader.workspace().forget(name)

    # ------------------------------------------------------------------------------------------- a recipe
    def use_text(self, moment: Moment) -> Changes:
        """The pasted recipe, in the controls."""
        return self._use(moment, moment.value(self.recipe))

    def use_file(self, moment: Moment) -> Changes:
        """The dropped recipe, in the text field and in the controls."""
        path = moment.value(self.drop)
        if not isinstance(path, str) or not Path(path).is_file():
            raise RecipeError("Add a file first.")
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        changes = self._use(moment, content)
        return {**changes, self.recipe: content.decode("utf-8-sig")}

    def _use(self, moment: Moment, text: object) -> Changes:
        if not isinstance(text, str | bytes) or not text.strip():
            raise RecipeError("Paste a recipe first, or drop a file.")
        recipe = parse_recipe(text)
        own = [self.page.families[name] for name in self._families.get(moment.page_id, [])]
        setting = setting_of(recipe, [*self.page.families.values(), *own])
        if setting.profile:
            moment.explorer().summary(setting, job=moment.job)  # says whether the model has these parts
        notes = [f"Taken over: {describe(setting)}, {len(setting.tasks)} experts.", *recipe.notes]
        if recipe.dtype is not None:
            notes.append(f"dtype {recipe.dtype} is no control of this page: its export has the base's type.")
        return {**self.page.set_controls(setting), self.said: notes_below(notes)}

    def why(self, error: NeuroMergeError) -> Changes:
        """Why a recipe was not taken over, in the place of its notices."""
        return {self.said: f"<p class='nm-verdict-line nm-bad' role='alert'>{html.escape(str(error))}</p>"}


def _called(given: Path | str) -> str:
    return given.name if isinstance(given, Path) else given


def _known(text: str, place: Path | str) -> str:
    """`text` without the server's folders."""
    return without_folder(text, place) if isinstance(place, Path) else text


def _as_visitor_knows(found: Inspection, place: Path | str) -> Inspection:
    problem = None if found.problem is None else _known(found.problem, place)
    return replace(found, problem=problem, warnings=tuple(_known(text, place) for text in found.warnings))
