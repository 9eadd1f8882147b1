"""What is in a visitor's checkpoint, before it is merged."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from neuromerge.interface.components.pictures import notes_below

if TYPE_CHECKING:
    from neuromerge.checkpoints.inspection import Inspection

_TITLES = {"base's": "From the base"}


def inspection_card(name: str, found: Inspection, base: str) -> str:
    """HTML of one checkpoint: what it is, whether it fits the base called `base`, and how far each layer moved."""
    facts = "".join(
        f"<div><dt>{html.escape(_TITLES.get(title, title.capitalize()))}</dt><dd>{html.escape(text)}</dd></div>"
        for title, text in found.facts
    )
    if found.problem is not None:
        verdict = (
            f"<p class='nm-verdict-line nm-bad'>Does not fit {html.escape(base)}: {html.escape(found.problem)}</p>"
        )
    else:
        verdict = f"<p class='nm-verdict-line nm-good'>Fits {html.escape(base)}.</p>"
    return (
        f"<section class='nm-inspection'><h3>{html.escape(name)}</h3>{verdict}<dl class='nm-facts'>{facts}</dl>"
        f"{_changes(found)}{notes_below(found.warnings)}</section>"
    )


def refusal_card(name: str, why: str) -> str:
    """HTML of a file that could not be read."""
    return (
        f"<section class='nm-inspection'><h3>{html.escape(name)}</h3>"
        f"<p class='nm-verdict-line nm-bad'>{html.escape(why)}</p></section>"
    )


def _changes(found: Inspection) -> str:
    if not found.changes:
        return ""
    most = max(change.relative for change in found.changes) or 1.0
    rows = "".join(
        f"<tr><th scope='row'>{html.escape(change.layer)}</th><td>{change.change:.4g}</td>"
        f"<td>{100 * change.relative:.3f} %</td><td class='nm-change-bar' aria-hidden='true'>"
        f"<i style='width:{100 * change.relative / most:.1f}%'></i></td></tr>"
        for change in found.changes
    )
    return (
        "<div class='nm-scroll' tabindex='0'><table class='nm-table'><caption>How far each layer moved from the base: "
        "norm of the change, and its share of the base's norm</caption><thead><tr><th scope='col'>Layer</th>"
        "<th scope='col'>Change</th><th scope='col'>Of the base</th><th><span class='nm-alt'>Bar</span></th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )
