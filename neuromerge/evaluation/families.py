"""The registry of model families: a base, its experts, and what every task is.

Families are described in YAML files beside this module (`families/`, tasks in `tasks/`; the schema is in
`families/README.md`), so that adding one needs no code. A user's own family is a folder with `base/` and
`experts/`. Reading the registry touches no weights and no network.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from neuromerge.deployment import deployment
from neuromerge.errors import AssetError, LimitError, NeuroMergeError, SettingError, quoted
from neuromerge.evaluation.folders import FolderTree, classes_in, is_left_behind
from neuromerge.hub.addresses import HUB, resolved
from neuromerge.json_files import parse_json

REGISTRY = Path(__file__).with_name("families")
TASKS = Path(__file__).with_name("tasks")
DEFAULT_TEMPLATES = ("a photo of a {}.",)
MAX_CLASSES = 5_000
MAX_TEMPLATES = 200
MAX_TEXT = 200
_COMMIT = re.compile(r"[0-9a-f]{40}")
_AT_COMMIT = re.compile(r"@[0-9a-f]{40}$")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """Where one checkpoint comes from.

    Attributes:
        source: what `load_checkpoint` takes; a Hub source carries its revision after ``@``.
        file: the weights file in that repository or folder, None to let the loader find it.
        tried: False for an entry that was written from public listings and not loaded online.
        note: anything a reader should know, may be empty.
    """

    source: str
    file: str | None = None
    tried: bool = True
    note: str = ""

    @property
    def address(self) -> str:
        """`source` with `file` in it where it is on the Hub: of that repository only this file is fetched."""
        repository, mark, revision = self.source.partition("@")
        named = self.file is not None and self.source.startswith(HUB) and repository.count("/") == 1
        return f"{repository}/{self.file}{mark}{revision}" if named else self.source


@dataclass(frozen=True, slots=True)
class Accepted:
    """Published accuracies on the whole test set of one task, in [0, 1]: what a run is checked against."""

    base: float
    expert: float


@dataclass(frozen=True, slots=True)
class SampleSource:
    """Where a task's pictures come from.

    `kind` is ``bundled`` (packed beside the assets), ``hub`` (a test set on the Hugging Face Hub) or
    ``folder`` (one subfolder a class). For the Hub: `dataset`, `config`, `split`, and the columns `image` and
    `label` (None: found by type and name); `revision` pins a commit, "" takes the newest.
    `path` is the folder, or the packed file of a bundled task.
    """

    kind: Literal["bundled", "hub", "folder"]
    dataset: str = ""
    config: str = "default"
    split: str = "test"
    image: str | None = None
    label: str | None = None
    tried: bool = True
    path: Path | None = None
    revision: str = ""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One classification task: `classes` in the order of the labels, `templates` with ``{}`` for the class name.

    `classes` are what heads are made of; `display` has what people read in the place of some of them.
    """

    name: str
    title: str
    description: str
    classes: tuple[str, ...]
    templates: tuple[str, ...]
    samples: SampleSource
    display: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown_classes(self) -> tuple[str, ...]:
        """The class names for people, in the order of the labels."""
        return tuple(self.display.get(name, name) for name in self.classes)

    @property
    def prompts(self) -> int:
        """How many texts a zero-shot head of the task is made of."""
        return len(self.classes) * len(self.templates)


@dataclass(frozen=True, slots=True)
class PublishedFigures:
    """Mean accuracies in percent over `tasks`, by method, as one source printed them.

    Sources differ in checkpoints and pictures, so figures of two of them are never put in one row.
    """

    source: str
    setting: str
    tasks: tuple[str, ...]
    mean: dict[str, float]


