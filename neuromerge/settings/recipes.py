"""Recipes: a merge written down as YAML, read by the command line and exported by the app.

Keys follow mergekit where it has a word (see `mergekit` for those that are translated)::

    merge_method: neuromerging
    base_model: bundled:pictoclip
    models:
      - model: bundled:pictoclip/digits
      - model: bundled:pictoclip/flags
    parameters:
      trim_ratio: 0.8
      lambda_parallel: 0.0
      lambda_orthogonal: auto
    profile:
      fc1: [0.5, 1.0, 1.5]
      block 3: 0.0
    then: [lines:0.2:0.6, svc:0.1]
    seed: 0

Coefficients may also be lists or entries with `filter`, as in mergekit (see `curves`), and a model may have
``parameters: {weight: 1.2}``, which multiplies its task vector.

A recipe is text from anybody. So it is read as plain mappings, lists and texts, never as YAML's typed
objects (which also spares people YAML's surprises: a model called ``no`` stays ``no``, and ``1e-3`` is the
number they meant); anchors, aliases and tags are refused, and size and depth are bounded before anything is
built. Whatever is wrong comes back as one `RecipeError` that names the place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from neuromerge.errors import RecipeError, SettingError, quoted
from neuromerge.hub.addresses import resolved
from neuromerge.merging import registry
from neuromerge.merging.profile import Profile, as_mapping, make_task_weights
from neuromerge.merging.steps import parse_steps
from neuromerge.settings import mergekit
from neuromerge.settings.choices import check_profile, check_seed, family_of, make_setting
from neuromerge.settings.curves import read_shaped, write_shaped
from neuromerge.settings.setting import Setting, Value

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_MODELS = 256
MAX_SOURCE_LENGTH = 4096

_TOP_KEYS = ("merge_method", "base_model", "models", "parameters", "profile", "then", "seed")
_MODEL_KEYS = ("model", "name", "weight")


@dataclass(frozen=True, slots=True)
class RecipeModel:
    """One expert of a recipe: where its checkpoint is, and a name for reports ('' to take the checkpoint's own).

    `weight` multiplies its task vector.
    """

    model: str
    name: str = ""
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a merge depends on, with sources of checkpoints instead of a family's task names.

    `hyperparameters` are sorted (name, value) pairs, checked and complete, and `profile` is checked, as in `Setting`.
    `then` are the steps after the merge. `dtype` is what floats are written in, None for the base's. `notes` say how
    mergekit's words were read.
    """

    method: str
    base: str
    models: tuple[RecipeModel, ...]
    hyperparameters: tuple[tuple[str, Value], ...]
    seed: int = 0
    profile: Profile = ()
    then: tuple[str, ...] = ()
    dtype: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)


def load_recipe(path_or_text: str | Path) -> Recipe:
    """The recipe in a file, or in a text (one that holds a line break or starts with ``{``).

    Raises RecipeError when the file cannot be read or its content is not a recipe. Text from a stranger
    belongs into `parse_recipe`, which never opens a file.
    """
    if isinstance(path_or_text, str) and ("\n" in path_or_text or path_or_text.lstrip().startswith("{")):
        return parse_recipe(path_or_text)
    try:
        path = Path(path_or_text).expanduser()
        if path.exists() and not path.is_file():  # reading a pipe could wait for ever
            raise RecipeError(f"The recipe {quoted(str(path))} is not a file. Write the recipe into one.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"There is no recipe file {quoted(str(path))}.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"The recipe {quoted(str(path))} cannot be read: {reason}.") from None
    return parse_recipe(data)


def parse_recipe(text: str | bytes) -> Recipe:
    """The recipe written in `text` (UTF-8 where it is bytes). Opens no file.

    Raises RecipeError, in one sentence that names the place, for anything that is not a recipe.
    """
    content = _read_yaml(text)
    if not isinstance(content, dict):
        raise RecipeError("A recipe is a list of keys with values, such as merge_method: neuromerging.")
    translated = mergekit.translate(content, _hyperparameters_of)
    content, problems = translated.content, translated.problems
    method = _method(content, problems)
    known = {spec.name for spec in method.hyperparameters}
    unknown = [quoted(key) for key in content if key not in _TOP_KEYS and key not in known]
    if unknown:
        problems.append(
            f"unknown key{'s' * (len(unknown) > 1)} {', '.join(unknown)}: known are {', '.join(_TOP_KEYS)}"
            + (f", and of {method.name} {', '.join(sorted(known))}" if known else "")
        )
    problems += _unknown_of_models(content.get("models"))
    _refuse(problems)
    base = _source(content, "base_model", "the recipe")
    try:
        given, shape = _shaped(method, _given(content, known), content.get("profile"))
        hyperparameters = registry.check_values(method, _hyperparameters(given))
        profile = check_profile(method, shape)
        seed = check_seed(content["seed"]) if content.get("seed") else 0
        then = parse_steps(_steps(content)).texts
    except SettingError as error:
        raise RecipeError(f"In the recipe: {error}") from None
    models = _models(content, base)
    return Recipe(
        method=method.name,
        base=base,
        models=models,
        hyperparameters=tuple(sorted(hyperparameters.items())),
        seed=seed,
        profile=profile,
        then=then,
        dtype=translated.dtype,
        notes=(*translated.notes, *_repeated(models)),
    )


