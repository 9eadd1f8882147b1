"""Permalinks: the whole state of the page as a short query string, and back.

Format, version 1 (`?v=1&f=pictoclip&t=digits,flags&m=neuromerging&p=trim_ratio:0.8,lambda_parallel:0`):

==========  ===================================================================
``v``       version of this format
``f``       family
``t``       merged tasks, commas between; absent: those that the family opens with
``m``       merge method; absent: the library's default, whatever the page opens with
``p``       its hyperparameters that are not at their defaults, ``name:value``
``s``       seed, when it is not 0
``w``       weights of tasks that are not 1, ``task:weight``
``x``       the profile: ``part:factor``, or ``part@coefficient:factor``; numbers of a curve with ``~`` between
``pin``     the pinned baseline: ``method;name:value,...;task,...;seed;w;x``, trailing empty parts left out; or ``none``
``tab``     open tab
``step``    step of the tour, counted from 1
``hide``    parts of the page that are left out, commas between (see `lesson.hiding`)
==========  ===================================================================

and what the tabs show, as their states declare it (`state.linked`): ``measure``, ``cell``, ``cells``, ``sort``,
``act``, ``show``, ``over``, ``only``, ``versus`` of the Interference tab, ``task`` of the gallery, ``cell`` and ``n``
of the Neuron tab.

A link may be years old or written by a stranger. Each field is checked on its own; one that cannot be used
is left at its default and explained in a message, and the rest applies. Unknown fields are mentioned, except
those that browsers and hosts add themselves (``utm_...``, names that start with ``__``). An address that says nothing
of a merge, such as that of a fresh page whose tabs were opened, has the merge that `opening_setting` says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from neuromerge.errors import NeuroMergeError, SettingError, quoted
from neuromerge.interface.lesson.hiding import parts
from neuromerge.interface.state import TabState, links
from neuromerge.merging import registry
from neuromerge.merging.profile import make_task_weights
from neuromerge.settings.choices import (
    DEFAULT_METHOD,
    check_profile,
    check_seed,
    make_setting,
    opening_setting,
    order_tasks,
)
from neuromerge.settings.setting import Setting, Value

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

VERSION = "1"
NOTHING = "none"
"""In place of a pinned baseline: compare with nothing."""
MAX_LENGTH = 16384
MAX_MESSAGES = 8

_FIELDS = ("v", "f", "t", "m", "p", "s", "w", "x", "pin", "tab")
_OF_LESSON = ("step", "hide")
"""What a teacher's link adds: it says nothing of the merge."""
_OF_FAMILY = ("t", "w", "x", "pin")
_OF_MERGE = frozenset({"v", "t", "m", "p", "s", "w", "x"})
"""What says that a link is about a merge. One that only opens a tab, as the address of a fresh page does, is not."""
_NOT_OURS = re.compile(r"^(utm_\w*|__\w*|fbclid|gclid|logs|embed|view|deep_link|session_hash)$")


Tabs = Mapping[str, type[TabState]]
"""What there is to restore: the kind of state of each tab, by the tab's key."""


@dataclass(frozen=True)
class PageState:
    """What a permalink restores: the setting, the pinned baseline and what the tabs show, by their keys.

    Whether the family has the cell and the neuron that a tab shows is only known to the workspace, which says so when
    it is asked for them. `compared` is False where the visitor compares with nothing; otherwise no `pinned` means the
    page's usual baseline.
    """

    setting: Setting
    pinned: Setting | None = None
    compared: bool = True
    tab: str = ""
    states: Mapping[str, TabState] = field(default_factory=dict)


def encode(state: PageState, tabs: Tabs) -> str:
    """The query string of a page state, without the question mark. Defaults are left out to keep it short."""
    setting = state.setting
    fields: dict[str, str] = {
        "v": VERSION,
        "f": setting.family,
        "t": _encode_tasks(setting.tasks),
        "m": setting.method,
        "p": _encode_parameters(setting),
        "s": str(setting.seed) if setting.seed else "",
        "w": _encode_weights(setting),
        "x": _encode_profile(setting),
        "pin": _encode_pin(state.pinned, setting) if state.compared else NOTHING,
        "tab": state.tab,
        **_encode_tabs(state, tabs),
    }
    return urlencode({name: text for name, text in fields.items() if text}, safe=",:;~")


