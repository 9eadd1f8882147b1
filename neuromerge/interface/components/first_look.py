"""The first minute: what base, experts and merge are, shown on two real pictures, and one thing to do."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from neuromerge.evaluation.families import Family
from neuromerge.exploration.results import Example
from neuromerge.interface.components.controls import coefficient_control
from neuromerge.interface.components.pictures import data_uri, verdict
from neuromerge.interface.components.text import point_at
from neuromerge.settings.setting import Setting

SENTENCES = (
    ("base", "Base", "one network, before any special training"),
    ("expert", "Expert", "a copy of it, trained on one task only"),
    ("merge", "Merge", "one network made of all experts, without training"),
)


def first_look(family: Family, setting: Setting, examples: Sequence[Example], titles: Mapping[str, str]) -> str:
    """HTML of the panel above the bars; without examples it holds the sentences alone."""
    about = f"<b>{html.escape(family.title)}.</b> {html.escape(family.description)}"
    pictures = "".join(_picture(example, titles) for example in examples)
    rows = "".join(_row(model, name, sentence, examples) for model, name, sentence in SENTENCES)
    return (
        "<section class='nm-look' aria-label='What base, expert and merge are'>"
        f"<table><thead><tr><td>{about}</td>{pictures}</tr></thead><tbody>{rows}</tbody></table>"
        f"{one_thing(setting)}</section>"
    )


def one_thing(setting: Setting) -> str:
    """HTML that says what to try first: the coefficient that the method's merge depends on most."""
    control = coefficient_control(setting.method)
    if control is None:
        todo = f"{point_at('tasks', 'untick an expert')} and see which tasks lose"
    else:
        identity, label = control
        todo = f"move {point_at(identity, label)} to 0 (the base again), then far up (the tasks disturb one another)"
    return f"<p class='nm-todo'><b>One thing to do:</b> {todo}.</p>"


def _picture(example: Example, titles: Mapping[str, str]) -> str:
    truth, title = html.escape(example.item.truth), html.escape(titles.get(example.task, example.task))
    return (
        f"<th scope='col'><img src='{data_uri(example.item.image)}' alt='' width='48' height='48'>"
        f"<span>{truth}<small>{title}</small></span></th>"
    )


def _row(model: str, name: str, sentence: str, examples: Sequence[Example]) -> str:
    answers = "".join(f"<td>{verdict(getattr(example.item, model), example.item.truth)}</td>" for example in examples)
    return (
        f"<tr><th scope='row'><i class='nm-dot' style='background:var(--nm-{model})'></i><b>{name}</b> "
        f"<span>{sentence}</span></th>{answers}</tr>"
    )