@dataclass(frozen=True, slots=True)
class Family:
    """A base model with its experts and tasks.

    `base` and `experts` (by task) are sources for `load_checkpoint`; `entries` holds the same with file and
    notes (the base under ``"base"``). `online` says that the weights come from the Hub. `published` are figures
    from the literature to show beside a run, `acceptance` what base and experts reach alone, by task. `suites` are
    numbers of tasks: the first so many experts are one that the literature merges together. `folder` is the
    family's own folder where it has one (bundled and local families). `brought` are the experts that a visitor brought.
    """

    name: str
    title: str
    description: str
    base: str
    experts: dict[str, str]
    tasks: dict[str, TaskSpec]
    online: bool
    licence: str = ""
    default_tasks: tuple[str, ...] = ()
    entries: dict[str, ModelEntry] = field(default_factory=dict)
    published: tuple[PublishedFigures, ...] = ()
    folder: Path | None = None
    acceptance: dict[str, Accepted] = field(default_factory=dict)
    suites: tuple[int, ...] = ()
    brought: tuple[str, ...] = ()

    def source(self, task: str | None = None) -> str:
        """The source of an expert, of the base for None. Raises SettingError for an unknown task."""
        if task is None:
            return self.base
        if task not in self.experts:
            raise SettingError(
                f"The family {self.name} has no expert {quoted(task)}. It has: {', '.join(self.experts)}."
            )
        return self.experts[task]

    def commits(self, tasks: Iterable[str]) -> dict[str, str]:
        """Sources of the base (under ``base``) and of the experts of `tasks`, with the commits they stand for here."""
        return {"base": resolved(self.base), **{task: resolved(self.source(task)) for task in tasks}}

    def written(self, task: str) -> str:
        """The source of an expert as recipes have it: of one that a visitor brought, where that visitor has it."""
        return self.entries[task].source if task in self.brought else self.source(task)

    def task(self, name: str) -> TaskSpec:
        """One task. Raises SettingError listing the known ones."""
        if name not in self.tasks:
            raise SettingError(f"The family {self.name} has no task {quoted(name)}. It has: {', '.join(self.tasks)}.")
        return self.tasks[name]

    def is_source(self, source: str, task: str | None = None) -> bool:
        """Whether `source` names an expert (the base for None) of this family, with or without its file or commit."""
        entry = self.entries.get("base" if task is None else task)
        known = {self.source(task)} if entry is None else {self.source(task), entry.source, entry.address}
        if source in known:
            return True
        pinned = source.startswith(HUB) and _AT_COMMIT.search(source)
        return bool(pinned) and source in {resolved(each) for each in known if each.startswith(source.split("@")[0])}

    @property
    def fetch_command(self) -> str:
        """The command that fetches this family's weights and test pictures."""
        return f"neuromerge models --fetch {self.name}"


def families() -> dict[str, Family]:
    """Every family that can be described here, by name; the bundled one first.

    Besides the registry of the package, ``NEUROMERGE_FAMILIES`` may name folders (separated as in PATH), where
    local folders are allowed: a folder with `base/` and `experts/` is a family (see `local_family`), any other
    is searched for registry files. A family whose description cannot be read is left out; `unreadable_families` says
    why.
    """
    return {name: entry for name, entry in _described() if isinstance(entry, Family)}


def unreadable_families() -> dict[str, str]:
    """Every family that should be known here and cannot be described, and why; see `families`."""
    return {name: str(entry) for name, entry in _described() if not isinstance(entry, Family)}


def _described() -> Iterator[tuple[str, Family | NeuroMergeError]]:
    """Every family by name, or why it cannot be described; of two with one name the first."""
    seen: set[str] = set()
    for path in sorted(_registry_files().values(), key=lambda path: (path.stem != "pictoclip", path.stem)):
        seen.add(path.stem)
        try:
            yield path.stem, _registered(path)
        except AssetError as error:
            yield path.stem, error
    for folder in _family_folders():
        try:
            family = local_family(folder)
        except NeuroMergeError as error:
            yield folder.name, error
            continue
        if family.name not in seen:
            seen.add(family.name)
            yield family.name, family


def get_family(name: str) -> Family:
    """The family called `name`; a path of a local family is taken too where that is allowed.

    Raises SettingError for an unknown name, AssetError when its bundled files are missing, LimitError for a
    path on a public deployment.
    """
    registered = _registry_files()
    if isinstance(name, str) and name in registered:
        return _registered(registered[name])
    for folder in _family_folders():
        if folder.name == name:
            return local_family(folder)
    if isinstance(name, str) and ("/" in name or "\\" in name or name.startswith((".", "~"))):
        return local_family(Path(name).expanduser())
    known = ", ".join(families())
    raise SettingError(f"There is no model family {quoted(name)}. Known: {known}.")