def decode(
    query: str | Mapping[str, Any],
    families: Mapping[str, Family],
    tabs: Tabs,
    default_family: str | None = None,
) -> tuple[PageState, tuple[str, ...]]:
    """The page state of a query string (or of its parsed fields), and messages about what could not be used.

    Never raises for what the query holds. `default_family` (the first one when None) stands in for a missing
    or unknown family. Raises SettingError only when there is no family at all.
    """
    if not families:
        raise SettingError("No model family is available.")
    messages: list[str] = []
    linked = {link.name: link for kind in tabs.values() for link in links(kind).values()}
    fields = _fields_of(query, (*_FIELDS, *_OF_LESSON, *linked), messages)
    _check_hidden(fields, tabs, messages)
    for name in _OF_LESSON:
        fields.pop(name, None)
    if fields.get("v", VERSION) != VERSION:
        messages.append(
            f"This link is written for version {quoted(fields['v'])} of the page; this is version {VERSION}, "
            "so some of it may not apply."
        )
    family = families.get(default_family or "") or next(iter(families.values()))
    if fields.get("f", family.name) in families:
        family = families[fields.get("f", family.name)]
    else:
        messages.append(f"The link names the family {quoted(fields['f'])}, which is not here; showing {family.name}.")
        for dependent in (*_OF_FAMILY, *(link.name for link in linked.values() if link.of_family)):
            fields.pop(dependent, None)

    setting = _setting(family, fields, messages) if _OF_MERGE & set(fields) else opening_setting(family)
    return (
        PageState(
            setting=setting,
            pinned=_pinned(family, setting, fields, messages),
            compared=fields.get("pin") != NOTHING,
            tab=_tab(fields, tabs, messages),
            states=_decode_tabs(fields, tabs, family, messages),
        ),
        _shortened(messages),
    )


# ------------------------------------------------------------------------------------------------ encoding


def _number(value: Value) -> str:
    """A value as text that reads back equal: the shortest exact float, `true`, `auto`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def _encode_tasks(tasks: tuple[str, ...]) -> str:
    """Task names with commas between; a name's own punctuation (folders of a user) is escaped."""
    return ",".join(quote(task, safe="") for task in tasks)


def _encode_parameters(setting: Setting) -> str:
    defaults = {spec.name: spec.default for spec in registry.get_method(setting.method).hyperparameters}
    changed = [(name, value) for name, value in setting.hyperparameters if value != defaults[name]]
    return ",".join(f"{name}:{_number(value)}" for name, value in changed)


def _encode_pin(pinned: Setting | None, setting: Setting) -> str:
    if pinned is None or pinned.family != setting.family:
        return ""
    tasks = "" if pinned.tasks == setting.tasks else _encode_tasks(pinned.tasks)
    seed = str(pinned.seed) if pinned.seed else ""
    shape = (_encode_weights(pinned), _encode_profile(pinned))
    return ";".join((pinned.method, _encode_parameters(pinned), tasks, seed, *shape)).rstrip(";")


def _encode_weights(setting: Setting) -> str:
    pairs = zip(setting.tasks, setting.task_weights, strict=True) if setting.task_weights else ()
    return ",".join(f"{quote(task, safe='')}:{_number(weight)}" for task, weight in pairs if weight != 1.0)


def _encode_profile(setting: Setting) -> str:
    """Names are escaped, so that a part called anything at all reads back equal."""
    return ",".join(
        quote(factor.part, safe="/ ")
        + (f"@{quote(factor.coefficient, safe='')}" if factor.coefficient else "")
        + ":"
        + "~".join(map(_number, factor.curve))
        for factor in setting.profile
    )


