"""Taking a merge away: the checkpoint, the recipe that makes it again, and the same as a Python script."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromerge.checkpoints.plan import make_plan
from neuromerge.errors import StorageError
from neuromerge.hub.addresses import HUB
from neuromerge.merging.profile import as_mapping
from neuromerge.merging.streaming import MergeResult, merge
from neuromerge.progress import Job
from neuromerge.settings.recipes import Recipe, dump_recipe, recipe_of
from neuromerge.settings.setting import Setting

if TYPE_CHECKING:
    from neuromerge.engine.stages import Stages

RECIPE = "recipe.yaml"
SCRIPT = "reproduce.py"
CARD = "README.md"


def write(setting: Setting, stages: Stages, layout: str | None, directory: Path, job: Job) -> tuple[Path, ...]:
    """Write checkpoint, recipe and script into `directory`, and return the files in it.

    The checkpoint appears whole or not at all (see `CheckpointWriter`). Raises StorageError, CheckpointError.
    """
    values: dict[str, Any] = dict(setting.hyperparameters)
    result = merge(
        stages.checkpoint(),
        {task: stages.checkpoint(task) for task in setting.tasks},
        setting.method,
        profile=setting.profile,
        task_weights=setting.task_weights,
        seed=setting.seed,
        out=directory,
        layout=layout,
        job=job,
        **values,
    )
    recipe = recipe_of(setting, stages.family)
    try:
        (directory / RECIPE).write_text(dump_recipe(recipe, notes=notes(result)), encoding="utf-8")
        (directory / SCRIPT).write_text(script(recipe), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{directory} cannot be written: {error.strerror or error}.") from None
    return tuple(sorted(path for path in directory.iterdir() if path.is_file()))


def nbytes(stages: Stages, layout: str | None) -> int:
    """Bytes of the weights that `write` would write, told from the base's headers. Raises SettingError."""
    return make_plan(stages.checkpoint(), layout, with_configs=False).nbytes


def notes(result: MergeResult) -> list[str]:
    """What a reader of the recipe will want to know, one line each: how to run it, and what came out."""
    lines = ["Run with: neuromerge merge recipe.yaml --out merged"]
    if result.sigma is not None:
        lines.append(f"sigma = {result.sigma:.6g} (largest share of a task vector's L1 norm that the trim removed)")
    if result.coefficients:
        used = ", ".join(f"{name} = {value:.6g}" for name, value in result.coefficients.items())
        lines.append(f"coefficients used: {used}")
    lines += [f"{name}: {source}" for name, source in result.sources.items()]
    return lines


def card(recipe: Recipe, name: str) -> str:
    """The page of a repository on the Hub that holds a merge: what it is, and how it is made again."""
    base = recipe.base.removeprefix(HUB).partition("@")[0] if recipe.base.startswith(HUB) else ""
    of_base = f"base_model: {'/'.join(base.split('/')[:2])}\nbase_model_relation: merge\n" if base else ""
    return (
        f"---\n{of_base}tags:\n- merge\n- neuromerge\n---\n\n# {name}\n\n"
        f"A merge of {len(recipe.models)} fine-tuned models by `{recipe.method}`, made with NeuroMerge. The same "
        f"again: `neuromerge merge {RECIPE} --out merged`.\n\n```yaml\n{dump_recipe(recipe)}```\n"
    )


def script(recipe: Recipe) -> str:
    """A Python script that makes the merge of a recipe again."""
    values = "".join(f"    {name}={value!r},\n" for name, value in recipe.hyperparameters)
    weights = [entry.weight for entry in recipe.models]
    if recipe.profile:
        values += f"    profile={as_mapping(recipe.profile)!r},\n"
    if any(weight != 1.0 for weight in weights):
        values += f"    task_weights={weights!r},\n"
    experts = "".join(f"    {entry.model!r},\n" for entry in recipe.models)
    return (
        '"""Makes this merge again."""\n\n'
        "import neuromerge\n\n"
        f"base = neuromerge.load_checkpoint({recipe.base!r})\n"
        f"experts = [neuromerge.load_checkpoint(source) for source in [\n{experts}]]\n"
        f"result = neuromerge.merge(\n    base,\n    experts,\n    method={recipe.method!r},\n    seed={recipe.seed},\n"
        f'{values})\nresult.save("merged")\n'
    )
