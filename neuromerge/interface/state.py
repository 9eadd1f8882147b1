"""What a tab shows, as a value: a frozen dataclass whose fields say themselves how a permalink writes them.

::

    @dataclass(frozen=True)
    class InterferenceState(TabState):
        measure: str = linked("measure", "retention", one_of(lambda family: MEASURE_KEYS))
        place: int = 0                      # remembered by the page, but not in its links
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from neuromerge.errors import SettingError

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

_METADATA = "link"
_CELL = re.compile(r"[a-z0-9][a-z0-9_ .]{0,39}~[a-z0-9][a-z0-9_]{0,29}")
_LONGEST_NUMBER = 7


@dataclass(frozen=True)
class TabState:
    """What one tab shows. Every field has a default: together they are the tab as a fresh page has it."""


class CellName(NamedTuple):
    """The name of a cell of the heatmaps: one matrix of one layer."""

    layer: str
    matrix: str


@dataclass(frozen=True)
class Codec:
    """How a value is written into a link and read from one.

    `read` takes the text and the link's family; it raises SettingError that says what the text can be. What `write`
    makes of a value, `read` turns into the same value.
    """

    read: Callable[[str, Family], Any]
    write: Callable[[Any], str] = str


@dataclass(frozen=True)
class Link:
    """A field's place in a permalink.

    Attributes:
        name: the name in the query string. Two tabs may use one name for the same thing; the open tab's value is
            then the one that is written.
        default: what is not written.
        codec: how it is written.
        of_family: whether it means nothing under another family.
        beside: name of another field of the link that this one belongs to: it is written only where the link holds
            that other field's value of the same tab.
    """

    name: str
    default: Any
    codec: Codec
    of_family: bool = False
    beside: str = ""

    def text(self, value: Any) -> str:
        """The field in a link; "" for its default."""
        return "" if value == self.default else self.codec.write(value)


def linked(name: str, default: Any, codec: Codec, *, of_family: bool = False, beside: str = "") -> Any:
    """A field of a `TabState` that permalinks hold; see `Link`."""
    return field(default=default, metadata={_METADATA: Link(name, default, codec, of_family, beside)})


def links(state: type[TabState]) -> dict[str, Link]:
    """The fields of a state that permalinks hold, by the field's own name."""
    return {entry.name: entry.metadata[_METADATA] for entry in fields(state) if _METADATA in entry.metadata}


def check_defaults(state: type[TabState]) -> None:
    """Raise TypeError where a field of a state has no default."""
    lacking: list[Field[Any]] = [
        entry for entry in fields(state) if entry.default is MISSING and entry.default_factory is MISSING
    ]
    if lacking:
        raise TypeError(f"{state.__name__}.{lacking[0].name} needs a default: a fresh page shows it.")


# ------------------------------------------------------------------------------------------------ codecs
def one_of(known: Callable[[Family], Iterable[str]]) -> Codec:
    """One of some words, which may depend on the family."""

    def read(text: str, family: Family) -> str:
        words = tuple(known(family))
        if text not in words:
            raise SettingError(f"it can be {', '.join(words)}")
        return text

    return Codec(read)


def _read_cell(text: str, family: Family) -> CellName:
    if not _CELL.fullmatch(text):
        raise SettingError("it must be of the form layer~matrix")
    layer, _, matrix = text.partition("~")
    return CellName(layer, matrix)


def _read_number(text: str, family: Family) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise SettingError("it must be the number of a neuron, counted from 0")
    return int(text)


CELL = Codec(_read_cell, lambda cell: f"{cell[0]}~{cell[1]}")
"""A `CellName` as ``layer~matrix``. Whether the family has it, only the workspace knows."""
CELLS = Codec(
    lambda text, family: tuple(dict.fromkeys(_read_cell(cell, family) for cell in text.split(","))),
    lambda cells: ",".join(map(CELL.write, cells)),
)
"""Several of them, with commas between."""
NEURON = Codec(_read_number)
"""The number of a neuron within its matrix."""
