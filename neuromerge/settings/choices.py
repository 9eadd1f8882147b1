"""Making settings: from what a person chose to one validated, complete `Setting`; presets; undo and redo.

Everything here is pure and cheap: no weights are read. A `Setting` that came out of `make_setting` is legal
for its family and its method, so the workspace never has to doubt one, and two people who chose the same
thing in another order hold equal values and share one cached result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from neuromerge.errors import SettingError, quoted
from neuromerge.merging import registry
from neuromerge.merging.hyperparameters import Hyperparameter
from neuromerge.merging.profile import Profile, as_mapping, make_profile, make_task_weights
from neuromerge.settings.setting import MAX_SEED, Setting, Value

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

DEFAULT_METHOD = "neuromerging"


def family_of(family: Family | str) -> Family:
    """The family itself, or the registered one of that name. Raises SettingError for an unknown name."""
    if not isinstance(family, str):
        return family
    from neuromerge.evaluation.families import get_family

    return get_family(family)


def check_seed(seed: Any) -> int:
    """`seed` as a whole number from 0 to 2**32 - 1 (numbers in text count). Raises SettingError otherwise."""
    try:
        if isinstance(seed, bool):
            raise TypeError
        number = float(seed)
        whole = int(seed) if isinstance(seed, (int, str)) else int(number)
        if whole != number or not 0 <= whole <= MAX_SEED:
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise SettingError(f"The seed must be a whole number from 0 to {MAX_SEED}, not {quoted(seed)}.") from None
    return whole


def order_tasks(family: Family, tasks: Iterable[str] | None) -> tuple[str, ...]:
    """`tasks` in the family's own order; None means all of them.

    Raises SettingError when a task is unknown, named twice, or none is chosen.
    """
    known = tuple(family.experts)
    if tasks is None:
        return known
    if isinstance(tasks, str):
        raise SettingError("Tasks must be a list of names, not one text.")
    try:
        chosen = list(tasks)
    except TypeError:
        raise SettingError(f"Tasks must be a list of names, not {quoted(tasks)}.") from None
    if not chosen:
        raise SettingError("Choose at least one task to merge.")
    for task in chosen:
        if not isinstance(task, str) or task not in known:
            raise SettingError(
                f"The family {family.name} has no task {quoted(task)}. It has: {', '.join(known) or 'none'}."
            )
    if len(set(chosen)) < len(chosen):
        raise SettingError("Each task can take part once: " + ", ".join(map(str, chosen)) + " names one twice.")
    return tuple(task for task in known if task in chosen)


def make_setting(
    family: Family | str,
    tasks: Iterable[str] | None = None,
    method: str = DEFAULT_METHOD,
    hyperparameters: Mapping[str, Any] | None = None,
    seed: Any = 0,
    *,
    profile: Mapping[str, Any] | Profile | None = None,
    task_weights: Mapping[str, Any] | None = None,
) -> Setting:
    """A complete, legal setting: hyperparameters checked, defaults filled in, tasks in the family's order.

    `tasks` None means every task of the family. Raises SettingError saying what is not legal, and what is. Whether
    the parts of `profile` exist is known where the model is read.
    """
    family = family_of(family)
    if hyperparameters is not None and not isinstance(hyperparameters, Mapping):
        raise SettingError(f"Parameters must be names with values, not {quoted(hyperparameters)}.")
    chosen = registry.get_method(method)
    values = registry.check_values(chosen, hyperparameters or {})
    ordered = order_tasks(family, tasks)
    if task_weights is not None and not isinstance(task_weights, Mapping):
        raise SettingError(f"Task weights must be names with numbers, not {quoted(task_weights)}.")
    return Setting(
        family=family.name,
        tasks=ordered,
        method=chosen.name,
        hyperparameters=tuple(sorted(values.items())),
        seed=check_seed(seed),
        profile=check_profile(chosen, profile),
        task_weights=make_task_weights(task_weights, ordered),
    )


def check_profile(method: registry.MergeMethod, given: Mapping[str, Any] | Profile | None) -> Profile:
    """The profile of a merge by `method`. Raises SettingError for a coefficient that the method does not have."""
    profile = make_profile(given)
    for factor in profile:
        if factor.coefficient and factor.coefficient not in method.component_names:
            raise SettingError(
                f"The profile names {quoted(factor.coefficient)} at {quoted(factor.part)}, which is no coefficient of "
                f"{method.name}. It has: {', '.join(method.coefficients) or 'none'}."
            )
    if len(method.component_names) > 1:
        return profile
    # The only coefficient is meant either way: equal merges are equal settings.
    alone = tuple(sorted(replace(factor, coefficient="") for factor in profile))
    return make_profile(as_mapping(alone))


def opening_setting(family: Family) -> Setting:
    """The merge that a fresh page of a family opens with: its default tasks, by the preset `OPENING`."""
    return preset(OPENING).apply(make_setting(family, family.default_tasks or None), family)


def first_setting(families: Mapping[str, Family]) -> Setting:
    """The merge that a fresh page opens with: that of the first family."""
    return opening_setting(next(iter(families.values())))


def change(setting: Setting, family: Family | str | None = None, **changes: Any) -> Setting:
    """`setting` with some method hyperparameters changed, e.g. ``change(s, lambda_orthogonal=1.2)``; checked again.

    Profile and task weights stay as they are. Raises SettingError for a name the method does not have or a value
    out of range.
    """
    values = {**dict(setting.hyperparameters), **changes}
    changed = make_setting(family or setting.family, setting.tasks, setting.method, values, setting.seed)
    return replace(changed, profile=setting.profile, task_weights=setting.task_weights)


def describe(setting: Setting) -> str:
    """One short line for a legend: the method's title and the controls that do not stand at their defaults."""
    method = registry.get_method(setting.method)
    specs = {spec.name: spec for spec in method.hyperparameters}
    given = [(specs[name], value) for name, value in setting.hyperparameters if value != specs[name].default]
    changed = [f"{_inside(spec.label)}{':' if spec.kind == 'choice' else ''} {short(value)}" for spec, value in given]
    if setting.profile:
        parts = len({factor.part for factor in setting.profile})
        changed.append(f"profile of {parts} part{'s' if parts > 1 else ''}{_told_alone(setting.profile, specs)}")
    if setting.task_weights:
        pairs = zip(setting.tasks, setting.task_weights, strict=True)
        changed.append("weights " + " ".join(f"{task} {short(weight)}" for task, weight in pairs if weight != 1.0))
    return " · ".join([method.title, *changed])


