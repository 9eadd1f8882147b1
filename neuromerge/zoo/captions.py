"""What the base is told about a picture.

The base must know the world of pictures without having been taught the tasks: each picture gets a small pool
of captions, from which training draws one at a time. Pictures of a task are partly named finely ("ladybug"),
partly only broadly ("a picture of an animal"), and only a share of them is ever given its class name
("insect"). The fewer class names the base is told, the more the experts have to add: the shares are set so that the
base does about half as well as they do, as CLIP does among its experts.
"""

from __future__ import annotations

from neuromerge.zoo import tasks
from neuromerge.zoo.build import Picture
from neuromerge.zoo.splits import share

# Per task: share of pictures whose own (fine) name is told, and share whose class name is told.
TOLD: dict[str, tuple[float, float]] = {
    "animals": (0.8, 0.06),
    "food": (0.8, 0.06),
    "places": (0.8, 0.06),
    "faces": (0.8, 0.06),
    "flags": (0.3, 0.3),
    "digits": (0.0, 0.0),
    "styles": (1.0, 0.03),
}
# Of letters, the share that is named: in plain typefaces, and in all others.
LETTERS_TOLD = (0.25, 0.05)
# Of typed digits, which are no task: they are all that the base can know handwritten ones from.
TYPED_DIGITS_TOLD = 0.5
_BROAD = {
    "animals": ("an animal or plant", "a picture of nature"),
    "food": ("food or drink", "a picture of something to eat"),
    "places": ("a place or vehicle", "a picture of travel"),
    "faces": ("a face or heart", "a picture of a mood"),
    "flags": ("a flag", "the flag of a country", "a picture of a flag"),
    "letters": ("a letter", "a picture of a letter"),
    "digits": ("a handwritten digit", "a picture of a handwritten digit", "a number written by hand"),
}
_TYPED = ("a typed digit", "a picture of a typed digit")


def captions(picture: Picture, table: dict[str, tasks.Task]) -> list[str]:
    """The caption pool of one training picture; captions that should come more often stand in it more than once."""
    pool: list[str] = []
    task = table.get(picture.task)
    fine, named = TOLD.get(picture.task, (1.0, 0.0))
    if picture.kind == "typed digit":
        pool += _TYPED
        if share(picture.id, "class") < TYPED_DIGITS_TOLD:
            pool += [template.format(picture.names[0]) for template in table["digits"].templates]
    if task is not None:
        if picture.kind == "letter":
            named = LETTERS_TOLD[0 if picture.extra.get("plain") else 1]
        if share(picture.id, "class") < named:
            name = task.classes[picture.label]
            pool += [template.format(name) for template in task.templates]
        pool += _BROAD.get(picture.task, ())
    if share(picture.id, "fine") < fine and picture.kind not in ("letter", "typed digit", "handwritten"):
        for name in picture.names[:2]:
            if picture.kind == "flag":
                pool += [template.format(name) for template in tasks.FLAG_TEMPLATES]
            else:
                pool += [name, f"a picture of {name}", f"a picture of a {name}", f"an icon of {name}"]
    style = tasks.STYLE_NAMES.get(picture.extra.get("style", ""))
    if style and share(picture.id, "style") < TOLD["styles"][1]:
        pool += [f"a picture of {picture.names[0]} in {style} style"]
    return list(dict.fromkeys(pool)) or ["a picture"]
