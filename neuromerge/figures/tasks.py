"""How a task looks in every figure: its name, and a colour and shape that are its own whatever else is selected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from neuromerge.figures.text import coloured, plain
from neuromerge.figures.theme import task_colour, task_symbol


@dataclass(frozen=True)
class TaskLook:
    """A task as it is drawn: `name` is escaped; `colour` is a token, `symbol` a Plotly marker."""

    name: str
    colour: str
    symbol: str

    @property
    def dot(self) -> str:
        """Its mark in a legend."""
        return coloured("●", self.colour)


def task_looks(tasks: Iterable[str], titles: Mapping[str, str] | None = None, limit: int = 16) -> list[TaskLook]:
    """The looks of `tasks`.

    `titles` names every task of the family in the family's order, and the place there is what chooses the colour: a
    task keeps it when others are left out. A task that is not in `titles` comes after them, under its key.
    """
    known = titles or {}
    order = {task: place for place, task in enumerate(known)}
    looks = []
    for task in tasks:
        place = order.setdefault(task, len(order))
        looks.append(TaskLook(plain(known.get(task, task), limit), task_colour(place), task_symbol(place)))
    return looks