def dump_recipe(recipe: Recipe, *, notes: Iterable[str] = ()) -> str:
    """The recipe as YAML that `parse_recipe` reads back to an equal value; `notes` become comment lines on top.

    A profile is written mergekit's way where that says exactly the same.
    """
    comments = "".join(f"# {line}\n" for note in notes for line in _printable(note).splitlines())
    theirs, ours = (_document(recipe, mergekits_way) for mergekits_way in (True, False))
    return comments + (theirs if theirs == ours or _says(theirs, recipe) else ours)


def _says(text: str, recipe: Recipe) -> bool:
    try:
        return parse_recipe(text) == recipe
    except RecipeError:  # a factor below 0, say, takes some coefficient out of its range
        return False


def _document(recipe: Recipe, mergekits_way: bool) -> str:
    parameters: dict[str, Any] = dict(recipe.hyperparameters)
    left = recipe.profile
    names = registry.get_method(recipe.method).coefficients
    for name in names if mergekits_way else ():
        of_all = "" if len(names) == 1 else name
        value = parameters[name]
        shaped = None if isinstance(value, str) else write_shaped(float(value), left, of_all)
        if shaped is not None:
            parameters[name] = shaped
            left = tuple(factor for factor in left if factor.coefficient != of_all)
    document: dict[str, Any] = {
        "merge_method": recipe.method,
        "base_model": recipe.base,
        "models": [_entry(model) for model in recipe.models],
    }
    if parameters:
        document["parameters"] = parameters
    if left:
        document["profile"] = as_mapping(left)
    if recipe.then:
        document["then"] = list(recipe.then)
    document["seed"] = recipe.seed
    if recipe.dtype is not None:
        document["dtype"] = recipe.dtype
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)


def _entry(model: RecipeModel) -> dict[str, Any]:
    entry: dict[str, Any] = {"model": model.model}
    if model.name:
        entry["name"] = model.name
    if model.weight != 1.0:
        entry["weight"] = model.weight
    return entry


def recipe_of(setting: Setting, family: Family | str | None = None) -> Recipe:
    """The recipe of a setting: the family's sources in the place of task names.

    A branch of the Hub is given as the commit that was fetched, where it was.
    """
    family = family_of(family or setting.family)
    return Recipe(
        method=setting.method,
        base=resolved(str(family.base)),
        models=tuple(
            RecipeModel(resolved(family.written(task)), task, weight)
            for task, weight in zip(setting.tasks, setting.task_weights or [1.0] * len(setting.tasks), strict=True)
        ),
        hyperparameters=setting.hyperparameters,
        seed=setting.seed,
        profile=setting.profile,
    )


def setting_of(recipe: Recipe, families: Iterable[Family]) -> Setting:
    """The setting a recipe describes, when its base and experts all belong to one known family.

    Opens nothing: sources are only compared, so a recipe from a stranger cannot make the app read a path.
    Raises RecipeError when no family matches.
    """
    if recipe.then:
        raise RecipeError(
            f"The recipe takes steps after the merge ({', '.join(recipe.then)}), which are not taken here. Run it "
            "with: neuromerge merge recipe.yaml --out merged, or leave out `then` to have the merge before them here."
        )
    names = []
    for family in families:
        names.append(family.name)
        if not family.is_source(recipe.base):
            continue
        found = [
            next((task for task in family.experts if family.is_source(entry.model, task)), None)
            for entry in recipe.models
        ]
        tasks = [task for task in found if task is not None]
        if len(tasks) == len(found):
            try:
                return make_setting(
                    family,
                    tasks,
                    recipe.method,
                    dict(recipe.hyperparameters),
                    recipe.seed,
                    profile=recipe.profile,
                    task_weights={task: entry.weight for task, entry in zip(tasks, recipe.models, strict=True)},
                )
            except SettingError as error:
                raise RecipeError(f"In the recipe: {error}") from None
    raise RecipeError(
        f"The recipe merges {quoted(recipe.base)} and experts that belong to none of the families here "
        f"({', '.join(names) or 'none'}). Run it with: neuromerge merge recipe.yaml --out merged"
    )


