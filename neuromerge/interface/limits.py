"""Limits of a deployment, read once from the environment.

A public page needs them; a private one may raise them. Every one is an environment variable with a default
that suits two processor cores and 16 GB of memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from neuromerge.errors import LimitError, SettingError


@dataclass(frozen=True)
class Limits:
    """What one visitor may send and how many may wait. Each field is the variable ``NEUROMERGE_<FIELD>``."""

    max_upload_bytes: int = 8 * 2**20  # one uploaded picture
    max_pixels: int = 16_000_000  # width x height of an uploaded picture
    max_classes: int = 100  # class names typed for one picture
    max_class_length: int = 80  # characters of one class name
    max_prompt_length: int = 200  # characters of the prompt template
    max_trials: int = 200  # trials of one search
    queue_size: int = 256  # events that may wait; more are refused with a message
    light_workers: int = 8  # moved controls followed at the same time: figures and quick accuracy
    heavy_workers: int = 4  # galleries, tabs that are costly to draw and exports at the same time
    settling_workers: int = 2  # whole validation splits at the same time
    searches: int = 2  # maps and searches at the same time
    sessions: int = 256  # pages remembered at the same time
    session_seconds: int = 3600  # how long an idle page is remembered
    export_seconds: int = 900  # how long an exported file stays

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Limits:
        """The limits of this process. Raises SettingError for a variable that is not a positive whole number."""
        environment = os.environ if environment is None else environment
        given: dict[str, int] = {}
        for field in fields(cls):
            name = f"NEUROMERGE_{field.name.upper()}"
            text = environment.get(name, "").strip()
            if not text:
                continue
            if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**40:
                raise SettingError(f"The environment variable {name} must be a positive whole number, not {text!r}.")
            given[field.name] = int(text)
        return cls(**given)


def is_public() -> bool:
    """Whether strangers use this page: on a Hugging Face Space, or when NEUROMERGE_PUBLIC says so."""
    told = os.environ.get("NEUROMERGE_PUBLIC", "").strip().lower()
    return told in ("1", "true", "yes") if told else bool(os.environ.get("SPACE_ID"))


def check_class_names(text: object, limits: Limits) -> tuple[str, ...]:
    """Class names from text, one a line or separated by commas; blanks and repeats left out.

    Raises SettingError when fewer than two are left, LimitError when there are too many or one is too long.
    """
    if not isinstance(text, str):
        raise SettingError("Class names must be text, one name a line.")
    if len(text) > limits.max_classes * (limits.max_class_length + 2):
        raise LimitError(f"The list of class names is too long: at most {limits.max_classes} names are possible.")
    pieces = text.replace(",", "\n").splitlines()
    names = tuple(dict.fromkeys(name for piece in pieces if (name := " ".join(_printable(piece).split()))))
    if len(names) < 2:
        raise SettingError("Type at least two class names, one a line: the model chooses between them.")
    if len(names) > limits.max_classes:
        raise LimitError(f"These are {len(names)} class names; at most {limits.max_classes} are possible here.")
    for name in names:
        if len(name) > limits.max_class_length:
            raise LimitError(
                f"The class name “{name[:30]}…” has {len(name)} characters; at most {limits.max_class_length} "
                "are possible."
            )
    return names


def check_template(text: object, limits: Limits) -> str:
    """A prompt template with exactly one place ``{}`` for the class name.

    Raises SettingError when there is no such place or several, LimitError when it is too long.
    """
    if not isinstance(text, str):
        raise SettingError("The prompt must be text with {} where the class name goes.")
    template = " ".join(_printable(text).split())
    if len(template) > limits.max_prompt_length:
        raise LimitError(f"The prompt has {len(template)} characters; at most {limits.max_prompt_length} are possible.")
    if template.count("{}") != 1 or template.replace("{}", "").count("{") or template.replace("{}", "").count("}"):
        raise SettingError("The prompt needs {} exactly once, where the class name goes: a picture of a {}.")
    return template


def _printable(text: str) -> str:
    """`text` with characters that are not printable turned into spaces."""
    return "".join(character if character.isprintable() else " " for character in text)
