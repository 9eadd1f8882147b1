"""Pictures in the page: choosing one, and showing samples with their predictions."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from neuromerge.exploration.results import GalleryItem, Prediction


class PictureInput(gr.Image):
    """An image input that hands over the uploaded file unopened, so that `interface.pictures` can check it first."""

    def preprocess(self, payload: Any) -> str | None:
        """The file's place in Gradio's upload folder."""
        return None if payload is None else payload.path

    def get_block_name(self) -> str:
        """Gradio draws this with the frontend of its image component."""
        return "image"


class PictureGrid(gr.HTML):
    """Cards of sample pictures; the event ``pick`` carries the place of the card that was chosen."""

    def __init__(self, **more: Any) -> None:
        super().__init__(
            value="",
            js_on_load="""
            element.addEventListener('click', (event) => {
              const card = event.target.closest('[data-place]');
              if (card) { trigger('pick', {place: Number(card.dataset.place)}); }
            });
            """,
            **more,
        )

    def get_block_name(self) -> str:
        """Gradio draws this with the frontend of its HTML component."""
        return "html"


def data_uri(image: np.ndarray) -> str:
    """An (H, W, 3) uint8 image as the address of itself."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


SHEET_COLUMNS, SHEET_PX = 8, 64
"""Pictures beside one another in a sheet, and their size in it."""


def sample_sheet(images: Sequence[np.ndarray]) -> str:
    """HTML of all pictures as one image that is not seen: ``static/samples.js`` shows parts of it."""
    if not images:
        return ""
    rows = -(-len(images) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * SHEET_PX, rows * SHEET_PX), "white")
    for place, image in enumerate(images):
        small = Image.fromarray(image).resize((SHEET_PX, SHEET_PX))
        sheet.paste(small, (place % SHEET_COLUMNS * SHEET_PX, place // SHEET_COLUMNS * SHEET_PX))
    out = io.BytesIO()
    sheet.save(out, format="WEBP", quality=80)
    address = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")
    return f"<img id='nm-samples' hidden alt='' data-columns='{SHEET_COLUMNS}' data-size='{SHEET_PX}' src='{address}'>"


def gallery_cards(items: Sequence[GalleryItem], models: Sequence[str] = ("base", "expert", "merge")) -> str:
    """HTML of sample pictures with what each model says; right and wrong by sign, weight and colour."""
    if not items:
        return (
            "<p class='nm-empty'>No picture of this task is like that under this merge. "
            "Choose another filter, or another task.</p>"
        )
    cards = []
    for place, item in enumerate(items):
        verdicts = "".join(verdict(getattr(item, model), item.truth, model) for model in models)
        cards.append(
            f"<button type='button' class='nm-card' data-place='{place}' "
            f"aria-label='{html.escape(item.truth, quote=True)}: use this picture below'>"
            f"<img src='{data_uri(item.image)}' alt='' loading='lazy'>"
            f"<span class='nm-card-truth'>{html.escape(item.truth)}</span>{verdicts}</button>"
        )
    return f"<div class='nm-cards'>{''.join(cards)}</div>"


def notes_below(notes: Sequence[str]) -> str:
    """HTML of sentences under pictures or answers, empty where there are none."""
    return "".join(f"<p class='nm-note'>{html.escape(note)}</p>" for note in notes)


def verdict(said: str, truth: str, model: str = "") -> str:
    """HTML of what a model says of a picture, marked right or wrong; with the model's name where one is given."""
    mark, word, kind = ("✓", "right", "good") if said == truth else ("✗", "wrong", "bad")
    who = (
        f"<i class='nm-dot' style='background:var(--nm-{model})'></i><span class='nm-verdict-model'>{model}</span>"
        if model
        else ""
    )
    mark = f"<b role='img' aria-label='{word}'>{mark}</b>"
    return f"<span class='nm-verdict nm-{kind}'>{who}{mark} {html.escape(said)}</span>"


def prediction_columns(predictions: Sequence[Prediction]) -> str:
    """HTML of the best classes of several models side by side, as bars with numbers."""
    columns = []
    for prediction in predictions:
        kind = {"Base": "base", "This merge": "merge"}.get(prediction.model, "expert")
        rows = "".join(
            f"<li><span class='nm-bar' style='width:{100 * share:.1f}%;background:var(--nm-{kind})'></span>"
            f"<span class='nm-bar-label'>{html.escape(label)}</span><b>{100 * share:.1f} %</b></li>"
            for label, share in zip(prediction.labels, prediction.probabilities, strict=True)
        )
        columns.append(
            f"<section class='nm-prediction nm-prediction-{kind}'><h3>{html.escape(prediction.model)}</h3>"
            f"<ol>{rows}</ol></section>"
        )
    return f"<div class='nm-predictions'>{''.join(columns)}</div>"