# ---------------------------------------------------------------------------------------------------- YAML


class _PlainLoader(yaml.BaseLoader):
    """YAML reduced to mappings, lists and texts: no anchors, aliases, tags, duplicate keys, bounded depth."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise RecipeError(f"Line {line} of the recipe uses a YAML anchor or alias (& or *); write the value out.")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise RecipeError(f"Line {line} of the recipe uses the YAML tag {quoted(tag)}; plain values need none.")
        if self._depth >= MAX_DEPTH:
            raise RecipeError(f"Line {line} of the recipe is nested more than {MAX_DEPTH} levels deep.")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise RecipeError(f"Line {line} of the recipe has a key that is not a word.")
            if key_node.value in seen:
                raise RecipeError(f"Line {line} of the recipe repeats the key {quoted(key_node.value)}.")
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(text: str | bytes) -> Any:
    """`text` as nested dicts, lists and strings."""
    if isinstance(text, bytes):
        if len(text) > MAX_BYTES:
            raise RecipeError(f"The recipe is longer than {MAX_BYTES // 1024} KB; a recipe is a short text.")
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise RecipeError("The recipe is not UTF-8 text; save it as UTF-8.") from None
    if not isinstance(text, str):
        raise RecipeError("A recipe is text.")
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_BYTES:
        raise RecipeError(f"The recipe is longer than {MAX_BYTES // 1024} KB; a recipe is a short text.")
    if not text.strip():
        raise RecipeError("The recipe is empty.")
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise RecipeError(f"The recipe is not valid YAML{_place(error)}.") from None
    except (ValueError, RecursionError, OverflowError):
        raise RecipeError("The recipe is not valid YAML.") from None


def _place(error: yaml.YAMLError) -> str:
    """Where and why YAML gave up, as the tail of a sentence."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
    return where + (f": {_printable(str(problem))}" if problem else "")


# -------------------------------------------------------------------------------------------------- fields


def _hyperparameters_of(method: str) -> frozenset[str]:
    """Names of a method's hyperparameters; none for a name that is no method here."""
    known = registry.methods().get(method)
    return frozenset(spec.name for spec in known.hyperparameters) if known else frozenset()


def _refuse(problems: Sequence[str]) -> None:
    """Raise RecipeError with all of the problems, where there are any."""
    if len(problems) == 1:
        raise RecipeError(f"In the recipe: {problems[0]}.")
    if problems:
        listed = "; ".join(f"({number}) {problem}" for number, problem in enumerate(problems, start=1))
        raise RecipeError(f"The recipe holds {len(problems)} things that cannot be merged here: {listed}.")


def _method(content: Mapping[Any, Any], problems: Sequence[str]) -> registry.MergeMethod:
    """The method. Raises RecipeError, with the `problems` found so far, where it is none."""
    name = content.get("merge_method")
    known = ", ".join(registry.methods())
    if not name:
        raise RecipeError(f"The recipe lacks merge_method. Known methods: {known}.")
    if not isinstance(name, str):
        raise RecipeError(f"merge_method in the recipe must be one of {known}.")
    try:
        return registry.get_method(name)
    except SettingError:
        nearest = mergekit.nearest_method(name)
        hint = f" What comes nearest is {nearest}." if nearest else _meant(name)
        others = "".join(f"; {problem}" for problem in problems)
        raise RecipeError(
            f"The recipe asks for merge_method {quoted(name)}, which is not known here.{hint} Known methods: {known}; "
            f"of mergekit also {', '.join(mergekit.METHODS)}{others}."
        ) from None


