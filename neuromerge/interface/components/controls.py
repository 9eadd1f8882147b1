"""The sidebar: every control of a merge, built from the registry of methods.

A method that registers itself gets its controls here without a line of interface code. All methods' controls
exist from the start; which of them are seen is the style sheet's affair (`method_rules`), so that a page never
waits for new ones and the server is not asked. Whatever a control sends is checked again by `make_setting`: a
browser may send anything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import gradio as gr

from neuromerge.errors import SettingError, quoted
from neuromerge.evaluation.families import Family
from neuromerge.exploration.results import MergeSummary
from neuromerge.interface.components.sliders import Sliders, rows_of
from neuromerge.interface.moment import Changes
from neuromerge.interface.own_models import KnownFamilies
from neuromerge.interface.session import Session, pin_label
from neuromerge.merging import registry
from neuromerge.merging.profile import as_mapping
from neuromerge.merging.registry import AUTO, Hyperparameter, MergeMethod
from neuromerge.merging.retention import RETENTION, retention_target
from neuromerge.settings.choices import DEFAULT_METHOD, OPENING, PRESETS, make_setting, opening_setting, preset
from neuromerge.settings.setting import MAX_SEED, Setting, Value
from neuromerge.settings.shapes import checked, split, with_factor

FEATURED_PRESETS = ("balanced", "auto", "plain_sum", "parallel_only", "orthogonal_only", "ties")
FIRST_COMPARISON = "task_arithmetic"
NO_COMPARISON = "none"
PIN_PREFIX = "pin:"
DIGITS = 5
"""Significant digits of a number beside a slider."""
MAX_ROWS = 256
"""Sliders of which a page may send moves: more than a network has blocks."""
MAX_PARTS = 1024
"""Cells that one slider may stand for."""
NO_FACTOR = "What the page sent is no factor on parts of the model. Reload the page."
_DATA_SET = re.compile(r"\(([^()]+)\)$")
LONGEST_LABEL = 15
"""Characters of a task's title that fit beside its tick and under its bars."""


@dataclass
class HyperparameterControl:
    """One parameter of one method: the widget that holds its value, and its Auto switch where it has one.

    `rule` is the menu of what Auto goes by, where that can be retention.
    """

    method: str
    spec: Hyperparameter
    widget: Any
    auto: gr.Checkbox | None = None
    rule: gr.Dropdown | None = None

    @property
    def widgets(self) -> list[Any]:
        """All that hold the parameter's value."""
        return [widget for widget in (self.widget, self.auto, self.rule) if widget is not None]

    def read(self, values: Mapping[Any, Any]) -> Any:
        """The value that `values` hold, by component; not checked."""
        if self.auto is None or not values[self.auto]:
            return values[self.widget]
        return AUTO if self.rule is None else values[self.rule]


