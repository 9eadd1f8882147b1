"""The Export tab: take the merge away, as a file, a recipe, a script or a link."""

from __future__ import annotations

import html
import logging
import tempfile
from pathlib import Path

import gradio as gr

from neuromerge.deployment import deployment
from neuromerge.errors import LimitError, NeuroMergeError, SettingError, StorageError
from neuromerge.exploration.export import CARD, RECIPE, SCRIPT, card, script
from neuromerge.hub.upload import check_repository, push
from neuromerge.interface.components.download import download_link
from neuromerge.interface.events import Events
from neuromerge.interface.exports import Exports, pack
from neuromerge.interface.moment import Changes, Moment
from neuromerge.interface.page import Page
from neuromerge.interface.state import TabState
from neuromerge.interface.tab import Tab
from neuromerge.settings.recipes import dump_recipe, recipe_of
from neuromerge.settings.setting import Setting

logger = logging.getLogger(__name__)

LAYOUTS = {"open_clip": "open_clip", "transformers": "transformers"}


class ExportTab(Tab[TabState]):
    """Checkpoint in either layout, recipe, Python, permalink."""

    key = "export"
    title = "Export"
    live = False

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self._made: dict[str | None, Setting] = {}
        self.exports = Exports(page.limits)

    def build(self) -> None:
        """Make the checkpoint button, the texts and the link."""
        gr.HTML(
            "<div class='nm-head'><h2>Take this merge with you</h2><p>The checkpoint is an ordinary model: nothing of "
            "NeuroMerge is needed to run it. Every figure of this page has its own buttons for PNG, SVG and CSV.</p>"
            "</div>"
        )
        with gr.Row(elem_classes="nm-actions nm-pickers"):
            self.layout = gr.Radio(
                list(LAYOUTS),
                value="open_clip",
                label="Layout",
                elem_id="layout",
                elem_classes="nm-pills",
                min_width=220,
            )
            self.make = gr.Button(
                "Prepare the checkpoint", variant="primary", elem_id="make-checkpoint", min_width=180, scale=0
            )
            self.file = gr.DownloadButton(
                "Download", elem_id="download-checkpoint", interactive=False, min_width=140, scale=0
            )
        self.note = gr.HTML("", elem_id="export-note")
        self._build_push()
        self.link = gr.Textbox(
            label="Permalink",
            info="Restores this whole page in any browser.",
            buttons=["copy"],
            interactive=False,
            elem_id="export-link",
        )
        with gr.Row(elem_classes="nm-codes"):
            with gr.Column(min_width=280):
                self.recipe = gr.Code(
                    language="yaml",
                    label=f"Recipe: neuromerge merge {RECIPE} --out merged",
                    interactive=False,
                    wrap_lines=True,  # what scrolls sideways cannot be reached by keyboard
                    elem_id="recipe",
                    buttons=["copy"],
                )
                self.save_recipe = gr.HTML("", elem_id="save-recipe")
            with gr.Column(min_width=280):
                self.script = gr.Code(
                    language="python",
                    label="Python",
                    interactive=False,
                    wrap_lines=True,
                    elem_id="script",
                    buttons=["copy"],
                )
                self.save_script = gr.HTML("", elem_id="save-script")
        texts = [self.recipe, self.save_recipe, self.script, self.save_script]
        self.outputs = [*texts, self.link, self.note, self.file]

    def _build_push(self) -> None:
        """The form that pushes to the Hub. On a public deployment there is none: nobody shall type a token there."""
        self.push: gr.Button | None = None
        if deployment().public:
            gr.HTML(
                "<p class='nm-hint' id='no-push'>Pushing to the Hugging Face Hub is off on a public server, where no "
                "token should be typed. Run the app on your own machine for that, or upload the exported files.</p>"
            )
            return
        with gr.Accordion("Push to the Hugging Face Hub", open=False, elem_id="push-panel"):
            with gr.Row(elem_classes="nm-actions nm-pickers"):
                self.repository = gr.Textbox(
                    label="Repository",
                    placeholder="you/name",
                    max_length=200,
                    elem_id="push-repository",
                    min_width=200,
                )
                self.token = gr.Textbox(
                    label="Token with the right to write",
                    info="Used once: not kept, not logged, in no link. Empty: the login of this machine.",
                    type="password",
                    max_length=400,
                    elem_id="push-token",
                    min_width=240,
                )
            with gr.Row(elem_classes="nm-actions"):
                self.private = gr.Checkbox(True, label="Private", elem_id="push-private", container=False, scale=0)
                self.existing = gr.Checkbox(
                    False, label="It may exist already", elem_id="push-existing", container=False, scale=0
                )
                self.push = gr.Button("Push this merge", elem_id="push", min_width=150, scale=0)
            self.pushed = gr.HTML("", elem_id="pushed")

    def draw(self, moment: Moment) -> Changes:
        """The texts of the present setting; a file prepared for another setting is withdrawn."""
        recipe = recipe_of(moment.setting, self.page.controls.families[moment.setting.family])
        text, code = dump_recipe(recipe), script(recipe)
        changes: Changes = {
            self.recipe: text,
            self.save_recipe: download_link(text, RECIPE, "application/yaml", f"Save {RECIPE}"),
            self.script: code,
            self.save_script: download_link(code, SCRIPT, "text/x-python", f"Save {SCRIPT}"),
            self.link: self.page.permalink(moment),
        }
        # Not by an input: a drawing that left the browser before the file was ready may come back after it.
        if self._made.get(moment.page_id, moment.setting) != moment.setting:
            changes |= {self.note: "", self.file: gr.update(value=None, interactive=False)}
        return changes

    def forget(self, page_id: str | None) -> None:
        """Nothing is prepared for a page that was closed."""
        self._made.pop(page_id, None)
        self.exports.forget(page_id)

    def wire(self, events: Events) -> None:
        """Write the checkpoint on its button. The link gets this page's own address in the browser."""
        events.listen(
            self.make.click,
            self.prepare,
            [self.file, self.note],
            extra=[self.layout],
            lane="heavy",
            lasting=True,
            show_progress="full",
            show_progress_on=self.note,
        )
        if self.push is not None:
            events.listen(
                self.push.click,
                self.push_merge,
                [self.pushed, self.token],
                extra=[self.layout, self.repository, self.token, self.private, self.existing],
                lane="heavy",
                lasting=True,
                show_progress="full",
                show_progress_on=self.pushed,
                told=self.not_pushed,
            )
        events.in_browser(self.link.change, [self.link], [self.link], WHOLE_ADDRESS)

    def prepare(self, moment: Moment) -> Changes:
        """Write the merged checkpoint to a folder whose name cannot be guessed and hand it over as one file."""
        layout = moment.value(self.layout)
        if layout not in LAYOUTS:
            raise SettingError(f"The layout can be {' or '.join(LAYOUTS)}.")
        nbytes = moment.workspace.export_bytes(layout)
        root = Path(self.file.GRADIO_CACHE)
        name = f"neuromerge-{moment.setting.method}-{layout.replace('_', '-')}"
        try:
            with self.exports.place(moment.page_id, nbytes, root, f"{name}.zip") as packed:
                # Beside the archive, so that a killed server leaves both where the next one looks.
                target = packed.with_name("files")
                target.mkdir()
                moment.workspace.export(layout, target)
                pack(target, packed)
                target.rmdir()
            # It lies in Gradio's own folder already: nothing is copied.
            kept = str(self.file.move_resource_to_block_cache(packed))
            size = packed.stat().st_size / 2**20
        except (OSError, StorageError):
            # What the disk says names folders of the server, which visitors know nothing of.
            logger.exception("an export failed")
            raise StorageError(
                "The checkpoint could not be written: the server's disk is full or not writable. Try again later, or "
                "make the same merge on your own machine with the recipe on this page."
            ) from None
        self._made[moment.page_id] = moment.setting
        minutes = self.page.limits.export_seconds // 60
        note = (
            f"<p class='nm-hint'>{html.escape(packed.name)}, {size:.1f} MB, is ready. It is deleted here "
            f"in about {minutes} minutes.</p>"
        )
        return {self.file: gr.update(value=kept, interactive=True), self.note: note}

    def push_merge(self, moment: Moment) -> Changes:
        """Write the merged checkpoint and push it; the token's field is emptied whatever comes of it."""
        if deployment().public:
            raise LimitError("Nothing is pushed from a public server. Run the app on your own machine for that.")
        layout, token = moment.value(self.layout), moment.value(self.token)
        if layout not in LAYOUTS:
            raise SettingError(f"The layout can be {' or '.join(LAYOUTS)}.")
        repository = check_repository(moment.value(self.repository))
        recipe = recipe_of(moment.setting, self.page.families[moment.setting.family])
        root = Path(self.file.GRADIO_CACHE)
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix="push-") as folder:
            moment.workspace.export(layout, Path(folder))
            (Path(folder) / CARD).write_text(card(recipe, repository.partition("/")[2]), encoding="utf-8")
            moment.job.check()
            page = push(
                Path(folder),
                repository,
                token.strip() if isinstance(token, str) and token.strip() else None,
                private=bool(moment.value(self.private)),
                existing=bool(moment.value(self.existing)),
            )
        address = html.escape(page, quote=True)
        said = f"<p class='nm-note' role='status'>Pushed: <a href='{address}' target='_blank'>{address}</a></p>"
        return {self.pushed: said, self.token: ""}

    def not_pushed(self, error: NeuroMergeError) -> Changes:
        """Why nothing was pushed."""
        said = f"<p class='nm-verdict-line nm-bad' role='alert'>{html.escape(str(error))}</p>"
        return {self.pushed: said, self.token: ""}


WHOLE_ADDRESS = """
(query) => (query && !query.startsWith('http') ? location.origin + location.pathname + '?' + query : query)
"""