def _meant(name: str) -> str:
    """A sentence about the method that is called so but for its capitals and hyphens, empty where there is none."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    return f" Write {plain}." if plain in (*registry.methods(), *mergekit.METHODS) else ""


def _source(entry: Mapping[Any, Any], key: str, where: str) -> str:
    source = entry.get(key)
    if not source:
        raise RecipeError(f"{where[0].upper()}{where[1:]} lacks {key}, the place of a checkpoint.")
    if isinstance(source, dict):
        raise RecipeError(
            f"{key} in {where} is written as keys ({', '.join(source)}). Write its place as one text: a path, or "
            "hub:organisation/name@revision."
        )
    if not isinstance(source, str) or len(source) > MAX_SOURCE_LENGTH or not source.isprintable():
        raise RecipeError(f"{key} in {where} must be the place of a checkpoint as one line of text.")
    return source


def _steps(content: Mapping[Any, Any]) -> list[str]:
    """The steps after the merge: a text, or a list of them."""
    given = content.get("then") or []
    steps = [given] if isinstance(given, str) else given
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise SettingError("then must be a list of steps, such as [lines:0.2:0.6, svc:0.1].")
    return steps


def _unknown_of_models(entries: Any) -> list[str]:
    """Keys of single models that mean nothing here, each with the remedy."""
    found = []
    for number, entry in enumerate(entries[:MAX_MODELS] if isinstance(entries, list) else [], start=1):
        for key in entry if isinstance(entry, dict) else ():
            if key == "parameters":
                found.append(f"parameters of model {number}: they hold for all models; write them at the top")
            elif key not in _MODEL_KEYS:
                found.append(f"unknown key {quoted(key)} of model {number}: known are {', '.join(_MODEL_KEYS)}")
    return found


def _models(content: Mapping[Any, Any], base: str) -> tuple[RecipeModel, ...]:
    """The experts. As in mergekit, an entry that repeats the base is allowed and adds nothing."""
    entries = content.get("models")
    if not isinstance(entries, list) or not entries:
        raise RecipeError("The recipe needs models: a list with one `- model: ...` for each expert.")
    if len(entries) > MAX_MODELS:
        raise RecipeError(f"The recipe lists {len(entries)} models; at most {MAX_MODELS} are possible.")
    models = []
    for number, entry in enumerate(entries, start=1):
        where = f"model {number} of the recipe"
        if not isinstance(entry, dict):
            raise RecipeError(f"{where[0].upper()}{where[1:]} must be written as `- model: ...`.")
        name = entry.get("name", "")
        if not isinstance(name, str) or len(name) > 200 or not name.isprintable():
            raise RecipeError(f"name in {where} must be one line of at most 200 characters.")
        source = _source(entry, "model", where)
        if source != base:
            models.append(RecipeModel(source, name, _weight(entry, where)))
    if not models:
        raise RecipeError("The recipe lists only the base; it needs at least one expert under models.")
    return tuple(models)


def _repeated(models: Sequence[RecipeModel]) -> list[str]:
    """Notes about experts that are listed more than once."""
    counts = Counter(entry.model for entry in models)
    return [f"{model} is listed {count} times, and merged as often" for model, count in counts.items() if count > 1]


def _weight(entry: Mapping[Any, Any], where: str) -> float:
    given = entry.get("weight", "1")
    try:
        (weight,) = make_task_weights([_number(given)], [where]) or (1.0,)
    except SettingError as error:
        raise RecipeError(f"In the recipe: {error}") from None
    return weight


def _given(content: Mapping[Any, Any], known: set[str]) -> dict[str, Any]:
    """What `parameters:` and the top level say; a name in both places is refused."""
    given = content.get("parameters") or {}
    if not isinstance(given, dict):
        raise RecipeError("parameters in the recipe must be names with values, such as trim_ratio: 0.8.")
    values = dict(given)
    for name in known & set(content):
        if name in values:
            raise RecipeError(f"The recipe gives {name} twice, at the top and under parameters.")
        values[name] = content[name]
    return values


def _shaped(method: registry.MergeMethod, given: dict[str, Any], profile: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values with one number for each coefficient, and the profile that says the rest of what they said."""
    if profile is None or profile == "":
        profile = {}
    if not isinstance(profile, Mapping):
        raise RecipeError("profile in the recipe must be parts with factors, such as fc1: [0.5, 1.0].")
    values, shape = dict(given), _numbers(profile)
    for spec in method.hyperparameters:
        value = values.get(spec.name)
        if spec.name not in method.coefficients or not isinstance(value, list):
            continue
        shaped = read_shaped(spec, value)
        values[spec.name] = repr(shaped.value)
        for part, curve in shaped.factors.items():
            own = shape.setdefault(part, {})
            if not isinstance(own, dict) or spec.name in own:
                raise RecipeError(
                    f"The recipe shapes {spec.name} at {quoted(part)} twice, by itself and under profile."
                )
            own[spec.name] = curve
    return values, shape


def _hyperparameters(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same values, each a single one."""
    for name, value in values.items():
        if not isinstance(value, str):
            raise RecipeError(f"{quoted(name)} in the recipe must be a single value.")
    return values


def _numbers(given: Any) -> Any:
    """Texts within mappings and lists as the numbers that they are; others are left, to be refused by name."""
    if isinstance(given, Mapping):
        return {key: _numbers(value) for key, value in given.items()}
    if isinstance(given, list):
        return [_numbers(value) for value in given]
    return _number(given)


def _number(text: Any) -> Any:
    try:
        return float(text)
    except (TypeError, ValueError, OverflowError):
        return text


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)