def local_family(folder: Path | str, *, allowed: bool | None = None) -> Family:
    """A family of the user's own: a folder with `base/` and `experts/`.

    `experts/` holds one folder or one `.safetensors` file a task. What a task is comes, in this order, from
    `tasks/NAME.yaml` in the folder (the registry's schema), from `samples/NAME/` (one subfolder of pictures a
    class; the subfolders' names, underscores as spaces, are the classes), or from the registry's task of that
    name. A task with `samples/NAME/` is always tested on those pictures.

    Raises LimitError where local folders are not allowed, SettingError where the folder lacks a part.
    """
    if not (deployment().allow_local if allowed is None else allowed):
        raise LimitError(
            "Folders of your own cannot be opened on this public deployment. Run the app on your machine for that."
        )
    folder = Path(folder)
    base = folder / "base"
    if not base.exists():
        base = folder / "base.safetensors"
    if not base.exists() or not (folder / "experts").is_dir():
        raise SettingError(
            f"{folder} is not a model family: it needs base/ (or base.safetensors) and experts/ with one folder "
            "or .safetensors file for every task."
        )
    experts = {
        path.stem if path.is_file() else path.name: path
        for path in sorted((folder / "experts").iterdir())
        if (path.is_dir() or path.suffix == ".safetensors") and not is_left_behind(path.name)
    }
    if not experts:
        raise SettingError(f"{folder / 'experts'} holds no expert: put one folder or .safetensors file a task there.")
    entries = {"base": ModelEntry(str(base)), **{task: ModelEntry(str(path)) for task, path in experts.items()}}
    tasks = {task: spec for task in experts if (spec := _local_task(folder, task)) is not None}
    return Family(
        name=folder.resolve().name,
        title=folder.resolve().name,
        description=f"Your own family in {folder}.",
        base=str(base),
        experts={task: str(path) for task, path in experts.items()},
        tasks=tasks,
        online=False,
        licence="Your own.",
        default_tasks=tuple(experts),
        entries=entries,
        folder=folder,
    )


def read_task(path: Path) -> TaskSpec:
    """One task file. Raises AssetError naming the file and what is wrong in it."""
    return _task_from(_yaml(path), path, default_name=path.stem)


def check_texts(texts: Any, what: str, most: int) -> tuple[str, ...]:
    """`texts` as a tuple of non-empty strings of bounded length. Raises SettingError or LimitError."""
    if isinstance(texts, str) or not hasattr(texts, "__iter__"):
        raise SettingError(f"{what} must be a list of texts, not {quoted(texts)}.")
    checked = []
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise SettingError(f"{what}: {quoted(text)} is not a text.")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise SettingError(f"{what}: {quoted(text)} holds half a character.")
        if len(text) > MAX_TEXT:
            raise LimitError(f"{what}: a text has {len(text)} characters; at most {MAX_TEXT} are taken.")
        checked.append(" ".join(text.split()))
        if len(checked) > most:
            raise LimitError(f"{what}: at most {most} are taken.")
    if not checked:
        raise SettingError(f"{what}: give at least one.")
    return tuple(checked)


def check_templates(templates: Any) -> tuple[str, ...]:
    """Prompt templates, each with exactly one ``{}``. Raises SettingError or LimitError."""
    if isinstance(templates, str):
        templates = (templates,)
    checked = check_texts(templates, "Prompt templates", MAX_TEMPLATES)
    for template in checked:
        if template.count("{}") != 1:
            raise SettingError(
                f"The prompt template {quoted(template)} must hold {{}} once, where the class name goes."
            )
    return checked


def _own_folders() -> list[Path]:
    """The folders that the user named, none where local folders are not allowed."""
    found = deployment()
    return list(found.families) if found.allow_local else []


def _family_folders() -> list[Path]:
    return [folder for folder in _own_folders() if (folder / "experts").is_dir()]