def _told_alone(profile: Profile, specs: Mapping[str, Hyperparameter]) -> str:
    """What the only factor of a profile is; nothing where there are several."""
    if len(profile) > 1 or len(profile[0].curve) > 1:
        return ""
    (factor,) = profile
    on = f" {_inside(specs[factor.coefficient].label)}" if factor.coefficient in specs else ""
    return f": {factor.part}{on} × {short(factor.curve[0])}"


def _inside(label: str) -> str:
    """A control's label within a line."""
    return label[:1].lower() + label[1:]


def short(value: Value) -> str:
    """A value as a person writes it: `0.8`, `auto`, `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Preset:
    """A named starting point: a method with some of its hyperparameters; the rest stay at their defaults."""

    key: str
    title: str
    sentence: str
    method: str
    hyperparameters: tuple[tuple[str, Value], ...] = ()

    def apply(self, setting: Setting, family: Family | str | None = None) -> Setting:
        """The preset on the family, tasks and seed of `setting`; without its profile and weights: a fresh start."""
        return make_setting(
            family or setting.family, setting.tasks, self.method, dict(self.hyperparameters), seed=setting.seed
        )


PRESETS: tuple[Preset, ...] = (
    Preset(
        "balanced",
        "NeuroMerging, balanced vote (ours)",
        "Needs no validation data: nothing trimmed, and every task finds its own part whole, without jumps.",
        "neuromerging",
        (("trim_ratio", 0.0), ("vote", "balanced"), ("lambda_parallel", 0.0), ("lambda_orthogonal", "auto")),
    ),
    Preset(
        "auto",
        "Paper's auto setting",
        "Needs no validation data: no parallel part, and the orthogonal part scaled up by what the trim removed.",
        "neuromerging",
        (("trim_ratio", 0.8), ("lambda_parallel", 0.0), ("lambda_orthogonal", "auto")),
    ),
    Preset(
        "plain_sum",
        "Plain sum",
        "Every task vector added whole: task arithmetic with scale 1.",
        "task_arithmetic",
        (("scale", 1.0),),
    ),
    Preset(
        "parallel_only",
        "Parallel only",
        "Every neuron keeps its direction and only its sensitivity changes.",
        "neuromerging",
        (("trim_ratio", 0.8), ("lambda_parallel", 1.0), ("lambda_orthogonal", 0.0)),
    ),
    Preset(
        "orthogonal_only",
        "Orthogonal only",
        "Neurons learn new input directions and keep their sensitivity to the old one.",
        "neuromerging",
        (("trim_ratio", 0.8), ("lambda_parallel", 0.0), ("lambda_orthogonal", 1.0)),
    ),
    Preset("ties", "TIES", "Trim, elect a sign for every single weight, average those that agree.", "ties"),
    Preset("task_arithmetic", "Task arithmetic", "Add every task vector, scaled by one number.", "task_arithmetic"),
)

OPENING = "balanced"
"""The preset that a fresh page opens with: of what needs no tuning, the best mean on validation pictures over random
subsets of the tasks. The library's own default is `DEFAULT_METHOD` as published."""


def preset(key: str) -> Preset:
    """The preset called `key`. Raises SettingError listing the known ones."""
    for candidate in PRESETS:
        if candidate.key == key:
            return candidate
    raise SettingError(f"There is no preset {quoted(key)}. Known: {', '.join(p.key for p in PRESETS)}.")


@dataclass(frozen=True, slots=True)
class History:
    """Undo and redo as a value: what was visited before, the present, and what was undone.

    A drag of a slider visits many settings; `visit(..., replacing=True)` moves the present without leaving a
    step behind, so that one undo takes back the whole drag. At most `limit` steps are kept.
    """

    present: Setting
    past: tuple[Setting, ...] = ()
    future: tuple[Setting, ...] = ()
    limit: int = 100

    def visit(self, setting: Setting, *, replacing: bool = False) -> History:
        """The history after going to `setting`; what had been undone is forgotten."""
        if setting == self.present:
            return self
        past = self.past if replacing else (*self.past, self.present)[-self.limit :]
        return replace(self, present=setting, past=past, future=())

    def undo(self) -> History:
        """One step back; itself where there is none."""
        if not self.past:
            return self
        return replace(self, present=self.past[-1], past=self.past[:-1], future=(self.present, *self.future))

    def redo(self) -> History:
        """One undone step forward again; itself where there is none."""
        if not self.future:
            return self
        return replace(self, present=self.future[0], past=(*self.past, self.present), future=self.future[1:])

    @property
    def previous(self) -> Setting | None:
        """The setting before the present one, None at the start."""
        return self.past[-1] if self.past else None