@dataclass
class Controls:
    """The sidebar's components, and the way between them and a `Setting`.

    `profile` holds the shape of the merge's strength over the parts of the model, and `edit` the factors that were
    moved since, with the spelled out shape that they are laid over: a moved factor needs no answer of the server before
    it is followed.
    """

    families: KnownFamilies
    family: gr.Dropdown
    tasks: gr.CheckboxGroup
    all_tasks: gr.Button
    no_tasks: gr.Button
    suites: dict[tuple[str, int], gr.Button]
    method: gr.Dropdown
    hyperparameters: list[HyperparameterControl]
    sigma: gr.HTML
    seed: gr.Number
    presets: dict[str, gr.Button]
    undo: gr.Button
    redo: gr.Button
    reset: gr.Button
    weights: Sliders
    profile: gr.JSON
    edit: gr.JSON
    compare: gr.Dropdown
    pin: gr.Button
    link: gr.Button
    inputs: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        widgets = [widget for control in self.hyperparameters for widget in control.widgets]
        self.inputs = [self.family, self.tasks, self.method, self.seed, *self._shape, *widgets]

    @property
    def _shape(self) -> list[Any]:
        return [self.weights, self.profile, self.edit]

    @property
    def gathered(self) -> list[Any]:
        """What the browser collects of the sidebar, in this order: the comparison, and `inputs`."""
        return [self.compare, *self.inputs]

    @property
    def groups(self) -> list[list[Any]]:
        """The components of `gathered` that change together: those of each method, and the rest."""
        methods = dict.fromkeys(control.method for control in self.hyperparameters)
        own = [
            [widget for control in self.hyperparameters if control.method == method for widget in control.widgets]
            for method in methods
        ]
        return [[self.compare, self.family, self.tasks, self.method, self.seed, *self._shape], *own]

    def read(self, values: Any) -> dict[Any, Any]:
        """What the browser collected of `gathered`, by component. Raises SettingError where it sent something else."""
        if not isinstance(values, list) or len(values) != len(self.gathered):
            raise SettingError("What the page sent is not the state of its controls. Reload the page and try again.")
        return dict(zip(self.gathered, values, strict=True))

    def setting(self, values: Mapping[Any, Any]) -> Setting:
        """The setting that `values` of `inputs`, by component, describe. Raises SettingError for what is not legal."""
        method, tasks, seed = values[self.method], values[self.tasks], values[self.seed]
        given: dict[str, Any] = {}
        for control in self.hyperparameters:
            if control.method == method:
                given[control.spec.name] = control.read(values)
        if not tasks:
            raise SettingError("No expert is chosen: tick at least one under Experts, or press All.")
        family, names = self.family_called(values[self.family]), registry.get_method(method).component_names
        return make_setting(
            family,
            tasks,
            method,
            given,
            0 if seed is None else seed,
            profile=split(self.shape(values), names)[0],
            task_weights=weights_of(values[self.weights], tasks),
        )

    def shape(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """The whole shape that `values` hold, with what waits for another method. Raises SettingError for no shape."""
        rows = rows_of(values[self.edit])[:MAX_ROWS]
        shape = checked(rows[0].get("shape", values[self.profile]) if rows else values[self.profile])
        names = registry.get_method(values[self.method]).component_names
        for row in rows:
            coefficient = row.get("coefficient")
            if not isinstance(coefficient, str):
                raise SettingError(NO_FACTOR)
            for part in _parts_of(row):
                checked({part: row.get("value")})  # says what is wrong with it
                shape = with_factor(shape, part, coefficient, row["value"], names)
        return checked(shape)

    def shaped(self, shape: Mapping[str, Any]) -> Changes:
        """What holds a shape."""
        return {self.profile: gr.update(value=dict(shape)), self.edit: gr.update(value=[])}

    def updates(self, setting: Setting) -> Changes:
        """What shows `setting`; a control of another method stays as it is."""
        changes: Changes = {
            self.family: gr.update(value=setting.family),
            self.tasks: gr.update(choices=task_choices(self.family_called(setting.family)), value=list(setting.tasks)),
            self.method: gr.update(value=setting.method),
            self.seed: gr.update(value=setting.seed),
            self.weights: gr.update(value=weight_rows(self.family_called(setting.family), setting)),
            **self.shaped(as_mapping(setting.profile)),
        }
        for control, value in self._used(setting):
            changes |= self._shown(control, value)
            if control.auto is not None:
                changes[control.auto] = gr.update(value=is_automatic(value))
            if control.rule is not None and is_automatic(value):
                changes[control.rule] = gr.update(choices=rule_choices(control.spec, value), value=value)
        return changes

    @property
    def automatic(self) -> list[HyperparameterControl]:
        """The controls that have an Auto switch."""
        return [control for control in self.hyperparameters if control.auto is not None]

    def resolved(self, setting: Setting, summary: MergeSummary) -> list[SliderUpdate | None]:
        """What Auto came to, for each of `automatic`: what shall change of its slider; None where Auto is off."""
        chosen = dict(setting.hyperparameters)
        found: list[SliderUpdate | None] = []
        for control in self.automatic:
            automatic = control.method == setting.method and is_automatic(chosen[control.spec.name])
            value = auto_value(control.spec, summary) if automatic else None
            found.append(None if value is None else slider_showing(control.spec, value))
        return found

    def _used(self, setting: Setting) -> Iterator[tuple[HyperparameterControl, Value]]:
        """The controls of the setting's method, each with its value."""
        for control in self.hyperparameters:
            if control.method == setting.method:
                yield control, setting.value(control.spec.name)

    def titles(self, setting: Setting) -> dict[str, str]:
        """What people call each task of the setting's family."""
        family = self.family_called(setting.family)
        return {task: short_title(family, task) for task in family.tasks}

    def comparison(self, value: Any, setting: Setting, session: Session) -> tuple[Setting | None, str]:
        """The baseline that the menu of comparisons stands for, and its label ("" for none)."""
        if not isinstance(value, str) or value == NO_COMPARISON:
            return None, ""
        if value.startswith(PIN_PREFIX):
            for pinned in session.pins:
                if value == pin_key(pinned) and pinned.family == setting.family:
                    return pinned, pin_label(pinned)
            return None, ""
        method = registry.get_method(value)
        baseline = make_setting(self.family_called(setting.family), setting.tasks, method.name, {}, setting.seed)
        return baseline, method.title

    def family_called(self, name: Any) -> Family:
        """The family of that name. Raises SettingError for an unknown one, and for what is no name."""
        if not isinstance(name, str) or name not in self.families:
            raise SettingError(f"There is no model family {quoted(name)}. Known: {', '.join(self.families)}.")
        return self.families[name]

    @staticmethod
    def _shown(control: HyperparameterControl, value: Value) -> Changes:
        """What shows `value` on a control. What Auto comes to is not known yet."""
        if control.auto is not None and is_automatic(value):
            return {}
        if isinstance(control.widget, gr.Slider):
            return {control.widget: gr.update(**slider_showing(control.spec, float(value)))}
        return {control.widget: gr.update(value=value)}


def _parts_of(row: Mapping[str, Any]) -> list[str]:
    """The parts of the model that a moved factor is meant for."""
    parts = row.get("parts")
    if not isinstance(parts, list) or len(parts) > MAX_PARTS or not all(isinstance(part, str) for part in parts):
        raise SettingError(NO_FACTOR)
    return parts


def is_automatic(value: Value) -> bool:
    """Whether a coefficient is found by a rule: the paper's, or a retention."""
    return value == AUTO or retention_target(value) is not None


def rule_choices(spec: Hyperparameter, value: Value = RETENTION) -> list[tuple[str, str]]:
    """What Auto of a coefficient may go by, as (words, value); with `value` where it is another retention."""
    rules = [("By the method", AUTO)] if spec.auto else []
    rules.append(("Keep what the tasks learned (retention)", RETENTION))
    target = retention_target(value)
    if target is not None and value != RETENTION:
        rules.append((f"Keep {100 * target:.4g} % of what the tasks learned", str(value)))
    return rules


def auto_value(spec: Hyperparameter, summary: MergeSummary | None) -> float | None:
    """What Auto came to for a parameter, as far as the summary says."""
    value = None if summary is None else summary.coefficients.get(spec.name)
    return value if value is not None and math.isfinite(value) else None


class SliderUpdate(TypedDict):
    """What changes of a slider."""

    value: float
    minimum: float
    maximum: float


def slider_showing(spec: Hyperparameter, value: float) -> SliderUpdate:
    """What a slider needs to show `value`; it grows to hold one beyond its usual range."""
    low, high = slider_range(spec)
    value = float(f"{value:.{DIGITS}g}")
    return {"value": value, "minimum": min(low, value), "maximum": max(high, value)}


def slider_range(spec: Hyperparameter) -> tuple[float, float]:
    """The range worth showing on a slider, inside what is legal."""
    low = spec.minimum if spec.minimum is not None else 0.0
    high = spec.maximum if spec.maximum is not None else max(1.0, 2 * abs(float(spec.default)))
    if spec.slider is not None:
        low, high = spec.slider
    if spec.exclusive_maximum and spec.maximum is not None and high >= spec.maximum:
        high = spec.maximum - (spec.step or 0.01)
    return low, high


def uses_chance(method: MergeMethod) -> bool:
    """Whether a seed changes the method's result."""
    return method.stochastic


def method_text(method: MergeMethod) -> str:
    """The line under the menu of methods."""
    return f"{method.summary} <span class='nm-cite'>{method.citation}</span>"


def control_id(method: str, hyperparameter: str) -> str:
    """The id of the control of a method's parameter."""
    return f"{method}-{hyperparameter}".replace("_", "-")


def coefficient_control(method: str) -> tuple[str, str] | None:
    """Id and label of the control that a method's merge depends on most; None where it has no coefficient.

    That is the orthogonal part's where there are several: most of what experts learn is orthogonal.
    """
    entry = registry.get_method(method)
    names = entry.coefficients
    if not names:
        return None
    wanted = "lambda_orthogonal" if "lambda_orthogonal" in names else names[0]
    spec = next(spec for spec in entry.hyperparameters if spec.name == wanted)
    return control_id(method, wanted), spec.label


def group_id(method: str) -> str:
    """The id of the column that holds a method's controls."""
    return f"method-{method.replace('_', '-')}"


def suite_class(family: str) -> str:
    """The class of the buttons that choose a family's suites."""
    return "nm-suite-" + re.sub(r"[^A-Za-z0-9]", "-", family)


def suite_rules(families: Mapping[str, Family]) -> str:
    """CSS that hides the suites of every family but the one that the page's body names (see `SHOW_FAMILY`)."""
    return "".join(
        f"body:not([data-family='{suite_class(name)}']) .{suite_class(name)} {{ display: none !important; }}"
        for name, entry in families.items()
        if entry.suites
    )


def method_rules() -> str:
    """CSS that hides the controls of every method but the one that the page's body names (see `SHOW_METHOD`).

    Without a name, which is how a page starts, those of the method that it opens with are seen.
    """
    first = preset(OPENING).method

    def unless(*names: str) -> str:
        others = "".join(f":not([data-method='{name}'])" for name in names)
        return f"body{'[data-method]' if first in names else ''}{others}"

    hidden = [f"{unless(name)} #{group_id(name)}" for name in registry.methods()]
    hidden.append(f"{unless(*(name for name, entry in registry.methods().items() if uses_chance(entry)))} .nm-seed")
    return f"{', '.join(hidden)} {{ display: none !important; }}"


SHOW_RESOLVED = """
(resolved, ...autos) => autos.map((on, place) => {
  const shown = on && resolved ? resolved.shown[place] : null;
  return { __type__: 'update', ...shown };
})
"""
"""What Auto came to, on the sliders whose Auto is still on: a value may be typed while the server computes."""

# In the browser, in step with the menu of methods.
SHOW_METHOD = "(method) => { document.body.dataset.method = method; }"
SHOW_FAMILY = "(family) => { document.body.dataset.family = 'nm-suite-' + family.replace(/[^A-Za-z0-9]/g, '-'); }"


def task_choices(family: Family) -> list[tuple[str, str]]:
    """(title, name) of every expert of a family."""
    return [(short_title(family, task), task) for task in family.experts]


def short_title(family: Family, task: str) -> str:
    """What a label has room for: the task's title; the name of its data set in it, or its own, where that is long."""
    title = family.tasks[task].title if task in family.tasks else task
    if len(title) <= LONGEST_LABEL:
        return title
    data_set = _DATA_SET.search(title)
    return data_set[1] if data_set else task.replace("_", " ").capitalize()


def weight_rows(family: Family, setting: Setting | None = None) -> list[dict[str, Any]]:
    """A weight for each expert of a family, as rows of `Sliders`: those of a setting, or 1."""
    known: dict[str, float] = {}
    if setting is not None and setting.task_weights:
        known = dict(zip(setting.tasks, setting.task_weights, strict=True))
    return [{"task": task, "title": title, "value": known.get(task, 1.0)} for title, task in task_choices(family)]


def weights_of(rows: Any, tasks: Any) -> dict[str, Any]:
    """The weights of the ticked experts; that of an expert who is not ticked waits until he is."""
    chosen = tasks if isinstance(tasks, list | tuple) else ()
    given = {str(row.get("task")): row.get("value") for row in rows_of(rows)}
    return {task: weight for task, weight in given.items() if task in chosen}


def pin_key(setting: Setting) -> str:
    """The value of a pinned setting in the menu of comparisons; equal settings have equal keys."""
    return f"{PIN_PREFIX}{setting!r}"


def comparison_choices(session: Session) -> list[tuple[str, str]]:
    """The menu of comparisons: nothing, every other method at its defaults, what was pinned (newest first)."""
    others = registry.methods()
    default = others.pop(DEFAULT_METHOD)
    methods = [(method.title, name) for name, method in others.items()]
    pins = [(pin_label(pinned), pin_key(pinned)) for pinned in reversed(session.pins)]
    return [*pins, *methods, (f"{default.title} (auto)", default.name), ("Nothing", NO_COMPARISON)]


def unusual_text(setting: Setting) -> str:
    """A line for every number that lies beyond its slider: legal, and used as it is, but not by accident."""
    lines = []
    for spec in registry.get_method(setting.method).hyperparameters:
        value = setting.value(spec.name)
        if spec.slider is None or isinstance(value, (bool, str)):
            continue
        low, high = slider_range(spec)
        if not low <= value <= high:
            lines.append(
                f"<p class='nm-hint' role='status'>{spec.label}: {value:g} is beyond the usual {low:g} to {high:g}. "
                "It is allowed and used as it is.</p>"
            )
    return "".join(lines)


def sigma_text(setting: Setting, summary: MergeSummary) -> str:
    """The line under the coefficients of a method that trims: sigma, and what makes up for it."""
    method = registry.get_method(setting.method)
    if method.trims is None:
        return ""
    enough = 1 / (1 - summary.sigma) if summary.sigma < 1 else float("inf")
    published = dict(setting.hyperparameters).get("vote") == "published"  # Auto of no other vote goes by sigma
    makes_up = f"<span>1/(1 − σ) = <b>{enough:.3f}</b></span>" if published else ""
    return (
        f"<div class='nm-sigma'><span>σ = <b>{summary.sigma:.3f}</b></span>{makes_up}"
        "<span class='nm-hint'>σ: share of the change that the trim removed</span></div>"
    )


def build_controls(families: Mapping[str, Family]) -> Controls:
    """Put the controls where the caller's layout context is."""
    first = next(iter(families.values()))
    opening = opening_setting(first)
    with gr.Group(elem_classes="nm-group", elem_id="group-models"):
        gr.HTML("<h2>Models</h2>")
        family = gr.Dropdown(
            [(entry.title, name) for name, entry in families.items()],
            value=first.name,
            label="Model family",
            elem_id="family",
        )
        with gr.Row(elem_classes="nm-label-row"):
            gr.HTML("<span class='nm-label' id='experts-label'>Experts</span>")
            all_tasks = gr.Button("All", size="sm", elem_id="all-tasks", min_width=0, elem_classes="nm-link")
            no_tasks = gr.Button("None", size="sm", elem_id="no-tasks", min_width=0, elem_classes="nm-link")
        with gr.Row(elem_classes="nm-suites"):
            suites = {
                (name, count): gr.Button(
                    f"{count} tasks",
                    size="sm",
                    min_width=0,
                    elem_id=f"suite-{name}-{count}",
                    elem_classes=["nm-link", suite_class(name)],
                )
                for name, entry in families.items()
                for count in entry.suites
            }
        tasks = gr.CheckboxGroup(
            task_choices(first),
            value=list(opening.tasks),
            label="Experts",
            show_label=False,
            container=False,
            elem_id="tasks",
            elem_classes="nm-tasks",
        )
        with gr.Accordion("Weight of each expert", open=False, elem_id="weights-box", elem_classes="nm-weights"):
            gr.HTML(
                "<p>How loudly each expert speaks: 1 as it was trained, 0 not at all, 2 twice as loud.</p>",
                elem_classes="nm-note",
            )
            weights = Sliders(weight_rows(first), label="Weight of each expert", elem_id="weights")
        profile, edit = gr.JSON({}, visible=False), gr.JSON([], visible=False)
    with gr.Group(elem_classes="nm-group", elem_id="group-merge"):
        gr.HTML("<h2>Merge</h2>")
        method = gr.Dropdown(
            [(entry.title, name) for name, entry in registry.methods().items()],
            value=opening.method,
            label="Method",
            elem_id="method",
        )
        hyperparameters: list[HyperparameterControl] = []
        for name, entry in registry.methods().items():
            with gr.Column(elem_id=group_id(name), elem_classes="nm-parameters"):
                gr.HTML(f"<p>{method_text(entry)}</p>", elem_classes="nm-note")
                for spec in entry.hyperparameters:
                    start = opening.value(spec.name) if name == opening.method else spec.default
                    hyperparameters.append(_hyperparameter_control(entry, spec, start))
        sigma = gr.HTML("", elem_id="sigma")
        seed = gr.Number(
            0,
            precision=0,
            minimum=0,
            maximum=MAX_SEED,
            label="Seed",
            info="The same seed gives the same merge.",
            elem_id="seed",
            elem_classes="nm-seed",
        )
    with gr.Group(elem_classes="nm-group", elem_id="group-presets"):
        gr.HTML("<h2>Presets</h2>")
        with gr.Row(elem_classes="nm-presets"):
            presets = {
                entry.key: gr.Button(
                    entry.title, size="sm", min_width=0, elem_id=f"preset-{entry.key.replace('_', '-')}"
                )
                for entry in PRESETS
                if entry.key in FEATURED_PRESETS
            }
        with gr.Row(elem_classes="nm-history"):
            undo = gr.Button("Undo", size="sm", min_width=0, elem_id="undo", interactive=False)
            redo = gr.Button("Redo", size="sm", min_width=0, elem_id="redo", interactive=False)
            reset = gr.Button("Reset", size="sm", min_width=0, elem_id="reset")
    with gr.Group(elem_classes="nm-group", elem_id="group-share"):
        gr.HTML("<h2>Compare and share</h2>")
        choices = comparison_choices(Session())
        compare = gr.Dropdown(
            choices,
            value=FIRST_COMPARISON,
            label="Compare with",
            elem_id="compare",
        )
        with gr.Row(elem_classes="nm-history"):
            pin = gr.Button("Pin this setting", size="sm", min_width=0, elem_id="pin")
            link = gr.Button("Copy link", size="sm", min_width=0, elem_id="copy-link")
    return Controls(
        families=KnownFamilies(families),
        family=family,
        tasks=tasks,
        all_tasks=all_tasks,
        no_tasks=no_tasks,
        suites=suites,
        method=method,
        hyperparameters=hyperparameters,
        sigma=sigma,
        seed=seed,
        presets=presets,
        undo=undo,
        redo=redo,
        reset=reset,
        compare=compare,
        pin=pin,
        link=link,
        weights=weights,
        profile=profile,
        edit=edit,
    )


def _hyperparameter_control(method: MergeMethod, spec: Hyperparameter, start: Value) -> HyperparameterControl:
    """The widget for one parameter, at `start`: a slider, a number, a switch or a menu, by its kind."""
    identity = control_id(method.name, spec.name)
    common: dict[str, Any] = {"label": spec.label, "info": spec.description, "elem_id": identity}
    auto: gr.Checkbox | None = None
    rule: gr.Dropdown | None = None
    if spec.kind == "bool":
        widget: Any = gr.Checkbox(bool(start), **common)
    elif spec.kind == "choice":
        widget = gr.Dropdown(list(spec.choices), value=str(start), **common)
    else:
        low, high = slider_range(spec)
        automatic = is_automatic(start)
        step = spec.step or (1 if spec.kind == "int" else 0.01)
        widget = gr.Slider(low, high, value=low if automatic else float(start), step=step, **common)
        if spec.auto or spec.retention:
            auto = gr.Checkbox(
                automatic,
                label=f"Auto {spec.label}",
                elem_id=f"{identity}-auto",
                container=False,
                elem_classes="nm-auto",
            )
        if spec.retention:
            rules = rule_choices(spec, start)
            rule = gr.Dropdown(
                rules,
                value=start if automatic else rules[0][1],
                label=f"What Auto {spec.label} goes by",
                show_label=False,
                container=False,
                elem_id=f"{identity}-rule",
                elem_classes="nm-rule",
            )
    return HyperparameterControl(method.name, spec, widget, auto, rule)
