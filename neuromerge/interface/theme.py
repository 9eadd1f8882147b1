"""The page's look: a Gradio theme and a style sheet that take every colour from the figures' tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes.utils.fonts import Font, LocalFont

from neuromerge.figures.theme import COLOURS

STYLE_SHEET = Path(__file__).parent / "static" / "style.css"


def theme() -> gr.themes.Base:
    """The Gradio theme: quiet panels, thin lines, one accent; light and dark from the same tokens."""
    light, dark = COLOURS["light"], COLOURS["dark"]

    def both(name: str, token: str) -> dict[str, str]:
        return {name: light[token], f"{name}_dark": dark[token]}

    base = gr.themes.Base(
        text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        font=[Font(name) for name in ("IBM Plex Sans", "ui-sans-serif", "system-ui", "sans-serif")],
        font_mono=[LocalFont("IBM Plex Mono", weights=(400,)), Font("ui-monospace"), Font("monospace")],
    )
    values: dict[str, Any] = {
        **both("body_background_fill", "raised"),
        **both("body_text_color", "ink"),
        **both("body_text_color_subdued", "muted"),
        **both("background_fill_primary", "surface"),
        **both("background_fill_secondary", "raised"),
        **both("border_color_primary", "grid"),
        **both("border_color_accent", "merge"),
        **both("border_color_accent_subdued", "axis"),
        **both("color_accent_soft", "merge-soft"),
        "color_accent": "var(--nm-merge)",
        **both("link_text_color", "merge"),
        **both("link_text_color_hover", "ink"),
        **both("link_text_color_active", "merge"),
        **both("link_text_color_visited", "merge"),
        **both("block_background_fill", "surface"),
        **both("block_border_color", "grid"),
        **both("block_label_background_fill", "surface"),
        **both("block_label_text_color", "muted"),
        **both("block_label_border_color", "grid"),
        **both("block_title_text_color", "ink"),
        **both("block_info_text_color", "muted"),
        "block_title_text_weight": "600",
        "block_label_text_weight": "600",
        "block_shadow": "none",
        "block_shadow_dark": "none",
        "block_border_width": "0px",
        "block_border_width_dark": "0px",
        **both("panel_background_fill", "surface"),
        **both("panel_border_color", "grid"),
        **both("input_background_fill", "surface"),
        **both("input_background_fill_focus", "surface"),
        **both("input_border_color", "axis"),
        **both("input_border_color_focus", "merge"),
        **both("input_placeholder_color", "muted"),
        "input_border_width": "1px",
        "input_border_width_dark": "1px",
        "input_shadow": "none",
        "input_shadow_dark": "none",
        "input_shadow_focus": "0 0 0 3px var(--nm-merge-soft)",
        "input_shadow_focus_dark": "0 0 0 3px var(--nm-merge-soft)",
        **both("checkbox_background_color", "surface"),
        **both("checkbox_background_color_selected", "merge"),
        **both("checkbox_border_color", "axis"),
        **both("checkbox_border_color_selected", "merge"),
        **both("checkbox_border_color_focus", "merge"),
        **both("checkbox_label_background_fill", "surface"),
        **both("checkbox_label_background_fill_hover", "raised"),
        **both("checkbox_label_background_fill_selected", "merge-soft"),
        **both("checkbox_label_border_color", "grid"),
        **both("checkbox_label_border_color_selected", "merge"),
        **both("checkbox_label_text_color", "ink"),
        **both("checkbox_label_text_color_selected", "ink"),
        "checkbox_label_border_width": "1px",
        "checkbox_label_border_width_dark": "1px",
        "checkbox_label_shadow": "none",
        "checkbox_label_shadow_dark": "none",
        "checkbox_shadow": "none",
        **both("slider_color", "merge"),
        **both("loader_color", "merge"),
        **both("table_border_color", "grid"),
        **both("table_even_background_fill", "surface"),
        **both("table_odd_background_fill", "surface"),
        **both("table_row_focus", "merge-soft"),
        **both("table_text_color", "ink"),
        **both("code_background_fill", "raised"),
        **both("button_primary_background_fill", "merge"),
        "button_primary_background_fill_hover": "color-mix(in srgb, var(--nm-merge) 86%, var(--nm-ink))",
        "button_primary_background_fill_hover_dark": "color-mix(in srgb, var(--nm-merge) 86%, var(--nm-ink))",
        "button_primary_text_color": light["surface"],
        "button_primary_text_color_dark": dark["surface"],
        "button_primary_border_color": "transparent",
        "button_primary_border_color_dark": "transparent",
        **both("button_secondary_background_fill", "surface"),
        **both("button_secondary_background_fill_hover", "raised"),
        **both("button_secondary_text_color", "ink"),
        **both("button_secondary_border_color", "axis"),
        "button_border_width": "1px",
        "button_border_width_dark": "1px",
        "button_small_padding": "4px 12px",
        "button_small_text_size": "13px",
        "button_small_text_weight": "500",
        "button_medium_text_size": "14px",
        "button_medium_text_weight": "600",
        "button_large_text_size": "15px",
        "button_large_text_weight": "600",
        "button_primary_shadow": "none",
        "button_secondary_shadow": "none",
        "button_transform_hover": "none",
        "button_transform_active": "none",
        **both("accordion_text_color", "ink"),
        **both("error_background_fill", "surface"),
        **both("error_text_color", "ink"),
        **both("error_border_color", "bad"),
        **both("error_icon_color", "bad"),
        **both("stat_background_fill", "merge-soft"),
        "layout_gap": "12px",
        "form_gap_width": "0px",
        "block_padding": "10px 12px",
        "block_radius": "10px",
        "input_radius": "8px",
        "button_large_radius": "8px",
        "button_medium_radius": "8px",
        "button_small_radius": "8px",
    }
    return base.set(**values)


def style_sheet() -> str:
    """The page's CSS. Its colours are the tokens, which `static_files.head` defines as variables."""
    return STYLE_SHEET.read_text(encoding="utf-8")
