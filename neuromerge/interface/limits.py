"""What visitors may type: class names and prompts, checked against the limits of the deployment."""

from __future__ import annotations

from neuromerge.deployment import Limits
from neuromerge.errors import LimitError, SettingError


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