def _encode_tabs(page: PageState, tabs: Tabs) -> dict[str, str]:
    """What the tabs show. Of two that use one name the open tab decides, then the one that stands first."""
    fields: dict[str, str] = {}
    for key in sorted(tabs, key=lambda key: key != page.tab):
        state = page.states.get(key, tabs[key]())
        texts = {link.name: link.text(getattr(state, name)) for name, link in links(tabs[key]).items()}
        for link in links(tabs[key]).values():
            if not link.beside or fields.get(link.beside) == texts[link.beside]:
                fields.setdefault(link.name, texts[link.name])
    return fields


# ------------------------------------------------------------------------------------------------ decoding


def _shortened(messages: list[str]) -> tuple[str, ...]:
    """The first messages; a hostile link could cause thousands."""
    left_out = len(messages) - MAX_MESSAGES
    return tuple(messages) if left_out <= 0 else (*messages[:MAX_MESSAGES], f"And {left_out} more problems.")


def _fields_of(query: str | Mapping[str, Any], known: Collection[str], messages: list[str]) -> dict[str, str]:
    """Known fields as texts; mentions unknown, repeated and overlong ones."""
    if isinstance(query, str):
        if len(query) > MAX_LENGTH:
            messages.append(f"The link is longer than {MAX_LENGTH} characters and was not used.")
            return {}
        try:
            pairs: list[tuple[Any, Any]] = list(parse_qsl(query.removeprefix("?"), max_num_fields=64))
        except ValueError:
            messages.append("The link has too many fields and was not used.")
            return {}
    else:
        pairs = list(query.items())[:64]
    fields: dict[str, str] = {}
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str) or len(value) > MAX_LENGTH:
            messages.append(f"A field of the link could not be read: {quoted(name)}.")
        elif name in known:
            if name in fields:
                messages.append(f"The link gives {name} twice; the last one counts.")
            fields[name] = value
        elif not _NOT_OURS.match(name):
            messages.append(f"The link has an unknown field {quoted(name)}, which was left out.")
    return fields


def _check_hidden(fields: Mapping[str, str], tabs: Tabs, messages: list[str]) -> None:
    """Mention what the link would hide and the page does not have. The browser hides the rest."""
    known = parts(tabs)
    unknown = [name for name in fields.get("hide", "").split(",") if name and name not in known]
    if unknown:
        messages.append(f"The link hides {', '.join(map(quoted, unknown[:5]))}; it can hide {', '.join(known)}.")


def _setting(family: Family, fields: Mapping[str, str], messages: list[str]) -> Setting:
    method = fields.get("m", DEFAULT_METHOD)
    if method not in registry.methods():
        messages.append(f"The link asks for the method {quoted(method)}, which does not exist; using {DEFAULT_METHOD}.")
        method = DEFAULT_METHOD
        hyperparameters = {}
    else:
        hyperparameters = _hyperparameters(method, fields.get("p", ""), messages)
    seed = _seed(fields.get("s", "0"), messages)
    tasks = _tasks(family, fields.get("t"), messages)
    setting = make_setting(family, tasks, method, hyperparameters, seed)
    return _shaped(setting, fields.get("w", ""), fields.get("x", ""), messages)


def _shaped(setting: Setting, weights: str, profile: str, messages: list[str]) -> Setting:
    """The setting with weights and a profile of a link, each left out with a message where it cannot be used."""
    try:
        setting = replace(setting, task_weights=make_task_weights(_read_weights(weights), setting.tasks))
    except SettingError as error:
        messages.append(f"The link's weights were left out: {error}")
    try:
        shape = check_profile(registry.get_method(setting.method), _read_profile(profile))
        setting = replace(setting, profile=shape)
    except SettingError as error:
        messages.append(f"The link's profile was left out: {error}")
    return setting


def _read_weights(text: str) -> dict[str, float]:
    pairs = [part.rpartition(":") for part in text.split(",") if part]
    return {unquote(task): _read_number(weight) for task, _, weight in pairs}