def _registry_files() -> dict[str, Path]:
    """Name of a family -> its registry file; the package's own come first."""
    folders = [REGISTRY, *(folder for folder in _own_folders() if not (folder / "experts").is_dir())]
    files = [path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml"))]
    return {path.stem: path for path in files if not is_left_behind(path.name)}


def _registered(path: Path) -> Family:
    name = path.stem
    tasks_file = _yaml(path).get("tasks_file")
    if tasks_file is None:
        return _read_family(path, None, path.stat().st_mtime_ns)
    described = deployment().assets / name / str(tasks_file)
    try:
        stamp = described.stat().st_mtime_ns
    except OSError:
        raise AssetError(
            f"The bundled models of {name} are missing: there is no {described}. Restore the folder assets/ from "
            "the repository, or point NEUROMERGE_ASSETS to it."
        ) from None
    return _read_family(path, described, stamp)


@lru_cache(maxsize=64)
def _read_family(path: Path, tasks_file: Path | None, stamp: int) -> Family:
    """One registry file, with the tasks of `tasks_file`; `stamp` only renews the cache when a file changes."""
    data = _yaml(path)
    name = str(data.get("name", path.stem))
    base = _entry_from(data.get("base"), path, "base")
    if tasks_file is None:
        listed = data.get("experts")
        if not isinstance(listed, dict) or not listed:
            raise AssetError(f"{path}: experts must be a list of tasks with their sources.")
        experts = {str(task): _entry_from(entry, path, f"experts.{task}") for task, entry in listed.items()}
        tasks = {task: read_task(_task_file(task, path.parent)) for task in experts}
    else:
        tasks = _tasks_from_json(tasks_file)
        experts = {task: ModelEntry(f"{base.source}/{task}", f"experts/{task}.safetensors") for task in tasks}
    chosen = tuple(str(task) for task in data.get("default_tasks", ())) or tuple(experts)
    unknown = [task for task in chosen if task not in experts]
    if unknown:
        raise AssetError(f"{path}: default_tasks names {', '.join(unknown)}, which has no expert.")
    return Family(
        name=name,
        title=str(data.get("title", name)),
        description=str(data.get("description", "")),
        base=base.address,
        experts={task: entry.address for task, entry in experts.items()},
        tasks=tasks,
        online=bool(data.get("online", False)),
        licence=str(data.get("licence", "")),
        default_tasks=chosen,
        entries={"base": base, **experts},
        published=tuple(_published_from(figures, chosen, path) for figures in data.get("published", ())),
        folder=tasks_file.parent if tasks_file is not None else None,
        acceptance=_acceptance_from(data.get("acceptance", {}), experts, path),
        suites=_suites_from(data.get("suites", ()), len(experts), path),
    )


def _task_file(task: str, folder: Path) -> Path:
    """The file of a task: in `tasks/` of this folder, else the package's own."""
    own = folder / "tasks" / f"{task}.yaml"
    return own if _NAME.fullmatch(task) and own.is_file() else TASKS / f"{task}.yaml"


def _tasks_from_json(path: Path) -> dict[str, TaskSpec]:
    """The tasks that `tasks.json` beside the assets describes, in its order."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error}. Restore it from the repository.") from None
    data = parse_json(content, str(path), remedy="Restore it from the repository.", error=AssetError)
    listed = data.get("tasks", data) if isinstance(data, dict) else data
    if isinstance(listed, list):
        listed = {str(task.get("name")): task for task in listed if isinstance(task, dict)}
    if not isinstance(listed, dict) or not listed:
        raise AssetError(f"{path} describes no tasks. Restore it from the repository.")
    return {
        str(name): _task_from({"samples": {"kind": "bundled"}, **task}, path, default_name=str(name))
        for name, task in listed.items()
        if isinstance(task, dict)
    }


def _task_from(data: Mapping[str, Any], path: Path, default_name: str) -> TaskSpec:
    name = str(data.get("name", default_name))
    try:
        classes = check_texts(data.get("classes"), f"classes of {name}", MAX_CLASSES)
        templates = check_templates(data.get("templates", DEFAULT_TEMPLATES))
    except (SettingError, LimitError) as error:
        raise AssetError(f"{path}: {error}") from None
    display = data.get("display", {})
    if not isinstance(display, dict) or not all(isinstance(t, str) for t in (*display, *display.values())):
        raise AssetError(f"{path}: display must give names of classes the names that people read.")
    if unknown := [known for known in display if known not in classes]:
        raise AssetError(f"{path}: display names {', '.join(unknown)}, which is no class of {name}.")
    samples = data.get("samples", {})
    if isinstance(samples, str):  # the bundled family's own short form: the packed file
        samples = {"kind": "bundled", "path": samples}
    kind = samples.get("kind") if isinstance(samples, dict) else None
    if kind not in ("bundled", "hub", "folder"):
        raise AssetError(f"{path}: samples.kind must be bundled, hub or folder, not {quoted(kind)}.")
    if kind == "hub" and not samples.get("dataset"):
        raise AssetError(f"{path}: samples.dataset must name a data set on the Hub.")
    revision = str(samples.get("revision", ""))
    if revision and not _COMMIT.fullmatch(revision):
        raise AssetError(f"{path}: samples.revision must be a commit (40 hexadecimal digits), not {quoted(revision)}.")
    return TaskSpec(
        name=name,
        title=str(data.get("title", name)),
        description=str(data.get("description", "")),
        classes=classes,
        templates=templates,
        samples=SampleSource(
            kind=kind,
            dataset=str(samples.get("dataset", "")),
            config=str(samples.get("config", "default")),
            split=str(samples.get("split", "test")),
            image=samples.get("image"),
            label=samples.get("label"),
            tried=bool(samples.get("tried", True)),
            path=path.parent / str(samples["path"]) if "path" in samples else None,
            revision=revision,
        ),
        display=display,
    )


def _local_task(folder: Path, task: str) -> TaskSpec | None:
    """What `task` of a local family is, or None where nothing describes it (it can be merged, not evaluated)."""
    pictures = folder / "samples" / task
    source = SampleSource(kind="folder", path=pictures) if pictures.is_dir() else None
    known = _task_file(task, folder)
    if _NAME.fullmatch(task) and known.is_file():
        spec = read_task(known)
        return spec if source is None else _with_samples(spec, source)
    if source is None:
        return None
    classes = classes_in(FolderTree(pictures))
    if not classes:
        return None
    return TaskSpec(task, task, f"Pictures in {pictures}.", classes, DEFAULT_TEMPLATES, source)


def _with_samples(spec: TaskSpec, source: SampleSource) -> TaskSpec:
    return replace(spec, samples=source)


def _published_from(data: Any, tasks: tuple[str, ...], path: Path) -> PublishedFigures:
    try:
        means = {str(method): float(value) for method, value in data["mean"].items()}
        listed = tuple(str(task) for task in data.get("tasks", tasks))
        return PublishedFigures(str(data["source"]), str(data["setting"]), listed, means)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise AssetError(f"{path}: every entry of published needs source, setting and mean.") from None


def _suites_from(data: Any, experts: int, path: Path) -> tuple[int, ...]:
    if not isinstance(data, list | tuple) or not all(type(size) is int and 0 < size <= experts for size in data):
        raise AssetError(f"{path}: suites must be numbers of tasks, at most {experts}: as many as there are experts.")
    return tuple(data)


def _acceptance_from(data: Any, tasks: Collection[str], path: Path) -> dict[str, Accepted]:
    try:
        found = {
            str(task): Accepted(float(shares["base"]) / 100, float(shares["expert"]) / 100)
            for task, shares in data.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        raise AssetError(f"{path}: every task of acceptance needs base and expert, in percent.") from None
    wrong = [task for task, each in found.items() if task not in tasks or not 0 <= min(each.base, each.expert) <= 1]
    wrong += [task for task, each in found.items() if max(each.base, each.expert) > 1]
    if wrong:
        raise AssetError(f"{path}: acceptance of {', '.join(wrong)} is of no expert here, or no percentage.")
    return found


def _entry_from(data: Any, path: Path, where: str) -> ModelEntry:
    if not isinstance(data, dict) or not isinstance(data.get("source"), str):
        raise AssetError(f"{path}: {where} must have a source.")
    return ModelEntry(
        source=data["source"],
        file=data.get("file"),
        tried=bool(data.get("tried", True)),
        note=str(data.get("note", "")),
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError:
        raise AssetError(f"There is no {path}.") from None


@lru_cache(maxsize=256)
def _parsed(path: Path, stamp: int) -> dict[str, Any]:
    """The YAML mapping in `path`; `stamp` only renews the cache when the file changes."""
    import yaml

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise AssetError(f"{path} is not readable YAML: {str(error)[:500]}") from None
    if not isinstance(data, dict):
        raise AssetError(f"{path} must hold keys with values.")
    return data