def _read_profile(text: str) -> dict[str, Any]:
    """A mapping as `make_profile` takes it. Raises SettingError for what is no number, and for a part named twice."""
    shape: dict[str, Any] = {}
    for entry in text.split(",") if text else ():
        name, _, numbers = entry.rpartition(":")
        part, at, coefficient = name.partition("@")
        curve = [_read_number(word) for word in numbers.split("~")]
        value = curve[0] if len(curve) == 1 else curve
        part, coefficient = unquote(part), unquote(coefficient)
        held = shape.setdefault(part, {}) if at else shape
        key = coefficient if at else part
        if not isinstance(held, dict) or key in held:
            raise SettingError(f"It names {quoted(part)} twice.")
        held[key] = value
    return shape


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SettingError(f"{quoted(text)} is no number.") from None


def _tasks(family: Family, text: str | None, messages: list[str]) -> tuple[str, ...]:
    """Tasks named in the link; unknown ones are mentioned and left out, none left means the usual ones."""
    usual = family.default_tasks or None
    if not text:
        return order_tasks(family, usual)
    named = dict.fromkeys(unquote(name) for name in text.split(",") if name)
    unknown = [name for name in named if name not in family.experts]
    if unknown:
        messages.append(f"The family {family.name} has no task {', '.join(map(quoted, unknown[:5]))}.")
    return order_tasks(family, [name for name in named if name in family.experts] or usual)


def _hyperparameters(method: str, text: str, messages: list[str]) -> dict[str, Value]:
    """Hyperparameters of the link, each checked on its own."""
    specs = {spec.name: spec for spec in registry.get_method(method).hyperparameters}
    values: dict[str, Value] = {}
    for part in text.split(",") if text else ():
        name, colon, value = part.partition(":")
        if not colon or name not in specs:
            messages.append(f"The method {method} has no parameter {quoted(name)}; it was left out.")
            continue
        try:
            values[name] = specs[name].check(value)
        except SettingError as error:
            messages.append(f"{error} Its default {_number(specs[name].default)} is used.")
    return values


def _seed(text: str, messages: list[str]) -> int:
    try:
        return check_seed(text)
    except SettingError as error:
        messages.append(str(error))
        return 0


def _pinned(family: Family, setting: Setting, fields: Mapping[str, str], messages: list[str]) -> Setting | None:
    """The pinned baseline; its tasks are those of the setting where the link names none."""
    if fields.get("pin", NOTHING) in ("", NOTHING):
        return None
    given = [*fields["pin"].split(";"), "", "", "", "", "", ""]
    method, hyperparameters, tasks, seed, weights, profile, *rest = given
    if method not in registry.methods() or any(rest):
        messages.append(f"The pinned setting of the link could not be read: {quoted(fields['pin'])}.")
        return None
    chosen = _tasks(family, tasks, messages) if tasks else setting.tasks
    try:
        values = _hyperparameters(method, hyperparameters, messages)
        setting = make_setting(family, chosen, method, values, _seed(seed or "0", messages))
        return _shaped(setting, weights, profile, messages)
    except NeuroMergeError as error:
        messages.append(f"The pinned setting of the link could not be used: {error}")
        return None


def _tab(fields: Mapping[str, str], tabs: Tabs, messages: list[str]) -> str:
    key = fields.get("tab", "")
    if key and key not in tabs:
        messages.append(f"The link's tab is {quoted(key)}; it can be {', '.join(tabs)}.")
        return ""
    return key


def _decode_tabs(fields: Mapping[str, str], tabs: Tabs, family: Family, messages: list[str]) -> dict[str, TabState]:
    states: dict[str, TabState] = {}
    refused: dict[str, str] = {}
    for key, kind in tabs.items():
        given: dict[str, Any] = {}
        for name, link in links(kind).items():
            text = fields.get(link.name, "")
            if not text:
                continue
            try:
                given[name] = link.codec.read(text, family)
            except SettingError as error:
                refused[link.name] = f"The link's {link.name} is {quoted(text)}; {error}."
        states[key] = kind(**given)
    messages += refused.values()  # once, where two tabs use one name
    return states
